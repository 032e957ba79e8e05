"""TLS: a server certificate that changes under open streams, and callers that are known by a client certificate."""

import grpc
import trustme
from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from controlplane.rpc.access.tls import credentials
from service.tls import Contents
from tests.integration.access.scene import Scene, serving

BEARER = (("authorization", "Bearer ann"),)


class Certificates:
    """The server's certificates as they are now."""

    def __init__(self) -> None:
        self.ca, self.clients = trustme.CA(), trustme.CA()
        self.renew()

    def renew(self) -> None:
        leaf = self.ca.issue_cert("module-controller")
        crt = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        self.now = Contents(crt, leaf.private_key_pem.bytes(), self.clients.cert_pem.bytes())

    def listen(self, server: aio.Server, *, ask: bool = False) -> int:
        return server.add_secure_port("127.0.0.1:0", credentials(lambda: self.now, client_certificates=ask))

    def client(self, user: str = "", ca: trustme.CA | None = None) -> grpc.ChannelCredentials:
        """Return what a client shows: a certificate of the clients' CA, or of another one, or none."""
        if not user:
            return grpc.ssl_channel_credentials(self.ca.cert_pem.bytes())
        leaf = (ca or self.clients).issue_cert(f"{user}@example.org", common_name=user)
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        return grpc.ssl_channel_credentials(self.ca.cert_pem.bytes(), leaf.private_key_pem.bytes(), chain)


async def status(scene: Scene, shown: grpc.ChannelCredentials | None, *, token: bool = True) -> grpc.StatusCode:
    stub = ModuleControllerServiceStub(scene.channel(shown))
    call = stub.ListVNodes(pb.ListVNodesRequest(), metadata=BEARER if token else (), timeout=10)
    return await call.code()


async def test_a_new_certificate_is_shown_and_streams_go_on() -> None:
    certificates = Certificates()
    async with serving(listen=certificates.listen) as scene:
        stub = ModuleControllerServiceStub(scene.channel(certificates.client()))
        watch = stub.WatchVNodes(pb.WatchVNodesRequest(), metadata=BEARER)
        await watch.read()
        old = certificates.client()
        certificates.ca = trustme.CA()
        certificates.renew()
        assert await status(scene, certificates.client()) is grpc.StatusCode.OK
        assert await status(scene, old) is grpc.StatusCode.UNAVAILABLE
        for _ in range(3):
            assert isinstance(await watch.read(), pb.WatchVNodesResponse)


async def test_who_shows_a_certificate_is_who_it_says_whatever_the_token() -> None:
    certificates = Certificates()
    async with serving(listen=lambda server: certificates.listen(server, ask=True)) as scene:
        assert await status(scene, certificates.client("ben")) is grpc.StatusCode.PERMISSION_DENIED
