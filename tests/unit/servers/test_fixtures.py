"""What a test run reports about missing servers."""

import pytest

from tests.servers.fixtures import left_out, not_run


def test_the_last_line_counts_reasons() -> None:
    assert left_out([]) == "left out: nothing"
    assert left_out(["b", "a", "a"]) == "left out: 2 x a; 1 x b"


@pytest.mark.parametrize("value", [None, "", "0"])
def test_a_test_without_its_server_is_skipped(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_KUBERNETES", raising=False)
    if value is not None:
        monkeypatch.setenv("REQUIRE_KUBERNETES", value)
    with pytest.raises(pytest.skip.Exception, match="kubernetes: not run: no Go"):
        not_run("kubernetes", "no Go")


def test_a_test_without_a_required_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_KUBERNETES", "1")
    with pytest.raises(pytest.fail.Exception, match="kubernetes: not run: no Go"):
        not_run("kubernetes", "no Go")
