"""A Mosquitto broker of its own on loopback."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.servers.bundles import find_mosquitto
from tests.servers.fetch import MOSQUITTO_MISSING, Unavailable
from tests.servers.process import Port, Server, accepts

READY_WITHIN = 10.0


class Mosquitto:
    """A broker on 127.0.0.1; a context manager. settings are further lines of its configuration.

    Without settings every client may connect. stop and start make an outage: the port stays ours, and sessions outlast
    it if persistence is set.
    """

    host = "127.0.0.1"

    def __init__(self, settings: Sequence[str] = ("allow_anonymous true",)) -> None:
        program = find_mosquitto()
        if program is None:
            raise Unavailable(MOSQUITTO_MISSING)
        self._program = program
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="mosquitto-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            port = Port()
            stack.callback(port.close)
            self.port = port.number
            configuration = self.folder / "mosquitto.conf"
            configuration.write_text("\n".join(self._configuration()) + "\n")
            command = [str(self._program), "-c", str(configuration)]
            self._server = Server("mosquitto", command, self.folder / "mosquitto.log")
            stack.callback(self._server.stop)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the broker, again if it was stopped, and wait until it listens."""
        self._server.start()
        self._server.wait_until(lambda: accepts(self.port), within=READY_WITHIN)

    def stop(self) -> None:
        """Stop the broker. Connections are refused from now on."""
        self._server.stop()

    def _configuration(self) -> list[str]:
        lines = [f"listener {self.port} {self.host}", "log_dest stderr", f"persistence_location {self.folder}/"]
        if os.geteuid() == 0:
            # Otherwise it becomes a user who may not read our folder.
            lines.append("user root")
        return [*lines, *self._settings]
