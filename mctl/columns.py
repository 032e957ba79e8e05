"""The columns of the tables: for each kind of record, what table and wide show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mctl.records import (
    BaselineModule,
    Event,
    Gateway,
    Module,
    ObjectResult,
    Operation,
    PastOperation,
    Record,
    Replica,
    Shard,
    VNode,
    rfc3339,
)
from mctl.text import age, clean


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its header and how a record's cell is made."""

    header: str
    cell: Callable[[Any], str]


def _field(header: str, name: str) -> Column:
    return Column(header, lambda record: _shown(getattr(record, name)))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return rfc3339(value)
    return clean(str(value)) if value not in ("", None) else "-"


def _age(header: str, name: str) -> Column:
    return Column(header, lambda record: age(getattr(record, name), datetime.now(UTC)))


def _pod(record: Module) -> str:
    return clean(f"{record.namespace}/{record.pod}") if record.pod else "-"


_TABLE: dict[type[Record], tuple[Column, ...]] = {
    VNode: (
        _field("NAME", "name"),
        _field("CLUSTER", "cluster_name"),
        _field("VERSION", "version"),
        _field("TUNNEL", "tunnel"),
        _field("STATE", "state"),
        _field("READY", "ready"),
        _field("MODULES", "modules"),
        _field("OWNER", "owner"),
        _age("AGE", "created"),
    ),
    Module: (
        _field("VNODE", "vnode"),
        _field("NAME", "name"),
        _field("VERSION", "version"),
        _field("STATE", "state"),
        _field("READY", "ready"),
        _field("MANAGEMENT", "management"),
        Column("POD", _pod),
        _field("REASON", "reason"),
    ),
    Gateway: (
        _field("ID", "id"),
        _field("TUNNEL", "tunnel"),
        _field("UP", "tunnel_up"),
        _field("WATCHED", "watched"),
        _field("ORDERS", "orders"),
        _field("VERSION", "version"),
        _age("AGE", "connected_since"),
    ),
    Replica: (
        _field("ID", "id"),
        _field("ADDRESS", "address"),
        _field("STATE", "state"),
        _field("VNODES", "vnodes"),
        Column("TUNNELS", lambda record: _shown(",".join(record.tunnels))),
        _field("SELF", "self"),
    ),
    Shard: (
        _field("VNODE", "vnode"),
        _field("BASE", "base"),
        _field("OWNER", "owner"),
        _field("STATE", "state"),
        _field("FENCE", "fence"),
        _field("SINCE", "since"),
    ),
    Event: (
        _field("TIME", "time"),
        _field("TYPE", "type"),
        _field("REASON", "reason"),
        _field("VNODE", "vnode"),
        _field("MODULE", "module"),
        _field("MESSAGE", "message"),
    ),
    Operation: (
        _field("VNODE", "vnode"),
        _field("NAMESPACE", "namespace"),
        _field("POD", "pod"),
        _field("RESULT", "result"),
    ),
    PastOperation: (
        _field("TIME", "time"),
        _field("VERB", "verb"),
        _field("OUTCOME", "outcome"),
        Column("TOOK", lambda record: f"{record.seconds:.3f}s"),
        _field("REASON", "reason"),
        _field("MESSAGE", "message"),
    ),
    ObjectResult: (
        Column("OBJECT", lambda record: clean(record.title)),
        Column("NAMESPACE", lambda record: _shown(record.ref.namespace)),
        _field("RESULT", "done"),
    ),
    BaselineModule: (_field("NAME", "name"), _field("VERSION", "version"), _field("URL", "url")),
}

_WIDE: dict[type[Record], tuple[Column, ...]] = {
    VNode: (
        _field("BASE", "base"),
        _field("BASE-NAME", "base_name"),
        _field("ADDRESS", "address"),
        _field("GATEWAY", "gateway"),
        _age("LAST-SEEN", "last_seen"),
        _field("FENCE", "fence"),
        _field("MESSAGE", "message"),
    ),
    Module: (
        _field("OPERATION", "operation"),
        _field("RESTARTS", "restarts"),
        _field("URL", "url"),
        _field("MESSAGE", "message"),
    ),
    Gateway: (_field("MESSAGE", "message"),),
    Event: (_field("POD", "pod"),),
    Operation: (_field("REASON", "reason"), _field("MESSAGE", "message")),
}


def columns(record: type[Record], *, wide: bool) -> tuple[Column, ...]:
    """Return the columns for a kind of record."""
    return _TABLE[record] + (_WIDE.get(record, ()) if wide else ())
