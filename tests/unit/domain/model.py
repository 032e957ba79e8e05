"""A base and its controller as a model: every step of either is one call, in any order a test likes.

The base installs and uninstalls as arklet does; lists are snapshots that may
arrive late; results may be lost or come twice; base and controller may restart
at any point.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from controlplane.domain import modules as book
from controlplane.domain.facts import (
    Address,
    ClientCode,
    Module,
    ModuleList,
    ModuleSpec,
    ModuleState,
    Order,
    OrderResult,
    Reply,
    ReplyCode,
    Verb,
)
from controlplane.domain.identity import BaseId, ModuleKey, OrderId
from controlplane.domain.modules import Modules
from controlplane.domain.planner import Policy, Wish, plan

ACTIVE = ModuleState.ACTIVATED


@dataclass
class World:
    """wanted is what Pods ask for; present what the base has; the queues hold what is under way."""

    wanted: dict[ModuleKey, ModuleSpec] = field(default_factory=dict)
    leaving: dict[ModuleKey, ModuleSpec] = field(default_factory=dict)
    present: dict[ModuleKey, ModuleState] = field(default_factory=dict)
    failing: set[ModuleKey] = field(default_factory=set)
    state: Modules = field(default_factory=Modules)
    now: float = 0.0
    sent: list[Order] = field(default_factory=list)
    results: list[OrderResult] = field(default_factory=list)
    lists: list[ModuleList] = field(default_factory=list)
    repeats: int = 0
    wrong_uninstalls: int = 0
    number: int = 0

    def work(self) -> None:
        """The controller looks once."""
        wishes = [Wish(s, leaving=False) for s in self.wanted.values()]
        wishes += [Wish(s, leaving=True) for s in self.leaving.values()]
        keys = {wish.spec.key for wish in wishes}
        self.state = book.forget(self.state, keys)
        self.state = book.adopt(self.state, keys & self.state.present.keys())
        planned = plan(self.state, wishes, now=self.now, policy=Policy(orders=3))
        self.state = replace(self.state, orphan_since=planned.orphan_since)
        for intent in planned.intents:
            self.number += 1
            order = Order(
                OrderId(str(self.number)), 1, BaseId("b"), Address("10.0.0.1", 1238), intent.verb, intent.spec, 60.0
            )
            assert intent.spec.key.name not in self.state.in_flight, "two orders under way for one name"
            self.state = book.begin(self.state, order, now=self.now, deadline=self.now + 60.0, gateway="g/1")
            assert len(self.state.in_flight) <= 3
            self.sent.append(order)
        for key in [k for k in self.leaving if k in self.wanted or self.state.gone(k)]:
            del self.leaving[key]

    def carry_out(self, index: int) -> None:
        """The base carries out an order that arrived."""
        order = self.sent.pop(index)
        self.results.append(OrderResult(order.order_id, self._do(order)))

    def _do(self, order: Order) -> Reply:
        key = order.module.key
        if order.verb is Verb.INSTALL:
            if key in self.present:
                self.repeats += 1
                return Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ)
            if key in self.failing:
                return Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: x")
            self.present[key] = ACTIVE
            return Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(Module(key, ACTIVE),))
        if order.verb is Verb.UNINSTALL:
            if key in self.wanted and self.present.get(key) is ACTIVE:
                self.wrong_uninstalls += 1
            if self.present.pop(key, None) is None:
                return Reply(ReplyCode.FAILED, ClientCode.NOT_FOUND_BIZ)
        return Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS)

    def ask(self) -> None:
        """A gateway asks for the list under the epoch in force now; the answer is on its way."""
        modules = tuple(Module(key, state) for key, state in self.present.items())
        self.lists.append(ModuleList(modules, complete=True, unchanged=False, epoch=self.state.epoch))

    def hear(self, index: int) -> None:
        """A list arrives."""
        self.state = book.hear(self.state, self.lists.pop(index), self.now)

    def learn(self, index: int, *, again: bool) -> None:
        """A result arrives, and maybe once more."""
        result = self.results.pop(index)
        for _ in range(2 if again else 1):
            self.state, _ended = book.end(self.state, result, now=self.now, chance=0.5)

    def lose(self, index: int) -> None:
        """A result gets lost; the controller notices by the deadline."""
        result = self.results.pop(index)
        self.state, _ended = book.end(self.state, book.lost(result.order_id, "lost"), now=self.now, chance=0.5)

    def base_restarts(self) -> None:
        """The base's container restarts in place: modules and commands that had not been carried out are gone."""
        self.present.clear()
        for order in self.sent:
            self.results.append(book.lost(order.order_id, "cut"))
        self.sent.clear()

    def controller_restarts(self) -> None:
        """All that the controller knew is gone, but for what it recorded; its orders may still be carried out."""
        self.state = Modules(epoch=self.state.epoch + 1, owned=self.state.owned)
        self.lists.clear()
        self.results.clear()

    def settle(self) -> None:
        """Let everything happen in a fair order until nothing changes any more."""
        for _ in range(200):
            self.work()
            while self.sent:
                self.carry_out(0)
            while self.results:
                self.learn(0, again=False)
            self.ask()
            while self.lists:
                self.hear(0)
            self.now += 15.0


def spec(name: str, version: str) -> ModuleSpec:
    return ModuleSpec(ModuleKey(name, version), url=f"https://repo.example/{name}-{version}.jar")
