"""Bodies of commands as arklet wants them."""

from __future__ import annotations

import orjson
import pytest

from gateways.arklet import commands
from gateways.arklet.facts import BaselineModule, InstallStrategy, ModuleOrder, Verb

BIZ1 = ModuleOrder("biz1", "0.0.1", "https://repo.example/biz1.jar")


def test_install_gives_only_what_is_known() -> None:
    assert orjson.loads(commands.body(Verb.INSTALL, [BIZ1])) == {
        "bizName": "biz1",
        "bizVersion": "0.0.1",
        "bizUrl": "https://repo.example/biz1.jar",
    }


def test_install_with_everything() -> None:
    order = ModuleOrder(
        "biz1", "1", "file:///a.jar", ("--a=b", "c"), (("K", "v"),), InstallStrategy.UNINSTALL_THEN_INSTALL
    )
    assert orjson.loads(commands.body(Verb.INSTALL, [order])) == {
        "bizName": "biz1",
        "bizVersion": "1",
        "bizUrl": "file:///a.jar",
        "args": ["--a=b", "c"],
        "envs": {"K": "v"},
        "installStrategy": "uninstallThenInstall",
    }


@pytest.mark.parametrize("verb", [Verb.UNINSTALL, Verb.SWITCH])
def test_uninstall_and_switch_name_the_module(verb: Verb) -> None:
    assert orjson.loads(commands.body(verb, [BIZ1])) == {"bizName": "biz1", "bizVersion": "0.0.1"}


def test_batch() -> None:
    bodies = orjson.loads(commands.body(Verb.BATCH_INSTALL, [BIZ1, BIZ1]))
    assert [item["bizName"] for item in bodies["bizList"]] == ["biz1", "biz1"]
    assert commands.body(Verb.BATCH_INSTALL) == b'{"bizList":[]}'


@pytest.mark.parametrize("verb", [Verb.QUERY_MODULES, Verb.HEALTH])
def test_questions_are_empty_objects(verb: Verb) -> None:
    assert commands.body(verb) == b"{}"
    with pytest.raises(ValueError, match="takes no module"):
        commands.body(verb, [BIZ1])


@pytest.mark.parametrize("modules", [[], [BIZ1, BIZ1]])
def test_single_commands_take_one_module(modules: list[ModuleOrder]) -> None:
    with pytest.raises(ValueError, match="takes one module"):
        commands.body(Verb.INSTALL, modules)


def test_baseline_is_a_bare_list() -> None:
    assert commands.baseline([]) == b"[]"
    assert orjson.loads(commands.baseline([BaselineModule("biz1", "1", "u")])) == [
        {"bizName": "biz1", "bizVersion": "1", "bizUrl": "u"}
    ]
