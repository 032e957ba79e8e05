"""The Service before the kubelet API: exactly one, with a port that leads to this program."""

from dataclasses import replace

import pytest

from controlplane.domain.endpoint import Service, ServicePort, endpoint_of
from controlplane.domain.facts import Address

ONE = Service("koupleless-system", "kubelet", "u", "1", "10.96.0.7", (ServicePort("kubelet", 10250, "10250"),))


def test_the_only_service_gives_address_and_port() -> None:
    assert endpoint_of([ONE], 10250, "dev") == Address("10.96.0.7", 10250)
    moved = replace(ONE, ports=(ServicePort("kubelet", 443, "10250"),))
    assert endpoint_of([moved], 10250, "dev") == Address("10.96.0.7", 443)
    named = replace(ONE, ports=(ServicePort("", 443, "kubelet"),))
    assert endpoint_of([named], 10250, "dev") == Address("10.96.0.7", 443)


def test_the_port_that_leads_here_counts() -> None:
    ports = (ServicePort("grpc", 50051, "50051"), ServicePort("kubelet", 443, "10250"))
    assert endpoint_of([replace(ONE, ports=ports)], 10250, "dev") == Address("10.96.0.7", 443)
    without_target = (ServicePort("grpc", 50051), ServicePort("kubelet", 10250))
    assert endpoint_of([replace(ONE, ports=without_target)], 10250, "dev") == Address("10.96.0.7", 10250)
    with_udp = (ServicePort("dns", 53, "53", "UDP"), ServicePort("kubelet", 443, "kubelet"))
    assert endpoint_of([replace(ONE, ports=with_udp)], 10250, "dev") == Address("10.96.0.7", 443)


@pytest.mark.parametrize(
    ("services", "problem"),
    [
        ([], "no Service has the label virtual-kubelet.koupleless.io/kubelet-proxy-service=true"),
        ([ONE, replace(ONE, name="another")], "koupleless-system/another, koupleless-system/kubelet"),
        ([replace(ONE, cluster_ip="None")], "no cluster IP"),
        ([replace(ONE, cluster_ip="")], "no cluster IP"),
        ([replace(ONE, ports=())], "it has none"),
        ([replace(ONE, ports=(ServicePort("a", 1, "x"), ServicePort("", 2, "y")))], "it has a 1, unnamed 2"),
    ],
)
def test_services_that_cannot_be_used_are_reported(services: list[Service], problem: str) -> None:
    found = endpoint_of(services, 10250, "dev")
    assert isinstance(found, str)
    assert problem in found


def test_each_environment_may_have_a_service_of_its_own() -> None:
    theirs = replace(ONE, name="theirs", cluster_ip="10.96.0.8", env="prod")
    ours = replace(ONE, name="ours", cluster_ip="10.96.0.9", env="dev")
    assert endpoint_of([theirs, ours], 10250, "dev") == Address("10.96.0.9", 10250)
    assert endpoint_of([theirs, ONE], 10250, "dev") == Address("10.96.0.7", 10250)
    assert "no Service" in str(endpoint_of([theirs], 10250, "dev"))
    assert "more than one" in str(endpoint_of([ours, ONE], 10250, "dev"))


def test_endpoints_are_written_like_addresses() -> None:
    assert str(Address("10.0.0.1", 1)) == "10.0.0.1:1"
    assert str(Address("fd00::1", 1)) == "[fd00::1]:1"
