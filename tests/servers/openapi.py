"""Generates the OpenAPI definitions that the sources of an old Kubernetes lack.

Kubernetes before 1.23 has them neither in its repository nor in its Go module. Its build generates them first, and so
do we, with the same generator, into a copy of the module.
"""

import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from tests.servers.commands import download_module, run, run_long

MODULE = "k8s.io/kubernetes"
GENERATOR = "k8s.io/kube-openapi/cmd/openapi-gen"
DEFINITIONS = "pkg/generated/openapi"
TAG = "+k8s:openapi-gen="


def generate(go: Path, module: Path, environ: Mapping[str, str]) -> None:
    """Have a Go module use a copy of Kubernetes that has the definitions; raises CannotBuild."""
    sources, generator = module.parent / "kubernetes", module.parent / "openapi-gen"
    original = download_module(go, MODULE, environ, module)
    shutil.copytree(original, sources, ignore=shutil.ignore_patterns("vendor", "testdata"))
    for path in (sources, *sources.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    run([str(go), "mod", "edit", f"-replace={MODULE}={sources}"], environ, module)
    run_long("building openapi-gen", [str(go), "build", "-o", str(generator), GENERATOR], module, environ)
    header = module.parent / "header.txt"
    header.touch()
    made = module.parent / "made"
    command = [
        *(str(generator), "--logtostderr", "-i", ",".join(_packages(go, module, environ))),
        *("-p", f"{MODULE}/{DEFINITIONS}", "-O", "zz_generated.openapi", "-h", str(header)),
        *("-r", str(module.parent / "violations"), "-o", str(made)),
    ]
    run_long("generating OpenAPI definitions", command, module, environ)
    name = "zz_generated.openapi.go"
    shutil.move(made / MODULE / DEFINITIONS / name, sources / DEFINITIONS / name)


def _packages(go: Path, module: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the packages of the API server that ask for definitions."""
    form = "{{if not .Standard}}{{.ImportPath}} {{.Dir}}{{end}}"
    listed = run([str(go), "list", "-deps", "-f", form, f"{MODULE}/cmd/kube-apiserver"], environ, module)
    found = [line.split(" ", 1) for line in listed.splitlines() if line.startswith("k8s.io/")]
    return [package for package, folder in found if _asks(Path(folder))]


def _asks(folder: Path) -> bool:
    return any(TAG in path.read_text(errors="replace") for path in folder.glob("*.go") if "_test" not in path.name)
