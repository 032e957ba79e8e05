"""Programs run on uvloop, where it is installed; its transports and sockets are not those of asyncio."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config,
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of this folder on both, and those of others as ever."""
    standard = {"asyncio": asyncio.new_event_loop}
    return {**standard, "uvloop": uvloop.new_event_loop} if "kube_client" in item.path.parts else standard
