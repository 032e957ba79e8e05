"""Ways into the programs: each makes one attempt with a credential and returns how that ended.

How it ended is a gRPC status, an HTTP status or the exit code of mctl, as a text. NOT_CONNECTED is a handshake that
failed.
"""

import contextlib
import http.client
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
from google.protobuf import descriptor_pool, message_factory
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb
from koupleless.tunnel.v1 import tunnel_pb2 as tpb

from controlplane.rpc.access.rules import RULES
from tests.integration.http_gateway.raw import heartbeat_body
from tests.programs import Mctl
from tests.security.matrix.stage import NAME, Stage

NOT_CONNECTED, OK = "not connected", "OK"
WITHIN = 20.0

REQUESTS: Mapping[str, Any] = {
    "InstallModule": pb.InstallModuleRequest(
        request_id="matrix", name="m", version="1", url="file:///m.jar", target=pb.Target(base="none")
    ),
    "CanI": pb.CanIRequest(verb="list", resource="nodes"),
    "DrainReplica": pb.DrainReplicaRequest(replica="none"),
    "Follow": rpb.FollowRequest(sync=1),
    "Connect": tpb.ConnectRequest(
        hello=tpb.Hello(gateway_id="matrix", instance_id="i", tunnel=tpb.TUNNEL_KIND_HTTP, env="dev", version="0.0.0")
    ),
}
"""The first message of calls that get beyond it; that of the others is empty."""


class Call(NamedTuple):
    """A method as gRPC names it, and the first message."""

    method: str
    request: Any


def _call(method: str) -> Call:
    _, service, name = method.split("/")
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    empty = message_factory.GetMessageClass(described.input_type)()
    return Call(method, REQUESTS.get(name, empty))


CALLS: Mapping[str, Call] = {method.rpartition("/")[2]: _call(method) for method in RULES}

_peers = count(2)


class Attempt(NamedTuple):
    """How an attempt ended, and the address that it came from."""

    outcome: str
    peer: str


Try = Callable[[Stage, str], Attempt]


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: program, variable of the port, and how its refusals are counted and logged; logger is an event."""

    program: str
    variable: str
    attempt: Try
    counter: str
    labels: Mapping[str, str] = field(default_factory=dict)
    event: str = "request refused"


def status(channel: grpc.Channel, call: Call, token: str = "") -> str:
    """Make a call of any kind, which are one on the wire, until its first answer; return the name of its status."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    stub: Any = channel.stream_stream(call.method, request_serializer=lambda each: each.SerializeToString())
    with channel:
        answers = stub(iter((call.request,)), metadata=metadata, timeout=WITHIN)
        try:
            next(answers, None)
        except grpc.RpcError as error:
            name: str = error.code().name
            return NOT_CONNECTED if name == "UNAVAILABLE" else name
        answers.cancel()
        return OK


def _over_tls(call: Call, stage: Stage, credential: str) -> Attempt:
    address = f"127.0.0.1:{stage.port('controlplane', 'GRPC_PORT')}"
    channel = grpc.secure_channel(address, stage.channel_credentials(), OPTIONS)
    return Attempt(status(channel, call, stage.tokens[credential]), "127.0.0.1")


def _with_certificate(call: Call, stage: Stage, credential: str) -> Attempt:
    """Call with a client certificate; or with a token in its place, which is not enough."""
    address = f"127.0.0.1:{stage.port('controlplane', 'GRPC_CERTIFICATE_PORT')}"
    token = stage.tokens["viewer"] if credential == "token" else ""
    channel = grpc.secure_channel(address, stage.channel_credentials("none" if token else credential), OPTIONS)
    return Attempt(status(channel, call, token), "127.0.0.1")


def _on_machine(call: Call, stage: Stage, credential: str) -> Attempt:
    channel = grpc.insecure_channel(f"127.0.0.1:{stage.port(NAME, 'GRPC_PORT')}", OPTIONS)
    return Attempt(status(channel, call, stage.tokens[credential]), "127.0.0.1")


def _in_plaintext(stage: Stage, credential: str) -> Attempt:
    channel = grpc.insecure_channel(f"127.0.0.1:{stage.port('controlplane', 'GRPC_PORT')}", OPTIONS)
    return Attempt(status(channel, CALLS["ListVNodes"], stage.tokens[credential]), "127.0.0.1")


OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", NAME))


def _mctl(stage: Stage, credential: str) -> Attempt:
    token, server = stage.tokens[credential], f"127.0.0.1:{stage.port('controlplane', 'GRPC_PORT')}"
    command = [sys.executable, "-m", "mctl", "get", "vnodes", "--server", server, "--ca", str(stage.ca)]
    # Nobody's kubeconfig and login count.
    environ = {**Mctl(server, stage.folder / "home").environ, "HOME": str(stage.folder / "home")}
    shown = ("--token", token) if token else ()
    done = subprocess.run([*command, *shown], env=environ, capture_output=True, timeout=60, check=False)
    return Attempt(str(done.returncode), "127.0.0.1")


