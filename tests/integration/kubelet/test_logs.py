"""kubectl logs of a module shows the log of its base, with all options, or says why there is none."""

import subprocess

import pytest

from tests.integration.kubelet.conftest import BARE, LOG, MODULES, POD, SERVICES, SHIPPED, Stage, kubelet_of, service
from tests.programs import eventually
from tests.servers import manifests, rbac
from tests.servers.cluster import CONTROL_PLANE

pytestmark = pytest.mark.timeout(400)

EXPLAINED = (
    "[module-controller] the base of vnode.b2.dev (host bare, address 127.0.0.2) runs in no Pod of this cluster: "
    "its log is where it runs\n"
)


def test_a_node_has_the_address_of_the_service_and_a_pod_that_of_its_base(stage: Stage) -> None:
    service_addresses = [{"type": "InternalIP", "address": stage.service_ip}]
    assert kubelet_of(stage.vnode("b1")) == (service_addresses, stage.port)
    assert kubelet_of(stage.vnode("b2")) == (service_addresses, stage.port)
    for pod, ip in ((POD, "127.0.0.1"), (BARE, "127.0.0.2")):
        status = stage.kube.api.get(f"/api/v1/namespaces/{MODULES}/pods/{pod}")["status"]
        assert (status["podIP"], status["hostIP"]) == (ip, ip)


@pytest.mark.parametrize(
    ("arguments", "printed", "asked"),
    [
        ((), "one\ntwo\nthree\n", {}),
        (("-c", POD), "one\ntwo\nthree\n", {}),
        (("--tail=1",), "three\n", {"tailLines": "1"}),
        (("--tail=0",), "", {"tailLines": "0"}),
        (("--limit-bytes=5",), "one\nt", {"limitBytes": "5"}),
        (("--timestamps", "--tail=1"), "2026-01-31T12:00:00Z three\n", {"timestamps": "true", "tailLines": "1"}),
        (("--since=1h",), "one\ntwo\nthree\n", {"sinceSeconds": "3600"}),
        (("--since-time=2026-01-31T12:00:00Z",), "one\ntwo\nthree\n", {"sinceTime": "2026-01-31T12:00:00Z"}),
    ],
)
def test_the_log_is_that_of_the_bases_container(
    stage: Stage, arguments: tuple[str, ...], printed: str, asked: dict[str, str]
) -> None:
    done = stage.kubectl("logs", POD, *arguments)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    container, query = stage.node.asked[-1]
    assert container == LOG
    assert {name: value for name, value in query.items() if name != "stream"} == asked


def test_a_refusal_of_the_bases_kubelet_is_passed_on(stage: Stage) -> None:
    done = stage.kubectl("logs", POD, "--previous")
    assert done.returncode == 1
    assert "previous terminated container" in done.stderr
    assert "bases/shop-0" in done.stderr


def test_a_log_is_followed_line_by_line_until_the_reader_leaves(stage: Stage) -> None:
    command = stage.command("logs", POD, "--follow", "--tail=0")
    with subprocess.Popen(command, env=stage.environ, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        eventually(lambda: stage.node.following == 1, within=20, what="a reader that follows")
        for n in range(3):
            stage.node.say(LOG, f"news {n}")
            assert follower.stdout.readline() == f"news {n}\n"
        assert stage.metric("koupleless_kubelet_logs_open") == 1
        follower.terminate()
    eventually(lambda: stage.node.following == 0, within=20, what="the end of following")
    eventually(lambda: stage.metric("koupleless_kubelet_logs_open") == 0, within=5, what="no open log")


@pytest.mark.parametrize(
    "arguments", [(), ("--follow",), ("--previous",), ("--tail=0",), ("--all-containers", "--since=1h")]
)
def test_where_a_base_is_in_no_pod_one_line_says_where_its_log_is(stage: Stage, arguments: tuple[str, ...]) -> None:
    done = stage.kubectl("logs", BARE, *arguments)
    assert (done.returncode, done.stdout) == (0, EXPLAINED), done.stderr


@pytest.mark.parametrize("arguments", [(), ("--follow",), ("--max-log-requests=2", "--all-containers")])
def test_a_selector_shows_what_there_is_of_all_its_pods(stage: Stage, arguments: tuple[str, ...]) -> None:
    command = stage.command(
        "logs", "-l", "virtual-kubelet.koupleless.io/component=module", "--prefix", "--tail=1", *arguments
    )
    with subprocess.Popen(command, env=stage.environ, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        lines = {reader.stdout.readline(), reader.stdout.readline()}
        reader.terminate()
    assert lines == {f"[pod/{POD}/{POD}] {stage.node.logs[LOG].lines[-1]}\n", f"[pod/{BARE}/{BARE}] {EXPLAINED}"}


def test_without_the_permission_for_a_bases_log_it_says_so(stage: Stage) -> None:
    binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/module-controller-base-logs"
    stage.kube.api.delete(binding)
    try:

        def refused() -> str:
            done = stage.kubectl("logs", POD)
            return done.stderr if done.returncode else ""

        message = eventually(refused, within=20, what="a refusal")
        assert "the log of Pod bases/shop-0, container base:" in message
        assert 'cannot get resource "pods/log"' in message
    finally:
        rbac.apply(stage.kube.api, CONTROL_PLANE, SHIPPED / "rbac.yaml")
    eventually(lambda: stage.kubectl("logs", POD).returncode == 0, within=20, what="the log again")


def test_nodes_follow_the_service_as_it_goes_and_comes(stage: Stage) -> None:
    own = [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": "shop-0"}]
    through = kubelet_of(stage.vnode())
    stage.kube.api.delete(f"{SERVICES}/module-controller-kubelet")
    eventually(lambda: kubelet_of(stage.vnode()) == (own, 0), within=20, what="the base's own address")
    assert stage.metric("koupleless_kubelet_service") == 0
    again = service(stage.port)
    again["spec"]["clusterIP"] = stage.service_ip
    manifests.apply(stage.kube.api, again)
    eventually(lambda: kubelet_of(stage.vnode()) == through, within=20, what="the Service's address")
    assert stage.kubectl("logs", POD, "--tail=0").returncode == 0
