"""The command service of a simulated base: from a command and its parameters to the answer, whichever way it came.

Commands that change modules lock name:version (a batch locks "null:null"), as arklet does: a second one is refused, not
queued. Questions never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from gateways.arklet.fields import Json
from simulatedbase import fastjson
from simulatedbase.fastjson import BizRequest, bean, change_request, failed, fields, succeeded, text
from simulatedbase.java import JavaError, invalid, null_pointer
from simulatedbase.life import Life
from simulatedbase.operations import Operations
from simulatedbase.profile import COMMANDS, hit
from simulatedbase.runtime import Biz, Runtime

PROCESSES_KEPT = 4096
"""How many records of asynchronous commands are kept; a Java base keeps them all."""

_CHANGES: Mapping[str, tuple[Callable[[Operations, BizRequest], Awaitable[Json]], str]] = {
    "installBiz": (Operations.install, "install biz not success!"),
    "batchInstallBiz": (Operations.install_batch, "install biz not success!"),
    "uninstallBiz": (Operations.uninstall, "uninstall biz not success!"),
    "switchBiz": (Operations.switch, "switch biz not success!"),
}
"""Commands that change modules, with what is said beside a negative answer."""


class Arklet:
    """Answers the commands of one life of a base."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._profile = life.profile
        self._runtime = Runtime(life.profile.multi_version, life.profile.broken_stays, self.note)
        self._operations = Operations(life, self._runtime)
        self._processes: dict[str, Json] = {}
        self._locks: dict[str, str] = {}

    def modules(self) -> list[Biz]:
        """Return the modules inside the base."""
        return list(self._runtime.modules.values())

    def note(self, word: str = "") -> None:
        """Take note of a step of the modules, or of a word on what happened."""
        self._life.changed(self.modules(), word)

    async def execute(self, command: str, parameters: Json | None) -> Json | JavaError | None:
        """Carry out a command; parameters None means that none were sent.

        Return the envelope of the answer, the exception that came instead, or None where a fault takes the answer.
        """
        if delay := self._life.faults.delay(command):
            await asyncio.sleep(delay)
        answer: Json | JavaError
        try:
            answer = await self._perform(command, parameters)
        except JavaError as error:
            answer = error
        return None if hit(self._life.faults.drop_replies, command) else answer

    async def _perform(self, command: str, parameters: Json | None) -> Json:
        if not self._knows(command):
            return fastjson.NOT_FOUND
        if command in _CHANGES:
            request = change_request(command, parameters, self._profile.jars)
            return self._begin(command, request) if request.asynchronous else await self._change(command, request)
        identity = self._profile.identity
        if command == "help":
            known = [{"desc": text, "id": name} for name, text in COMMANDS.items() if self._knows(name)]
            return succeeded(identity, known)
        if command == "queryAllBiz":
            return succeeded(identity, [fastjson.listed(biz) for biz in self.modules()])
        if command == "health":
            return self._health(fields(parameters or {}))
        return self._process(parameters)

    def _knows(self, command: str) -> bool:
        return command in COMMANDS and not (self._profile.old and command == "batchInstallBiz")

    async def _change(self, command: str, request: BizRequest) -> Json:
        work, negative = _CHANGES[command]
        lock = request.identity
        if running := self._locks.get(lock):
            self.note(f"{command} {lock} refused: {running} under way")
            message = f"FAILED:{lock} {command} conflict, exist unfinished command({running}) for this biz"
            return failed(self._profile.identity, message)
        self._locks[lock] = command
        try:
            answer = await work(self._operations, request)
        finally:
            self._locks.pop(lock, None)
        if answer["code"] == "SUCCESS":
            return succeeded(self._profile.identity, answer)
        self.note(f"{command} {lock}: {answer['code']}")
        return failed(self._profile.identity, negative, answer)

    def _begin(self, command: str, request: BizRequest) -> Json:
        if request.request_id in self._processes:
            message = f"The request corresponding to the requestId({request.request_id}) has been executed."
            return failed(self._profile.identity, message)
        if len(self._processes) >= PROCESSES_KEPT:
            del self._processes[next(iter(self._processes))]
        now = self._life.now()
        process = {
            "arkBizMeta": request.echo(),
            "elapsedTime": 0,
            "endTimestamp": 0,
            "requestId": request.request_id,
            "startTime": now,
            "startTimestamp": now,
            "status": "INITIALIZED",
        }
        self._processes[request.request_id] = process
        self._life.run(self._run(command, request, process), f"{command} in the background")
        return succeeded(self._profile.identity, dict(process))

    async def _run(self, command: str, request: BizRequest, process: Json) -> None:
        """Carry out an asynchronous command, and keep its record."""
        if self._locks.pop(request.identity, None) is not None:
            # Faithful to arklet: the loser frees the lock of the winner, and its own record stays INITIALIZED.
            self._end(process)
            return
        process |= {"status": "EXECUTING", "threadName": "arklet-ops-1"}
        try:
            envelope = await self._change(command, request)
        except JavaError as error:
            process |= {"status": "FAILED", "message": error.reason}
        else:
            # Of a negative answer only the outer message is kept.
            positive = envelope["code"] == "SUCCESS"
            process |= {"status": "SUCCEEDED"} if positive else {"status": "FAILED", "message": envelope["message"]}
        self._end(process)

    def _end(self, process: Json) -> None:
        now = self._life.now()
        process |= {"elapsedTime": now - process["startTimestamp"], "endTime": now, "endTimestamp": now}

    def _process(self, parameters: Json | None) -> Json:
        if parameters is None:
            raise null_pointer()
        request_id = text(fields(parameters).get("requestid"))
        if not request_id.strip():
            raise invalid("requestId is blank")
        process = self._processes.get(request_id)
        if process is None:
            return failed(self._profile.identity, "Not found the corresponding ops record.")
        return succeeded(self._profile.identity, bean(**process))

    def _health(self, given: Json) -> Json:
        kind, metrics = text(given.get("type")), given.get("metrics")
        name, version = text(given.get("bizname")), text(given.get("bizversion"))
        if kind not in ("", "system", "biz", "plugin"):
            raise invalid(f"type: {kind} can not be found")
        found: Json = {}
        if kind in ("", "system"):
            wanted = metrics if isinstance(metrics, list) and metrics else ["cpu", "jvm"]
            if "jvm" in wanted:
                found["jvm"] = fastjson.jvm(self._profile, self._operations.metaspace_used, self._life.uptime())
            if "cpu" in wanted:
                found["cpu"] = fastjson.CPU
        if not kind:
            found["masterBizInfo"] = fastjson.master(self._profile)
        if kind in ("", "plugin"):
            found["pluginListInfo"] = [fastjson.PLUGIN]
        if kind in ("", "biz") and name and version:
            biz = self._runtime.modules.get(f"{name}:{version}")
            if biz is None:
                return failed(self._profile.identity, f"can not find biz: {name}:{version}")
            found["bizInfo"] = fastjson.health_entry(biz)
        elif kind in ("", "biz"):
            entries = [fastjson.master(self._profile), *map(fastjson.health_entry, self.modules())]
            found["bizListInfo"] = [entry for entry in entries if not name or entry["bizName"] == name]
        return succeeded(self._profile.identity, {"healthData": found})
