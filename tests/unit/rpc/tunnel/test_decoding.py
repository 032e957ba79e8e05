"""Messages of a gateway are checked before anything uses them."""

import dataclasses
import unicodedata
from collections.abc import Iterator
from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.domain.facts import (
    Address,
    BaselineQuery,
    BaseState,
    BatchInstalled,
    Fact,
    FenceSeen,
    Health,
    Heartbeat,
    Metaspace,
    ModuleList,
    ModuleState,
    OrderResult,
    OutcomeUnknown,
    PollFailed,
    Refusal,
    Refused,
    Reply,
    ReplyCode,
    TunnelKind,
    TunnelState,
)
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.rpc.tunnel import decoding
from controlplane.rpc.tunnel.decoding import (
    HIGHEST_EPOCH,
    HIGHEST_FENCE,
    LONGEST_MESSAGE,
    LONGEST_NAME,
    LONGEST_REASON,
    MOST_MODULES,
    Unreadable,
)
from tests.protobufs import messages

HTTP, MQTT = TunnelKind.HTTP, TunnelKind.MQTT


def read(report: pb.Report, tunnel: TunnelKind = HTTP) -> Fact | OrderResult:
    found = decoding.report(report, env="dev", tunnel=tunnel)
    assert isinstance(found, tuple)
    assert found[0] == report.base_id
    return found[1]


def heartbeat(ip: str = "10.0.0.7", port: int = 1238, **fields: str) -> pb.Report:
    return pb.Report(base_id="b1", heartbeat=pb.Heartbeat(address=pb.Address(ip=ip, port=port), **fields))  # type: ignore[arg-type]


def listed(*modules: pb.Module, epoch: int = 0) -> pb.Report:
    return pb.Report(base_id="b1", modules=pb.Modules(complete=True, modules=modules, epoch=epoch))


def module(**fields: object) -> pb.Module:
    return pb.Module(**{"name": "biz1", "version": "1", "state": pb.MODULE_STATE_ACTIVATED, **fields})  # type: ignore[arg-type]


def refused(report: pb.Report, tunnel: TunnelKind = HTTP) -> str:
    with pytest.raises(Unreadable) as error:
        decoding.report(report, env="dev", tunnel=tunnel)
    assert str(error.value).isprintable()
    return error.value.reason


def test_a_heartbeat_is_read() -> None:
    sent = heartbeat(name="shop", version="1", cluster_name="c", host_name="h")
    sent.heartbeat.state = pb.BASE_STATE_ACTIVATED
    assert read(sent) == Heartbeat("shop", "1", "c", "h", Address("10.0.0.7", 1238), BaseState.ACTIVATED)
    sent.heartbeat.state = 77  # type: ignore[assignment]
    fact = read(sent)
    assert isinstance(fact, Heartbeat)
    assert fact.state is BaseState.UNSPECIFIED


@pytest.mark.parametrize("identity", ["", "UPPER", "a/b", "x" * 300, "unknown-Ab3Xy", "a\nb", "é", "-a"])
@pytest.mark.parametrize("fact", ["heartbeat", "health", "modules", "baseline_query", "poll_failed", "fence_seen"])
def test_an_identity_that_no_node_can_have_is_refused_in_every_report(identity: str, fact: str) -> None:
    report = pb.Report(base_id=identity)
    getattr(report, fact).SetInParent()
    assert refused(report) == "identity"


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("127.0.0.1", "127.0.0.1"),
        ("169.254.1.1", "169.254.1.1"),
        ("FD00::0001", "fd00::1"),
        ("::1", "::1"),
        ("fe80::1", "fe80::1"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
    ],
)
def test_addresses_are_literals_in_one_form(sent: str, read_as: str) -> None:
    fact = read(heartbeat(sent))
    assert isinstance(fact, Heartbeat)
    assert fact.address == Address(read_as, 1238)


@pytest.mark.parametrize(
    "ip",
    [
        "",
        "unknown",
        "evil.example.com",
        "10.0.0.7\n",
        "10.0.0.8\x1b[31m",
        "10.0.0.07",
        "10.0.0",
        "10.0.0.7:80",
        "[fd00::1]",
        "fe80::1%eth0",
        "1" * 10_000,
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "ff02::1",
        "::ffff:0.0.0.0",
    ],
)
def test_an_address_of_no_host_is_refused(ip: str) -> None:
    assert refused(heartbeat(ip)) == "address"
    # Over MQTT no gateway connects to it, and a base that finds none sends "unknown".
    fact = read(heartbeat(ip), MQTT)
    assert isinstance(fact, Heartbeat)
    assert fact.address == Address("", 0)


