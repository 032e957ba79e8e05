"""Replies of bases have the meaning that follows from arklet's behaviour."""

import pytest

from controlplane.domain.base.replies import Effect, meaning
from controlplane.domain.facts import ClientCode, Module, ModuleState, Reply, ReplyCode, Verb
from controlplane.domain.identity import ModuleKey

KEY = ModuleKey("biz1", "0.0.1")
RUNNING = Module(KEY, ModuleState.ACTIVATED)
OTHER = Module(ModuleKey("biz1", "0.0.2"), ModuleState.ACTIVATED)
CONFLICT = "FAILED:biz1:0.0.1 installBiz conflict, exist unfinished command(installBiz) for this biz"

ROWS = [
    (Verb.INSTALL, Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(RUNNING,)), Effect.DONE, ""),
    (Verb.INSTALL, Reply(ReplyCode.SUCCESS), Effect.DONE, ""),
    (
        Verb.INSTALL,
        Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(OTHER,)),
        Effect.PERMANENT,
        "IdentityMismatch",
    ),
    (Verb.INSTALL, Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ, "installed"), Effect.ASK, "AlreadyPresent"),
    (
        Verb.INSTALL,
        Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ, "Biz: biz1:0.0.1 has been installed or registered."),
        Effect.ASK,
        "AlreadyPresent",
    ),
    (
        Verb.INSTALL,
        Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ, "Biz: biz1:0.0.9 has been installed or registered."),
        Effect.PERMANENT,
        "IdentityMismatch",
    ),
    (
        Verb.INSTALL,
        Reply(
            ReplyCode.INTERNAL_ERROR,
            message="Internal Error: java.lang.reflect.InvocationTargetException",
            stack_trace="x\nCaused by: java.lang.IllegalArgumentException: Child name [biz1] is not unique\n\tat y",
        ),
        Effect.FAILED,
        "ContextPathTaken",
    ),
    (Verb.INSTALL, Reply(ReplyCode.FAILED, message=CONFLICT), Effect.BUSY, "BaseBusy"),
    (
        Verb.INSTALL,
        Reply(ReplyCode.CMD_NOT_FOUND, message="please follow the doc"),
        Effect.PERMANENT,
        "CommandNotSupported",
    ),
    (
        Verb.INSTALL,
        Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: java.lang.IllegalStateException: port in use"),
        Effect.FAILED,
        "InstallFailed",
    ),
    (
        Verb.INSTALL,
        Reply(
            ReplyCode.INTERNAL_ERROR, message="Internal Error: java.net.MalformedURLException: unknown protocol: oss"
        ),
        Effect.PERMANENT,
        "InvalidModule",
    ),
    (
        Verb.INSTALL,
        Reply(
            ReplyCode.INTERNAL_ERROR, message="Internal Error: null", stack_trace="Caused by: java.net.ConnectException"
        ),
        Effect.FAILED,
        "ArtifactUnavailable",
    ),
    (
        Verb.INSTALL,
        Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: java.lang.OutOfMemoryError: Metaspace"),
        Effect.FAILED,
        "MetaspaceFull",
    ),
    # An exception of the module itself at its start is no fault of its jar or its Pod.
    (
        Verb.INSTALL,
        Reply(
            ReplyCode.INTERNAL_ERROR,
            message="Internal Error: org.springframework.beans.factory.BeanCreationException: no database",
            stack_trace="x.ArkletRuntimeException: y\n\tat a\nCaused by: java.net.ConnectException: Connection refused",
        ),
        Effect.FAILED,
        "InstallFailed",
    ),
    (
        Verb.INSTALL,
        Reply(
            ReplyCode.FAILED,
            ClientCode.FAILED,
            message="java.lang.IllegalStateException: cannot start",
            stack_trace="x.ArkletRuntimeException: y\n\tat a\nCaused by: java.net.MalformedURLException: db",
        ),
        Effect.FAILED,
        "InstallFailed",
    ),
    (
        Verb.INSTALL,
        Reply(
            ReplyCode.INTERNAL_ERROR,
            message="Internal Error: java.io.IOException: Server returned HTTP response code: 503 for URL: https://r/x.jar",
        ),
        Effect.FAILED,
        "ArtifactUnavailable",
    ),
    (
        Verb.INSTALL,
        Reply(ReplyCode.FAILED, ClientCode.FAILED, message="internal exception: java.net.UnknownHostException: r"),
        Effect.FAILED,
        "ArtifactUnavailable",
    ),
    (
        Verb.INSTALL,
        Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: Format of Biz Identity is error."),
        Effect.PERMANENT,
        "InvalidModule",
    ),
    (
        Verb.INSTALL,
        Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: bizUrl should not be blank"),
        Effect.PERMANENT,
        "InvalidModule",
    ),
    # We never ask for this, but another tool may have run it in the background.
    (
        Verb.INSTALL,
        Reply(ReplyCode.FAILED, message="The request corresponding to the requestId(r-1) has been executed."),
        Effect.ASK,
        "UnknownReply",
    ),
    (
        Verb.UNINSTALL,
        Reply(ReplyCode.FAILED, message="Not found the corresponding ops record."),
        Effect.ASK,
        "UnknownReply",
    ),
    (Verb.INSTALL, Reply(ReplyCode.UNSPECIFIED, message="WAT"), Effect.ASK, "UnknownReply"),
    (Verb.UNINSTALL, Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS), Effect.DONE, ""),
    (Verb.UNINSTALL, Reply(ReplyCode.FAILED, ClientCode.NOT_FOUND_BIZ), Effect.DONE, ""),
    (
        Verb.UNINSTALL,
        Reply(ReplyCode.FAILED, ClientCode.FAILED, "Master biz must not be uninstalled."),
        Effect.PERMANENT,
        "UninstallFailed",
    ),
    (
        Verb.UNINSTALL,
        Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: BizState must be ACTIVATED, DEACTIVATED or BROKEN."),
        Effect.BUSY,
        "ModuleStarting",
    ),
    (Verb.SWITCH, Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS), Effect.DONE, ""),
    (Verb.SWITCH, Reply(ReplyCode.FAILED, ClientCode.NOT_FOUND_BIZ), Effect.ASK, ""),
    (Verb.SWITCH, Reply(ReplyCode.FAILED, ClientCode.ILLEGAL_STATE_BIZ), Effect.BUSY, "ModuleStarting"),
    (Verb.SWITCH, Reply(ReplyCode.FAILED, ClientCode.FAILED, "no"), Effect.FAILED, "SwitchFailed"),
]


@pytest.mark.parametrize(("verb", "reply", "effect", "reason"), ROWS)
def test_each_reply_has_its_meaning(verb: Verb, reply: Reply, effect: Effect, reason: str) -> None:
    found = meaning(verb, KEY, reply)
    assert (found.effect, found.reason) == (effect, reason)


def test_a_failure_carries_message_and_trace() -> None:
    reply = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: boom", stack_trace="Caused by: x\n\tat y")
    assert meaning(Verb.INSTALL, KEY, reply).message == "Internal Error: boom\nCaused by: x\n\tat y"


def test_a_mismatch_names_both_identities() -> None:
    found = meaning(Verb.INSTALL, KEY, Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(OTHER,)))
    assert "biz1:0.0.2" in found.message
    assert "biz1:0.0.1" in found.message
