"""The history keeps the newest operations of each module and base."""

from controlplane.domain.base.history import MESSAGE_LIMIT, PER_BASE, PER_MODULE, History, remember
from controlplane.domain.base.outcomes import Ended
from controlplane.domain.base.replies import Effect, Meaning
from controlplane.domain.facts import ModuleSpec, Verb
from controlplane.domain.identity import ModuleKey


def ended(name: str, message: str = "", *, verb: Verb = Verb.INSTALL, effect: Effect = Effect.DONE) -> Ended:
    spec = ModuleSpec(ModuleKey(name, "1"), "url")
    return Ended(verb, spec, Meaning(effect, reason="Why", message=message), 1.5)


def test_an_operation_is_kept_with_outcome_time_and_reason() -> None:
    (kept,) = remember((), ended("biz", "no such jar", effect=Effect.FAILED), wall=7.0)
    assert (kept.key, kept.verb, kept.effect) == (ModuleKey("biz", "1"), Verb.INSTALL, Effect.FAILED)
    assert (kept.wall, kept.seconds, kept.reason, kept.message) == (7.0, 1.5, "Why", "no such jar")


def test_only_the_oldest_operations_of_a_module_are_forgotten() -> None:
    history: History = remember((), ended("quiet"), wall=0.0)
    for number in range(PER_MODULE + 3):
        history = remember(history, ended("busy"), wall=float(number + 1))
    assert [o.wall for o in history if o.key.name == "busy"] == [float(n) for n in range(4, PER_MODULE + 4)]
    assert history[0].key.name == "quiet"


def test_the_history_of_a_base_is_bounded() -> None:
    history: History = ()
    for number in range(PER_BASE + 5):
        history = remember(history, ended(f"biz{number}", "x" * 10_000), wall=float(number))
    assert len(history) == PER_BASE
    assert history[-1].key.name == f"biz{PER_BASE + 4}"
    assert {len(o.message) for o in history} == {MESSAGE_LIMIT}
