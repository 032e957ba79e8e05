"""The history keeps the newest operations of each module and base."""

from controlplane.domain.base.outcomes import (
    MESSAGE_LIMIT,
    OPERATIONS_OF_A_BASE,
    OPERATIONS_OF_A_MODULE,
    Ended,
    History,
    remember,
)
from controlplane.domain.base.replies import Effect, Meaning
from controlplane.domain.facts import ModuleSpec, Verb
from controlplane.domain.identity import ModuleKey


def ended(name: str, message: str = "", *, verb: Verb = Verb.INSTALL, effect: Effect = Effect.DONE) -> Ended:
    spec = ModuleSpec(ModuleKey(name, "1"), "url")
    return Ended(verb, spec, Meaning(effect, reason="Why", message=message), 1.5)


def test_an_operation_is_kept_with_outcome_time_and_reason() -> None:
    (kept,) = remember((), ended("biz", "no such jar", effect=Effect.FAILED), wall=7.0)
    assert (kept.wall, kept.ended) == (7.0, ended("biz", "no such jar", effect=Effect.FAILED))


def test_only_the_oldest_operations_of_a_module_are_forgotten() -> None:
    history: History = remember((), ended("quiet"), wall=0.0)
    for number in range(OPERATIONS_OF_A_MODULE + 3):
        history = remember(history, ended("busy"), wall=float(number + 1))
    assert [o.wall for o in history if o.ended.spec.key.name == "busy"] == [
        float(n) for n in range(4, OPERATIONS_OF_A_MODULE + 4)
    ]
    assert history[0].ended.spec.key.name == "quiet"


def test_the_history_of_a_base_is_bounded() -> None:
    history: History = ()
    for number in range(OPERATIONS_OF_A_BASE + 5):
        history = remember(history, ended(f"biz{number}", "x" * 10_000), wall=float(number))
    assert len(history) == OPERATIONS_OF_A_BASE
    assert history[-1].ended.spec.key.name == f"biz{OPERATIONS_OF_A_BASE + 4}"
    assert {len(o.ended.meaning.message) for o in history} == {MESSAGE_LIMIT}
