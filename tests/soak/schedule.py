"""The steps of a soak and their times, computed from a seed: the same seed and length give the same steps.

Users and chaos are two lists, so that a user who waits for the API server does not delay its return. The lists depend
on no result of a step: a run can be repeated, however long each step takes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

BASE_FAULTS = {
    # what: (weight, shortest, longest) in seconds
    "fail": (3, 5, 30),
    "fail-uninstall": (2, 5, 20),
    "hang": (2, 5, 20),
    "drop-replies": (3, 5, 20),
    "slow": (2, 10, 30),
    "mute": (2, 5, 60),
    "restart": (3, 0, 0),
    "stop": (3, 3, 40),
    "stay away": (1, 70, 80),
    "deactivate": (2, 5, 20),
}
"""Faults of one base; one of them at a time."""

SHARED_FAULTS = {
    ("freeze", "bases"): (3, 5, 45),
    ("kill", "http-gateway"): (2, 1, 15),
    ("kill", "mqtt-gateway"): (2, 1, 15),
    ("freeze", "http-gateway"): (2, 5, 40),
    ("freeze", "mqtt-gateway"): (2, 5, 40),
    ("kill", "controlplane"): (3, 1, 20),
    ("end", "controlplane"): (1, 1, 10),
    ("freeze", "controlplane"): (1, 3, 35),
    ("end", "broker"): (2, 2, 20),
    ("kill", "apiserver"): (1, 3, 15),
    ("end", "apiserver"): (1, 3, 15),
    ("freeze", "apiserver"): (1, 3, 15),
}
"""Faults of what bases share; one of them for each part at a time. bases stands for one process of several bases."""

MOST_PODS = 30
WORKLOADS = ("d1", "d2", "d3")


@dataclass(frozen=True, slots=True)
class Step:
    """at is in seconds since the start; what is done to whom, in terms that its worker knows."""

    at: float
    what: str
    whom: str
    how: str = ""
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((f"{self.at:.1f}", self.what, self.whom, self.how, *self.more)).rstrip()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One bare Pod as users want it: on a base, of modules, from a revision of their jars."""

    name: str
    base: str
    modules: tuple[str, ...]
    revision: int = 0
    forced: bool = False


