"""Topics of the MQTT tunnel: koupleless_ENV/IDENTITY/base/WORD up, koupleless_ENV/IDENTITY/COMMAND down.

Bases write their environment in lower case, so ENV is expected in lower case here.
"""

from enum import Enum

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.commands import COMMANDS
from gateways.arklet.names import InvalidName, parse_identity

_PREFIX = "koupleless_"
_FROM_BASE = "base"
_BASELINE = "base/baseline"


class Word(Enum):
    """What a base publishes; the value is the last level of the topic."""

    HEART = "heart"
    QUERY_BASELINE = "queryBaseline"
    HEALTH = "health"
    SIMPLE_BIZ = "simpleBiz"
    BIZ = "biz"
    BIZ_OPERATION = "bizOperation"
    BATCH_RESPONSE = "batchInstallBizResponse"


VERBS = (pb.VERB_HEALTH, pb.VERB_QUERY_MODULES, pb.VERB_INSTALL, pb.VERB_UNINSTALL)
"""What a base obeys over MQTT. It ignores anything else."""


class InvalidTopic(ValueError):
    """A topic is not one of ours; the message says why."""


def parse(topic: str, env: str) -> tuple[str, Word]:
    """Return who published what under a topic. Raises InvalidTopic or InvalidName."""
    levels = topic.split("/")
    if len(levels) != 4 or levels[2] != _FROM_BASE:
        raise InvalidTopic("not koupleless_ENV/IDENTITY/base/WORD")
    if levels[0] != _PREFIX + env:
        raise InvalidTopic("another environment")
    try:
        word = Word(levels[3])
    except ValueError:
        raise InvalidTopic("not a word of the protocol") from None
    return parse_identity(levels[1], env), word


def command(env: str, base: str, verb: pb.Verb.ValueType) -> str:
    """Return the topic under which a base takes a command."""
    return f"{_PREFIX}{env}/{base}/{COMMANDS[verb]}"


def baseline(env: str, base: str) -> str:
    """Return the topic under which a base takes its baseline."""
    return f"{_PREFIX}{env}/{base}/{_BASELINE}"


def from_all(env: str, word: Word) -> str:
    """Return the filter for what all bases of an environment publish."""
    return f"{_PREFIX}{env}/+/{_FROM_BASE}/{word.value}"


def commands(env: str) -> tuple[str, ...]:
    """Return the filters for all commands to bases."""
    return tuple(command(env, "+", verb) for verb in VERBS)


def to_all(env: str) -> tuple[str, ...]:
    """Return the filters for everything that is sent to bases."""
    return (*commands(env), baseline(env, "+"))


def addressee(topic: str, env: str) -> str | None:
    """Return the base to which a topic of ours leads, None for any other topic."""
    levels = topic.split("/", 2)
    if len(levels) < 3 or levels[0] != _PREFIX + env:
        return None
    if levels[2] != _BASELINE and levels[2] not in {COMMANDS[verb] for verb in VERBS}:
        return None
    try:
        return parse_identity(levels[1], env)
    except InvalidName:
        return None
