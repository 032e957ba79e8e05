"""A simulated base answers questions: state of an asynchronous command, help, health."""

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.commands import HELP
from gateways.arklet.fields import first_object
from simulatedbase.profile import COMMANDS
from tests.unit.simulatedbase.bases import BIZ1, Base


async def test_no_command_runs_asynchronously() -> None:
    unknown = payloads.reply(first_object(await Base().send("queryBizOps", {"requestId": "r-9"})))
    assert unknown.message == "Not found the corresponding ops record."


async def test_an_unknown_command_is_not_found() -> None:
    assert await Base().send("health/", {}) == b'{"code":"CMD_NOT_FOUND","message":"please follow the doc"}'


async def test_help_names_every_command() -> None:
    assert payloads.help_commands(first_object(await Base().send(HELP, None))) == set(COMMANDS)


async def test_health_has_the_state_the_metaspace_and_all_modules() -> None:
    base = Base(metaspace_used=1000, metaspace_per_module=10, metaspace_max=-1, java_version="17.0.9")
    await base.ask(pb.VERB_INSTALL, BIZ1)
    body = await base.ask(pb.VERB_HEALTH)
    health = payloads.health(first_object(body))
    assert (health.state, health.java_version) == (pb.BASE_STATE_ACTIVATED, "17.0.9")
    assert health.metaspace == pb.Metaspace(used_bytes=1010, committed_bytes=65536, max_bytes=-1)
    data = first_object(body)["data"]["healthData"]
    assert set(data) == {"masterBizInfo", "bizListInfo", "pluginListInfo", "cpu", "jvm"}
    assert [entry["bizName"] for entry in data["bizListInfo"]] == ["shop-base", "biz1"]
