"""What a simulated base says as recorded is what was recorded."""

import json
from pathlib import Path

import simulatedbase
from tests.recordings import HTTP

RECORDED = json.loads((Path(simulatedbase.__file__).parent / "recorded.json").read_bytes())


def test_the_recorded_parts_are_those_of_the_recordings() -> None:
    health = HTTP["health-no-module"].json()["data"]["healthData"]
    assert RECORDED["health"].items() <= health.items()
    assert RECORDED["installed"] == HTTP["installBiz-success"].json()["data"]["bizInfos"][0]
