"""Pods are ready by their probes; containers that are no modules and unsupported fields are ignored or refused."""

import asyncio

import pytest

from controlplane.cluster.api import PODS, Json
from controlplane.domain.facts import ModuleState
from controlplane.domain.identity import ModuleKey
from controlplane.domain.probes import TcpSocket
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

PROBE: Json = {"tcpSocket": {"port": 8080}, "periodSeconds": 2, "failureThreshold": 2}


def condition(stage: Stage, pod: str, kind: str) -> Json:
    obj = stage.pod(pod)
    assert obj is not None
    found: Json = next(c for c in obj["status"]["conditions"] if c["type"] == kind)
    return found


def container_status(stage: Stage, pod: str) -> Json:
    obj = stage.pod(pod)
    assert obj is not None
    found: Json = obj["status"]["containerStatuses"][0]
    return found


async def test_a_pod_is_ready_when_its_probe_succeeded_and_not_before() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.probes.failures[8080] = "connection refused"
        stage.put_pod("p", container={"readinessProbe": PROBE})
        await asyncio.sleep(20.0)
        assert container_status(stage, "p")["ready"] is False
        assert "running" in container_status(stage, "p")["state"]
        message = "modules not ready: biz1 (connection refused)"
        assert condition(stage, "p", "Ready") | {"lastTransitionTime": ""} == {
            "type": "Ready",
            "status": "False",
            "reason": "ContainersNotReady",
            "message": message,
            "lastTransitionTime": "",
        }
        assert stage.reasons().count("Unhealthy") == 1
        assert {ip for ip, _ in stage.probes.sent} == {"10.0.0.7"}
        assert {type(handler) for _, handler in stage.probes.sent} == {TcpSocket}
        stage.probes.failures.clear()
        await asyncio.sleep(5.0)
        assert stage.ready("pod", "p") == "True"
        stage.probes.failures[8080] = "connection refused"
        await asyncio.sleep(10.0)
        assert stage.ready("pod", "p") == "False"
        assert stage.reasons().count("Unhealthy") == 2


async def test_a_probe_that_goes_on_failing_costs_no_more_writes() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.probes.failures[8080] = "connection refused"
        stage.put_pod("p", container={"readinessProbe": PROBE})
        await asyncio.sleep(20.0)
        sent = len(stage.probes.sent)
        stage.api.calls.clear()
        stage.probes.failures[8080] = "another failure each time"
        await asyncio.sleep(100.0)
        assert len(stage.probes.sent) >= sent + 49
        assert [c for c in stage.api.calls if c.resource == PODS and c.verb == "patch"] == []


async def test_a_module_is_started_once_its_startup_probe_succeeds() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.probes.failures[8081] = "connection refused"
        startup = {"tcpSocket": {"port": 8081}, "periodSeconds": 1, "failureThreshold": 5}
        stage.put_pod("p", container={"startupProbe": startup, "readinessProbe": PROBE})
        await asyncio.sleep(20.0)
        assert (container_status(stage, "p")["started"], container_status(stage, "p")["ready"]) == (False, False)
        assert [h.remark.message for h in stage.recorder.recent() if h.remark.reason == "Unhealthy"] == [
            "biz1: Startup probe failed: connection refused"
        ]
        assert stage.bases.uninstalls == []
        stage.probes.failures.clear()
        await asyncio.sleep(5.0)
        assert (container_status(stage, "p")["started"], container_status(stage, "p")["ready"]) == (True, True)


async def test_ready_pods_stay_ready_when_the_control_plane_restarts() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p", container={"readinessProbe": PROBE})
        await asyncio.sleep(10.0)
        assert stage.ready("pod", "p") == "True"
        modules = stage.bases.modules
    api.calls.clear()
    async with Stage(api).running() as again:
        again.bases.modules = modules
        again.bases.add("b1")
        await asyncio.sleep(30.0)
        assert again.ready("pod", "p") == "True"
        assert again.probes.sent
        assert [c for c in api.calls if c.resource == PODS and c.verb == "patch"] == []


