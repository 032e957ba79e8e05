"""Objects of the API with values of wrong types."""

from typing import Any

from hypothesis import strategies as st

absurd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.lists(st.none() | st.text(max_size=4), max_size=3)
) | st.dictionaries(st.text(max_size=4), st.none() | st.integers(), max_size=2)


def distorted(obj: Any) -> st.SearchStrategy[Any]:
    """The object with any part of it replaced by an absurd value."""
    if isinstance(obj, dict):
        return st.fixed_dictionaries({key: distorted(value) for key, value in obj.items()}) | absurd
    if isinstance(obj, list):
        return st.tuples(*(distorted(value) for value in obj)).map(list) | absurd
    return st.just(obj) | absurd
