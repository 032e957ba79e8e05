"""Targets: files and texts of operators and users."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import typer
import yaml

from controlplane.reports import hooks, trackerfile
from gateways.session import endpoints
from grpcclient.access import ClientAccess, NoAccess
from kubeaccess import access, authorization, execplugin, kubeconfig
from kubeaccess.authorization import CannotConnect
from kubeaccess.kubeconfig import ExecPlugin
from mctl import manifests
from mctl.auth import choice, places
from mctl.connection import server_address
from mctl.errors import UsageError
from service import localtokens
from service.localtokens import WrongTokenFile
from tests.everything import EXAMPLES
from tests.fuzz import inputs
from tests.fuzz.target import Target, each

_PLUGIN = ExecPlugin.model_validate(
    {"command": "plugin", "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}
)


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    """Give a file with this content; in memory where the system has such a folder."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        path = Path(folder) / "file"
        path.touch(mode=0o600)
        path.write_bytes(data)
        yield path


def _of_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def of_bytes(data: bytes) -> object:
        with _file(data) as path:
            return read(path)

    return of_bytes


def _kubeconfig(path: Path) -> object:
    context = kubeconfig.load(str(path))
    return context.name, context.cluster.server, context.user.impersonation, context.cluster.exec_config


def _tracker(path: Path) -> object:
    config = trackerfile.load(path)
    return config.urls, [str(link) for link in config.links]


def _manifests(data: bytes) -> object:
    found: list[object] = []
    for outcome in manifests.parse("m.yaml", data):
        if isinstance(outcome, str):
            assert outcome.startswith("m.yaml")
            found.append(outcome)
        else:
            # What apply does with it, and how it shows a refusal of the server.
            named = outcome.in_namespace("default")
            found.append((named.ref(), orjson.dumps(named.value), named.where("spec.containers[0].image", "wrong")))
    return found


def _hooks(data: bytes) -> object:
    """Read a list of hooks but for those of Apprise, which parses its URLs itself."""
    found = hooks.destinations("hook", hooks.urls(data.decode(errors="replace")))
    return [(hook.name, str(hook)) for hook in found]


def _credential(data: bytes) -> object:
    credential = execplugin._credential(_PLUGIN, data)
    return credential.token, credential.ends_at


def _token(data: bytes) -> object:
    text = data.decode(errors="replace")
    return each(text, {"ends": authorization.token_ends_at, "bearer": authorization.bearer}, (CannotConnect,))


def _proxy(data: bytes) -> object:
    url, _, excepted = data.decode("utf-8", "surrogateescape").partition(" ")
    environ = {"HTTPS_PROXY": url, "NO_PROXY": excepted}
    readers = {
        "set": lambda of: access.choose_proxy("https://a.b:1", of, {}),
        "env": lambda of: access.choose_proxy("https://10.0.0.1:1", "", environ),
    }
    return each(url, readers, (CannotConnect,))


def _tokens(path: Path) -> object:
    found = localtokens.read(path)
    assert len({each.token for each in found}) == len(found)
    assert all(each.token.isascii() and each.user and each.role for each in found)
    return found


def _token_file(path: Path) -> object:
    metadata = ClientAccess("gateway", token_path=str(path)).metadata("10.0.0.1:1")
    assert all(value.isascii() and value.isprintable() for _, value in metadata)
    return metadata


def _logins(path: Path) -> object:
    """Read saved logins, choose how to connect with them, and save them again."""
    logins = places.read_logins(path)
    places.write_logins(path, logins)
    assert places.read_logins(path) == logins
    chosen = choice.choose([], logins, choice.Found(kubeconfig="k"))
    assert chosen.tls or choice.is_loopback(chosen.server)
    return chosen, server_address(chosen.server)


