"""deploy/flow-control.yaml gives what keeps VNodes alive the priority of nodes, and nothing else."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.programs import eventually
from tests.servers.cluster import KubeCluster
from tests.servers.rbac import SHIPPED

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]

MANIFEST = str(SHIPPED.parent / "flow-control.yaml")
SCHEMAS = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
OURS, USUAL = "virtual-nodes", "service-accounts"
SINCE = 29
"""Minor version of Kubernetes that has this version of FlowSchema."""
ACCOUNT = ("koupleless-system", "module-controller")


@pytest.fixture
def cluster(kube: KubeCluster) -> Iterator[KubeCluster]:
    """A cluster with the manifest."""
    if kube.minor < SINCE:
        pytest.skip(f"kubernetes 1.{kube.minor}: this version of FlowSchema came with 1.{SINCE}")
    kube.apply_rbac()
    applied = kube.kubectl("apply", "-f", MANIFEST)
    assert applied.returncode == 0, applied.stderr
    yield kube
    kube.kubectl("delete", "-f", MANIFEST)


def schema(cluster: KubeCluster, method: str, path: str, account: tuple[str, str] = ACCOUNT) -> str:
    """Return by which FlowSchema the API server served a request of a service account, whatever it answered."""
    names = {each["metadata"]["uid"]: each["metadata"]["name"] for each in cluster.api.items(SCHEMAS)}
    headers = {
        "Authorization": f"Bearer {cluster.service_account_token(*account)}",
        "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json",
    }
    request = urllib.request.Request(f"{cluster.url}{path}", b"{}", headers, method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, context=ssl._create_unverified_context())
    with refused.value as answer:
        return str(names[answer.headers["X-Kubernetes-PF-FlowSchema-UID"]])


LEASES = "/apis/coordination.k8s.io/v1/namespaces"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("PATCH", f"{LEASES}/kube-node-lease/leases/x", OURS),
        ("POST", f"{LEASES}/koupleless-system/leases", OURS),
        ("POST", "/api/v1/nodes", OURS),
        ("PATCH", "/api/v1/nodes/x", OURS),
        ("PATCH", "/api/v1/nodes/x/status", OURS),
        ("PATCH", f"{LEASES}/default/leases/x", USUAL),
        ("PATCH", "/api/v1/namespaces/default/pods/x/status", USUAL),
        ("DELETE", "/api/v1/nodes/x", USUAL),
    ],
)
def test_which_requests_have_priority(cluster: KubeCluster, method: str, path: str, expected: str) -> None:
    # The API server looks at new schemas every now and then.
    eventually(lambda: schema(cluster, method, path) == expected, within=30, what=f"served as {expected}")


def test_nobody_else_has_it(cluster: KubeCluster) -> None:
    lease = f"{LEASES}/kube-node-lease/leases/x"
    eventually(lambda: schema(cluster, "PATCH", lease) == OURS, within=30, what="the schema is in force")
    assert schema(cluster, "PATCH", lease, account=("default", "default")) == USUAL
