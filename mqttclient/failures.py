"""How work with a broker fails, in words for people and causes for counting."""

import socket
import ssl


class MqttError(Exception):
    """Something could not be done at the broker; the message says why."""


class ConnectFailed(MqttError):
    """No connection could be made, or none that is of use; cause is for counting."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Lost(MqttError):
    """The connection ended: whether the broker took what was sent is not known."""


class Unanswered(MqttError):
    """The broker did not answer in time, and the connection stands."""


class NotSent(MqttError):
    """Nothing was sent."""


_CONNACK = {
    132: ("protocol", "the broker does not speak MQTT 3.1.1"),
    133: ("client_id", "the broker refuses the client id"),
    134: ("credentials", "the broker refuses user name or password (MQTT_USERNAME, MQTT_PASSWORD)"),
    135: ("credentials", "the broker does not let this user in (MQTT_USERNAME, MQTT_PASSWORD)"),
    136: ("unavailable", "the broker says that it is not available"),
}
"""By the reason codes of MQTT 5, to which paho translates those of 3.1.1."""


def refused(code: int, name: str) -> ConnectFailed:
    """Return what a CONNACK with a reason code means."""
    return ConnectFailed(*_CONNACK.get(code, ("refused", f"the broker refuses the connection: {name}")))


def not_connected(error: OSError | ValueError) -> ConnectFailed:
    """Return what an error while connecting means."""
    match error:
        case ssl.SSLCertVerificationError():
            text = f"the broker's certificate is not good: {error.verify_message} (MQTT_CA_PATH)"
            return ConnectFailed("certificate", text)
        case ssl.SSLError():
            return ConnectFailed("tls", f"TLS with the broker fails: {error.reason or error}")
        case socket.gaierror():
            return ConnectFailed("name", f"the broker's name does not resolve: {error.strerror}")
        case TimeoutError():
            return ConnectFailed("timeout", "the broker does not answer")
        case _:
            cause = getattr(error, "strerror", None) or error
            return ConnectFailed("unreachable", f"the broker cannot be reached: {cause}")
