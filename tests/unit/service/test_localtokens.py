"""The file of this machine's tokens: made once, for its owner only; what cannot be used says why and shows no token."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import localtokens, secrets
from service.localtokens import SHORTEST, LocalToken, WrongTokenFile, make, of_role, parse, read

TOKEN = "t" * SHORTEST


def test_it_is_made_with_a_token_for_each_role_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tokens.csv"
    make(path, ["admin", "viewer"])
    first = read(path)
    assert [(each.user, each.role) for each in first] == [("local-admin", "admin"), ("local-viewer", "viewer")]
    assert len({each.token for each in first}) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    make(path, ["admin"])
    assert read(path) == first
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("users", [1, localtokens.MOST])
def test_all_tokens_of_a_file_are_masked_and_displace_no_other_secret(
    monkeypatch: pytest.MonkeyPatch, users: int
) -> None:
    known = secrets.Registry()
    monkeypatch.setattr(secrets, "KNOWN", known)
    known.register("another", "another-secret")
    tokens = [f"number-{number:09}" for number in range(localtokens.MOST)]
    parse("\n".join(f"{token},user-{number % users},admin" for number, token in enumerate(tokens)))
    assert {known.hidden(text) for text in ("another-secret", *tokens)} == {secrets.MASK}
    with pytest.raises(WrongTokenFile, match="more than"):
        parse("\n".join(f"number-{number:09},user,admin" for number in range(localtokens.MOST + 1)))


def test_programs_that_start_at_once_have_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    threads = [threading.Thread(target=make, args=(path, ["admin"])) for _ in range(16)]
    for thread in threads:
        thread.start()
    seen = set[tuple[LocalToken, ...]]()
    while any(thread.is_alive() for thread in threads) or not seen:
        try:
            seen.add(read(path))
        except FileNotFoundError:
            continue
    assert seen == {read(path)}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens.csv"
    make(path, ["admin"])
    path.chmod(mode)
    with pytest.raises(WrongTokenFile, match=f"chmod 600 {path}"):
        read(path)


def test_a_folder_that_cannot_be_written_is_named_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongTokenFile, match="cannot be made"):
        make(tmp_path / "file" / "tokens.csv", ["admin"])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"{TOKEN},ann", "line 1 is not token,user,role"),
        (f"# who\n\n{TOKEN},ann,admin,more", "line 3 is not token,user,role"),
        ("short,ann,admin", "line 1: a token has at least"),
        (f"{TOKEN} {TOKEN},ann,admin", "line 1: a token has at least"),
        (f"{TOKEN},,admin", "names no user"),
        (f"{TOKEN},ann,admin\n{TOKEN},ben,admin", "line 2 has the token of an earlier line"),
        (f'"{TOKEN},ann,admin', "line 1 is not"),
    ],
)
def test_a_wrong_line_is_named_without_its_token(text: str, cause: str) -> None:
    with pytest.raises(WrongTokenFile, match=cause) as wrong:
        parse(text)
    assert TOKEN not in str(wrong.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except WrongTokenFile:
        return
    assert all(each.token and each.user and each.role for each in found)


def test_where_a_file_could_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert localtokens.can_be(tmp_path / "file")
    assert localtokens.can_be(tmp_path / "not" / "yet" / "there")
    assert not localtokens.can_be(tmp_path / "file" / "tokens.csv")


def test_the_first_token_of_a_role_counts() -> None:
    found = parse(f"{TOKEN}1,ann,viewer\n{TOKEN}2,ben,admin\n{TOKEN}3,eve,admin")
    assert of_role(found, "admin") == f"{TOKEN}2"
    assert of_role(found, "gateway") == ""


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.touch(mode=0o600)
    os.truncate(path, 50 * 1024 * 1024)
    with pytest.raises(WrongTokenFile, match="larger than"):
        read(path)
