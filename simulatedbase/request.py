"""Parameters of a command, read with the leniency and the traps of fastjson."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from gateways.arklet.fields import Json
from simulatedbase.java import null_pointer
from simulatedbase.rendering import bean

_TRUE = frozenset({"true", "1", "Y", "T"})
_FALSE = frozenset({"false", "0", "N", "F", "", "null"})


@dataclass(frozen=True, slots=True)
class BizRequest:
    """Parameters of the commands that change modules; what was not given is empty or None."""

    name: str
    version: str
    url: str = ""
    args: tuple[str, ...] | None = None
    envs: tuple[tuple[str, str], ...] | None = None
    strategy: str = ""
    asynchronous: bool = False
    request_id: str = ""

    def echo(self) -> Json:
        """Return the request as it stands in the record of an asynchronous command."""
        return bean(
            args=list(self.args) if self.args is not None else None,
            bizName=self.name or None,
            bizUrl=self.url or None,
            bizVersion=self.version or None,
            envs=dict(self.envs) if self.envs is not None else None,
            installStrategy=self.strategy or None,
            requestId=self.request_id or None,
            **{"async": self.asynchronous},
        )


def biz_request(parameters: Json | None) -> BizRequest:
    """Read the parameters of a command; raises JavaError when there are none or one has a wrong type."""
    if parameters is None:
        raise null_pointer()
    given = fields(parameters)
    args, envs = given.get("args"), given.get("envs")
    return BizRequest(
        name=text(given.get("bizname")),
        version=text(given.get("bizversion")),
        url=text(given.get("bizurl")),
        args=tuple(text(arg) for arg in args) if isinstance(args, list) else None,
        envs=tuple((key, text(value)) for key, value in envs.items()) if isinstance(envs, dict) else None,
        strategy=text(given.get("installstrategy")) or "installOnly",
        asynchronous=_flag(given.get("async")),
        request_id=text(given.get("requestid")),
    )


def fields(parameters: Json) -> Json:
    """Return the parameters under names in lower case without underscores, as fastjson matches them."""
    return {name.replace("_", "").lower(): value for name, value in parameters.items()}


def text(value: Any) -> str:
    """Return a value of any type as text; null is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _flag(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    if isinstance(value, int | float):
        return value == 1
    if isinstance(value, str) and value in _TRUE:
        return True
    if isinstance(value, str) and value in _FALSE:
        return False
    raise null_pointer()
