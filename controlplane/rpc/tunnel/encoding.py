"""What gateways are sent: facts to messages of the tunnel contract, which go no further inward."""

from collections.abc import Iterable
from functools import lru_cache

from google.protobuf.duration_pb2 import Duration
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.domain.facts import TIMEOUTS, Address, InstallStrategy, Order, Verb, Watch
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.replicas import Replica
from controlplane.domain.workloads.baselines import Baseline

MODULES_INTERVAL = Duration(seconds=15)
HEALTH_INTERVAL = Duration(seconds=30)
SILENT_HEALTH_INTERVAL = Duration(seconds=10)
"""Times between the questions of a Watch, as in the original."""

_VERBS = {Verb.INSTALL: pb.VERB_INSTALL, Verb.UNINSTALL: pb.VERB_UNINSTALL, Verb.SWITCH: pb.VERB_SWITCH}
_STRATEGIES = {
    InstallStrategy.DEFAULT: pb.INSTALL_STRATEGY_UNSPECIFIED,
    InstallStrategy.INSTALL_ONLY: pb.INSTALL_STRATEGY_INSTALL_ONLY,
    InstallStrategy.UNINSTALL_THEN_INSTALL: pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL,
    InstallStrategy.FORCE: pb.INSTALL_STRATEGY_UNSPECIFIED,
}


def order(value: Order) -> pb.Order:
    """Write an Order."""
    return pb.Order(
        order_id=value.order_id,
        fence=value.fence,
        base_id=value.base,
        address=_address(value.address),
        verb=pb.VERB_BATCH_INSTALL if len(value.modules) > 1 else _VERBS[value.verb],
        modules=[
            pb.OrderModule(
                name=module.key.name,
                version=module.key.version,
                url=module.url,
                args=module.args,
                envs=dict(module.envs),
                strategy=_STRATEGIES[module.strategy],
            )
            for module in value.modules
        ],
        timeout=Duration(seconds=TIMEOUTS[value.verb]),
    )


def watch(value: Watch) -> pb.Watch:
    """Write a Watch."""
    return pb.Watch(
        base_id=value.base,
        fence=value.fence,
        address=_address(value.address),
        epoch=value.epoch,
        modules_interval=MODULES_INTERVAL,
        health_interval=HEALTH_INTERVAL,
        silent_health_interval=SILENT_HEALTH_INTERVAL,
    )


def baseline_answer(base: BaseId, query_id: str, given: Baseline) -> pb.BaselineAnswer:
    """Write the answer to a BaselineQuery; what thousands of bases are given alike is encoded once."""
    answer = pb.BaselineAnswer(base_id=base, query_id=query_id)
    answer.MergeFromString(_encoded(given))
    return answer


@lru_cache(maxsize=32)
def _encoded(given: Baseline) -> bytes:
    modules = (pb.ModuleRef(name=m.name, version=m.version, url=m.url) for m in given.modules)
    return pb.BaselineAnswer(modules=modules).SerializeToString()


def _address(value: Address) -> pb.Address:
    return pb.Address(ip=value.ip, port=value.port)


def members(replicas: Iterable[Replica]) -> list[pb.Member]:
    """Encode the replicas that live."""
    return [pb.Member(replica_id=replica.id, address=replica.address) for replica in replicas]
