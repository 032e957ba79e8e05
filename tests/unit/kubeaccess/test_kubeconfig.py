"""kubeconfig files mean what they mean to kubectl; unknown fields are refused by name."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kubeaccess import kubeconfig
from kubeaccess.authorization import CannotConnect
from kubeaccess.kubeconfig import (
    AuthProvider,
    ClusterEntry,
    Context,
    ContextEntry,
    ExecPlugin,
    ExecVariable,
    Oidc,
    User,
)

EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "plugin", "interactiveMode": "Never"}


def content(
    user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, context: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://api:6443"} | (cluster or {})}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"} | (context or {})}],
        "current-context": "x",
    }


def written(path: Path, given: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return str(path)


def load(tmp_path: Path, **given: Any) -> Context:
    return kubeconfig.load(written(tmp_path / "config", content(**given)))


def test_the_first_file_with_a_value_wins(tmp_path: Path) -> None:
    first, second = content({"token": "1"}), content({"token": "2"}, {"server": "https://other"})
    first["contexts"], second["current-context"] = [], "y"
    second["contexts"].append({"name": "y", "context": {"cluster": "c", "user": "v"}})
    second["users"].append({"name": "v", "user": {"token": "3"}})
    first["current-context"] = ""
    paths = [written(tmp_path / "a", first), str(tmp_path / "missing"), "", written(tmp_path / "b", second)]
    found = kubeconfig.load(os.pathsep.join(paths))
    assert (found.name, found.user.token, found.cluster.server) == ("y", "3", "https://api:6443")
    first["current-context"] = "x"
    written(tmp_path / "a", first)
    found = kubeconfig.load(os.pathsep.join(paths))
    assert (found.name, found.user.token) == ("x", "1")
    assert kubeconfig.load(os.pathsep.join(paths), "y").name == "y"


def test_an_entry_is_taken_whole_from_one_file(tmp_path: Path) -> None:
    first, second = content({"username": "n"}), content({"password": "p"})
    user = kubeconfig.load(written(tmp_path / "a", first) + os.pathsep + written(tmp_path / "b", second)).user
    assert (user.username, user.password) == ("n", "")


def test_paths_are_relative_to_the_file_that_they_stand_in(tmp_path: Path) -> None:
    users, clusters = content(), content(cluster={"certificate-authority": "ca.crt"})
    users["users"][0]["user"] = {"client-certificate": "u.crt", "client-key": "/etc/u.key", "tokenFile": "../token"}
    del users["clusters"], clusters["users"]
    found = kubeconfig.load(
        written(tmp_path / "users" / "a", users) + os.pathsep + written(tmp_path / "clusters" / "b", clusters)
    )
    assert found.cluster.certificate_authority == str(tmp_path / "clusters" / "ca.crt")
    assert found.user.client_certificate == str(tmp_path / "users" / "u.crt")
    assert found.user.client_key == "/etc/u.key"
    assert Path(found.user.token_file).resolve() == tmp_path / "token"


@pytest.mark.parametrize(("command", "found"), [("plugin", "plugin"), ("./plugin", "{}/plugin"), ("/bin/p", "/bin/p")])
def test_a_plugin_with_a_slash_is_relative_to_the_file_too(tmp_path: Path, command: str, found: str) -> None:
    plugin = load(tmp_path, user={"exec": EXEC | {"command": command}}).user.exec
    assert plugin is not None
    assert plugin.command == found.format(tmp_path)


def test_all_fields_of_a_cluster_are_read(tmp_path: Path) -> None:
    cluster = load(
        tmp_path,
        cluster={
            "server": "https://api:6443/base/",
            "tls-server-name": "other",
            "certificate-authority-data": base64.b64encode(b"PEM").decode(),
            "proxy-url": "socks5://p",
            "disable-compression": True,
            "extensions": [
                {"name": "x", "extension": 1},
                {"name": "client.authentication.k8s.io/exec", "extension": {"a": "b"}},
            ],
        },
    ).cluster
    assert (cluster.server, cluster.tls_server_name) == ("https://api:6443/base", "other")
    assert cluster.pem("certificate_authority") == b"PEM"
    assert (cluster.proxy_url, cluster.disable_compression) == ("socks5://p", True)
    assert cluster.exec_config == {"a": "b"}
    assert load(tmp_path, cluster={"insecure-skip-tls-verify": True}).cluster.insecure_skip_tls_verify


def test_impersonation_becomes_headers(tmp_path: Path) -> None:
    user = load(
        tmp_path,
        user={
            "token": "t",
            "as": "jane",
            "as-uid": "7",
            "as-groups": ["a", "b"],
            "as-user-extra": {"scopes": ["one", "two"], "acme.com/x%y": ["3"]},
        },
    ).user
    assert user.impersonation == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-scopes", "one"),
        ("Impersonate-Extra-scopes", "two"),
        ("Impersonate-Extra-acme.com%2Fx%25y", "3"),
    )


def test_all_fields_of_a_plugin_are_read(tmp_path: Path) -> None:
    entry = EXEC | {
        "args": ["a"],
        "env": [{"name": "N", "value": "v"}, {"name": "EMPTY"}],
        "installHint": "get it\x1b[1m here",
        "provideClusterInfo": True,
        "interactiveMode": "IfAvailable",
    }
    plugin = load(tmp_path, user={"exec": entry}).user.exec
    assert plugin is not None
    assert (plugin.command, plugin.args, plugin.provide_cluster_info) == ("plugin", ["a"], True)
    assert plugin.env == [ExecVariable(name="N", value="v"), ExecVariable(name="EMPTY")]
    assert "v" not in repr(plugin.env[0]).removeprefix("ExecVariable")


def test_a_plugin_that_must_ask_is_for_programs_with_a_person_at_the_terminal(tmp_path: Path) -> None:
    path = written(tmp_path / "config", content(user={"exec": EXEC | {"interactiveMode": "Always"}}))
    plugin = kubeconfig.load(path, attended=True).user.exec
    assert plugin is not None
    assert plugin.interactive_mode == "Always"


def test_plugins_of_the_first_version_need_no_interactive_mode(tmp_path: Path) -> None:
    entry = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "plugin"}
    plugin = load(tmp_path, user={"exec": entry}).user.exec
    assert plugin is not None
    assert (plugin.command, plugin.api_version) == ("plugin", "client.authentication.k8s.io/v1beta1")


def test_without_a_user_access_is_anonymous(tmp_path: Path) -> None:
    assert load(tmp_path, context={"user": None}).user == User()
    assert load(tmp_path, user=None).user == User()


def test_entries_that_are_not_used_are_not_checked(tmp_path: Path) -> None:
    given = content({"token": "t"})
    given["users"].append({"name": "other", "user": {"auth-provider": {"name": "gcp"}, "nonsense": 1}})
    given["preferences"] = {"colors": True}
    assert kubeconfig.load(written(tmp_path / "config", given)).user.token == "t"


WRONG_USERS: list[tuple[dict[str, Any], str]] = [
    ({"tokn": "t"}, 'user "u": field tokn is not known'),
    ({"token": 5}, 'user "u": field token must be a valid string'),
    ({"as-groups": "a"}, "field as-groups must be a valid list"),
    ({"as-groups": ["a"]}, "for a user that as names"),
    ({"as": "a\nb"}, "printable"),
    ({"as": "a", "as-user-extra": {"k": "v"}}, "field as-user-extra.k must be a valid list"),
    ({"client-certificate": "c"}, "client-certificate and client-key belong together"),
    (
        {"client-certificate": "c", "client-certificate-data": "Yw==", "client-key": "k"},
        "client-certificate and client-certificate-data",
    ),
    ({"client-certificate-data": "no base64!", "client-key": "k"}, "field client-certificate-data is not Base64"),
    ({"token": "t", "username": "n"}, "a token and a username"),
    ({"exec": EXEC, "auth-provider": {"name": "oidc"}}, "field auth-provider.config is missing"),
    ({"auth-provider": {"name": "gcp"}}, "gke-gcloud-auth-plugin"),
    ({"auth-provider": {"name": "azure"}}, "kubelogin"),
    ({"auth-provider": {"name": "other"}}, "use an exec plugin"),
    ({"auth-provider": {"name": "oidc", "config": {"idp-issuer-url": "http://x", "client-id": "c"}}}, "https://"),
    (
        {"auth-provider": {"name": "oidc", "config": {"scope": "x"}}},
        "field auth-provider.config.idp-issuer-url is missing",
    ),
    ({"exec": EXEC | {"comand": "x"}}, "field exec.comand is not known"),
    ({"exec": {k: v for k, v in EXEC.items() if k != "command"}}, "field exec.command is missing"),
    ({"exec": {k: v for k, v in EXEC.items() if k != "interactiveMode"}}, "must be Never or IfAvailable"),
    ({"exec": EXEC | {"interactiveMode": "Always"}}, "nobody is at the standard input"),
    ({"exec": EXEC | {"apiVersion": "client.authentication.k8s.io/v1alpha1"}}, "field exec.apiVersion must be"),
    ({"exec": EXEC | {"args": [1]}}, r"field exec.args\[0\] must be a valid string"),
    ({"exec": EXEC | {"env": [{"value": "v"}]}}, r"field exec.env\[0\].name is missing"),
    ({"exec": EXEC | {"env": [{"name": "n", "valueFrom": "v"}]}}, r"field exec.env\[0\].valueFrom is not known"),
]


@pytest.mark.parametrize(("user", "problem"), WRONG_USERS)
def test_a_user_that_cannot_be_used_is_named_with_file_and_field(
    tmp_path: Path, user: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CannotConnect, match=problem) as raised:
        load(tmp_path, user=user)
    assert str(raised.value).startswith(f'{tmp_path / "config"}: user "u"')


@pytest.mark.parametrize(
    ("cluster", "problem"),
    [
        ({"servr": "x"}, "field servr is not known"),
        ({"server": ""}, "field server must be"),
        ({"server": "api:6443"}, "field server must be"),
        ({"server": "https://user:hush@api"}, "without user and password"),
        ({"insecure-skip-tls-verify": "true"}, "must be a valid boolean"),
        ({"insecure-skip-tls-verify": True, "certificate-authority": "ca"}, "which one is meant"),
        ({"certificate-authority": "ca", "certificate-authority-data": "Yw=="}, "which one is meant"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_named_with_file_and_field(
    tmp_path: Path, cluster: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CannotConnect, match=problem) as raised:
        load(tmp_path, cluster=cluster)
    assert str(raised.value).startswith(f'{tmp_path / "config"}: cluster "c"')
    assert "hush" not in str(raised.value)


def test_a_context_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for context, problem in (
        ({"as": "x"}, 'context "x": field as is not known'),
        ({"user": "none"}, 'there is no user "none", which context "x" names'),
        ({"cluster": "none"}, 'there is no cluster "none"'),
        ({"cluster": ""}, 'context "x" names no cluster'),
    ):
        with pytest.raises(CannotConnect, match=problem):
            load(tmp_path, context=context)
    given = content()
    for current in ("", "none", 5):
        given["current-context"] = current
        with pytest.raises(CannotConnect, match="context"):
            kubeconfig.load(written(tmp_path / "config", given))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "a: b",
        "\t:",
        "clusters: 7\ncurrent-context: x",
        "current-context: x\ncontexts: [{name: x}]",
        "users: [{user: {}}]",
        "users: [{name: a}, {name: a}]",
        "users: [7]",
    ],
)
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(CannotConnect):
        kubeconfig.load(str(path))


def test_text_that_is_no_yaml_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("users:\n- user: {token: hush\n\tx")
    with pytest.raises(CannotConnect, match="line 3: is not YAML") as raised:
        kubeconfig.load(str(path))
    assert "hush" not in str(raised.value)


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match="no such file"):
        kubeconfig.load(f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}")
    with pytest.raises(CannotConnect, match="cannot be read"):
        kubeconfig.load(str(tmp_path))


PAGE = Path(__file__).parents[3] / "docs" / "kubeconfig.md"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("cluster", ClusterEntry),
        ("user", User),
        ("context", ContextEntry),
        ("exec", ExecPlugin),
        ("exec.env", ExecVariable),
        ("auth-provider", AuthProvider),
        ("auth-provider oidc", Oidc),
    ],
)
def test_the_page_has_one_row_for_each_field(name: str, model: type[BaseModel]) -> None:
    section = PAGE.read_text().split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip().strip("`") for line in section.splitlines() if line.startswith("| `")]
    assert rows == [field.alias for field in model.model_fields.values()]
