"""Targets: what gateways, replicas and tools send over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from hypothesis import strategies as st
from koupleless.modulecontroller.v1 import module_controller_pb2 as tools
from koupleless.replica.v1 import replica_pb2 as rpb
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.app.changes import Changes
from controlplane.domain import facts
from controlplane.domain.access import Caller, Role
from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.access.guard import CALLER
from controlplane.rpc.tooling.replicas import ReplicaLink
from controlplane.rpc.tunnel import decoding
from gateways.http.tunnel import HttpTunnel
from gateways.session.links import ControlPlaneLinks
from gateways.session.stream import ReplicaStream
from grpcclient.access import ClientAccess
from mctl import errors, kinds, output
from mctl.commands import wait
from mctl.rpc import status
from mctl.rpc.client import ToolingClient
from service.addresses import DEFAULT_NETWORKS, AddressPolicy
from service.wording import clean, unsafe
from tests.fuzz import inputs
from tests.fuzz.target import Target, each
from tests.protobufs import messages
from tests.unit.app.harness import Api, Stage
from tests.unit.gateways.answers import received
from tests.unit.rpc.tooling.replicas import Network, Refused, Tooling, call

ENV = "dev"
ACCESS = ClientAccess("gateway")


def _report(data: bytes) -> object:
    message = pb.Report.FromString(data)
    readers = {kind.name: lambda of, kind=kind: decoding.report(of, env=ENV, tunnel=kind) for kind in facts.TunnelKind}
    return each(message, readers, (decoding.Unreadable,))


def _hello(data: bytes) -> object:
    return decoding.hello(pb.Hello.FromString(data), connected_wall=0.0)


class Peer:
    """A stream to a replica that sends what the fuzzer says."""

    endpoint = replica = "cp:1"

    def wake(self, *, can_wait: bool) -> None:
        """Nothing is read."""


async def _receive(data: bytes) -> object:
    """Give a gateway what a replica sends; orders are carried out up to the call of the base."""

    async def base() -> bytes:
        return b'{"code":"SUCCESS","data":[]}'

    links, stream = ControlPlaneLinks(pb.Hello(gateway_id="g"), ["cp:1"], ACCESS), cast("ReplicaStream", Peer())
    tunnel = HttpTunnel(
        lambda *_: received(base()),
        AddressPolicy(DEFAULT_NETWORKS),
        links.outboxes.report,
        polls=1,
        health_timeout=1,
        query_timeout=1,
    )
    links._tunnel, links._ending = tunnel, True  # as run sets it; no streams are opened
    outbox = links.welcomed(stream, pb.Welcome(replica_id="cp:1")) or links.outboxes.open(
        pb.Welcome(replica_id="cp:1"), stream.wake
    )
    try:
        links.received(stream, pb.ConnectResponse.FromString(data))
        await asyncio.sleep(0)
        return outbox.take(0.0)
    finally:
        await links._orders.cancel()
        await tunnel.prober.close()


class Call:
    """A call of Follow to which the fuzzer gives the answers."""

    def __init__(self, answers: list[rpb.FollowResponse]) -> None:
        self._answers = answers

    def cancel(self) -> None:
        """It ends by itself."""

    async def __aiter__(self) -> AsyncIterator[rpb.FollowResponse]:
        for answer in self._answers:
            yield answer


class Channel:
    """A channel on which every call is that one."""

    def __init__(self, answers: list[rpb.FollowResponse]) -> None:
        self._answers = answers

    def stream_stream(self, *_: object, **__: object) -> Callable[[object], Call]:
        return lambda *_, **__: Call(self._answers)


def split(data: bytes) -> list[rpb.FollowResponse]:
    """Return the messages of a stream: each after its length, in two bytes."""
    found = []
    while len(data) > 2:
        end = 2 + int.from_bytes(data[:2], "big")
        found.append(rpb.FollowResponse.FromString(data[2:end]))
        data = data[end:]
    return found


async def _follow(data: bytes) -> object:
    """Give a replica what another one sends; then tools ask for all that there is."""
    answers = split(data)
    tooling = Tooling(Stage(Api()), Network())
    link = ReplicaLink(Replica("r", "r:1"), tooling.index, tooling.events, asyncio.Event(), ACCESS)
    assert isinstance(tooling.index.changed, Changes)
    await link._read(cast("aio.Channel", Channel(answers)))
    found = []
    for name, request in (("ListVNodes", tools.ListVNodesRequest()), ("ListModules", tools.ListModulesRequest())):
        response = await getattr(tooling.servicer, name)(request, call())
        found.append([_printed(item) for item in response.items])
    return found


_KINDS: Mapping[type[Message], kinds.ItemKind[Any]] = {
    tools.VNode: kinds.VNODE,
    tools.Module: kinds.MODULE,
    tools.Gateway: kinds.GATEWAY,
    tools.Replica: kinds.REPLICA,
    tools.Shard: kinds.SHARD,
    tools.Event: kinds.EVENT,
    tools.PastOperation: kinds.PAST_OPERATION,
    tools.ModuleOperation: kinds.OPERATION,
    tools.BaselineModule: kinds.BASELINE_MODULE,
}


def _printed(item: Message) -> object:
    """Return an item as mctl prints it; nothing in it may steer a terminal."""
    kind = _KINDS[type(item)]
    cells = [kind.cell(item, header) for header in kind.headers(wide=True)]
    texts = [*cells, clean(kind.title(item))]
    if kind is not kinds.PAST_OPERATION:  # which is shown in tables alone
        texts += [output.to_json(kind.document(item)), output.to_yaml(kind.document(item))]
    assert not any(unsafe(character) for text in texts for character in text.replace("\n", ""))
    return texts


def _shown(data: bytes) -> object:
    number, *_ = data[:1] or b"\0"
    kind = [*_KINDS][number % len(_KINDS)]
    return _printed(kind.FromString(data[1:]))


_METHODS = {
    method.name: GetMessageClass(method.input_type)
    for method in tools.DESCRIPTOR.services_by_name["ModuleControllerService"].methods
}


async def _ask(data: bytes) -> object:
    """Send a request to a replica; the first byte chooses the method. Of a stream the first message is read."""
    number, *_ = data[:1] or b"\0"
    name = [*_METHODS][number % len(_METHODS)]
    request = _METHODS[name].FromString(data[1:])
    stage = Stage(Api())
    tooling = Tooling(stage, Network())
    CALLER.set(Caller("u", role=Role.ADMIN))
    answer = getattr(tooling.servicer, name)(request, call(0.05))
    try:
        async with asyncio.timeout(0.05):
            if not hasattr(answer, "__anext__"):
                return await answer
            first = await anext(answer, None)
            await answer.aclose()
            return first
    except TimeoutError:
        return None
    finally:
        await tooling.servicer.finish(0.0)


class Failed(aio.AioRpcError):
    """A call that ended with a status; the status in details is whatever was sent."""

    def __init__(self, code: StatusCode, details: bytes) -> None:
        try:
            text = status_pb2.Status.FromString(details).message
        except DecodeError:
            text = details.decode(errors="replace")
        super().__init__(code, aio.Metadata(), aio.Metadata(("grpc-status-details-bin", details)), details=text)

    def trailing_metadata(self) -> Any:
        return [*super().trailing_metadata()]


def _failure(data: bytes) -> object:
    number, *_ = data[:1] or b"\0"
    code = [*StatusCode][number % len(StatusCode)]
    failure = status.failure(Failed(code, data[1:]), "server:1", 1.0)
    assert isinstance(failure, errors.CommandError)
    return str(failure)


def _object(data: bytes) -> object:
    """Say of an object that a server sent why it is not ready."""
    answer = tools.GetObjectResponse(object_json=data)
    client = SimpleNamespace(call=lambda *_: answer, stub=SimpleNamespace(GetObject=None))
    return wait._object(cast("ToolingClient", client), tools.ObjectRef(kind="Pod", name="a"))


def _chosen(kinds: list[type[Message]]) -> st.SearchStrategy[bytes]:
    """Return a strategy for messages of several types, each after a byte with its number."""
    return st.one_of(
        [st.tuples(st.just(bytes([at])), inputs.of_contract(kind)).map(b"".join) for at, kind in enumerate(kinds)]
    )


def _status(details: bytes, name: str) -> bytes:
    message = status_pb2.Status(code=3, message="m")
    message.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=details)
    return bytes(message.SerializeToString())


_STATUSES = st.builds(
    _status,
    inputs.of_contract(error_details_pb2.BadRequest) | inputs.of_contract(error_details_pb2.ErrorInfo),
    st.sampled_from(["BadRequest", "ErrorInfo"]),
)
_STREAMS = st.lists(messages(rpb.FollowResponse).map(lambda one: one.SerializeToString()), max_size=6).map(
    lambda all_of_them: b"".join(len(one).to_bytes(2, "big") + one for one in all_of_them)
)

_WAITING = {"status": {"containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "R", "message": "m"}}}]}}

TARGETS = (
    Target(
        "gateway-report",
        ("controlplane.rpc.tunnel.decoding",),
        inputs.of_contract(pb.Report),
        _report,
        (DecodeError,),
    ),
    Target("gateway-hello", (), inputs.of_contract(pb.Hello), _hello, (DecodeError, decoding.Unreadable)),
    Target(
        "replica-message",
        ("gateways.session.validation", "gateways.session.links", "gateways.session.stream", "gateways.http.tunnel"),
        inputs.of_contract(pb.ConnectResponse),
        lambda data: asyncio.run(_receive(data)),
        (DecodeError,),
    ),
    Target(
        "replica-stream",
        ("controlplane.rpc.tooling.replicas", "controlplane.rpc.tooling.index", "controlplane.rpc.tooling.events"),
        _STREAMS,
        lambda data: asyncio.run(_follow(data)),
        (DecodeError,),
        size=64,
        calls=2000,
    ),
    Target(
        "tool-request",
        (
            "controlplane.rpc.refusals",
            *(f"controlplane.rpc.tooling.{group}" for group in ("answers", "calls", "reads", "rollouts", "servicer")),
            *(f"controlplane.rpc.tooling.{group}" for group in ("releases", "shards", "watches")),
        ),
        _chosen([*_METHODS.values()]),
        lambda data: asyncio.run(_ask(data)),
        (DecodeError, Refused),
    ),
    Target(
        "tool-answer", ("mctl.kinds", "mctl.output"), _chosen([*_KINDS]), _shown, (DecodeError,), size=64, calls=2000
    ),
    Target(
        "tool-object",
        ("mctl.commands.wait",),
        inputs.documents([_WAITING]),
        _object,
        (errors.CommandError,),
    ),
    Target(
        "tool-failure",
        ("mctl.rpc.status",),
        st.tuples(st.just(3) | st.integers(0, 20), _STATUSES | st.binary(max_size=40)).map(
            lambda pair: bytes([pair[0]]) + pair[1]
        ),
        _failure,
    ),
)
