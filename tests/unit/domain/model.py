"""A base and its controller as a model: every step of either is one call, in any order a test likes.

The base installs, switches and uninstalls as arklet does, in one of three modes of
having two versions; lists are snapshots that may arrive late; results may be lost or
come twice; base and controller may restart at any point.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from controlplane.domain import modules as book
from controlplane.domain import outcomes
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
from controlplane.domain.planner import Abilities, Policy, Wish, plan
from controlplane.domain.releases import UNKNOWN, Release

ACTIVE, INACTIVE = ModuleState.ACTIVATED, ModuleState.DEACTIVATED


class Mode(Enum):
    """What a base does with a second version of a module."""

    BOTH = "both serve"
    SWITCHED = "the first serves until it is told to switch"
    FIRST = "the first serves, and it cannot be told to switch"


@dataclass
class World:
    """wanted is what Pods ask for, oldest first; present and content is what the base has."""

    mode: Mode = Mode.BOTH
    wanted: dict[ModuleKey, ModuleSpec] = field(default_factory=dict)
    releases: dict[ModuleKey, Release] = field(default_factory=dict)
    leaving: dict[ModuleKey, ModuleSpec] = field(default_factory=dict)
    present: dict[ModuleKey, ModuleState] = field(default_factory=dict)
    content: dict[ModuleKey, Release] = field(default_factory=dict)
    sent_releases: dict[OrderId, Release] = field(default_factory=dict)
    recorded: dict[ModuleKey, Release] = field(default_factory=dict)
    failing: set[ModuleKey] = field(default_factory=set)
    state: Modules = field(default_factory=Modules)
    now: float = 0.0
    sent: list[Order] = field(default_factory=list)
    results: list[OrderResult] = field(default_factory=list)
    lists: list[ModuleList] = field(default_factory=list)
    repeats: int = 0
    needless_uninstalls: int = 0
    number: int = 0

    def work(self) -> None:
        """The controller looks once, and records what is its own."""
        wishes = [Wish(s, leaving=False, release=self.releases.get(k, UNKNOWN)) for k, s in self.wanted.items()]
        wishes += [Wish(s, leaving=True) for s in self.leaving.values()]
        self.state = book.forget(self.state, {wish.spec.key for wish in wishes}, self.now)
        self.state = book.adopt(self.state, {wish.spec.key: wish.release for wish in wishes})
        abilities = Abilities(switch=self.mode is not Mode.FIRST)
        planned = plan(self.state, wishes, now=self.now, policy=Policy(orders=3), abilities=abilities)
        self.state = replace(self.state, orphan_since=planned.orphan_since, alone=planned.alone)
        for intents in planned.orders:
            self.number += 1
            order = Order(
                OrderId(str(self.number)),
                1,
                BaseId("b"),
                Address("10.0.0.1", 1238),
                intents[0].verb,
                tuple(intent.spec for intent in intents),
                60.0,
            )
            names = [intent.spec.key.name for intent in intents]
            assert not self.state.in_flight.keys() & set(names), "two orders under way for one name"
            releases = {intent.spec.key: intent.release for intent in intents}
            self.state = book.begin(self.state, order, releases, now=self.now, deadline=self.now + 60.0, gateway="g/1")
            assert len(self.state.orders()) <= 3
            self.sent.append(order)
            self.sent_releases[order.order_id] = intents[0].release
            self.needless_uninstalls += order.verb is Verb.UNINSTALL and self.serves_as_wanted(order.modules[0].key)
        self.recorded = dict(self.state.owned)
        for key in [k for k in self.leaving if k in self.wanted or self.state.gone(k)]:
            del self.leaving[key]

    def serves_as_wanted(self, key: ModuleKey) -> bool:
        wanted = key in self.wanted and self.content.get(key) == self.releases.get(key, UNKNOWN)
        return wanted and self.present.get(key) is ACTIVE

    def carry_out(self, index: int) -> None:
        """The base carries out an order that arrived."""
        order = self.sent.pop(index)
        self.results.append(OrderResult(order.order_id, self._do(order)))

    def _do(self, order: Order) -> Reply:
        (key,) = (spec.key for spec in order.modules)
        if order.verb is Verb.INSTALL:
            if key in self.present:
                self.repeats += 1
                return Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ)
            if key in self.failing:
                return Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: x")
            first = all(other.name != key.name or state is not ACTIVE for other, state in self.present.items())
            self.present[key] = ACTIVE if first or self.mode is Mode.BOTH else INACTIVE
            self.content[key] = self.sent_releases[order.order_id]
            return Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(Module(key, self.present[key]),))
        if order.verb is Verb.SWITCH:
            if key not in self.present:
                return Reply(ReplyCode.FAILED, ClientCode.NOT_FOUND_BIZ)
            self.present |= {other: INACTIVE for other in self.present if other.name == key.name}
            self.present[key] = ACTIVE
        elif self.present.pop(key, None) is None:
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
            self.state, _ends = outcomes.end(self.state, result, now=self.now, chance=0.5)

    def lose(self, index: int) -> None:
        """A result gets lost; the controller notices by the deadline."""
        result = self.results.pop(index)
        self.state, _ends = outcomes.end(self.state, outcomes.lost(result.order_id, "lost"), now=self.now, chance=0.5)

    def base_restarts(self) -> None:
        """The base's container restarts in place: modules and commands that had not been carried out are gone."""
        self.present.clear()
        for order in self.sent:
            self.results.append(outcomes.lost(order.order_id, "cut"))
        self.sent.clear()

    def controller_restarts(self) -> None:
        """All that the controller knew is gone, but for what it recorded; its orders may still be carried out."""
        self.state = book.remember(Modules(epoch=self.state.epoch + 1), self.recorded, self.now)
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
