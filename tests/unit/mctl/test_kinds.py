"""What is shown of each kind of item."""

from __future__ import annotations

from typing import Any

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl import kinds
from mctl.kinds import ItemKind, changed_object

EMPTY = [
    (kinds.VNODE, pb.VNode()),
    (kinds.MODULE, pb.Module()),
    (kinds.GATEWAY, pb.Gateway()),
    (kinds.REPLICA, pb.Replica()),
    (kinds.SHARD, pb.Shard()),
    (kinds.EVENT, pb.Event()),
    (kinds.OPERATION, pb.ModuleOperation()),
    (kinds.PAST_OPERATION, pb.PastOperation()),
    (kinds.BASELINE_MODULE, pb.BaselineModule()),
    (changed_object(dry_run=True), pb.ApplyManifestResponse()),
]
KEYS = {
    "vnode": "name base clusterName version tunnel state ready owner modules baseName address gateway lastSeen since "
    "message fence labels created",
    "module": "vnode name version state ready namespace pod reason message url restarts operation management",
    "gateway": "id tunnel version tunnelUp watched orders connectedSince message",
    "replica": "id address vnodes self state tunnels",
    "shard": "vnode base owner state fence since",
    "event": "time type reason message vnode module pod",
    "pod": "vnode namespace pod result reason message",
    "object": "apiVersion kind namespace name result dryRun",
}


@pytest.mark.parametrize(("kind", "item"), EMPTY, ids=lambda value: value.name if isinstance(value, ItemKind) else "")
def test_every_column_has_a_cell_even_of_an_empty_item(kind: ItemKind[Any], item: Any) -> None:
    assert all(kind.cell(item, header) for header in kind.headers(wide=True))
    assert kind.title(item) is not None


@pytest.mark.parametrize(("kind", "item"), EMPTY, ids=lambda value: value.name if isinstance(value, ItemKind) else "")
def test_documents_have_the_keys_that_the_page_names_in_this_order(kind: ItemKind[Any], item: Any) -> None:
    if kind is kinds.BASELINE_MODULE:
        assert list(kind.document(item)) == ["name", "version", "url"]
    elif kind is not kinds.PAST_OPERATION:
        assert list(kind.document(item)) == KEYS[kind.name].split()


def test_cells_and_documents_of_a_vnode_say_what_is_not_known() -> None:
    unknown = pb.VNode(modules_unknown=True, labels={"b": "2", "a": "1"})
    unknown.state = 99  # type: ignore[assignment]  # a newer server
    document = kinds.VNODE.document(unknown)
    assert (document["modules"], document["state"], document["created"]) == (None, "Unknown", None)
    assert list(document["labels"].items()) == [("a", "1"), ("b", "2")]
    cells = {header: kinds.VNODE.cell(unknown, header) for header in ("MODULES", "STATE", "AGE", "READY", "OWNER")}
    assert cells == {"MODULES": "-", "STATE": "Unknown", "AGE": "-", "READY": "no", "OWNER": "-"}
    assert kinds.VNODE.cell(pb.VNode(modules=0), "MODULES") == "0"


def test_what_bases_say_is_harmless_in_every_cell() -> None:
    hostile = "\x1b]0;owned\x07\nnext\u202e"
    item = pb.Module(vnode=hostile, name=hostile, message=hostile, namespace=hostile, pod=hostile, reason=hostile)
    for header in kinds.MODULE.headers(wide=True):
        assert not {"\x1b", "\x07", "\n", "\u202e"} & set(kinds.MODULE.cell(item, header))
    replica = pb.Replica(tunnels=[hostile])
    assert "\x1b" not in kinds.REPLICA.cell(replica, "TUNNELS")
