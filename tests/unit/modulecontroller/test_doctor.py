"""module-controller doctor: what each check finds; tests/integration/doctor runs it with real servers."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
import yaml

from controlplane.app.ports import ClusterError, Rejected, Transient
from controlplane.kube.client import KubeApiServer
from controlplane.kube.credentials import Credentials
from controlplane.kube.errors import Unauthorized
from controlplane.settings import ControlPlaneSettings
from kubeaccess.access import Access
from mctl.text import some
from modulecontroller.configuration import Configuration, survey
from modulecontroller.doctor import cluster, machine, openports
from modulecontroller.doctor.cluster import needed
from modulecontroller.doctor.examine import CHECKS, as_json, as_text, examine, exit_code
from modulecontroller.doctor.findings import Check, Finding, Level, error, ok, skipped, warning
from tests.servers.rbac import SHIPPED


async def look(check: Check, *programs: str) -> list[Finding]:
    return await examine(survey(programs), checks={"it": check})


def levels(found: list[Finding]) -> list[str]:
    return [finding.level.value for finding in found]


class TestExamining:
    async def test_a_check_that_hangs_is_ended_and_keeps_what_it_found(self) -> None:
        async def hangs(_: Configuration) -> AsyncIterator[Finding]:
            yield ok("connected")
            await asyncio.Event().wait()

        found = await examine(Configuration(()), checks={"broker": hangs}, limit=0.01)
        assert levels(found) == ["ok", "error"]
        assert "not done within 0.01 s" in found[1].message

    async def test_a_check_that_fails_hides_no_other(self) -> None:
        async def fails(_: Configuration) -> AsyncIterator[Finding]:
            yield ok("fine")
            raise ZeroDivisionError("oh")

        async def works(_: Configuration) -> AsyncIterator[Finding]:
            yield ok("fine", about="part of b")

        found = await examine(Configuration(()), checks={"a": fails, "b": works})
        assert [finding.about for finding in found] == ["a", "a", "part of b"]
        assert "ZeroDivisionError: oh" in found[1].message

    async def test_no_secret_is_shown(self) -> None:
        async def finds(_: Configuration) -> AsyncIterator[Finding]:
            yield ok("at http://user:pass-word@proxy")

        (found,) = await examine(Configuration(()), checks={"a": finds})
        assert found.message == "at http://***@proxy"

    def test_the_exit_code_is_1_only_for_errors(self) -> None:
        assert exit_code([ok("a"), warning("b", "do"), skipped("c")]) == 0
        assert exit_code([ok("a"), error("b", "do")]) == 1

    def test_both_forms_show_cause_fix_and_summary(self) -> None:
        found = [ok("fine", about="clock"), error("is away", "start it", about="broker")]
        text = as_text(found)
        assert "error    broker  is away" in text
        assert "fix: start it" in text
        assert text.endswith("1 ok, 1 error\n")
        document = json.loads(as_json(found))
        assert document["findings"][1] == {"about": "broker", "level": "error", "message": "is away", "fix": "start it"}
        assert document["summary"] == {"ok": 1, "skipped": 0, "warning": 0, "error": 1}

    async def test_without_settings_every_check_has_findings(self) -> None:
        for name, check in CHECKS.items():
            if name != "ports":  # opens sockets: tests/integration/doctor
                found = await look(check)
                assert found, name
                assert not [each for each in found if "the check itself failed" in each.message], name

    def test_lists_are_cut(self) -> None:
        assert some(["a", "b"]) == "a, b"
        assert some([str(n) for n in range(9)]) == "0, 1, 2, 3, 4 and 4 more"


class TestSettings:
    async def test_wrong_settings_are_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRPC_PORT", "x")
        monkeypatch.setenv("ENV", "a.b")
        found = await look(machine.settings, "controlplane")
        assert levels(found) == ["error", "error"]

    async def test_an_environment_in_upper_case_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENV", "Prod")
        found = await look(machine.settings, "controlplane")
        assert found[-1].message.startswith("ENV=Prod is used as prod")

    async def test_unread_variables_are_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENABLE_HTTP_TUNNEL", "true")
        monkeypatch.setenv("MQTT_BROKER", "b")
        found = await look(machine.settings)
        assert levels(found) == ["ok", "warning"]
        assert "MQTT_BROKER" in found[1].message


class TestIdentity:
    @pytest.mark.parametrize(
        ("variables", "level"),
        [
            ({"CLIENT_ID": "mc", "CLUSTER": "kubernetes"}, "ok"),
            ({"CLUSTER": "kubernetes"}, "warning"),
            ({"CLUSTER": "embedded"}, "ok"),
            ({"CLUSTER": "wrong"}, "skipped"),
        ],
    )
    async def test_a_stable_identity_is_expected(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], level: str
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert levels(await look(machine.identity, "controlplane")) == [level]


class TestFiles:
    async def test_a_database_in_an_unwritable_folder_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        blocked = tmp_path / "file"
        blocked.touch()
        monkeypatch.setenv("EMBEDDED_DB", str(blocked / "cluster.db"))
        (found,) = await look(machine.files, "controlplane")
        assert found.level is Level.ERROR
        assert f"EMBEDDED_DB={blocked}/cluster.db" in found.message

    async def test_the_check_creates_no_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("EMBEDDED_DB", str(tmp_path / "new" / "cluster.db"))
        assert levels(await look(machine.files, "controlplane")) == ["ok"]
        assert not os.listdir(tmp_path)

    @pytest.mark.parametrize(("days", "level"), [(-1, "error"), (7, "warning"), (400, "ok")])
    async def test_a_ca_that_expires_is_reported(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, days: int, level: str
    ) -> None:
        ca = tmp_path / "ca.crt"
        trustme.CA().cert_pem.write_to_path(str(ca))
        monkeypatch.setenv("MQTT_BROKER", "b")
        monkeypatch.setenv("MQTT_CA_PATH", str(ca))
        monkeypatch.setattr(machine, "_last_end", lambda _: time.time() + days * 86400)
        assert levels(await look(machine.files, "mqtt-gateway")) == [level]

    def test_the_expiry_is_read_from_the_certificate(self, tmp_path: Path) -> None:
        ca = tmp_path / "ca.crt"
        trustme.CA().cert_pem.write_to_path(str(ca))
        assert machine._last_end(str(ca)) > time.time()

    async def test_a_world_readable_key_is_a_warning(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        leaf = trustme.CA().issue_cert("client.test")
        certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        leaf.private_key_pem.write_to_path(str(key))
        monkeypatch.setenv("MQTT_BROKER", "b")
        monkeypatch.setenv("MQTT_CLIENT_CRT_PATH", str(certificate))
        monkeypatch.setenv("MQTT_CLIENT_KEY_PATH", str(key))
        key.chmod(0o604)
        assert levels(await look(machine.files, "mqtt-gateway")) == ["warning"]
        key.chmod(0o600)
        assert levels(await look(machine.files, "mqtt-gateway")) == ["ok"]


class TestPorts:
    def test_module_controller_needs_those_of_its_programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENABLE_HTTP_TUNNEL", "true")
        wanted = [(port.variable, port.number) for port in openports.listening(survey())]
        assert wanted == [
            ("GRPC_PORT", 50051),
            ("REPORT_PORT", 8080),
            ("HTTP_TUNNEL_LISTEN_PORT", 7777),
            ("HEALTH_PORT", 8081),
            ("METRICS_PORT", 9090),
        ]

    def test_a_gateway_alone_needs_three(self) -> None:
        wanted = [(port.variable, port.number) for port in openports.listening(survey(["http-gateway"]))]
        assert wanted == [("HTTP_TUNNEL_LISTEN_PORT", 7777), ("HEALTH_PORT", 8082), ("METRICS_PORT", 9091)]

    async def test_a_port_with_several_uses_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_TUNNEL_LISTEN_PORT", "HEALTH_PORT", "METRICS_PORT"):
            monkeypatch.setenv(name, "7001")
        found = await look(machine.ports, "http-gateway")
        assert levels(found) == ["error"] * 3
        assert found[0].message == "HTTP_TUNNEL_LISTEN_PORT=7001 is wanted for HEALTH_PORT, METRICS_PORT as well"

    def test_the_listener_is_read_from_proc(self, tmp_path: Path) -> None:
        net = tmp_path / "net"
        net.mkdir()
        head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        row = "   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"
        (net / "tcp").write_text(
            head + row.format(port=7777, state="0A", inode=11) + row.format(port=7778, state="01", inode=12)
        )
        descriptors = tmp_path / "42" / "fd"
        descriptors.mkdir(parents=True)
        (descriptors / "3").symlink_to("socket:[11]")
        (descriptors / "4").symlink_to("socket:[12]")
        (tmp_path / "42" / "cmdline").write_bytes(b"python\0-m\0gateways.http\0")
        (tmp_path / "43").mkdir()
        found = machine.listener(7777, tmp_path)
        assert found == (42, "python -m gateways.http")
        assert machine.listener(7778, tmp_path) is None

    @pytest.mark.parametrize(
        ("command", "ours"),
        [
            ("python -m gateways.http", True),
            ("/usr/bin/python3 -m modulecontroller quickstart", True),
            ("/opt/bin/python /opt/bin/module-controller", True),
            ("controlplane", True),
            ("nginx", False),
            ("python -m pytest tests/integration/modulecontroller", False),
            ("", False),
        ],
    )
    def test_our_programs_are_known_by_their_command_line(self, command: str, ours: bool) -> None:
        assert machine.is_ours(command) is ours


class TestApiServer:
    @pytest.mark.parametrize(
        ("version", "level", "text"),
        [
            ("v1.36.3", "ok", "v1.36.3"),
            ("v1.20.15+k3s1", "ok", "v1.20.15"),
            ("v1.19.0", "warning", "older"),
            ("v1.99.0", "warning", "newer"),
            ("", "error", "does not show its version: none"),
            ("v2.3.4", "warning", "newer"),
            ("latest", "error", "does not show its version: latest"),
        ],
    )
    def test_the_version_gives_level_and_message(self, version: str, level: str, text: str) -> None:
        found = cluster.version("https://k", version)
        assert found.level.value == level
        assert text in found.message

    @pytest.mark.parametrize(
        ("failure", "message", "fix"),
        [
            (Unauthorized("no (HTTP 401)"), "https://k does not accept our credentials: no (HTTP 401)", "renew"),
            (
                Rejected("no (HTTP 403)"),
                "https://k does not show its version: no (HTTP 403)",
                "a Kubernetes API server",
            ),
            (Transient("get version: no reply"), "https://k: get version: no reply", "start it"),
        ],
    )
    async def test_an_api_server_that_refuses_or_is_away_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, failure: ClusterError, message: str, fix: str
    ) -> None:
        async def access(_: object) -> Access:
            return Access("https://k")

        async def version(_: object) -> tuple[str, str]:
            raise failure

        monkeypatch.setattr(Credentials, "access", access)
        monkeypatch.setattr(KubeApiServer, "version", version)
        monkeypatch.setenv("CLUSTER", "kubernetes")
        (found,) = await look(cluster.api_server, "controlplane")
        assert (found.level, found.message) == (Level.ERROR, message)
        assert fix in found.fix
        (found,) = await look(cluster.clock, "controlplane")
        assert found.level is Level.SKIPPED

    @pytest.mark.parametrize(("offset", "level"), [(0.0, "ok"), (4.0, "ok"), (-4.0, "ok"), (6.0, "warning")])
    def test_a_clock_that_differs_is_a_warning(self, offset: float, level: str) -> None:
        found = cluster.difference("Wed, 25 Nov 2026 05:00:00 GMT", 1795582800.5 + offset)
        assert found.level.value == level

    @pytest.mark.parametrize("date", ["", "yesterday"])
    def test_no_time_is_no_error(self, date: str) -> None:
        assert cluster.difference(date, 0.0).level is Level.SKIPPED


def test_checked_permissions_are_the_shipped_ones() -> None:
    shipped: dict[tuple[str, str, str], set[str]] = {}
    more = SHIPPED.parent / "kubelet" / "rbac.yaml"
    for obj in [*yaml.safe_load_all(SHIPPED.read_text()), *yaml.safe_load_all(more.read_text())]:
        for rule in (obj or {}).get("rules", []):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    key = (group, resource, obj["metadata"].get("namespace", ""))
                    shipped.setdefault(key, set()).update(rule["verbs"])
    everything = ControlPlaneSettings.model_validate(
        {"NAMESPACE": "koupleless-system", "ENABLE_MODULE_DEPLOYMENT_CONTROLLER": "true"}
    ).model_copy(update={"kubelet_proxy_enabled": True})
    looked_for = {(each.group, each.resource, each.namespace): set(each.verbs.split()) for each in needed(everything)}
    assert looked_for == shipped, "deploy/**/rbac.yaml and modulecontroller/doctor/cluster.py must say the same"


def test_disabled_features_need_no_permissions() -> None:
    without = ControlPlaneSettings.model_validate({"NAMESPACE": "apps"})
    optional = {"pods/log", "tokenreviews", "services", "deployments/scale"}
    assert not optional & {each.resource for each in needed(without)}
    enabled = without.model_copy(update={"kubelet_proxy_enabled": True})
    assert {str(each) for each in needed(enabled)} >= {"pods/log", "tokenreviews", "services in apps"}


def test_doctor_names_the_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", none)
    monkeypatch.setenv("ENABLE_HTTP_TUNNEL", "true")
    (found,) = asyncio.run(look(machine.files))
    assert "TMPDIR" in found.fix
