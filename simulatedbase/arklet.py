"""The command service of a simulated base: from a command and its parameters to the answer's envelope.

Commands that change modules lock name:version (a batch locks "null:null"), as
arklet does: a second one is refused, not queued. Questions never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from gateways.arklet.fields import Json
from simulatedbase import rendering
from simulatedbase.java import JavaError, invalid, null_pointer
from simulatedbase.operations import Operations, complete_install
from simulatedbase.processes import Processes
from simulatedbase.profile import Faults, Profile
from simulatedbase.request import BizRequest, biz_request, fields, text
from simulatedbase.runtime import Biz, Runtime

DESCRIPTIONS: Mapping[str, str] = {
    "help": "list all supported commands",
    "installBiz": "install one ark biz",
    "batchInstallBiz": "install one ark biz",
    "uninstallBiz": "uninstall one ark biz",
    "switchBiz": "switch one ark biz",
    "queryAllBiz": "query all ark biz(including master biz)",
    "health": "get all health info",
    "queryBizOps": "query ark biz ops",
}
"""Every command, with what help says of it."""

_NEGATIVE: Mapping[str, str] = {
    "installBiz": "install biz not success!",
    "batchInstallBiz": "install biz not success!",
    "uninstallBiz": "uninstall biz not success!",
    "switchBiz": "switch biz not success!",
}

_HEALTH_TYPES = frozenset({"", "system", "biz", "plugin"})


class Arklet:
    """Answers commands; background work of asynchronous ones belongs to tasks.

    note is called after each step of the modules, and with a word on each command
    that was refused or came to nothing.
    """

    def __init__(
        self,
        profile: Profile,
        faults: Faults,
        tasks: set[asyncio.Task[None]],
        *,
        now: Callable[[], int],
        uptime: Callable[[], float],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._profile = profile
        self._now = now
        self._uptime = uptime
        self._tasks = tasks
        self._note = note
        self._runtime = Runtime(
            profile.multi_version, broken_stays=profile.broken_stays, changed=lambda: self._note("")
        )
        self._operations = Operations(profile, faults, self._runtime, now)
        self._processes = Processes(now)
        self._locks: dict[str, str] = {}

    def modules(self) -> list[Biz]:
        """Return the modules inside the base."""
        return self._runtime.modules()

    async def execute(self, command: str, parameters: Json | None) -> Json:
        """Carry out a command and return its envelope; parameters None means that none were sent."""
        try:
            return await self.perform(command, parameters)
        except JavaError as error:
            return rendering.internal_error(error)

    async def perform(self, command: str, parameters: Json | None) -> Json:
        """Carry out a command as execute does; raises JavaError."""
        if command in _NEGATIVE and self._knows(command):
            return await self._change(command, parameters)
        return self._ask(command, parameters)

    def _knows(self, command: str) -> bool:
        return self._profile.runtime.batches or command != "batchInstallBiz"

    def _ask(self, command: str, parameters: Json | None) -> Json:
        identity = self._profile.identity
        if command == "help":
            known = [{"desc": desc, "id": name} for name, desc in DESCRIPTIONS.items() if self._knows(name)]
            return rendering.succeeded(identity, known)
        if command == "queryAllBiz":
            return rendering.succeeded(identity, [rendering.listed(biz) for biz in self._runtime.modules()])
        if command == "health":
            return self._health(fields(parameters or {}))
        if command == "queryBizOps":
            return self._process(parameters)
        return rendering.not_found()

    async def _change(self, command: str, parameters: Json | None) -> Json:
        request = biz_request(parameters)
        work: Callable[[], Awaitable[Json]]
        if command == "batchInstallBiz":
            items = self._batch(parameters or {})
            if request.asynchronous and not request.request_id:
                raise null_pointer()
            request = replace(request, name="", version="")
            work = partial(self._operations.install_batch, items)
        else:
            request = self._checked(command, request)
            work = self._single(command, request)
        if request.asynchronous:
            return self._begin(command, request, work)
        return await self._locked(command, _lock_key(request), work)

    def _single(self, command: str, request: BizRequest) -> Callable[[], Awaitable[Json]]:
        if command == "installBiz":
            return partial(self._operations.install, request)
        plain = self._operations.uninstall if command == "uninstallBiz" else self._operations.switch

        async def work() -> Json:
            return plain(request)

        return work

    async def _locked(self, command: str, key: str, work: Callable[[], Awaitable[Json]]) -> Json:
        if key in self._locks:
            self._note(f"{command} {key} refused: {self._locks[key]} under way")
            return rendering.failed(self._profile.identity, _conflict(command, key, self._locks[key]))
        self._locks[key] = command
        try:
            answer = await work()
        finally:
            self._locks.pop(key, None)
        if answer["code"] == "SUCCESS":
            return rendering.succeeded(self._profile.identity, answer)
        self._note(f"{command} {key}: {answer['code']}")
        return rendering.failed(self._profile.identity, _NEGATIVE[command], answer)

    def _begin(self, command: str, request: BizRequest, work: Callable[[], Awaitable[Json]]) -> Json:
        process = self._processes.begin(request)
        if process is None:
            message = f"The request corresponding to the requestId({request.request_id}) has been executed."
            return rendering.failed(self._profile.identity, message)
        accepted = rendering.succeeded(self._profile.identity, process.rendered())

        async def run() -> None:
            key = _lock_key(request)
            if key in self._locks:
                # Faithful to arklet: the loser frees the lock of the winner, and its own record stays INITIALIZED.
                del self._locks[key]
                process.end(self._now())
                return
            process.execute()
            try:
                envelope = await self._locked(command, key, work)
            except JavaError as error:
                process.fail(error.reason, self._now())
            else:
                process.finish(envelope, self._now())

        task = asyncio.get_running_loop().create_task(run(), name=f"{self._profile.identity} {command}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return accepted

    def _process(self, parameters: Json | None) -> Json:
        if parameters is None:
            raise null_pointer()
        request_id = text(fields(parameters).get("requestid"))
        if not request_id.strip():
            raise invalid("requestId is blank")
        process = self._processes.get(request_id)
        if process is None:
            return rendering.failed(self._profile.identity, "Not found the corresponding ops record.")
        return rendering.succeeded(self._profile.identity, process.rendered())

    def _health(self, given: Json) -> Json:
        kind = text(given.get("type"))
        name, version = text(given.get("bizname")), text(given.get("bizversion"))
        if kind not in _HEALTH_TYPES:
            raise invalid(f"type: {kind} can not be found")
        told: Json = {}
        if kind in ("", "system"):
            metrics = given.get("metrics")
            if not isinstance(metrics, list) or not metrics:
                metrics = ["cpu", "jvm"]
            if "jvm" in metrics:
                told["jvm"] = rendering.jvm(self._profile, self._operations.metaspace_used, self._uptime())
            if "cpu" in metrics:
                told["cpu"] = rendering.cpu()
        if not kind:
            told["masterBizInfo"] = rendering.master(self._profile)
        if kind in ("", "plugin"):
            told["pluginListInfo"] = [rendering.plugin()]
        if kind in ("", "biz") and name and version:
            biz = self._runtime.get(name, version)
            if biz is None:
                return rendering.failed(self._profile.identity, f"can not find biz: {name}:{version}")
            told["bizInfo"] = rendering.health_entry(biz)
        elif kind in ("", "biz"):
            entries = [rendering.master(self._profile), *map(rendering.health_entry, self._runtime.modules())]
            told["bizListInfo"] = [entry for entry in entries if not name or entry["bizName"] == name]
        return rendering.succeeded(self._profile.identity, {"healthData": told})

    def _checked(self, command: str, request: BizRequest) -> BizRequest:
        if command != "installBiz":
            if not request.name.strip():
                raise invalid("bizName should not be blank")
            if not request.version.strip():
                raise invalid("bizVersion should not be blank")
        if request.asynchronous and not request.request_id:
            raise invalid("requestId should not be blank when async is true")
        return complete_install(request, self._profile.jars) if command == "installBiz" else request

    def _batch(self, parameters: Json) -> list[BizRequest]:
        items = fields(parameters).get("bizlist")
        if items is None:
            raise invalid("bizList is null")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise null_pointer()
        return [complete_install(replace(biz_request(item), asynchronous=False), self._profile.jars) for item in items]


def _lock_key(request: BizRequest) -> str:
    return f"{request.name or 'null'}:{request.version or 'null'}"


def _conflict(command: str, key: str, running: str) -> str:
    return f"FAILED:{key} {command} conflict, exist unfinished command({running}) for this biz"
