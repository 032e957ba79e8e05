"""mctl on real processes reports partial failures, repeated requests and replicas that end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, eventually

URL = "https://repo.example/biz-1.jar"


class Stage:
    """A control plane on the embedded cluster with two bases, which outlive its restarts."""

    def __init__(self, programs: Programs) -> None:
        database = str(programs.folder / "cluster.db")
        self.control_plane = ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=database).start()
        gateway = HttpGateway(programs, self.control_plane.address).start()
        self.bases = [SimulatedBase(programs, gateway.url, f"base-{number}").start() for number in (1, 2)]
        self.mctl = self.control_plane.mctl()
        self.mctl("wait", "vnode/base-1", "vnode/base-2", "--timeout", "30s")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Programs(tmp_path) as programs:
        yield Stage(programs)


class Watching:
    """mctl as a process that prints changes as JSON, into a file."""

    def __init__(self, stage: Stage, folder: Path, what: str) -> None:
        self._file = folder / what
        command = [sys.executable, "-m", "mctl", "--server", stage.control_plane.address, "get", what]
        with self._file.open("wb") as output:
            self.process = subprocess.Popen([*command, "--watch", "-o", "json"], stdout=output, env=stage.mctl.environ)

    def objects(self) -> list[dict[str, object]]:
        """Return the objects that were shown, last states included."""
        lines = self._file.read_text().split("\n")[:-1]
        return [json.loads(line)["object"] for line in lines]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> int:
        """Press Ctrl-C and return how it ended."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


def test_what_one_base_cannot_take_is_reported_and_the_others_get_it(stage: Stage) -> None:
    install = ("install", "biz", "--version", "1", "--url", URL, "--all")
    stage.mctl(*install)
    stage.mctl("wait", "module/biz:1", "--timeout", "30s")
    stage.bases[0].control("slow?command=uninstallBiz&seconds=100")
    stage.mctl("uninstall", "biz", "--version", "1", "--all")
    stage.mctl("wait", "--for=gone", "module/biz:1", "--base", "base-2", "--timeout", "30s")
    out, err = stage.mctl.run(*install, code=6)
    assert [line.split()[-1] for line in out.splitlines()] == ["RESULT", "failed", "created"]
    assert "1 of 2 failed; the same command again tries them again" in err
    assert "vnode.base-1.dev: NotAllowed: Pod default/" in err
    assert "is still being deleted" in err
    # With one base its failure is that of the call.
    err = stage.mctl("install", "biz", "--version", "1", "--url", URL, "--base", "base-1", code=1)
    assert "is still being deleted" in err
    stage.bases[0].control("heal")
    stage.mctl("wait", "--for=gone", "module/biz:1", "--base", "base-1", "--timeout", "90s")
    out = stage.mctl(*install)
    assert [line.split()[-1] for line in out.splitlines()] == ["RESULT", "created", "unchanged"]


def test_a_url_that_is_none_is_refused_before_anything_is_done(stage: Stage) -> None:
    err = stage.mctl("install", "biz", "--version", "1", "--url", "not-a-url", "--all", code=2)
    assert err.startswith("mctl: url: 'not-a-url' is not a URL: write it with its scheme")
    assert stage.mctl.items("get", "modules") == []


def test_a_request_id_stands_for_one_request(stage: Stage) -> None:
    with stage.control_plane.channel() as channel:
        stub = ModuleControllerServiceStub(channel)

        def install(name: str) -> pb.InstallModuleResponse:
            request = pb.InstallModuleRequest(
                request_id="r", target=pb.Target(all=True), name=name, version="1", url=URL
            )
            return stub.InstallModule(request, timeout=10)

        first = install("biz")
        assert [operation.result for operation in first.operations] == ["created"] * 2
        assert install("biz") == first
        with pytest.raises(grpc.RpcError) as refused:
            install("other")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "request_id 'r' was used for another request" in str(refused.value.details())
    assert {item["name"] for item in stage.mctl.items("get", "modules")} == {"biz"}


def test_a_watch_over_a_restart_shows_nothing_that_was_not_so(stage: Stage, tmp_path: Path) -> None:
    stage.mctl("install", "biz", "--version", "1", "--url", URL, "--all")
    stage.mctl("wait", "module/biz:1", "--timeout", "30s")
    eventually(lambda: [v["modules"] for v in stage.mctl.items("get", "vnodes")] == [1, 1], within=30, what="modules")
    with Watching(stage, tmp_path, "vnodes") as vnodes, Watching(stage, tmp_path, "modules") as modules:
        eventually(lambda: len(vnodes.objects()) == len(modules.objects()) == 2, within=30, what="the beginning")
        stage.control_plane.server.stop()
        stage.control_plane.start()
        stage.mctl("install", "later", "--version", "1", "--url", URL, "--base", "base-1")
        eventually(lambda: any(item["name"] == "later" for item in modules.objects()), within=60, what="news after it")
        assert {item["modules"] for item in vnodes.objects()} <= {1, 2, None}
        assert {item["state"] for item in modules.objects() if item["name"] == "biz"} <= {"ACTIVATED", "UNKNOWN"}
        assert vnodes.interrupt() == modules.interrupt() == 130


def test_a_replica_that_ends_says_so(stage: Stage) -> None:
    pid = stage.control_plane.server.pid
    with stage.control_plane.channel() as channel:
        watch = ModuleControllerServiceStub(channel).WatchVNodes(pb.WatchVNodesRequest())
        assert next(watch).vnode.base == "base-1"
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as ended:
            list(watch)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "this replica of the control plane ends" in str(ended.value.details())
    eventually(lambda: not stage.control_plane.server.running, within=15, what="ended")
    assert '"exception"' not in stage.control_plane.server.log.read_text()
