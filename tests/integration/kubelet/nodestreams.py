"""A node on which commands run as processes of this machine: tests/servers/build/node-streams, a program in Go."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import eventually
from tests.servers.bundles import NODE_STREAMS
from tests.servers.fixtures import programs_of
from tests.servers.process import Server, free_port


@contextmanager
def node_streams(folder: Path, certificate: tuple[Path, Path], clients_ca: Path) -> Iterator[int]:
    """Run the program, commands in the folder; give the port at which it is a kubelet."""
    programs = programs_of(NODE_STREAMS)
    port = free_port()
    options = {"address": f"127.0.0.1:{port}", "client-ca": clients_ca, "folder": folder}
    options |= {"certificate": certificate[0], "key": certificate[1]}
    command = [str(programs / "node-streams"), *(f"--{name}={value}" for name, value in options.items())]
    server = Server("node-streams", command, folder.parent / "node-streams.log")
    server.start()
    try:
        eventually(lambda: _listens(port), within=20, what="a node that runs commands")
        yield port
    finally:
        server.stop()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
