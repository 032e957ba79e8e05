"""Without a word of its settings the kubelet API is served where deploy/kubelet is applied; else it says why not."""

import ssl
from collections.abc import Iterator

import pytest

from controlplane.kubelet.settings import CA_CONFIG_MAP, TLS_SECRET
from modulecontroller.configuration import VARIABLES, survey
from modulecontroller.doctor.examine import CHECKS, examine
from modulecontroller.doctor.findings import Level
from tests.integration.kubelet.conftest import SHIPPED, SYSTEM, Stage, remove
from tests.integration.kubelet.test_access import get
from tests.programs import ControlPlane, Programs, ask, eventually
from tests.servers import manifests, rbac
from tests.servers.cluster import CONTROL_PLANE

pytestmark = pytest.mark.timeout(400)

CONFIG_MAP = f"/api/v1/namespaces/{SYSTEM}/configmaps/{CA_CONFIG_MAP}"


@pytest.fixture
def certificates(stage: Stage) -> Iterator[None]:
    """Apply what the control plane keeps its certificate in."""
    path = SHIPPED / "certificates.yaml"
    rbac.apply(stage.kube.api, CONTROL_PLANE, path)
    yield
    remove(stage.kube, manifests.load(path))


def variables(stage: Stage, port: int) -> dict[str, str]:
    return {
        "CLUSTER": "kubernetes",
        "KUBECONFIG": str(stage.kube.kubeconfig(CONTROL_PLANE)),
        "NAMESPACE": SYSTEM,
        "ENV": "another",  # so that it takes no base
        "KUBELET_PROXY_PORT": str(port),
        "KUBELET_PROXY_CLIENT_CA_PATH": str(stage.kube.pki.ca),
    }


def notes(control_plane: ControlPlane) -> str:
    return ask(f"http://127.0.0.1:{control_plane.health}/readyz?verbose")[1]


async def doctor(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> tuple[Level, str]:
    """Return what doctor says of the kubelet API."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    first, *more = await examine(survey(["controlplane"]), checks={"kubelet API": CHECKS["kubelet API"]})
    assert bool(more) == ("KUBELET_EXEC_ENABLED" in environ and first.level is Level.OK)
    found = more[0] if more else first
    return found.level, found.message


@pytest.mark.usefixtures("certificates")
async def test_it_makes_its_own_certificate_for_the_address_of_the_service(
    stage: Stage, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = programs.port()
    environ = variables(stage, port)
    control_plane = ControlPlane(programs, "another", **environ).start()
    eventually(lambda: "kubelet API certificate: holds until" in notes(control_plane), within=60, what="a certificate")

    def covers_the_service() -> bool:
        published = stage.kube.api.get(CONFIG_MAP)["data"]["ca.crt"]
        tls = ssl.create_default_context(cadata=published)
        tls.load_cert_chain(*stage.kube.pki.files("kube-apiserver-kubelet-client"))
        try:
            return get(stage, "/healthz", tls=tls, port=port) == (200, "ok\n")
        except ssl.SSLError:
            return False

    eventually(covers_the_service, within=90, what="a certificate for the Service's address")
    level, message = await doctor(monkeypatch, environ)
    assert (level, "reaches it at" in message) == (Level.OK, True)


async def test_without_its_secret_it_is_off_and_says_why(
    stage: Stage, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = variables(stage, programs.port())
    control_plane = ControlPlane(programs, "another", **environ).start()
    why = f"Secret {SYSTEM}/{TLS_SECRET} cannot be read"
    assert f"kubelet API: off: {why}" in notes(control_plane)
    with pytest.raises(OSError, match="refused"):
        get(stage, port=int(environ["KUBELET_PROXY_PORT"]))
    level, message = await doctor(monkeypatch, environ)
    assert (level, why in message) == (Level.WARNING, True)
    level, message = await doctor(monkeypatch, environ | {"KUBELET_EXEC_ENABLED": "true"})
    assert (level, "and KUBELET_EXEC_ENABLED=true has no effect" in message) == (Level.WARNING, True)


@pytest.mark.usefixtures("certificates")
@pytest.mark.parametrize(
    ("rights", "level", "words"),
    [
        ([], Level.WARNING, "nothing may be entered in the namespace default"),
        (["RoleBinding"], Level.OK, "leads into bases of the namespace default"),
        (["ClusterRoleBinding"], Level.WARNING, "in every namespace"),
    ],
    ids=["none", "as shipped", "everywhere"],
)
async def test_doctor_says_where_exec_leads(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, rights: list[str], level: Level, words: str
) -> None:
    path = SHIPPED / "exec.yaml"
    role, binding = rbac.objects(path.read_text(), CONTROL_PLANE)
    given = [role, *({**binding, "kind": kind} for kind in rights)]
    if rights == ["ClusterRoleBinding"]:
        given[1] = {**given[1], "metadata": {"name": binding["metadata"]["name"]}}
    for obj in given:
        manifests.apply(stage.kube.api, obj)
    try:
        environ = variables(stage, stage.port) | {"KUBELET_EXEC_ENABLED": "true"}
        found = await doctor(monkeypatch, environ)
        assert (found[0], words in found[1]) == (level, True), found
    finally:
        remove(stage.kube, given)


async def test_turned_off_it_is_not_looked_for(
    stage: Stage, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = variables(stage, programs.port()) | {"KUBELET_PROXY_ENABLED": "false"}
    control_plane = ControlPlane(programs, "another", **environ).start()
    assert "kubelet API" not in notes(control_plane)
    level, message = await doctor(monkeypatch, environ)
    assert (level, "KUBELET_PROXY_ENABLED=false" in message) == (Level.SKIPPED, True)
