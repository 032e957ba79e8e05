"""Settings of what VNodes show to the cluster."""

from typing import Annotated

from pydantic import Field, field_validator

from controlplane.domain import quantities
from controlplane.domain.base.vnode import MOST_PODS, HostnameLabel, NodePolicy
from controlplane.domain.identity import QUALIFIED_NAME
from service.settings import Settings


def offered(text: str) -> dict[str, str]:
    """Return the resources of VNODE_RESOURCES, as the API server writes them; raises ValueError."""
    found: dict[str, str] = {}
    for part in text.split(",") if text.strip() != "none" else ():
        name, equals, size = (each.strip() for each in part.partition("="))
        quantity = quantities.canonical(size)
        if not equals or not QUALIFIED_NAME.fullmatch(name) or name == "pods" or quantity is None:
            raise ValueError(f"{part.strip()!r} is not RESOURCE=QUANTITY; give cpu=100,memory=64Gi, or none")
        found[name] = quantity
    return found


class VNodeSettings(Settings):
    """Variables of VNodes."""

    vnode_resources: str = Field(
        "cpu=1000,memory=1Ti,ephemeral-storage=1Ti",
        description="what each VNode offers the scheduler of resources that its base does not limit, so that Pods that "
        "request it are placed: RESOURCE=QUANTITY, comma separated, or none; limited metaspace goes before memory",
    )
    vnode_cpu: str = Field(
        "",
        description="CPUs that each VNode offers the scheduler, a quantity; none: those of the base's machine, and "
        "where the base does not report them, cpu of VNODE_RESOURCES",
    )
    max_modules_per_base: Annotated[int, Field(ge=1, le=MOST_PODS)] = Field(
        MOST_PODS,
        description="Pods of modules that the scheduler places on one base at most; a base's Pod with the label "
        "koupleless.alipay.com/max-module-count may allow less",
    )
    vnode_hostname_label: HostnameLabel = Field(
        HostnameLabel.NODE,
        description="what the label kubernetes.io/hostname of a VNode has: node (its name, so that bases of one host "
        "differ) or host (the host's name, as the Go Module Controller V2)",
    )

    vnode_provider_id: bool = Field(
        False,
        description="true: spec.providerID of a VNode is koupleless://NODE, which keeps controllers of clouds that "
        "look for a machine of its name from deleting it (docs/clouds.md); a Node keeps it once it has it",
    )

    @field_validator("vnode_resources")
    @classmethod
    def _vnode_resources(cls, value: str) -> str:
        offered(value)
        return value

    @field_validator("vnode_cpu")
    @classmethod
    def _vnode_cpu(cls, value: str) -> str:
        quantity = quantities.canonical(value) if value else ""
        if quantity is None:
            raise ValueError("not a quantity of CPUs; give 8 or 500m, or leave it out")
        return quantity

    @property
    def nodes(self) -> NodePolicy:
        """What all VNodes have in common."""
        return NodePolicy(
            resources=offered(self.vnode_resources),
            cpu=self.vnode_cpu,
            pods=self.max_modules_per_base,
            hostname=self.vnode_hostname_label,
            provider_id=self.vnode_provider_id,
        )
