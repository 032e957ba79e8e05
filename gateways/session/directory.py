"""Which endpoints a gateway keeps a stream to, so that there is one to each replica. Pure.

One replica may be wrong about the others: one that has just started, or that does not reach the cluster, knows only
itself. So the members are all those that any replica with a stream names, and a stream that works is kept until it
ends.
"""

from collections.abc import Iterable, Mapping

from koupleless.tunnel.v1 import tunnel_pb2 as pb


class Directory:
    """The configured endpoints (resolved), which replica answered where, and the members that each replica names.

    A replica that answers at a configured endpoint is reached there, whatever address it gives. Every other member is
    reached at its own address. A configured endpoint is tried until it answers. Bounded by the replicas there are.
    """

    def __init__(self) -> None:
        self._configured: tuple[str, ...] = ()
        self._named: dict[str, dict[str, str]] = {}
        """By replica: the members that it named last, with their addresses."""
        self._answered: dict[str, str] = {}
        """By endpoint: the replica that answered there last."""

    def configure(self, endpoints: Iterable[str]) -> None:
        """Replace the configured endpoints."""
        self._configured = tuple(dict.fromkeys(endpoints))

    def members(self, replica: str, members: Iterable[pb.Member]) -> None:
        """Take the members that a replica names; an empty list says nothing."""
        named = {member.replica_id: member.address for member in members if member.replica_id}
        if named:
            self._named[replica] = named

    def answered(self, endpoint: str, replica: str) -> None:
        """The replica said Welcome at the endpoint."""
        self._answered[endpoint] = replica

    def unreachable(self, endpoint: str) -> None:
        """The endpoint keeps failing: every way to its replica may be tried again."""
        replica = self._answered.get(endpoint)
        self._answered = {e: r for e, r in self._answered.items() if e != endpoint and r != replica}

    def wanted(self, serving: Mapping[str, str]) -> frozenset[str]:
        """Return the endpoints to keep a stream to; serving has those of the streams that there are, by replica."""
        members = self._members(serving)
        # What no other one names and has no stream has left.
        self._named = {r: named for r, named in self._named.items() if r in members or r in serving}
        self._answered = {e: r for e, r in self._answered.items() if not members or r in members or r in serving}
        chosen = dict(serving)
        for endpoint, replica in self._answered.items():
            if not members or replica in members:
                chosen.setdefault(replica, endpoint)
        for replica, address in members.items():
            if address and (address not in self._answered or self._answered[address] == replica):
                chosen.setdefault(replica, address)
        unanswered = (endpoint for endpoint in self._configured if endpoint not in self._answered)
        return frozenset([*chosen.values(), *unanswered])

    def _members(self, serving: Mapping[str, str]) -> dict[str, str]:
        """Return all members that replicas with a stream name, or that any named last if there is no stream.

        What a replica says of its own address comes first.
        """
        speakers = [replica for replica in self._named if replica in serving] or list(self._named)
        members: dict[str, str] = {}
        for speaker in speakers:
            members = self._named[speaker] | members
        return members | {s: self._named[s][s] for s in speakers if s in self._named[s]}
