"""Faults and actions of people that happen to a run, as a list that can be drawn, shortened and replayed."""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from controlplane.cluster.api import LEASES
from controlplane.domain.contract import ANNOTATION_REPLICA_DRAINING
from tests.unit.ownership.model import SLOTS, Model, Shape, running
from tests.unit.ownership.replica import Replica


class Fault(NamedTuple):
    """So many seconds after the one before, something happens to somebody, for so long."""

    after: float
    kind: str
    which: int
    seconds: float


def _replica(model: Model, which: int) -> Replica:
    return model.replica(model.names[which % len(model.names)])


def _pause_replica(model: Model, which: int, seconds: float) -> None:
    replica = _replica(model, which)
    if replica.process.alive:
        replica.process.pause(seconds)


def _restart(model: Model, name: str, seconds: float) -> None:
    def start() -> None:
        # A StatefulSet too waits for a process that still ends.
        if model.replica(name).process.alive:
            model.world.after(1.0, start)
        else:
            model.start_replica(name)

    model.world.after(seconds, start)


def _kill_replica(model: Model, which: int, seconds: float) -> None:
    replica = _replica(model, which)
    if replica.process.alive:
        replica.kill()
        _restart(model, replica.name, seconds)


def _terminate_replica(model: Model, which: int, seconds: float) -> None:
    replica = _replica(model, which)
    if replica.process.alive:
        model.world.note(f"{replica.name} is asked to end")
        replica.terminate()
        # A process that does not end in time is killed.
        model.world.after(20.0, lambda: replica.kill() if replica.process.alive else None)
        _restart(model, replica.name, seconds)


def _twin(model: Model, which: int, _seconds: float) -> None:
    """A second process of the same name, as when a node that is cut off keeps a Pod of a StatefulSet running.

    Not right after somebody deleted the member lease: the second one cannot know then that there is a first.
    """
    replica = _replica(model, which)
    if replica.process.alive and model.store.named(LEASES, f"module-controller-{replica.name}", "default") is not None:
        model.start_replica(replica.name)


def _cut_from_api(model: Model, which: int, seconds: float) -> None:
    replica = _replica(model, which)
    model.world.note(f"{replica.name} is cut off from the API server for {seconds:.1f} s")
    replica.api.cut_off(seconds)


def _lag(model: Model, which: int, seconds: float) -> None:
    replica = _replica(model, which)
    lag = (0.5, 2.0, 5.0)[which % 3]
    model.world.note(f"watches of {replica.name} lag by {lag} s for {seconds:.1f} s")
    replica.api.fall_behind(lag, seconds)


def _api_away(model: Model, _which: int, seconds: float) -> None:
    model.world.note(f"the API server is away for {seconds:.1f} s")
    model.store.away_until = max(model.store.away_until, model.world.now + seconds)
    for replica in model.running_replicas():
        replica.api.cut_off(seconds)


def _cut_from_gateway(model: Model, which: int, seconds: float) -> None:
    replica, gateway = _replica(model, which), f"g{which // 3 % model.shape.gateways}"
    model.world.note(f"{replica.name} and {gateway} are cut off from each other for {seconds:.1f} s")
    model.network.cut_off(replica.name, gateway, min(seconds, 20.0))


