"""Single cases of the ownership protocol, each from several seeds."""

import pytest

from controlplane.cluster.api import LEASES, Json
from controlplane.domain.facts import Order, Refusal, Refused
from tests.unit.ownership.faults import KINDS
from tests.unit.ownership.model import Model, Shape, running
from tests.unit.ownership.replica import Replica

seeds = pytest.mark.parametrize("seed", range(4))


def settled(model: Model) -> dict[str, str]:
    """Settle with a module on each base; return the owner of each base."""
    for base in model.bases:
        model.want(base, "biz1")
    model.world.run(14.0)
    model.settle()
    return owners(model)


def owners(model: Model) -> dict[str, str]:
    return {base: "".join(model.owners(base)) for base in model.bases}


def happen(model: Model, kind: str, name: str, seconds: float = 0.0) -> None:
    KINDS[kind](model, int(name[1:]), seconds)


def overtaken_order(seed: int) -> None:
    """An order is still under way to the gateway when its base has been given away and the next owner claims it."""
    with running(seed, Shape(replicas=2, gateways=1, bases=2)) as model:
        owner = settled(model)["b0"]
        model.network.slow[owner] = 6.0, model.world.now + 0.5
        model.want("b0", "biz2")
        model.world.run(0.5)
        happen(model, "drain", owner, 60.0)
        model.world.run(4.0)
        assert owners(model)["b0"] not in ("", owner)
        model.world.run(10.0)
        assert [effect[2][0] for effect in model.bases["b0"].effects].count("biz2") == 1
        refused = [o for o in model.outcomes.values() if isinstance(o, Refused) and o.reason is Refusal.STALE_FENCE]
        assert len(refused) == 1
        model.world.run(50.0)
        model.settle()


@seeds
def test_what_comes_late_is_no_silence(seed: int) -> None:
    with running(seed, Shape(replicas=1, gateways=1)) as model:
        settled(model)
        model.network.slow["r0"] = 28.0, model.world.now + 2.5
        model.world.run(90.0)
        model.settle()


@seeds
def test_what_a_gateway_that_stands_still_until_it_is_given_up_did_not_pass_on_is_no_silence(seed: int) -> None:
    with running(seed, Shape(replicas=1, gateways=2)) as model:
        settled(model)
        first, second = model.gateways.values()
        first.process.pause(40.0)
        model.world.run(12.0)
        second.process.pause(40.0)
        model.world.run(90.0)
        model.settle()


@seeds
def test_an_order_that_is_overtaken_by_a_newer_claim_has_no_effect(seed: int) -> None:
    overtaken_order(seed)


@seeds
def test_an_order_that_an_owner_sends_after_a_freeze_has_no_effect(seed: int) -> None:
    with running(seed, Shape(replicas=2, gateways=1, bases=2)) as model:
        settled(model)
        issued = model._issued

        def freeze(replica: Replica, order: Order) -> None:
            issued(replica, order)
            model._issued = issued  # type: ignore[method-assign]
            replica.process.pause(13.0)

        model._issued = freeze  # type: ignore[method-assign]
        model.want("b0", "biz2")
        model.world.run(25.0)
        model.settle()
        assert [effect[2][0] for effect in model.bases["b0"].effects].count("biz2") == 1


@seeds
def test_an_api_server_that_is_away_for_longer_than_leases_last_moves_nothing(seed: int) -> None:
    with running(seed) as model:
        before = settled(model)
        happen(model, "API server away", "r0", 120.0)
        model.world.run(30.0)
        assert all(owner == "" for owner in owners(model).values()), "a replica that cannot renew must not act"
        model.world.run(90.0)
        model.settle()
        assert owners(model) == before


@seeds
def test_after_an_outage_loads_are_evened_out_on_current_caches(seed: int) -> None:
    """Right after an outage caches are old: moves of bases that rest on them may be needless."""
    with running(seed, Shape(replicas=3, bases=6)) as model:
        settled(model)
        model.replica("r2").kill()
        model.world.run(60.0)
        joined = model.start_replica("r2").members
        while not joined.may_act():
            model.world.run(0.5)
        assert model.loads()["r2"] == 0, "it is about to be given bases"
        happen(model, "API server away", "r0", 120.0)
        model.world.run(120.0)
        for replica in model.running_replicas():
            replica.api.fall_behind(3.0, 10.0)
        model.world.run(20.0)
        model.settle()


@seeds
def test_of_two_processes_with_one_name_the_second_is_refused(seed: int) -> None:
    with running(seed) as model:
        before = settled(model)
        happen(model, "second process of one name", "r1")
        model.world.run(12.0)
        first, second = [run for run in model.runs if run.name == "r1"]
        assert first.process.alive
        assert not second.process.alive
        assert "CLIENT_ID=r1" in second.refused
        assert owners(model) == before


@seeds
def test_a_second_process_does_not_join_because_the_member_lease_was_deleted(seed: int) -> None:
    with running(seed) as model:
        settled(model)
        happen(model, "second process of one name", "r1")
        model.world.run(3.0)
        model.store.remove(LEASES, "module-controller-r1", "default")
        model.world.run(12.0)
        assert [run.process.alive for run in model.runs if run.name == "r1"] == [True, False]
        model.settle()


