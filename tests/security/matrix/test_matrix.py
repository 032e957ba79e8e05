"""Row 19: each port x credential. Each refusal is counted once by its port, and logged with peer and reason."""

import time

import pytest

from controlplane.rpc.access.guard import LOG_EVERY
from tests.programs import ask, eventually
from tests.security.matrix.doors import DOORS, Attempt, Door
from tests.security.matrix.stage import GONE, NEW, OLD, Stage, apart, seconds
from tests.security.matrix.table import Row, rows

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("row", [*rows()], ids=lambda row: f"{row.door}-{row.credential}")
def test_each_credential_at_each_port(stage: Stage, row: Row) -> None:
    door = DOORS[row.door]
    program = stage.programs[door.program]

    def refused() -> dict[str, float]:
        return {reason: count for reason, count in program.refusals(door.counter, door.labels).items() if count}

    before = refused()
    attempt = door.attempt(stage, row.credential)
    assert attempt.outcome == row.outcome
    if row.reason:
        expected = {**before, row.reason: before.get(row.reason, 0) + 1}
        eventually(lambda: refused() == expected, within=5.0, what=f"counted once, as {row.reason}")
        eventually(lambda: is_logged(stage, door, attempt, row.reason), within=5.0, what="its line in the log")
    else:
        assert refused() == before


def is_logged(stage: Stage, door: Door, attempt: Attempt, reason: str) -> bool:
    """Return whether the log has one line on a peer and reason in each minute, this one included."""
    lines = [
        line
        for line in stage.programs[door.program].lines()
        if (line.get("event"), line.get("peer"), line.get("reason")) == (door.event, attempt.peer, reason)
    ]
    assert all(gap > LOG_EVERY - 1.0 for gap in apart(lines))
    return bool(lines) and time.time() - seconds(lines[-1]) < LOG_EVERY + 5.0


def test_what_anybody_can_read_has_no_secret(stage: Stage) -> None:
    """After all rows: each secret has been shown by then, or was made."""
    words = {NEW, OLD, GONE, *stage.tokens.values()} - {"", stage.tokens["bad"]}
    # Of a token that is made of parts each one that is long enough to be a secret.
    secrets = words | {part for word in words for part in word.split(".") if len(part) > 20}
    for program in stage.programs.values():
        paths = {"METRICS_PORT": ("metrics",), "HEALTH_PORT": ("livez", "healthz", "readyz", "readyz?verbose")}
        pages = [ask(f"http://127.0.0.1:{program.ports[port]}/{path}")[1] for port in paths for path in paths[port]]
        pages.append(program.server.log.read_text())
        assert not {secret for secret in secrets for page in pages if secret in page}
