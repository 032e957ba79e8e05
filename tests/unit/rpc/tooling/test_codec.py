"""Messages of the tooling API."""

import pytest

from controlplane.rpc.tooling import codec


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-11-23T22:26:27.233001Z", "2026-11-23T22:26:27.233001Z"),
        ("2026-11-23T22:26:27+02:00", "2026-11-23T20:26:27Z"),
        ("", None),
        ("soon", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
    ],
)
def test_times_of_the_cluster_are_read_exactly_or_not_at_all(text: str, written: str | None) -> None:
    message = codec.written(text)
    assert (message.ToJsonString() if message is not None else None) == written
