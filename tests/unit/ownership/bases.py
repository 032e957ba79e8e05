"""The bases of the model: modules with arklet's semantics, slow and without memory of who ordered what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateways.arklet import facts
from gateways.arklet.facts import ClientCode, Module, ModuleOrder, ModuleState, Reply, ReplyCode, Verb
from gateways.session.messages import Order
from tests.unit.ownership.world import World

DONE = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS)
REPEAT = Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ, "repeat install")
NOT_FOUND = Reply(ReplyCode.FAILED, ClientCode.NOT_FOUND_BIZ, "not found")
CONFLICT = Reply(ReplyCode.FAILED, message="conflict, exist unfinished command(x)")


@dataclass
class SimBase:
    """One base. effects are (true time, verb, module, order id) of what really changed it."""

    world: World
    name: str
    modules: set[tuple[str, str]] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    effects: list[tuple[float, Verb, tuple[str, str], str]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    """Orders that it was asked to carry out."""

    def ask(self, order: Order, reply: Callable[[Reply], None]) -> None:
        """Take a command; the answer comes when it is done."""
        self.begun.append(order.order_id)
        (module,) = order.modules
        if module.name in self.locked:
            reply(CONFLICT)
            return
        self.locked.add(module.name)
        slow = self.world.random.choice((0.02, 0.2, 2.0, 8.0))
        self.world.after(slow, lambda: self._end(order, module, reply))

    def _end(self, order: Order, module: ModuleOrder, reply: Callable[[Reply], None]) -> None:
        self.locked.discard(module.name)
        key = (module.name, module.version)
        if order.verb is Verb.INSTALL:
            answer = (
                REPEAT
                if key in self.modules
                else Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(Module(*key, ModuleState.ACTIVATED),))
            )
            changed = key not in self.modules
            self.modules.add(key)
        elif order.verb is Verb.UNINSTALL:
            answer = DONE if key in self.modules else NOT_FOUND
            changed = key in self.modules
            self.modules.discard(key)
        else:
            answer, changed = DONE, False
        if changed:
            self.world.note(f"{self.name}: {order.verb.value} {module.name} done, fence {order.fence}")
            self.effects.append((self.world.now, order.verb, key, order.order_id))
        reply(answer)

    def list(self) -> tuple[Module, ...]:
        return tuple(Module(*key, ModuleState.ACTIVATED) for key in sorted(self.modules))

    def heartbeat(self) -> facts.Heartbeat:
        metadata = facts.Metadata(self.name, "shop", "1.0.0", "default")
        return facts.Heartbeat(metadata, f"{self.name}-0", "10.0.0.7", 1238, facts.BaseState.ACTIVATED)
