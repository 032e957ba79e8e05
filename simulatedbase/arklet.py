"""The command service of a simulated base: from a command and its parameters to the answer, whichever way it came.

Commands that change modules lock name:version (a batch locks "null:null"), as arklet does: a second one is refused, not
queued. Questions never wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from gateways.arklet.fields import Json
from simulatedbase import fastjson
from simulatedbase.fastjson import BizRequest, bean, change_request, failed, fields, succeeded, text
from simulatedbase.java import JavaError, fetch, invalid, null_pointer, opened, path_taken, start_failed, thrown
from simulatedbase.life import Life
from simulatedbase.profile import COMMANDS, hit
from simulatedbase.runtime import Biz, Runtime

DELAY_STEP = 0.1
"""Seconds after which it is seen that a fault was switched off."""


class Arklet:
    """Answers the commands of one life of a base."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._profile = life.profile
        self._runtime = Runtime(life.profile.multi_version, life.profile.broken_stays, self.note)
        self._locks: dict[str, str] = {}
        self._changes: Mapping[str, tuple[Callable[[BizRequest], Awaitable[Json]], str]] = {
            "installBiz": (self._install, "install biz not success!"),
            "batchInstallBiz": (self._install_batch, "install biz not success!"),
            "uninstallBiz": (self._uninstall, "uninstall biz not success!"),
            "switchBiz": (self._switch, "switch biz not success!"),
        }
        """Commands that change modules, with what is said beside a negative answer."""

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
        await self._delay(command)
        answer: Json | JavaError
        try:
            answer = await self._perform(command, parameters)
        except JavaError as error:
            answer = error
        return None if hit(self._life.faults.drop_replies, command) else answer

    async def _delay(self, command: str) -> None:
        """Be slow, for as long as that fault is on."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left := began + self._life.faults.delay(command) - loop.time()) > 0:  # noqa: ASYNC110 - a set has no event
            await asyncio.sleep(min(left, DELAY_STEP))

    async def _perform(self, command: str, parameters: Json | None) -> Json:
        if not self._knows(command):
            return fastjson.NOT_FOUND
        if command in self._changes:
            return await self._change(command, change_request(command, parameters, self._profile.jars))
        identity = self._profile.identity
        if command == "help":
            known = [{"desc": text, "id": name} for name, text in COMMANDS.items() if self._knows(name)]
            return succeeded(identity, known)
        if command == "queryAllBiz":
            return succeeded(identity, [fastjson.listed(biz) for biz in self.modules()])
        if command == "health":
            return self._health()
        return self._process(parameters)

    def _knows(self, command: str) -> bool:
        return command in COMMANDS and not (self._profile.old and command == "batchInstallBiz")

    async def _change(self, command: str, request: BizRequest) -> Json:
        work, negative = self._changes[command]
        lock = request.identity
        if running := self._locks.get(lock):
            self.note(f"{command} {lock} refused: {running} under way")
            message = f"FAILED:{lock} {command} conflict, exist unfinished command({running}) for this biz"
            return failed(self._profile.identity, message)
        self._locks[lock] = command
        try:
            answer = await work(request)
        finally:
            del self._locks[lock]
        if answer["code"] == "SUCCESS":
            return succeeded(self._profile.identity, answer)
        self.note(f"{command} {lock}: {answer['code']}")
        return failed(self._profile.identity, negative, answer)

    # The commands that change modules: each returns its answer, or raises JavaError.

    async def _install(self, request: BizRequest) -> Json:
        """Install a module; raises JavaError when its jar cannot be had or its start-up throws."""
        jar = opened(fetch(request.url, self._profile.jars), request.name, request.version)
        if request.strategy == "uninstallThenInstall":
            for other in self._runtime.versions(jar.name):
                self._runtime.uninstall(other)
        began, used = self._life.now(), self._metaspace_used
        biz = Biz(
            jar.name,
            jar.version,
            main_class=request.main_class or f"com.example.{jar.name}.Application",
            path=jar.path or (jar.name if self._profile.shared_paths else f"{jar.name}-{jar.version}"),
            work_dir=f"/var/ark/{request.name}-{request.version}-{began}-unpack",
        )
        if not self._runtime.register(biz, began):
            message = f"Biz: {biz.identity} has been installed or registered."
            return bean(code="REPEAT_BIZ", elapsedSpace=0, message=message)
        await asyncio.sleep(self._profile.install_time)
        problem = self._problem(biz)
        if problem is not None:
            self._runtime.broke(biz, self._life.now(), "Install Failed", problem)
            raise problem
        self._runtime.started(biz, self._life.now())
        started_at = datetime.fromtimestamp(began / 1000, UTC).strftime("%H:%M:%S,%f")[:-3]
        cost = self._life.now() - began
        return bean(
            bizInfos=[fastjson.runtime_object(biz)],
            code="SUCCESS",
            elapsedSpace=self._metaspace_used - used,
            message=f"Install Biz: {biz.identity} success, cost: {cost} ms, started at: {started_at}",
        )

    async def _install_batch(self, request: BizRequest) -> Json:
        """Install many modules side by side; raises JavaError when one URL cannot be opened, and nothing is done."""
        for item in request.items:
            fetch(item.url, self._profile.jars)
        used = self._metaspace_used
        answers = await asyncio.gather(*(self._install_item(item) for item in request.items))
        positive = all(answer["code"] == "SUCCESS" for answer in answers)
        return bean(
            bizUrlToResponse={item.url: answer for item, answer in zip(request.items, answers, strict=True)},
            code="SUCCESS" if positive else "FAILED",
            elapsedSpace=self._metaspace_used - used,
            message="batch install success" if positive else "batch install failed",
        )

    async def _uninstall(self, request: BizRequest) -> Json:
        """Uninstall a module; raises JavaError while it starts, or when its stop throws."""
        if request.name == self._profile.name:
            return bean(code="FAILED", message="Master biz must not be uninstalled.")
        identity = request.identity
        biz = self._runtime.modules.get(identity)
        if biz is None:
            return bean(code="NOT_FOUND_BIZ", message=f"Uninstall biz: {identity} not found.")
        if biz.stoppable and hit(self._life.faults.fail_uninstall, request.name, request.version):
            problem = thrown("java.lang.IllegalStateException", f"module {identity} failed to stop")
            self._runtime.broke(biz, self._life.now(), "Uninstall Failed", problem)
            raise problem
        self._runtime.uninstall(biz)
        return bean(code="SUCCESS", message=f"Uninstall biz: {identity} success.")

    async def _switch(self, request: BizRequest) -> Json:
        """Make one version of a module the serving one."""
        biz = self._runtime.modules.get(request.identity)
        if biz is None:
            return bean(code="NOT_FOUND_BIZ", message=f"Switch biz: {request.identity} not found.")
        if self._runtime.switch(biz, self._life.now()):
            return bean(code="SUCCESS", message=f"Switch biz: {request.identity} is activated.")
        message = f"Switch Biz: {request.identity}'s state must not be {biz.state.value}."
        return bean(code="ILLEGAL_STATE_BIZ", message=message)

    async def _install_item(self, request: BizRequest) -> Json:
        try:
            answer = await self._install(request)
        except JavaError as error:
            return bean(code="FAILED", message=f"internal exception: {error.detail}")
        # It is reported for the whole batch only.
        return {key: value for key, value in answer.items() if key != "elapsedSpace"}

    def _problem(self, biz: Biz) -> JavaError | None:
        if hit(self._life.faults.fail_install, biz.name, biz.version):
            return start_failed(biz.identity, biz.main_class)
        if self._runtime.path_taken(biz):
            return path_taken(biz.path)
        if 0 <= self._profile.metaspace_max < self._metaspace_used:
            return thrown("java.lang.OutOfMemoryError", "Metaspace")
        return None

    @property
    def _metaspace_used(self) -> int:
        return self._profile.metaspace_used + len(self._runtime.modules) * self._profile.metaspace_per_module

    # Questions.

    def _process(self, parameters: Json | None) -> Json:
        """Answer as a base that ran no command asynchronously."""
        if parameters is None:
            raise null_pointer()
        if not text(fields(parameters).get("requestid")).strip():
            raise invalid("requestId is blank")
        return failed(self._profile.identity, "Not found the corresponding ops record.")

    def _health(self) -> Json:
        master = fastjson.master(self._profile)
        found = {
            "jvm": fastjson.jvm(self._profile, self._metaspace_used, self._life.uptime()),
            "cpu": fastjson.cpu(self._life.uptime()),
            "masterBizInfo": master,
            "pluginListInfo": fastjson.PLUGINS,
            "bizListInfo": [master, *map(fastjson.health_entry, self.modules())],
        }
        return succeeded(self._profile.identity, {"healthData": found})
