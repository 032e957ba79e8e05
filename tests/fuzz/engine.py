"""Runs targets: each for its share of the time, with the same inputs each time unless another seed is asked for."""

import hashlib
import os
import random
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.target import Target

VECTORS = Path(__file__).parent / "vectors"
SECONDS = float(os.environ.get("FUZZ_SECONDS") or 60)
"""For all targets together."""
SEED = os.environ.get("FUZZ_SEED") or "0"
"""A number, or random. A run in CI has the same inputs as the last one: what it finds, a change brought."""
KEEP = bool(os.environ.get("FUZZ_KEEP"))
"""Whether an input that is found is written to the vectors."""
_ROUND = 25
"""Inputs between two looks at the clock."""


def fuzz(target: Target, seconds: float) -> int:
    """Run a target for so many seconds, one round at least; return the number of inputs."""
    ends = time.monotonic() + seconds
    first = random.SystemRandom().randrange(2**31) if SEED == "random" else int(SEED)
    ran = 0
    failing = b""

    @settings(
        max_examples=_ROUND,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(target.inputs)
    def once(data: bytes) -> None:
        nonlocal ran, failing
        ran += 1
        try:
            target.run(data)
        except BaseException:
            failing = data
            raise

    number = 0
    while not number or time.monotonic() < ends:
        try:
            seed(first + number)(once)()
        except Exception as error:
            error.add_note(
                f"{target.name}: input {failing[:2000]!r}; FUZZ_SEED={first + number}{_kept(target, failing)}"
            )
            raise
        number += 1
    return ran


def vectors(target: Target) -> list[Path]:
    """Return the inputs that were found before."""
    return sorted((VECTORS / target.name).glob("*"))


def _kept(target: Target, data: bytes) -> str:
    if not KEEP:
        return ""
    path = VECTORS / target.name / hashlib.sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"; kept as {path}"
