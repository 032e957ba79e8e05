"""mctl install, uninstall, apply, delete, wait and events against a fake server: requests, output, exit codes."""

import json
from pathlib import Path

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from tests.fakes.tooling import FakeTooling, Fault, LiveObject
from tests.integration.mctl.conftest import Mctl, module, vnode

EXAMPLES = Path(__file__).parents[3] / "examples"

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: biz1
spec:
  containers:
    - name: biz1
      image: https://repo.example/biz1.jar
"""


@pytest.fixture
def pod(tmp_path: Path) -> str:
    path = tmp_path / "pod.yaml"
    path.write_text(POD)
    return str(path)


def test_install_names_target_and_keeps_its_request_id_over_retries(fake: FakeTooling, mctl: Mctl) -> None:
    fake.operations = [pb.ModuleOperation(vnode="vnode.b.dev", namespace="default", pod="biz1-x", result="created")]
    fake.fail("InstallModule", Fault(grpc.StatusCode.UNAVAILABLE), Fault(grpc.StatusCode.UNAVAILABLE))
    outcome = mctl("install", "biz1", "--version", "0.0.1", "--url", "https://repo.example/a.jar", "--base", "b")
    assert outcome.code == 0
    assert outcome.out.split()[-4:] == ["vnode.b.dev", "default", "biz1-x", "created"]
    requests = fake.requests["InstallModule"]
    assert len(requests) == 3
    assert all(r == requests[0] for r in requests)
    first = requests[0]
    assert isinstance(first, pb.InstallModuleRequest)
    assert first.request_id
    assert (first.target.base, first.name, first.version, first.namespace) == ("b", "biz1", "0.0.1", "default")


def test_uninstall_targets(fake: FakeTooling, mctl: Mctl) -> None:
    fake.operations = [pb.ModuleOperation(vnode="v", namespace="n", pod="p", result="deleted")]
    assert mctl("uninstall", "biz1", "--version", "1", "--all", "-o", "name").out == "pod/p\n"
    assert mctl("uninstall", "biz1", "--version", "1", "-l", "zone=a").code == 0
    targets = [r.target for r in fake.requests["UninstallModule"] if isinstance(r, pb.UninstallModuleRequest)]
    assert targets == [pb.Target(all=True), pb.Target(selector="zone=a")]


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_what_failed_is_reported_by_cause_and_the_code_says_in_part(fake: FakeTooling, mctl: Mctl, verb: str) -> None:
    def operation(number: int, result: str, message: str = "") -> pb.ModuleOperation:
        reason = "Unavailable" if message else ""
        return pb.ModuleOperation(
            vnode=f"v{number}", namespace="n", pod=f"p{number}", result=result, reason=reason, message=message
        )

    url = ("--url", "https://repo.example/a.jar") if verb == "install" else ()
    argv = (verb, "biz1", "--version", "1", "--all", *url)
    failed = [operation(number, "failed", "too many requests (HTTP 429)") for number in range(7)]
    fake.operations = [*failed, operation(7, "failed", "other"), operation(8, "created")]
    outcome = mctl(*argv)
    assert outcome.code == 6
    assert [line.split()[-1] for line in outcome.out.splitlines()] == ["RESULT", *["failed"] * 8, "created"]
    assert outcome.err.splitlines() == [
        "mctl: 8 of 9 failed; the same command again tries them again",
        "mctl: v0, v1, v2, v3, v4 and 2 more: Unavailable: too many requests (HTTP 429)",
        "mctl: v7: Unavailable: other",
    ]
    item = json.loads(mctl(*argv, "-o", "json").out)["items"][0]
    assert (item["result"], item["reason"], item["message"]) == (
        "failed",
        "Unavailable",
        "too many requests (HTTP 429)",
    )
    fake.operations = failed
    assert mctl(*argv).code == 1


def test_commands_without_a_base_or_pod_report_not_found(mctl: Mctl) -> None:
    assert mctl("install", "biz1", "--version", "1", "--url", "u", "--all").code == 3
    assert mctl("uninstall", "biz1", "--version", "1", "--all").code == 3


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.yaml")))
def test_examples_can_be_applied_waited_for_and_deleted(fake: FakeTooling, mctl: Mctl, name: str) -> None:
    path = str(EXAMPLES / name)
    assert mctl("apply", "-f", path).out.endswith("created\n")
    assert mctl("apply", "-f", path).out.endswith("unchanged\n")
    for live in fake.objects.values():
        live.ready = True
    assert mctl("wait", "-f", path, "--timeout", "5s").code == 0
    assert mctl("delete", "-f", path).out.endswith("deleted\n")
    assert mctl("wait", "--for=gone", "-f", path, "--timeout", "5s").code == 0
    assert not fake.objects


def test_apply_reads_folders_and_standard_input(
    fake: FakeTooling, mctl: Mctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.yaml").write_text(POD.replace("biz1", "b"))
    (tmp_path / "a.json").write_text('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}')
    (tmp_path / "README.md").write_text("not a manifest")
    assert mctl("apply", "-f", str(tmp_path)).out == "pod/a created\npod/b created\n"
    with (tmp_path / "b.yaml").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert mctl("apply", "-f", "-", "-n", "other", "-o", "json").code == 0
    assert ("Pod", "other", "b") in fake.objects


def test_each_object_has_its_own_request_id(fake: FakeTooling, mctl: Mctl, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(f"{POD}---\n{POD.replace('biz1', 'biz2')}")
    assert mctl("apply", "-f", str(path)).code == 0
    ids = {r.request_id for r in fake.requests["ApplyManifest"] if isinstance(r, pb.ApplyManifestRequest)}
    assert len(ids) == 2


def test_field_violations_point_into_the_file(fake: FakeTooling, mctl: Mctl, pod: str) -> None:
    fault = Fault(
        grpc.StatusCode.INVALID_ARGUMENT,
        "invalid",
        (("spec.containers[0].image", "must be a URL"), ("spec.containers[0].env", "required")),
    )
    fake.fail("ApplyManifest", fault)
    outcome = mctl("apply", "-f", pod)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"mctl: {pod}:8: spec.containers[0].image: must be a URL",
        f"mctl: {pod}:7: spec.containers[0].env: required",
    ]


def test_one_refused_object_does_not_keep_others_back(fake: FakeTooling, mctl: Mctl, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(f"{POD}---\n{POD.replace('biz1', 'biz2')}")
    fake.fail("ApplyManifest", Fault(grpc.StatusCode.ABORTED, "conflict"))
    outcome = mctl("apply", "-f", str(path))
    assert (outcome.code, outcome.out) == (6, "pod/biz2 created\n")
    assert outcome.err == f"mctl: {path}:1: pod/biz1: conflict\n"
    fake.fail("ApplyManifest", *[Fault(grpc.StatusCode.ABORTED, "conflict")] * 2)
    assert mctl("apply", "-f", str(path)).code == 1


def test_when_the_server_goes_away_what_was_not_sent_is_reported(fake: FakeTooling, mctl: Mctl, tmp_path: Path) -> None:
    path = tmp_path / "three.yaml"
    path.write_text("---\n".join(POD.replace("biz1", f"biz{number}") for number in range(3)))
    fake.fail("ApplyManifest", *[Fault(grpc.StatusCode.UNAVAILABLE)] * 1000)
    outcome = mctl("apply", "-f", str(path), "--request-timeout", "300ms")
    assert (outcome.code, outcome.out) == (5, "")
    assert f"{path}:1: pod/biz0 was not confirmed; 2 after it were not sent" in outcome.err


def test_each_object_has_the_request_timeout_of_its_own(fake: FakeTooling, mctl: Mctl, tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("---\n".join(POD.replace("biz1", f"biz{number}") for number in range(4)))
    fake.delay = 0.3
    assert mctl("apply", "-f", str(path), "--request-timeout", "1s").code == 0


def test_nothing_is_sent_when_one_manifest_is_wrong(fake: FakeTooling, mctl: Mctl, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(f"{POD}---\nkind: Pod\nmetadata: {{}}\n")
    outcome = mctl("apply", "-f", str(path))
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"mctl: {path}:10: apiVersion: required",
        f"mctl: {path}:11: metadata.name: required",
    ]
    assert not fake.requests["ApplyManifest"]


def test_a_kubernetes_cluster_refers_to_kubectl(fake: FakeTooling, mctl: Mctl, pod: str) -> None:
    fake.embedded = False
    for argv in (("apply", "-f", pod), ("delete", "-f", pod), ("wait", "-f", pod, "--timeout", "5s")):
        outcome = mctl(*argv)
        assert outcome.code == 1
        assert "use kubectl" in outcome.err


def test_dry_run_and_absent_objects(fake: FakeTooling, mctl: Mctl, pod: str) -> None:
    assert mctl("apply", "-f", pod, "--dry-run").out == "pod/biz1 created (server dry run)\n"
    item = json.loads(mctl("apply", "-f", pod, "--dry-run", "-o", "json").out)["items"][0]
    assert (item["result"], item["dryRun"]) == ("created", True)
    assert "created (server dry run)" in mctl("apply", "-f", pod, "--dry-run", "-o", "wide").out
    assert not fake.objects
    outcome = mctl("delete", "-f", pod)
    assert (outcome.code, outcome.err) == (3, f"mctl: {pod}:1: pod/biz1: not found\n")
    assert mctl("delete", "-f", pod, "--ignore-not-found", "--grace-period", "0").out == "pod/biz1 absent\n"
    request = fake.requests["DeleteManifest"][-1]
    assert isinstance(request, pb.DeleteManifestRequest)
    assert request.HasField("grace_period_seconds")


def test_wait_for_vnodes_modules_and_objects(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1")]
    fake.modules = [module("base-1"), module("base-2", version="0.0.2", ready=False)]
    fake.objects["Deployment", "default", "d"] = LiveObject({"metadata": {}}, ready=True)
    outcome = mctl("wait", "vnode/base-1", "module/biz1:0.0.1", "deployment/d", "--timeout", "5s")
    assert outcome.out.splitlines() == ["vnode/base-1 ready", "module/biz1:0.0.1 ready", "deployment/d ready"]
    assert mctl("wait", "module/biz1", "--base", "base-1", "--timeout", "5s").code == 0
    assert mctl("wait", "--for=gone", "vnode/base-9", "module/biz9", "pod/p", "--timeout", "5s").code == 0


def test_a_module_is_not_gone_while_it_is_not_known_what_a_base_has(fake: FakeTooling, mctl: Mctl) -> None:
    fake.vnodes = [vnode("base-1"), vnode("base-2")]
    fake.vnodes[1].modules_unknown = True
    assert mctl("get", "vnodes", "--no-headers").out.splitlines()[1].split()[6] == "-"
    assert json.loads(mctl("get", "vnodes", "-o", "json").out)["items"][1]["modules"] is None
    assert mctl("wait", "--for=gone", "module/biz1", "--base", "base-1", "--timeout", "5s").code == 0
    outcome = mctl("wait", "--for=gone", "module/biz1", "--timeout", "100ms")
    assert outcome.code == 4
    assert "module/biz1 may be there: it is not known which modules vnode.base-2.dev has" in outcome.err


def test_a_wait_that_times_out_says_why(fake: FakeTooling, mctl: Mctl) -> None:
    fake.modules = [module("base-1", ready=False)]
    waiting = {"name": "biz1", "state": {"waiting": {"reason": "InstallFailed", "message": "no jar"}}}
    fake.objects["Pod", "default", "p"] = LiveObject({"status": {"containerStatuses": [waiting]}})
    outcome = mctl("wait", "module/biz1", "pod/p", "vnode/none", "--timeout", "100ms")
    assert outcome.code == 4
    assert outcome.err.splitlines() == [
        "mctl: timed out after 0.1s: module/biz1 0 of 1 ready; vnode.base-1.dev: BROKEN: StartFailed: port in use",
        "mctl: timed out after 0.1s: pod/p is not ready: biz1: InstallFailed: no jar",
        "mctl: timed out after 0.1s: vnode/none is not there",
    ]
    assert mctl("wait", "--for=gone", "pod/p", "--timeout", "100ms").code == 4


def test_wait_for_an_unreachable_server(mctl: Mctl) -> None:
    argv = ("--server", "127.0.0.1:1", "--request-timeout", "200ms", "wait", "vnode/x", "--timeout", "30s")
    assert mctl(*argv).code == 5


def test_events_are_printed_oldest_first(fake: FakeTooling, mctl: Mctl) -> None:
    fake.events = [pb.Event(reason="Installed", vnode="v", message="a"), pb.Event(reason="Uninstalled", vnode="v")]
    items = json.loads(mctl("events", "-o", "json").out)["items"]
    assert [e["reason"] for e in items] == ["Installed", "Uninstalled"]
    assert mctl("events", "--vnode", "v").out.splitlines()[0].split()[:3] == ["TIME", "TYPE", "REASON"]
