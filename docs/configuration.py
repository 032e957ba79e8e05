"""Writes docs/configuration.md from the settings of the programs, which are the only source of its tables.

``python -m docs.configuration`` writes the page, with ``--check`` it only says whether the page is what the settings
say (exit code 1 when it is not).
"""

import sys
from enum import Enum
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from docs.generated import keep
from modulecontroller.configuration import PROGRAMS
from modulecontroller.settings import QuickstartSettings, SupervisorSettings
from service.settings import Settings

PAGE = Path(__file__).parent / "configuration.md"

WITHOUT_SETTINGS = frozenset({"mctl", "simulated-base"})
"""Programs that take everything as options: mctl --help, simulated-base --help."""

COMPUTED = {
    "CLIENT_ID": "the host's name, which in a Pod is the Pod's",
    "NAMESPACE": "that of the Pod, else `default`",
    "EMBEDDED_DB": "`koupleless-module-controller/cluster.db` in `XDG_STATE_HOME`, else in `~/.local/state`, "
    "without a home folder in `/var/lib`",
    "LOCAL_TOKENS_PATH": "`koupleless-module-controller/tokens.csv` in the same folder",
}
"""In words, the defaults that depend on the machine."""

_HEAD = """\
# Configuration

<!-- Made by `python -m docs.configuration` from the settings of the programs. Do not edit. -->

Every program reads its settings from environment variables, once, when it starts. An empty variable counts as not set.
A value that cannot be used ends the start with exit code 2 and one line for each that names the variable, the value,
what is wrong and what it is for; so does a variable that is nearly spelt like one that the program reads. One that is
nearly spelt like a variable of another program stops nothing: `module-controller` logs it, `module-controller config`
and `doctor` name it. What concerns reports alone (`REPORT_HOOKS`, `TRACKER_CONFIG_PATH`) is logged, and the start goes
on. `--help` of each program prints the same as these tables.

`module-controller` starts the others as children. They read the same environment, so that the variables of
`controlplane` and of the gateways are set on it as well. What it sets for them itself: where the gateways find the
control plane (`CONTROL_PLANE`), the names of the gateways (`CLIENT_ID` with `-http` or `-mqtt` appended), and the Unix
sockets through which it serves their health and metrics on its own ports (`STATUS_SOCKET`).

The names and defaults that the Go Module Controller V2 has are kept; [what is different](#coming-from-the-go-module-\
controller-v2) stands at the end.
"""

_QUICKSTART = """\
`module-controller quickstart` and `module-controller smoke` read those of `module-controller`, and these. They choose
the embedded cluster in a folder of their own (`--data-dir`) and let bases on loopback addresses in.
"""

_TOOLS = """\
## mctl and simulated-base

`mctl` reads `MCTL_SERVER`, the `host:port` of a control plane replica (default `127.0.0.1:50051`), and a variable for
each of its options for server and user (`MCTL_CA`, `MCTL_TOKEN_FILE`, ...); see [mctl.md](mctl.md#who-you-are).
`simulated-base` takes options (`simulated-base --help`); those that name a broker default to the variables of
`mqtt-gateway`, and `--token` to `HTTP_TUNNEL_TOKEN`.
"""

_TESTS = """\
## Variables of the tests

`REQUIRE_KUBERNETES`, `REQUIRE_MOSQUITTO`, `REQUIRE_FAKETIME`, `KUBEBUILDER_ASSETS` and `KOUPLELESS_CACHE`: see
[CONTRIBUTING.md](../CONTRIBUTING.md#real-servers).
"""

_ORIGINAL = """\
## Coming from the Go Module Controller V2

A Deployment of the original starts with its variables as they are, also with placeholders of its sample such as
`REPORT_HOOKS=YOUR_REPORT_HOOKS`. Only what the original cannot work with either has to be filled in: `ENV=YOUR_ENV`,
since no Node can have that in its name, and, with `ENABLE_MQTT_TUNNEL=true`, where the broker is. Differences:

| variable | here |
|---|---|
| `CLIENT_ID` | defaults to the host's name instead of a random value: a restart finds its own leases and takes them \
up at once. Two processes of one name are refused. A Lease is named after it, so that it must be a DNS name. \
Set it to something that stays the same when the Pod is replaced, as `deploy/module-controller.yaml` does |
| `NAMESPACE` | is also where the replicas find each other, which needs the second Role of `deploy/rbac.yaml` there |
| `IS_CLUSTER`, `WORKLOAD_MAX_LEVEL` | work as the original documents them; replicas share the bases with or without |
| `ENV` | is lower-cased, as bases do it, and must be a DNS label: a dot would make Node names ambiguous |
| `ENABLE_HTTP_TUNNEL`, `ENABLE_MQTT_TUNNEL` | both may be true; with neither the start is refused |
| `MQTT_BROKER` | has no default: with `ENABLE_MQTT_TUNNEL=true` it must be set |
| `MQTT_CA_PATH` | the broker's certificate is checked; `MQTT_TLS_INSECURE=true` is the original's behaviour |
| `VNODE_WORKER_NUM` | orders under way at once on one base; out of 1 to 256 the start is refused |
| those that are true or false | `True`, `1`, `yes` and `on` mean true as well, which the original takes for false; \
what is no such word is refused |
| `REPORT_HOOKS`, `TRACKER_CONFIG_PATH` | the same; what cannot be used is logged once and left out, see \
[reports.md](reports.md) |
| `KUBELET_PROXY_ENABLED` | callers must show a certificate of `KUBELET_PROXY_CLIENT_CA_PATH` or a token, and need \
permissions: see [kubelet.md](kubelet.md) |
| `KUBECONFIG` | the same; `CLUSTER` says whether Kubernetes or the embedded cluster is meant |
"""


def page() -> str:
    """Return the page as it should be."""
    parts = [_HEAD, *(_section(name, cls) for name, cls in PROGRAMS.items())]
    only_quickstart = {
        n: f for n, f in _variables(QuickstartSettings).items() if n not in _variables(SupervisorSettings)
    }
    parts += ["## module-controller quickstart\n", _QUICKSTART, _table(only_quickstart), _TOOLS, _ORIGINAL, _TESTS]
    return "\n".join(parts)


def _section(program: str, cls: type[Settings]) -> str:
    return f"## {program}\n\n{_table(_variables(cls))}"


def _variables(cls: type[Settings]) -> dict[str, FieldInfo]:
    return {str(field.validation_alias): field for field in cls.model_fields.values()}


def _table(variables: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `{name}` | {_values(field)} | {_default(name, field)} | {_cell(field.description or '')} |\n"
        for name, field in variables.items()
    ]
    return "| variable | values | default | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _values(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if kind in (bool, bool | None):
        return "`true`, `false`"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    if kind is SecretStr:
        return "secret text"
    if kind in (int, float):
        return " ".join(["number", *_bounds(field)])
    return "text" if kind is str else "list, comma separated"


def _bounds(field: FieldInfo) -> list[str]:
    words = []
    for bound in field.metadata:
        match bound:
            case Ge(ge=limit):
                words.append(f"from {limit}")
            case Gt(gt=limit):
                words.append(f"above {limit}")
            case Le(le=limit):
                words.append(f"to {limit}")
            case Lt(lt=limit):
                words.append(f"below {limit}")
            case _:
                pass
    return words


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return COMPUTED[name]
    if field.is_required():
        return "must be set"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, float):
        value = f"{value:g}"
    return "none" if value in (None, "") else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(keep("docs.configuration", PAGE, page(), __doc__))
