"""The Pod of a base is found by name and address, in the module's namespace first, and is never a module's."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.ports import Rejected
from controlplane.cluster.api import ApiServer, Json, ObjectList, Resource
from controlplane.domain.contract import COMPONENT, COMPONENT_MODULE
from controlplane.domain.objects import Node
from controlplane.kubelet import basepods
from controlplane.kubelet.basepods import BasePod
from service.refusals import RequestRefused
from tests.fakes.apiserver import FakeApiServer

IP = "10.1.0.7"


def pod(
    name: str,
    namespace: str = "apps",
    *,
    ip: str = IP,
    containers: Sequence[str] = ("base",),
    phase: str = "Running",
    **labels: str,
) -> Json:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"containers": [{"name": each} for each in containers]},
        "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}]},
    }


@dataclass
class Cluster(FakeApiServer):
    """Lists Pods as the API server does for the two selectors that are used."""

    pods: list[Json]
    asked: list[tuple[str, str]] = field(default_factory=list)
    error: Rejected | None = None

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        from_memory: bool = False,
    ) -> ObjectList:
        self.asked.append((namespace, field_selector))
        if self.error is not None:
            raise self.error
        name, _, value = field_selector.partition("=")
        found = [
            each
            for each in self.pods
            if namespace in ("", each["metadata"]["namespace"])
            and value == {"metadata.name": each["metadata"]["name"], "status.podIP": each["status"]["podIP"]}[name]
        ]
        return ObjectList(tuple(found), "1")


def node(host: str = "shop-0", ip: str = IP) -> Node:
    annotations = {"base.koupleless.io/address": f"{ip}:1238"} if ip else {}
    labels = {"base.koupleless.io/host-name": host} if host else {}
    return Node("vnode.b1.dev", "u", "1", labels=labels, annotations=annotations)


async def find(*pods: Json, of: Node | None = None) -> str:
    api: ApiServer = Cluster(list(pods))
    found = await basepods.find(api, of or node(), ("modules", "koupleless-system"))
    return f"{found.key}/{found.container}"


async def refused(*pods: Json, of: Node | None = None) -> str:
    with pytest.raises(RequestRefused) as error:
        await find(*pods, of=of)
    assert error.value.status == 400, "of other statuses kubectl does not show the text"
    return error.value.text


async def test_the_pod_with_the_hosts_name_and_address_is_the_base() -> None:
    assert await find(pod("shop-0", "modules"), pod("shop-0", "apps", ip="10.1.0.8")) == "modules/shop-0/base"
    assert await find(pod("shop-0", "koupleless-system")) == "koupleless-system/shop-0/base"


async def test_it_may_be_in_any_namespace() -> None:
    assert await find(pod("shop-0", "apps")) == "apps/shop-0/base"
    assert await find(pod("other-name", "apps")) == "apps/other-name/base"


async def test_of_one_name_in_two_namespaces_the_address_decides() -> None:
    assert await find(pod("shop-0", "modules", ip="10.1.0.8"), pod("shop-0", "apps")) == "apps/shop-0/base"


async def test_on_one_address_the_name_decides() -> None:
    assert await find(pod("shop-1", "apps"), pod("shop-0", "apps")) == "apps/shop-0/base"


async def test_modules_have_their_bases_address_and_are_no_bases() -> None:
    module = pod("biz1", "modules", containers=["base"], **{"virtual-kubelet.koupleless.io/component": "module"})
    assert "runs in no Pod" in await refused(module)
    assert await find(module, pod("shop-0", "apps")) == "apps/shop-0/base"


async def test_the_label_names_the_container() -> None:
    labels = {"base.koupleless.io/container-name": "java"}
    assert await find(pod("shop-0", containers=["sidecar", "java"], **labels)) == "apps/shop-0/java"
    text = await refused(pod("shop-0", containers=["sidecar", "app"]))
    assert "Pod apps/shop-0" in text
    assert "no container 'base'" in text
    assert "label base.koupleless.io/container-name to the container of the base (sidecar, app)" in text


async def test_a_pod_that_ended_is_no_base() -> None:
    assert "runs in no Pod" in await refused(pod("old", "apps", phase="Succeeded"))
    assert await find(pod("old", "apps", phase="Failed"), pod("shop-0", "apps")) == "apps/shop-0/base"


async def test_another_address_is_taken_in_the_modules_namespace_only() -> None:
    assert await find(pod("shop-0", "modules", ip="10.9.9.9")) == "modules/shop-0/base"
    assert "it is not clear" in await refused(pod("shop-0", "koupleless-system", ip="10.9.9.9"))


async def test_several_candidates_are_refused() -> None:
    text = await refused(pod("a", "apps"), pod("b", "apps"))
    assert "apps/a, apps/b" in text


async def test_a_base_without_a_pod_is_reported() -> None:
    text = await refused()
    assert text == "the base of vnode.b1.dev (host shop-0, address 10.1.0.7) runs in no Pod of this cluster"
    assert "address not known" in await refused(of=node("", ""))


async def test_no_more_is_asked_than_needed_and_nothing_can_be_injected() -> None:
    api = Cluster([pod("shop-0", "modules")])
    await basepods.find(api, node(), ("modules", "modules"))
    assert api.asked == [("modules", "metadata.name=shop-0")]
    api = Cluster([])
    with pytest.raises(RequestRefused):
        await basepods.find(api, node("", "1.2.3.4,metadata.name=secret"), ("modules", "x"))
    assert api.asked == []


async def test_a_missing_permission_is_reported() -> None:
    api = Cluster([], error=Rejected("pods is forbidden (HTTP 403)"))
    with pytest.raises(RequestRefused) as error:
        await basepods.find(api, node(), ("modules", "x"))
    assert "pods is forbidden" in error.value.text


@pytest.mark.parametrize("obj", [{}, {"metadata": None, "spec": {"containers": [None, {}]}, "status": {"podIPs": [1]}}])
async def test_malformed_pods_are_no_bases(obj: Json) -> None:
    class Malformed(Cluster):
        async def list(
            self,
            resource: Resource,
            *,
            namespace: str = "",
            label_selector: str = "",
            field_selector: str = "",
            from_memory: bool = False,
        ) -> ObjectList:
            return ObjectList((obj,), "1")

    with pytest.raises(RequestRefused):
        await basepods.find(Malformed([]), node(), ("modules", "x"))


NAMES, ADDRESSES = st.sampled_from(["shop-0", "shop-1"]), st.sampled_from([IP, "10.1.0.8"])
PODS_OF_A_CLUSTER = st.lists(
    st.builds(
        lambda name, space, ip, containers, phase, labels: pod(
            name, space, ip=ip, containers=containers, phase=phase, **labels
        ),
        NAMES,
        st.sampled_from(["modules", "apps", "koupleless-system"]),
        ADDRESSES,
        st.lists(st.sampled_from(["base", "sidecar"]), min_size=1, max_size=2, unique=True),
        st.sampled_from(["Running", "Pending", "Failed"]),
        st.sampled_from([{}, {COMPONENT: COMPONENT_MODULE}]),
    ),
    max_size=6,
    unique_by=lambda obj: (obj["metadata"]["namespace"], obj["metadata"]["name"]),
)


@given(PODS_OF_A_CLUSTER)
def test_no_log_is_shown_that_is_not_a_bases(pods: list[Json]) -> None:
    """A Pod that is found has the container, is no module, and has the base's address or its name and namespace."""

    async def look() -> BasePod | None:
        try:
            return await basepods.find(Cluster(pods), node(), ("modules", "koupleless-system"))
        except RequestRefused:
            return None

    found = asyncio.run(look())
    if found is None:
        return
    (obj,) = [
        each
        for each in pods
        if (each["metadata"]["namespace"], each["metadata"]["name"]) == (found.namespace, found.name)
    ]
    assert found.container in [each["name"] for each in obj["spec"]["containers"]]
    assert obj["metadata"]["labels"].get(COMPONENT) != COMPONENT_MODULE
    by_name = (found.namespace, found.name) == ("modules", "shop-0")
    assert by_name or (obj["status"]["podIP"] == IP and obj["status"]["phase"] != "Failed")
