"""Commands have the bodies that arklet expects."""

import orjson
import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands

BIZ1 = pb.OrderModule(name="biz1", version="0.0.1", url="https://repo.example/biz1.jar")


def test_install_has_only_members_with_a_value() -> None:
    assert orjson.loads(commands.body(pb.VERB_INSTALL, [BIZ1])) == {
        "bizName": "biz1",
        "bizVersion": "0.0.1",
        "bizUrl": "https://repo.example/biz1.jar",
    }


def test_install_may_have_all_members() -> None:
    order = pb.OrderModule(
        name="biz1",
        version="1",
        url="file:///a.jar",
        args=["--a=b", "c"],
        envs={"K": "v"},
        strategy=pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL,
    )
    assert orjson.loads(commands.body(pb.VERB_INSTALL, [order])) == {
        "bizName": "biz1",
        "bizVersion": "1",
        "bizUrl": "file:///a.jar",
        "args": ["--a=b", "c"],
        "envs": {"K": "v"},
        "installStrategy": "uninstallThenInstall",
    }


@pytest.mark.parametrize("verb", [pb.VERB_UNINSTALL, pb.VERB_SWITCH])
def test_uninstall_and_switch_name_the_module(verb: pb.Verb.ValueType) -> None:
    assert orjson.loads(commands.body(verb, [BIZ1])) == {"bizName": "biz1", "bizVersion": "0.0.1"}


def test_batch_install_is_a_list_of_modules() -> None:
    bodies = orjson.loads(commands.body(pb.VERB_BATCH_INSTALL, [BIZ1, BIZ1]))
    assert [item["bizName"] for item in bodies["bizList"]] == ["biz1", "biz1"]
    assert commands.body(pb.VERB_BATCH_INSTALL) == b'{"bizList":[]}'


@pytest.mark.parametrize("verb", [pb.VERB_QUERY_MODULES, pb.VERB_HEALTH])
def test_questions_are_empty_objects(verb: pb.Verb.ValueType) -> None:
    assert commands.body(verb) == b"{}"
    with pytest.raises(ValueError, match="takes no module"):
        commands.body(verb, [BIZ1])


@pytest.mark.parametrize("modules", [[], [BIZ1, BIZ1]])
def test_single_commands_take_one_module(modules: list[pb.OrderModule]) -> None:
    with pytest.raises(ValueError, match="takes one module"):
        commands.body(pb.VERB_INSTALL, modules)


def test_baseline_is_a_bare_list() -> None:
    assert commands.baseline([]) == b"[]"
    assert orjson.loads(commands.baseline([pb.ModuleRef(name="biz1", version="1", url="u")])) == [
        {"bizName": "biz1", "bizVersion": "1", "bizUrl": "u"}
    ]


def test_an_unknown_strategy_is_the_default() -> None:
    order = pb.OrderModule(name="biz1", version="1", strategy=77)  # type: ignore[arg-type]
    assert orjson.loads(commands.body(pb.VERB_INSTALL, [order])) == {"bizName": "biz1", "bizVersion": "1"}


def test_every_verb_of_the_contract_is_a_command() -> None:
    assert commands.COMMANDS.keys() == set(pb.Verb.values()) - {pb.VERB_UNSPECIFIED}
