"""A client shows its token to the right server only."""

from pathlib import Path

import pytest

from grpcclient.access import ClientAccess, NoAccess, is_local
from service import listeners, localtokens


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("localhost:1", True),
        ("10.0.0.1:1", False),
        ("[::]:1", False),
        ("0.0.0.0:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("localhost.example:1", False),
        ("127.0.0.1.example:1", False),
    ],
)
def test_what_is_on_this_machine(address: str, local: bool) -> None:
    assert is_local(address) is local


async def test_plaintext_beyond_this_machine_is_refused() -> None:
    with pytest.raises(NoAccess, match=r"10\.0\.0\.1:1 is not on this machine and no CA is set"):
        ClientAccess("gateway").channel("10.0.0.1:1", ())
    for access, address in ((ClientAccess("gateway"), "127.0.0.1:1"), (ClientAccess("g", insecure=True), "10.0.0.1:1")):
        await access.channel(address, ()).close()


def test_the_token_file_is_read_for_each_call(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    access = ClientAccess("gateway", token_path=str(path))
    assert access.metadata("127.0.0.1:1") == (("authorization", "Bearer one"),)
    path.write_text("two")
    assert access.metadata("127.0.0.1:1") == (("authorization", "Bearer two"),)
    path.unlink()
    with pytest.raises(NoAccess, match="cannot be read"):
        access.metadata("127.0.0.1:1")


@pytest.mark.parametrize("content", [b"one\ntwo", b"o\xff", b"\x00"])
def test_a_file_with_no_token_in_it_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(NoAccess, match="token: has characters that no token has"):
        ClientAccess("gateway", token_path=str(path)).metadata("127.0.0.1:1")


def test_without_a_token_file_the_token_of_this_machine_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    access = ClientAccess("gateway", tokens_path=str(path))
    assert access.metadata("127.0.0.1:1") == ()
    localtokens.make(path, ["admin", "gateway"])
    assert access.metadata("127.0.0.1:1") == (
        ("authorization", f"Bearer {localtokens.of_role(localtokens.read(path), 'gateway')}"),
    )
    path.chmod(0o644)
    with pytest.raises(NoAccess, match="chmod 600"):
        access.metadata("127.0.0.1:1")


def test_the_token_of_this_machine_is_shown_on_this_machine_only(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    localtokens.make(path, ["gateway"])
    assert ClientAccess("gateway", tokens_path=str(path), insecure=True).metadata("10.0.0.1:1") == ()


def test_the_token_of_this_machine_is_not_shown_to_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.csv"
    localtokens.make(path, ["gateway"])
    seen: list[int] = []

    def on_port(port: int) -> list[listeners.Listener]:
        seen.append(port)
        return [listeners.Listener(path.stat().st_uid + 1, "7")]

    monkeypatch.setattr(listeners, "on_port", on_port)
    with pytest.raises(NoAccess, match="on which another user listens"):
        ClientAccess("gateway", tokens_path=str(path)).metadata("127.0.0.1:50051")
    assert seen == [50051]


def test_with_a_certificate_no_token_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    localtokens.make(path, ["gateway"])
    assert (
        ClientAccess("gateway", ca=lambda: b"ca", crt_path="crt", tokens_path=str(path)).metadata("127.0.0.1:1") == ()
    )
