"""Which release of a module a base has, and whether a Pod wants another one.

Name and version do not identify the content: a Pod's image can be changed in place while BIZ_VERSION stays, and teams
release the same version again. So what was installed is remembered with the module, as a digest of where it came from
and, for the strategy ``force``, with the Pod that it was installed for:

    same digest, no force      the module is shared, whoever wants it
    another digest             it is installed again for the newest Pod
    force, and a newer Pod     it is installed again for that Pod

A module of which nothing is remembered (installed by a baseline, by hand, or by the original) is taken as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.domain.base.environment import content, facts_of
from controlplane.domain.contract import ANNOTATION_INSTALL_STRATEGY
from controlplane.domain.facts import InstallStrategy
from controlplane.domain.identity import ModuleKey, parse_module_key
from controlplane.domain.objects import Container, Pod
from controlplane.domain.sharing import shared

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Release:
    """What a module was or is to be installed from.

    digest is empty when it is not known. pod (a UID) and created (RFC 3339) name the Pod that asked for an installation
    of its own, and are empty otherwise.
    """

    digest: str = ""
    pod: str = ""
    created: str = ""

    def __str__(self) -> str:
        return "/".join((self.digest, self.pod, self.created)) if self.pod else self.digest


UNKNOWN = Release()

MISTAKEN = Release("mistaken")
"""Of a module that an order of ours installed in place of the one it named: no Pod asked for it in this form."""


def release(pod: Pod, container: Container) -> Release:
    """Return what a Pod wants installed for one of its containers.

    The digest is recorded in the cluster: computing it in another way would install every module again.
    """
    text = json.dumps(content(container, facts_of(pod)), separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    if pod.annotations.get(ANNOTATION_INSTALL_STRATEGY) == InstallStrategy.FORCE.value:
        return Release(digest, pod.uid, pod.creation_timestamp)
    return shared(Release(digest))


def outdated(present: Release, wanted: Release) -> bool:
    """Return whether a module must be installed again to be what is wanted."""
    if not present.digest:
        return False
    if present.digest != wanted.digest:
        return True
    return bool(wanted.pod) and wanted.pod != present.pod and wanted.created >= present.created


def record(owned: Mapping[ModuleKey, Release]) -> str:
    """Return the modules that are ours, with their releases, as they stand in the Lease's annotation."""
    return json.dumps({str(key): str(owned[key]) for key in sorted(owned)}, separators=(",", ":"))


def recorded(text: str) -> dict[ModuleKey, Release]:
    """Read what record wrote; what cannot be read is left out."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(items, dict):
        return {}
    found = {}
    for name, value in items.items():
        key = parse_module_key(name)
        if key is not None and isinstance(value, str):
            digest, _, asked_by = value.partition("/")
            pod, _, created = asked_by.partition("/")
            found[key] = Release(digest, pod, created) if pod else shared(Release(digest), len(digest))
    return found
