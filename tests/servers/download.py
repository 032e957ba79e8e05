"""Gets a bundle from its project's release pages, checked against the sums published beside it."""

import hashlib
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.servers.bundles import ETCD, KUBERNETES, Bundle, architecture

KUBERNETES_RELEASES = "https://dl.k8s.io/release"
ETCD_RELEASES = "https://github.com/etcd-io/etcd/releases/download"
REACH_TIMEOUT = 5.0
"""Seconds for a connection, and for each read: an unreachable page must not delay the build."""
TOTAL_TIMEOUT = 600.0
CHUNK = 1 << 20
SUMS_LIMIT = 1 << 20


class CannotDownload(Exception):
    """The release cannot be downloaded; the message is one line that says why."""


def download(bundle: Bundle, target: Path) -> None:
    """Put all programs of a bundle into a folder; raises CannotDownload."""
    sources: dict[str, Callable[[Bundle, Path], None]] = {KUBERNETES.module: kubernetes, ETCD.module: etcd}
    source = sources.get(bundle.module)
    if source is None:
        raise CannotDownload(f"{bundle.name} is built from its Go module")
    source(bundle, target)
    for program in bundle.programs:
        (target / program).chmod(0o755)


def kubernetes(bundle: Bundle, target: Path, *, releases: str = KUBERNETES_RELEASES) -> None:
    """Get each program, with its .sha256 file."""
    for program in bundle.programs:
        url = f"{releases}/v{bundle.version}/bin/linux/{architecture()}/{program}"
        expected = _text(f"{url}.sha256").split()[0]
        _get(url, target / program, expected)


def etcd(bundle: Bundle, target: Path, *, releases: str = ETCD_RELEASES) -> None:
    """Get the archive, checked against SHA256SUMS, and take etcd out of it."""
    name = f"etcd-v{bundle.version}-linux-{architecture()}"
    page = f"{releases}/v{bundle.version}"
    lines = (line.split() for line in _text(f"{page}/SHA256SUMS").splitlines())
    sums = {line[1]: line[0] for line in lines if len(line) == 2}
    archive = target / f"{name}.tar.gz"
    _get(f"{page}/{archive.name}", archive, sums.get(archive.name, ""))
    with tarfile.open(archive) as unpacked:
        program = unpacked.extractfile(f"{name}/etcd")
        if program is None:
            raise CannotDownload(f"{archive.name} has no etcd in it")
        with program, (target / "etcd").open("wb") as out:
            shutil.copyfileobj(program, out)
    archive.unlink()


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=REACH_TIMEOUT) as reply:
            text: str = reply.read(SUMS_LIMIT).decode("ascii", "replace")
    except (OSError, urllib.error.URLError) as error:
        raise CannotDownload(f"{url}: {getattr(error, 'reason', error)}") from error
    if not text.strip():
        raise CannotDownload(f"{url}: empty")
    return text


def _get(url: str, path: Path, expected: str) -> None:
    print(f"getting {url}", flush=True)
    digest = hashlib.sha256()
    deadline = time.monotonic() + TOTAL_TIMEOUT
    try:
        with urllib.request.urlopen(url, timeout=REACH_TIMEOUT) as reply, path.open("wb") as out:
            while chunk := reply.read(CHUNK):
                digest.update(chunk)
                out.write(chunk)
                if time.monotonic() > deadline:
                    raise CannotDownload(f"{url}: not done within {TOTAL_TIMEOUT:g} s")
    except (OSError, urllib.error.URLError) as error:
        raise CannotDownload(f"{url}: {getattr(error, 'reason', error)}") from error
    if digest.hexdigest() != expected.lower():
        raise CannotDownload(f"{url}: its SHA-256 is {digest.hexdigest()}, published is {expected or 'none'}")
