"""Module URLs, which may carry credentials, are given only to bases that were examined, where they are."""

import http.client
import json

import pytest

from tests.everything import EXAMPLES
from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase

pytestmark = pytest.mark.timeout(120)


def ask(port: int, identity: str, peer: str) -> tuple[int, str]:
    """Ask for a baseline from an address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0, source_address=(peer, 0))
    metadata = {"identity": identity, "name": "simulated-base", "version": "1.0.0", "clusterName": "default"}
    connection.request("POST", "/queryBaseline", json.dumps(metadata))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_strangers_are_given_nothing(programs: Programs) -> None:
    database = str(programs.folder / "cluster.db")
    control_plane = ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=database).start()
    gateway = HttpGateway(programs, control_plane.address).start()
    mctl = control_plane.mctl()
    mctl("apply", "-f", str(EXAMPLES / "deployment.yaml"))
    assert ask(gateway.port, "invented", "127.0.0.1")[0] == 503
    SimulatedBase(programs, gateway.url, "known").start()
    mctl("wait", "--for=ready", "vnode/known", "--timeout", "30s")
    status, text = ask(gateway.port, "known", "127.0.0.9")
    assert status == 503
    assert ".jar" not in text
    status, text = ask(gateway.port, "known", "127.0.0.1")
    assert (status, "biz1" in text) == (200, True)
