"""Commands of a simulated base, read back with the codecs that gateways use."""

import asyncio

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.commands import HELP
from gateways.arklet.fields import Json, first_object
from simulatedbase.profile import COMMANDS, Faults, MultiVersion, RuntimeVersion
from tests.unit.simulatedbase.bases import BIZ1, BIZ2, Base, module_order


@pytest.mark.looptime
async def test_a_module_is_installed_listed_and_uninstalled() -> None:
    base = Base()
    installed = await base.reply(pb.VERB_INSTALL, BIZ1)
    assert (installed.code, installed.client_code) == (pb.REPLY_CODE_SUCCESS, pb.CLIENT_CODE_SUCCESS)
    assert installed.message.startswith("Install Biz: biz1:0.0.1 success, cost: 0 ms, started at: ")
    assert installed.modules == await base.modules()
    assert installed.modules[0].state == pb.MODULE_STATE_ACTIVATED
    removed = await base.reply(pb.VERB_UNINSTALL, BIZ1)
    assert (removed.code, removed.message) == (pb.REPLY_CODE_SUCCESS, "Uninstall biz: biz1:0.0.1 success.")
    assert await base.states() == {}


async def test_a_repeated_install_fails() -> None:
    base = Base()
    await base.ask(pb.VERB_INSTALL, BIZ1)
    assert await base.ask(pb.VERB_INSTALL, BIZ1) == (
        b'{"baseIdentity":"10.0.0.7","code":"FAILED","data":{"code":"REPEAT_BIZ","elapsedSpace":0,'
        b'"message":"Biz: biz1:0.0.1 has been installed or registered."},"message":"install biz not success!"}'
    )


async def test_uninstall_of_an_absent_module_fails() -> None:
    assert await Base().ask(pb.VERB_UNINSTALL, BIZ1) == (
        b'{"baseIdentity":"10.0.0.7","code":"FAILED","data":{"code":"NOT_FOUND_BIZ",'
        b'"message":"Uninstall biz: biz1:0.0.1 not found."},"message":"uninstall biz not success!"}'
    )


async def test_master_is_not_uninstalled() -> None:
    reply = await Base().reply(pb.VERB_UNINSTALL, module_order("shop-base", "1.0.0"))
    assert (reply.client_code, reply.message) == (pb.CLIENT_CODE_FAILED, "Master biz must not be uninstalled.")


@pytest.mark.looptime
async def test_commands_conflict_on_one_module_and_run_beside_those_on_others() -> None:
    base = Base(install_time=60)
    first = asyncio.create_task(base.reply(pb.VERB_INSTALL, BIZ1))
    other = asyncio.create_task(base.reply(pb.VERB_INSTALL, BIZ2))
    await asyncio.sleep(1)
    assert await base.ask(pb.VERB_UNINSTALL, BIZ1) == (
        b'{"baseIdentity":"10.0.0.7","code":"FAILED","message":"FAILED:biz1:0.0.1 uninstallBiz conflict, '
        b'exist unfinished command(installBiz) for this biz"}'
    )
    assert await base.states() == {
        ("biz1", "0.0.1"): pb.MODULE_STATE_RESOLVED,
        ("biz2", "0.0.1"): pb.MODULE_STATE_RESOLVED,
    }
    assert "cost: 60000 ms" in (await first).message
    assert (await other).code == pb.REPLY_CODE_SUCCESS
    assert asyncio.get_running_loop().time() == 60
    assert (await base.reply(pb.VERB_UNINSTALL, BIZ1)).code == pb.REPLY_CODE_SUCCESS


async def test_start_failure_is_an_internal_error_with_a_long_trace() -> None:
    base = Base(Faults(fail_install={"biz1"}))
    body = await base.ask(pb.VERB_INSTALL, BIZ1)
    envelope = first_object(body)
    assert set(envelope) == {"code", "message", "errorStackTrace"}
    assert envelope["message"] == "Internal Error: java.lang.reflect.InvocationTargetException"
    assert len(envelope["errorStackTrace"]) > 4096
    reply = payloads.reply(envelope)
    assert reply.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR
    assert "Caused by: java.lang.IllegalStateException: module biz1:0.0.1 failed to start" in reply.stack_trace
    assert await base.states() == {}
    assert (await base.reply(pb.VERB_INSTALL, BIZ2)).code == pb.REPLY_CODE_SUCCESS


