"""The proxy is chosen from the environment as Go programs do it."""

import pytest

from kubeaccess.access import Proxy, choose_proxy, is_proxied
from kubeaccess.authorization import CannotConnect

SERVER = "https://api.example.com:6443"


@pytest.mark.parametrize(
    ("excepted", "server", "expected"),
    [
        ("", SERVER, True),
        ("*", SERVER, False),
        ("example.com", SERVER, False),
        ("example.com", "https://example.com", False),
        (".example.com", SERVER, False),
        (".example.com", "https://example.com", True),
        ("*.example.com", SERVER, False),
        ("*.example.com", "https://example.com", True),
        ("example.com", "https://notexample.com", True),
        ("API.Example.COM", SERVER, False),
        ("api.example.com:6443", SERVER, False),
        ("api.example.com:443", SERVER, True),
        ("api.example.com:443", "https://api.example.com", False),
        ("a, , example.com ,b", SERVER, False),
        ("10.0.0.0/8", "https://10.1.2.3", False),
        ("10.0.0.0/8", "https://11.1.2.3", True),
        ("10.0.0.0/8", SERVER, True),
        ("10.0.0.0/99,x/y", "https://10.1.2.3", True),
        ("10.1.2.3", "https://10.1.2.3:6443", False),
        ("10.1.2.3:6443", "https://10.1.2.3:6443", False),
        ("10.1.2.3:443", "https://10.1.2.3:6443", True),
        ("fd00::/8", "https://[fd00::1]:6443", False),
        ("fd00::1", "https://[fd00::1]:6443", False),
        ("[fd00::1]:443", "https://[fd00::1]:6443", True),
        ("[fd00::1]", "https://[fd00::1]:6443", False),
        (":6443", SERVER, True),
        ("", "https://localhost:6443", False),
        ("", "https://127.0.0.5:6443", False),
        ("", "https://[::1]:6443", False),
    ],
)
def test_no_proxy_excepts_servers(excepted: str, server: str, expected: bool) -> None:
    assert is_proxied(server, excepted) is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"HTTPS_PROXY": "http://p:1"}, Proxy("http", "p", 1)),
        ({"https_proxy": "http://p:1"}, Proxy("http", "p", 1)),
        ({"HTTPS_PROXY": "p:1"}, Proxy("http", "p", 1)),
        ({"HTTPS_PROXY": "p"}, Proxy("http", "p", 80)),
        ({"HTTPS_PROXY": "https://p"}, Proxy("https", "p", 443)),
        ({"HTTPS_PROXY": "socks5h://p"}, Proxy("socks5", "p", 1080)),
        ({"HTTPS_PROXY": "http://u:p%40ss@p:1"}, Proxy("http", "p", 1, "u", "p@ss")),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "example.com"}, None),
        ({"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_the_environment_names_the_proxy(environ: dict[str, str], expected: Proxy | None) -> None:
    assert choose_proxy(SERVER, "", environ) == expected


def test_the_proxy_of_a_kubeconfig_takes_precedence_over_the_environment() -> None:
    environ = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    assert choose_proxy("https://127.0.0.1", "socks5://p:9", environ) == Proxy("socks5", "p", 9)


def test_a_server_without_tls_has_a_proxy_of_its_own() -> None:
    assert choose_proxy("http://api.example.com", "", {"HTTP_PROXY": "p:1"}) == Proxy("http", "p", 1)


@pytest.mark.parametrize("url", ["ftp://u:hush@p", "http://", "http://p:x", "p:1", "socks4://p"])
def test_a_wrong_proxy_is_refused_and_its_password_is_not_shown(url: str) -> None:
    with pytest.raises(CannotConnect, match="proxy-url") as raised:
        choose_proxy(SERVER, url, {})
    assert "hush" not in str(raised.value)


def test_a_proxy_is_shown_without_its_secrets() -> None:
    proxy = Proxy("http", "fd00::1", 3128, "user", "hush")
    assert proxy.url == "http://[fd00::1]:3128"
    assert "hush" not in repr(proxy)
