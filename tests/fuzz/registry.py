"""All targets, and the modules that handle something from outside and need none."""

from collections.abc import Mapping

from tests.fuzz import bases, files, objects, peers, sockets
from tests.fuzz.engine import SECONDS

TARGETS = (*bases.TARGETS, *peers.TARGETS, *objects.TARGETS, *files.TARGETS, *sockets.TARGETS)
SHARE = SECONDS / len(TARGETS)
"""Seconds for each."""
COVERED = frozenset(module for target in TARGETS for module in target.modules)

_PASSES_ON = "hands on what others read"
_OURS = "reads what this project wrote itself"
_TLS = "hands files of operators to OpenSSL; tests/unit/kube and tests/unit/kubelet give it broken ones"
EXEMPT: Mapping[str, str] = {
    "controlplane.app.ports": _PASSES_ON,
    "controlplane.cluster.adapter": _PASSES_ON,
    "controlplane.cluster.api": _OURS,
    "controlplane.kube.sources": "reads a token file whole; what is in it goes through controlplane.kube.access",
    "controlplane.kube.tls": _TLS,
    "controlplane.kube.transport": _PASSES_ON,
    "controlplane.rpc.tunnel.session": "tests/unit/rpc/tunnel/test_session.py gives a stream arbitrary messages",
    "controlplane.rpc.tunnel.encoding": _OURS,
    "gateways.mqtt.broker": _PASSES_ON,
    "modulecontroller.doctor.machine": "reads names of processes from /proc, for people",
    "modulecontroller.quickstart": "shows the output of a program of ours",
    "service.logs": _OURS,
    "service.process": "builds the parser of a command line",
    "simulatedbase.fastjson": _OURS,
    "simulatedbase.http.tunnel": _PASSES_ON,
    "simulatedbase.mqtt.tunnel": _PASSES_ON,
}