@pytest.mark.parametrize(("switch", "fails"), [("*", True), ("biz1:0.0.1", True), ("biz1:0.0.2", False)])
async def test_a_switch_fails_the_installs_that_it_names(switch: str, fails: bool) -> None:
    reply = await Base(Faults(fail_install={switch})).reply(pb.VERB_INSTALL, BIZ1)
    assert (reply.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR) == fails


async def test_a_broken_module_can_stay() -> None:
    base = Base(Faults(fail_install={"*"}), broken_stays=True)
    await base.ask(pb.VERB_INSTALL, BIZ1)
    (module,) = await base.modules()
    assert (module.state, module.reason) == (pb.MODULE_STATE_BROKEN, "Install Failed")
    assert "Caused by: java.lang.IllegalStateException: module biz1:0.0.1 failed to start" in module.message
    assert (await base.reply(pb.VERB_INSTALL, BIZ1)).client_code == pb.CLIENT_CODE_REPEAT_BIZ
    assert (await base.reply(pb.VERB_SWITCH, BIZ1)).client_code == pb.CLIENT_CODE_ILLEGAL_STATE_BIZ


@pytest.mark.parametrize("stays", [False, True])
async def test_a_failed_stop_leaves_a_broken_module_only_where_such_stay(stays: bool) -> None:
    base = Base(Faults(fail_uninstall={"biz1"}), broken_stays=stays)
    await base.ask(pb.VERB_INSTALL, BIZ1)
    reply = await base.reply(pb.VERB_UNINSTALL, BIZ1)
    assert reply.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR
    assert reply.message == "Internal Error: java.lang.IllegalStateException: module biz1:0.0.1 failed to stop"
    assert await base.states() == ({("biz1", "0.0.1"): pb.MODULE_STATE_BROKEN} if stays else {})
    base.faults.clear()
    reply = await base.reply(pb.VERB_UNINSTALL, BIZ1)
    assert reply.client_code == (pb.CLIENT_CODE_SUCCESS if stays else pb.CLIENT_CODE_NOT_FOUND_BIZ)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oss://bucket/biz.jar", "java.net.MalformedURLException: unknown protocol: oss"),
        ("/opt/biz.jar", "java.net.MalformedURLException: no protocol: /opt/biz.jar"),
        ("http://[::1/biz.jar", "java.net.MalformedURLException: no protocol: http://[::1/biz.jar"),
        ("https://repo.invalid/biz.jar", "java.net.UnknownHostException: repo.invalid"),
    ],
)
async def test_a_url_that_cannot_be_opened_fails_the_install(url: str, message: str) -> None:
    reply = await Base().reply(pb.VERB_INSTALL, module_order("biz1", "1", url))
    assert (reply.code, reply.message) == (pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR, f"Internal Error: {message}")


@pytest.mark.parametrize(
    ("command", "parameters", "message"),
    [
        ("installBiz", {}, "bizUrl should not be blank"),
        ("installBiz", {"bizUrl": " "}, "bizUrl should not be blank"),
        (
            "installBiz",
            {"bizUrl": "http://r/a.jar", "bizName": "a"},
            "bizName and bizVersion should be both blank or both not blank.",
        ),
        (
            "installBiz",
            {"bizUrl": "http://r/a.jar", "async": True},
            "async: a simulated base carries out no command asynchronously",
        ),
        ("installBiz", {"bizUrl": "http://r/a.jar"}, "refresh biz info from jar failed: a.jar"),
        (
            "installBiz",
            {"bizUrl": "http://r/a.jar", "bizName": "a:b", "bizVersion": "1"},
            "java.lang.IllegalArgumentException: Format of Biz Identity is error.",
        ),
        ("installBiz", None, "null"),
        ("uninstallBiz", {"bizVersion": "1"}, "bizName should not be blank"),
        ("switchBiz", {"bizName": "a"}, "bizVersion should not be blank"),
        ("batchInstallBiz", {}, "bizList is null"),
        ("batchInstallBiz", {"bizList": [1]}, "null"),
        ("queryBizOps", {"requestId": " "}, "requestId is blank"),
    ],
)
async def test_wrong_parameters_are_internal_errors(command: str, parameters: Json | None, message: str) -> None:
    reply = payloads.reply(first_object(await Base().send(command, parameters)))
    assert reply.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR
    assert reply.message == f"Internal Error: {message}"
    assert reply.stack_trace


