"""The guard before all calls: who calls, how much they have under way, and whether they may.

A call reaches its servicer only after all that: a request is read when its caller is known and has a place for it.
"""

import asyncio
import base64
import binascii
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

import grpc
import orjson
import structlog
from google.protobuf.message import DecodeError
from grpc import aio
from prometheus_client import Counter, Gauge

from controlplane.access.authenticator import Authenticator
from controlplane.access.certificates import of_pem
from controlplane.access.refusals import AccessRefused, Forbidden, Unauthenticated
from controlplane.app.tooling.refusals import RequestError
from controlplane.domain.access import Caller, Role
from controlplane.rpc.access.places import BOUNDS, Kind, Places
from controlplane.rpc.access.rules import CLOSED, RULES, Rule, Who
from controlplane.rpc.refusals import Context, TooMuch, refusing
from service.limits import LogLimit

log = structlog.get_logger(__name__)

READ_WITHIN = 10.0
"""Seconds in which a request must have arrived."""
LOG_EVERY = 60.0

REFUSED = Counter("koupleless_grpc_refused_total", "gRPC calls that were refused before they were served", ["reason"])
UNDER_WAY = Gauge("koupleless_grpc_under_way", "What callers have under way", ["kind"])

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

CALLER: ContextVar[Caller] = ContextVar("caller")
"""Who makes the call that is being served; set by the guard."""


@dataclass(frozen=True, slots=True)
class Circle:
    """Users that are taken for gateways and replicas, and the audience of tokens that are meant for us."""

    audience: str
    namespace: str
    gateways: frozenset[str] = frozenset()
    replicas: frozenset[str] = frozenset()

    def has(self, who: Who, caller: Caller) -> bool:
        """Return whether a caller is of a kind."""
        match who:
            case Who.ANYONE:
                return True
            case Who.TOOL:
                return caller.role not in (Role.GATEWAY, Role.REPLICA)
            case Who.GATEWAY:
                return caller.role is Role.GATEWAY or (caller.role is None and caller.user in self.gateways)
            case Who.REPLICA:
                return caller.role is Role.REPLICA or (caller.role is None and caller.user in self.replicas)
            case Who.NOBODY:
                return False