def test_ports_are_checked() -> None:
    assert refused(heartbeat(port=65536)) == "number"
    assert refused(heartbeat(port=0)) == "address"
    fact = read(heartbeat(port=0), MQTT)
    assert isinstance(fact, Heartbeat)
    assert fact.address == Address("10.0.0.7", 0)


def test_texts_are_cut_and_freed_of_control_characters() -> None:
    fact = read(heartbeat(name="shop\x1b[31m\n", version="1\x00", host_name="h" * 1000))
    assert isinstance(fact, Heartbeat)
    assert (fact.name, fact.version, len(fact.host_name)) == ("shop [31m ", "1 ", LONGEST_NAME)
    failed = read(pb.Report(base_id="b1", poll_failed=pb.PollFailed(reason="cut\r\n\tat \x07" + "x" * 99_999)))
    assert isinstance(failed, PollFailed)
    assert failed.reason.startswith("cut \n\tat  x")
    assert len(failed.reason) == LONGEST_REASON


def test_texts_of_bases_come_in_without_secrets() -> None:
    url = "https://u:pass-word@repo.example/biz1.jar?Signature=5ecret"
    for before in ("", "x" * (LONGEST_MESSAGE - 20)):
        text = f"{before} cannot fetch {url}"
        reply = pb.Reply(message=text, stack_trace=text, modules=[pb.Module(name="a", version="1", message=text)])
        batch = pb.BatchInstallResult(reply=reply, items=[pb.BatchInstallResult.Item(url=url, reply=reply)])
        bad = pb.BatchInstallResult(items=[pb.BatchInstallResult.Item(url=f"{url}\n")])
        for message in (
            result(reply=reply),
            result(batch=batch),
            result(batch=bad),
            result(unknown=pb.Unknown(message=text)),
            result(refused=pb.Refused(message=text)),
        ):
            read_as = read(message)
            # By its URL a verdict finds its module.
            said = repr(read_as).replace(f"('{url}', ", "")
            assert "https://***@" in said or before
            assert not any(secret in said for secret in ("pass-word", "5ecret"))


def test_health_is_read_and_its_figures_are_checked() -> None:
    def health(*figures: int) -> pb.Report:
        used, committed, most = figures
        space = pb.Metaspace(used_bytes=used, committed_bytes=committed, max_bytes=most)
        return pb.Report(base_id="b1", health=pb.Health(state=pb.BASE_STATE_ACTIVATED, metaspace=space))

    assert read(health(1, 2, -1)) == Health(BaseState.ACTIVATED, Metaspace(1, -1), "")
    assert read(pb.Report(base_id="b1", health=pb.Health())) == Health(BaseState.UNSPECIFIED, None, "")
    for figures in ((-1, 0, 0), (0, -1, 0), (0, 0, -2)):
        assert refused(health(*figures)) == "number"
    assert read(pb.Report(base_id="b1", health=pb.Health(cpus=4))) == Health(BaseState.UNSPECIFIED, None, "", 4)
    assert refused(pb.Report(base_id="b1", health=pb.Health(cpus=65_536))) == "number"


def test_module_lists_are_read() -> None:
    at = Timestamp(seconds=1_790_000_000, nanos=5_999_999)
    fact = read(listed(module(changed_at=at, reason="Started", message="ok"), module(name="b", state=99), epoch=7))
    assert isinstance(fact, ModuleList)
    assert (fact.complete, fact.epoch) == (True, 7)
    first, second = fact.modules
    assert (first.key, first.state, first.changed_at) == (
        ModuleKey("biz1", "1"),
        ModuleState.ACTIVATED,
        1_790_000_000_005,
    )
    assert (second.state, second.changed_at) == (ModuleState.UNSPECIFIED, None)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (listed(module(changed_at=Timestamp(seconds=2**62))), "time"),
        (listed(module(changed_at=Timestamp(seconds=253_402_300_800))), "time"),
        (listed(module(changed_at=Timestamp(seconds=-1))), "time"),
        (listed(module(changed_at=Timestamp(nanos=-1))), "time"),
        (listed(module(changed_at=Timestamp(nanos=2**30))), "time"),
        (listed(module(name="")), "text"),
        (listed(module(version="")), "text"),
        (listed(module(version="1\n")), "text"),
        (listed(module(name="n" * (LONGEST_NAME + 1))), "text"),
        (listed(module(), epoch=HIGHEST_EPOCH + 1), "number"),
        (listed(*[module()] * (MOST_MODULES + 1)), "count"),
        (pb.Report(base_id="b1", fence_seen=pb.FenceSeen(fence=HIGHEST_FENCE + 1)), "number"),
        (pb.Report(base_id="b1", baseline_query=pb.BaselineQuery()), "text"),
        (pb.Report(base_id="b1", baseline_query=pb.BaselineQuery(query_id="q\x00")), "text"),
        (pb.Report(base_id="b1"), "unknown-report"),
    ],
)
def test_a_report_with_one_impossible_value_is_refused_whole(report: pb.Report, reason: str) -> None:
    assert refused(report) == reason


