"""A real API server decides who may read logs, and certificates change while the program runs."""

import contextlib
import http.client
import re
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulecontroller.configuration import VARIABLES, survey
from modulecontroller.doctor.examine import CHECKS, examine
from modulecontroller.doctor.findings import Level
from tests.integration.kubelet.conftest import BASES, LOG, MODULES, POD, SYSTEM, Stage, kubelet_of, service
from tests.programs import ControlPlane, Programs, eventually
from tests.servers import manifests
from tests.servers.cluster import CONTROL_PLANE
from tests.servers.credentials import Credentials
from tests.servers.kubeapi import Json

pytestmark = pytest.mark.timeout(400)

PATH = f"/containerLogs/{MODULES}/{POD}/{POD}"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def trusting(stage: Stage) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(stage.kube.pki.ca))


def get(
    stage: Stage, path: str = PATH, *, tls: ssl.SSLContext | None = None, token: str = "", port: int = 0
) -> tuple[int, str]:
    """Ask our port directly, as any client in the cluster could."""
    connection = http.client.HTTPSConnection(
        stage.service_ip, port or stage.port, timeout=20, context=tls or trusting(stage)
    )
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def token_of(stage: Stage, name: str) -> str:
    """Make a service account and return a token of it."""
    accounts = f"/api/v1/namespaces/{MODULES}/serviceaccounts"
    stage.kube.api.create(accounts, {"metadata": {"name": name}})
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return str(stage.kube.api.create(f"{accounts}/{name}/token", review)["status"]["token"])


