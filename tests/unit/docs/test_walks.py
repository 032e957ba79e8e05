"""The walks of ARCHITECTURE.md match the code: each named function exists and is called by another."""

import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from types import ModuleType
from typing import Any

import pytest

from tests.unit.docs.pages import ROOT

WALKS = ("A heartbeat", "A Pod")
MOST_MODULES = 12
MOST_FORMS = 6

_NAME = re.compile(r"`([^`]+)`")
_WAITS = re.compile(r"(?:after|through) `(\w+)`")


@dataclass(frozen=True, slots=True)
class Step:
    """A row: its number, the file, the text, chains of names (each calls the next), and the form of the fact."""

    number: int
    path: str
    text: str
    chains: list[list[str]]
    form: str

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(self.path.removesuffix(".py").replace("/", "."))

    def named(self, name: str) -> Any:
        """Return the object of a name in the file of this step. Raises AttributeError."""
        return reduce(getattr, name.split("."), self.module)

    def owner(self, name: str) -> Any:
        """Return the class of a method, or the function itself."""
        of = self.named(name.rpartition(".")[0]) if "." in name else None
        return of if inspect.isclass(of) else self.named(name)

    def calls(self, caller: str, called: str) -> bool:
        """Return whether a function names another one; for a function of another class its whole class counts."""
        within = self.named(caller) if self.owner(caller) is self.owner(called) else self.owner(caller)
        return _mentions(inspect.getsource(within), called)


def walk(title: str) -> Iterator[Step]:
    """Yield the rows of a walk."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    for row in re.findall(r"^\| \d+ \|.*$", section, re.MULTILINE):
        number, path, text, functions, form = (cell.strip() for cell in row.strip("|").split("|"))
        chains = []
        for part in functions.split("; "):
            groups = [_NAME.findall(names) for names in part.split(" → ")]
            chains += [[name] for name in groups[0]]
            chains += [[before[-1], name] for before, names in itertools.pairwise(groups) for name in names]
        yield Step(int(number), path.strip("`"), text, chains, form)


@pytest.mark.parametrize("title", WALKS)
def test_the_steps_are_numbered_and_name_functions(title: str) -> None:
    steps = list(walk(title))
    assert len(steps) >= 10
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    for step in steps:
        assert step.chains
        for name in (name for chain in step.chains for name in chain):
            assert callable(step.named(name)), (step.path, name)


@pytest.mark.parametrize("title", WALKS)
def test_each_function_is_called_by_the_one_before_it(title: str) -> None:
    pairs = [(step, *pair) for step in walk(title) for chain in step.chains for pair in itertools.pairwise(chain)]
    assert pairs
    for step, caller, called in pairs:
        assert step.calls(caller, called), (step.path, caller, called)


@pytest.mark.parametrize("title", WALKS)
def test_each_step_is_reached_from_one_above_it(title: str) -> None:
    above: list[tuple[str, str]] = []
    for step in walk(title):
        waits = _WAITS.search(step.text)
        first = step.chains[0][0]
        if waits is not None:
            assert waits[1] in inspect.getsource(step.module), (step.path, waits[1])
            assert any(waits[1] in source for source, _ in above), (step.path, waits[1])
        elif above:
            assert any(_mentions(body, first) for _, body in above), (step.path, first)
        names = (name for chain in step.chains for name in chain)
        above += [(inspect.getsource(step.module), inspect.getsource(step.owner(name))) for name in names]


def test_a_heartbeat_passes_few_modules_in_few_forms() -> None:
    steps = list(walk("A heartbeat"))
    assert len({step.path for step in steps}) <= MOST_MODULES
    assert len([step.form for step in steps if step.form]) <= MOST_FORMS


def _mentions(source: str, name: str) -> bool:
    return re.search(rf"\b{name.rpartition('.')[2]}\b", source) is not None
