"""Every command ends by the request timeout, whatever the server does, and says what the server said."""

import grpc
import pytest

from tests.fakes.tooling import FakeTooling, Fault
from tests.integration.mctl.conftest import Mctl, module, vnode


def test_the_request_timeout_bounds_all_pages_of_an_answer(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode(f"base-{number}") for number in range(40)]
    fake.page_limit, fake.delay = 1, 0.1
    outcome = mctl("get", "vnodes", "--request-timeout", "1s")
    assert outcome.code == 5
    assert "did not answer within 1s" in outcome.err
    assert len(fake.requests["ListVNodes"]) < 20


@pytest.mark.parametrize("argv", [("get", "modules", "-l", "zone=a"), ("describe", "module", "biz1")])
def test_it_bounds_all_questions_of_a_command(fake: FakeTooling, mctl: Mctl, argv: tuple[str, ...]) -> None:
    fake.modules, fake.vnodes = [module("base-1")], [vnode("base-1", zone="a")]
    assert mctl(*argv).code == 0
    fake.delay = 0.7
    outcome = mctl(*argv, "--request-timeout", "1s")
    assert outcome.code == 5
    assert "did not answer within 1s" in outcome.err


@pytest.mark.parametrize(
    "argv",
    [
        ("get", "vnodes"),
        ("get", "vnodes", "--watch"),
        ("get", "modules", "--watch"),
        ("get", "gateways", "--watch"),
        ("events",),
        ("events", "--watch"),
        ("drain", "replica-0"),
        ("install", "biz1", "--version", "1", "--url", "https://repo.example/a.jar", "--all"),
        ("wait", "vnode/base-1"),
        ("rollout", "status", "module/biz1"),
    ],
)
def test_every_command_ends_when_nothing_is_answered(fake: FakeTooling, mctl: Mctl, argv: tuple[str, ...]) -> None:
    fake.delay = 60.0
    outcome = mctl(*argv, "--request-timeout", "500ms")
    assert outcome.code == 5
    assert "did not answer within 0.5s" in outcome.err


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (
            Fault(grpc.StatusCode.UNAVAILABLE, "the cluster is away", reason="CLUSTER_TRANSIENT"),
            5,
            "cannot do it now: the cluster is away",
        ),
        (
            Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "EMBEDDED_DB=/x: the disk is full", reason="CLUSTER_FULL"),
            1,
            "mctl: EMBEDDED_DB=/x: the disk is full",
        ),
    ],
)
def test_what_the_control_plane_says_is_not_taken_for_a_lost_connection(
    fake: FakeTooling, mctl: Mctl, fault: Fault, code: int, words: str
) -> None:
    fake.fail("ListVNodes", *[fault] * 100)
    outcome = mctl("get", "vnodes", "--request-timeout", "300ms")
    assert outcome.code == code
    assert words in outcome.err
    assert "cannot reach" not in outcome.err
