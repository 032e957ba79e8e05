"""docs/pods.md has the tables of the control plane."""

import pytest

from docs import pods


def test_the_tables_are_those_of_the_control_plane() -> None:
    page = pods.PAGE.read_text(encoding="utf-8")
    assert page == pods.page(page), "run: make docs"


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the fields of pods"):
        pods.page("# Pods")
