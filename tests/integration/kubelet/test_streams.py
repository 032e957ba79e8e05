"""kubectl exec, attach, port-forward and cp of a module lead into the Pod of its base, over SPDY and WebSockets.

Commands run as processes of this machine: the node of the base's Pod is the library of kubelets (node-streams).
"""

import asyncio
import os
import pty
import ssl
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import aiohttp
import pytest

from tests.integration.kubelet.conftest import (
    BARE,
    BASES,
    MODULES,
    SHIPPED,
    Stage,
    put_base_pod,
    put_module,
    ready,
    remove,
)
from tests.integration.kubelet.nodestreams import node_streams
from tests.programs import SimulatedBase, ask, eventually
from tests.servers import manifests
from tests.servers.cluster import ADMIN, CONTROL_PLANE

pytestmark = pytest.mark.timeout(400)

POD = "biz3"
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
"""Has kubectl use SPDY, as before 1.31; the API server uses it in either case."""


@pytest.fixture(scope="module")
def folder(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the folder in which commands of the base "shop-1" run."""
    folder = tmp_path_factory.mktemp("container")
    kube, role = stage.kube, manifests.load(SHIPPED / "exec.yaml")
    for obj in role:
        if obj["kind"] == "RoleBinding":
            obj["metadata"]["namespace"] = BASES
            obj["subjects"] = [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": CONTROL_PLANE}]
        manifests.apply(kube.api, obj)
    with node_streams(folder, kube.pki.server("runner", "127.0.0.1"), kube.pki.ca) as port:
        put_base_pod(kube, port, "runner", "shop-1", "127.0.0.3")
        base = SimulatedBase(stage.programs, stage.gateway, "b3", "--host-name", "shop-1", ip="127.0.0.3").start()
        put_module(kube, POD, "b3")
        eventually(partial(ready, kube, POD), within=60, what=f"Pod {POD} Ready")
        eventually(lambda: stage.kubectl("exec", POD, "--", "true").returncode == 0, within=20, what="the role")
        yield folder
        base.server.stop()
    remove(kube, role)
    for pod in (f"{MODULES}/pods/{POD}", f"{BASES}/pods/shop-1"):
        kube.api.delete(f"/api/v1/namespaces/{pod}", grace_seconds=0)


@pytest.fixture(params=["websocket", "spdy"])
def environ(request: pytest.FixtureRequest, stage: Stage) -> dict[str, str]:
    return stage.environ | (SPDY if request.param == "spdy" else {})


def run(
    stage: Stage, environ: dict[str, str], *arguments: str, says: bytes = b"", within: float = 60.0
) -> subprocess.CompletedProcess[bytes]:
    command = stage.command(*arguments)
    return subprocess.run(command, env=environ, input=says, capture_output=True, timeout=within, check=False)


def test_a_command_runs_in_the_container_of_the_base(stage: Stage, folder: Path, environ: dict[str, str]) -> None:
    script = "pwd; echo $POD $CONTAINER $TTY; echo wrong >&2; exit 3"
    done = run(stage, environ, "exec", POD, "--", "sh", "-c", script)
    assert done.returncode == 3, done.stderr
    assert done.stdout.decode().splitlines() == [str(folder), f"{BASES}/shop-1 base false"]
    assert done.stderr.startswith(b"wrong\n")


def test_all_that_is_said_comes_back(stage: Stage, folder: Path, environ: dict[str, str]) -> None:
    said = os.urandom(3_000_000)
    done = run(stage, environ, "exec", "-i", POD, "--", "cat", says=said)
    assert (done.returncode, done.stdout == said) == (0, True), done.stderr
    done = run(stage, environ, "attach", "-i", POD, says=b"to the process of the base\n")
    assert (done.returncode, done.stdout) == (0, b"to the process of the base\n"), done.stderr


def test_what_a_command_says_last_is_not_lost(stage: Stage, folder: Path, environ: dict[str, str]) -> None:
    """The end of the connection comes while bytes wait for a slower reader."""
    for _ in range(6):
        done = run(stage, environ, "exec", POD, "--", "head", "-c", "3000000", "/dev/zero")
        assert (done.returncode, len(done.stdout)) == (0, 3_000_000), done.stderr


def test_a_long_command_is_a_command(stage: Stage, folder: Path, environ: dict[str, str]) -> None:
    done = run(stage, environ, "exec", POD, "--", "echo", "x" * 20_000)
    assert done.stdout == b"x" * 20_000 + b"\n", done.stderr


def test_a_terminal_is_one(stage: Stage, folder: Path, environ: dict[str, str]) -> None:
    leader, follower = pty.openpty()
    command = stage.command("exec", "-it", POD, "--", "sh", "-c", "echo $TTY")
    done = subprocess.run(command, env=environ, stdin=follower, capture_output=True, timeout=30, check=False)
    os.close(leader)
    os.close(follower)
    assert done.stdout.strip() == b"true", done.stderr


def test_files_are_copied_in_and_out(stage: Stage, folder: Path, environ: dict[str, str], tmp_path: Path) -> None:
    there, back = tmp_path / "dump.bin", tmp_path / "back.bin"
    there.write_bytes(os.urandom(1_000_000))
    for source, target in ((str(there), f"{POD}:copied.bin"), (f"{POD}:copied.bin", str(back))):
        done = run(stage, environ, "cp", source, target)
        assert done.returncode == 0, done.stderr
    assert (folder / "copied.bin").read_bytes() == back.read_bytes() == there.read_bytes()


def test_a_port_is_one_of_the_base(stage: Stage, folder: Path, environ: dict[str, str]) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"z" * 500_000)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        command = stage.command("port-forward", POD, f":{server.server_port}")
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as forward:
            assert forward.stdout is not None
            local = forward.stdout.readline().split(" -> ")[0].rpartition(":")[2]
            for _ in range(3):
                assert ask(f"http://127.0.0.1:{local}/") == (200, "z" * 500_000)
            assert stage.metric('koupleless_kubelet_streams_open{kind="portforward"}') == 1
            forward.terminate()
        server.shutdown()
    eventually(lambda: stage.metric("koupleless_kubelet_streams_open") == 0, within=10, what="the end of all streams")


async def test_websockets_of_browsers_pass_through(stage: Stage, folder: Path) -> None:
    """v4.channel.k8s.io is not translated to SPDY by the API server: the first byte of a message is its stream."""
    tls = ssl.create_default_context(cafile=str(stage.kube.pki.ca))
    tls.load_cert_chain(*stage.kube.pki.files(ADMIN))
    url = f"{stage.kube.url}/api/v1/namespaces/{MODULES}/pods/{POD}/exec?command=cat&stdin=true&stdout=true"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("v4.channel.k8s.io",), ssl=tls) as socket,
    ):
        assert socket.protocol == "v4.channel.k8s.io"
        await socket.send_bytes(b"\x00through\n")
        received = b""
        async with asyncio.timeout(20):
            while received != b"through\n":
                message = await socket.receive_bytes()
                assert message[:1] == b"\x01"
                received += message[1:]
    await asyncio.to_thread(
        eventually, lambda: stage.metric("koupleless_kubelet_streams_open") == 0, within=10, what="its end"
    )


@pytest.mark.parametrize(
    "arguments",
    [("exec", BARE, "--", "ls"), ("attach", BARE), ("port-forward", BARE, ":80"), ("cp", "/etc/hosts", f"{BARE}:x")],
)
def test_where_the_base_is_in_no_pod_it_is_refused_at_once(
    stage: Stage, environ: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = run(stage, environ, *arguments)
    assert done.returncode != 0
    assert b"the base of vnode.b2.dev (host bare, address 127.0.0.2) runs in no Pod of this cluster" in done.stderr


def test_it_is_audited_without_the_command(stage: Stage, folder: Path) -> None:
    run(stage, stage.environ, "exec", POD, "--", "echo", "secret")
    lines = [line for line in stage.control_plane.server.log.read_text().splitlines() if "shop-1" in line]
    assert "kube-apiserver-kubelet-client" in lines[-1]
    for said in (f"{MODULES}/{POD}", f"{BASES}/shop-1", "exec"):
        assert said in lines[-1]
    assert not any("secret" in line for line in lines)


def test_from_another_namespace_it_is_refused_unless_the_base_says_so(stage: Stage, folder: Path) -> None:
    path = f"/api/v1/namespaces/{BASES}/pods/shop-1"
    shipped = stage.kube.api.get(path)["metadata"]["annotations"]
    stage.kube.api.patch(path, {"metadata": {"annotations": dict.fromkeys(shipped)}})
    done = run(stage, stage.environ, "exec", POD, "--", "ls")
    stage.kube.api.patch(path, {"metadata": {"annotations": shipped}})
    assert done.returncode != 0
    assert f"only if that has the annotation base.koupleless.io/exec-from: {MODULES}".encode() in done.stderr


def test_without_the_role_in_the_namespace_of_the_base_it_is_refused(stage: Stage, folder: Path) -> None:
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{BASES}/rolebindings/module-controller-base-exec"
    shipped = stage.kube.api.get(binding)
    stage.kube.api.delete(binding)

    def refused() -> bytes:
        done = run(stage, stage.environ, "exec", POD, "--", "ls")
        return done.stderr if done.returncode else b""

    message = eventually(refused, within=20, what="a refusal")
    assert b"exec in Pod bases/shop-1, container base: " in message
    assert b'cannot create resource "pods/exec"' in message
    stage.kube.api.create(
        binding.rpartition("/")[0],
        {key: shipped[key] for key in ("roleRef", "subjects")} | {"metadata": {"name": "module-controller-base-exec"}},
    )
