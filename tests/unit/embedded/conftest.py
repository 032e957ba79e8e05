from collections.abc import AsyncIterator

import pytest

from controlplane.embedded.api.store import EmbeddedApiServer


@pytest.fixture
async def store() -> AsyncIterator[EmbeddedApiServer]:
    opened = await EmbeddedApiServer.open(":memory:")
    yield opened
    await opened.close()
