"""What a base's reply to an order means: the tables of arklet's behaviour.

The outer code alone says little: a module that is there already and an absent one that should be removed are FAILED, a
module that did not start is an internal error, and SUCCESS may speak of another module than the one asked for (the
names in the jar's manifest win over those in the request).
"""

import re
from dataclasses import dataclass
from enum import Enum

from controlplane.domain.contract import ANNOTATION_INSTALL_STRATEGY
from controlplane.domain.facts import BatchInstalled, ClientCode, InstallStrategy, Module, Reply, ReplyCode, Verb
from controlplane.domain.identity import ModuleKey, parse_module_key

CONTEXT_PATH_TAKEN = "ContextPathTaken"
"""Reason of an install that fails as long as another module has its web context path."""


class Effect(Enum):
    """What happened to the module."""

    DONE = "done"
    """The order took effect, or its effect was there already."""
    ASK = "ask"
    """Nothing can be concluded: look at the base's list."""
    BUSY = "busy"
    """The base works on this module already: look again in a few seconds."""
    FAILED = "failed"
    """The base tried and failed; trying again may help."""
    PERMANENT = "permanent"
    """Trying again the same way cannot help."""
    ALONE = "alone"
    """The batch as a whole failed, which says nothing of this module: install it alone."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The effect, the module as the reply shows it if it does, and why for people and programs.

    others are modules that this order installed instead of the one asked for.
    """

    effect: Effect
    module: Module | None = None
    reason: str = ""
    message: str = ""
    others: tuple[ModuleKey, ...] = ()


_CONFLICT = "exist unfinished command("
_IN_THE_BACKGROUND = (") has been executed", "Not found the corresponding ops record")
_MASTER = "Master biz must not be uninstalled"
_BAD_SPEC = ("should not be blank", "both blank", "MalformedURLException", "Format of Biz Identity")
_STILL_STARTING = "BizState must be ACTIVATED, DEACTIVATED or BROKEN"
_FETCH = (
    "UnknownHostException",
    "ConnectException",
    "SocketTimeoutException",
    "FileNotFoundException",
    "NoRouteToHostException",
    "HttpRetryException",
    "SSLException",
    "SSLHandshakeException",
    "Server returned HTTP response code",
)
_NOTHING_SAID = frozenset({"", "null", "Internal Error: null", "internal exception: null"})
_METASPACE = ("OutOfMemoryError: Metaspace", "OutOfMemoryError: Compressed class space")
_PRESENT = re.compile(r"Biz: (?P<identity>\S+:\S+) has been installed or registered")
"""How a base answers REPEAT_BIZ; the identity is that of the jar's manifest, whatever was asked for."""
_PATH_TAKEN = re.compile(r"Child name \[(?P<path>[^\]]*)\] is not unique")
"""How Tomcat refuses a second web application under one context path of a base."""


def meaning(verb: Verb, key: ModuleKey, reply: Reply) -> Meaning:
    """Read the reply to verb on the module key."""
    if reply.code is ReplyCode.SUCCESS:
        return _success(verb, key, reply)
    if reply.code is ReplyCode.CMD_NOT_FOUND:
        return Meaning(Effect.PERMANENT, reason="CommandNotSupported", message=f"the base does not know {verb.value}")
    text = f"{reply.message}\n{reply.stack_trace}"
    if reply.client_code is ClientCode.REPEAT_BIZ:
        return _present(key, reply)
    if reply.client_code is ClientCode.NOT_FOUND_BIZ:
        return Meaning(Effect.DONE if verb is Verb.UNINSTALL else Effect.ASK)
    if reply.client_code is ClientCode.ILLEGAL_STATE_BIZ or _STILL_STARTING in text:
        return Meaning(Effect.BUSY, reason="ModuleStarting", message=reply.message)
    if _CONFLICT in text:
        return Meaning(Effect.BUSY, reason="BaseBusy", message=reply.message)
    if reply.code is ReplyCode.UNSPECIFIED or any(mark in reply.message for mark in _IN_THE_BACKGROUND):
        return Meaning(Effect.ASK, reason="UnknownReply", message=reply.message)
    return _failure(verb, reply, text)


def _success(verb: Verb, key: ModuleKey, reply: Reply) -> Meaning:
    if verb is not Verb.INSTALL or not reply.modules:
        return Meaning(Effect.DONE)
    for module in reply.modules:
        if module.key == key:
            return Meaning(Effect.DONE, module=module)
    return _mismatch(key, tuple(module.key for module in reply.modules[:3]), installed=True)


