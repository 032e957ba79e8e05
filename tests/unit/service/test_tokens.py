"""Tokens that are bound to a base."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.process import StartError
from service.tokens import Key, WrongKeys, identity_of, parse_keys, read_keys

OLD, NEW = Key(b"o" * 32), Key(b"n" * 32)
IDENTITIES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,40}[a-z0-9])?", fullmatch=True)


@given(IDENTITIES)
def test_a_token_names_its_base_and_its_key(identity: str) -> None:
    token = NEW.token(identity)
    assert identity_of(token, (OLD, NEW)) == identity
    assert token.startswith(f"{NEW.id}.")
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", token), "safe in a path of a URL"


@given(IDENTITIES, IDENTITIES)
def test_a_token_is_for_one_base(one: str, other: str) -> None:
    forged = NEW.token(one).removesuffix(one) + other
    assert identity_of(forged, (NEW,)) == ("" if one != other else one)


@given(st.text())
def test_any_other_text_is_no_token(text: str) -> None:
    assert identity_of(text, (OLD, NEW)) == ""


@given(st.integers(0, 200), st.characters())
def test_no_character_may_be_another_one(at: int, character: str) -> None:
    token = NEW.token("base-1")
    at %= len(token)
    changed = token[:at] + character + token[at + 1 :]
    assert (identity_of(changed, (NEW,)) != "") is (changed == token)


def test_a_token_ends_with_its_key() -> None:
    token = OLD.token("base-1")
    assert identity_of(token, (NEW, OLD)) == "base-1"
    assert identity_of(token, (NEW,)) == ""
    assert identity_of(token, ()) == ""


def test_vector() -> None:
    """Tokens that were given out stay good in later versions."""
    assert Key(b"0123456789abcdef0123456789abcdef").token("base-1") == (
        "7997af38.SKjHaErFYML3Deh0PkgFR1U4iJO--wYiIq1RHRISIlc.base-1"
    )


@pytest.mark.parametrize("identity", ["", "A", "a/b", "a_b", "ä", "a\n", "x" * 254])
def test_what_cannot_be_an_identity_gets_no_token(identity: str) -> None:
    with pytest.raises(ValueError, match="DNS-1123"):
        NEW.token(identity)


def test_keys_are_separated_by_commas_or_lines() -> None:
    assert parse_keys(f"{'n' * 32}, {'o' * 32},") == parse_keys(f"{'n' * 32}\n{'o' * 32}\n") == (NEW, OLD)


@pytest.mark.parametrize(
    "text", ["", ",", "x" * 31, "x" * 1025, "x " * 32, "ä" * 32, ",".join("abc"[n] * 32 for n in range(3))]
)
def test_wrong_keys_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(WrongKeys) as error:
        parse_keys(text)
    assert text.strip(" ,") == "" or text.strip(" ,") not in str(error.value)


def test_keys_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("n" * 32 + "\n")
    assert read_keys("KEYS", str(file)) == read_keys("KEYS", "n" * 32) == (NEW,)
    file.write_bytes(b"\xff" * 40)
    with pytest.raises(StartError, match=f"KEYS={file}: cannot be read \\(not text\\)"):
        read_keys("KEYS", str(file))
    file.unlink()
    with pytest.raises(StartError, match=f"KEYS={file}: cannot be read \\(No such file or directory\\); name a file"):
        read_keys("KEYS", str(file))
    with pytest.raises(StartError, match=r"KEYS=\*{8}: key 1 is not 32"):
        read_keys("KEYS", "short-secret")


def test_a_key_is_not_shown() -> None:
    assert "nnn" not in repr(NEW)
