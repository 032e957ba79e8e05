"""What mctl shows of each kind of item."""

import re
from pathlib import Path
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


def documented(title: str) -> list[str]:
    """Return the keys that docs/mctl.md lists for an item."""
    page = (Path(__file__).parents[3] / "docs" / "mctl.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {title} | `")]
    return re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row))


@pytest.mark.parametrize(("kind", "item"), EMPTY, ids=lambda value: value.name if isinstance(value, ItemKind) else "")
def test_every_column_has_a_cell_even_of_an_empty_item(kind: ItemKind[Any], item: Any) -> None:
    assert all(kind.cell(item, header) for header in kind.headers(wide=True))


@pytest.mark.parametrize(
    ("title", "kind", "item"),
    [
        ("VNode", kinds.VNODE, pb.VNode()),
        ("module", kinds.MODULE, pb.Module()),
        ("gateway", kinds.GATEWAY, pb.Gateway()),
        ("replica", kinds.REPLICA, pb.Replica()),
        ("shard", kinds.SHARD, pb.Shard()),
        ("event", kinds.EVENT, pb.Event()),
        ("install, uninstall", kinds.OPERATION, pb.ModuleOperation()),
        ("apply, delete", changed_object(), pb.ApplyManifestResponse()),
        ("baseline", kinds.BASELINE_MODULE, pb.BaselineModule()),
    ],
)
def test_documents_have_the_keys_of_the_page_in_its_order(title: str, kind: ItemKind[Any], item: Any) -> None:
    assert list(kind.document(item)) == documented(title)


def test_cells_and_documents_of_a_vnode_mark_unknown_values() -> None:
    unknown = pb.VNode(modules_unknown=True, labels={"b": "2", "a": "1"})
    cordoned = pb.VNode(state=pb.V_NODE_STATE_READY, unschedulable=True)
    assert kinds.VNODE.cell(cordoned, "STATE") == "Ready,SchedulingDisabled"
    assert (kinds.VNODE.document(cordoned)["state"], kinds.VNODE.document(cordoned)["unschedulable"]) == ("Ready", True)
    unknown.state = 99  # type: ignore[assignment]  # a newer server
    document = kinds.VNODE.document(unknown)
    assert (document["modules"], document["state"], document["created"]) == (None, "Unknown", None)
    assert list(document["labels"].items()) == [("a", "1"), ("b", "2")]
    cells = {header: kinds.VNODE.cell(unknown, header) for header in ("MODULES", "STATE", "AGE", "READY", "OWNER")}
    assert cells == {"MODULES": "-", "STATE": "Unknown", "AGE": "-", "READY": "no", "OWNER": "-"}
    assert kinds.VNODE.cell(pb.VNode(modules=0), "MODULES") == "0"


def test_text_from_bases_is_harmless_in_every_cell() -> None:
    hostile = "\x1b]0;owned\x07\nnext\u202e"
    item = pb.Module(vnode=hostile, name=hostile, message=hostile, namespace=hostile, pod=hostile, reason=hostile)
    for header in kinds.MODULE.headers(wide=True):
        assert not {"\x1b", "\x07", "\n", "\u202e"} & set(kinds.MODULE.cell(item, header))
    replica = pb.Replica(tunnels=[hostile])
    assert "\x1b" not in kinds.REPLICA.cell(replica, "TUNNELS")
