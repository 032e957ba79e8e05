"""Module URLs with the user, password and signatures in them, for callers who may have them.

Entries of the index, and so all that tools and other replicas get, have masked URLs. Whoever asks for more gets them
out of the Pods, at the moment of the answer and from this replica's own cache: they are kept and sent nowhere else.
"""

from collections.abc import Iterable, Sequence

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.access.authenticator import Authenticator
from controlplane.app.ports import Cluster
from controlplane.app.turns import Turns
from controlplane.domain.access import Access
from controlplane.domain.identity import ModuleKey
from controlplane.rpc.access.guard import CALLER
from service.masking import masked


async def may_read_pods(authenticator: Authenticator, namespace: str) -> bool:
    """Return whether the caller may read the Pods of a namespace (of all if it is empty), and so the URLs in them.

    Here alone it is decided who gets them. Raises AccessRefused where that cannot be found out.
    """
    return await authenticator.may(CALLER.get(), Access("get", "pods", namespace=namespace))


async def shown(modules: Iterable[pb.Module], cluster: Cluster, authenticator: Authenticator) -> list[pb.Module]:
    """Return modules with their URLs as the Pods have them, where the caller may read these."""
    allowed: dict[str, bool] = {}
    found, turns = list[pb.Module](), Turns()
    for module in modules:
        await turns.handled()
        if module.url and module.namespace not in allowed:
            allowed[module.namespace] = await may_read_pods(authenticator, module.namespace)
        found.append(_with_url(module, cluster) if module.url and allowed[module.namespace] else module)
    return found


async def shown_baseline(
    modules: Sequence[pb.BaselineModule], authenticator: Authenticator, *, show_secrets: bool
) -> Sequence[pb.BaselineModule]:
    """Return the modules of a baseline, their URLs masked unless the caller asks for more and may read all Pods."""
    if show_secrets and await may_read_pods(authenticator, ""):
        return modules
    return [pb.BaselineModule(name=each.name, version=each.version, url=masked(each.url)) for each in modules]


def _with_url(module: pb.Module, cluster: Cluster) -> pb.Module:
    pod = cluster.pods.get(f"{module.namespace}/{module.pod}")
    key = ModuleKey(module.name, module.version)
    url = next((each.url for each in pod.containers if each.key == key), "") if pod is not None else ""
    if not url:
        return module
    copy = pb.Module()
    copy.CopyFrom(module)
    copy.url = url
    return copy