@dataclass(eq=False)
class Guard(aio.ServerInterceptor):
    """Lets known callers do what they may, within bounds."""

    authenticator: Authenticator
    circle: Circle
    places: Places = field(default_factory=Places)
    known: Callable[[str], None] = field(kw_only=True, default=lambda _peer: None)
    """Hears from which peer somebody known has called, as gRPC writes it."""
    _lines: LogLimit = field(default_factory=lambda: LogLimit(LOG_EVERY), init=False)

    def __post_init__(self) -> None:
        for kind in BOUNDS:
            UNDER_WAY.labels(kind.name.lower()).set_function(lambda kind=kind: self.places.under_way(kind))  # type: ignore[misc]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return the handler of a method behind the guard; an unknown method has none, which gRPC says."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        rule = RULES.get(handler_call_details.method, CLOSED)
        token = _bearer(handler_call_details.invocation_metadata)
        call = _Guarded(self, handler_call_details.method.rpartition("/")[2], handler, rule, token)
        # A handler of streams reads when it says so, on the wire it is the same.
        read = cast("Callable[[bytes], Any]", handler.request_deserializer)
        return grpc.stream_stream_rpc_method_handler(
            cast("Any", call.serve), _at_most(rule.most_bytes, read), handler.response_serializer
        )

    async def caller(self, rule: Rule, token: str, context: Context) -> Caller:
        """Return who calls; raises AccessRefused."""
        if certificate := certificate_of(context):
            caller = of_pem(certificate)
        elif not token:
            raise Unauthenticated("anonymous", "a bearer token or a client certificate is needed")
        else:
            ours = self.circle.audience
            audience = ours if rule.who in (Who.GATEWAY, Who.REPLICA) or _is_for(token, ours) else ""
            caller = await self.authenticator.whose(token, audience=audience, peer=_host(context.peer()))
        if not self.circle.has(rule.who, caller):
            raise Forbidden("not_in_circle", f"{caller.user} is no {rule.who.value} that this control plane knows")
        self.known(context.peer())
        return caller

    def refused(self, context: Context, method: str, reason: str, text: str) -> None:
        """Count a refusal, and log it: of one peer and reason one line a minute."""
        REFUSED.labels(reason).inc()
        peer = _host(context.peer())
        held = self._lines.admit(f"{peer} {reason}", time.monotonic())
        if held is not None:
            log.warning("call refused", peer=peer, call=method, reason=reason, text=text, more=held)

    def failed(self, method: str) -> None:
        """Count a defect of ours, and log the exception that is being handled: of one call one trace a minute."""
        REFUSED.labels("defect").inc()
        held = self._lines.admit(f"defect {method}", time.monotonic())
        if held is not None:
            log.exception("a call failed through a defect", call=method, more=held)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """One call behind the guard."""

    guard: Guard
    method: str
    handler: "Handler"
    rule: Rule
    token: str

    async def serve(self, requests: AsyncIterator[Any], context: Context) -> None:
        """Serve the call, or refuse it. What a defect of ours says stays in the log."""
        try:
            await self._answer(requests, context)
        except aio.AbortError:
            raise
        except NotImplementedError:
            # How generated code answers calls that its servicer does not have.
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{self.method} is not served here")
        except aio.InternalError as error:
            log.debug("the caller is gone", call=self.method, cause=str(error))
        except Exception:
            self.guard.failed(self.method)
            await context.abort(grpc.StatusCode.INTERNAL, "the control plane has a defect: its log has the cause")

    async def _answer(self, requests: AsyncIterator[Any], context: Context) -> None:
        async with refusing(context):
            try:
                caller = await self.guard.caller(self.rule, self.token, context)
                CALLER.set(caller)
                with self.guard.places.taken(caller.user, self._kind):
                    await self._serve(caller, requests, context)
            except AccessRefused as refused:
                self.guard.refused(context, self.method, refused.reason, str(refused))
                raise
            except TooMuch as refused:
                self.guard.refused(context, self.method, "too_much", str(refused))
                raise

    @property
    def _kind(self) -> Kind:
        if self.rule.who in (Who.GATEWAY, Who.REPLICA):
            return Kind.LINK
        return Kind.WATCH if self.handler.response_streaming else Kind.CALL

    async def _serve(self, caller: Caller, requests: AsyncIterator[Any], context: Context) -> None:
        # The stubs type the handlers of servers without asyncio.
        handler = cast("Any", self.handler)
        if handler.request_streaming:
            await _run(handler.stream_stream, requests, context)
            return
        with self.guard.places.taken(caller.user, Kind.BYTE, self.rule.most_bytes):
            request = await self._read(context)
            for access in self.rule.rights(request, self.guard.circle.namespace):
                await self.guard.authenticator.must(caller, access)
            if handler.unary_unary is not None:
                await context.write(await handler.unary_unary(request, context))
                return
        await _run(handler.unary_stream, request, context)

    async def _read(self, context: Context) -> Any:
        """Return the request; raises RequestError."""
        try:
            async with asyncio.timeout(READ_WITHIN):
                request = await context.read()
        except TimeoutError:
            raise RequestError(f"no request came within {READ_WITHIN:g} s") from None
        except DecodeError:
            raise RequestError("the request is not of the contract") from None
        except _TooLarge as error:
            raise RequestError(str(error)) from None
        if request is aio.EOF:
            raise RequestError("the call has no request")
        return request


async def _run(method: Callable[[Any, Context], Any], argument: Any, context: Context) -> None:
    """Serve a call whose answers are a stream: yielded, or written by the method itself."""
    answers = method(argument, context)
    if not inspect.isasyncgen(answers):
        await answers
        return
    async with aclosing(answers):
        async for answer in answers:
            await context.write(answer)


class _TooLarge(Exception):
    """A request has more bytes than its call may have."""


def _at_most(most: int, read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return what reads a message, unless it is too large."""

    def bounded(raw: bytes) -> Any:
        if len(raw) > most:
            raise _TooLarge(f"the request has {len(raw)} bytes; this call takes {most}")
        return read(raw)

    return bounded


def certificate_of(context: Context) -> bytes:
    """Return the certificate that the caller showed, as PEM; empty when there is none."""
    return next(iter(context.auth_context().get("x509_pem_cert", ())), b"")


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the bearer token of a call, empty when there is none."""
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""


def _is_for(token: str, audience: str) -> bool:
    """Return whether a JSON Web Token says that it is for an audience; whether that is true is asked afterwards."""
    try:
        payload = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        found = claims["aud"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return False
    return audience in found if isinstance(found, list) else found == audience


def _host(peer: str) -> str:
    """Return the address of a peer as gRPC writes it, without its port."""
    return unquote(peer.partition(":")[2].rpartition(":")[0] or peer).strip("[]")
