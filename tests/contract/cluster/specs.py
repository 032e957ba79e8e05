"""Objects that tests of both clusters make."""

from controlplane.domain.contract import COMPONENT
from controlplane.domain.objects import (
    Condition,
    Container,
    NewPod,
    Taint,
    Toleration,
)

NS = "default"


THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
READY = Condition("Ready", "True", "BaseReady", "the base answers", NOW)


VIRTUAL = Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute")


def new_pod(env: str) -> NewPod:
    container = Container(
        "biz1", "https://repo.example/biz1.jar", "0.0.1", ("--a=b",), (("BIZ_VERSION", "0.0.1"), ("K", "V"))
    )
    tolerations = (Toleration(VIRTUAL.key, "Equal", VIRTUAL.value, VIRTUAL.effect),)
    return NewPod(NS, f"biz1-{env}", f"vnode.base.{env}", container, {COMPONENT: "module"}, {}, tolerations)
