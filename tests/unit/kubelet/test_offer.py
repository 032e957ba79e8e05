"""Where nobody said so the kubelet API is offered if all that it needs is there, or if that cannot be found out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane.app.ports import ClusterError, NotFound, Rejected, Transient, Unknown
from controlplane.cluster.api import SECRETS, SERVICES, Json, ObjectList, Resource
from controlplane.domain.contract import KUBELET_SERVICE
from controlplane.kubelet.offer import why_not
from controlplane.kubelet.settings import TLS_SECRET, KubeletSettings
from tests.fakes.apiserver import FakeApiServer

NAMESPACE = "koupleless-system"


class Api(FakeApiServer):
    """Refuses a kind of object with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[Resource, ClusterError] = {}

    async def list(self, resource: Resource, **options: Any) -> ObjectList:
        if resource in self.errors:
            raise self.errors[resource]
        return await super().list(resource, **options)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        if resource in self.errors:
            raise self.errors[resource]
        return await super().get(resource, name, namespace)


@pytest.fixture
def settings(tmp_path: Path) -> KubeletSettings:
    (tmp_path / "ca.crt").write_text("x")
    return KubeletSettings.model_validate({"KUBELET_PROXY_CLIENT_CA_PATH": str(tmp_path / "ca.crt")})


@pytest.fixture
def api() -> Api:
    api = Api()
    meta = {"name": "kubelet", "namespace": NAMESPACE, "labels": {KUBELET_SERVICE: "true"}}
    api.put(SERVICES, {"metadata": meta, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 10250}]}})
    api.put(SECRETS, {"metadata": {"name": TLS_SECRET, "namespace": NAMESPACE}})
    return api


async def reason(api: Api, settings: KubeletSettings) -> str:
    return await why_not(api, settings, NAMESPACE, "dev")


async def test_it_is_offered_where_all_is_there(api: Api, settings: KubeletSettings) -> None:
    assert await reason(api, settings) == ""


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda api: api.remove(SERVICES, "kubelet", NAMESPACE), "no Service has the label"),
        (lambda api: api.remove(SECRETS, TLS_SECRET, NAMESPACE), f"Secret {NAMESPACE}/{TLS_SECRET} cannot be read"),
        (lambda api: api.errors.update({SERVICES: Rejected("forbidden")}), "cannot be listed: forbidden"),
        (lambda api: api.errors.update({SECRETS: Rejected("forbidden")}), "cannot be read: forbidden"),
        (lambda api: api.errors.update({SECRETS: NotFound("none")}), "cannot be read: none"),
    ],
)
async def test_it_is_off_where_something_is_known_to_be_missing(
    api: Api, settings: KubeletSettings, spoil: Callable[[Api], None], why: str
) -> None:
    spoil(api)
    assert why in await reason(api, settings)


async def test_it_is_off_without_the_ca_of_its_callers(api: Api) -> None:
    settings = KubeletSettings.model_validate({"KUBELET_PROXY_CLIENT_CA_PATH": "/none"})
    assert (await reason(api, settings)).startswith("KUBELET_PROXY_CLIENT_CA_PATH=/none: cannot be read")


@pytest.mark.parametrize("error", [Transient("away"), Unknown("no reply")])
@pytest.mark.parametrize("resource", [SERVICES, SECRETS])
async def test_what_cannot_be_found_out_takes_nothing_away(
    api: Api, settings: KubeletSettings, resource: Resource, error: ClusterError
) -> None:
    """A replica that starts while the API server is away must not take the kubelet API's address from Nodes."""
    api.errors[resource] = error
    assert await reason(api, settings) == ""


async def test_with_files_no_secret_is_needed(api: Api, settings: KubeletSettings, tmp_path: Path) -> None:
    api.remove(SECRETS, TLS_SECRET, NAMESPACE)
    with_files = {"KUBELET_PROXY_CRT_PATH": "/crt", "KUBELET_PROXY_CLIENT_CA_PATH": str(tmp_path / "ca.crt")}
    assert await reason(api, KubeletSettings.model_validate(with_files)) == ""
