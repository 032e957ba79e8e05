"""Persons steer releases in batches: what they say is written into the Deployment, and the release follows that."""

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import About
from controlplane.app.tooling.refusals import Missing, NotAllowed, RequestError
from controlplane.domain.contract import (
    ANNOTATION_ABORT,
    ANNOTATION_BATCHES,
    ANNOTATION_CONFIRMED,
    ANNOTATION_RELEASE,
    ANNOTATION_REQUESTED_BY,
    ENV,
)
from controlplane.domain.objects import ModuleDeployment
from controlplane.domain.workloads.release import State, read
from controlplane.rpc.access.guard import CALLER
from controlplane.rpc.refusals import Context
from controlplane.rpc.tooling.calls import Calls


class Releases(Calls):
    """Confirms and aborts. A call that is sent again does nothing more, since it names revision and batch."""

    async def ConfirmRollout(self, request: pb.ConfirmRolloutRequest, context: Context) -> pb.ConfirmRolloutResponse:
        """Let a release in batches go on after a batch."""
        async with self.answering(context, changes=True):
            deployment, state = self._releasing(request.workload, request.revision)
            if not state.at_rest and request.batch > state.batch:
                raise NotAllowed(f"revision {state.number} is at batch {state.batch}, not {request.batch}")
            if not state.at_rest and request.batch == state.batch:
                if state.failed and not request.failed:
                    raise NotAllowed(f"batch {state.batch} failed: {state.failed}; confirm it as failed to go on")
                await self._write(deployment, "confirm", request.request_id, ANNOTATION_CONFIRMED, state.name)
            return pb.ConfirmRolloutResponse(revision=state.number, batch=request.batch)

    async def AbortRollout(self, request: pb.AbortRolloutRequest, context: Context) -> pb.AbortRolloutResponse:
        """Have a release in batches go back to the revision before."""
        async with self.answering(context, changes=True):
            deployment, state = self._releasing(request.workload, request.revision)
            if state.at_rest:
                raise NotAllowed(f"revision {state.number} is released: kubectl rollout undo goes back")
            await self._write(deployment, "abort", request.request_id, ANNOTATION_ABORT, str(state.number))
            return pb.AbortRolloutResponse(revision=state.number)

    def _releasing(self, ref: pb.ObjectRef, revision: int) -> tuple[ModuleDeployment, State]:
        """Return a Deployment of which this is the newest revision, and how far it is. Raises RequestError."""
        if ref.kind != "Deployment" or not ref.name:
            raise RequestError("a Deployment is needed: nothing else is released in batches", "workload")
        key = f"{ref.namespace or 'default'}/{ref.name}"
        deployment = self.vnodes.cluster.deployments.get(key)
        if deployment is None or deployment.releasing is None:
            raise Missing(f"there is no Deployment {key} with label {ENV} and annotation {ANNOTATION_BATCHES}")
        state = read(deployment.releasing.annotations.get(ANNOTATION_RELEASE, ""))
        if not revision == state.number == deployment.releasing.revision:
            why = deployment.releasing.message or "its release has not begun"
            raise NotAllowed(f"Deployment {key} does not release revision {revision}: {why}")
        return deployment, state

    async def _write(self, deployment: ModuleDeployment, verb: str, request_id: str, name: str, value: str) -> None:
        said = {name: value, ANNOTATION_REQUESTED_BY: CALLER.get().user}
        await self.vnodes.cluster.annotate_deployment(deployment, said)
        about = About("Deployment", deployment.namespace, deployment.name, deployment.uid)
        self.audit.change(verb, request_id, about, f"{name}={value}")