_KUBECONFIG = yaml.safe_dump(
    {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "n"}}],
        "clusters": [
            {
                "name": "k",
                "cluster": {
                    "server": "https://10.0.0.1:6443",
                    "certificate-authority-data": "QUJD",
                    "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"a": "b"}}],
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": "t", "as": "x", "as-user-extra": {"a/b": ["c"]}}}],
    }
).encode()
_TRACKER = b'logDir: "logs"\nreportLevel: debug\nreportLinks:\n- "https://example.com/a"\n- http://b:80\n'
_YAML: Sequence[bytes] = (
    *(b"&a ", b"*a", b"<<: *a\n", b"- ", b": ", b"? ", b"\n  ", b"{", b"[", b"}", b"]", b"|\n  ", b">-\n ", b"'", b'"'),
    *(
        b"!!int ",
        b"!!bool ",
        b"!!float ",
        b"!!timestamp ",
        b"!!binary ",
        b"!!set ",
        b"!x ",
        b"!!python/object:os.system ",
    ),
    *(b"%YAML 1.1\n---\n", b"%YAML " + b"1" * 5000 + b".1\n---\n", b"%TAG ! x\n---\n", b"---\n", b"...\n", b"# c\n"),
    *(
        b'"\\U00110000"',
        b'"\\ud800"',
        b'"\\x00"',
        b"!%ff ",
        b"2001-99-99",
        b"0x",
        b"0b",
        b"1:60",
        b".inf",
        b"1" * 5000,
        b"null",
        b"~",
    ),
    *(b"[" * 2000, b"{a: " * 400, b"- " * 500, b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\x85", b"\xe2\x80\xa8"),
    b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\n",
    b"&a [*a]",
    b"{[a]: b}",
)
_CREDENTIAL = {
    "kind": "ExecCredential",
    "apiVersion": "client.authentication.k8s.io/v1",
    "status": {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"},
}
_URLS = [
    b"https://oapi.dingtalk.com/robot/send?access_token=x",
    b"http://[::1]:80/a;slack://a/b/c",
    b"mailto://u:p@h",
    b"json://h",
]
_TOKENS = [b"a.eyJleHAiOjF9.b", b"a.eyJleHAiOjFlOTk5fQ.b", b"abc"]
_PROXIES = [b"http://u:p@h:1 *.a,10.0.0.0/8", b"socks5://h .b", b"h:1 a.b:1"]
_LOCAL = b"# token,user,role\n" + b"a" * 16 + b",local-admin,admin\n" + b'"' + b"b" * 16 + b'", u ,viewer\n'
_LOGINS = {
    "current": "10.0.0.1:50051",
    "servers": {
        "10.0.0.1:50051": {"server": "10.0.0.1:50051", "ca_pem": "p", "server_name": "n", "token": "t"},
        "[::1]:50051": {"server": "[::1]:50051", "cert": "/c", "key": "/k", "context": "x"},
    },
}
_ENDPOINTS = [b"127.0.0.1:50051, [::1]:1", b"a.b:1"]
TARGETS = (
    Target(
        "kubeconfig",
        ("kubeaccess.kubeconfig",),
        inputs.texts([_KUBECONFIG], _YAML),
        _of_file(_kubeconfig),
        (CannotConnect,),
        calls=1000,
        least=3_000_000,
    ),
    Target(
        "tracker-file",
        ("controlplane.reports.trackerfile",),
        inputs.texts([_TRACKER], _YAML),
        _of_file(_tracker),
        (trackerfile.WrongTrackerFile,),
        calls=1000,
        least=3_000_000,
    ),
    Target(
        "manifest",
        ("mctl.manifests", "service.yamltree"),
        inputs.texts([path.read_bytes() for path in sorted(EXAMPLES.glob("*.yaml"))], _YAML),
        _manifests,
        size=64,
        calls=1000,
        least=3_000_000,
    ),
    Target(
        "hooks",
        ("controlplane.reports.hooks",),
        inputs.texts(_URLS, [b";", b"://", b"@", b"[", b"?", b"%", b" "]),
        _hooks,
    ),
    Target(
        "exec-credential",
        ("kubeaccess.execplugin",),
        inputs.documents([_CREDENTIAL]),
        _credential,
        (CannotConnect,),
    ),
    Target("token", ("kubeaccess.authorization",), inputs.texts(_TOKENS, [b".", b"=", b"\xff", b"-", b"_"]), _token),
    Target(
        "proxy",
        ("kubeaccess.access",),
        inputs.texts(_PROXIES, [b"[", b"]", b"@", b":", b"/", b"*", b",", b"%", b"://"]),
        _proxy,
    ),
    Target(
        "local-tokens",
        ("service.localtokens",),
        inputs.texts([_LOCAL], [b",", b'"', b"\n", b"\r", b"#", b"\x00", b"\xe2\x80\xa8", b" ", b"a" * 16]),
        _of_file(_tokens),
        (WrongTokenFile,),
    ),
    Target(
        "token-file",
        ("grpcclient.access",),
        inputs.texts([b"token\n", *_TOKENS], [b"\n", b" ", b"\x00", b"\x7f", b"\xff"]),
        _of_file(_token_file),
        (NoAccess,),
    ),
    Target(
        "logins",
        ("mctl.auth.places",),
        inputs.documents([_LOGINS]),
        _of_file(_logins),
        (UsageError, typer.BadParameter),
    ),
    Target(
        "endpoints",
        ("gateways.session.endpoints",),
        inputs.texts(_ENDPOINTS, [b",", b":", b"[", b"]", "١".encode()]),
        lambda data: endpoints.parse_list(data.decode(errors="replace")),
        (ValueError,),
    ),
)
