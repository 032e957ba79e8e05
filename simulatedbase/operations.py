"""The commands of arklet that change modules: one at a time for each name:version, at once or in the background.

Results are pairs of a ClientResponse (or nothing) and the word that arklet puts
beside a negative one; exceptions of the JVM are JavaError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from gateways.arklet.fields import Json
from simulatedbase import artifact, rendering
from simulatedbase.artifact import Jar
from simulatedbase.java import JavaError, invalid, path_taken, start_failed, stop_failed, thrown
from simulatedbase.profile import Faults, Profile
from simulatedbase.rendering import bean
from simulatedbase.request import BizRequest
from simulatedbase.runtime import Biz, Runtime


class Operations:
    """Installs, uninstalls and switches modules of one runtime."""

    def __init__(self, profile: Profile, faults: Faults, runtime: Runtime, now: Callable[[], int]) -> None:
        self._profile = profile
        self._faults = faults
        self._runtime = runtime
        self._now = now

    @property
    def metaspace_used(self) -> int:
        """Bytes used by the base and its modules."""
        return self._profile.metaspace_used + len(self._runtime.modules()) * self._profile.metaspace_per_module

    async def install(self, request: BizRequest) -> Json:
        """Install a module; raises JavaError when its jar cannot be had or its start-up throws."""
        fetched = artifact.fetch(request.url, self._profile.jars)
        jar = artifact.opened(fetched, request.name, request.version)
        name, version = jar.name, jar.version
        if request.strategy == "uninstallThenInstall":
            self._runtime.uninstall_all(name)
        began = self._now()
        used = self.metaspace_used
        main_class = dict(request.envs or ()).get("sofa.ark.biz.main.class", f"com.example.{name}.Application")
        path = jar.path or (name if self._profile.shared_paths else f"{name}-{version}")
        work_dir = f"/var/ark/{request.name}-{request.version}-{began}-unpack"
        biz = self._runtime.register(name, version, began, main_class, path=path, work_dir=work_dir)
        if biz is None:
            return bean(
                code="REPEAT_BIZ",
                elapsedSpace=0,
                message=f"Biz: {name}:{version} has been installed or registered.",
            )
        await asyncio.sleep(self._profile.install_time)
        problem = self._problem(biz)
        if problem is not None:
            self._runtime.failed(biz, self._now(), problem.trace)
            raise problem
        self._runtime.started(biz, self._now())
        started_at = datetime.fromtimestamp(began / 1000, UTC).strftime("%H:%M:%S,%f")[:-3]
        cost = self._now() - began
        message = f"Install Biz: {biz.identity} success, cost: {cost} ms, started at: {started_at}"
        return bean(
            bizInfos=[rendering.runtime_object(biz)],
            code="SUCCESS",
            elapsedSpace=self.metaspace_used - used,
            message=message,
        )

    async def install_batch(self, requests: list[BizRequest]) -> Json:
        """Install many modules side by side; raises JavaError when one URL cannot be opened, and nothing is done."""
        for request in requests:
            artifact.fetch(request.url, self._profile.jars)
        used = self.metaspace_used
        answers = await asyncio.gather(*(self._install_item(request) for request in requests))
        positive = all(answer["code"] == "SUCCESS" for answer in answers)
        return bean(
            bizUrlToResponse={request.url: answer for request, answer in zip(requests, answers, strict=True)},
            code="SUCCESS" if positive else "FAILED",
            elapsedSpace=self.metaspace_used - used,
            message="batch install success" if positive else "batch install failed",
        )

    def uninstall(self, request: BizRequest) -> Json:
        """Uninstall a module; raises JavaError while it starts, or when its stop throws."""
        if request.name == self._profile.name:
            return _response("FAILED", "Master biz must not be uninstalled.")
        identity = f"{request.name}:{request.version}"
        biz = self._runtime.get(request.name, request.version)
        if biz is not None and biz.stoppable and self._faults.fails_uninstall(request.name, request.version):
            problem = stop_failed(identity)
            self._runtime.not_stopped(biz, self._now(), problem.trace)
            raise problem
        if self._runtime.uninstall(request.name, request.version):
            return _response("SUCCESS", f"Uninstall biz: {identity} success.")
        return _response("NOT_FOUND_BIZ", f"Uninstall biz: {identity} not found.")

    def switch(self, request: BizRequest) -> Json:
        """Make one version of a module the serving one."""
        biz = self._runtime.get(request.name, request.version)
        identity = f"{request.name}:{request.version}"
        if biz is None:
            return _response("NOT_FOUND_BIZ", f"Switch biz: {identity} not found.")
        if self._runtime.switch(request.name, request.version, self._now()):
            return _response("SUCCESS", f"Switch biz: {identity} is activated.")
        return _response("ILLEGAL_STATE_BIZ", f"Switch Biz: {identity}'s state must not be {biz.state.value}.")

    async def _install_item(self, request: BizRequest) -> Json:
        try:
            answer = await self.install(request)
        except JavaError as error:
            return _response("FAILED", f"internal exception: {error.detail}")
        # It is told for the whole batch only.
        return {key: value for key, value in answer.items() if key != "elapsedSpace"}

    def _problem(self, biz: Biz) -> JavaError | None:
        if self._faults.fails_install(biz.name, biz.version):
            return start_failed(biz.identity, biz.main_class)
        if self._runtime.path_taken(biz):
            return path_taken(biz.path)
        if 0 <= self._profile.metaspace_max < self.metaspace_used:
            return thrown("java.lang.OutOfMemoryError", "Metaspace")
        return None


def complete_install(request: BizRequest, jars: Mapping[str, Jar]) -> BizRequest:
    """Check the parameters of an installation, taking name and version from the jar when neither is given.

    Raises JavaError.
    """
    if not request.url.strip():
        raise invalid("bizUrl should not be blank")
    if bool(request.name) != bool(request.version):
        raise invalid("bizName and bizVersion should be both blank or both not blank.")
    if request.name:
        return request
    name, version = artifact.named_by_file(request.url, jars)
    return replace(request, name=name, version=version)


def _response(code: str, message: str) -> Json:
    return bean(code=code, message=message)
