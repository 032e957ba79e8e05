"""The project's pages, and what is in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])

_BLOCK = re.compile(
    r"(?:^<!-- not run:(?P<why>[^\n]*)-->\n+)?^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\((?P<target>[^()\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of commands and what they print; why is the reason for which no test runs it, None when one does."""

    page: Path
    line: int
    text: str
    why: str | None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yield each command with what it prints; lines of a command after its first begin with >."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            first, *lines = part.splitlines()
            more = list(takewhile(lambda line: line.startswith("> "), lines))
            command = "\n".join([first, *(line.removeprefix("> ") for line in more)])
            yield command, "\n".join(lines[len(more) :])


def blocks() -> list[Block]:
    """Return the console blocks of all pages, in the order in which they are read."""
    first = ROOT / "README.md"
    return [
        Block(page, text.count("\n", 0, found.start("text")) + 1, found["text"], found["why"])
        for page in sorted(PAGES, key=lambda page: (page != first, page))
        for text in [page.read_text(encoding="utf-8")]
        for found in _BLOCK.finditer(text)
    ]


def section(block: Block) -> str:
    """Return the heading under which a block stands."""
    before = block.page.read_text(encoding="utf-8").splitlines()[: block.line]
    return next(line.lstrip("# ") for line in reversed(before) if line.startswith("#"))


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links."""
    for found in _LINK.finditer(page.read_text(encoding="utf-8")):
        yield found["target"]
