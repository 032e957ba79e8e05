"""Tokens of service accounts, good ones and such as must be refused, for a test cluster."""

import base64
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controlplane.rpc.settings import AUDIENCE
from tests.servers import manifests
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import Json

SYSTEM = "koupleless-system"
DEPLOY = Path(__file__).parents[3] / "deploy"
RBAC = "rbac.authorization.k8s.io"
HOUR = 3600.0

ROLES = {
    "viewer": "module-controller-viewer",
    "operator": "module-controller-operator",
    "log-reader": "log-reader",
    "stranger": "",
    "http-gateway": "",
    "module-controller": "",
}
"""Accounts by name, and the ClusterRole that each is bound to."""
LOG_READER: Json = {
    "apiVersion": f"{RBAC}/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "log-reader"},
    "rules": [{"apiGroups": [""], "resources": ["nodes/log"], "verbs": ["get"]}],
}


def objects() -> list[Json]:
    """Return the accounts with their roles, the shipped ones where there are any."""
    found = [LOG_READER, *manifests.load(DEPLOY / "tools.yaml")]
    for name, role in ROLES.items():
        account = {"name": name, "namespace": SYSTEM}
        found.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        if role:
            binding: Json = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}}
            binding["roleRef"] = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
            binding["subjects"] = [{"kind": "ServiceAccount", **account}]
            found.append(binding)
    return found


@dataclass(frozen=True, slots=True)
class Issuer:
    """Makes tokens."""

    kube: KubeCluster

    def grant(self, account: str, audience: str = "", *, bound_to: Json | None = None) -> str:
        """Return a token that the API server grants, the way Pods and users get theirs; bound_to is another object."""
        spec: Json = {"expirationSeconds": int(HOUR)}
        spec |= {"audiences": [audience]} if audience else {}
        spec |= {"boundObjectRef": bound_to} if bound_to is not None else {}
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.kube.api.create(path, request)["status"]["token"])

    def revoked(self, account: str) -> str:
        """Return a token that was bound to an object which is gone: that is how Kubernetes revokes tokens."""
        secrets = f"/api/v1/namespaces/{SYSTEM}/secrets"
        made = self.kube.api.create(secrets, {"metadata": {"generateName": "matrix-"}})["metadata"]
        bound_to = {"apiVersion": "v1", "kind": "Secret", "name": made["name"], "uid": made["uid"]}
        token = self.grant(account, bound_to=bound_to)
        self.kube.api.delete(f"{secrets}/{made['name']}")
        return token

    def of_pod(self, account: str, audience: str) -> str:
        """Return a token that is bound to a Pod of that account, as the kubelet asks for one for a projected volume."""
        pods = f"/api/v1/namespaces/{SYSTEM}/pods"
        # As restricted as the namespace asks for, and never placed: there is no such Node.
        restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
        container = {"name": "c", "image": "i", "securityContext": restricted}
        security = {"seccompProfile": {"type": "RuntimeDefault"}}
        spec: Json = {"serviceAccountName": account, "nodeName": "none", "securityContext": security}
        spec["containers"] = [container]
        made = self.kube.api.create(pods, {"metadata": {"generateName": "matrix-"}, "spec": spec})["metadata"]
        bound_to = {"apiVersion": "v1", "kind": "Pod", "name": made["name"], "uid": made["uid"]}
        return self.grant(account, audience, bound_to=bound_to)

    def signed(self, token: str, *, ended: float = -HOUR) -> str:
        """Return a token with the claims of a granted one that ended some seconds ago, signed by the cluster's key.

        The API server grants none for less than ten minutes, and signs with the key that it is started with here: what
        it granted an hour and more ago looks like this.
        """
        return _signed(token, self.kube.pki.service_accounts_key.read_bytes(), ended)


def forged(token: str) -> str:
    """Return a token with the claims of a granted one, signed by a key that is not the cluster's."""
    return _signed(token, trustme.CA().issue_cert("forger.test").private_key_pem.bytes(), -HOUR)


def _signed(token: str, key_pem: bytes, ended: float) -> str:
    head, payload, _ = token.split(".")
    end = int(time.time() - ended)
    claims = {**_decoded(payload), "exp": end, "iat": end - int(HOUR), "nbf": end - int(HOUR)}
    text = f"{head}.{_encoded(json.dumps(claims).encode())}"
    key = load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    # RFC 7518, 3.4: both numbers of the signature, 32 bytes each.
    numbers = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
    return f"{text}.{_encoded(b''.join(number.to_bytes(32, 'big') for number in numbers))}"


def _decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def credentials(kube: KubeCluster) -> dict[str, str]:
    """Return the tokens that callers of a cluster show, by what they are."""
    issuer = Issuer(kube)
    granted = partial(issuer.grant, audience="")
    operator = granted("operator")
    return {
        "none": "",
        "bad": "no.such.token",
        "long": "x" * 6_000,
        "forged": forged(operator),
        "expired": issuer.signed(operator, ended=HOUR),
        "signed anew": issuer.signed(operator),
        "revoked": issuer.revoked("operator"),
        "other audience": issuer.grant("operator", "others"),
        "stranger": granted("stranger"),
        "viewer": granted("viewer"),
        "operator": operator,
        "log reader": granted("log-reader"),
        "gateway": issuer.grant("http-gateway", AUDIENCE),
        "gateway of a Pod": issuer.of_pod("http-gateway", AUDIENCE),
        "gateway, API server's audience": granted("http-gateway"),
        "stranger, our audience": issuer.grant("stranger", AUDIENCE),
        "replica": issuer.grant("module-controller", AUDIENCE),
    }