def _http(
    method: str,
    path: str,
    body: bytes,
    program: str,
    variable: str,
    stage: Stage,
    token: str,
    tls: ssl.SSLContext | None = None,
) -> Attempt:
    """Make a request from an address of its own, so that its line in the log can be known."""
    peer, port = f"127.0.9.{next(_peers)}", stage.port(program, variable)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN, source_address=(peer, 0))
    if tls is not None:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=WITHIN, source_address=(peer, 0), context=tls
        )
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return Attempt(NOT_CONNECTED, peer)
        return Attempt(str(answer.status), peer)


def _heartbeat(program: str, in_path: bool, stage: Stage, credential: str) -> Attempt:
    token = stage.tokens[credential]
    path = f"/t/{quote(token, safe='')}/heartbeat" if token and in_path else "/heartbeat"
    shown = "" if in_path else token
    return _http("POST", path, heartbeat_body("base-1"), program, "HTTP_TUNNEL_LISTEN_PORT", stage, shown)


def _report(program: str, stage: Stage, credential: str) -> Attempt:
    return _http("POST", "/log", b'{"message": "m"}', program, "REPORT_PORT", stage, stage.tokens[credential])


def _log(with_certificate: bool, stage: Stage, credential: str) -> Attempt:
    """Ask for the log of a module that is not there, which only those learn who may read logs."""
    tls = ssl.create_default_context(cafile=str(stage.kubelet_ca))
    files = stage.certificates[credential] if with_certificate else None
    if files is not None:
        tls.load_cert_chain(*files)
    token = "" if with_certificate else stage.tokens[credential]
    path = "/containerLogs/default/none/none"
    return _http("GET", path, b"", "controlplane", "KUBELET_PROXY_PORT", stage, token, tls)


def _ask(program: str, variable: str, request: str, stage: Stage, credential: str) -> Attempt:
    method, _, path = request.partition(" ")
    return _http(method, path, b"", program, variable, stage, stage.tokens[credential])


_GRPC: Mapping[str, Any] = {"counter": "koupleless_grpc_refused_total", "event": "call refused"}
_LISTENER = "koupleless_listener_refused_total"


def _reports(program: str) -> Door:
    return Door(program, "REPORT_PORT", partial(_report, program), _LISTENER, {"listener": "reports"})


def _bases(program: str, *, in_path: bool) -> Door:
    return Door(
        program, "HTTP_TUNNEL_LISTEN_PORT", partial(_heartbeat, program, in_path), _LISTENER, {"listener": "bases"}
    )


def _logs(*, with_certificate: bool) -> Door:
    attempt = partial(_log, with_certificate)
    return Door("controlplane", "KUBELET_PROXY_PORT", attempt, _LISTENER, {"listener": "kubelet"})


def _open(program: str, variable: str, request: str) -> Door:
    listener = variable.removesuffix("_PORT").lower()
    return Door(program, variable, partial(_ask, program, variable, request), _LISTENER, {"listener": listener})


PROGRAMS = ("controlplane", "http-gateway", "mqtt-gateway", NAME)
READ = {"HEALTH_PORT": ("/livez", "/readyz"), "METRICS_PORT": ("/metrics",)}
"""What anybody may read, by port."""

DOORS: Mapping[str, Door] = {
    **{n: Door("controlplane", "GRPC_PORT", partial(_over_tls, c), **_GRPC) for n, c in CALLS.items()},
    "ListVNodes in plaintext": Door("controlplane", "GRPC_PORT", _in_plaintext, **_GRPC),
    **{
        f"{name} with a certificate": Door(
            "controlplane", "GRPC_CERTIFICATE_PORT", partial(_with_certificate, CALLS[name]), **_GRPC
        )
        for name in ("ListVNodes", "Connect")
    },
    "mctl get vnodes": Door("controlplane", "GRPC_PORT", _mctl, **_GRPC),
    **{f"{n} on one machine": Door(NAME, "GRPC_PORT", partial(_on_machine, c), **_GRPC) for n, c in CALLS.items()},
    "heartbeat, token in the path": _bases("http-gateway", in_path=True),
    "heartbeat, token in the header": _bases("http-gateway", in_path=False),
    "heartbeat on one machine": _bases(NAME, in_path=True),
    "/log": _reports("controlplane"),
    "/log on one machine": _reports(NAME),
    "log of a module": _logs(with_certificate=False),
    "log of a module with a certificate": _logs(with_certificate=True),
    **{
        f"{request} of {program}": _open(program, variable, request)
        for program in PROGRAMS
        for variable, paths in READ.items()
        for request in (f"GET {paths[0]}", f"POST {paths[0]}", f"DELETE {paths[0]}")
    },
}
