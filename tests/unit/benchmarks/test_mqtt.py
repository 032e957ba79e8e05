"""The MQTT benchmark counts messages, heartbeats and losses from metrics."""

import math

from benchmarks.exposition import parse
from benchmarks.mqtt import arrived, heartbeats, losses

METRICS = """\
# TYPE koupleless_mqtt_messages counter
koupleless_mqtt_messages_total{word="heart"} 100
koupleless_mqtt_messages_total{word="health"} 20
# TYPE koupleless_mqtt_foreign counter
koupleless_mqtt_foreign_total{word="health"} 3
# TYPE koupleless_mqtt_refused counter
koupleless_mqtt_refused_total{reason="stale"} 2
koupleless_mqtt_refused_total{reason="topic"} 0
# TYPE koupleless_gateway_reports counter
koupleless_gateway_reports_total{kind="Heartbeat",queued="true"} 90
koupleless_gateway_reports_total{kind="Heartbeat",queued="false"} 10
"""


def test_every_message_that_arrived_counts() -> None:
    assert arrived(parse(METRICS)) == 125
    assert heartbeats(parse(METRICS)) == 100


def test_losses_are_counted_by_reason() -> None:
    refused, unqueued, dropped = losses(parse(METRICS), 4.0)
    assert (refused.value, refused.note) == (2, "stale 2")
    assert (unqueued.value, dropped.value) == (10, 4)


def test_without_metrics_nothing_counts_as_lost() -> None:
    refused, unqueued, dropped = losses(parse(""), math.nan)
    assert (refused.value, unqueued.value) == (0, 0)
    assert math.isnan(dropped.value)
