"""Writes to the store in a file until it is killed, and prints each version once the write is confirmed."""

import asyncio
import itertools
import sys

from controlplane.cluster.api import NODES
from controlplane.embedded.api.store import EmbeddedApiServer


async def write(path: str) -> None:
    store = await EmbeddedApiServer.open(path)

    async def one(name: str) -> None:
        node = await store.create(NODES, {"metadata": {"name": name}, "spec": {}})
        for turn in range(3):
            node = await store.patch(NODES, name, {"metadata": {"labels": {"turn": str(turn)}}})
        sys.stdout.write(f"{name} {node['metadata']['resourceVersion']}\n")
        sys.stdout.flush()

    for batch in itertools.count():
        await asyncio.gather(*(one(f"n{batch}-{i}") for i in range(20)))


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))
