"""Targets: how callers say who they are, and what their requests need."""

import asyncio
import json
from typing import Any, cast

import orjson
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from koupleless.modulecontroller.v1 import module_controller_pb2 as tools

from controlplane.access.refusals import AccessRefused
from controlplane.access.reviews import Reviewer
from controlplane.app.clock import SystemClock
from controlplane.app.ports import ClusterError
from controlplane.cluster.api import Json, Resource
from controlplane.domain.access import Access, Caller
from controlplane.embedded.api.resources import RESOURCES
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.manifests import EmbeddedManifests
from controlplane.kubelet.access import LOGS, KubeletAccess
from controlplane.kubelet.server import KubeletServer
from controlplane.kubelet.shown import Shown
from controlplane.reports.intake import ReportIntake
from controlplane.rpc.access import guard
from controlplane.rpc.access.rules import RULES
from gateways.http.credentials import Credentials, locate
from service import refusals
from service.status import StatusServer
from service.tokens import Key, WrongKeys, parse_keys
from service.webserver import Connection, Route, WebServer, routed
from tests.fuzz import inputs
from tests.fuzz.objects import PAGES
from tests.fuzz.sockets import KEY, PIECES, requests
from tests.fuzz.target import Target, each
from tests.fuzz.wires import PEER, in_loop, talk

_AUDIENCE = "module-controller"
_SHARED = "shared"
_NO_FILES = cast("Any", None)
_TOOLING = tools.DESCRIPTOR.services_by_name["ModuleControllerService"]
_METHODS = {f"/{_TOOLING.full_name}/{method.name}": GetMessageClass(method.input_type) for method in _TOOLING.methods}


class Api:
    """An API server whose reviews say what the fuzzer says. What it is sent has to be JSON."""

    def __init__(self, answer: Json) -> None:
        self._answer = answer

    async def create(self, _resource: Resource, obj: Json, _namespace: str = "") -> Json:
        orjson.dumps(obj)
        return self._answer


async def _kubelet(data: bytes) -> object:
    reviewer = Reviewer(cast("Any", Api({})))
    server = KubeletServer("", 0, Shown(_NO_FILES), KubeletAccess(reviewer))
    connection = Connection(server._web, server._web._web, cast("Any", None), PEER)
    server._web.connections.open(connection, PEER)
    return await talk(connection, data)


async def _probed(data: bytes) -> object:
    """Answer probes, Prometheus and reports."""
    intake = ReportIntake(0, "", token="t", take=lambda _: None, clock=SystemClock())
    status = StatusServer(tuple, health_port=1, metrics_port=1)
    probes = {"/livez": status._livez, "/readyz": status._readyz, "/metrics": status._metrics}
    routes = {path: Route(answer) for path, answer in probes.items()}
    server = WebServer("fuzzed", routed({**routes, "/log": Route(intake._take, ("POST",))}))
    connection = Connection(server, server._web, cast("Any", None), PEER)
    server.connections.open(connection, PEER)
    answer = await talk(connection, data)
    # Empty lines before a request count for nothing (RFC 9112, 2.2).
    request = data.lstrip(b"\r\n")
    assert b" 200 " not in answer.partition(b"\r\n")[0] or request.startswith((b"GET ", b"HEAD ", b"POST "))
    return len(answer)


async def _review(data: bytes) -> object:
    """Recognise a caller by what the API server says of a token, and ask for rights."""
    answer = json.loads(data)
    reviewer = Reviewer(cast("Any", Api(answer if isinstance(answer, dict) else {})))
    found: dict[str, Caller | None] = {}
    for audience in ("", _AUDIENCE):
        try:
            found[audience] = await reviewer.whose("t", audience=audience, peer=PEER)
        except AccessRefused:
            found[audience] = None
    if found[_AUDIENCE] is not None:
        assert found[""] == found[_AUDIENCE]
        assert _AUDIENCE in answer["status"]["audiences"]
    access = KubeletAccess(reviewer)
    caller = await access.caller(None, "Bearer t", PEER)
    assert caller.user
    await access.must(caller, "get", "n", LOGS)
    return caller, caller.pod


def _metadata(data: bytes) -> object:
    """Read the header of a call as gRPC hands it on: a text of any bytes."""
    token = guard._bearer([("user-agent", "x"), ("authorization", data.decode("latin-1"))])
    assert token == token.strip()
    return token, guard._is_for(token, _AUDIENCE), guard._host(data.decode("latin-1"))


def _credentials(data: bytes) -> object:
    """Recognise a base by path and header, which aiohttp decodes like this."""
    path, _, header = data.decode("utf-8", "surrogateescape").partition("\n")
    place = locate(path)
    bound = Credentials("", lambda: (KEY,))
    shared = Credentials(_SHARED, lambda: (KEY,))
    callers = each(None, {"bound": lambda _: bound.caller(PEER, place.token, header)}, (refusals.RequestRefused,))
    caller = shared.caller(PEER, place.token, header)
    given = place.token or header.removeprefix("Bearer ")
    assert given in (_SHARED, KEY.token(caller.bound_to) if caller.bound_to else _SHARED)
    return place, callers, caller


