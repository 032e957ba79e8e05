"""The commands of arklet that change modules: each returns its answer, or raises JavaError."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from gateways.arklet.fields import Json
from simulatedbase import artifact, fastjson
from simulatedbase.fastjson import BizRequest, bean
from simulatedbase.java import JavaError, path_taken, start_failed, thrown
from simulatedbase.life import Life
from simulatedbase.profile import hit
from simulatedbase.runtime import Biz, Runtime


@dataclass(frozen=True, slots=True)
class Operations:
    """Installs, uninstalls and switches modules of one runtime."""

    life: Life
    runtime: Runtime

    @property
    def metaspace_used(self) -> int:
        """Bytes used by the base and its modules."""
        profile = self.life.profile
        return profile.metaspace_used + len(self.runtime.modules) * profile.metaspace_per_module

    async def install(self, request: BizRequest) -> Json:
        """Install a module; raises JavaError when its jar cannot be had or its start-up throws."""
        fetched = artifact.fetch(request.url, self.life.profile.jars)
        jar = artifact.opened(fetched, request.name, request.version)
        if request.strategy == "uninstallThenInstall":
            for other in self.runtime.versions(jar.name):
                self.runtime.uninstall(other)
        began, used = self.life.now(), self.metaspace_used
        biz = Biz(
            jar.name,
            jar.version,
            main_class=(request.envs or {}).get("sofa.ark.biz.main.class", f"com.example.{jar.name}.Application"),
            path=jar.path or (jar.name if self.life.profile.shared_paths else f"{jar.name}-{jar.version}"),
            work_dir=f"/var/ark/{request.name}-{request.version}-{began}-unpack",
        )
        if not self.runtime.register(biz, began):
            message = f"Biz: {biz.identity} has been installed or registered."
            return bean(code="REPEAT_BIZ", elapsedSpace=0, message=message)
        await asyncio.sleep(self.life.profile.install_time)
        problem = self._problem(biz)
        if problem is not None:
            self.runtime.broke(biz, self.life.now(), "Install Failed", problem)
            raise problem
        self.runtime.started(biz, self.life.now())
        started_at = datetime.fromtimestamp(began / 1000, UTC).strftime("%H:%M:%S,%f")[:-3]
        cost = self.life.now() - began
        return bean(
            bizInfos=[fastjson.runtime_object(biz)],
            code="SUCCESS",
            elapsedSpace=self.metaspace_used - used,
            message=f"Install Biz: {biz.identity} success, cost: {cost} ms, started at: {started_at}",
        )

    async def install_batch(self, request: BizRequest) -> Json:
        """Install many modules side by side; raises JavaError when one URL cannot be opened, and nothing is done."""
        for item in request.items:
            artifact.fetch(item.url, self.life.profile.jars)
        used = self.metaspace_used
        answers = await asyncio.gather(*(self._install_item(item) for item in request.items))
        positive = all(answer["code"] == "SUCCESS" for answer in answers)
        return bean(
            bizUrlToResponse={item.url: answer for item, answer in zip(request.items, answers, strict=True)},
            code="SUCCESS" if positive else "FAILED",
            elapsedSpace=self.metaspace_used - used,
            message="batch install success" if positive else "batch install failed",
        )

    async def uninstall(self, request: BizRequest) -> Json:
        """Uninstall a module; raises JavaError while it starts, or when its stop throws."""
        if request.name == self.life.profile.name:
            return bean(code="FAILED", message="Master biz must not be uninstalled.")
        identity = request.identity
        biz = self.runtime.modules.get(identity)
        if biz is None:
            return bean(code="NOT_FOUND_BIZ", message=f"Uninstall biz: {identity} not found.")
        if biz.stoppable and hit(self.life.faults.fail_uninstall, request.name, request.version):
            problem = thrown("java.lang.IllegalStateException", f"module {identity} failed to stop")
            self.runtime.broke(biz, self.life.now(), "Uninstall Failed", problem)
            raise problem
        self.runtime.uninstall(biz)
        return bean(code="SUCCESS", message=f"Uninstall biz: {identity} success.")

    async def switch(self, request: BizRequest) -> Json:
        """Make one version of a module the serving one."""
        biz = self.runtime.modules.get(request.identity)
        if biz is None:
            return bean(code="NOT_FOUND_BIZ", message=f"Switch biz: {request.identity} not found.")
        if self.runtime.switch(biz, self.life.now()):
            return bean(code="SUCCESS", message=f"Switch biz: {request.identity} is activated.")
        message = f"Switch Biz: {request.identity}'s state must not be {biz.state.value}."
        return bean(code="ILLEGAL_STATE_BIZ", message=message)

    async def _install_item(self, request: BizRequest) -> Json:
        try:
            answer = await self.install(request)
        except JavaError as error:
            return bean(code="FAILED", message=f"internal exception: {error.detail}")
        # It is reported for the whole batch only.
        return {key: value for key, value in answer.items() if key != "elapsedSpace"}

    def _problem(self, biz: Biz) -> JavaError | None:
        if hit(self.life.faults.fail_install, biz.name, biz.version):
            return start_failed(biz.identity, biz.main_class)
        if self.runtime.path_taken(biz):
            return path_taken(biz.path)
        if 0 <= self.life.profile.metaspace_max < self.metaspace_used:
            return thrown("java.lang.OutOfMemoryError", "Metaspace")
        return None
