"""The fields of a kubeconfig (v1), as tables.

A field that is in no table is refused, with file and name: what we do not know could
change who we are or where requests go. docs/kubeconfig.md has the same tables for
people; a test compares the two.

Source: client-go, tools/clientcmd/api/v1/types.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Unusable(ValueError):
    """An entry cannot be used; the message names the field and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entry, and the type of each of its fields."""

    name: str
    types: dict[str, type]

    def check(self, entry: Any, where: str) -> dict[str, Any]:
        """Return an entry's fields, without those that are null; raises Unusable. where names the entry."""
        if entry is None:
            return {}
        if not isinstance(entry, dict):
            raise Unusable(f"{where} is not a mapping of fields")
        fields = {name: value for name, value in entry.items() if value is not None}
        for name, value in fields.items():
            if name not in self.types:
                raise Unusable(
                    f"{where}: field {name} is not known; it could change who we are or where requests go, "
                    "so that it is not ignored: remove it, or correct its name"
                )
            if not isinstance(value, self.types[name]):
                raise Unusable(f"{where}: field {name} must be {_TYPE_NAMES[self.types[name]]}")
        return fields


_TYPE_NAMES = {str: "a text", bool: "true or false", list: "a list", dict: "a mapping"}

CLUSTER = Kind(
    "cluster",
    {
        "server": str,
        "tls-server-name": str,
        "insecure-skip-tls-verify": bool,
        "certificate-authority": str,
        "certificate-authority-data": str,
        "proxy-url": str,
        "disable-compression": bool,
        "extensions": list,
    },
)
USER = Kind(
    "user",
    {
        "client-certificate": str,
        "client-certificate-data": str,
        "client-key": str,
        "client-key-data": str,
        "token": str,
        "tokenFile": str,
        "as": str,
        "as-uid": str,
        "as-groups": list,
        "as-user-extra": dict,
        "username": str,
        "password": str,
        "auth-provider": dict,
        "exec": dict,
        "extensions": list,
    },
)
CONTEXT = Kind("context", {"cluster": str, "user": str, "namespace": str, "extensions": list})
EXEC = Kind(
    "exec",
    {
        "command": str,
        "args": list,
        "env": list,
        "apiVersion": str,
        "installHint": str,
        "provideClusterInfo": bool,
        "interactiveMode": str,
    },
)
EXEC_ENV = Kind("exec.env", {"name": str, "value": str})
AUTH_PROVIDER = Kind("auth-provider", {"name": str, "config": dict})

INTERACTIVE_MODES = ("Never", "IfAvailable")
"""Always is refused: nobody sits at the standard input of a control plane."""
EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

GONE_PROVIDERS = {
    "gcp": "Kubernetes removed it in 1.26; use the exec plugin gke-gcloud-auth-plugin",
    "azure": "Kubernetes removed it in 1.26; use the exec plugin kubelogin",
    "openstack": "Kubernetes removed it; use the exec plugin client-keystone-auth",
}
OIDC = Kind(
    "auth-provider oidc",
    {
        "idp-issuer-url": str,
        "client-id": str,
        "client-secret": str,
        "idp-certificate-authority": str,
        "idp-certificate-authority-data": str,
        "id-token": str,
        "refresh-token": str,
        "extra-scopes": str,
    },
)

KINDS = (CLUSTER, USER, CONTEXT, EXEC, EXEC_ENV, AUTH_PROVIDER, OIDC)
