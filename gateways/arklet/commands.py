"""What bases are asked, from verbs and modules of an order to bytes.

Arklet wants name and version both or neither, and as text. Members that are not given are left out, since a null in a
typed place can void the whole request.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import orjson
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.fields import Json

COMMANDS: Mapping[pb.Verb.ValueType, str] = MappingProxyType(
    {
        pb.VERB_INSTALL: "installBiz",
        pb.VERB_UNINSTALL: "uninstallBiz",
        pb.VERB_SWITCH: "switchBiz",
        pb.VERB_BATCH_INSTALL: "batchInstallBiz",
        pb.VERB_QUERY_MODULES: "queryAllBiz",
        pb.VERB_HEALTH: "health",
    }
)
"""Arklet's name for each verb: the path over HTTP, the last level of the topic over MQTT."""
HELP = "help"
"""The command that lists the commands of a base; its body is EMPTY."""
EMPTY = b"{}"

_QUESTIONS = (pb.VERB_QUERY_MODULES, pb.VERB_HEALTH)
_STRATEGIES: Mapping[int, str] = {
    pb.INSTALL_STRATEGY_INSTALL_ONLY: "installOnly",
    pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL: "uninstallThenInstall",
}


def body(verb: pb.Verb.ValueType, modules: Sequence[pb.OrderModule] = ()) -> bytes:
    """Return the body of a command; raises ValueError unless modules has as many items as verb takes.

    That is none for the questions, any number for a batch, and one for the rest.
    """
    if verb == pb.VERB_BATCH_INSTALL:
        return orjson.dumps({"bizList": [_install(module) for module in modules]})
    if verb in _QUESTIONS:
        if modules:
            raise ValueError(f"{COMMANDS[verb]} takes no module")
        return EMPTY
    if len(modules) != 1:
        raise ValueError(f"{COMMANDS[verb]} takes one module, not {len(modules)}")
    return orjson.dumps(_install(modules[0]) if verb == pb.VERB_INSTALL else _name(modules[0]))


def baseline(modules: Iterable[pb.ModuleRef]) -> bytes:
    """Return the answer to a baseline query: a bare list, empty when there is nothing to install."""
    return orjson.dumps(
        [{"bizName": module.name, "bizVersion": module.version, "bizUrl": module.url} for module in modules]
    )


def _name(module: pb.OrderModule) -> Json:
    return {"bizName": module.name, "bizVersion": module.version}


def _install(module: pb.OrderModule) -> Json:
    optional = {
        "bizUrl": module.url,
        "args": list(module.args),
        "envs": dict(sorted(module.envs.items())),
        "installStrategy": _STRATEGIES.get(module.strategy),
    }
    return _name(module) | {key: value for key, value in optional.items() if value}
