"""The variables that name a broker and the account there."""

import ssl
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from service.listening import Port
from service.settings import Settings


def printable(value: str) -> str:
    """Return a client id, or a part of one; raises ValueError."""
    if not value.isprintable():
        raise ValueError("has characters that cannot be printed")
    return value


class BrokerSettings(Settings):
    """Variables of every program that connects to a broker."""

    broker: str = Field(
        validation_alias="MQTT_BROKER", min_length=1, max_length=253, description="host name or address of the broker"
    )
    port: Port = Field(1883, validation_alias="MQTT_PORT", description="TCP port of the broker")
    username: str = Field("", validation_alias="MQTT_USERNAME", description="user at the broker; empty means none")
    password: SecretStr = Field(SecretStr(""), validation_alias="MQTT_PASSWORD", description="password of the user")
    client_prefix: Annotated[str, AfterValidator(printable)] = Field(
        "koupleless",
        validation_alias="MQTT_CLIENT_PREFIX",
        max_length=1024,
        description="first part of the client id PREFIX@@@CLIENT_ID",
    )
    ca_path: str = Field(
        "", validation_alias="MQTT_CA_PATH", description="PEM file with the CA of the broker; turns TLS on"
    )
    client_crt_path: str = Field(
        "", validation_alias="MQTT_CLIENT_CRT_PATH", description="PEM file with the client certificate; turns TLS on"
    )
    client_key_path: str = Field(
        "", validation_alias="MQTT_CLIENT_KEY_PATH", description="PEM file with the key of the client certificate"
    )
    tls_insecure: bool = Field(
        False,
        validation_alias="MQTT_TLS_INSECURE",
        description="true does not check the broker's certificate: anybody on the way can then install modules",
    )

    def client_id_of(self, name: str) -> str:
        """Return PREFIX@@@name, the form of client ids that the base side knows."""
        return f"{self.client_prefix}@@@{name}"

    @property
    def tls(self) -> bool:
        """Whether the broker is spoken to by TLS."""
        return bool(self.ca_path or self.client_crt_path)

    @cached_property
    def tls_context(self) -> ssl.SSLContext | None:
        """How to do TLS, None without it. Raises ValueError for files that cannot be used."""
        if not self.tls:
            return None
        context = ssl.create_default_context()
        if self.ca_path:
            _load("MQTT_CA_PATH", self.ca_path, lambda: context.load_verify_locations(cafile=self.ca_path))
        if self.client_crt_path:
            files = f"{self.client_crt_path} with MQTT_CLIENT_KEY_PATH={self.client_key_path}"
            _load(
                "MQTT_CLIENT_CRT_PATH",
                files,
                # A password that is asked for on the terminal would hang the start.
                lambda: context.load_cert_chain(self.client_crt_path, self.client_key_path, password=""),
            )
        if self.tls_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @field_validator("broker")
    @classmethod
    def _host(cls, value: str) -> str:
        if "/" in value or value.startswith("[") or value.count(":") == 1 or any(c.isspace() for c in value):
            raise ValueError("give the host alone, without scheme and port; the port is MQTT_PORT")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.password.get_secret_value() and not self.username:
            raise ValueError("MQTT_PASSWORD is set without MQTT_USERNAME: set both or neither")
        if bool(self.client_crt_path) != bool(self.client_key_path):
            raise ValueError("MQTT_CLIENT_CRT_PATH and MQTT_CLIENT_KEY_PATH belong together: set both or neither")
        if self.tls_insecure and not self.tls:
            raise ValueError("MQTT_TLS_INSECURE=true without TLS: set MQTT_CA_PATH too, or unset it")
        _ = self.tls_context
        return self


def _load(variable: str, files: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # SSLError is an OSError
        cause = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        raise ValueError(f"{variable}={files}: cannot be used ({cause}); give readable PEM files that match") from None