def _present(key: ModuleKey, reply: Reply) -> Meaning:
    """Read REPEAT_BIZ: the jar's module is there, which need not be the one that was asked for."""
    found = _PRESENT.search(reply.message)
    present = parse_module_key(found["identity"]) if found is not None else None
    if present is None or present == key:
        return Meaning(Effect.ASK, reason="AlreadyPresent", message=reply.message)
    return _mismatch(key, (present,), installed=False)


def _mismatch(key: ModuleKey, found: tuple[ModuleKey, ...], *, installed: bool) -> Meaning:
    names = ", ".join(str(other) for other in found)
    message = f"the jar's manifest says {names}, the Pod says {key}: correct name, version or the jar"
    return Meaning(Effect.PERMANENT, reason="IdentityMismatch", message=message, others=found if installed else ())


def failures(batch: BatchInstalled) -> list[tuple[str, Reply]]:
    """Return URL and reply of each module that is not there now; an empty URL stands for the batch as a whole."""
    if not batch.items and batch.reply.code is not ReplyCode.SUCCESS:
        return [("", batch.reply)]
    return [(url, reply) for url, reply in batch.items if not _is_there(reply)]


def _is_there(reply: Reply) -> bool:
    """A module that was there before counts as installed."""
    return reply.code is ReplyCode.SUCCESS or reply.client_code in (ClientCode.SUCCESS, ClientCode.REPEAT_BIZ)


def batch_meaning(key: ModuleKey, url: str, outcome: Reply | BatchInstalled) -> Meaning:
    """Read what the answer to a batch says of the module that was to come from url.

    One URL that cannot be opened makes the base give up the whole batch, and a base that knows no batches, or is busy
    with one, refuses it: then each is tried alone. So is one that failed, since a batch does not say why.
    """
    if isinstance(outcome, BatchInstalled):
        for item, reply in outcome.items:
            if item == url:
                return _in_batch(key, reply)
        outcome = outcome.reply
    if outcome.code is ReplyCode.SUCCESS:
        return Meaning(Effect.ASK, reason="UnknownReply", message="the base did not report how this module went")
    return Meaning(Effect.ALONE, reason="BatchFailed", message=describe(outcome))


def _in_batch(key: ModuleKey, reply: Reply) -> Meaning:
    failed = reply.code is ReplyCode.FAILED and reply.client_code in (ClientCode.FAILED, ClientCode.UNSPECIFIED)
    if failed and reply.message.strip() in _NOTHING_SAID and not reply.stack_trace.strip():
        return Meaning(Effect.ALONE, reason="BatchFailed", message="the base does not say why it failed in a batch")
    return meaning(Verb.INSTALL, key, reply)


def _failure(verb: Verb, reply: Reply, text: str) -> Meaning:
    message = describe(reply)
    thrown = _thrown(reply)
    if any(mark in thrown for mark in _BAD_SPEC):
        return Meaning(Effect.PERMANENT, reason="InvalidModule", message=message)
    if verb is Verb.UNINSTALL:
        master = _MASTER in text
        return Meaning(Effect.PERMANENT if master else Effect.FAILED, reason="UninstallFailed", message=message)
    if verb is Verb.SWITCH:
        return Meaning(Effect.FAILED, reason="SwitchFailed", message=message)
    if (taken := _PATH_TAKEN.search(text)) is not None:
        return Meaning(Effect.FAILED, reason=CONTEXT_PATH_TAKEN, message=_path_taken(taken["path"], message))
    if any(mark in text for mark in _METASPACE):
        return Meaning(Effect.FAILED, reason="MetaspaceFull", message=message)
    if any(mark in thrown for mark in _FETCH):
        return Meaning(Effect.FAILED, reason="ArtifactUnavailable", message=message)
    return Meaning(Effect.FAILED, reason="InstallFailed", message=message)


def _path_taken(path: str, message: str) -> str:
    return (
        f"another module, or another version of this one, has the web context path /{path.lstrip('/')} on this base: "
        f"give each version a context path of its own, or annotate the Pod with {ANNOTATION_INSTALL_STRATEGY}: "
        f"{InstallStrategy.UNINSTALL_THEN_INSTALL.value}\n{message}"
    )


def _thrown(reply: Reply) -> str:
    """Return the words for what the base itself ran into.

    What lies deeper in a trace belongs to the module: one that cannot reach its database when it starts was fetched
    well.
    """
    if reply.message.strip() not in _NOTHING_SAID:
        return reply.message
    trace = reply.stack_trace.strip()
    return trace if trace.startswith("Caused by: ") else trace.partition("\n")[0]


def describe(reply: Reply) -> str:
    """Return message and the useful end of the stack trace, for people."""
    message = reply.message.strip() or reply.code.name
    trace = reply.stack_trace.strip()
    return f"{message}\n{trace}" if trace and trace not in message else message
