"""http-gateway: where its parts are put together."""

import asyncio

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways import program
from gateways.http.arklet_client import ArkletClient
from gateways.http.credentials import Credentials
from gateways.http.listener import Listener
from gateways.http.requests import Requests
from gateways.http.settings import HttpGatewaySettings, PeerCheck
from gateways.http.tunnel import HttpTunnel
from gateways.session.links import ControlPlaneLinks
from service import process
from service.addresses import AddressPolicy
from service.following import Followed
from service.tls import Certificates

log = structlog.get_logger(__name__)

PURPOSE = "Gateway between Koupleless bases that speak HTTP and the control plane."


class HttpGateway(program.Gateway):
    """Everything between HTTP and the links to the control plane."""

    def __init__(self, settings: HttpGatewaySettings, links: ControlPlaneLinks) -> None:
        policy = AddressPolicy(settings.allowed_cidrs, settings.allowed_ports)
        self._settings = settings
        self._report = links.outboxes.report
        self.tunnel: HttpTunnel = HttpTunnel(
            ArkletClient(connect_timeout=settings.connect_timeout).answer,
            policy,
            self._report,
            polls=settings.poll_concurrency,
            health_timeout=settings.health_timeout,
            query_timeout=settings.query_timeout,
        )
        self._keys = Followed(settings.keys, "http-tunnel-token-keys")
        files = settings.tls_files
        self._certificates = None if files is None else Certificates(files, "http-tunnel")
        check_peers = settings.peer_check is PeerCheck.ENFORCE
        self._listener = Listener(
            Requests(self._report, links.baseline, self.tunnel.prober, policy, settings.env, check_peers),
            Credentials(settings.token.get_secret_value(), lambda: self._keys.current),
            self._certificates,
            host=settings.listen_host,
            port=settings.listen_port,
        )

    def trouble(self) -> list[str]:
        """Return whether bases cannot connect."""
        return [] if self._listener.listening else [f"not listening on port {self._settings.listen_port}"]

    async def start(self) -> None:
        """Listen for bases. Raises CannotListen, StartError."""
        await self._keys.load()
        await self._listener.start()
        self._report(pb.Report(tunnel_state=pb.TunnelState(up=True)))
        log.info("listening for bases", port=self._settings.listen_port, control_plane=self._settings.control_plane)

    async def run(self) -> None:
        """Follow the files of keys and certificates."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keys.follow(), name="token-keys")
            if self._certificates is not None:
                group.create_task(self._certificates.follow(), name="certificates")

    async def drain(self) -> None:
        """Stop listening and polling."""
        await self._listener.stop()
        await self.tunnel.prober.close()


def main() -> None:
    """Run the program, with as many sockets as it may have: one for each connection, in and out."""
    process.raise_file_limit()
    program.main("http-gateway", PURPOSE, HttpGatewaySettings, pb.TUNNEL_KIND_HTTP, HttpGateway)


if __name__ == "__main__":
    main()
