"""mctl wait: until VNodes, modules, Pods or workloads are ready or gone."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import orjson
import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl import manifests
from mctl.errors import CommandError, ItemNotFound, UsageError
from mctl.invocation import FILES, Base, Namespace, connected, duration_option
from mctl.kinds import OBJECT_KINDS, object_ref, object_title, state
from mctl.pacing import Looks
from mctl.rpc.client import ToolingClient
from mctl.text import joined
from service.wording import clean

Condition = Literal["ready", "gone"]


class WaitTarget(NamedTuple):
    """Something to wait for: kind/name, and what asks why it is not ready.

    The answer is empty where it is ready; ItemNotFound is raised where it is absent.
    """

    title: str
    look: Callable[[ToolingClient], str]


@connected
def wait(
    client: ToolingClient,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND/NAME]...",
            show_default=False,
            help="vnode/NAME, module/NAME[:VERSION], pod/NAME, deployment/NAME or daemonset/NAME.",
        ),
    ] = None,
    condition: Annotated[Condition, typer.Option("--for", help="What to wait for.")] = "ready",
    filename: Annotated[list[str] | None, FILES] = None,
    base: Base = "",
    namespace: Namespace = "default",
    timeout: Annotated[float, duration_option("--timeout", "Longest to wait: 500ms, 60s, 5m.", "60s")] = 60.0,
) -> None:
    """Wait until all targets are ready, or gone. Ends with code 4 when they are not in time."""
    wanted = [parse_target(text, base=base, namespace=namespace) for text in targets or ()]
    if filename:
        refs = [manifest.ref() for manifest in manifests.read(filename, namespace)]
        wanted += [WaitTarget(object_title(ref), partial(_object, ref=ref)) for ref in refs]
    if not wanted:
        raise UsageError("say what to wait for: kind/name, or manifests with -f")
    until(client, wanted, condition, Looks(timeout))


def until(client: ToolingClient, targets: Sequence[WaitTarget], condition: Condition, looks: Looks) -> None:
    """Return when all targets meet the condition; prints a line for each. Raises TimedOut."""
    unmet: dict[WaitTarget, str] = dict.fromkeys(targets, "")
    for _ in looks:
        for target in list(unmet):
            try:
                why = target.look(client.within(looks.left))
                met, unmet[target] = not why and condition == "ready", why or "is there"
            except ItemNotFound:
                met, unmet[target] = condition == "gone", "is not there"
            if met:
                typer.echo(clean(f"{target.title} {condition}"))
                del unmet[target]
        if not unmet:
            return
    raise looks.timed_out(*(f"{target.title} {why}" for target, why in unmet.items()))


_TARGET = re.compile(r"([a-z]+)/([^/\s]+)")


def parse_target(text: str, *, base: str, namespace: str) -> WaitTarget:
    """Return the target that kind/name means; raises UsageError."""
    found = _TARGET.fullmatch(text)
    kind, name = found.groups() if found else ("", "")
    if kind == "vnode":
        return WaitTarget(text, partial(_vnode, name=name))
    if kind == "module":
        biz, _, version = name.partition(":")
        return WaitTarget(text, partial(_module, name=biz, version=version, base=base))
    if kind in OBJECT_KINDS:
        return WaitTarget(text, partial(_object, ref=object_ref(kind, namespace, name)))
    known = ", ".join(f"{known}/NAME" for known in ("vnode", *OBJECT_KINDS))
    raise UsageError(f"{text!r} cannot be waited for: write {known} or module/NAME[:VERSION]")


def _vnode(client: ToolingClient, name: str) -> str:
    vnode = client.call(client.stub.GetVNode, pb.GetVNodeRequest(name=name)).vnode
    return "" if vnode.ready else joined(f"is {state(vnode)}", vnode.message)


def _module(client: ToolingClient, name: str, version: str, base: str) -> str:
    """Return why a module is not ready; it is when it is on some base, and ready on all that have it."""
    found = [m for m in client.modules(base, name) if m.name == name and version in ("", m.version)]
    if not found:
        # Where it is not known which modules a VNode has, it may be there.
        vnodes = (vnode for vnode in client.vnodes() if base in ("", vnode.name, vnode.base))
        unknown = next((vnode.name for vnode in vnodes if vnode.modules_unknown), "")
        if unknown:
            return f"may be there: it is not known which modules {unknown} has"
        raise ItemNotFound(f"there is no module {name}")
    unready = [m for m in found if not m.ready]
    if not unready:
        return ""
    first = unready[0]
    words = joined(first.vnode, first.state, first.reason, first.message)
    return f"{len(found) - len(unready)} of {len(found)} ready; {words}"


def _object(client: ToolingClient, ref: pb.ObjectRef) -> str:
    """Return why an object of the embedded cluster is not ready; one that is being deleted is not."""
    answer = client.call(client.stub.GetObject, pb.GetObjectRequest(object=ref))
    try:
        value = orjson.loads(answer.object_json or b"{}")
    except orjson.JSONDecodeError:
        raise CommandError(f"the control plane sent {object_title(ref)} in a form that is no JSON") from None
    if _inner(value, "metadata", "deletionTimestamp"):
        return "is being deleted"
    return "" if answer.ready else joined("is not ready", "; ".join(_waiting(value)))


def _waiting(pod: object) -> Iterator[str]:
    """Yield what the containers of a Pod wait for."""
    statuses = _inner(pod, "status", "containerStatuses")
    for container in statuses if isinstance(statuses, list) else ():
        waiting = _inner(container, "state", "waiting")
        if isinstance(waiting, dict):
            words = (_inner(container, "name"), waiting.get("reason"), waiting.get("message"))
            yield joined(*(str(word or "") for word in words))


def _inner(value: Any, *keys: str) -> Any:
    """Return what nested mappings have under these keys, None where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
