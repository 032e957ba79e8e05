"""Settings of the MQTT gateway."""

from __future__ import annotations

import socket

from pydantic import Field

from gateways.settings import GatewaySettings, Port, Seconds, health_port, metrics_port
from mqttclient.settings import BrokerSettings, Printable


class MqttGatewaySettings(GatewaySettings, BrokerSettings):
    """Variables of mqtt-gateway."""

    client_id: Printable = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        validation_alias="CLIENT_ID",
        description="stable name of this gateway, unique among gateways",
    )
    health_port: Port = health_port(8083)
    metrics_port: Port = metrics_port(9092)
    health_timeout: Seconds = Field(
        5.0, validation_alias="MQTT_HEALTH_TIMEOUT", description="seconds for the answer to a health question"
    )
    query_timeout: Seconds = Field(
        10.0, validation_alias="MQTT_QUERY_TIMEOUT", description="seconds for the answer with the module list"
    )
