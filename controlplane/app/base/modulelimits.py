"""How many modules a base may have, as a label of the Pod in which it runs says.

The label is that of the first generation of Koupleless. A base is in the Pod that has its address, and its host name as
name; where a Pod has the address for itself, the address is enough.
"""

from collections import defaultdict

from controlplane.app.ports import Informer
from controlplane.domain.base.vnode import Profile
from controlplane.domain.objects import LimitedPod


class ModuleLimits:
    """Follows the Pods that have the label. Until they are known nothing is known of any base."""

    def __init__(self, pods: Informer[LimitedPod]) -> None:
        self._pods = pods
        self._known: dict[str, LimitedPod] = {}
        self._at: defaultdict[str, dict[str, LimitedPod]] = defaultdict(dict)
        """The Pods of each address, by namespace/name."""
        pods.subscribe(self._changed)

    def of(self, profile: Profile) -> LimitedPod | None:
        """Return the Pod with the label in which a base runs, if it does in one."""
        for pod in self._at.get(profile.address.ip, {}).values():
            if not pod.ended and (pod.name == profile.host_name or not pod.host_network):
                return pod
        return None

    def _changed(self, key: str) -> None:
        before, now = self._known.pop(key, None), self._pods.get(key)
        for address in before.addresses if before is not None else ():
            there = self._at[address]
            there.pop(key, None)
            if not there:
                del self._at[address]
        if now is not None:
            self._known[key] = now
            for address in now.addresses:
                self._at[address][key] = now
