"""A gateway keeps one stream to each replica, at an endpoint that is known to lead there."""

from hypothesis import given
from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.directory import Directory


def named(replica: str, address: str) -> pb.Member:
    return pb.Member(replica_id=replica, address=address)


class Scene(Directory):
    """A directory, and the streams that there are by replica."""

    def __init__(self, *streams: tuple[str, str]) -> None:
        """Have a stream to each (endpoint, replica); every replica names all of them."""
        super().__init__()
        self.serving: dict[str, str] = {}
        for endpoint, replica in streams:
            self.answered(endpoint, replica)
            self.members(replica, [named(r, e) for e, r in streams])
            self.serving[replica] = endpoint

    def now_wanted(self) -> frozenset[str]:
        return self.wanted(self.serving)


def test_a_configured_endpoint_is_preferred_to_one_of_a_replica() -> None:
    directory = Scene()
    directory.configure(["127.0.0.1:1"])
    assert directory.now_wanted() == {"127.0.0.1:1"}
    directory.answered("127.0.0.1:1", "r1")
    directory.members("r1", [named("r1", "pod-1:1"), named("r2", "pod-2:1")])
    assert directory.now_wanted() == {"127.0.0.1:1", "pod-2:1"}


def test_one_replica_behind_two_endpoints_is_reached_once() -> None:
    directory = Scene()
    directory.configure(["a:1", "b:1"])
    directory.answered("a:1", "r1")
    directory.answered("b:1", "r1")
    assert directory.now_wanted() == {"a:1"}
    directory.unreachable("a:1")
    assert directory.now_wanted() == {"a:1", "b:1"}


def test_a_member_that_left_is_not_wanted() -> None:
    directory = Scene(("a:1", "r1"), ("b:1", "r2"))
    directory.members("r1", [named("r1", "a:1")])
    assert directory.now_wanted() == {"a:1", "b:1"}, "its stream still works"
    del directory.serving["r2"]
    assert directory.now_wanted() == {"a:1"}


def test_a_service_address_may_lead_elsewhere_after_a_reconnect() -> None:
    directory = Scene()
    directory.configure(["service:1"])
    directory.answered("service:1", "r1")
    directory.members("r1", [named("r1", "pod-1:1"), named("r2", "pod-2:1")])
    directory.answered("pod-2:1", "r2")
    directory.answered("service:1", "r2")
    assert directory.now_wanted() == {"service:1", "pod-1:1"}


def test_an_empty_list_of_members_is_ignored() -> None:
    directory = Scene()
    directory.members("r1", [named("r1", "a:1")])
    directory.members("r1", [])
    assert directory.now_wanted() == {"a:1"}


def test_a_new_replica_is_reached_at_the_address_of_one_that_left() -> None:
    directory = Scene(("a:1", "old"), ("b:1", "r2"))
    del directory.serving["old"]
    directory.members("r2", [named("r2", "b:1")])
    directory.members("r2", [named("r2", "b:1"), named("new", "a:1")])
    assert directory.now_wanted() == {"a:1", "b:1"}


def test_a_replica_that_knows_only_itself_takes_no_stream_from_others() -> None:
    directory = Scene(("a:1", "r1"), ("b:1", "r2"))
    directory.answered("c:1", "new")
    directory.members("new", [named("new", "c:1")])
    directory.serving["new"] = "c:1"
    assert directory.now_wanted() == {"a:1", "b:1", "c:1"}
    del directory.serving["r1"]
    assert directory.now_wanted() == {"a:1", "b:1", "c:1"}, "another one names it"


def test_while_no_stream_is_left_every_known_endpoint_is_tried() -> None:
    directory = Scene(("a:1", "r1"), ("b:1", "r2"))
    del directory.serving["r1"]
    del directory.serving["r2"]
    assert directory.now_wanted() == {"a:1", "b:1"}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=60))
def test_rollouts_leave_nothing_behind(rollouts: list[tuple[int, int]]) -> None:
    """Replicas come under new names, at addresses that are used again, and leave in order."""
    directory = Scene()
    directory.configure(["service:1"])
    directory.answered("service:1", "r")
    directory.members("r", [named("r", "service:1")])
    directory.serving["r"] = "service:1"
    for address, number in rollouts:
        name, endpoint = f"r{number}", f"10.0.0.{address}:1"
        directory.members("r", [named("r", "service:1"), named(name, endpoint)])
        assert endpoint in directory.now_wanted()
        directory.answered(endpoint, name)
        directory.members(name, [named(name, endpoint)])
        directory.serving[name] = endpoint
        del directory.serving[name]
        directory.members("r", [named("r", "service:1")])
        assert directory.now_wanted() == {"service:1"}
    assert len(directory._answered) + len(directory._named) <= 2
