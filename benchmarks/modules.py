"""The work of a measurement: modules, dealt to bases, and the Pods that stand for them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.api import CONNECTIONS, Json
from benchmarks.stage import node

T = TypeVar("T")

VERSION = "0.0.1"


@dataclass(frozen=True)
class Module:
    """One module on one base: Pod name, and name of the module."""

    base: str
    pod: str
    name: str


def plan(bases: list[str], modules: int) -> list[Module]:
    """Return so many modules, dealt to bases in turn."""
    return [
        Module(bases[number % len(bases)], f"module-{number}", f"biz{number // len(bases)}")
        for number in range(modules)
    ]


def bound_pod(module: Module) -> Json:
    """Return a module's Pod, already on its Node."""
    return {
        "metadata": {"name": module.pod, "labels": {"virtual-kubelet.koupleless.io/component": "module"}},
        "spec": {
            "nodeName": node(module.base),
            "containers": [
                {
                    "name": module.name,
                    "image": f"https://repo.example/{module.name}-{VERSION}.jar",
                    "env": [{"name": "BIZ_VERSION", "value": VERSION}],
                }
            ],
            "tolerations": [{"operator": "Exists"}],
        },
    }


async def each(work: Iterable[T], act: Callable[[T], Awaitable[object]]) -> None:
    """Act on each piece of work as fast as the connections allow; raises what acting raises."""
    left = iter(work)

    async def worker() -> None:
        for piece in left:
            await act(piece)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
