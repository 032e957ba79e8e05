"""Which credential goes to which server."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mctl.auth.choice import (
    NAMES,
    Connection,
    ContextUser,
    Found,
    Given,
    LocalTokens,
    Login,
    Logins,
    Nobody,
    Token,
    TokenFile,
    choose,
    is_loopback,
)
from mctl.errors import UsageError

FOUND = Found(local_tokens="/state/tokens.csv", kubeconfig="/home/config")
AWAY, HERE = "controller.example:50051", "127.0.0.1:50051"


def chosen(*places: Given, found: Found = FOUND, logins: Logins | None = None) -> Connection:
    return choose(places, logins or Logins(), found)


@pytest.mark.parametrize("server", [HERE, "127.9.9.9:1", "[::1]:50051", "localhost:50051", "LOCALHOST:1"])
def test_loopback(server: str) -> None:
    assert is_loopback(server)


@pytest.mark.parametrize(
    "server", [AWAY, "10.0.0.1:1", "[::]:1", "0.0.0.0:1", "127.1:1", "localhost.evil.example:1", "[::ffff:1.2.3.4]:1"]
)
def test_no_loopback(server: str) -> None:
    assert not is_loopback(server)


def test_on_this_machine_the_control_planes_own_token_is_used_by_itself() -> None:
    assert chosen() == Connection(HERE, False, LocalTokens("/state/tokens.csv"))


def test_without_a_token_file_nobody_asks_in_plaintext_and_says_why() -> None:
    plain = chosen(found=replace(FOUND, local_tokens=""))
    assert not plain.tls
    assert isinstance(plain.bearer, Nobody)
    assert "--ca" in plain.bearer.why


def test_the_kubeconfig_goes_only_to_a_server_whose_ca_was_named() -> None:
    assert isinstance(chosen(Given(server=AWAY)).bearer, Nobody)
    named = chosen(Given(server=AWAY, ca="ca.crt"))
    assert (named.tls, named.bearer) == (True, ContextUser("/home/config", optional=True))
    login = Logins(AWAY, {AWAY: Login(ca_pem="PEM")})
    assert chosen(logins=login).bearer == ContextUser("/home/config", optional=True)


def test_a_context_that_is_named_goes_over_tls_and_never_in_plaintext() -> None:
    away = chosen(Given(server=AWAY, context="prod"))
    assert (away.tls, away.bearer) == (True, ContextUser("/home/config", "prod"))
    with pytest.raises(UsageError, match="over TLS only"):
        chosen(Given(context="prod"))
    assert chosen(Given(context="prod", ca="ca.crt")).tls


@pytest.mark.parametrize(
    ("given_user", "bearer"),
    [(Given(token="t"), Token("t")), (Given(token_file="f"), TokenFile("f"))],
)
def test_a_token_that_was_given_goes_before_what_is_found(given_user: Given, bearer: object) -> None:
    assert chosen(given_user).bearer == bearer
    assert chosen(replace(given_user, server=AWAY)) == Connection(AWAY, True, bearer)


def test_a_client_certificate_turns_tls_on_and_no_other_credential_is_added() -> None:
    with_certificate = chosen(Given(cert="c", key="k"))
    assert (with_certificate.tls, with_certificate.cert, with_certificate.key) == (True, "c", "k")
    assert isinstance(with_certificate.bearer, Nobody)
    with pytest.raises(UsageError, match="--cert and --key"):
        chosen(Given(cert="c"))


def test_credentials_of_one_place_are_not_mixed_with_those_of_another() -> None:
    command_line = Given(token="t")
    environment = Given(server=AWAY, ca="ca.crt", cert="c", key="k", context="x")
    both = chosen(command_line, environment)
    assert (both.server, both.ca, both.bearer, both.cert) == (AWAY, "ca.crt", Token("t"), "")
    with pytest.raises(UsageError, match="exclude each other"):
        chosen(Given(token="t", context="x"))


def test_a_login_is_for_its_server_only() -> None:
    logins = Logins(AWAY, {AWAY: Login(ca_pem="PEM", server_name="n", token="t")})
    assert chosen(logins=logins) == Connection(AWAY, True, Token("t"), ca_pem="PEM", server_name="n")
    other = chosen(Given(server="other.example:1"), logins=logins)
    assert (other.ca_pem, other.server_name) == ("", "")
    assert isinstance(other.bearer, Nobody)
    assert chosen(Given(ca="ca.crt"), logins=logins).ca_pem == ""


texts = st.sampled_from(["", "a"])
places = st.builds(
    lambda server, rest: Given(server=server, **rest),
    st.sampled_from(["", AWAY, HERE, "10.0.0.1:1"]),
    st.fixed_dictionaries({name: texts for name in NAMES if name != "server"}),
)
founds = st.builds(Found, texts, texts)
saved = st.builds(
    lambda server, login: Logins(server, {server: login}),
    st.sampled_from([AWAY, HERE]),
    st.builds(lambda rest: Login(**rest), st.fixed_dictionaries(dict.fromkeys((*NAMES[1:], "ca_pem"), texts))),
)


@given(st.lists(places, max_size=3), saved, founds)
def test_no_kubeconfig_leaves_without_a_named_ca_or_context_and_nothing_in_plaintext_beyond_this_machine(
    said: list[Given], logins: Logins, found: Found
) -> None:
    try:
        made = choose(said, logins, found)
    except UsageError:
        return
    assert made.tls or is_loopback(made.server)
    login = logins.servers.get(made.server, Login())
    user = next((place for place in (*said, login) if place.has_credentials), None)
    if isinstance(made.bearer, ContextUser):
        assert made.tls
        if user is None:
            assert made.bearer.optional
            assert made.ca or made.ca_pem
        else:
            assert user.kubeconfig or user.context
    if isinstance(made.bearer, LocalTokens):
        assert is_loopback(made.server)
        assert not made.tls
    if not made.tls:
        assert (made.ca, made.ca_pem, made.server_name, made.cert, made.key) == ("", "", "", "", "")


def test_secrets_are_not_printed() -> None:
    assert "hush" not in f"{Given(token='hush')!r} {chosen(Given(token='hush'))!r} {Login(token='hush')!r}"
