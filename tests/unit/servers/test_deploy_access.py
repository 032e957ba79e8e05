"""Manifests in deploy/ open to strangers what is for them, and have the credentials of all others."""

from collections.abc import Mapping

import pytest

from controlplane.settings import ControlPlaneSettings
from tests.servers import manifests
from tests.servers.kubeapi import Json
from tests.unit.servers.test_deploy import containers, environ, selector_of, shipped


def reachable(policies: list[Json], labels: Mapping[str, str]) -> dict[str, list[Json]]:
    """Return the ports of Pods with labels that policies open, and to whom; an empty list means everybody."""
    selecting = [each for each in policies if selector_of(each).items() <= labels.items()]
    assert all(each["spec"]["policyTypes"] == ["Ingress"] for each in selecting)
    assert selecting, "without a policy everybody reaches all ports"
    rules = [rule for each in selecting for rule in each["spec"]["ingress"]]
    return {port["port"]: rule.get("from", []) for rule in rules for port in rule["ports"]}


@pytest.mark.parametrize(
    ("form", "name", "everybody", "some"),
    [
        ("module-controller.yaml", "module-controller", {"http-tunnel", "report"}, {"metrics"}),
        ("pod.yaml", "module-controller", {"http-tunnel", "report"}, {"metrics"}),
        ("sharded", "controlplane", {"report", "kubelet"}, {"grpc", "metrics"}),
        ("sharded", "http-gateway", {"http-tunnel"}, {"metrics"}),
        ("sharded", "mqtt-gateway", set(), {"metrics"}),
    ],
)
def test_strangers_reach_the_ports_that_are_for_them(form: str, name: str, everybody: set[str], some: set[str]) -> None:
    objects = shipped(form)
    (labels,) = [
        obj["metadata"]["labels"] if obj["kind"] == "Pod" else obj["spec"]["template"]["metadata"]["labels"]
        for obj in objects
        if obj["kind"] in ("Deployment", "Pod") and obj["metadata"]["name"] == name
    ]
    opened = reachable([obj for obj in objects if obj["kind"] == "NetworkPolicy"], labels)
    assert {port for port, callers in opened.items() if not callers} == everybody
    assert {port for port, callers in opened.items() if callers} == some
    assert opened["metrics"] == [{"namespaceSelector": {"matchLabels": {"koupleless.io/monitoring": "true"}}}]


@pytest.mark.parametrize(
    ("form", "name", "optional"),
    [
        ("module-controller.yaml", "module-controller", True),
        ("pod.yaml", "module-controller", True),
        ("sharded", "http-gateway", False),
        ("simulated-bases.yaml", "simulated-bases", True),
    ],
)
def test_bases_and_those_who_hear_them_have_one_token(form: str, name: str, optional: bool) -> None:
    (container,) = [container for each, container in containers(form) if each == name]
    (token,) = [each for each in container["env"] if each["name"] == "HTTP_TUNNEL_TOKEN"]
    source = token["valueFrom"]["secretKeyRef"]
    assert (source["name"], source["key"]) == ("http-tunnel", "HTTP_TUNNEL_TOKEN")
    assert source.get("optional", False) is optional, "without the Secret the sharded form does not start"


def test_gateways_show_the_token_and_know_the_ca_that_are_mounted() -> None:
    objects = shipped("sharded")
    settings = ControlPlaneSettings.model_validate({})
    for name, spec in manifests.pod_specs(objects):
        (container,) = spec["containers"]
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "control-plane"]
        (volume,) = [each for each in spec["volumes"] if each["name"] == "control-plane"]
        sources = {kind: source for each in volume["projected"]["sources"] for kind, source in each.items()}
        assert sources["serviceAccountToken"]["audience"] == settings.grpc_audience
        files = {f"{mount['mountPath']}/{sources['serviceAccountToken']['path']}"}
        if name != "controlplane":
            assert sources["configMap"]["name"] == settings.grpc_ca_configmap
            files |= {f"{mount['mountPath']}/{item['path']}" for item in sources["configMap"]["items"]}
        variables = environ("sharded", container)
        paths = {"GRPC_TOKEN_PATH", "CONTROL_PLANE_TOKEN_PATH", "CONTROL_PLANE_CA_PATH"}
        assert {variables[variable] for variable in paths & variables.keys()} == files, name
