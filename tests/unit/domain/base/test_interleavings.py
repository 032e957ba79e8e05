"""Desired and actual modules agree after any interleaving, without a needless order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controlplane.domain.facts import InstallStrategy, ModuleState
from controlplane.domain.identity import ModuleKey
from tests.unit.domain.base.model import Mode, World, spec

NAMES, VERSIONS = ["a", "b"], ["1", "2", "3"]
STRATEGIES = [InstallStrategy.DEFAULT, InstallStrategy.DEFAULT, InstallStrategy.FORCE]
EXCLUSIVE = InstallStrategy.UNINSTALL_THEN_INSTALL


class Interleavings(RuleBasedStateMachine):
    """Any order of all steps, then a fair run: desired and actual agree."""

    lossy = False
    restarted = False

    @initialize(mode=st.sampled_from(Mode), broken_stays=st.booleans(), batches=st.booleans())
    def begin(self, mode: Mode, broken_stays: bool, batches: bool) -> None:
        self.world = World(mode, broken_stays=broken_stays, batches=batches)
        self.failed = False

    # Users.

    @rule(
        versions=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VERSIONS), min_size=1),
        content=st.sampled_from(["x", "y"]),
        strategy=st.sampled_from([*STRATEGIES, EXCLUSIVE]),
    )
    def pod_comes(self, versions: dict[str, str], content: str, strategy: InstallStrategy) -> None:
        self.world.pod(*(spec(name, version, strategy) for name, version in versions.items()), content=content)

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def pod_is_deleted(self, data: st.DataObject) -> None:
        self.world.pods[data.draw(st.sampled_from(sorted(self.world.pods)))].leaving = True

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def pod_is_deleted_by_force(self, data: st.DataObject) -> None:
        pod = self.world.pods[data.draw(st.sampled_from(sorted(self.world.pods)))]
        # An install becomes ours with its result: a controller that crashes before that does not know of it.
        under_way = {s.key for order in self.world.sent for s in order.modules}
        unknown = (under_way | self.world.present.keys()) - self.world.recorded.keys()
        if not self.lossy or unknown.isdisjoint(s.key for s in pod.specs):
            del self.world.pods[pod.uid]

    # The controller and its tunnel.

    @rule()
    def controller_works(self) -> None:
        self.world.work()

    @rule(seconds=st.sampled_from([0.1, 5.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @precondition(lambda self: len(self.world.lists) < 4)
    @rule()
    def gateway_asks(self) -> None:
        self.world.ask()

    @precondition(lambda self: self.world.lists)
    @rule()
    def list_arrives(self) -> None:
        self.world.receive_list(0)

    @precondition(lambda self: self.world.results)
    @rule(data=st.data(), again=st.booleans())
    def result_arrives(self, data: st.DataObject, again: bool) -> None:
        self.world.receive_result(data.draw(st.integers(0, len(self.world.results) - 1)), again=again)

    # The base.

    @rule(name=st.sampled_from(NAMES), version=st.sampled_from(VERSIONS))
    def module_begins_to_fail(self, name: str, version: str) -> None:
        self.failed = True
        self.world.failing.add(ModuleKey(name, version))

    @rule()
    def modules_heal(self) -> None:
        self.world.failing.clear()

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def base_begins(self, data: st.DataObject) -> None:
        self.world.begin(self.some_order(data))

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def base_carries_out(self, data: st.DataObject) -> None:
        self.world.carry_out(self.some_order(data))

    def some_order(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.world.sent) - 1))

    @invariant()
    def no_needless_order(self) -> None:
        # An order that was given up may still be carried out, beside the one that took its place.
        if hasattr(self, "world") and not self.lossy and not self.failed and self.world.now < 30.0:
            assert self.world.repeats == 0
            assert self.world.needless_uninstalls == 0 or self.world.mode is Mode.FIRST or self.exclusive()

    def exclusive(self) -> bool:
        return any(s.strategy is EXCLUSIVE for pod in self.world.pods.values() for s in pod.specs)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.failing.clear()
        world.installs_baseline(reported=True)
        world.settle()
        wanted = world.wanted()
        newest = {key.name: wish for key, wish in wanted.items()}
        for name in NAMES:
            there = {key for key in world.present if key.name == name}
            if name not in newest:
                assert not there
            elif any(wish.spec.strategy is EXCLUSIVE for key, wish in wanted.items() if key.name == name):
                assert there == {newest[name].spec.key}
            elif world.mode is Mode.FIRST:
                assert newest[name].spec.key in there <= wanted.keys()
            else:
                assert there == {key for key in wanted if key.name == name}
        assert all(world.present[wish.spec.key] is ModuleState.ACTIVATED for wish in newest.values())
        if not self.restarted and not self.lossy:
            for key in world.present:
                assert world.content[key].digest == wanted[key].release.digest, key
        assert not any(pod.leaving for pod in world.pods.values())
        assert not world.state.in_flight
        assert world.present.keys() <= world.state.owned.keys() <= world.present.keys() | wanted.keys()
        world.work()
        assert not world.sent


class LossyInterleavings(Interleavings):
    """The same with lost commands and results, false reports, and restarts of either side after any step."""

    lossy = True

    @rule(seconds=st.sampled_from([40.0, 100.0]))
    def much_time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @precondition(lambda self: self.world.results)
    @rule(data=st.data())
    def result_is_lost(self, data: st.DataObject) -> None:
        self.world.lose(data.draw(st.integers(0, len(self.world.results) - 1)))

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def command_is_lost(self, data: st.DataObject) -> None:
        index = self.some_order(data)
        if self.world.sent[index].order_id not in self.world.locked.values():
            self.world.lose_command(index)

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def command_comes_twice(self, data: st.DataObject) -> None:
        self.world.answer_conflict(self.some_order(data))

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def base_carries_out_and_reports_a_failure(self, data: st.DataObject) -> None:
        self.world.carry_out(self.some_order(data), report_failure=True)

    @rule()
    def base_restarts(self) -> None:
        self.world.base_restarts()

    @rule(versions=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VERSIONS), min_size=1))
    def base_starts_with_a_baseline(self, versions: dict[str, str]) -> None:
        self.world.starts_with_a_baseline(tuple(ModuleKey(*item) for item in versions.items()))

    @rule(reported=st.booleans())
    def base_installs_its_baseline(self, reported: bool) -> None:
        self.world.installs_baseline(reported=reported)

    @rule()
    def controller_restarts(self) -> None:
        self.restarted = True
        self.world.controller_restarts()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLossyInterleavings = LossyInterleavings.TestCase
TestLossyInterleavings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
