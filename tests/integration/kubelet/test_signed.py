"""The cluster's own signer makes the certificate of the kubelet API, once somebody approves the request."""

import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.kubelet.settings import SIGNED_SECRET
from tests.integration.kubelet.conftest import SHIPPED, Stage, remove
from tests.integration.kubelet.test_access import get
from tests.integration.kubelet.test_default import notes, variables
from tests.programs import ControlPlane, Programs, eventually
from tests.servers import manifests, rbac
from tests.servers.cluster import CONTROL_PLANE

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def applied(stage: Stage) -> Iterator[None]:
    """Apply what both certificates are kept in."""
    paths = [SHIPPED / "certificates.yaml", SHIPPED / "signed.yaml"]
    for path in paths:
        rbac.apply(stage.kube.api, CONTROL_PLANE, path)
    yield
    for path in paths:
        remove(stage.kube, manifests.load(path))


def requests(stage: Stage) -> list[dict[str, Any]]:
    listed = json.loads(stage.kubectl("get", "certificatesigningrequests", "-o", "json").stdout)["items"]
    return [each for each in listed if each["spec"]["signerName"] == "kubernetes.io/kubelet-serving"]


def trusted(stage: Stage, port: int) -> bool:
    """Return whether a client takes the certificate that trusts the cluster's CA only, as API servers do."""
    tls = ssl.create_default_context(cafile=str(stage.kube.pki.ca))
    tls.load_cert_chain(*stage.kube.pki.files("kube-apiserver-kubelet-client"))
    try:
        return get(stage, "/healthz", tls=tls, port=port) == (200, "ok\n")
    except ssl.SSLCertVerificationError:
        return False


@pytest.mark.usefixtures("applied")
def test_an_approved_request_makes_a_certificate_that_api_servers_trust(stage: Stage, programs: Programs) -> None:
    port = programs.port()
    control_plane = ControlPlane(programs, "another", **variables(stage, port)).start()
    (request,) = eventually(lambda: requests(stage), within=60, what="a request")
    name = request["metadata"]["name"]
    eventually(lambda: f"kubectl certificate approve {name}" in notes(control_plane), within=60, what="what to do")
    eventually(lambda: "kubelet API certificate: holds until" in notes(control_plane), within=60, what="our own")
    assert not trusted(stage, port)
    approved = stage.kubectl("certificate", "approve", name)
    assert approved.returncode == 0, approved.stderr
    eventually(lambda: trusted(stage, port), within=60, what="the signed certificate")
    eventually(lambda: "of the cluster: holds until" in notes(control_plane), within=60, what="until when it holds")
    # Another start serves it without another request.
    control_plane.server.stop()
    control_plane.start()
    eventually(lambda: trusted(stage, port), within=60, what="the same certificate")
    assert [each["metadata"]["name"] for each in requests(stage)] == [name]
    stage.kubectl("delete", "certificatesigningrequest", name)


@pytest.mark.usefixtures("applied")
def test_a_denied_request_leaves_our_own_certificate(stage: Stage, programs: Programs) -> None:
    port = programs.port()
    control_plane = ControlPlane(programs, "another", **variables(stage, port)).start()
    (request,) = eventually(lambda: requests(stage), within=60, what="a request")
    denied = stage.kubectl("certificate", "deny", request["metadata"]["name"])
    assert denied.returncode == 0, denied.stderr
    eventually(lambda: "the request was refused at" in notes(control_plane), within=60, what="the refusal")
    assert "kubelet API certificate: holds until" in notes(control_plane)
    secret = stage.kube.api.get(f"/api/v1/namespaces/koupleless-system/secrets/{SIGNED_SECRET}")
    assert not secret.get("data")
    stage.kubectl("delete", "certificatesigningrequest", request["metadata"]["name"])
