"""The Kubernetes cluster, broker and folder of an operator who follows the pages."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.deploy.broker import Shipped
from tests.integration.deploy.kubelet import HandKubelet
from tests.integration.deploy.service import Forwarder
from tests.programs import Programs
from tests.servers.bundles import OLDEST_KUBERNETES, under_test
from tests.servers.cluster import KubeCluster, kubectl
from tests.unit.docs.pages import ROOT, Block, blocks
from tests.unit.servers.test_deploy import shipped

PAGES = ("deployment.md", "migration.md")
"""Pages whose blocks are run on such a cluster, each on one of its own."""
USERS = {"gateway": "of-your-choice", "shop-1": "another"}
"""Users of the broker, with the passwords of the pages."""


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page that are run."""
    return [block for block in blocks() if block.why is None and block.page.name == page]


@dataclass
class Stage:
    """A clean cluster with one Node, a broker, and the folder in which commands are typed."""

    cluster: KubeCluster
    kubelet: HandKubelet
    programs: Programs
    folder: Path
    broker: Shipped
    forwarded: Forwarder
    """Stands for kubectl port-forward: leads to the gRPC port of a Pod that runs at that moment."""

    def environ(self) -> Mapping[str, str]:
        """Return the environment of commands: kubectl is the admin's; mctl finds nothing of this machine."""
        path = [str(kubectl().parent), str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]
        environ = {**os.environ, "PATH": os.pathsep.join(path), "KUBECONFIG": str(self.cluster.kubeconfig())}
        environ |= {"KUBECACHEDIR": str(self.folder.parent / "kubectl"), "KUBERC": "off"}  # nothing of the user's
        home = self.folder.parent / "operator"
        return environ | {"XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state")}

    def here(self) -> Mapping[str, str]:
        """Return the replacements for texts of the pages, for this machine and the Kubernetes under test."""
        forwarded = {"127.0.0.1:50051": f"127.0.0.1:{self.forwarded.port}"}
        return forwarded | (ON_THE_OLDEST if under_test()[1] is OLDEST_KUBERNETES else {})


ON_THE_OLDEST = {"  - ../deploy/sharded\n": "  - ../deploy/sharded-1.20\n"}
"""What the page says to type instead on the oldest Kubernetes."""


def fit_to_the_oldest(folder: Path) -> None:
    """Change the example that the oldest Kubernetes does not accept, as its comment says."""
    example = folder / "examples" / "daemonset.yaml"
    fitted = example.read_text(encoding="utf-8").replace("      maxSurge: 30%\n", "")
    example.write_text(fitted.replace("maxUnavailable: 0", "maxUnavailable: 1"), encoding="utf-8")


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Run it, in a folder of its own; raises Unavailable."""
    typed = folder / "module-controller"
    for name in ("deploy", "examples"):
        shutil.copytree(ROOT / name, typed / name)
    if under_test()[1] is OLDEST_KUBERNETES:
        fit_to_the_oldest(typed)
    (configuration,) = [obj["data"] for obj in shipped("mosquitto/mosquitto.yaml") if obj["kind"] == "ConfigMap"]
    with (
        Shipped(configuration, USERS, folder) as broker,
        KubeCluster(audit=True) as cluster,
        Programs(folder) as programs,
    ):
        stand_ins = {
            "MQTT_BROKER": {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(broker.port)},
            # Nothing listens there: tests use loopback only.
            "REPORT_HOOKS": {"REPORT_HOOKS": f"http://127.0.0.1:{programs.port()}/robot"},
        }
        with HandKubelet(cluster, programs, stand_ins) as kubelet:
            forwarded = Forwarder(
                lambda: [each.ports["grpc"] for each in kubelet.running("module-controller", "controlplane")]
            )
            with contextlib.closing(forwarded):
                yield Stage(cluster, kubelet, programs, typed, broker, forwarded)