async def test_parameters_are_matched_and_coerced_like_fastjson() -> None:
    base = Base()
    await base.send(
        "installBiz", {"BIZ_NAME": "biz1", "bizversion": 7, "bizUrl": "file:///a.jar", "args": "x", "new": 1}
    )
    assert await base.states() == {("biz1", "7"): pb.MODULE_STATE_ACTIVATED}


async def test_manifest_wins_over_the_request_and_over_the_file_name() -> None:
    base = Base()
    reply = await base.reply(pb.VERB_INSTALL, module_order("biz1", "1", "http://r/a.jar#other:2.0"))
    assert [(module.name, module.version) for module in reply.modules] == [("other", "2.0")]
    await base.send("installBiz", {"bizUrl": "http://r/my-biz-0.0.1-ark-biz.jar"})
    assert ("my-biz", "0.0.1") in await base.states()


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ("not-found", "java.io.FileNotFoundException: http://r/a.jar#not-found"),
        ("not-a-zip", "java.util.zip.ZipException: zip END header not found"),
        ("no-module", "java.lang.IllegalArgumentException: Biz Name must not be empty!"),
    ],
)
async def test_invalid_jars_fail_the_install(fragment: str, message: str) -> None:
    reply = await Base().reply(pb.VERB_INSTALL, module_order("biz1", "1", f"http://r/a.jar#{fragment}"))
    assert (reply.code, reply.message) == (pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR, f"Internal Error: {message}")


async def test_two_modules_cannot_have_one_web_context_path() -> None:
    base = Base(shared_paths=True)
    await base.ask(pb.VERB_INSTALL, BIZ1)
    clashing = (module_order("biz1", "0.0.2", BIZ1.url), module_order("biz2", "1", "http://r/2.jar#::biz1"))
    for module in clashing:
        reply = await base.reply(pb.VERB_INSTALL, module)
        assert reply.message == "Internal Error: java.lang.reflect.InvocationTargetException"
        assert "Caused by: java.lang.IllegalArgumentException: Child name [biz1] is not unique" in reply.stack_trace
    assert await base.states() == {("biz1", "0.0.1"): pb.MODULE_STATE_ACTIVATED}
    await base.ask(pb.VERB_UNINSTALL, BIZ1)
    for module in clashing:
        assert (await base.reply(pb.VERB_INSTALL, module)).code == pb.REPLY_CODE_SUCCESS
        await base.ask(pb.VERB_UNINSTALL, module)


async def test_an_old_runtime_has_no_batches() -> None:
    base = Base(runtime=RuntimeVersion.V1_3_3)
    assert payloads.help_commands(first_object(await base.send(HELP, {}))) == COMMANDS.keys() - {"batchInstallBiz"}
    assert (await base.reply(pb.VERB_BATCH_INSTALL, BIZ1)).code == pb.REPLY_CODE_CMD_NOT_FOUND


