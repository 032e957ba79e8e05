"""TLS and tokens of Kubernetes between the programs of a stage, and how its tools connect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.rpc.settings import AUDIENCE
from grpcclient.access import ClientAccess, ca_file
from tests.certificates import issued
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.cluster import KubeCluster

HOST, GATEWAY, TOOL = "127.0.0.1", "http-gateway", "module-controller"


@dataclass(frozen=True)
class Trust:
    """Variables of control plane and gateways, and how a tool connects."""

    tool: ClientAccess
    control_plane: Mapping[str, str] = field(default_factory=dict)
    gateway: Mapping[str, str] = field(default_factory=dict)


def plaintext(state: Path) -> Trust:
    """Return the trust of one machine: plaintext on loopback, tokens of this machine in a folder."""
    return Trust(ClientAccess(role="admin", tokens_path=str(state / "koupleless-module-controller" / "tokens.csv")))


def tls(cluster: KubeCluster, folder: Path) -> Trust:
    """Return the trust of a cluster: TLS, tokens of service accounts; raises ApiError, OSError."""
    files = issued(folder, client_ca=False)
    ca = str(folder / "ca.crt")
    accounts = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts"
    cluster.api.create(accounts, {"metadata": {"name": GATEWAY}})
    gateway, tool = folder / "gateway.token", folder / "tool.token"
    gateway.write_text(cluster.service_account_token(SYSTEM_NAMESPACE, GATEWAY, AUDIENCE))
    tool.write_text(cluster.service_account_token(SYSTEM_NAMESPACE, TOOL))
    return Trust(
        ClientAccess(role="", ca=ca_file(ca), token_path=str(tool), server_name=HOST),
        {"GRPC_CRT_PATH": files.crt.path, "GRPC_KEY_PATH": files.key.path},
        {
            "CONTROL_PLANE_CA_PATH": ca,
            "CONTROL_PLANE_SERVER_NAME": HOST,
            "CONTROL_PLANE_TOKEN_PATH": str(gateway),
        },
    )
