"""Each path is answered by its row of the table, and by nothing else."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kubelet.routes import NOT_OFFERED, Answer, Route, Routes
from service.refusals import RequestRefused

LOGS, HEALTH, RUN = (cast("Answer", name) for name in ("logs", "health", "run"))
TABLE = Routes(
    [
        Route("/healthz", HEALTH),
        Route("/containerLogs/*/*/*", LOGS),
        Route("/exec/*/*/*", RUN, ("GET", "POST")),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/healthz", (HEALTH, ())),
        ("GET", "/containerLogs/a/b/c", (LOGS, ("a", "b", "c"))),
        ("POST", "/exec/a/b/c", (RUN, ("a", "b", "c"))),
    ],
)
def test_a_path_is_answered_by_its_row(method: str, path: str, found: Any) -> None:
    assert TABLE.find(method, path) == found


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "", 404),
        ("GET", "healthz", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/containerLogs/a/b/", 404),
        ("GET", "/containerLogs//b/c", 404),
        ("GET", "/containerLogs/a/b/c/d", 404),
        ("POST", "/containerLogs/a/b/c", 405),
        ("PUT", "/exec/a/b/c", 405),
        ("POST", "/exec/a/b", 501),
        ("GET", "/logs/", 501),
    ],
)
def test_what_has_no_row_is_refused(method: str, path: str, status: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        TABLE.find(method, path)
    assert refused.value.status == status


@given(st.lists(st.text(alphabet="a*/", max_size=3), max_size=6).map("/".join))
def test_names_of_any_path_are_whole_and_not_empty(path: str) -> None:
    names = Route("/a/*/*", LOGS).names(path)
    assert (names is not None) == (
        path.split("/")[:2] == ["", "a"] and path.count("/") == 3 and "" not in path.split("/")[2:]
    )
    assert names is None or f"/a/{'/'.join(names)}" == path


def test_what_is_answered_is_not_in_the_list_of_what_is_not() -> None:
    assert "containerLogs" not in NOT_OFFERED
