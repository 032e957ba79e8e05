"""mctl get and describe against a fake server: output, selection, errors."""

import json

import grpc
import pytest
import yaml
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from tests.fakes.tooling import FakeTooling, Fault
from tests.integration.mctl.conftest import Mctl, module, vnode


def test_json_items_carry_the_documented_keys(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1", zone="a")]
    fake.modules = [module("base-1", ready=False)]
    answer = json.loads(mctl("get", "vnodes", "-o", "json").out)
    assert list(answer) == ["items"]
    item = answer["items"][0]
    assert (
        item.items()
        >= {
            "name": "vnode.base-1.dev",
            "base": "base-1",
            "clusterName": "default",
            "version": "1.0.0",
            "tunnel": "http",
            "state": "Ready",
            "ready": True,
            "owner": "replica-0",
            "modules": 1,
            "lastSeen": None,
        }.items()
    )
    assert (
        json.loads(mctl("get", "modules", "-o", "json").out)["items"][0].items()
        >= {
            "vnode": "vnode.base-1.dev",
            "name": "biz1",
            "version": "0.0.1",
            "state": "BROKEN",
            "ready": False,
            "namespace": "default",
            "pod": "biz1-base-1",
            "reason": "StartFailed",
            "message": "port in use",
        }.items()
    )


def test_yaml_and_json_say_the_same(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1")]
    assert yaml.safe_load(mctl("get", "vnodes", "-o", "yaml").out) == json.loads(
        mctl("get", "vnodes", "-o", "json").out
    )


def test_every_page_is_read(fake: FakeTooling, mctl: Mctl) -> None:
    fake.page_limit = 3
    fake.vnodes = [vnode(f"base-{i}") for i in range(10)]
    assert mctl("get", "vnodes", "-o", "name").out.split() == [f"vnode/vnode.base-{i}.dev" for i in range(10)]
    assert len(fake.requests["ListVNodes"]) == 4


def test_table_in_a_pipe_is_plain_and_whole(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("x" * 200)]
    outcome = mctl("get", "vnodes", "-o", "wide")
    header, row = outcome.out.splitlines()
    assert header.split()[:3] == ["NAME", "CLUSTER", "VERSION"]
    assert "x" * 200 in row
    assert "\x1b" not in outcome.out
    assert mctl("get", "vnodes", "--no-headers").out.count("\n") == 1


def test_what_a_base_says_cannot_steer_the_terminal(fake: FakeTooling, mctl: Mctl) -> None:
    fake.modules = [module("base-1", ready=False)]
    fake.modules[0].message = "\x1b]0;owned\x07\x9b2J\u202eevil\nnext"
    for output in ("wide", "json", "yaml"):
        out = mctl("get", "modules", "-o", output).out
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out)
    assert json.loads(mctl("get", "modules", "-o", "json").out)["items"][0]["message"] == fake.modules[0].message
    assert len(mctl("get", "modules", "-o", "wide").out.splitlines()) == 2


def test_a_name_selects_and_an_unknown_one_is_not_found(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1")]
    fake.gateways = [pb.Gateway(id="gw-1"), pb.Gateway(id="gw-2")]
    assert mctl("get", "vnode", "base-1", "-o", "name").out == "vnode/vnode.base-1.dev\n"
    assert mctl("get", "gateways", "gw-2", "-o", "name").out == "gateway/gw-2\n"
    for kind in ("vnodes", "modules", "gateways", "replicas", "shards"):
        outcome = mctl("get", kind, "nosuch")
        assert outcome.code == 3
        assert outcome.err.count("\n") == 1
        assert "nosuch" in outcome.err


def test_selector_selects_vnodes_and_their_modules(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1", zone="a"), vnode("base-2", zone="b")]
    fake.modules = [module("base-1"), module("base-2")]
    assert mctl("get", "vnodes", "-l", "zone=b", "-o", "name").out == "vnode/vnode.base-2.dev\n"
    items = json.loads(mctl("get", "modules", "-l", "zone=a", "-o", "json").out)["items"]
    assert [m["vnode"] for m in items] == ["vnode.base-1.dev"]


def test_nothing_found_is_said_on_standard_error(mctl: Mctl) -> None:
    outcome = mctl("get", "vnodes")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "no vnodes found\n")
    assert json.loads(mctl("get", "vnodes", "-o", "json").out) == {"items": []}


def test_replicas_and_baseline(fake: FakeTooling, mctl: Mctl) -> None:
    fake.replicas = [
        pb.Replica(id="replica-0", address="10.0.0.1:50051", vnodes=3, state="draining", tunnels=["http", "mqtt"]),
        pb.Replica(id="replica-1", vnodes=1, state="gone"),
    ]
    fake.replicas[0].self = True
    fake.baseline = [pb.BaselineModule(name="biz1", version="0.0.1", url="https://repo.example/biz1.jar")]
    assert json.loads(mctl("get", "replicas", "-o", "json").out)["items"] == [
        {
            "id": "replica-0",
            "address": "10.0.0.1:50051",
            "vnodes": 3,
            "self": True,
            "state": "draining",
            "tunnels": ["http", "mqtt"],
        },
        {"id": "replica-1", "address": "", "vnodes": 1, "self": False, "state": "gone", "tunnels": []},
    ]
    assert [line.split() for line in mctl("get", "replicas").out.splitlines()] == [
        ["ID", "ADDRESS", "STATE", "VNODES", "TUNNELS", "SELF"],
        ["replica-0", "10.0.0.1:50051", "draining", "3", "http,mqtt", "yes"],
        ["replica-1", "-", "gone", "1", "-", "no"],
    ]
    out = mctl("baseline", "--cluster-name", "c1", "-o", "json").out
    assert json.loads(out)["items"] == [{"name": "biz1", "version": "0.0.1", "url": "https://repo.example/biz1.jar"}]
    request = fake.requests["GetBaseline"][0]
    assert isinstance(request, pb.GetBaselineRequest)
    assert request.cluster_name == "c1"


def test_shards_show_who_owns_what(fake: FakeTooling, mctl: Mctl) -> None:
    fake.page_limit = 2
    fake.replicas = [pb.Replica(id=name) for name in ("a", "b", "idle")]
    fake.shards = [
        pb.Shard(
            vnode=f"vnode.base-{number}.dev",
            base=f"base-{number}",
            owner="b" if number == 3 else "a",
            state="active",
            fence=number,
            since=Timestamp(seconds=1_790_000_000),
        )
        for number in range(5)
    ]
    table = [line.split() for line in mctl("get", "shards").out.splitlines()]
    assert table[0] == ["VNODE", "BASE", "OWNER", "STATE", "FENCE", "SINCE"]
    assert table[4] == ["vnode.base-3.dev", "base-3", "b", "active", "3", "2026-09-21T14:13:20.000Z"]
    assert len(table) == 6
    assert mctl("get", "shards", "--owner", "b", "-o", "name").out == "shard/vnode.base-3.dev\n"
    for output, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        assert read(mctl("get", "shard", "base-3", "-o", output).out)["items"] == [
            {
                "vnode": "vnode.base-3.dev",
                "base": "base-3",
                "owner": "b",
                "state": "active",
                "fence": 3,
                "since": "2026-09-21T14:13:20.000Z",
            }
        ]
    idle = mctl("get", "shards", "--owner", "idle")
    assert (idle.code, idle.err) == (0, "no shards found\n")
    for argv in (("nosuch",), ("--owner", "nosuch"), ("base-3", "--owner", "a")):
        assert mctl("get", "shards", *argv).code == 3


@pytest.mark.parametrize(
    "argv",
    [
        ("get", "vnodes"),
        ("get", "vnodes", "base-1"),
        ("get", "modules"),
        ("get", "gateways"),
        ("events",),
        ("describe", "vnode", "base-1"),
        ("describe", "module", "biz1"),
    ],
)
def test_what_an_answer_lacks_is_reported_once_on_standard_error(
    fake: FakeTooling, mctl: Mctl, argv: tuple[str, ...]
) -> None:
    fake.vnodes = [vnode(f"base-{number}") for number in range(1, 4)]
    fake.modules = [module(f"base-{number}") for number in range(1, 4)]
    fake.page_limit = 1
    whole = mctl(*argv)
    assert (whole.code, whole.err.replace("no events found\n", "").replace("no gateways found\n", "")) == (0, "")
    fake.unreachable = ["replica-1", "replica-\x1b2"]
    outcome = mctl(*argv)
    warnings = [line for line in outcome.err.splitlines() if line.startswith("mctl: ")]
    assert (outcome.code, outcome.out) == (0, whole.out)
    assert warnings == [
        "mctl: warning: cannot ask replicas replica-1, replica-\N{REPLACEMENT CHARACTER}2: "
        "what they own is shown as the cluster has it, without what only they know"
    ]


def test_describe_shows_modules_and_events(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1", zone="a")]
    fake.modules = [module("base-1", ready=False)]
    fake.events = [
        pb.Event(
            type="Warning", reason="InstallFailed", message="no jar", vnode="vnode.base-1.dev", module="biz1:0.0.1"
        )
    ]
    for argv in (("vnode", "base-1"), ("module", "biz1:0.0.1")):
        outcome = mctl("describe", *argv)
        assert outcome.code == 0
        assert {"StartFailed", "port", "InstallFailed"} <= set(outcome.out.split())
    assert mctl("describe", "module", "biz1:9").code == 3


def test_describe_module_shows_its_last_operations(fake: FakeTooling, mctl: Mctl) -> None:
    fake.modules = [module("base-1"), module("base-2")]
    fake.past = [
        pb.PastOperation(
            vnode="vnode.base-1.dev",
            name="biz1",
            version=version,
            verb="install",
            outcome="failed",
            reason="ArtifactUnavailable",
            message=f"no jar {version}",
            time=Timestamp(seconds=1_790_000_000),
            duration=Duration(seconds=1, nanos=500_000_000),
        )
        for version in ("0.0.1", "0.0.2")
    ]
    lines = mctl("describe", "module", "biz1:0.0.1").out.splitlines()
    found = lines.index("Operations:")
    assert lines[found + 1].split() == ["TIME", "VERB", "OUTCOME", "TOOK", "REASON", "MESSAGE"]
    assert lines[found + 2].split()[1:] == ["install", "failed", "1.500s", "ArtifactUnavailable", "no", "jar", "0.0.1"]
    assert "no jar 0.0.2" not in "\n".join(lines)
    assert lines.count("Operations: none") == 1


def test_unmanaged_modules_are_asked_for_and_distinguished(fake: FakeTooling, mctl: Mctl) -> None:
    own, foreign, left = module("base-1"), module("base-1", "biz2"), module("base-1", "biz3")
    own.management = pb.MANAGEMENT_MANAGED
    foreign.management = pb.MANAGEMENT_UNMANAGED
    left.management = pb.MANAGEMENT_ORPHAN
    fake.modules = [own, foreign, left]
    rows = [line.split() for line in mctl("get", "modules").out.splitlines()]
    assert rows[0][5] == "MANAGEMENT"
    assert [row[5] for row in rows[1:]] == ["managed", "unmanaged", "orphan"]
    items = json.loads(mctl("get", "modules", "--unmanaged", "-o", "json").out)["items"]
    assert [(item["name"], item["management"]) for item in items] == [("biz2", "unmanaged")]


def test_an_impossible_time_and_an_unknown_state_are_shown(fake: FakeTooling, mctl: Mctl) -> None:
    odd = vnode("base-1")
    odd.last_seen.seconds = 2**62
    odd.state = 99  # type: ignore[assignment]  # a newer server
    fake.vnodes = [odd]
    item = json.loads(mctl("get", "vnodes", "-o", "json").out)["items"][0]
    assert (item["state"], item["lastSeen"]) == ("Unknown", None)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (
            Fault(grpc.StatusCode.INVALID_ARGUMENT, "bad", (("selector", "is no selector"),)),
            2,
            "selector: is no selector",
        ),
        (Fault(grpc.StatusCode.NOT_FOUND, "none"), 3, "none"),
        (Fault(grpc.StatusCode.UNIMPLEMENTED, "unknown method"), 1, "this version"),
        (Fault(grpc.StatusCode.INTERNAL, "a\x1b[31mb"), 1, "a\N{REPLACEMENT CHARACTER}[31mb"),
    ],
)
def test_errors_of_the_server_are_one_line(fake: FakeTooling, mctl: Mctl, fault: Fault, code: int, words: str) -> None:
    fake.fail("ListVNodes", fault)
    outcome = mctl("get", "vnodes")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (code, "", 1)
    assert words in outcome.err


def test_unavailable_is_retried_within_the_request_timeout(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1")]
    fake.fail("ListVNodes", *[Fault(code) for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)] * 2)
    assert mctl("get", "vnodes", "-o", "name").code == 0
    assert len(fake.requests["ListVNodes"]) == 5
    fake.fail("ListVNodes", *[Fault(grpc.StatusCode.UNAVAILABLE)] * 100)
    assert mctl("get", "vnodes", "--request-timeout", "300ms").code == 5


def test_a_server_that_is_not_there_is_unreachable_with_a_remedy(mctl: Mctl) -> None:
    outcome = mctl("--server", "127.0.0.1:1", "get", "vnodes", "--request-timeout", "200ms")
    assert outcome.code == 5
    assert outcome.err == (
        "mctl: cannot reach the control plane at 127.0.0.1:1 (connection refused): "
        "is module-controller running? set MCTL_SERVER or --server\n"
    )


def test_server_after_the_command_wins(fake: FakeTooling, mctl: Mctl) -> None:
    assert mctl("--server", "127.0.0.1:1", "get", "vnodes", "--request-timeout", "200ms").code == 5
    assert mctl("get", "vnodes", "--server", "127.0.0.1:1", "--request-timeout", "200ms").code == 5
    assert not fake.requests["ListVNodes"]


@pytest.mark.parametrize(
    "argv",
    [
        ("get", "vnodes", "--nosuch"),
        ("get", "vnodes", "-o", "xml"),
        ("get", "vnodes", "--request-timeout", "soon"),
        ("--server", "nowhere", "get", "vnodes"),
        ("--server", "127.0.0.1:70000", "get", "vnodes"),
        ("get", "vnodes", "a", "-l", "b=c"),
        ("get", "modules", "-w", "-l", "b=c"),
        ("events", "-o", "name"),
        ("install", "biz1", "--version", "1", "--url", "u"),
        ("install", "biz1", "--version", "1", "--url", "u", "--all", "--base", "b"),
        ("wait",),
        ("wait", "node/x"),
        ("wait", "pod"),
        ("drain",),
        ("drain", "a", "--undo", "--wait"),
        ("drain", "a", "--timeout", "5s"),
    ],
)
def test_wrong_command_lines_are_usage_errors(fake: FakeTooling, mctl: Mctl, argv: tuple[str, ...]) -> None:
    outcome = mctl(*argv)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert not any(fake.requests.values())
