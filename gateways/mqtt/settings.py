"""Settings of the MQTT gateway."""

from pydantic import Field, field_validator

from gateways.settings import GatewaySettings, Seconds
from mqttclient.settings import BrokerSettings, printable
from service.listening import Port


class MqttGatewaySettings(GatewaySettings, BrokerSettings):
    """Variables of mqtt-gateway."""

    _printable = field_validator("client_id")(printable)

    health_port: Port = Field(8083, description="TCP port of /livez and /readyz")
    metrics_port: Port = Field(9092, description="TCP port of /metrics")
    health_timeout: Seconds = Field(
        5.0, validation_alias="MQTT_HEALTH_TIMEOUT", description="seconds for the answer to a health question"
    )
    query_timeout: Seconds = Field(
        10.0, validation_alias="MQTT_QUERY_TIMEOUT", description="seconds for the answer with the module list"
    )
