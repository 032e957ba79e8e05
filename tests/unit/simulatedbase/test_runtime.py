"""States of modules inside a base."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulatedbase.java import JavaError, null_pointer
from simulatedbase.profile import MultiVersion
from simulatedbase.runtime import Biz, ModuleState, Runtime


def runtime(multi_version: MultiVersion = MultiVersion.DEFAULT, *, broken_stays: bool = False) -> Runtime:
    return Runtime(multi_version, broken_stays)


def install(ark: Runtime, version: str, now: int = 0) -> Biz:
    biz = register(ark, version, now)
    assert biz is not None
    ark.started(biz, now + 1)
    return biz


def register(ark: Runtime, version: str, now: int = 0) -> Biz | None:
    biz = Biz("biz", version, "Main")
    return biz if ark.register(biz, now) else None


def installed(ark: Runtime, version: str) -> Biz:
    biz = ark.modules.get(f"biz:{version}")
    assert biz is not None
    return biz


@pytest.mark.parametrize(
    ("mode", "old", "new"),
    [
        (MultiVersion.DEFAULT, ModuleState.ACTIVATED, ModuleState.DEACTIVATED),
        (MultiVersion.BOTH, ModuleState.ACTIVATED, ModuleState.ACTIVATED),
        (MultiVersion.SWITCH, ModuleState.DEACTIVATED, ModuleState.ACTIVATED),
    ],
)
def test_the_mode_decides_the_states_of_two_versions(mode: MultiVersion, old: ModuleState, new: ModuleState) -> None:
    ark = runtime(mode)
    first, second = install(ark, "1"), install(ark, "2")
    assert (first.state, second.state) == (old, new)


def test_each_step_is_reported_and_a_switch_of_versions_is_one_step() -> None:
    steps: list[dict[str, str]] = []
    ark = Runtime(
        MultiVersion.SWITCH,
        broken_stays=False,
        changed=lambda: steps.append({biz.version: biz.state.value for biz in ark.modules.values()}),
    )
    install(ark, "1")
    install(ark, "2")
    ark.switch(installed(ark, "1"), 5)
    ark.uninstall(installed(ark, "2"))
    assert steps == [
        {"1": "resolved"},
        {"1": "activated"},
        {"1": "activated", "2": "resolved"},
        {"1": "deactivated", "2": "activated"},
        {"1": "activated", "2": "deactivated"},
        {"1": "activated"},
    ]


def test_records_list_each_state_oldest_first() -> None:
    ark = runtime(MultiVersion.SWITCH)
    first = install(ark, "1", 10)
    install(ark, "2", 20)
    assert [(record.time, record.state.value, record.reason) for record in first.records] == [
        (10, "resolved", "Created"),
        (11, "activated", "Started"),
        (21, "deactivated", "Switched"),
    ]


def test_a_module_in_any_state_occupies_its_identity() -> None:
    ark = runtime(broken_stays=True)
    biz = register(ark, "1", 0)
    assert biz is not None
    assert register(ark, "1", 1) is None
    ark.broke(biz, 2, "Install Failed", null_pointer())
    assert register(ark, "1", 3) is None
    assert biz.state is ModuleState.BROKEN
    ark.uninstall(biz)
    assert register(ark, "1", 4) is not None


def test_a_failed_module_is_removed_by_default() -> None:
    ark = runtime()
    biz = register(ark, "1", 0)
    assert biz is not None
    ark.broke(biz, 1, "Install Failed", null_pointer())
    assert ark.modules == {}


def test_a_starting_module_cannot_be_uninstalled() -> None:
    ark = runtime()
    register(ark, "1", 0)
    with pytest.raises(JavaError, match=r"BizState must be ACTIVATED, DEACTIVATED or BROKEN\."):
        ark.uninstall(installed(ark, "1"))
    assert ark.modules.get("biz:2") is None


def test_uninstalling_the_serving_version_activates_no_other() -> None:
    ark = runtime()
    install(ark, "1")
    second = install(ark, "2")
    ark.uninstall(installed(ark, "1"))
    assert [biz.state for biz in ark.modules.values()] == [ModuleState.DEACTIVATED]
    assert ark.switch(installed(ark, "2"), 9)
    assert second.state is ModuleState.ACTIVATED


class Life(RuleBasedStateMachine):
    """Operations in any order keep at most one active version, and records in the order of time."""

    @initialize(mode=st.sampled_from([MultiVersion.DEFAULT, MultiVersion.SWITCH]), stays=st.booleans())
    def begin(self, mode: MultiVersion, stays: bool) -> None:
        self.ark = runtime(mode, broken_stays=stays)
        self.now = 0
        self.starting: list[Biz] = []

    versions = st.sampled_from(["1", "2", "3"])

    @rule(version=versions)
    def register(self, version: str) -> None:
        self.now += 1
        taken = self.ark.modules.get(f"biz:{version}") is not None
        biz = register(self.ark, version, self.now)
        assert (biz is None) == taken
        if biz is not None:
            self.starting.append(biz)

    @rule(fails=st.booleans())
    def finish(self, fails: bool) -> None:
        if self.starting:
            self.now += 1
            biz = self.starting.pop()
            if fails:
                self.ark.broke(biz, self.now, "Install Failed", null_pointer())
            else:
                self.ark.started(biz, self.now)

    @rule(version=versions)
    def uninstall(self, version: str) -> None:
        biz = self.ark.modules.get(f"biz:{version}")
        if biz is not None and biz.state is ModuleState.RESOLVED:
            with pytest.raises(JavaError):
                self.ark.uninstall(biz)
        elif biz is not None:
            self.ark.uninstall(biz)
            assert self.ark.modules.get(f"biz:{version}") is None

    @rule(version=versions)
    def switch(self, version: str) -> None:
        biz = self.ark.modules.get(f"biz:{version}")
        if biz is not None:
            may = biz.state in (ModuleState.ACTIVATED, ModuleState.DEACTIVATED)
            self.now += 1
            assert self.ark.switch(biz, self.now) == may
            assert (biz.state is ModuleState.ACTIVATED) == may

    @invariant()
    def one_serves(self) -> None:
        modules = self.ark.modules.values()
        assert sum(biz.state is ModuleState.ACTIVATED for biz in modules) <= 1
        for biz in modules:
            times = [record.time for record in biz.records]
            assert times == sorted(times)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