async def test_second_version_succeeds_deactivated_and_is_switched_to() -> None:
    base = Base()
    new = module_order("biz1", "0.0.2", BIZ1.url)
    await base.ask(pb.VERB_INSTALL, BIZ1)
    reply = await base.reply(pb.VERB_INSTALL, new)
    assert (reply.code, reply.modules[0].state) == (pb.REPLY_CODE_SUCCESS, pb.MODULE_STATE_DEACTIVATED)
    for _ in range(2):
        switched = await base.reply(pb.VERB_SWITCH, new)
        assert (switched.code, switched.message) == (pb.REPLY_CODE_SUCCESS, "Switch biz: biz1:0.0.2 is activated.")
    assert await base.states() == {
        ("biz1", "0.0.1"): pb.MODULE_STATE_DEACTIVATED,
        ("biz1", "0.0.2"): pb.MODULE_STATE_ACTIVATED,
    }
    assert (await base.reply(pb.VERB_SWITCH, BIZ2)).client_code == pb.CLIENT_CODE_NOT_FOUND_BIZ


async def test_uninstall_then_install_removes_all_versions() -> None:
    base = Base(multi_version=MultiVersion.BOTH)
    await base.ask(pb.VERB_INSTALL, BIZ1)
    await base.ask(pb.VERB_INSTALL, module_order("biz1", "0.0.2", BIZ1.url))
    await base.ask(
        pb.VERB_INSTALL, module_order("biz1", "0.0.3", BIZ1.url, strategy=pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL)
    )
    assert await base.states() == {("biz1", "0.0.3"): pb.MODULE_STATE_ACTIVATED}


async def test_full_metaspace_fails_installs() -> None:
    base = Base(metaspace_used=900, metaspace_per_module=60, metaspace_max=1000)
    assert (await base.reply(pb.VERB_INSTALL, BIZ1)).code == pb.REPLY_CODE_SUCCESS
    reply = await base.reply(pb.VERB_INSTALL, BIZ2)
    assert reply.message == "Internal Error: java.lang.OutOfMemoryError: Metaspace"
    assert len(await base.states()) == 1


@pytest.mark.looptime
async def test_batch_installs_side_by_side_and_reports_each() -> None:
    base = Base(Faults(fail_install={"biz2"}), install_time=5)
    await base.ask(pb.VERB_INSTALL, module_order("biz0", "1", "http://r/0.jar"))
    batch = payloads.batch_reply(
        first_object(await base.ask(pb.VERB_BATCH_INSTALL, BIZ1, BIZ2, module_order("biz0", "1", "http://r/0.jar")))
    )
    assert asyncio.get_running_loop().time() == 10
    assert (batch.reply.code, batch.reply.message) == (pb.REPLY_CODE_FAILED, "batch install failed")
    items = {item.url: item.reply for item in batch.items}
    assert items[BIZ1.url].modules[0].state == pb.MODULE_STATE_ACTIVATED
    assert items[BIZ2.url].message == "internal exception: null"
    assert items["http://r/0.jar"].client_code == pb.CLIENT_CODE_REPEAT_BIZ


@pytest.mark.looptime
async def test_a_second_batch_conflicts() -> None:
    base = Base(install_time=5)
    first = asyncio.create_task(base.ask(pb.VERB_BATCH_INSTALL, BIZ1))
    await asyncio.sleep(1)
    reply = await base.reply(pb.VERB_BATCH_INSTALL, BIZ2)
    assert reply.message == (
        "FAILED:null:null batchInstallBiz conflict, exist unfinished command(batchInstallBiz) for this biz"
    )
    # A batch does not exclude single commands on its modules: the module is found while it starts.
    assert "BizState must be ACTIVATED" in (await base.reply(pb.VERB_UNINSTALL, BIZ1)).message
    assert payloads.batch_reply(first_object(await first)).reply.message == "batch install success"


async def test_batch_with_one_bad_url_does_nothing() -> None:
    base = Base()
    batch = payloads.batch_reply(
        first_object(await base.ask(pb.VERB_BATCH_INSTALL, BIZ1, module_order("b", "1", "oss://x")))
    )
    assert batch.reply.message == "Internal Error: java.net.MalformedURLException: unknown protocol: oss"
    assert await base.states() == {}
    assert payloads.batch_reply(first_object(await base.ask(pb.VERB_BATCH_INSTALL))).reply.code == pb.REPLY_CODE_SUCCESS
