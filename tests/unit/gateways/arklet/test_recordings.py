"""Everything that real bases sent is read as recorded, and our own requests are the recorded bytes."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, envelopes, payloads, topics
from gateways.arklet.commands import COMMANDS, EMPTY, HELP
from gateways.arklet.envelopes import Envelope, Operation
from gateways.arklet.fields import Json, Malformed, first_object
from tests.recordings import FROM_BASE, HTTP, MQTT, TO_BASE, Exchange, Published
from tests.unit.gateways import said

VERBS = {command: verb for verb, command in COMMANDS.items()}
READERS: Mapping[str, Callable[[Json], object]] = {
    "installBiz": payloads.reply,
    "uninstallBiz": payloads.reply,
    "switchBiz": payloads.reply,
    "batchInstallBiz": payloads.batch_reply,
    "queryAllBiz": payloads.modules,
    "health": payloads.health,
    "help": payloads.help_commands,
    # We never send these; their answers have the same envelope.
    "queryBizOps": payloads.reply,
    "fooBar": payloads.reply,
    "GET health": payloads.reply,
}
WORDS: Mapping[str, Callable[[Envelope], object]] = {
    "heart": envelopes.heartbeat,
    "queryBaseline": lambda opened: payloads.baseline_query(opened.content),
    "health": lambda opened: payloads.health(opened.content),
    "simpleBiz": lambda opened: payloads.simple_modules(opened.data),
    "bizOperation": envelopes.operation,
    "batchInstallBizResponse": envelopes.batch_reply,
}
INTERNAL = "CMD_PROCESS_INTERNAL_ERROR UNSPECIFIED: Internal Error: "
INVALID = " / com.alipay.sofa.koupleless.arklet.core.common.exception.CommandValidationException: "
LIMIT = 419_430_400
BIZ1_4 = "activated at 1795820958290: Started"
SWITCHED = "at 1795820961638: Switched"


def used(heap: int, cpu: float) -> pb.Usage:
    return pb.Usage(heap_bytes=heap, cpu_seconds=cpu)


READ: Mapping[str, object] = {
    "connection-refused": None,
    "health-no-module": said.health(
        "ACTIVATED", (53_672_624, 54_067_200, LIMIT), "17.0.15", 2, used(95_301_000, 14.32)
    ),
    "health-modules": said.health(
        "ACTIVATED", (59_754_568, 60_293_120, LIMIT), "17.0.15", 2, used(116_258_304, 1612.42)
    ),
    "queryAllBiz-empty": [],
    "queryAllBiz-activated": ["biz1:0.0.1 activated at 1795819359604: Started"],
    "queryAllBiz-resolved": ["biz1:0.0.1 resolved at 1795819071488: Created"],
    "queryAllBiz-resolved-beside-activated": [
        "biz1:0.0.2 resolved at 1795819925091: Created",
        "biz1:0.0.1 activated at 1795819918362: Started",
    ],
    "queryAllBiz-deactivated-new": [
        f"biz1:0.0.4 {BIZ1_4}",
        "biz1:0.0.5 deactivated at 1795820961593: Started, start but is deactivated",
    ],
    "queryAllBiz-deactivated-old": [
        f"biz1:0.0.4 deactivated {SWITCHED}, switch to new version biz1:0.0.5",
        f"biz1:0.0.5 activated {SWITCHED}, switch from old version: biz1:0.0.4",
    ],
    "queryAllBiz-many": [
        "biz1:0.0.2 activated at 1795820072297: Started",
        "bizclash:0.0.1 activated at 1795820519877: Started",
        "biz3:0.0.1 activated at 1795820519870: Started",
    ],
    "queryAllBiz-held-up": [
        "biz1:0.0.5 activated at 1795821039292: Started",
        "bizslow:0.0.1 activated at 1795821152148: Started",
    ],
    "queryAllBiz-empty-body": [
        "biz1:0.0.5 activated at 1795821039292: Started",
        "bizslow:0.0.1 activated at 1795821152148: Started",
    ],
    "queryAllBiz-malformed": None,
    "installBiz-success": "SUCCESS SUCCESS: Install Biz: biz1:0.0.1 success, cost: 12883 ms, started at: 22:51:45,479"
    " [biz1:0.0.1 activated at 1795819918362: Started]",
    "installBiz-success-second-version": "SUCCESS SUCCESS: Install Biz: biz1:0.0.5 success, cost: 1934 ms, "
    "started at: 23:09:19,659 [biz1:0.0.5 deactivated at 1795820961593: Started, start but is deactivated]",
    "installBiz-success-strategy": "SUCCESS SUCCESS: Install Biz: biz1:0.0.2 success, cost: 2601 ms, "
    "started at: 22:54:29,696 [biz1:0.0.2 activated at 1795820072297: Started]",
    "installBiz-success-client-gone": "SUCCESS SUCCESS: Install Biz: bizslow:0.0.1 success, cost: 41212 ms, "
    "started at: 23:11:50,936 [bizslow:0.0.1 activated at 1795821152148: Started]",
    "installBiz-identity-mismatch": "SUCCESS SUCCESS: Install Biz: biz3:0.0.1 success, cost: 15080 ms, "
    "started at: 22:55:57,494 [biz3:0.0.1 activated at 1795820172574: Started]",
    "installBiz-repeat-itself": "FAILED REPEAT_BIZ: Biz: biz1:0.0.5 has been installed or registered.",
    "installBiz-repeat-other": "FAILED REPEAT_BIZ: Biz: biz3:0.0.1 has been installed or registered.",
    "installBiz-url-404": f"{INTERNAL}java.io.FileNotFoundException: http://127.0.0.1:28899/none.jar"
    " / Caused by: java.io.FileNotFoundException: http://127.0.0.1:28899/none.jar",
    "installBiz-not-a-zip": f"{INTERNAL}java.util.zip.ZipException: zip END header not found"
    " / Caused by: java.util.zip.ZipException: zip END header not found",
    "installBiz-no-biz": f"{INTERNAL}java.lang.IllegalArgumentException: Biz Name must not be empty!"
    " / Caused by: java.lang.IllegalArgumentException: Biz Name must not be empty!",
    "installBiz-main-throws": f"{INTERNAL}java.lang.reflect.InvocationTargetException"
    " / Caused by: java.lang.IllegalStateException: boom of bizbad: no database",
    "installBiz-path-clash": f"{INTERNAL}java.lang.reflect.InvocationTargetException"
    " / Caused by: java.lang.IllegalArgumentException: Child name [biz1] is not unique",
    "installBiz-invalid": f"{INTERNAL}bizUrl should not be blank{INVALID}bizUrl should not be blank",
    "uninstallBiz-success": "SUCCESS SUCCESS: Uninstall biz: biz1:0.0.1 success.",
    "uninstallBiz-not-found": "FAILED NOT_FOUND_BIZ: Uninstall biz: a:1 not found.",
    "uninstallBiz-invalid": f"{INTERNAL}bizVersion should not be blank{INVALID}bizVersion should not be blank",
    "switchBiz-success": "SUCCESS SUCCESS: Switch biz: biz1:0.0.5 is activated.",
    "switchBiz-not-found": "FAILED NOT_FOUND_BIZ: Switch biz: a:1 not found.",
    "batchInstallBiz-success": {
        "": "SUCCESS SUCCESS: batch install success",
        "http://127.0.0.1:28899/biz3-0.0.1.jar": "SUCCESS SUCCESS: Install Biz: biz3:0.0.1 success, cost: 12187 ms, "
        "started at: 23:03:33,644 [biz3:0.0.1 activated at 1795820625831: Started]",
        "http://127.0.0.1:28899/bizclash-0.0.1.jar": "SUCCESS SUCCESS: Install Biz: bizclash:0.0.1 success, "
        "cost: 12194 ms, started at: 23:03:33,645 [bizclash:0.0.1 activated at 1795820625839: Started]",
    },
    "batchInstallBiz-one-failed": {
        "": "FAILED FAILED: batch install failed",
        "http://127.0.0.1:28899/biz3-0.0.1.jar": "SUCCESS SUCCESS: Install Biz: biz3:0.0.1 success, cost: 10235 ms, "
        "started at: 23:01:49,635 [biz3:0.0.1 activated at 1795820519870: Started]",
        "http://127.0.0.1:28899/bizclash-0.0.1.jar": "SUCCESS SUCCESS: Install Biz: bizclash:0.0.1 success, "
        "cost: 10241 ms, started at: 23:01:49,636 [bizclash:0.0.1 activated at 1795820519877: Started]",
        "http://127.0.0.1:28899/biz2-0.0.1.jar": "FAILED FAILED: internal exception: null",
    },
    "batchInstallBiz-no-modules": {"": "SUCCESS SUCCESS: batch install success"},
    "batchInstallBiz-invalid": {"": f"{INTERNAL}bizList is null{INVALID}bizList is null"},
    "help": {
        *("help", "installBiz", "batchInstallBiz", "uninstallBiz", "switchBiz", "queryAllBiz", "health"),
        "queryBizOps",
    },
    "queryBizOps-not-found": "FAILED UNSPECIFIED: Not found the corresponding ops record.",
    "unknown-command": "CMD_NOT_FOUND UNSPECIFIED: please follow the doc",
    "get": Malformed,
}
PUBLISHED: Mapping[str, object] = {
    "mqtt-queryBaseline": said.query("base-m", "", "shop-base", "1.0.0", "mq"),
    "mqtt-heart": said.heartbeat(
        "base-m", "shop-base", "1.0.0", "mq", host_name="base-host", ip="127.0.0.1", state="ACTIVATED"
    ),
    "mqtt-health-no-module": said.health(
        "ACTIVATED", (50_082_592, 50_528_256, LIMIT), "17.0.15", 2, used(28_985_856, 0.0)
    ),
    "mqtt-health-modules": said.health(
        "ACTIVATED", (55_057_384, 55_508_992, LIMIT), "17.0.15", 2, used(66_221_056, 572.9)
    ),
    "mqtt-simpleBiz-empty": [],
    "mqtt-simpleBiz-resolved": [
        "biz2:0.0.1 resolved at 1795820457299: CREATED",
        "biz3:0.0.1 resolved at 1795820457268: CREATED",
    ],
    "mqtt-simpleBiz-activated": [
        "biz2:0.0.1 activated at 1795820465309: STARTED",
        "biz3:0.0.1 activated at 1795820465339: STARTED",
    ],
    "mqtt-simpleBiz-mixed": [
        "biz1:0.0.1 resolved at 1795820500098: CREATED",
        "biz2:0.0.1 activated at 1795820465309: STARTED",
        "biz3:0.0.1 activated at 1795820465339: STARTED",
    ],
    "mqtt-bizOperation-install-success": "installBiz biz1:0.0.1: SUCCESS SUCCESS: Install Biz: biz1:0.0.1 success, "
    "cost: 9093 ms, started at: 23:01:40,086 [biz1:0.0.1 activated at 1795820509179: STARTED]",
    "mqtt-bizOperation-install-main-throws": "installBiz bizbad:0.0.1: FAILED FAILED: "
    "java.lang.reflect.InvocationTargetException"
    " / Caused by: java.lang.IllegalStateException: boom of bizbad: no database",
    "mqtt-bizOperation-install-url-404": "installBiz nope:0.0.1: FAILED FAILED: "
    "java.io.FileNotFoundException: http://127.0.0.1:28899/nope.jar"
    " / Caused by: java.io.FileNotFoundException: http://127.0.0.1:28899/nope.jar",
    "mqtt-bizOperation-uninstall-success": "uninstallBiz biz1:0.0.1: SUCCESS SUCCESS: "
    "Uninstall biz: biz1:0.0.1 success.",
    "mqtt-batchInstallBizResponse-success": {
        "": "SUCCESS SUCCESS: batch install success",
        "http://127.0.0.1:28899/biz3-0.0.1.jar": "SUCCESS SUCCESS: Install Biz: biz3:0.0.1 success, cost: 8110 ms, "
        "started at: 23:00:57,229 [biz3:0.0.1 activated at 1795820465339: STARTED]",
        "http://127.0.0.1:28899/biz2-0.0.1.jar": "SUCCESS SUCCESS: Install Biz: biz2:0.0.1 success, cost: 8077 ms, "
        "started at: 23:00:57,232 [biz2:0.0.1 activated at 1795820465309: STARTED]",
    },
}


def shown(fact: object) -> object:
    """Return a fact in a form that can be read in the tables above; of a stack trace, the last cause."""
    match fact:
        case pb.Modules():
            assert fact.complete
            return [shown(module) for module in fact.modules]
        case pb.Module():
            state = pb.ModuleState.Name(fact.state).removeprefix("MODULE_STATE_").lower()
            text = f"{fact.name}:{fact.version} {state} at {fact.changed_at.ToMilliseconds()}: {fact.reason}"
            return f"{text}, {fact.message}" if fact.message else text
        case pb.Reply():
            causes = [line for line in fact.stack_trace.splitlines() if line.startswith("Caused by: ")]
            cause = causes[-1] if causes else fact.stack_trace.partition("\n")[0]
            modules = ", ".join(str(shown(module)) for module in fact.modules)
            code = pb.ReplyCode.Name(fact.code).removeprefix("REPLY_CODE_")
            text = f"{code} {pb.ClientCode.Name(fact.client_code).removeprefix('CLIENT_CODE_')}: {fact.message}"
            return text + (f" / {cause}" if cause else "") + (f" [{modules}]" if modules else "")
        case pb.BatchInstallResult():
            return {"": shown(fact.reply), **{item.url: shown(item.reply) for item in fact.items}}
        case Operation():
            return f"{COMMANDS[fact.verb]} {fact.name}:{fact.version}: {shown(fact.reply)}"
        case _:
            return fact


@pytest.mark.parametrize("exchange", TO_BASE, ids=lambda exchange: exchange.id)
def test_replies_are_read(exchange: Exchange) -> None:
    expected = READ[exchange.id]
    if exchange.reply_body is None:
        assert expected is None
    elif expected is Malformed:
        with pytest.raises(Malformed):
            READERS[exchange.verb](first_object(exchange.reply_body))
    else:
        assert shown(READERS[exchange.verb](first_object(exchange.reply_body))) == expected


@pytest.mark.parametrize("message", FROM_BASE, ids=lambda message: message.id)
def test_what_bases_publish_is_read(message: Published) -> None:
    base, word = topics.parse(message.topic, "dev")
    assert base == "base-m"
    opened = envelopes.envelope(message.payload)
    assert opened.published_at == message.json()["publishTimestamp"]
    assert shown(WORDS[word.value](opened)) == PUBLISHED[message.id]


@pytest.mark.parametrize(
    ("recorded", "identity", "name", "version", "cluster", "port"),
    [
        ("heartbeat-1.4.2", "base-1", "shop-base", "1.0.0", "default", 23801),
        ("heartbeat-1.3.3", "old-1", "old-base", "", "old", 23804),
    ],
)
def test_heartbeats_are_read(recorded: str, identity: str, name: str, version: str, cluster: str, port: int) -> None:
    data = first_object(HTTP[recorded].request_body or b"")
    assert payloads.port(data) == port
    assert payloads.heartbeat(data) == said.heartbeat(
        identity, name, version, cluster, host_name="base-host", ip="127.0.0.1", state="ACTIVATED"
    )


STRATEGIES = {
    None: pb.INSTALL_STRATEGY_UNSPECIFIED,
    "installOnly": pb.INSTALL_STRATEGY_INSTALL_ONLY,
    "uninstallThenInstall": pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL,
}


def _module(asked: Any) -> pb.OrderModule:
    names = {"name": asked["bizName"], "version": asked["bizVersion"], "url": asked.get("bizUrl", "")}
    return pb.OrderModule(**names, strategy=STRATEGIES[asked.get("installStrategy")])


def _body(command: str, asked: Any) -> bytes:
    """Return the body that we send for a recorded command."""
    if command == HELP:
        return EMPTY
    items = asked.get("bizList", [asked] if asked else [])
    return commands.body(VERBS[command], [_module(item) for item in items])


@pytest.mark.parametrize(
    "exchange",
    [exchange for exchange in TO_BASE if exchange.request_body and not exchange.by_hand],
    ids=lambda exchange: exchange.id,
)
def test_our_requests_are_the_recorded_bytes(exchange: Exchange) -> None:
    assert _body(exchange.verb, exchange.asked()) == exchange.request_body


@pytest.mark.parametrize(
    "message", [message for message in MQTT.values() if "-command-" in message.id], ids=lambda message: message.id
)
def test_our_commands_over_mqtt_are_the_recorded_bytes(message: Published) -> None:
    command = message.topic.rpartition("/")[2]
    assert topics.command("dev", "base-m", VERBS[command]) == message.topic
    assert _body(command, message.json()) == message.payload


def test_our_baseline_is_the_recorded_bytes() -> None:
    message = MQTT["mqtt-baseline"]
    modules = [pb.ModuleRef(name=m["bizName"], version=m["bizVersion"], url=m["bizUrl"]) for m in message.json()]
    assert topics.baseline("dev", "base-m") == message.topic
    assert commands.baseline(modules) == message.payload


def test_every_recording_is_read() -> None:
    assert READ.keys() == {exchange.id for exchange in TO_BASE}
    assert PUBLISHED.keys() == {message.id for message in FROM_BASE}