def test_other_reports_are_read() -> None:
    query = pb.BaselineQuery(query_id="q", name="n", version="v", cluster_name="c")
    assert read(pb.Report(base_id="b1", baseline_query=query)) == BaselineQuery("q", "n", "v", "c")
    assert read(pb.Report(base_id="b1", fence_seen=pb.FenceSeen(fence=HIGHEST_FENCE))) == FenceSeen(HIGHEST_FENCE)
    item = pb.BatchInstallResult.Item(url="https://repo.example/biz1.jar", reply=pb.Reply(code=pb.REPLY_CODE_SUCCESS))
    batch = read(pb.Report(base_id="b1", batch_install_result=pb.BatchInstallResult(items=[item])))
    assert batch == BatchInstalled(
        Reply(ReplyCode.UNSPECIFIED), (("https://repo.example/biz1.jar", Reply(ReplyCode.SUCCESS)),)
    )
    down = pb.Report(tunnel_state=pb.TunnelState(up=False, reason="away\x07"))
    assert decoding.report(down, env="dev", tunnel=HTTP) == TunnelState(False, "away ")


def result(base: str = "b1", **fields: object) -> pb.Report:
    return pb.Report(base_id=base, order_result=pb.OrderResult(**{"order_id": "o", **fields}))  # type: ignore[arg-type]


def test_results_are_read_or_unknown_outcomes() -> None:
    sent = result(refused=pb.Refused(reason=pb.REFUSAL_REASON_BUSY, message="m"))
    assert read(sent) == OrderResult(OrderId("o"), Refused(Refusal.BUSY, "m"))
    for odd in (
        result(),
        result(reply=pb.Reply(modules=[module(changed_at=Timestamp(seconds=2**62))])),
        result(batch=pb.BatchInstallResult(items=[pb.BatchInstallResult.Item()])),
        result(unknown=pb.Unknown(message="cut")),
    ):
        read_as = read(odd)
        assert isinstance(read_as, OrderResult)
        assert isinstance(read_as.outcome, OutcomeUnknown)
        assert read_as.outcome.message
    for nobody in (result(order_id=""), result(order_id="x" * 1000), result("A B")):
        with pytest.raises(Unreadable):
            read(nobody)


def test_hello_is_checked() -> None:
    good = {"gateway_id": "g", "instance_id": "i", "tunnel": pb.TUNNEL_KIND_MQTT, "env": "dev", "version": "1\n"}
    env, info = decoding.hello(pb.Hello(**good), connected_wall=1.0)  # type: ignore[arg-type]
    assert (info.gateway_id, info.instance, info.tunnel, env, info.version) == ("g", "i", MQTT, "dev", "1 ")
    for bad in ({"gateway_id": ""}, {"gateway_id": "g\n"}, {"instance_id": "x" * 1000}, {"tunnel": 9}, {"tunnel": 0}):
        with pytest.raises(Unreadable):
            decoding.hello(pb.Hello(**{**good, **bad}), connected_wall=1.0)  # type: ignore[arg-type]


def texts(value: object) -> Iterator[str]:
    """Yield all texts in a fact."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from texts(each)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts(getattr(value, field.name))


def shown(text: str) -> bool:
    """Return whether nothing in a text can drive a terminal."""
    return not any(unicodedata.category(character) == "Cc" and character not in "\t\n" for character in text)


@given(messages(pb.Report), st.sampled_from(TunnelKind))
def test_any_report_is_a_fact_that_can_be_shown_or_unreadable(report: pb.Report, tunnel: TunnelKind) -> None:
    with suppress(Unreadable):
        assert all(map(shown, texts(decoding.report(report, env="dev", tunnel=tunnel))))


@given(messages(pb.OrderResult))
def test_any_result_is_one_that_can_be_shown_or_unreadable(message: pb.OrderResult) -> None:
    with suppress(Unreadable):
        assert all(map(shown, texts(read(pb.Report(base_id="b1", order_result=message)))))


@given(st.binary(max_size=64))
def test_any_bytes_that_parse_are_a_report_or_unreadable(raw: bytes) -> None:
    with suppress(Unreadable, DecodeError):
        assert decoding.report(pb.Report.FromString(raw), env="dev", tunnel=HTTP)