@pytest.fixture(params=["nodes/proxy", "nodes/log"])
def reader(stage: Stage, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a token of a user who may get a subresource of Nodes."""
    name = str(request.param).replace("/", "-")
    rule = {"apiGroups": [""], "resources": [request.param], "verbs": ["get"]}
    subject: Json = {"kind": "ServiceAccount", "name": name, "namespace": MODULES}
    role: Json = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"test-{name}"}
    stage.kube.api.create(f"{RBAC}/clusterroles", {"metadata": {"name": f"test-{name}"}, "rules": [rule]})
    stage.kube.api.create(
        f"{RBAC}/clusterrolebindings", {"metadata": {"name": f"test-{name}"}, "roleRef": role, "subjects": [subject]}
    )
    yield token_of(stage, name)
    stage.kube.api.delete(f"{RBAC}/clusterrolebindings/test-{name}")
    stage.kube.api.delete(f"{RBAC}/clusterroles/test-{name}")


def test_a_user_who_may_get_either_subresource_reads(stage: Stage, reader: str) -> None:
    eventually(lambda: get(stage, token=reader)[0] == 200, within=20, what="the log")
    assert get(stage, token=reader)[1].startswith("one\ntwo\nthree\n")
    assert get(stage, f"/containerLogs/{MODULES}/none/none", token=reader)[0] == 404
    assert get(stage, f"/containerLogs/{LOG}", token=reader)[0] == 404, "the base's own Pod is none of ours"
    assert get(stage, f"/containerLogs/{BASES}/none/base", token=reader)[0] == 404


def test_a_certificate_is_enough_for_who_has_the_rights(stage: Stage) -> None:
    tls = trusting(stage)
    tls.load_cert_chain(*stage.kube.pki.files("kube-apiserver-kubelet-client"))
    assert get(stage, tls=tls)[0] == 200


@pytest.mark.parametrize(
    "query",
    [
        "tailLines=-1",
        "tailLines=ten",
        "tailLines=%EF%BC%91",
        "sinceSeconds=0",
        "limitBytes=9223372036854775808",
        "sinceTime=yesterday",
        "sinceTime=2026-01-31T12:00:00Z&sinceSeconds=1",
    ],
)
def test_an_impossible_query_is_refused_in_the_words_of_the_api_server(stage: Stage, query: str) -> None:
    tls = trusting(stage)
    tls.load_cert_chain(*stage.kube.pki.files("kube-apiserver-kubelet-client"))
    status, text = get(stage, f"{PATH}?{query}", tls=tls)
    assert status == 400
    assert re.search(r"the log of Pod bases/shop-0, container base: .*(is invalid|parsing)", text)


def second_replica(
    stage: Stage, programs: Programs, port: int, *, certificate: tuple[Path, Path], ca: Path
) -> ControlPlane:
    return ControlPlane(
        programs,
        "second",
        CLUSTER="kubernetes",
        KUBECONFIG=str(stage.kube.kubeconfig(CONTROL_PLANE)),
        NAMESPACE=SYSTEM,
        KUBELET_PROXY_ENABLED="true",
        KUBELET_PROXY_PORT=str(port),
        KUBELET_PROXY_CRT_PATH=str(certificate[0]),
        KUBELET_PROXY_KEY_PATH=str(certificate[1]),
        KUBELET_PROXY_CLIENT_CA_PATH=str(ca),
    ).start()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("nobody listens", "connect: connection refused"),
        ("CA", "EOF|connection reset by peer|remote error: tls:"),
        ("address", "x509: certificate is valid for 127.0.0.1, not"),
        ("issuer", "x509: certificate signed by unknown authority"),
    ],
)
def test_what_kubectl_says_when_the_api_server_does_not_get_through(
    stage: Stage, programs: Programs, tmp_path: Path, wrong: str, error: str
) -> None:
    """docs/kubelet.md lists these messages."""
    port, pki = programs.port(), stage.kube.pki
    other = Credentials(tmp_path / "pki")
    if wrong != "nobody listens":
        certificates = {"address": pki.server("elsewhere", "127.0.0.1"), "issuer": other.server("k", stage.service_ip)}
        ca = other.ca if wrong == "CA" else pki.ca
        second_replica(stage, programs, port, certificate=certificates.get(wrong, stage.certificate), ca=ca)
    moved = service(port)
    manifests.apply(stage.kube.api, moved)
    try:
        eventually(lambda: kubelet_of(stage.vnode())[1] == port, within=20, what="Nodes have the new port")
        done = stage.kubectl("logs", POD)
        assert done.returncode == 1
        assert re.search(error, done.stderr), done.stderr
    finally:
        manifests.apply(stage.kube.api, service(stage.port))
    eventually(lambda: kubelet_of(stage.vnode())[1] == stage.port, within=20, what="Nodes have the right port")
    assert stage.kubectl("logs", POD).returncode == 0


def test_a_replica_that_owns_nothing_answers_alike(stage: Stage, programs: Programs) -> None:
    port = programs.port()
    second = second_replica(stage, programs, port, certificate=stage.certificate, ca=stage.kube.pki.ca)
    tls = trusting(stage)
    tls.load_cert_chain(*stage.kube.pki.files("kube-apiserver-kubelet-client"))
    assert get(stage, tls=tls, port=port) == get(stage, tls=tls)
    assert get(stage, port=port)[0] == 401
    second.server.stop()
    assert kubelet_of(stage.vnode())[1] == stage.port, "the owner's port stays"


def test_logs_read_at_once_are_all_whole(stage: Stage) -> None:
    results: list[tuple[int, str]] = []

    def read() -> None:
        done = stage.kubectl("logs", POD, "--tail=2", within=60)
        results.append((done.returncode, done.stdout))

    whole = stage.kubectl("logs", POD, "--tail=2").stdout
    readers = [threading.Thread(target=read) for _ in range(8)]
    for each in readers:
        each.start()
    for each in readers:
        each.join()
    assert results == [(0, whole)] * 8


def test_a_new_certificate_is_used_while_the_program_runs(stage: Stage) -> None:
    def shown() -> str:
        return ssl.get_server_certificate((stage.service_ip, stage.port), timeout=10)

    before = shown()
    renewed = stage.kube.pki.server("kubelet-renewed", stage.service_ip)
    for new, old in zip(renewed, stage.certificate, strict=True):
        shutil.copy(new, old)
    eventually(lambda: shown() != before, within=30, what="the new certificate")
    done = stage.kubectl("logs", POD, "--tail=0")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "variable", ["KUBELET_PROXY_CRT_PATH", "KUBELET_PROXY_KEY_PATH", "KUBELET_PROXY_CLIENT_CA_PATH"]
)
def test_a_missing_file_stops_the_start(stage: Stage, programs: Programs, variable: str) -> None:
    certificate, key = (str(path) for path in stage.certificate)
    environ = {
        "CLUSTER": "kubernetes",
        "KUBELET_PROXY_ENABLED": "true",
        "KUBELET_PROXY_CRT_PATH": certificate,
        "KUBELET_PROXY_KEY_PATH": key,
        "KUBELET_PROXY_CLIENT_CA_PATH": str(stage.kube.pki.ca),
        variable: "/none",
    }
    control_plane = ControlPlane(programs, **environ)
    control_plane.server.start()
    eventually(lambda: not control_plane.server.running, within=60, what="its end")
    text = control_plane.server.log.read_text()
    assert "cannot start: wrong settings" in text
    assert f"{variable}=/none: cannot be read" in text


async def test_the_doctor_finds_it_as_it_should_be(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = (str(path) for path in stage.certificate)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    environ = {
        "CLUSTER": "kubernetes",
        "KUBECONFIG": str(stage.kube.kubeconfig(CONTROL_PLANE)),
        "NAMESPACE": SYSTEM,
        "KUBELET_PROXY_ENABLED": "true",
        "KUBELET_PROXY_PORT": str(stage.port),
        "KUBELET_PROXY_CRT_PATH": certificate,
        "KUBELET_PROXY_KEY_PATH": key,
        "KUBELET_PROXY_CLIENT_CA_PATH": str(stage.kube.pki.ca),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    checks = {name: CHECKS[name] for name in ("settings", "permissions", "kubelet API")}
    found = {finding.about: finding for finding in await examine(survey(["controlplane"]), checks=checks)}
    assert found["permissions"].level is Level.OK, found["permissions"]
    assert f"reaches it at {stage.service_ip}:{stage.port}" in found["kubelet API"].message
    monkeypatch.setenv("NAMESPACE", MODULES)
    found = {finding.about: finding for finding in await examine(survey(["controlplane"]), checks=checks)}
    assert "may not list, watch services in modules" in found["permissions"].message
    assert found["kubelet API"].level is Level.ERROR
