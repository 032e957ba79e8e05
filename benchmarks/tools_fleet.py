"""A large fleet in memory, and the servicer that answers tools about it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from controlplane.app.turns import Turns
from controlplane.domain import contract
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.base.vnode import Profile
from controlplane.domain.facts import Address, Module, ModuleState, TunnelKind
from controlplane.domain.identity import BaseId, ModuleKey, node_name
from controlplane.domain.objects import Condition, Container, ContainerStatus, Lease, Node, NodeStatus, Pod, PodStatus
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import Network, Tooling

CREATED = "2026-01-01T00:00:00Z"
LOST = "the tunnel is lost"


class Fleet:
    """VNodes of one replica, with an equal number of modules on each, half of the modules with a Pod."""

    def __init__(self, vnodes: int, modules: int) -> None:
        self.stage = Stage(Api())
        self.tooling = Tooling(self.stage, Network())
        self.bases = [_base(f"base-{number:05d}", range(number, modules, vnodes)) for number in range(vnodes)]
        for base in self.bases:
            self.stage.roster.begin(base)
        cluster = self.stage.cluster
        cluster.nodes.replace([(base.vnode, _node(base)) for base in self.bases], "1")
        cluster.leases.replace([(f"{lease.namespace}/{lease.name}", lease) for lease in map(_lease, self.bases)], "1")
        pods = [pod for base in self.bases for pod in _pods(base)]
        cluster.pods.replace([(pod.key, pod) for pod in pods], "1")

    async def lose(self, count: int) -> None:
        """Have as many VNodes change, as when their tunnel is lost or comes back."""
        turns = Turns()
        for number, base in enumerate(self.bases[:count]):
            lost = base.phase is Phase.READY
            phase, why = (Phase.UNREACHABLE, LOST) if lost else (Phase.READY, "")
            self.bases[number] = replace(base, phase=phase, why=why)
            self.stage.roster.publish(self.bases[number])
            await turns.handled()


def _base(name: str, modules: Sequence[int]) -> Base:
    identity = BaseId(name)
    profile = Profile(identity, "dev", TunnelKind.HTTP, "shop", "1.0.0", address=Address("10.0.0.7", 1238))
    keys = [ModuleKey(f"biz{place}", "1.0.0") for place in range(len(modules))]
    present = {key: Module(key, ModuleState.ACTIVATED) for key in keys}
    return Base(
        identity,
        node_name(identity, "dev"),
        profile,
        1_790_000_000.0,
        Phase.READY,
        fence=1,
        gateway="gateway",
        modules=Modules(listed=True, present=present),
    )


def _node(base: Base) -> Node:
    labels = {
        contract.ENV: base.profile.env,
        contract.BASE_NAME: base.profile.name,
        contract.BASE_VERSION: base.profile.version,
        contract.BASE_HOST_NAME: base.id,
        "zone": f"zone-{len(base.id) % 3}",
    }
    status = NodeStatus((Condition("Ready", "True"),))
    return Node(base.vnode, f"uid-{base.id}", "1", labels, status=status, creation_timestamp=CREATED)


def _lease(base: Base) -> Lease:
    return Lease(contract.LEASE_NAMESPACE, base.vnode, "1", "replica-0", 40, transitions=1)


def _pods(base: Base) -> Iterable[Pod]:
    for key in list(base.modules.present)[::2]:
        name = f"{base.id}-{key.name}"
        container = Container(key.name, f"https://repo.example/{key.name}.jar", key.version)
        status = PodStatus("Running", containers=(ContainerStatus(key.name, "running", ready=True),))
        yield Pod("default", name, f"uid-{name}", "1", base.vnode, (container,), status, creation_timestamp=CREATED)
