"""Checks of doctor that look at addresses, traffic and the kubelet API."""

import json
from typing import Any

import pytest

from controlplane.app.ports import Rejected
from controlplane.cluster.api import SERVICES, Json
from controlplane.domain.contract import KUBELET_SERVICE
from controlplane.settings import ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings
from modulecontroller.doctor import cluster, others
from modulecontroller.doctor.broker import Traffic
from modulecontroller.doctor.findings import Level
from mqttclient.connection import MqttMessage
from tests.fakes.apiserver import FakeApiServer
from tests.unit.modulecontroller.test_doctor import levels


class TestKubelet:
    SETTINGS = ControlPlaneSettings.model_validate({"NAMESPACE": "apps"}).model_copy(
        update={"kubelet_proxy_enabled": True}
    )

    @pytest.mark.parametrize(
        ("services", "level", "text"),
        [
            ([], "error", "no Service has the label"),
            ([{"clusterIP": "10.96.0.7", "ports": [{"port": 443}]}], "ok", "reaches it at 10.96.0.7:443"),
        ],
    )
    async def test_the_services_give_level_and_message(self, services: list[Json], level: str, text: str) -> None:
        api = FakeApiServer()
        for spec in services:
            meta = {"name": "kubelet", "namespace": "apps", "labels": {KUBELET_SERVICE: "true"}}
            api.put(SERVICES, {"metadata": meta, "spec": spec})
        found = await cluster.kubelet_service(api, self.SETTINGS)
        assert found.level.value == level
        assert text in found.message
        assert bool(found.fix) is (level == "error")

    async def test_services_that_may_not_be_listed_are_an_error(self) -> None:
        api = FakeApiServer()
        api.fail("list", Rejected("forbidden (HTTP 403)"))
        found = await cluster.kubelet_service(api, self.SETTINGS)
        assert found.level is Level.ERROR
        assert found.message == "Services of namespace apps cannot be listed: forbidden (HTTP 403)"
        assert "deploy/kubelet" in found.fix


class TestAddresses:
    def node(self, address: str, tunnel: str = "http") -> dict[str, Any]:
        annotations = {"base.koupleless.io/address": address, "base.koupleless.io/tunnel": tunnel}
        return {"metadata": {"name": f"vnode.{address}.dev", "annotations": annotations}}

    def test_known_bases_outside_the_policy_are_an_error(self) -> None:
        gateway = HttpGatewaySettings.model_validate({"HTTP_TUNNEL_ALLOWED_CIDRS": "10.0.0.0/8"})
        nodes = [self.node("10.0.0.1:1238"), self.node("11.0.0.1:1238"), self.node("12.0.0.1:0", "mqtt"), {}]
        found = others.known(gateway, nodes)
        assert found.level is Level.ERROR
        assert found.message.startswith("1 of 2 bases that are known would be refused: vnode.11.0.0.1:1238.dev")
        assert others.known(gateway, nodes[:1]).level is Level.OK
        assert others.known(gateway, []).level is Level.OK

    @pytest.mark.parametrize(
        ("cidrs", "token", "own", "expected"),
        [
            ("0.0.0.0/0", "", [], ["warning"]),
            ("0.0.0.0/0", "t", [], []),
            ("10.0.0.0/8", "", ["192.168.1.1"], ["warning"]),
            ("10.0.0.0/8", "", ["192.168.1.1", "10.1.1.1"], []),
            (",", "", ["10.1.1.1"], ["error"]),
        ],
    )
    def test_the_policy_itself_is_checked(self, cidrs: str, token: str, own: list[str], expected: list[str]) -> None:
        gateway = HttpGatewaySettings.model_validate({"HTTP_TUNNEL_ALLOWED_CIDRS": cidrs, "HTTP_TUNNEL_TOKEN": token})
        assert levels(list(others.policy(gateway, own))) == expected


def heartbeat(
    env: str, base: str, stamp: float = 100.0, payload: bytes = b"", *, retained: bool = False
) -> MqttMessage:
    data = {
        "baseMetadata": {"identity": base, "name": "shop", "version": "1", "clusterName": "default"},
        "localIP": "10.0.0.1",
        "localHostName": "h",
        "state": "ACTIVATED",
    }
    body = payload or json.dumps({"publishTimestamp": int(stamp * 1000), "data": data}).encode()
    return MqttMessage(f"koupleless_{env}/{base}/base/heart", body, retained)


class TestTraffic:
    def findings(self, *messages: MqttMessage) -> dict[str, list[tuple[str, str]]]:
        traffic = Traffic("prod", lambda: 100.0)
        for message in messages:
            traffic.take(message)
        found: dict[str, list[tuple[str, str]]] = {}
        for finding in traffic.findings(12.0):
            found.setdefault(finding.about, []).append((finding.level.value, finding.message))
        return found

    def test_bases_with_right_clocks_are_ok(self) -> None:
        found = self.findings(heartbeat("prod", "a"), heartbeat("prod", "b", 96.0))
        assert found["topics"] == [("ok", "2 bases send heartbeats under koupleless_prod/+/base/heart: a, b")]
        assert found["clocks of bases"][0][0] == "ok"
        assert found["leftovers"][0][0] == "ok"

    def test_a_clock_that_is_off_is_a_warning(self) -> None:
        ((level, message),) = self.findings(heartbeat("prod", "a"), heartbeat("prod", "b", 40.0))["clocks of bases"]
        assert level == "warning"
        assert "b is 60 s behind" in message

    def test_silence_is_a_warning(self) -> None:
        assert self.findings()["topics"][0][0] == "warning"

    def test_bases_of_other_environments_are_reported(self) -> None:
        found = self.findings(heartbeat("default", "x"), heartbeat("PROD", "y"))
        messages = [message for _, message in found["topics"]]
        assert any("x send heartbeats in the environment default: not served" in message for message in messages)
        assert any("PROD (which differs only in case)" in message for message in messages)

    def test_invalid_identities_and_payloads_are_errors(self) -> None:
        found = self.findings(heartbeat("prod", "unknown-Ab3Xy"), heartbeat("prod", "c", payload=b"{}"))
        assert [level for level, _ in found["topics"]] == ["error", "error"]

    def test_retained_commands_are_leftovers_and_retained_heartbeats_do_not_count(self) -> None:
        install = MqttMessage("koupleless_prod/a/installBiz", b"{}", retained=True)
        cleared = MqttMessage("koupleless_prod/b/installBiz", b"", retained=True)
        found = self.findings(install, cleared, heartbeat("prod", "a", retained=True))
        assert found["leftovers"][0][0] == "warning"
        assert "1 retained commands" in found["leftovers"][0][1]
        assert "no heartbeat came" in found["topics"][0][1]

    @pytest.mark.parametrize("topic", ["", "a/b/c", "koupleless_prod/a/base/health", "x/a/base/heart"])
    def test_other_topics_are_ignored(self, topic: str) -> None:
        assert self.findings(MqttMessage(topic, b"{}", retained=False)) == self.findings()


def test_own_addresses_exclude_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = ["127.0.1.1", "10.0.0.7", "10.0.0.7", "::1", "fe80::1%eth0", "fd00::7"]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (one, 0)) for one in resolved])
    assert others._own_addresses() == ["10.0.0.7", "fd00::7"]
