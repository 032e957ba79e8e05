"""Certificates and kubeconfig files of a test cluster: one CA, the server, and users by name."""

import json
import ssl
from pathlib import Path

import trustme

GROUPS = {"admin": "system:masters", "kube-apiserver-kubelet-client": "system:masters"}
"""Group (a certificate's organization) by user; the groups of the others have no rights."""
ALIAS = "client.test"
"""A client's alternative name. It is not checked, but Go refuses a certificate without any."""


class Credentials:
    """Keys and certificates in a folder, made once per cluster; those of users on first use."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self._users: dict[str, trustme.LeafCert] = {}
        self.ca = folder / "ca.crt"
        self._authority.cert_pem.write_to_path(str(self.ca))
        self.ca_key = folder / "ca.key"
        self.ca_key.touch(mode=0o600)
        self._authority.private_key_pem.write_to_path(str(self.ca_key))
        self.server_crt, self.server_key = self._write(
            "apiserver", self._authority.issue_cert("127.0.0.1", "localhost", common_name="kube-apiserver")
        )
        # As kubeadm names it.
        self.kubelet_client_crt, self.kubelet_client_key = self._write(
            "apiserver-kubelet-client", self._leaf("kube-apiserver-kubelet-client")
        )
        _, self.service_accounts_key = self._write(
            "service-accounts", self._authority.issue_cert(ALIAS, common_name="service-accounts")
        )

    def tls(self, user: str) -> ssl.SSLContext:
        """Return what a client needs to be that user."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        self._leaf(user).configure_cert(context)
        return context

    def server(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """Return certificate and key of a server with these addresses, written to files of that name."""
        return self._write(name, self._authority.issue_cert(*addresses, common_name=name))

    def files(self, user: str) -> tuple[Path, Path]:
        """Return certificate and key of a user."""
        return self._write(f"user-{user.replace(':', '-')}", self._leaf(user))

    def kubeconfig(self, user: str, server: str) -> Path:
        """Return a kubeconfig file for a user at a server's URL."""
        certificate, key = self.files(user)
        files = {"client-certificate": str(certificate), "client-key": str(key)}
        return self._kubeconfig(certificate.with_suffix(".kubeconfig"), user, server, files)

    def token_kubeconfig(self, user: str, server: str, token: str) -> Path:
        """Return a kubeconfig file for the owner of a token."""
        return self._kubeconfig(self._folder / f"token-{user}.kubeconfig", user, server, {"token": token})

    def _kubeconfig(self, path: Path, user: str, server: str, user_entry: dict[str, str]) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": user,
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(self.ca)}}],
            "users": [{"name": user, "user": user_entry}],
            "contexts": [{"name": user, "context": {"cluster": "test", "user": user}}],
        }
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def _leaf(self, user: str) -> trustme.LeafCert:
        if user not in self._users:
            group = GROUPS.get(user, "test-users")
            self._users[user] = self._authority.issue_cert(ALIAS, common_name=user, organization_name=group)
        return self._users[user]

    def _write(self, name: str, leaf: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(str(key))
        return certificate, key
