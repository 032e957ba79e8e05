"""The gRPC server: both services, health and reflection."""

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from koupleless.modulecontroller.v1 import module_controller_pb2, module_controller_pb2_grpc
from koupleless.replica.v1 import replica_pb2, replica_pb2_grpc
from koupleless.tunnel.v1 import tunnel_pb2, tunnel_pb2_grpc

from controlplane.rpc.access.guard import Guard
from controlplane.rpc.access.rules import LARGE
from controlplane.rpc.tooling.following import ReplicaServicer
from controlplane.rpc.tooling.servicer import ToolingServicer
from controlplane.rpc.tunnel.session import TunnelServicer
from service.listening import host_port
from service.process import StartError

MOST_CALLS = 4096
"""Calls at once, refused ones and streams included."""

_TUNNEL = tunnel_pb2.DESCRIPTOR.services_by_name["TunnelService"].full_name
_REPLICAS = replica_pb2.DESCRIPTOR.services_by_name["ReplicaService"].full_name
_TOOLING = module_controller_pb2.DESCRIPTOR.services_by_name["ModuleControllerService"].full_name


class Server:
    """Serves one replica's gRPC API."""

    def __init__(
        self,
        tunnel: TunnelServicer,
        tooling: ToolingServicer,
        replicas: ReplicaServicer,
        guard: Guard,
        connections_of_port: int,
    ) -> None:
        self._tunnel = tunnel
        self._tooling = tooling
        self._health = health.aio.HealthServicer()
        self._server = aio.server(
            interceptors=[guard],
            maximum_concurrent_rpcs=MOST_CALLS,
            options=[
                ("grpc.max_receive_message_length", LARGE),
                ("grpc.so_reuseport", 0),
                ("grpc.max_allowed_incoming_connections", connections_of_port),
                ("grpc.server_handshake_timeout_ms", 10_000),
                # Nobody calls; clients connect again when they do.
                ("grpc.max_connection_idle_ms", 60_000),
                # Gateways ping idle streams; a dead peer is noticed within half a minute.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        tunnel_pb2_grpc.add_TunnelServiceServicer_to_server(tunnel, self._server)
        module_controller_pb2_grpc.add_ModuleControllerServiceServicer_to_server(tooling, self._server)
        replica_pb2_grpc.add_ReplicaServiceServicer_to_server(replicas, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (_TUNNEL, _TOOLING, _REPLICAS, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def listen(self, variable: str, host: str, port: int, credentials: grpc.ServerCredentials | None) -> str:
        """Listen on a port, in plaintext without credentials; returns the address. Raises StartError."""
        address = host_port(host or "::", port)
        try:
            if credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise StartError(
                f"{variable}={port}: cannot listen on {address} ({error}); "
                f"stop what uses it or choose another with {variable}"
            ) from error
        return address

    async def start(self) -> None:
        """Serve the ports that are listened on."""
        await self._server.start()
        for service in ("", _TUNNEL, _TOOLING, _REPLICAS):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def end(self) -> None:
        """Say to tools and replicas that this one ends, by the health service too; gateways are served until stop."""
        self._tooling.index.end()
        await self._health.enter_graceful_shutdown()

    async def stop(self, reason: str, grace: float) -> None:
        """After end: end what tools began, say Drain to gateways and end all calls, within grace seconds each."""
        await self._tooling.finish(grace)
        await self._tunnel.drain(reason)
        await self._server.stop(grace)