@seeds
@pytest.mark.parametrize("kind", ["delete lease", "delete member lease"])
def test_a_lease_that_is_deleted_by_hand_stays_with_its_owner(seed: int, kind: str) -> None:
    with running(seed) as model:
        before = settled(model)
        happen(model, kind, "r0")
        model.world.run(5.0)
        model.settle()
        assert owners(model) == before


@seeds
def test_a_deleted_lease_is_not_taken_before_its_cut_off_owner_stopped(seed: int) -> None:
    with running(seed) as model:
        owner = settled(model)["b0"]
        happen(model, "cut replica from API server", owner, 20.0)
        model.world.run(1.0)
        happen(model, "delete lease", "b0")
        # The model checks at every step that no two replicas act at once.
        model.world.run(25.0)
        model.settle()


def original(model: Model, base: str) -> Json:
    """A lease as the original writes it: no member lease shows whether its holder runs."""
    return {
        "metadata": {
            "namespace": "kube-node-lease",
            "name": f"vnode.{base}.dev",
            "labels": {
                "virtual-kubelet.koupleless.io/component": "vnode-lease",
                "virtual-kubelet.koupleless.io/env": "dev",
            },
        },
        "spec": {
            "holderIdentity": "go-controller",
            "leaseDurationSeconds": 40,
            "renewTime": f"2026-01-01T00:00:{int(model.world.now) % 60:02d}.000000Z",
            "leaseTransitions": 3,
        },
    }


@seeds
def test_the_lease_of_an_original_is_respected_until_it_expires(seed: int) -> None:
    shape = Shape(bases=1)
    with running(seed, shape) as model:
        for _ in range(6):
            model.store.put(LEASES, original(model, "b0"))
            model.world.run(10.0)
            assert owners(model) == {"b0": ""}
        model.world.run(28.0)
        assert owners(model) == {"b0": ""}
        model.world.run(12.0)
        model.settle()
        assert model.highest["b0"] == 4


@seeds
def test_a_wall_clock_that_jumps_begins_no_lower_fence(seed: int) -> None:
    with running(seed) as model:
        owner = settled(model)["b0"]
        fence = model.highest["b0"]
        model.replica(owner).clock.ahead = -100_000_000.0
        happen(model, "delete lease", "b0")
        model.world.run(5.0)
        model.settle()
        assert model.highest["b0"] > fence


@seeds
def test_bases_of_a_leaving_replica_are_owned_again_at_once(seed: int) -> None:
    with running(seed) as model:
        owner = settled(model)["b0"]
        model.replica(owner).terminate()
        model.world.run(2.5)
        assert all(owners(model).values()), "all are owned again within 2 s of the release"
        model.settle()


@seeds
def test_bases_given_to_a_replica_that_dies_get_another_owner(seed: int) -> None:
    with running(seed) as model:
        settled(model)
        receiver = model.replica("r2")
        touched = model.store.touched
        held = {base for base, owner in owners(model).items() if owner != "r2"}

        def kill(resource: object, event: object) -> None:
            touched(resource, event)  # type: ignore[arg-type]
            given = [b for b in held if _holder(model, b) == "r2"]
            if given and receiver.process.alive:
                receiver.kill()

        model.store.touched = kill
        happen(model, "drain", "r0", 60.0)
        happen(model, "drain", "r1", 60.0)
        model.world.run(25.0)
        assert not receiver.process.alive, "it was given a base and died"
        model.world.run(40.0)
        model.settle()
        assert all(owners(model).values())


def _holder(model: Model, base: str) -> str:
    lease = model.store.named(LEASES, f"vnode.{base}.dev", "kube-node-lease")
    return str(lease["spec"]["holderIdentity"]) if lease is not None else ""


@seeds
def test_a_drained_replica_gets_bases_again_after_the_drain(seed: int) -> None:
    with running(seed) as model:
        settled(model)
        happen(model, "drain", "r0", 30.0)
        model.world.run(20.0)
        assert model.loads()["r0"] == 0
        assert all(owners(model).values())
        model.world.run(15.0)
        model.settle()
        assert model.loads()["r0"] > 0


@seeds
def test_the_last_replica_goes_on_when_its_member_lease_is_deleted(seed: int) -> None:
    with running(seed) as model:
        settled(model)
        for name in ("r1", "r2"):
            model.replica(name).kill()
        model.world.run(8.2)
        for _ in range(40):
            if model.store.named(LEASES, "module-controller-r0", "default") is not None:
                happen(model, "delete member lease", "r0")
            model.world.run(0.1)
        model.world.run(45.0)
        assert set(owners(model).values()) == {"r0"}


@seeds
def test_a_module_ordered_right_before_the_term_ended_is_ours(seed: int) -> None:
    with running(seed) as model:
        settled(model)
        model.want("b0", "biz2")
        model.world.run(0.3)
        model.unwant("b0", "biz2")
        happen(model, "delete lease", "b0")
        model.world.run(10.0)
        model.settle()
        assert ("biz2", "1") not in model.bases["b0"].modules


@seeds
def test_an_order_lost_in_a_silent_stream_is_sent_again(seed: int) -> None:
    with running(seed, Shape(replicas=2, gateways=1, bases=2)) as model:
        owner = settled(model)["b0"]
        model.network.cut_off(owner, "g0", 0.2)
        model.world.run(0.3)
        model.want("b0", "biz2")
        model.world.run(45.0)
        assert ("biz2", "1") in model.bases["b0"].modules
        model.settle()
