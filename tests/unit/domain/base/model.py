"""A model of a base, its tunnel and its controller: each step is one call, and a test calls them in any order.

The base installs (alone or in batches), switches and uninstalls as arklet does, in one of three modes of having two
versions, with or without leaving broken modules behind. Commands may be lost, run late, be refused because the module
is locked, or be carried out and reported as failed. Lists are snapshots that may arrive late, results may be lost or
come twice. Base and controller may restart at any point.
"""

from dataclasses import dataclass, field, replace
from enum import Enum

from controlplane.domain.base import modules as book
from controlplane.domain.base import outcomes, unconfirmed
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.planner import ModulePolicy, plan
from controlplane.domain.base.releases import UNKNOWN, Release
from controlplane.domain.base.wishes import Wish
from controlplane.domain.facts import (
    Address,
    BatchInstalled,
    ClientCode,
    InstallStrategy,
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
from tests.unit.domain.base.pods import begun

ACTIVE, INACTIVE, BROKEN = ModuleState.ACTIVATED, ModuleState.DEACTIVATED, ModuleState.BROKEN
DEADLINE = 60.0
DOUBT = 30.0
QUIET = 45
"""Rounds of 15 s without an order after which no more orders follow: longer than any delay."""

DONE = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS)
REPEAT = Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ)
NOT_FOUND = Reply(ReplyCode.FAILED, ClientCode.NOT_FOUND_BIZ)
CONFLICT = Reply(ReplyCode.FAILED, message="FAILED:x conflict, exist unfinished command(installBiz) for this biz")
FAILURE = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: x")


class Mode(Enum):
    """What a base does with a second version of a module."""

    BOTH = "both serve"
    SWITCHED = "the first serves until a switch"
    FIRST = "the first serves, and switches are not offered"


@dataclass
class Pod:
    """A Pod and what it wants."""

    uid: str
    specs: tuple[ModuleSpec, ...]
    releases: tuple[Release, ...]
    created: str
    leaving: bool = False


