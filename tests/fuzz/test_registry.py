"""Whatever reads something from outside has a target, and what was found once stays found."""

import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz import decoders
from tests.fuzz.engine import VECTORS, vectors
from tests.fuzz.registry import COVERED, EXEMPT, TARGETS
from tests.fuzz.target import Target

MEMORY = 16 * 1024 * 1024
MEMORY_OF_A_BYTE = 100
"""What reading an input may take in bytes, beside what its result has."""


def test_every_decoder_has_a_target() -> None:
    found = decoders.modules()
    forgotten = [f"{name}: {sign}" for name, sign in found.items() if name not in COVERED | EXEMPT.keys()]
    assert not forgotten, "give them a target in tests/fuzz, or say in registry.py why they need none"


def test_what_needs_no_target_is_there_and_has_none() -> None:
    assert EXEMPT.keys() <= decoders.modules().keys() - COVERED


@pytest.mark.parametrize("name", sorted(COVERED))
def test_what_a_target_names_is_there(name: str) -> None:
    assert find_spec(name) is not None


def test_names_are_used_once() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    assert {path.name for path in VECTORS.iterdir()} <= {target.name for target in TARGETS}


@pytest.mark.parametrize(
    ("target", "path"),
    [pytest.param(target, path, id=f"{target.name}/{path.name}") for target in TARGETS for path in vectors(target)],
)
def test_vectors(target: Target, path: Path) -> None:
    data = path.read_bytes()
    tracemalloc.start()
    try:
        target.run(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY + MEMORY_OF_A_BYTE * len(data)
