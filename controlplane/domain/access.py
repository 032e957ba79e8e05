"""Callers and what they may do, in the words of Kubernetes: a verb on a resource."""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    extra are further attributes of the user, as the API server gives them. role is that of a token of this machine;
    without one the API server says what the caller may do.
    """

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    role: "Role | None" = None

    @property
    def pod(self) -> str:
        """Name of the Pod that a service account's token is bound to; empty when it is bound to none."""
        return next((values[0] for key, values in self.extra if key == POD_NAME and values), "")


POD_NAME = "authentication.kubernetes.io/pod-name"
"""Extra attribute of service accounts whose token is bound to a Pod (Kubernetes: authentication/serviceaccount)."""


class Role(Enum):
    """What holders of a token of this machine may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    GATEWAY = "gateway"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True)
class Access:
    """What a call does, as attributes of a SubjectAccessReview; empty names and namespaces mean all of them."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        """Return it as kubectl auth can-i has it."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        resource += f"/{self.subresource}" if self.subresource else ""
        named = f" {self.name}" if self.name else ""
        return f"{self.verb} {resource}{named}" + (f" in namespace {self.namespace}" if self.namespace else "")


_READ = frozenset({"get", "list", "watch"})
_CHANGED_BY_OPERATORS = frozenset(
    {("", "pods"), ("apps", "deployments"), ("apps", "daemonsets"), ("coordination.k8s.io", "leases")}
)


def role_allows(role: Role, access: Access) -> bool:
    """Return whether a role of this machine may do it: viewers read, operators change modules too, admins anything."""
    match role:
        case Role.ADMIN:
            return True
        case Role.OPERATOR:
            return access.verb in _READ or (access.group, access.resource) in _CHANGED_BY_OPERATORS
        case Role.VIEWER:
            return access.verb in _READ
        case _:
            return False
