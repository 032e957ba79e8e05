"""Which programs are needed, in which version, and where they are looked for.

A bundle is a set of programs of one version that are got together. Version and cache key come from its Go module in
``build/``: what go.sum pins is what runs. Kubernetes is there twice: TEST_KUBERNETES=1.20 chooses the oldest that is
supported. kubectl is always the current one.
"""

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).parent / "build"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """Programs of one version; package is the Go package of each, by program.

    only_go is the one version of Go that builds it, where a newer one cannot. folders are those of the module's sources
    that stand beside the programs.
    """

    name: str
    module: str
    packages: Mapping[str, str]
    only_go: str = ""
    folders: tuple[str, ...] = ()

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the programs."""
        return tuple(self.packages)

    @property
    def sources(self) -> Path:
        """The folder with go.mod, go.sum and tools.go."""
        return BUILD / self.name

    @property
    def version(self) -> str:
        """Version without the leading v, as go.mod requires it."""
        return self._in_go_mod(rf"^require {re.escape(self.module)} v(\S+)$")

    @property
    def go_version(self) -> str:
        """The oldest Go that builds this bundle."""
        return self.only_go or self._in_go_mod(r"^go (\S+)$")

    @property
    def key(self) -> str:
        """Name in the cache: version, platform, and hash of what pins the sources."""
        digest = hashlib.sha256()
        own = sorted(path.name for path in self.sources.glob("*.go") if path.name != "tools.go")
        for name in ("go.mod", "go.sum", *own):
            digest.update((self.sources / name).read_bytes())
        return f"{self.name}-{self.version}-linux-{architecture()}-{digest.hexdigest()[:12]}"

    def in_folder(self, folder: Path) -> bool:
        """Return whether a folder has all programs of the bundle, and all folders."""
        has_programs = all(os.access(folder / program, os.X_OK) for program in self.programs)
        return has_programs and all((folder / name).is_dir() for name in self.folders)

    def _in_go_mod(self, pattern: str) -> str:
        found = re.search(pattern, (self.sources / "go.mod").read_text(), re.MULTILINE)
        if found is None:
            raise ValueError(f"{self.sources}/go.mod has no line like {pattern}")
        return found.group(1)


ETCD = Bundle("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"})
_PROGRAMS = {
    program: f"k8s.io/kubernetes/cmd/{program}"
    for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
}
KUBERNETES = Bundle("kubernetes", "k8s.io/kubernetes", _PROGRAMS)
KUBECTL = Bundle("kubectl", "k8s.io/kubernetes", {"kubectl": "k8s.io/kubernetes/cmd/kubectl"})
"""A bundle of its own, so that a new version of the servers does not build it again."""
OLDEST_KUBERNETES = Bundle("kubernetes-1.20", "k8s.io/kubernetes", _PROGRAMS, only_go="1.19.13")
"""The oldest version that is supported."""

CLOUD = Bundle("cloud-node-lifecycle", "k8s.io/cloud-provider", {"cloud-node-lifecycle": "."})
"""Kubernetes' controller that deletes Nodes whose machine is gone, for a cloud of ours that has no machines."""
METRICS_SERVER = Bundle(
    "metrics-server",
    "sigs.k8s.io/metrics-server",
    {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
)
NODE_STREAMS = Bundle("node-streams", "k8s.io/cri-streaming", {"node-streams": "."})
"""A program of ours: the part of a kubelet that runs commands."""
_ARGO = "github.com/argoproj/argo-rollouts"
ARGO_ROLLOUTS = Bundle(
    "argo-rollouts",
    _ARGO,
    {program: f"{_ARGO}/cmd/{program}" for program in ("rollouts-controller", "kubectl-argo-rollouts")},
    folders=("manifests/crds", "manifests/role"),
)
"""The controller of Rollouts, the plugin of kubectl for them, and what has to be in a cluster for them."""
HELM = Bundle("helm", "helm.sh/helm/v4", {"helm": "helm.sh/helm/v4/cmd/helm"})
ADDONS = (CLOUD, METRICS_SERVER, NODE_STREAMS, ARGO_ROLLOUTS, HELM)
"""Bundles that single tests use, besides the cluster."""

_CHOICES = {"": KUBERNETES, "current": KUBERNETES, "1.20": OLDEST_KUBERNETES}


def under_test(environ: Mapping[str, str] = os.environ) -> tuple[Bundle, ...]:
    """Return etcd, the Kubernetes that tests run against, and kubectl; raises ValueError."""
    wanted = environ.get("TEST_KUBERNETES", "")
    if wanted not in _CHOICES:
        raise ValueError(f"TEST_KUBERNETES={wanted}: there is only {', '.join(filter(None, _CHOICES))}")
    return ETCD, _CHOICES[wanted], KUBECTL


@dataclass(frozen=True, slots=True)
class Found:
    """A folder that has a bundle, and why it was looked at."""

    folder: Path
    source: str


def architecture() -> str:
    """Return this machine's architecture as Go names it."""
    machine = platform.machine().lower()
    return ARCHITECTURES.get(machine, machine)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the project's cache: KOUPLELESS_CACHE, else a folder in the user's cache."""
    if own := environ.get("KOUPLELESS_CACHE"):
        return Path(own)
    users = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(users) / "koupleless-module-controller"


def find(bundle: Bundle, environ: Mapping[str, str] = os.environ) -> Found | None:
    """Return where a bundle is: in KUBEBUILDER_ASSETS if that has all of it, else in the cache."""
    if assets := environ.get("KUBEBUILDER_ASSETS"):
        folder = Path(assets)
        if bundle.in_folder(folder):
            return Found(folder, "KUBEBUILDER_ASSETS")
    folder = cache_folder(environ) / bundle.key
    return Found(folder, "cache") if bundle.in_folder(folder) else None


def find_mosquitto(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the Mosquitto program: from PATH, else where Debian puts it for root alone."""
    for folder in (*environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/sbin"):
        program = Path(folder) / "mosquitto"
        if folder and os.access(program, os.X_OK):
            return program
    return None
