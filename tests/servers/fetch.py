"""Gets the programs that tests need: from this machine, else by a download, else by a build."""

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.bundles import ADDONS, Bundle, Found, cache_folder, find, find_mosquitto, under_test
from tests.servers.commands import CannotBuild
from tests.servers.download import CannotDownload, download
from tests.servers.golang import build

Source = Callable[[Bundle, Path], None]

NEEDS = ("kubernetes", "mosquitto")
"""Names that the command line knows."""
MOSQUITTO_MISSING = "there is no program mosquitto (Debian and Ubuntu: apt install mosquitto)"


class Unavailable(Exception):
    """A server is not available on this machine; the message is one line that says why."""


def fetch(need: str) -> list[str]:
    """Get the programs of one need and return a line for each part; raises Unavailable."""
    if need == "mosquitto":
        program = find_mosquitto()
        if program is None:
            raise Unavailable(MOSQUITTO_MISSING)
        return [f"mosquitto: {program}"]
    return [describe(bundle, obtain(bundle)) for bundle in (*under_test(), *ADDONS)]


def where(need: str) -> list[str]:
    """Return a line for each part of one need, without getting anything."""
    if need == "mosquitto":
        return [f"mosquitto: {find_mosquitto() or MOSQUITTO_MISSING}"]
    lines = []
    for bundle in (*under_test(), *ADDONS):
        found = find(bundle)
        missing = f"{bundle.name} {bundle.version}: not there; `make test-servers` gets it"
        lines.append(describe(bundle, found) if found else missing)
    return lines


def describe(bundle: Bundle, found: Found) -> str:
    """Return a line that says where a bundle is."""
    if found.source == "KUBEBUILDER_ASSETS":
        program = found.folder / bundle.programs[0]
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
        return f"{(said.splitlines() or [bundle.name])[0]}: {found.folder} (KUBEBUILDER_ASSETS)"
    return f"{bundle.name} {bundle.version}: {found.folder}"


def obtain(bundle: Bundle, sources: Sequence[Source] = (download, build)) -> Found:
    """Get a bundle from the first source that has it and return where it is; raises Unavailable."""
    if found := find(bundle):
        return found
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{bundle.key}.lock", bundle):
        if found := find(bundle):
            return found
        refusals = []
        for source in sources:
            try:
                return install(bundle, cache, source)
            except (CannotDownload, CannotBuild) as error:
                refusals.append(str(error))
    raise Unavailable(f"{bundle.name} {bundle.version}: {'; '.join(refusals)}")


def install(bundle: Bundle, cache: Path, source: Source) -> Found:
    """Put a bundle into the cache, all of it or nothing."""
    unfinished = Path(tempfile.mkdtemp(prefix=f".{bundle.key}-", dir=cache))
    try:
        source(bundle, unfinished)
        if not bundle.in_folder(unfinished):
            raise CannotBuild(f"{bundle.name}: not all programs were made")
        folder = cache / bundle.key
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Found(folder, "cache")


@contextmanager
def _locked(path: Path, bundle: Bundle) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{bundle.name} {bundle.version}: another run gets it; waiting for that", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
