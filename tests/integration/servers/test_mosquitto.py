"""The broker that tests run against can be stopped and started on its port."""

from tests.servers.mosquitto import Mosquitto
from tests.servers.process import accepts


def test_it_comes_back_on_its_port(mosquitto: Mosquitto) -> None:
    assert accepts(mosquitto.port)
    mosquitto.stop()
    assert not accepts(mosquitto.port)
    mosquitto.start()
    assert accepts(mosquitto.port)
