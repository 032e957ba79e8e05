"""Which path is answered by what: a table, in which * stands for one name. Pure.

The paths are those of kubelets (pkg/kubelet/server/server.go of Kubernetes).
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from controlplane.domain.access import Caller
from service.refusals import RequestRefused

Answer = Callable[[web.BaseRequest, Caller, tuple[str, ...]], Awaitable[web.StreamResponse]]
"""Answers a caller; the names are those in the places of *. Raises RequestRefused."""

NAME = "*"
NOT_OFFERED = frozenset(
    "attach checkpoint cri debug exec logs portForward run runningpods spec".split()  # noqa: SIM905
)
"""First parts of what other kubelets have besides."""
INTO_THE_BASE = frozenset(("exec", "attach", "portForward"))


@dataclass(frozen=True, slots=True)
class Route:
    """One path, what answers it, and by which methods."""

    path: str
    answer: Answer
    methods: tuple[str, ...] = ("GET",)

    def names(self, path: str) -> tuple[str, ...] | None:
        """Return the names in a path, None if it is not of this route."""
        pattern, parts = self.path.split("/"), path.split("/")
        if len(pattern) != len(parts):
            return None
        pairs = list(zip(pattern, parts, strict=True))
        if any(not part if want == NAME else want != part for want, part in pairs):
            return None
        return tuple(part for want, part in pairs if want == NAME)


class Routes:
    """All routes of a server; of several that fit, the first counts."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)

    def find(self, method: str, path: str) -> tuple[Answer, tuple[str, ...]]:
        """Return what answers a request, and the names in its path. Raises RequestRefused."""
        for route in self._routes:
            if (names := route.names(path)) is not None:
                if method not in route.methods:
                    allowed = ", ".join(route.methods)
                    raise RequestRefused(405, "method", f"{route.path} takes {allowed} only", {"Allow": allowed})
                return route.answer, names
        what = path.removeprefix("/").partition("/")[0]
        if what in NOT_OFFERED:
            text = f"VNodes have no /{what}: a module is a part of its base's process"
            if what in INTO_THE_BASE:
                text += "; with KUBELET_EXEC_ENABLED=true it leads into the Pod of the base"
            raise RequestRefused(501, "not_offered", text)
        raise RequestRefused(404, "path", f"there is only {', '.join(route.path for route in self._routes)}")


NO_ROUTES = Routes(())
