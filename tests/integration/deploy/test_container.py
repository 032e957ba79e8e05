"""Every program of deploy/ runs as in its container: as an unknown user, without a home folder and capabilities, on a
read-only root file system, where only /tmp (here TMPDIR) can be written to.

There is no container engine here: a user namespace and a mount namespace of the kernel take its place.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.deploy.kubelet import MODULES, PORTS
from tests.programs import Programs, ask, status
from tests.servers.kubeapi import Json
from tests.servers.process import Server
from tests.unit.servers.test_deploy import environ, ours

USER = "65532"
INSIDE = (
    'mount --make-rprivate / && mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs "$1" && cd "$1" && '
    "shift && exec setpriv --ambient-caps=-all --inh-caps=-all --no-new-privs env -i"
)
CONTAINER = ("unshare", "--user", "--keep-caps", f"--map-user={USER}", f"--map-group={USER}", "--mount", "sh", "-c")
NOWHERE = {"server": "https://127.0.0.1:1"}
"""Programs keep running while the API server is away."""


def contained(folder: Path, *command: str) -> list[str]:
    """Return a command that runs another as in a container; folder is its /tmp. It has no variables but those given."""
    return [*CONTAINER, f'{INSIDE} "$@"', "sh", str(folder), f"TMPDIR={folder}", *command]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the test where the kernel does not allow namespaces."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("container: not run: unshare and setpriv of util-linux are missing")
    folder = tmp_path_factory.mktemp("tmp")
    look = "import os; print(os.getuid(), os.access('/', os.W_OK)); open(os.environ['TMPDIR'] + '/x', 'w')"
    done = subprocess.run(
        contained(folder, sys.executable, "-c", look), capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        pytest.skip(f"container: not run: namespaces are not to be had here: {done.stderr.strip().splitlines()[-1:]}")
    assert done.stdout.split() == [USER, "False"]


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as programs:
        yield programs


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("form", "name", "container"),
    [each for each in ours() if each[0] != "sharded-1.20"],
    ids=lambda value: value if type(value) is str else "",
)
def test_a_program_runs_as_in_its_container(
    programs: Programs, tmp_path: Path, form: str, name: str, container: Json
) -> None:
    folder, kubeconfig = tmp_path / "tmp", tmp_path / "kubeconfig"
    folder.mkdir()
    user = {"name": "x", "user": {"token": "t"}}
    context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
    cluster = {"name": "x", "cluster": NOWHERE}
    kubeconfig.write_text(
        json.dumps({"current-context": "x", "clusters": [cluster], "users": [user], "contexts": [context]})
    )
    (program,) = container["command"]
    ports = {port["name"]: programs.port() for port in container["ports"]} | {"grpc": programs.port()}
    given = environ(form, container) | {PORTS[port]: str(number) for port, number in ports.items()}
    if "GRPC_TOKEN_PATH" in given:
        given["LOCAL_TOKENS_PATH"] = f"{folder}/tokens.csv"  # it is in no Pod here
    given |= {"CONTROL_PLANE": f"127.0.0.1:{ports['grpc']}", "KUBECONFIG": str(kubeconfig)}
    given |= {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(programs.port())}
    given |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    variables = [f"{key}={value}" for key, value in given.items() if value]
    server = Server(
        name, contained(folder, *variables, sys.executable, "-m", MODULES[program]), tmp_path / "program.log"
    )
    with server:
        health = f"http://127.0.0.1:{ports['health']}"
        server.wait_until(lambda: status(f"{health}/livez") == 200, within=60)
        assert ask(f"http://127.0.0.1:{ports['metrics']}/metrics")[0] == 200
        code, why = ask(f"{health}/readyz")
        assert code == 503
        assert why.strip(), "it says what it waits for"
