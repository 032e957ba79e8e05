"""deploy/admission-policy.yaml refuses what cannot run on VNodes, and lets everything else in."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.corner import Sandbox
from tests.integration.foreign_pods.conftest import run
from tests.integration.foreign_pods.shapes import SHAPES, deployment
from tests.programs import eventually
from tests.servers.kubeapi import Json
from tests.servers.rbac import SHIPPED

pytestmark = [pytest.mark.timeout(180), pytest.mark.mosquitto]

POLICY = str(SHIPPED.parent / "admission-policy.yaml")
SINCE = 30
"""Minor version of Kubernetes that has such policies."""
KEPT_OFF = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]}]}
            ]
        }
    }
}


@pytest.fixture
def policed(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A sandbox of a cluster with the policy, once that is in force."""
    if (minor := sandbox.everything.cluster.minor) < SINCE:
        pytest.skip(f"kubernetes 1.{minor}: ValidatingAdmissionPolicy came with 1.{SINCE}")
    applied = run(sandbox, "apply", "-f", POLICY)
    assert applied.returncode == 0, applied.stderr
    try:
        named = pod("named", {"nodeName": "vnode.nowhere.dev"})
        eventually(lambda: create(sandbox, named, dry_run=True).returncode != 0, within=60, what="the policy in force")
        yield sandbox
    finally:
        run(sandbox, "delete", "-f", POLICY)


def create(sandbox: Sandbox, obj: Json, *, dry_run: bool = False) -> subprocess.CompletedProcess[str]:
    file = Path(sandbox.everything.programs.folder / f"{obj['metadata']['name']}.yaml")
    file.write_text(yaml.safe_dump(obj))
    return run(sandbox, "create", "-f", str(file), *(["--dry-run=server"] if dry_run else []))


def pod(name: str, spec: Json, **labels: str) -> Json:
    containers = [{"name": "c", "image": "registry.example/web:1"}]
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers, **spec}}


def test_pods_that_name_or_tolerate_vnodes_are_refused_and_no_others(policed: Sandbox) -> None:
    (node,) = policed.bases("a").nodes
    named = create(policed, pod("named", {"nodeName": node}))
    assert named.returncode != 0
    assert f"{node} is a virtual node, which runs modules only" in named.stderr
    for key in ("schedule.koupleless.io/virtual-node", "schedule.koupleless.io/node-env"):
        tolerating = create(policed, pod("tolerating", {"tolerations": [{"key": key, "operator": "Exists"}]}))
        assert tolerating.returncode != 0
        assert "only modules" in tolerating.stderr
    debugged = run(policed, "debug", f"node/{node}", "--image", "registry.example/tools:1", "--", "true")
    assert debugged.returncode != 0
    assert "runs modules only" in debugged.stderr
    for name, spec in (
        ("plain", {}),
        ("other", {"nodeName": "worker-1", "tolerations": [{"key": "example.com/gpu", "operator": "Exists"}]}),
        ("everything", {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"type": "none"}}),
    ):
        assert create(policed, pod(name, spec)).returncode == 0
    policed.pod("biz1")
    policed.wait_ready("biz1")


def test_who_applies_a_workload_that_tolerates_everything_is_warned(policed: Sandbox) -> None:
    policed.bases("a")
    warned = create(policed, SHAPES["kube-proxy"])
    assert warned.returncode == 0
    assert "type NotIn [virtual-kubelet]" in warned.stderr
    eventually(lambda: "NotAModule" in policed.reasons(), within=15, what="its Pod is let in, and rejected")
    kept_off = deployment("web", 1)
    kept_off["spec"]["template"]["spec"]["affinity"] = KEPT_OFF
    assert "Warning" not in create(policed, kept_off, dry_run=True).stderr
    module = policed.manifest("deployment.yaml")
    module["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    assert "Warning" not in create(policed, module, dry_run=True).stderr
