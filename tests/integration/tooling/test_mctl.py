"""mctl against a real control plane: the commands of the README, and refusals that name the field at fault."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests import bearer
from tests.programs import ControlPlane, HttpGateway, Mctl, Programs, SimulatedBase, ask, eventually

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mctl, list[SimulatedBase]]]:
    folder = tmp_path_factory.mktemp("tooling")
    with Programs(folder) as programs:
        control_plane = ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=str(folder / "cluster.db")).start()
        gateway = HttpGateway(programs, control_plane.address).start()
        bases = [
            SimulatedBase(programs, gateway.url, identity, "--multi-version", "both").start()
            for identity in ("base-1", "base-2")
        ]
        mctl = control_plane.mctl()
        for base in bases:
            mctl("wait", "--for=ready", f"vnode/{base.identity}", "--timeout", "30s")
        yield mctl, bases


def test_vnodes_show_what_the_contract_promises(stage: tuple[Mctl, list[SimulatedBase]]) -> None:
    mctl, _ = stage
    items = mctl.items("get", "vnodes")
    assert [item["name"] for item in items] == ["vnode.base-1.dev", "vnode.base-2.dev"]
    first = items[0]
    assert {key: first[key] for key in ("base", "clusterName", "version", "tunnel", "state", "ready", "owner")} == {
        "base": "base-1",
        "clusterName": "default",
        "version": "1.0.0",
        "tunnel": "http",
        "state": "Ready",
        "ready": True,
        "owner": "controlplane",
    }
    assert mctl("get", "vnodes", "-o", "name").split() == ["vnode/vnode.base-1.dev", "vnode/vnode.base-2.dev"]
    (gateway,) = mctl.items("get", "gateways")
    assert (gateway["id"], gateway["tunnel"], gateway["watched"]) == ("http-gateway", "http", 2)


def test_replicas_and_shards_are_shown_and_the_only_replica_is_not_drained(
    stage: tuple[Mctl, list[SimulatedBase]],
) -> None:
    mctl, _ = stage
    (replica,) = mctl.items("get", "replicas")
    assert (replica["id"], replica["state"], replica["vnodes"]) == ("controlplane", "active", 2)
    assert (replica["self"], replica["tunnels"]) == (True, ["http"])
    shards = mctl.items("get", "shards", "--owner", "controlplane")
    assert [(shard["base"], shard["owner"], shard["state"]) for shard in shards] == [
        ("base-1", "controlplane", "active"),
        ("base-2", "controlplane", "active"),
    ]
    fences = {item["name"]: item["fence"] for item in mctl.items("get", "vnodes")}
    assert {shard["vnode"]: shard["fence"] for shard in shards} == fences
    assert all(shard["since"] for shard in shards)
    refused = mctl("drain", "controlplane", "--wait", code=1)
    assert refused.startswith("mctl: controlplane is the last replica that takes VNodes: start another one")
    assert "there is no live replica 'nobody'; there are: controlplane" in mctl("drain", "nobody", code=3)
    assert "takes VNodes again; it owns 2" in mctl("drain", "controlplane", "--undo")
    assert [item["state"] for item in mctl.items("get", "replicas")] == ["active"]


def test_a_manifest_goes_all_the_way_and_back(stage: tuple[Mctl, list[SimulatedBase]]) -> None:
    mctl, bases = stage
    manifest = str(EXAMPLES / "biz1.yaml")
    assert "created" in mctl("apply", "-f", manifest)
    mctl("wait", "--for=ready", "-f", manifest, "--timeout", "30s")
    (module,) = mctl.items("get", "modules")
    assert (module["name"], module["version"], module["state"], module["ready"]) == ("biz1", "0.0.1", "ACTIVATED", True)
    assert (module["namespace"], module["pod"]) == ("default", "biz1")
    assert "unchanged" in mctl("apply", "-f", manifest)
    assert sum(len(base.commands("installBiz")) for base in bases) == 1
    mctl("delete", "-f", manifest)
    mctl("wait", "--for=gone", "-f", manifest, "--timeout", "30s")
    assert mctl.items("get", "modules") == []
    assert [base.modules() for base in bases] == [{}, {}]


def test_install_and_uninstall_without_a_manifest(stage: tuple[Mctl, list[SimulatedBase]]) -> None:
    mctl, bases = stage
    url = "https://repo.example/biz2-1.0.0.jar"
    mctl("install", "biz2", "--version", "1.0.0", "--url", url, "--all")
    mctl("install", "biz2", "--version", "1.0.0", "--url", url, "--all")
    mctl("wait", "--for=ready", "module/biz2:1.0.0", "--timeout", "30s")
    assert [base.modules() for base in bases] == [{"biz2:1.0.0": "activated"}] * 2
    assert [len(base.commands("installBiz")) for base in bases if base.commands("installBiz")][-1] >= 1
    assert "ModuleInstalled" in mctl("events")
    assert "biz2" in mctl("describe", "vnode", "base-1")
    mctl("uninstall", "biz2", "--version", "1.0.0", "--base", "base-1")
    mctl("wait", "--for=gone", "module/biz2:1.0.0", "--base", "base-1", "--timeout", "30s")
    assert bases[0].modules() == {}
    mctl("uninstall", "biz2", "--version", "1.0.0", "--selector", "base.koupleless.io/host-name=base-2")
    mctl("wait", "--for=gone", "module/biz2:1.0.0", "--timeout", "30s")
    assert "no Pod stands for module biz2:1.0.0" in mctl("uninstall", "biz2", "--version", "1.0.0", "--all", code=3)


def test_a_rollout_is_followed_to_its_end_or_to_what_is_wrong(stage: tuple[Mctl, list[SimulatedBase]]) -> None:
    mctl, bases = stage
    manifest = str(EXAMPLES / "deployment.yaml")
    mctl("apply", "-f", manifest)
    lines = mctl("rollout", "status", "deployment/biz1", "--timeout", "60s").splitlines()
    assert lines[-1] == 'deployment "biz1" successfully rolled out'
    assert 'module "biz1" successfully rolled out' in mctl("rollout", "status", "module/biz1")
    past = mctl("describe", "module", "biz1")
    assert "install" in past[past.index("Operations:") :]
    mctl("rollout", "status", "deployment/nobody", code=3)
    mctl("delete", "-f", manifest)
    mctl("wait", "--for=gone", "-f", manifest, "--timeout", "60s")
    bases[0].control("fail?module=biz9")
    url = "https://repo.example/biz9-1.0.0.jar"
    mctl("install", "biz9", "--version", "1.0.0", "--url", url, "--all")
    late = mctl("rollout", "status", "module/biz9:1.0.0", "--all", "--timeout", "5s", code=4)
    assert "1 of 2 updated bases are available" in late
    assert "vnode.base-1.dev" in late
    bases[0].control("heal")
    mctl("rollout", "status", "module/biz9:1.0.0", "--all", "--timeout", "60s")
    mctl("uninstall", "biz9", "--version", "1.0.0", "--all")
    mctl("wait", "--for=gone", "module/biz9", "--timeout", "30s")


def test_a_module_that_is_not_ours_is_shown_as_unmanaged(stage: tuple[Mctl, list[SimulatedBase]]) -> None:
    mctl, bases = stage
    body = {"bizName": "foreign", "bizVersion": "1", "bizUrl": "https://repo.example/foreign-1.jar"}
    code, text = ask(f"http://127.0.0.1:{bases[0].port}/installBiz", method="POST", body=json.dumps(body).encode())
    assert code == 200, text
    found = eventually(lambda: mctl.items("get", "modules", "--unmanaged"), within=30, what="the foreign module")
    assert [(item["name"], item["vnode"]) for item in found] == [("foreign", "vnode.base-1.dev")]
    ask(f"http://127.0.0.1:{bases[0].port}/uninstallBiz", method="POST", body=json.dumps(body).encode())
    eventually(lambda: mctl.items("get", "modules") == [], within=30, what="no module left")


def test_a_deployment_and_a_daemonset_become_modules(stage: tuple[Mctl, list[SimulatedBase]]) -> None:
    mctl, _ = stage
    for name in ("deployment.yaml", "daemonset.yaml", "biz1-biz2.yaml", "variables.yaml"):
        manifest = str(EXAMPLES / name)
        mctl("apply", "-f", manifest)
        mctl("wait", "--for=ready", "-f", manifest, "--timeout", "60s")
        mctl("delete", "-f", manifest)
        mctl("wait", "--for=gone", "-f", manifest, "--timeout", "60s")
        eventually(lambda: mctl.items("get", "modules") == [], within=30, what="no module left")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((" image: ", " imag: "), 'spec.containers[0].imag: unknown field (did you mean "image"?)'),
        (("name: biz1\n", "name: Biz_1\n"), "metadata.name: Invalid value"),
        (("kind: Pod", "kind: Pot"), "kind: no matches for kind"),
    ],
)
def test_a_bad_manifest_is_refused_with_file_line_and_field(
    stage: tuple[Mctl, list[SimulatedBase]], tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    mctl, _ = stage
    text = (EXAMPLES / "biz1.yaml").read_text()
    assert change[0] in text
    bad = tmp_path / "bad.yaml"
    bad.write_text(text.replace(*change, 1))
    line = next(n for n, text in enumerate(bad.read_text().splitlines(), start=1) if change[1].strip() in text)
    printed = mctl("apply", "-f", str(bad), code=2)
    assert words in printed
    assert f"bad.yaml:{line}:" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("install", "Bad_Name", "--version", "1", "--url", "http://x/y.jar", "--all"), 2, "name: "),
        (("install", "biz", "--version", "1:2", "--url", "http://x/y.jar", "--all"), 2, "version: "),
        (("install", "biz", "--version", "1", "--url", "http://x/y.jar", "--base", "nobody"), 3, "nobody"),
        (("install", "biz", "--version", "1", "--url", "http://x/y.jar", "-l", "a=b=c"), 2, "selector"),
        (("get", "vnodes", "nobody"), 3, "nobody"),
    ],
)
def test_refusals_name_what_is_wrong(
    stage: tuple[Mctl, list[SimulatedBase]], arguments: tuple[str, ...], code: int, words: str
) -> None:
    mctl, _ = stage
    assert words in mctl(*arguments, code=code)


def test_reflection_and_health_are_served(stage: tuple[Mctl, list[SimulatedBase]]) -> None:
    mctl, _ = stage
    with bearer.channel(mctl.server, mctl.state) as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert {
            "koupleless.tunnel.v1.TunnelService",
            "koupleless.modulecontroller.v1.ModuleControllerService",
        } <= services
        request = health_pb2.HealthCheckRequest(service="koupleless.tunnel.v1.TunnelService")
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = check(request, timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
