"""All targets, and the modules that handle something from outside and need none."""

from collections.abc import Mapping

from tests.fuzz import bases, callers, certificates, files, objects, operators, peers, sockets
from tests.fuzz.engine import SECONDS

TARGETS = (
    *bases.TARGETS,
    *callers.TARGETS,
    *certificates.TARGETS,
    *peers.TARGETS,
    *objects.TARGETS,
    *operators.TARGETS,
    *files.TARGETS,
    *sockets.TARGETS,
)
SHARE = SECONDS / len(TARGETS)
"""Seconds for each."""
COVERED = frozenset(module for target in TARGETS for module in target.modules)

_PASSES_ON = "hands on what others read"
_OURS = "reads what this project wrote itself"
EXEMPT: Mapping[str, str] = {
    "controlplane.app.ports": _PASSES_ON,
    "controlplane.certificates.issuing": _OURS,
    "controlplane.certificates.keeper": _PASSES_ON,
    "controlplane.certificates.requesting": _PASSES_ON,
    "controlplane.cluster.adapter": _PASSES_ON,
    "controlplane.cluster.api": _OURS,
    "controlplane.kube.transport": _PASSES_ON,
    "controlplane.kubelet.logsource": "passes a log on; reads a token file whole, as kubeaccess.users does",
    "controlplane.kubelet.nodes": _OURS,
    "controlplane.rpc.tunnel.session": "tests/unit/rpc/tunnel/test_session.py gives a stream arbitrary messages",
    "controlplane.rpc.tooling.moduleurls": "looks up a module of the index in a Pod's containers",
    "controlplane.rpc.tunnel.encoding": _OURS,
    "gateways.mqtt.broker": _PASSES_ON,
    "kubeaccess.users": "reads a token file whole; what is in it goes through kubeaccess.authorization",
    "mctl.auth.access": "reads a token file whole; what is in it goes through kubeaccess.authorization",
    "mctl.rpc.client": "hands failures to mctl.rpc.status",
    "mctl.rpc.handshake": "hands a CA that was read to OpenSSL",
    "modulecontroller.doctor.machine": "reads names of processes from /proc, for people",
    "modulecontroller.supervisor": _OURS,
    "modulecontroller.quickstart": "shows the output of a program of ours",
    "service.logs": _OURS,
    "service.process": "builds the parser of a command line",
    "service.secrets": "reads secrets of this process, for masking",
    "service.pem": "hands certificate and key that were read to OpenSSL",
    "service.tls": "hands a CA that was read to OpenSSL",
    "service.upgraded": _PASSES_ON,
    "service.watchdog": _OURS,
    "simulatedbase.fastjson": _OURS,
    "simulatedbase.http.tunnel": _PASSES_ON,
    "simulatedbase.mqtt.tunnel": _PASSES_ON,
}
