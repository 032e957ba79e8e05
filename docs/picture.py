"""Writes docs/architecture.svg, the picture of ARCHITECTURE.md and README.md, from the table below.

``python -m docs.picture`` writes it, with ``--check`` it only reports whether the file is what the table says (exit
code 1 when it is not).
"""

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docs.generated import keep

PAGE = Path(__file__).parent / "architecture.svg"

WIDTH, HEIGHT = 1200, 490
LINE = 18


@dataclass(frozen=True, slots=True)
class Box:
    """A box with a title and lines of text; x, y, width and height in pixels."""

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    fill: str = "#ffffff"


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow between two points, with a text at its middle; both: with two heads."""

    x1: int
    y1: int
    x2: int
    y2: int
    text: str = ""
    both: bool = False


_PALE, _GREEN, _BLUE, _SAND = "#f4f6f8", "#e8f4ea", "#e6effa", "#faf3e3"

BOXES = (
    Box(20, 120, 150, 150, "bases", ("JVMs with arklet:", "heartbeats,", "module lists,", "health"), _SAND),
    Box(250, 60, 190, 110, "http-gateway", ("listens on 7777,", "calls bases;", "arklet, session, polling"), _GREEN),
    Box(250, 220, 190, 110, "mqtt-gateway", ("connects to the broker;", "arklet, session, polling"), _GREEN),
    Box(540, 20, 420, 450, "control plane: 1 to N replicas", (), _PALE),
    Box(560, 60, 380, 80, "rpc", ("tunnel: streams of gateways", "tooling: tools, and other replicas"), _BLUE),
    Box(
        560,
        155,
        380,
        115,
        "app: effects",
        (
            "fleet: all bases, and their reports",
            "base: one actor for each base",
            "ownership: leases, members, who acts",
            "workloads, reporting, tooling",
        ),
        _BLUE,
    ),
    Box(
        560, 285, 380, 80, "domain: decisions", ("base, ownership, workloads, reports", "pure: no clock, no I/O"), _BLUE
    ),
    Box(560, 380, 380, 80, "cluster: caches and writes", ("kube or embedded behind one port",), _BLUE),
    Box(1040, 60, 140, 80, "mctl", ("and other tools",), _GREEN),
    Box(1040, 290, 140, 70, "Kubernetes", ("API server",), _SAND),
    Box(1040, 390, 140, 70, "embedded", ("one file, SQLite",), _SAND),
)

ARROWS = (
    Arrow(170, 160, 250, 125, "HTTP", both=True),
    Arrow(170, 230, 250, 265, "MQTT", both=True),
    Arrow(440, 105, 560, 90, "gRPC", both=True),
    Arrow(440, 260, 560, 115, "gRPC", both=True),
    Arrow(1040, 100, 940, 100, "gRPC"),
    Arrow(940, 405, 1040, 335, "", both=True),
    Arrow(940, 425, 1040, 425, "", both=True),
)


def picture() -> str:
    """Return the SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="14">',
        "<title>Bases talk to gateways, gateways and tools to the control plane, which writes to the cluster</title>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="#445"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *(line for box in BOXES for line in _box(box)),
        *(line for arrow in ARROWS for line in _arrow(arrow)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(box: Box) -> list[str]:
    middle = box.x + box.width // 2
    return [
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8" fill="{box.fill}" '
        'stroke="#445"/>',
        f'<text x="{middle}" y="{box.y + 24}" text-anchor="middle" font-weight="bold">{escape(box.title)}</text>',
        *(
            f'<text x="{middle}" y="{box.y + 24 + LINE * number}" text-anchor="middle">{escape(line)}</text>'
            for number, line in enumerate(box.lines, 1)
            if line
        ),
    ]


def _arrow(arrow: Arrow) -> list[str]:
    start = ' marker-start="url(#head)"' if arrow.both else ""
    lines = [
        f'<line x1="{arrow.x1}" y1="{arrow.y1}" x2="{arrow.x2}" y2="{arrow.y2}" stroke="#445" '
        f'marker-end="url(#head)"{start}/>'
    ]
    if arrow.text:
        x, y = (arrow.x1 + arrow.x2) // 2, (arrow.y1 + arrow.y2) // 2 - 8
        lines.append(f'<text x="{x}" y="{y}" text-anchor="middle" font-size="12">{escape(arrow.text)}</text>')
    return lines


if __name__ == "__main__":
    sys.exit(keep("docs.picture", PAGE, picture(), __doc__))
