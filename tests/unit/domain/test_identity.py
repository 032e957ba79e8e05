"""Identities of bases: which are accepted, and that Node names lead back to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.identity import InvalidName, base_of_node, node_name, parse_base_id, parse_env

LABELS = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?\Z")


@pytest.mark.parametrize("text", ["10.0.0.7", "a", "base-1", "4fa3-x.y"])
def test_good_identities_are_accepted(text: str) -> None:
    assert parse_base_id(text, "dev") == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "missing"),
        ("Base", "DNS-1123"),
        ("unknown-Ab3Xy", "DNS-1123"),
        ("a/b", "DNS-1123"),
        ("a+b", "DNS-1123"),
        ("#", "DNS-1123"),
        ("-a", "DNS-1123"),
        ("a.", "DNS-1123"),
        ("a\n", "DNS-1123"),
        ("x" * 300, "DNS-1123"),
        (".".join(["x" * 61] * 4), "longer than 253"),
    ],
)
def test_bad_identities_are_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why):
        parse_base_id(text, "dev")


@given(st.lists(LABELS, min_size=1, max_size=4), LABELS)
def test_node_names_lead_back_to_the_base(parts: list[str], env: str) -> None:
    base = parse_base_id(".".join(parts), env)
    assert base_of_node(node_name(base, env), env) == base


@pytest.mark.parametrize(
    "name", ["node-1", "vnode", "vnode..dev", "vnode.dev", "vnode.a.prod", "vnode.A.dev", "vnode.a"]
)
def test_other_nodes_are_not_ours(name: str) -> None:
    assert base_of_node(name, "dev") is None


def test_the_environment_is_lower_cased_and_must_be_a_label() -> None:
    assert parse_env("DEV") == "dev"
    for bad in ("a.b", "", "a/b", "x" * 64):
        with pytest.raises(InvalidName):
            parse_env(bad)
