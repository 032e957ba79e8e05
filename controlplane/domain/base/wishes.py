"""What the Pods of a base want installed there, and what is wrong with a container that wants nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.domain.base import deadline
from controlplane.domain.base.environment import Place, facts_of, resolve
from controlplane.domain.base.releases import UNKNOWN, Release, release
from controlplane.domain.contract import ANNOTATION_INSTALL_STRATEGY, ANNOTATION_VERSION
from controlplane.domain.facts import InstallStrategy, ModuleSpec
from controlplane.domain.objects import Container, Pod
from controlplane.domain.sharing import shared


@dataclass(frozen=True, slots=True)
class Wish:
    """One container of one Pod: the module that it wants, or wants no more when leaving.

    release is what it wants installed; pod (a UID) and created (RFC 3339) say whose wish it is.
    """

    spec: ModuleSpec
    leaving: bool
    release: Release = UNKNOWN
    pod: str = ""
    created: str = ""


class Wishes:
    """The wishes of the Pods of one base: computed once for each version of a Pod, as that takes JSON and a digest."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._known: dict[str, tuple[Pod, tuple[Wish, ...]]] = {}
        """Each Pod and what it wants at that place, by UID."""

    def of(self, pods: Iterable[Pod], place: Place) -> tuple[Wish, ...]:
        """Return what these Pods want of the base at that place; pods come oldest first."""
        before = self._known if place == self._place else {}
        self._place, self._known = place, {}
        for pod in pods:
            known = before.get(pod.uid)
            same = known is not None and known[0].resource_version == pod.resource_version
            self._known[pod.uid] = known if known is not None and same else (pod, wishes((pod,), place))
        return tuple(wish for _, found in self._known.values() for wish in found)


def wishes(pods: Iterable[Pod], place: Place) -> tuple[Wish, ...]:
    """Return what Pods want of the base at that place; pods come oldest first."""
    found = []
    for pod in pods:
        leaving = pod.deleting or deadline.has_failed(pod)
        if pod.status.terminal and not leaving:
            continue
        for container in pod.containers:
            if not unusable(pod, container):
                spec = module_spec(pod, container, place)
                found.append(Wish(spec, leaving, release(pod, container), pod.uid, pod.creation_timestamp))
    return tuple(found)


def unusable(pod: Pod, container: Container) -> str:
    """Say why a container of a Pod cannot be a module, or return an empty text."""
    if _strategy(pod) is None:
        known = ", ".join(strategy.value for strategy in InstallStrategy if strategy.value)
        found = pod.annotations[ANNOTATION_INSTALL_STRATEGY]
        return f"annotation {ANNOTATION_INSTALL_STRATEGY}: {found!r} is none of {known}"
    return invalid(container)


def invalid(container: Container) -> str:
    """Say why a container cannot be a module in any Pod, or return an empty text."""
    if container.unsupported:
        return container.unsupported
    if not container.version:
        return _NO_VERSION
    if ":" in container.version:
        return f"version {container.version!r} must not contain a colon"
    if not container.image:
        return "image is missing: it must hold the URL of the module's jar"
    return ""


def module_spec(pod: Pod, container: Container, place: Place) -> ModuleSpec:
    """Return what a container of a module Pod asks the base at that place to install."""
    args, envs = resolve(container, facts_of(pod, place))
    strategy = _strategy(pod) or InstallStrategy.DEFAULT
    spec = ModuleSpec(key=container.key, url=container.url, args=args, envs=envs, strategy=strategy)
    return shared(spec, len(spec.url) + sum(map(len, args)) + sum(len(value) for _, value in envs))


_NO_VERSION = (
    "the module's version is missing: name the jar NAME-VERSION.jar, end the image with #bizVersion=VERSION, "
    f"or set the annotation {ANNOTATION_VERSION} or the variable BIZ_VERSION"
)
_STRATEGIES = {strategy.value: strategy for strategy in InstallStrategy}


def _strategy(pod: Pod) -> InstallStrategy | None:
    return _STRATEGIES.get(pod.annotations.get(ANNOTATION_INSTALL_STRATEGY, ""))


def exclusive(wish: Wish) -> bool:
    """Return whether a Pod says that versions of its module cannot coexist: then the newest is alone."""
    return wish.spec.strategy is InstallStrategy.UNINSTALL_THEN_INSTALL
