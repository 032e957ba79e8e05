"""Settings of the MQTT gateway."""

from __future__ import annotations

import socket

from pydantic import Field

from gateways.settings import GatewaySettings, Port, Seconds
from mqttclient.settings import BrokerSettings, Printable


class MqttGatewaySettings(GatewaySettings, BrokerSettings):
    """Variables of mqtt-gateway."""

    client_id: Printable = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="stable name of this gateway, unique among gateways",
    )
    health_port: Port = Field(8083, description="TCP port of /livez and /readyz")
    metrics_port: Port = Field(9092, description="TCP port of /metrics")
    health_timeout: Seconds = Field(
        5.0, validation_alias="MQTT_HEALTH_TIMEOUT", description="seconds for the answer to a health question"
    )
    query_timeout: Seconds = Field(
        10.0, validation_alias="MQTT_QUERY_TIMEOUT", description="seconds for the answer with the module list"
    )
