"""Objects that tests of both clusters make."""

from controlplane.domain.contract import COMPONENT
from controlplane.domain.objects import (
    Condition,
    Container,
    Pod,
    Taint,
    Toleration,
)

NS = "default"


THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
READY = Condition("Ready", "True", "BaseReady", "the base answers", NOW)


VIRTUAL = Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute")


def new_pod(env: str) -> Pod:
    container = Container(
        "biz1", "https://repo.example/biz1.jar", "0.0.1", ("--a=b",), (("BIZ_VERSION", "0.0.1"), ("K", "V"))
    )
    tolerations = (Toleration(VIRTUAL.key, "Equal", VIRTUAL.value, VIRTUAL.effect),)
    name, node, labels = f"biz1-{env}", f"vnode.base.{env}", {COMPONENT: "module"}
    return Pod(NS, name, "", "", node, (container,), labels=labels, tolerations=tolerations)