def _slow_streams(model: Model, which: int, seconds: float) -> None:
    replica, lag = _replica(model, which), (0.3, 2.0, 6.0)[which // 3 % 3]
    model.world.note(f"messages from and to {replica.name} take {lag} s for {seconds:.1f} s")
    model.network.slow[replica.name] = lag, model.world.now + seconds


def _pause_gateway(model: Model, which: int, seconds: float) -> None:
    gateway = model.gateways.get(f"g{which % model.shape.gateways}")
    if gateway is not None:
        gateway.process.pause(min(seconds, 15.0))


def _restart_gateway(model: Model, which: int, seconds: float) -> None:
    name = f"g{which % model.shape.gateways}"
    if name in model.gateways:
        model.stop_gateway(name)
        model.world.after(min(seconds, 10.0), lambda: model.start_gateway(name))


def _delete_lease(model: Model, which: int, _seconds: float) -> None:
    name = f"vnode.b{which % model.shape.bases}.dev"
    if model.store.named(LEASES, name, "kube-node-lease") is not None:
        model.store.remove(LEASES, name, "kube-node-lease")


def _delete_member(model: Model, which: int, _seconds: float) -> None:
    name = f"module-controller-{_replica(model, which).name}"
    starts = any(run.name in name and model.world.now - run.process.began < 2.0 for run in model.runs)
    if not starts and model.store.named(LEASES, name, "default") is not None:
        model.store.remove(LEASES, name, "default")


def _drain(model: Model, which: int, seconds: float) -> None:
    name = f"module-controller-{_replica(model, which).name}"

    def mark(draining: str) -> None:
        lease = model.store.named(LEASES, name, "default")
        if lease is not None:
            model.world.note(f"{name} draining: {draining}")
            lease["metadata"].setdefault("annotations", {})[ANNOTATION_REPLICA_DRAINING] = draining
            model.store.put(LEASES, lease)

    mark("true")
    model.world.after(seconds, lambda: mark("false"))


def _jump(model: Model, which: int, seconds: float) -> None:
    replica = _replica(model, which)
    replica.clock.ahead = (seconds - 20.0) * 100_000
    model.world.note(f"the wall clock of {replica.name} is off by {replica.clock.ahead:.0f} s")


def _want(model: Model, which: int, _seconds: float) -> None:
    model.want(f"b{which % model.shape.bases}", SLOTS[which // 7 % 2])


def _unwant(model: Model, which: int, _seconds: float) -> None:
    model.unwant(f"b{which % model.shape.bases}", SLOTS[which // 7 % 2])


KINDS: dict[str, Callable[[Model, int, float], None]] = {
    "pause replica": _pause_replica,
    "kill replica": _kill_replica,
    "terminate replica": _terminate_replica,
    "second process of one name": _twin,
    "cut replica from API server": _cut_from_api,
    "watches lag": _lag,
    "API server away": _api_away,
    "cut replica from gateway": _cut_from_gateway,
    "slow streams": _slow_streams,
    "pause gateway": _pause_gateway,
    "restart gateway": _restart_gateway,
    "delete lease": _delete_lease,
    "delete member lease": _delete_member,
    "drain": _drain,
    "jump of a wall clock": _jump,
    "want module": _want,
    "unwant module": _unwant,
}
PEOPLE = ("want module", "unwant module")
AFTER = (0.0, 0.3, 1.0, 3.0, 6.0, 12.0)
SECONDS = (0.2, 1.0, 3.0, 5.5, 7.0, 9.0, 15.0, 30.0, 45.0)
SHAPES = tuple(
    Shape(replicas=replicas, gateways=gateways, bases=bases, pause=pause, loss=loss)
    for replicas, bases in ((3, 4), (2, 3), (3, 6))
    for gateways in (2, 1)
    for pause, loss in ((0.0, 0.0), (0.002, 0.01), (0.01, 0.0), (0.0, 0.05))
)


def drawn(seed: int) -> tuple[Shape, list[Fault]]:
    """Return the run that belongs to a seed."""
    random = Random(seed)
    kinds = [*random.sample(sorted(set(KINDS) - set(PEOPLE)), random.randint(1, 5)), *PEOPLE]
    faults = [
        Fault(random.choice(AFTER), random.choice(kinds), random.randrange(42), random.choice(SECONDS))
        for _ in range(random.randint(3, 25))
    ]
    return random.choice(SHAPES), faults


def explore(seed: int, shape: Shape, faults: Sequence[Fault]) -> tuple[int, float]:
    """Run all faults, then settle; return the number of events, and the seconds that settling took."""
    with running(seed, shape, faults) as model:
        for number in range(shape.bases):
            model.want(f"b{number}", SLOTS[0])
        model.world.run(15.0)
        for fault in faults:
            model.world.run(fault.after)
            KINDS[fault.kind](model, fault.which, fault.seconds)
        model.world.run(1.0)
        model.end_faults()
        took = model.settle()
        return model.world.events, took
