"""Services before the kubelet API are read as the API server sends them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlplane.cluster.reading import service
from controlplane.domain.contract import ENV
from controlplane.domain.endpoint import Service, ServicePort

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ports", "port", "name"]), inner),
    max_leaves=8,
)


def test_a_service_is_read() -> None:
    obj = {
        "metadata": {"namespace": "ns", "name": "kubelet", "uid": "u", "resourceVersion": "7", "labels": {ENV: "dev"}},
        "spec": {
            "clusterIP": "10.96.0.7",
            "ports": [
                {"name": "kubelet", "port": 443, "targetPort": 10250, "protocol": "TCP"},
                {"port": 53, "targetPort": "dns", "protocol": "UDP"},
                {"port": 80},
            ],
        },
    }
    ports = (ServicePort("kubelet", 443, "10250"), ServicePort("", 53, "dns", "UDP"), ServicePort("", 80))
    assert service(obj) == Service("ns", "kubelet", "u", "7", "10.96.0.7", ports, "dev")


@given(JSON)
def test_any_object_gives_a_view(spec: Any) -> None:
    assert service({"metadata": {}, "spec": spec}).name == ""
