"""The stage of the main scenario, and kubectl."""

from tests.integration.main_job.conftest import Stage, idle_stage, programs, stage

__all__ = ["idle_stage", "programs", "stage"]


def run_kubectl(stage: Stage, *arguments: str) -> str:
    """Run kubectl as admin and return what it prints."""
    done = stage.kube.kubectl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
