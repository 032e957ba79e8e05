"""Prometheus metrics of the MQTT tunnel."""

from prometheus_client import Counter, Gauge

CONNECTED = Gauge("koupleless_mqtt_connected", "1 while the broker is connected")
CONNECTS = Counter("koupleless_mqtt_connects_total", "Connections that the broker took")
CONNECTION_FAILURES = Counter(
    "koupleless_mqtt_connection_failures_total", "Connections that failed or ended, by cause", ["cause"]
)
MESSAGES = Counter("koupleless_mqtt_messages_total", "Messages of bases that were taken", ["word"])
FOREIGN = Counter("koupleless_mqtt_foreign_total", "Answers to what this gateway did not ask", ["word"])
REFUSED = Counter("koupleless_mqtt_refused_total", "Messages that changed nothing, by reason", ["reason"])
PUBLISHED = Counter("koupleless_mqtt_published_total", "Messages to bases", ["command"])
UNACKNOWLEDGED = Gauge("koupleless_mqtt_unacknowledged", "Messages that the broker still keeps for us")
SHARED = Gauge("koupleless_mqtt_shared_subscriptions", "1 while the broker spreads messages over the gateways")
LEFTOVERS_CLEARED = Counter("koupleless_mqtt_leftovers_cleared_total", "Retained commands removed from the broker")
