"""What bases are asked, from orders to bytes.

Arklet wants name and version both or neither, and as text; members that are not
given are left out, since a null in a typed place can void the whole request.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateways.arklet.facts import BaselineModule, InstallStrategy, ModuleOrder, Verb
from gateways.arklet.fields import Json

_WITHOUT_MODULES = frozenset({Verb.QUERY_MODULES, Verb.HEALTH, Verb.HELP})


def body(verb: Verb, modules: Sequence[ModuleOrder] = ()) -> bytes:
    """Return the body of a command; raises ValueError unless modules has as many items as verb takes.

    That is none for the questions, any number for a batch, and one for the rest.
    """
    if verb is Verb.BATCH_INSTALL:
        return orjson.dumps({"bizList": [_install(module) for module in modules]})
    if verb in _WITHOUT_MODULES:
        if modules:
            raise ValueError(f"{verb.value} takes no module")
        return b"{}"
    if len(modules) != 1:
        raise ValueError(f"{verb.value} takes one module, not {len(modules)}")
    return orjson.dumps(_install(modules[0]) if verb is Verb.INSTALL else _name(modules[0]))


def baseline(modules: Sequence[BaselineModule]) -> bytes:
    """Return the answer to a baseline query: a bare list, empty when there is nothing to install."""
    return orjson.dumps(
        [{"bizName": module.name, "bizVersion": module.version, "bizUrl": module.url} for module in modules]
    )


def _name(module: ModuleOrder) -> Json:
    return {"bizName": module.name, "bizVersion": module.version}


def _install(module: ModuleOrder) -> Json:
    request = _name(module)
    if module.url:
        request["bizUrl"] = module.url
    if module.args:
        request["args"] = list(module.args)
    if module.envs:
        request["envs"] = dict(module.envs)
    if module.strategy is not InstallStrategy.DEFAULT:
        request["installStrategy"] = module.strategy.value
    return request