@dataclass
class World:
    """pods are oldest first; present and content are what the base has, locked what it works on now."""

    mode: Mode = Mode.BOTH
    broken_stays: bool = False
    batches: bool = False
    pods: dict[str, Pod] = field(default_factory=dict)
    present: dict[ModuleKey, ModuleState] = field(default_factory=dict)
    content: dict[ModuleKey, Release] = field(default_factory=dict)
    locked: dict[ModuleKey, OrderId] = field(default_factory=dict)
    sent_releases: dict[OrderId, dict[ModuleKey, Release]] = field(default_factory=dict)
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
    baseline: tuple[ModuleKey, ...] = ()

    # Steps of users.

    def pod(self, *specs: ModuleSpec, content: str = "") -> Pod:
        """A Pod is bound to the base."""
        self.number += 1
        uid, created = f"uid-{self.number}", f"{self.number:06d}"
        releases = tuple(
            Release(content, uid, created) if s.strategy is InstallStrategy.FORCE else Release(content) for s in specs
        )
        self.pods[uid] = Pod(uid, specs, releases, created)
        return self.pods[uid]

    def wanted(self) -> dict[ModuleKey, Wish]:
        """Return what live Pods want, by module: the newest wish for it, oldest first."""
        found: dict[ModuleKey, Wish] = {}
        for wish in self.wishes():
            if not wish.leaving:
                found.pop(wish.spec.key, None)
                found[wish.spec.key] = wish
        return found

    def wishes(self) -> list[Wish]:
        return [
            Wish(s, pod.leaving, release, pod.uid, pod.created)
            for pod in self.pods.values()
            for s, release in zip(pod.specs, pod.releases, strict=True)
        ]

    # Steps of the controller.

    def work(self) -> None:
        """The controller makes one pass, and records the modules that it owns."""
        for flight in tuple(self.state.in_flight.values()):
            if flight.deadline <= self.now:
                self._end(outcomes.lost(flight.order_id, "no answer in time"))
        self.state = unconfirmed.ask(self.state, self.now)
        wishes = self.wishes()
        self.state = book.forget(self.state, {wish.spec.key for wish in wishes}, self.now)
        self.state = book.adopt(self.state, {wish.spec.key: wish.release for wish in wishes})
        switches, policy = self.mode is not Mode.FIRST, ModulePolicy(orders=3)
        planned = plan(self.state, wishes, now=self.now, policy=policy, batches=self.batches, switches=switches)
        self.state = planned.state
        for intents in planned.orders:
            self.number += 1
            order = Order(
                OrderId(str(self.number)),
                1,
                BaseId("b"),
                Address("10.0.0.1", 1238),
                intents[0].verb,
                tuple(intent.spec for intent in intents),
            )
            names = [intent.spec.key.name for intent in intents]
            assert len(set(names)) == len(names), "two modules of one name in an order"
            assert not self.state.in_flight.keys() & set(names), "two orders under way for one name"
            releases = {intent.spec.key: intent.release for intent in intents}
            self.state = begun(
                self.state, order, releases, now=self.now, deadline=self.now + DEADLINE, ask_at=self.now + DOUBT
            )
            assert len(self.state.orders()) <= 3
            self.sent.append(order)
            self.sent_releases[order.order_id] = releases
            self.needless_uninstalls += order.verb is Verb.UNINSTALL and self.serves_as_wanted(order.modules[0].key)
        self.recorded = dict(self.state.owned)
        live = self.wanted()
        for pod in [pod for pod in self.pods.values() if pod.leaving]:
            if all(s.key in live or self.state.gone(s.key) for s in pod.specs):
                del self.pods[pod.uid]

    def serves_as_wanted(self, key: ModuleKey) -> bool:
        wish = self.wanted().get(key)
        return wish is not None and self.content.get(key) == wish.release and self.present.get(key) is ACTIVE

    def receive_list(self, index: int) -> None:
        """A list arrives."""
        listed = self.lists.pop(index)
        self.state, lost = unconfirmed.undelivered(self.state, listed, again_at=self.now + DOUBT)
        for order_id in lost:
            self._end(outcomes.lost(order_id, "the base does not seem to work on it"))
        self.state = book.take_list(self.state, listed)

    def receive_result(self, index: int, *, again: bool) -> None:
        """A result arrives; again: it arrives twice."""
        result = self.results.pop(index)
        for _ in range(2 if again else 1):
            self._end(result)

    def _end(self, result: OrderResult) -> None:
        self.state, _ends = outcomes.end(self.state, result, now=self.now, chance=0.5)

    def controller_restarts(self) -> None:
        """The controller keeps only what it recorded; its orders may still be carried out."""
        self.state = book.remember(Modules(epoch=self.state.epoch + 1), self.recorded, self.now)
        self.lists.clear()
        self.results.clear()

    # Steps of the tunnel.

    def ask(self) -> None:
        """A gateway asks for the list under the epoch in force now; the answer is on its way."""
        modules = [Module(key, state) for key, state in self.present.items()]
        self.lists.append(ModuleList(tuple(modules), complete=True, unchanged=False, epoch=self.state.epoch))

    def lose(self, index: int) -> None:
        """A result is lost; the controller notices at the deadline."""
        result = self.results.pop(index)
        self._end(outcomes.lost(result.order_id, "lost"))

    def lose_command(self, index: int) -> None:
        """A command is lost, and nothing reports it."""
        self.sent.pop(index)

    def answer_conflict(self, index: int) -> None:
        """A command arrives twice: the second one's refusal counts as the answer, while the base still works on it."""
        self.results.append(OrderResult(self.sent[index].order_id, CONFLICT))

    # Steps of the base.

    def begin(self, index: int) -> None:
        """The base begins a command: it locks the modules, and the list does not show that."""
        order = self.sent[index]
        if any(self.locked.get(s.key, order.order_id) != order.order_id for s in order.modules):
            self.sent.pop(index)
            self.results.append(OrderResult(order.order_id, CONFLICT))
            return
        self.locked |= dict.fromkeys((s.key for s in order.modules), order.order_id)

    def carry_out(self, index: int, *, report_failure: bool = False) -> None:
        """The base carries out a command that arrived; report_failure: it succeeds and reports a failure."""
        order = self.sent[index]
        self.begin(index)
        if order not in self.sent:
            return
        self.sent.remove(order)
        for s in order.modules:
            self.locked.pop(s.key, None)
        if len(order.modules) > 1:
            items = tuple((s.url, self._install(s, order)) for s in order.modules)
            positive = all(reply == DONE or reply.modules for _, reply in items)
            outer = DONE if positive else Reply(ReplyCode.FAILED, message="install biz not success!")
            self.results.append(
                OrderResult(order.order_id, FAILURE if report_failure else BatchInstalled(outer, items))
            )
            return
        reply = self._do(order.verb, order.modules[0], order)
        self.results.append(OrderResult(order.order_id, FAILURE if report_failure else reply))

    def _do(self, verb: Verb, s: ModuleSpec, order: Order) -> Reply:
        match verb:
            case Verb.INSTALL:
                return self._install(s, order)
            case Verb.SWITCH:
                return self._switch(s.key)
            case Verb.UNINSTALL:
                return self._uninstall(s.key)

    def _install(self, s: ModuleSpec, order: Order) -> Reply:
        key = s.key
        if s.strategy is InstallStrategy.UNINSTALL_THEN_INSTALL:
            for other in [other for other in self.present if other.name == key.name]:
                del self.present[other]
        if key in self.present:
            self.repeats += 1
            return REPEAT
        if key in self.failing:
            if self.broken_stays:
                self.present[key] = BROKEN
            return FAILURE
        first = all(other.name != key.name or state is not ACTIVE for other, state in self.present.items())
        self.present[key] = ACTIVE if first or self.mode is Mode.BOTH else INACTIVE
        self.content[key] = self.sent_releases[order.order_id].get(key, UNKNOWN)
        return replace(DONE, modules=(Module(key, self.present[key]),))

    def _switch(self, key: ModuleKey) -> Reply:
        if key not in self.present:
            return NOT_FOUND
        if self.present[key] is BROKEN:
            return Reply(ReplyCode.FAILED, ClientCode.ILLEGAL_STATE_BIZ)
        for other, state in self.present.items():
            if other.name == key.name and state is ACTIVE:
                self.present[other] = INACTIVE
        self.present[key] = ACTIVE
        return DONE

    def _uninstall(self, key: ModuleKey) -> Reply:
        if key not in self.present:
            return NOT_FOUND
        if key in self.failing:
            if self.broken_stays:
                self.present[key] = BROKEN
            else:
                del self.present[key]
            return FAILURE
        del self.present[key]
        return DONE

    def base_restarts(self) -> None:
        """The base's container restarts in place: its modules and the commands not carried out are gone."""
        self.present.clear()
        self.locked.clear()
        for order in self.sent:
            self.results.append(outcomes.lost(order.order_id, "cut"))
        self.sent.clear()

    def starts_with_a_baseline(self, keys: tuple[ModuleKey, ...]) -> None:
        """The base starts and gets a baseline, which it installs by itself."""
        self.base_restarts()
        self.state = book.given_at_start(self.state, keys, self.now)
        self.recorded = dict(self.state.owned)
        self.baseline = keys

    def installs_baseline(self, *, reported: bool) -> None:
        """The base installs its baseline; reported: the controller gets the result."""
        for key in self.baseline:
            if key not in self.present and key not in self.failing:
                first = all(o.name != key.name or state is not ACTIVE for o, state in self.present.items())
                self.present[key] = ACTIVE if first or self.mode is Mode.BOTH else INACTIVE
                self.content[key] = UNKNOWN
        self.baseline = ()
        if reported:
            self.state = book.started(self.state)

    # All together.

    def settle(self) -> None:
        """Run all steps in a fair order until nothing changes any more."""
        quiet, limit = 0, self.now + 20_000
        while quiet < QUIET:
            assert self.now < limit, "it does not settle"
            self.work()
            quiet = 0 if self.sent else quiet + 1
            while self.sent:
                self.carry_out(0)
            while self.results:
                self.receive_result(0, again=False)
            self.ask()
            while self.lists:
                self.receive_list(0)
            self.now += 15.0


def spec(name: str, version: str, strategy: InstallStrategy = InstallStrategy.DEFAULT) -> ModuleSpec:
    return ModuleSpec(ModuleKey(name, version), url=f"https://repo.example/{name}-{version}.jar", strategy=strategy)
