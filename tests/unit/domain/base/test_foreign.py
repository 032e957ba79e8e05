"""When Pods that are no modules are rejected."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base.foreign import FORGOTTEN, Rejections, finished, paced_by, unremoved
from controlplane.domain.objects import Pod, PodStatus

POD = Pod("ns", "p", "uid", "1", "vnode.b1.dev", ())
DAEMON = replace(POD, owner_uid="o", owner_kind="DaemonSet")


def test_a_daemon_set_is_paced_on_each_node_others_as_a_whole_and_what_nobody_makes_again_not_at_all() -> None:
    assert paced_by(DAEMON) != paced_by(replace(DAEMON, node_name="vnode.b2.dev"))
    replica = replace(POD, owner_uid="o", owner_kind="ReplicaSet")
    assert paced_by(replica) == paced_by(replace(replica, node_name="vnode.b2.dev"))
    assert paced_by(replica) != paced_by(replace(replica, owner_uid="other"))
    assert paced_by(POD) == ""


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1, exclude_max=True)), min_size=2, max_size=30))
def test_a_controller_that_is_always_quick_gets_at_most_one_rejection_a_minute(
    waits: list[tuple[float, float]],
) -> None:
    now, times = 0.0, []
    done = None
    for late, chance in waits:
        now = max(now, done.next_at if done else now) + late
        done = Rejections.after(done, now, chance)
        times.append(now)
    assert all(later - earlier > 59.999 for earlier, later in pairwise(times))
    assert done is not None
    assert 59.999 <= done.next_at - now <= 900.001 * 1.2


def test_after_a_long_time_the_next_rejection_is_the_first_again() -> None:
    done = None
    for _ in range(8):
        done = Rejections.after(done, 0.0, 0.0)
    assert done is not None
    assert done.next_at == 900.0
    assert Rejections.after(done, FORGOTTEN + 1, 0.0).next_at == FORGOTTEN + 61


def test_a_pod_is_finished_when_it_is_terminal_and_its_deletion_does_not_wait_for_a_node() -> None:
    failed = replace(POD, status=PodStatus(phase="Failed"))
    assert finished(failed)
    assert not finished(POD)
    assert not finished(replace(failed, deleting=True, deletion_grace_seconds=30))
    assert unremoved(replace(POD, deleting=True, deletion_grace_seconds=30))
    assert not unremoved(replace(POD, deleting=True, deletion_grace_seconds=0))
    assert finished(replace(failed, deleting=True, deletion_grace_seconds=0))
