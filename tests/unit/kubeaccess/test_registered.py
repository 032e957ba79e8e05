"""Whatever the program shows to the API server, to a proxy or to an identity provider is known as a secret."""

from collections.abc import Callable

import pytest

from kubeaccess.access import choose_proxy
from kubeaccess.authorization import basic, bearer
from kubeaccess.kubeconfig import Oidc
from kubeaccess.oidc import OidcProvider
from service.secrets import MASK, Registry
from service.worker import Worker


def _oidc(secret: str) -> None:
    config = {"idp-issuer-url": "https://idp.example", "client-id": "c", "refresh-token": secret}
    OidcProvider(Oidc.model_validate(config), Worker("test"))


@pytest.mark.parametrize(
    "read",
    [
        bearer,
        lambda secret: basic("user", secret),
        lambda secret: choose_proxy("https://h", f"http://user:{secret}@proxy.example:3128", {}),
        lambda secret: choose_proxy("https://h", "", {"HTTPS_PROXY": f"http://user:{secret}@proxy.example:3128"}),
        _oidc,
    ],
    ids=["token", "password", "proxy-url", "HTTPS_PROXY", "refresh-token"],
)
def test_credentials_are_known(read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    known = Registry()
    monkeypatch.setattr("service.secrets.KNOWN", known)
    read("s3cret-value-1")
    assert known.hidden("refused: s3cret-value-1") == f"refused: {MASK}"
