"""Which endpoints a gateway keeps a stream to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.directory import Directory


def named(replica: str, address: str) -> pb.Member:
    return pb.Member(replica_id=replica, address=address)


def serving(*streams: tuple[str, str]) -> Directory:
    """Return a directory with a stream to each (endpoint, replica); every replica names all of them."""
    directory = Directory()
    for endpoint, replica in streams:
        directory.answered(endpoint, replica)
        directory.members(replica, [named(r, e) for e, r in streams])
        directory.serves(endpoint, replica)
    return directory


def test_a_configured_endpoint_is_preferred_to_what_a_replica_says() -> None:
    directory = Directory()
    directory.configure(["127.0.0.1:1"])
    assert directory.wanted() == {"127.0.0.1:1"}
    directory.answered("127.0.0.1:1", "r1")
    directory.members("r1", [named("r1", "pod-1:1"), named("r2", "pod-2:1")])
    assert directory.wanted() == {"127.0.0.1:1", "pod-2:1"}


def test_one_replica_behind_two_endpoints_is_reached_once() -> None:
    directory = Directory()
    directory.configure(["a:1", "b:1"])
    directory.answered("a:1", "r1")
    directory.answered("b:1", "r1")
    assert directory.wanted() == {"a:1"}
    directory.unreachable("a:1")
    assert directory.wanted() == {"a:1", "b:1"}


def test_a_member_that_left_is_not_wanted() -> None:
    directory = serving(("a:1", "r1"), ("b:1", "r2"))
    directory.members("r1", [named("r1", "a:1")])
    assert directory.wanted() == {"a:1", "b:1"}, "its stream still works"
    directory.ended("r2")
    assert directory.wanted() == {"a:1"}


def test_a_service_address_that_leads_elsewhere_after_a_reconnect() -> None:
    directory = Directory()
    directory.configure(["service:1"])
    directory.answered("service:1", "r1")
    directory.members("r1", [named("r1", "pod-1:1"), named("r2", "pod-2:1")])
    directory.answered("pod-2:1", "r2")
    directory.answered("service:1", "r2")
    assert directory.wanted() == {"service:1", "pod-1:1"}


def test_an_empty_list_of_members_says_nothing() -> None:
    directory = Directory()
    directory.members("r1", [named("r1", "a:1")])
    directory.members("r1", [])
    assert directory.wanted() == {"a:1"}


def test_a_new_replica_is_reached_at_the_address_of_one_that_left() -> None:
    directory = serving(("a:1", "old"), ("b:1", "r2"))
    directory.ended("old")
    directory.members("r2", [named("r2", "b:1")])
    directory.members("r2", [named("r2", "b:1"), named("new", "a:1")])
    assert directory.wanted() == {"a:1", "b:1"}


def test_a_replica_that_knows_only_itself_takes_no_stream_from_others() -> None:
    directory = serving(("a:1", "r1"), ("b:1", "r2"))
    directory.answered("c:1", "new")
    directory.members("new", [named("new", "c:1")])
    directory.serves("c:1", "new")
    assert directory.wanted() == {"a:1", "b:1", "c:1"}
    directory.ended("r1")
    assert directory.wanted() == {"a:1", "b:1", "c:1"}, "another one names it"


def test_while_no_stream_is_left_every_way_that_was_known_is_tried() -> None:
    directory = serving(("a:1", "r1"), ("b:1", "r2"))
    directory.ended("r1")
    directory.ended("r2")
    assert directory.wanted() == {"a:1", "b:1"}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=60))
def test_rollouts_leave_nothing_behind(rollouts: list[tuple[int, int]]) -> None:
    """Replicas come under new names, at addresses that are used again, and leave in order."""
    directory = Directory()
    directory.configure(["service:1"])
    directory.answered("service:1", "r")
    directory.members("r", [named("r", "service:1")])
    directory.serves("service:1", "r")
    for address, number in rollouts:
        name, endpoint = f"r{number}", f"10.0.0.{address}:1"
        directory.members("r", [named("r", "service:1"), named(name, endpoint)])
        assert endpoint in directory.wanted()
        directory.answered(endpoint, name)
        directory.members(name, [named(name, endpoint)])
        directory.serves(endpoint, name)
        directory.ended(name)
        directory.members("r", [named("r", "service:1")])
        assert directory.wanted() == {"service:1"}
    assert len(directory._answered) + len(directory._named) <= 2
