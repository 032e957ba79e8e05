"""Runs the commands of a build: their output is kept, and reported when they fail."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

COMMAND_TIMEOUT = 900.0
BUILD_TIMEOUT = 3600.0
PROGRESS_EVERY = 30.0


class CannotBuild(Exception):
    """The programs cannot be built here; the message is one line that says why."""


def run(command: list[str], environ: Mapping[str, str], folder: str | Path = "/") -> str:
    """Return what a command prints; raises CannotBuild with the last line of its output."""
    done = _completed(command, environ, folder)
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)}: {last_line(done.stderr or done.stdout)}")
    return done.stdout


def download_module(go: Path, module: str, environ: Mapping[str, str], folder: str | Path) -> Path:
    """Return the folder of a module ("path@version", or a path that folder's go.mod requires); raises CannotBuild.

    The module is downloaded if the module cache does not have it: ``go list -m`` knows no folder of such a one.
    """
    command = [str(go), "mod", "download", "-json", module]
    done = _completed(command, environ, folder)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {}
    if done.returncode or not found.get("Dir"):
        raise CannotBuild(f"{' '.join(command)}: {found.get('Error') or last_line(done.stderr or done.stdout)}")
    return Path(found["Dir"])


def run_long(title: str, command: list[str], folder: Path, environ: Mapping[str, str]) -> None:
    """Run a long command and report progress; raises CannotBuild with the last line of its output."""
    print(f"{title} ...", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(command, cwd=folder, env=environ, stdout=output, stderr=subprocess.STDOUT)
        try:
            while not _ended(running, PROGRESS_EVERY):
                spent = time.monotonic() - began
                if spent > BUILD_TIMEOUT:
                    raise CannotBuild(f"{title}: not done within {BUILD_TIMEOUT:g} s")
                print(f"{title}: {spent:.0f} s so far", flush=True)
        finally:
            running.kill()
            running.wait()
        output.seek(0)
        said = output.read()
    if running.returncode:
        sys.stderr.write(said[-4000:])
        raise CannotBuild(f"{title}: {last_line(said)}")
    print(f"{title}: done in {time.monotonic() - began:.0f} s", flush=True)


def _completed(command: list[str], environ: Mapping[str, str], folder: str | Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, env=environ, cwd=folder, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"{' '.join(command)}: not done within {COMMAND_TIMEOUT:g} s") from None


def _ended(process: subprocess.Popen[bytes], within: float) -> bool:
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