def _keys(data: bytes) -> object:
    keys = parse_keys(data.decode(errors="replace"))
    assert keys == parse_keys(",".join(key.secret.decode() for key in keys))
    return [key.token("a") for key in keys]


def _rights(data: bytes) -> object:
    """Return what a request does; the first byte chooses the method."""
    number, *_ = data[:1] or b"\0"
    name = [*_METHODS][number % len(_METHODS)]
    found = RULES[name].rights(_METHODS[name].FromString(data[1:]), "n")
    orjson.dumps([str(access) for access in found])
    return found


async def _applied(data: bytes) -> object:
    """Apply an object: what is written must be what the rights were for."""
    asked = set(
        RULES[f"/{_TOOLING.full_name}/ApplyManifest"].rights(tools.ApplyManifestRequest(manifest_json=data), "")
    )
    store = await EmbeddedApiServer.open(":memory:")
    try:
        name, _ = await EmbeddedManifests(store).apply(data, dry_run=False)
    finally:
        await store.close()
    resource = next(each for each in RESOURCES if each.kind == name.kind)
    group = resource.group_version.rpartition("/")[0]
    assert asked == {Access(verb, resource.plural, group, name.namespace) for verb in ("create", "patch")}
    return name


def _chosen(kinds: list[type[Message]]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        [st.tuples(st.just(bytes([at])), inputs.of_contract(kind)).map(b"".join) for at, kind in enumerate(kinds)]
    )


_REVIEW = {
    "status": {
        "authenticated": True,
        "allowed": True,
        "audiences": [_AUDIENCE],
        "user": {"username": "u", "groups": ["g"], "extra": {"authentication.kubernetes.io/pod-name": ["b"]}},
    }
}
_CLAIMS = [b"e30.eyJhdWQiOlsibW9kdWxlLWNvbnRyb2xsZXIiXX0.x", b"e30.eyJhdWQiOiJtb2R1bGUtY29udHJvbGxlciJ9.x"]
_HEADERS = [b"Bearer " + token for token in (*_CLAIMS, b"t")] + [b"ipv6:%5B::1%5D:5", b"ipv4:10.0.0.9:5", b"unix:/a"]
_OTHER = Key(b"o" * 32)
_PATHS = [
    b"/heartbeat\nBearer shared",
    b"/t/shared/heartbeat\n",
    *(f"/t/{key.token('a')}/heartbeat\n".encode() for key in (KEY, _OTHER)),
    f"/heartbeat\nBearer {KEY.token('base-1.a')}".encode(),
]
_PROBES = [
    b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in (b"/livez", b"/readyz?verbose", b"/metrics", b"/log")
]
_KUBELET_PATHS = requests("/containerLogs/a/b/c?tailLines=5", "/healthz", "/exec/a/b/c")

TARGETS = (
    Target(
        "kubelet-connection", ("controlplane.kubelet.access",), inputs.texts(_KUBELET_PATHS, PIECES), in_loop(_kubelet)
    ),
    Target(
        "probe-connection",
        (),
        inputs.texts([*_PROBES, *requests("/log")], PIECES),
        in_loop(_probed),
        calls=400,
        least=300_000,
    ),
    Target(
        "review",
        ("controlplane.access.reviews",),
        inputs.objects([_REVIEW]).map(inputs.written),
        in_loop(_review),
        (refusals.RequestRefused, json.JSONDecodeError, RecursionError),
    ),
    Target(
        "call-metadata",
        ("controlplane.rpc.access.guard",),
        inputs.texts(_HEADERS, [b".", b"=", b" ", b"\t", b"bearer ", b"eyJhdWQiOm51bGx9", b"\xff"]),
        _metadata,
    ),
    Target(
        "call-rights",
        ("controlplane.rpc.access.rules",),
        _chosen([*_METHODS.values()]),
        _rights,
        (DecodeError,),
    ),
    Target(
        "rights-of-manifest",
        (),
        inputs.documents(PAGES),
        lambda data: asyncio.run(_applied(data)),
        (ClusterError,),
        calls=2000,
    ),
    Target(
        "base-credentials",
        (),
        inputs.texts(_PATHS, [b"/", b"/t/", b".", b"%", b"%ff", b"%C3%A9", b"Bearer ", b"\xff", b"\n", b"A"]),
        _credentials,
        (refusals.RequestRefused,),
    ),
    Target(
        "token-keys",
        ("service.tokens",),
        inputs.texts([b"k" * 32, b"a" * 64 + b",\n" + b"b" * 40], [b",", b"\r", b"\n", b" ", b"\x00", b"\xc3\xa9"]),
        _keys,
        (WrongKeys,),
    ),
)
