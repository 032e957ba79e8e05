"""Targets: what bases, and whoever claims to be one, send over HTTP and MQTT."""

from collections.abc import Sequence

from hypothesis import strategies as st

from controlplane.domain import identity as node_identity
from gateways.arklet import envelopes, names, payloads, topics
from gateways.arklet.commands import COMMANDS
from gateways.arklet.fields import Malformed, first_object
from gateways.arklet.payloads import Negative
from gateways.http.responses import Excessive, Lost
from service import addresses
from tests.fuzz import inputs
from tests.fuzz.target import Target, each
from tests.recordings import FROM_BASE, HTTP, MQTT, TO_BASE, TO_GATEWAY
from tests.unit.gateways.answers import parse

ENV = "dev"
_REPLIES = [exchange.json() for exchange in TO_BASE if (exchange.reply_body or b"").startswith(b"{")]
_HEARTBEATS = [exchange.asked() for exchange in TO_GATEWAY if exchange.request_body]
_QUERY = {"identity": "a", "name": "shop", "version": "1", "clusterName": "c"}
_ANSWERS = {
    "reply": payloads.reply,
    "batch": payloads.batch_reply,
    "modules": payloads.modules,
    "health": payloads.health,
    "help": payloads.help_commands,
    "heartbeat": payloads.heartbeat,
    "port": payloads.port,
    "query": payloads.baseline_query,
}
_ENVELOPED = {
    "heartbeat": envelopes.heartbeat,
    "operation": envelopes.operation,
    "batch": envelopes.batch_reply,
    "modules": lambda opened: payloads.simple_modules(opened.data),
    "long modules": lambda opened: payloads.modules(opened.content),
    "health": lambda opened: payloads.health(opened.content),
    "query": lambda opened: payloads.baseline_query(opened.content),
}


def _json(data: bytes) -> object:
    obj = first_object(data)
    return each(obj, _ANSWERS, (Malformed, Negative))


def _answer(data: bytes) -> object:
    """Read an answer that comes at once, and in parts: how it is cut decides only what it costs."""
    results: list[bytes | str] = []
    for step in (len(data) or 1, 1 + len(data) // 3):
        try:
            results.append(parse(data, step))
        except Excessive:
            raise
        except Lost as lost:
            results.append(str(lost))
    whole, in_parts = results
    assert whole == in_parts
    return whole


def _envelope(data: bytes) -> object:
    opened = envelopes.envelope(data)
    return each(opened, _ENVELOPED, (Malformed, Negative))


def _topic(data: bytes) -> object:
    topic = data.decode(errors="replace")
    base = topics.addressee(topic, ENV)
    if base is not None:
        assert topic in {topics.baseline(ENV, base), *(topics.command(ENV, base, verb) for verb in topics.VERBS)}
    found, word = topics.parse(topic, ENV)
    assert topic == topics.from_all(ENV, word).replace("+", found)
    return found


def _name(data: bytes) -> object:
    """Read an identity as gateways and as the control plane do: what one lets in, the other must know, too."""
    text = data.decode(errors="replace")
    try:
        node_identity.parse_base_id(text, ENV)
        known = True
    except node_identity.InvalidName:
        known = False
    try:
        read = names.parse_identity(text, ENV)
    except names.InvalidName:
        assert not known
        raise
    assert known
    assert node_identity.base_of_node(f"vnode.{read}.{ENV}", ENV) == read
    return read


def _environment(data: bytes) -> object:
    text = data.decode(errors="replace")
    env = names.parse_env(text)
    assert env == node_identity.parse_env(text) == names.parse_env(env)
    return env


def _address(data: bytes) -> object:
    policy = addresses.AddressPolicy(addresses.DEFAULT_NETWORKS)
    plain = policy.check(data.decode(errors="replace"), 1238)
    assert policy.check(plain, 1238) == plain
    return plain


_HEADS: Sequence[bytes] = (
    b"\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Content-Length: 4\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"-5\r\n",
    b"ffffffffffffffffffffff\r\n",
    b"0x10\r\n",
    b" folded\r\n",
    b"X: " + b"y" * 9000,
    b"Connection: close\r\n",
)
_NAMES = [b"a", b"base-1", b"10.0.0.7", b"Base_1", b"a" * 63, b".".join([b"a" * 60] * 4), b"a..b", b"-a", b"a\n", b""]
_TOPICS = [message.topic.encode() for message in MQTT.values()] + [
    b"koupleless_dev/a/" + word.encode() for word in COMMANDS.values()
]

TARGETS = (
    Target(
        "arklet-json",
        ("gateways.arklet.payloads", "gateways.arklet.fields", "gateways.arklet.text"),
        inputs.documents([*_REPLIES, *_HEARTBEATS, _QUERY]),
        _json,
        (Malformed,),
    ),
    Target(
        "arklet-envelope",
        ("gateways.arklet.envelopes",),
        inputs.documents([message.json() for message in FROM_BASE if message.payload.startswith(b"{")]),
        _envelope,
        (Malformed,),
    ),
    Target(
        "arklet-answer",
        ("gateways.http.arklet_client", "gateways.http.responses"),
        inputs.texts([exchange.reply for exchange in HTTP.values() if exchange.reply], _HEADS),
        _answer,
        (Lost,),
    ),
    Target(
        "topic",
        ("gateways.arklet.topics",),
        inputs.texts(_TOPICS, [b"/", b"+", b"#", b"koupleless_dev", b"base", b"baseline", b"heart"]),
        _topic,
        (topics.InvalidTopic, names.InvalidName),
    ),
    Target(
        "identity",
        ("gateways.arklet.names", "controlplane.domain.identity"),
        inputs.texts(_NAMES, [b".", b"-", b"\n", b"A"]),
        _name,
        (names.InvalidName,),
    ),
    Target(
        "environment",
        (),
        inputs.texts(_NAMES, [b".", b"-", b"\n", "İ".encode(), "ß".encode()]),
        _environment,
        (ValueError,),
    ),
    Target(
        "address",
        ("service.addresses",),
        st.sampled_from([text.encode() for text in inputs.SCALARS if isinstance(text, str)])
        | inputs.texts([b"10.0.0.7", b"fd00::7", b"::ffff:10.0.0.7"], [b"%", b":", b".", b"0", b"/8"]),
        _address,
        (addresses.AddressRefused,),
    ),
)