async def test_a_module_that_is_installed_again_is_probed_anew() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p", container={"readinessProbe": PROBE})
        await asyncio.sleep(10.0)
        stage.probes.failures[8080] = "connection refused"
        stage.bases.modules[base].clear()
        await asyncio.sleep(60.0)
        assert stage.bases.modules[base] == {ModuleKey("biz1", "1"): ModuleState.ACTIVATED}
        assert stage.ready("pod", "p") == "False"


async def test_nothing_is_probed_once_the_pod_is_gone() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p", container={"readinessProbe": PROBE})
        await asyncio.sleep(10.0)
        stage.delete_pod("p")
        await asyncio.sleep(10.0)
        sent = len(stage.probes.sent)
        await asyncio.sleep(60.0)
        assert len(stage.probes.sent) == sent


async def test_an_older_version_serves_until_the_newer_one_is_ready() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("a", container={"readinessProbe": PROBE})
        await asyncio.sleep(10.0)
        stage.probes.failures[9090] = "connection refused"
        newer = {**PROBE, "tcpSocket": {"port": 9090}}
        stage.put_pod("newer", version="2", container={"readinessProbe": newer})
        await asyncio.sleep(20.0)
        assert (stage.ready("pod", "a"), stage.ready("pod", "newer")) == ("True", "False")
        stage.probes.failures.clear()
        await asyncio.sleep(10.0)
        assert (stage.ready("pod", "a"), stage.ready("pod", "newer")) == ("False", "True")


async def test_injected_containers_do_not_keep_a_pod_from_being_ready() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        proxy = {"name": "istio-proxy", "image": "istio/proxyv2"}
        stage.put_pod("p", spec={"initContainers": [{"name": "istio-init", "image": "istio/proxyv2"}]})
        pod = stage.pod("p")
        assert pod is not None
        pod["spec"]["containers"].insert(0, proxy)
        stage.api.put(PODS, pod)
        await asyncio.sleep(10.0)
        assert stage.ready("pod", "p") == "True"
        assert list(stage.bases.modules[base]) == [ModuleKey("biz1", "1")]
        pod = stage.pod("p")
        assert pod is not None
        status = pod["status"]
        assert [each["name"] for each in status["containerStatuses"]] == ["biz1", "istio-proxy"]
        ended = status["containerStatuses"][1]["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("NotAModule", 0)
        assert status["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "NotAModule"
        messages = [h.remark.message for h in stage.recorder.recent() if h.remark.reason == "FieldsIgnored"]
        assert messages == [
            "ignored, as a virtual node has no use for it: container istio-proxy, init container istio-init"
        ]


async def test_the_next_control_plane_does_not_repeat_events_of_a_pod() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p", container={"envFrom": [{"configMapRef": {"name": "c"}}], "tty": True})
        await asyncio.sleep(10.0)
        assert (stage.reasons().count("UnsupportedField"), stage.reasons().count("FieldsIgnored")) == (1, 1)
        assert stage.bases.installs == []
    async with Stage(api).running() as again:
        again.bases.add("b1")
        await asyncio.sleep(30.0)
        assert {"UnsupportedField", "FieldsIgnored"} & set(again.reasons()) == set()


async def test_a_pod_past_its_deadline_fails_and_its_modules_are_uninstalled() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p", spec={"activeDeadlineSeconds": 30})
        await asyncio.sleep(20.0)
        assert stage.ready("pod", "p") == "True"
        await asyncio.sleep(15.0)
        pod = stage.pod("p")
        assert pod is not None
        assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")
        assert stage.bases.modules[base] == {}
        assert stage.reasons().count("DeadlineExceeded") == 1
        stage.api.calls.clear()
        await asyncio.sleep(120.0)
        assert [c for c in stage.api.calls if c.resource == PODS and c.verb == "patch"] == []
        assert len(stage.bases.installs) == 1
