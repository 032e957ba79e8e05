"""A tooling API that asks who calls: TLS or not, tokens, refusals with a retry time; it keeps what it was sent."""

from collections import deque
from collections.abc import Callable
from concurrent import futures
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import grpc
import trustme
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc as pb_grpc

from tests.fakes.tooling import FakeTooling


class Guard(grpc.ServerInterceptor):
    """Lets calls with an accepted Authorization header in; with None accepted everybody. busy are retry times, in s."""

    def __init__(self) -> None:
        self.accepted: set[str] | None = None
        self.seen: list[str] = []
        self.busy: deque[float] = deque()

    @property
    def secrets(self) -> set[str]:
        """All Authorization headers that were sent."""
        return {value for value in self.seen if value}

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        metadata = {str(key): str(value) for key, value in handler_call_details.invocation_metadata or ()}
        self.seen.append(metadata.get("authorization", ""))
        handler = continuation(handler_call_details)
        if self.busy:
            return _refusing(handler, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls", self.busy.popleft())
        if self.accepted is not None and self.seen[-1] not in self.accepted:
            return _refusing(handler, grpc.StatusCode.UNAUTHENTICATED, "no valid token", None)
        return handler


def _refusing(handler: Any, code: grpc.StatusCode, message: str, retry: float | None) -> Any:
    def refuse(_request: object, context: grpc.ServicerContext) -> Any:
        details = []
        if retry is not None:
            info, packed = error_details_pb2.RetryInfo(), any_pb2.Any()
            info.retry_delay.FromTimedelta(timedelta(seconds=retry))
            packed.Pack(info)
            details.append(packed)
        status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message, details=details)
        context.abort_with_status(rpc_status.to_status(status))

    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return make(refuse, handler.request_deserializer, handler.response_serializer)


class GuardedServer:
    """Serves a fake on loopback while it is entered, with a certificate of authority for names, else in plaintext."""

    def __init__(
        self,
        authority: trustme.CA | None = None,
        *,
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        client_ca: trustme.CA | None = None,
        until: datetime | None = None,
    ) -> None:
        self.fake, self.guard = FakeTooling(), Guard()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), interceptors=[self.guard])
        pb_grpc.add_ModuleControllerServiceServicer_to_server(self.fake, self._server)
        address = "127.0.0.1:0"
        if authority is None:
            self.port = self._server.add_insecure_port(address)
        else:
            leaf = authority.issue_cert(*names, not_before=until and until - timedelta(days=1), not_after=until)
            credentials = grpc.ssl_server_credentials(
                [(leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())],
                root_certificates=client_ca.cert_pem.bytes() if client_ca is not None else None,
                require_client_auth=client_ca is not None,
            )
            self.port = self._server.add_secure_port(address, credentials)

    @property
    def address(self) -> str:
        """Return host:port."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fake.ended.set()
        self._server.stop(grace=0.1).wait(5.0)


def ca_file(folder: Path, authority: trustme.CA, name: str = "ca.crt") -> str:
    """Write the certificate of a CA and return its path."""
    authority.cert_pem.write_to_path(folder / name)
    return str(folder / name)
