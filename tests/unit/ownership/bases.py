"""The bases of the model: modules with arklet's semantics, slow and without memory of who ordered what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from tests.unit.ownership.world import World

DONE = pb.Reply(code=pb.REPLY_CODE_SUCCESS, client_code=pb.CLIENT_CODE_SUCCESS)
REPEAT = pb.Reply(code=pb.REPLY_CODE_FAILED, client_code=pb.CLIENT_CODE_REPEAT_BIZ, message="repeat install")
NOT_FOUND = pb.Reply(code=pb.REPLY_CODE_FAILED, client_code=pb.CLIENT_CODE_NOT_FOUND_BIZ, message="not found")
CONFLICT = pb.Reply(code=pb.REPLY_CODE_FAILED, message="conflict, exist unfinished command(x)")


@dataclass
class SimBase:
    """One base. effects are (true time, verb, module, order id) of what really changed it."""

    world: World
    name: str
    modules: set[tuple[str, str]] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    effects: list[tuple[float, pb.Verb.ValueType, tuple[str, str], str]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    """Orders that it was asked to carry out."""

    def ask(self, order: pb.Order, reply: Callable[[pb.Reply], None]) -> None:
        """Take a command; reply when it is done."""
        self.begun.append(order.order_id)
        (module,) = order.modules
        if module.name in self.locked:
            reply(CONFLICT)
            return
        self.locked.add(module.name)
        slow = self.world.random.choice((0.02, 0.2, 2.0, 8.0))
        self.world.after(slow, lambda: self._end(order, module, reply))

    def _end(self, order: pb.Order, module: pb.OrderModule, reply: Callable[[pb.Reply], None]) -> None:
        self.locked.discard(module.name)
        key = (module.name, module.version)
        if order.verb == pb.VERB_INSTALL:
            installed = pb.Reply(code=DONE.code, client_code=DONE.client_code, modules=[_module(*key)])
            answer = REPEAT if key in self.modules else installed
            changed = key not in self.modules
            self.modules.add(key)
        elif order.verb == pb.VERB_UNINSTALL:
            answer = DONE if key in self.modules else NOT_FOUND
            changed = key in self.modules
            self.modules.discard(key)
        else:
            answer, changed = DONE, False
        if changed:
            self.world.note(f"{self.name}: {pb.Verb.Name(order.verb)} {module.name} done, fence {order.fence}")
            self.effects.append((self.world.now, order.verb, key, order.order_id))
        reply(answer)

    def list(self) -> Sequence[pb.Module]:
        return [_module(*key) for key in sorted(self.modules)]

    def heartbeat(self) -> pb.Report:
        heartbeat = pb.Heartbeat(
            name="shop",
            version="1.0.0",
            cluster_name="default",
            host_name=f"{self.name}-0",
            address=pb.Address(ip="10.0.0.7", port=1238),
            state=pb.BASE_STATE_ACTIVATED,
        )
        return pb.Report(base_id=self.name, heartbeat=heartbeat)


def _module(name: str, version: str) -> pb.Module:
    return pb.Module(name=name, version=version, state=pb.MODULE_STATE_ACTIVATED)
