"""Clients of a broker that run in a thread of their own."""

from paho.mqtt.client import Client


def stop(client: Client) -> None:
    """Disconnect a client whose loop was started, and close all that it had open."""
    client.disconnect()
    client.loop_stop()
    # paho closes the pair that wakes its thread only when the client is collected as garbage.
    client._reset_sockets()
