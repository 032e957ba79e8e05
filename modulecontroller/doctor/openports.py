"""To whom the ports of the programs are open, by their settings; nothing is tried."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from controlplane.rpc.settings import Tls
from controlplane.settings import ClusterKind, ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings, PeerCheck
from gateways.mqtt.settings import MqttGatewaySettings
from grpcclient.access import is_local
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, Skip, ok, warning
from modulecontroller.settings import SupervisorSettings
from service.listening import is_loopback, is_unspecified

_READERS = "anybody, who can read {} and change nothing"


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a program listens on.

    host is as in its settings. callers says who is answered. danger is what others in the network can do where the port
    is not for this machine only, and fix ends it; both are empty where there is none.
    """

    variable: str
    number: int
    host: str
    callers: str
    tls: bool = False
    danger: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.variable}={self.number}"


async def open_ports(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield a line for each port: where it listens, whether over TLS, and who is answered; dangers are warnings."""
    ports = [*listening(configuration)]
    if not ports:
        raise Skip("the settings of no program that listens can be read")
    for port in ports:
        words = f"{port} on {_addresses(port.host)}, {'TLS' if port.tls else 'plaintext'}: open to {port.callers}"
        in_danger = bool(port.danger) and not is_loopback(port.host)
        yield warning(f"{words}; {port.danger}", port.fix) if in_danger else ok(words)
    for gateway in (configuration.of(HttpGatewaySettings), configuration.of(MqttGatewaySettings)):
        away = [each for each in gateway.control_plane if not is_local(each)] if gateway is not None else []
        if gateway is not None and away and not gateway.control_plane_ca_path:
            yield warning(
                f"CONTROL_PLANE={','.join(away)}, plaintext: the gateway's token can be read on the way "
                "(GRPC_INSECURE=true)",
                "set CONTROL_PLANE_CA_PATH, and leave GRPC_INSECURE out",
            )


def listening(configuration: Configuration) -> Iterator[Port]:
    """Yield the ports that the programs listen on; under module-controller children have no status ports."""
    supervisor = configuration.of(SupervisorSettings)
    control_plane = configuration.of(ControlPlaneSettings)
    http = configuration.of(HttpGatewaySettings)
    if control_plane is not None:
        yield from _grpc(control_plane, supervised=supervisor is not None)
        if control_plane.report_host is not None:
            yield _intake(control_plane, control_plane.report_host)
        if control_plane.kind is ClusterKind.KUBERNETES and control_plane.kubelet_proxy_enabled is not False:
            yield _kubelet(control_plane)
    if http is not None:
        yield _bases(http)
    alone = [each for each in (control_plane, http, configuration.of(MqttGatewaySettings)) if each is not None]
    for each in [supervisor] if supervisor is not None else [each for each in alone if not each.status_socket]:
        yield Port("HEALTH_PORT", each.health_port, each.status_host, _READERS.format("what is missing"))
        yield Port("METRICS_PORT", each.metrics_port, each.status_host, _READERS.format("figures without secrets"))


def _addresses(host: str) -> str:
    if is_loopback(host):
        return f"{host} (this machine only)"
    return f"all addresses ({host or '::'})" if is_unspecified(host) else host


def _grpc(settings: ControlPlaneSettings, *, supervised: bool) -> Iterator[Port]:
    embedded = settings.kind is ClusterKind.EMBEDDED
    local = supervised or settings.local_tokens(embedded=embedded) is not None
    tokens = {"of this machine": local, "that the API server knows": not embedded}
    yield Port(
        "GRPC_PORT",
        settings.grpc_port,
        settings.listens_at,
        f"who shows a bearer token {' or one '.join(words for words, counts in tokens.items() if counts)}",
        tls=settings.tls is not Tls.NONE,
        danger="" if settings.tls is not Tls.NONE else "tokens can be read on the way (GRPC_INSECURE=true)",
        fix="set GRPC_CRT_PATH and GRPC_KEY_PATH, and leave GRPC_INSECURE out",
    )
    if settings.grpc_client_ca_path:
        callers = f"who shows a certificate of GRPC_CLIENT_CA_PATH={settings.grpc_client_ca_path}"
        yield Port("GRPC_CERTIFICATE_PORT", settings.grpc_certificate_port, settings.listens_at, callers, tls=True)


def _intake(settings: ControlPlaneSettings, host: str) -> Port:
    with_token = bool(settings.report_token.get_secret_value())
    return Port(
        "REPORT_PORT",
        settings.report_port,
        host,
        "who has REPORT_TOKEN" if with_token else "anybody, since REPORT_TOKEN is not set",
        danger="REPORT_TOKEN can be read on the way" if with_token else "",
        fix="leave REPORT_TOKEN out where this machine alone reports; else have reports come through a proxy with TLS",
    )


def _kubelet(settings: ControlPlaneSettings) -> Port:
    callers = "who may get subresources of nodes, and shows a token that the API server knows or a certificate of "
    callers += f"KUBELET_PROXY_CLIENT_CA_PATH={settings.kubelet_proxy_client_ca_path}"
    if not settings.kubelet_proxy_enabled:
        callers += "; not there without deploy/kubelet"
    return Port("KUBELET_PROXY_PORT", settings.kubelet_proxy_port, settings.status_host, callers, tls=True)


def _bases(settings: HttpGatewaySettings) -> Port:
    tls = settings.tls_files is not None
    tokens = {"HTTP_TUNNEL_TOKEN": settings.token, "a token of HTTP_TUNNEL_TOKEN_KEYS": settings.token_keys}
    shown = [words for words, value in tokens.items() if value.get_secret_value()]
    callers = f"bases that have {' or '.join(shown)}" if shown else "any base, since no token is set"
    if settings.peer_check is PeerCheck.ENFORCE:
        callers += ", at the addresses that they name"
    danger, fix = "", ""
    if not shown:
        danger = "whoever reaches it can announce bases"
        fix = "set HTTP_TUNNEL_TOKEN_KEYS or HTTP_TUNNEL_TOKEN, or HTTP_TUNNEL_LISTEN_HOST=127.0.0.1"
    elif not tls:
        danger, fix = "the tokens can be read on the way", "set HTTP_TUNNEL_CRT_PATH and HTTP_TUNNEL_KEY_PATH"
    return Port("HTTP_TUNNEL_LISTEN_PORT", settings.listen_port, settings.listen_host, callers, tls, danger, fix)