@dataclass(slots=True)
class Users:
    """What users want; fills steps. bound is the number of bases."""

    random: Random
    bases: Sequence[str]
    steps: list[Step] = field(default_factory=list)
    pods: dict[str, Wanted] = field(default_factory=dict)
    workloads: dict[str, int] = field(default_factory=dict)
    """Version of each Deployment."""
    busy: set[str] = field(default_factory=set)
    """Pods that a later step is meant for."""
    count: int = 0

    def act(self, at: float) -> None:
        """Do one thing, if it can be done."""
        acts: dict[Callable[[float], None], int] = {
            self._create: 6,
            self._share: 2,
            self._delete: 4,
            self._force_delete: 2,
            self._change: 3,
            self._release_again: 2,
            self._deploy: 2,
            self._scale: 2,
            self._update: 2,
            self._undeploy: 1,
        }
        (act,) = self.random.choices(list(acts), list(acts.values()))
        act(at)

    def _step(self, at: float, what: str, whom: str, how: str = "", *more: str) -> None:
        self.steps.append(Step(at, what, whom, how, more))

    def _put(self, at: float, pod: Wanted) -> None:
        self.pods[pod.name] = pod
        self._step(at, "create", pod.name, pod.base, *pod.modules, str(pod.revision), "force" if pod.forced else "")

    def _create(self, at: float) -> None:
        if len(self.pods) < MOST_PODS:
            name = self._name()
            modules = (name,) if self.random.random() < 0.75 else (f"{name}-a", f"{name}-b")
            self._put(at, Wanted(name, self.random.choice(self.bases), modules))

    def _share(self, at: float) -> None:
        pod = self._any(lambda pod: not pod.forced)
        if pod is not None and len(self.pods) < MOST_PODS:
            self._put(at, Wanted(self._name(), pod.base, pod.modules, pod.revision))

    def _delete(self, at: float) -> None:
        if pod := self._any():
            del self.pods[pod.name]
            self._step(at, "delete", pod.name)

    def _force_delete(self, at: float) -> None:
        if pod := self._any():
            del self.pods[pod.name]
            self._step(at, "force-delete", pod.name)

    def _change(self, at: float) -> None:
        """Another jar under the same name and version, in place."""
        if pod := self._any(self._alone):
            revision = pod.revision + 1
            self.pods[pod.name] = Wanted(pod.name, pod.base, pod.modules, revision, pod.forced)
            self._step(at, "change", pod.name, str(revision), *pod.modules)

    def _release_again(self, at: float) -> None:
        """The same name and version by a new Pod that asks for an installation of its own; then the old one goes."""
        if pod := self._any(self._alone):
            self.busy.add(pod.name)
            self._put(at, Wanted(self._name(), pod.base, pod.modules, pod.revision, forced=True))
            del self.pods[pod.name]
            self._step(at + self.random.uniform(2, 10), "delete", pod.name)

    def _deploy(self, at: float) -> None:
        free = [name for name in WORKLOADS if name not in self.workloads]
        if free:
            name = self.random.choice(free)
            self.workloads[name] = 1
            self._step(at, "deploy", name, "1", str(self._replicas()))

    def _scale(self, at: float) -> None:
        if self.workloads:
            self._step(at, "scale", self.random.choice(list(self.workloads)), str(self._replicas()))

    def _update(self, at: float) -> None:
        """Forward, or back to the version before."""
        if self.workloads:
            name = self.random.choice(list(self.workloads))
            version = self.workloads[name]
            version = version - 1 if version > 1 and self.random.random() < 0.3 else version + 1
            self.workloads[name] = version
            self._step(at, "update", name, str(version))

    def _undeploy(self, at: float) -> None:
        if self.workloads:
            name = self.random.choice(list(self.workloads))
            del self.workloads[name]
            self._step(at, "undeploy", name)

    def _name(self) -> str:
        self.count += 1
        return f"p{self.count}"

    def _replicas(self) -> int:
        return self.random.randint(1, len(self.bases))

    def _any(self, fits: Callable[[Wanted], bool] = lambda _: True) -> Wanted | None:
        found = [pod for pod in self.pods.values() if pod.name not in self.busy and fits(pod)]
        return self.random.choice(found) if found else None

    def _alone(self, pod: Wanted) -> bool:
        return not any(other.name != pod.name and other.modules == pod.modules for other in self.pods.values())


def users(seed: int, seconds: float, bases: Sequence[str], *, each: float = 0.7) -> Users:
    """Return what users do within so many seconds, one thing each so many seconds on average, and want in the end."""
    random = Random(f"users {seed}")
    work = Users(random, bases)
    for at in _times(random, seconds, each):
        work.act(at)
    work.steps.sort(key=lambda step: step.at)
    return work


def chaos(seed: int, seconds: float, groups: Mapping[str, Sequence[str]], *, each: float = 2.2) -> list[Step]:
    """Return faults within so many seconds, each with its end; groups are bases by the process that they share."""
    random = Random(f"chaos {seed}")
    steps: list[Step] = []
    free_at: dict[str, float] = {}
    shared = list(SHARED_FAULTS)
    for at in _times(random, seconds, each):
        if random.random() < 0.6:
            (what,) = random.choices(list(BASE_FAULTS), [weight for weight, _, _ in BASE_FAULTS.values()])
            whom = random.choice([base for bases in groups.values() for base in bases])
            targets: Sequence[str] = (whom,)
            _, shortest, longest = BASE_FAULTS[what]
        else:
            ((what, whom),) = random.choices(shared, [weight for weight, _, _ in SHARED_FAULTS.values()])
            _, shortest, longest = SHARED_FAULTS[what, whom]
            targets = (whom,)
            if whom == "bases":
                whom = random.choice(list(groups))
                targets = groups[whom]
        end = at + random.uniform(shortest, longest)
        if any(free_at.get(target, 0.0) > at for target in targets) or end > seconds:
            continue
        # What starts again is given a moment before its next fault.
        free_at |= dict.fromkeys(targets, end + 5.0)
        steps.append(Step(at, what, whom))
        if longest:
            steps.append(Step(end, "heal", whom, what))
    return sorted(steps, key=lambda step: step.at)


def _times(random: Random, seconds: float, each: float) -> Iterator[float]:
    at = random.expovariate(1 / each)
    while at < seconds:
        yield at
        at += random.expovariate(1 / each)
