"""Builds a bundle from its Go module.

The Go on the machine is used if it is new enough. An older one still fetches the toolchain that is needed, which is a
Go module itself: ``golang.org/toolchain``.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.servers import openapi
from tests.servers.bundles import Bundle, architecture
from tests.servers.commands import CannotBuild, download_module, run, run_long

PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")
"""Where Go often is without being on PATH."""


def build(bundle: Bundle, target: Path) -> None:
    """Build all programs of a bundle into a folder; raises CannotBuild."""
    go = find_go(bundle.go_version, exactly=bool(bundle.only_go))
    with tempfile.TemporaryDirectory(prefix="go-build-") as work:
        # A copy, so that nothing is ever written beside the checked-in sources.
        module = Path(work) / bundle.name
        shutil.copytree(bundle.sources, module)
        environ = _environ({"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false"})
        if bundle.only_go:
            # An old Kubernetes leaves a part of its sources to a generator, which runs the same go.
            environ["PATH"] = f"{go.parent}{os.pathsep}{environ['PATH']}"
            openapi.generate(go, module, environ)
        binaries = Path(work) / "bin"
        for program, package in bundle.packages.items():
            # One after the other, named: `go build -o folder/` would call etcd's program "v3" or "server".
            command = [str(go), "build", "-ldflags", link_flags(bundle), "-o", str(binaries / program), package]
            run_long(f"building {program} {bundle.version}", command, module, environ)
        for program in bundle.programs:
            shutil.move(binaries / program, target / program)
        if bundle.folders:
            sources = download_module(go, bundle.module, environ, module)
            for name in bundle.folders:
                _copy(sources / name, target / name)


def _copy(source: Path, target: Path) -> None:
    # Without the modes of the module cache, where nothing may be written or removed.
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def link_flags(bundle: Bundle) -> str:
    """Return linker flags: no debug tables, and for Kubernetes the version that /version reports."""
    flags = ["-s", "-w"]
    if bundle.module == "k8s.io/kubernetes":
        major, minor, *_ = bundle.version.split(".")
        variables = {
            "gitVersion": f"v{bundle.version}",
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "archive",
        }
        # Old versions keep it in two places.
        packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        flags += [f"-X {package}.{name}={value}" for package in packages for name, value in variables.items()]
    return " ".join(flags)


def find_go(wanted: str, *, exactly: bool = False) -> Path:
    """Return a Go of at least, or exactly, the wanted version, fetched if need be; raises CannotBuild."""
    found = list(_installed())
    for go, version in found:
        there = parse_version(version)
        if there == parse_version(wanted) or (there > parse_version(wanted) and not exactly):
            return go
    if not found:
        raise CannotBuild(f"there is no Go on this machine (Go {wanted} builds it; any Go from 1.19 can fetch that)")
    go, version = found[0]
    print(
        f"Go {version} is not {'' if exactly else 'at least '}{wanted}: getting Go {wanted} from the Go module proxy",
        flush=True,
    )
    return _fetch_toolchain(go, wanted)


def parse_version(text: str) -> tuple[int, int, int]:
    """Return a Go version as numbers: "go1.26.0", "1.26"; pre-releases count as their release."""
    found = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", text)
    if found is None:
        return (0, 0, 0)
    major, minor, patch = found.groups(default="0")
    return (int(major), int(minor), int(patch))


def _installed() -> Iterable[tuple[Path, str]]:
    places = [shutil.which("go"), *PLACES]
    for place in dict.fromkeys(place for place in places if place and os.access(place, os.X_OK)):
        version = run([place, "env", "GOVERSION"], _environ({"GOTOOLCHAIN": "local"})).strip()
        yield Path(place), version.removeprefix("go")


def _fetch_toolchain(go: Path, wanted: str) -> Path:
    module = f"golang.org/toolchain@v0.0.1-go{wanted}.linux-{architecture()}"
    with tempfile.TemporaryDirectory(prefix="go-toolchain-") as empty:
        root = download_module(go, module, _environ({"GOFLAGS": "-mod=mod"}), empty)
    _unpack_toolchain(root)
    return root / "bin" / "go"


def _unpack_toolchain(root: Path) -> None:
    # Modules carry neither execute bits nor a nested go.mod: the go command sets right both, and so do we.
    for folder in (root / "bin", root / "pkg" / "tool"):
        for program in (path for path in folder.rglob("*") if path.is_file()):
            program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    for escaped in (root / "src").rglob("_go.mod"):
        plain = escaped.with_name("go.mod")
        if not plain.exists():
            escaped.parent.chmod(escaped.parent.stat().st_mode | stat.S_IWUSR)
            shutil.copyfile(escaped, plain)


def _environ(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"GOROOT", "GOOS", "GOARCH"}}
    return {**kept, "GOWORK": "off", "GOTOOLCHAIN": "local", **extra}
