"""Settings of the kubelet API: whether and where it is served, and its certificate."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from controlplane.kubelet.logtemplate import FIELDS, LogTemplate
from service.listening import Port
from service.settings import Settings
from service.tls import Files, PemFile

TLS_SECRET, CA_CONFIG_MAP = "module-controller-kubelet", "module-controller-kubelet-ca"
"""Where the certificate is that we make, or that somebody else put there; and the CA that made it."""
SIGNED_SECRET = "module-controller-kubelet-signed"  # noqa: S105 - a name
"""Where the certificate is that the cluster's own signer made for us."""
OTHERWISE = "leave KUBELET_PROXY_ENABLED out"


def _unset(value: object) -> object:
    return None if value == "" else value


class KubeletSettings(Settings):
    """Variables of the kubelet API."""

    kubelet_proxy_enabled: Annotated[bool | None, BeforeValidator(_unset)] = Field(
        None,
        description="whether to serve a kubelet API that stands for all VNodes, so that kubectl logs and kubectl top "
        "work for modules; by default where deploy/kubelet is applied. true: a start without it fails",
    )
    kubelet_proxy_port: Port = Field(10250, description="TCP port of the kubelet API")
    kubelet_proxy_crt_path: str = Field(
        "/etc/virtual-kubelet/tls/tls.crt",
        description="PEM file of the kubelet API's certificate; it and the next two are read again when they change. "
        f"Where neither variable is set nor the file there, the Secret {TLS_SECRET} has the certificate",
    )
    kubelet_proxy_key_path: str = Field(
        "/etc/virtual-kubelet/tls/tls.key", description="PEM file of that certificate's key"
    )
    kubelet_proxy_client_ca_path: str = Field(
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        description="PEM file of the CA whose client certificates the kubelet API accepts, the API server's above all",
    )
    kubelet_exec_enabled: bool = Field(
        False,
        description="true: kubectl exec, attach, cp and port-forward lead into the base's Pod through the kubelet API; "
        "needs deploy/kubelet/exec.yaml",
    )
    log_source: str = Field(
        "",
        description="URL of the logs of bases that run in no Pod, plain text, with fields in braces: "
        f"{', '.join(FIELDS)}; example http://logs.example/base/{{host}}?tail={{tail}}",
    )
    log_source_token_path: str = Field(
        "", description="file with the bearer token for LOG_SOURCE; it is read for each log"
    )

    @field_validator("log_source")
    @classmethod
    def _log_source(cls, value: str) -> str:
        if value:
            LogTemplate(value)
        return value

    @property
    def kubelet_client_ca(self) -> PemFile:
        """The file with the CA of those who call the kubelet API."""
        return PemFile("KUBELET_PROXY_CLIENT_CA_PATH", self.kubelet_proxy_client_ca_path)

    @property
    def kubelet_files(self) -> Files | None:
        """The certificate files of the kubelet API; None: its certificate is in a Secret."""
        named = {"kubelet_proxy_crt_path", "kubelet_proxy_key_path"} & self.model_fields_set
        if not named and not Path(self.kubelet_proxy_crt_path).exists():
            return None
        return Files(
            crt=PemFile("KUBELET_PROXY_CRT_PATH", self.kubelet_proxy_crt_path),
            key=PemFile("KUBELET_PROXY_KEY_PATH", self.kubelet_proxy_key_path),
            client_ca=self.kubelet_client_ca,
            otherwise=OTHERWISE,
        )
