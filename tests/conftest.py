"""Hooks of pytest for all tests: real servers, Hypothesis profiles, loops that are closed."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from service.secrets import KNOWN
from tests.loops import Policy

pytest_plugins = ["tests.servers.fixtures"]

asyncio.set_event_loop_policy(Policy())

# A run in the background ignores SIGINT, and so would the programs that it starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples are bounded by their number: how long one takes says more about the machine's load than about us.
settings.register_profile("project", settings(), deadline=None)
settings.load_profile("project")


@pytest.fixture(scope="session", autouse=True)
def main_thread_loop() -> Iterator[None]:
    """Give the main thread a loop that is closed in the end.

    pytest-asyncio asks for the thread's loop before it sets its own; on Python
    3.11 that makes one that nobody closes, and warnings are errors here.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(autouse=True)
def log_configuration() -> Iterator[None]:
    """Undo what a test configured, such as logging to a stream that is closed afterwards."""
    before = structlog.get_config() if structlog.is_configured() else None
    yield
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)


@pytest.fixture(autouse=True)
def known_secrets() -> Iterator[None]:
    """Forget what a test registered as a secret: it is a word in the output of others."""
    before = {source: values.copy() for source, values in KNOWN._sources.items()}, KNOWN._forms
    yield
    KNOWN._sources, KNOWN._forms = before
