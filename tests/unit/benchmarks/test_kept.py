"""What a release is measured by, and the table that is made of what was kept."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import everything
from benchmarks.figures import Figure, Report, as_json
from benchmarks.kept import markdown, read
from benchmarks.options import parser

MACHINE = {"commit": "abc", "machine": "2 cores", "loop of Python": "90 ms", "load before": "0.30 (1 min)"}


def test_every_command_of_all_can_be_parsed_in_any_size() -> None:
    for scale in (1.0, 0.05, 0.0001):
        found = everything.commands(scale, [], [])
        assert len(found) == len(everything.ROWS)
        for words in found:
            parser().parse_args(words)


def test_a_scale_changes_bases_and_times_but_neither_rates_nor_modules_of_a_base() -> None:
    (install,), (idle,) = everything.commands(0.05, ["install"], []), everything.commands(0.05, ["idle"], [])
    assert install == ["install", "--bases", "50", "--rate", "20", "--modules", "50"]
    assert idle == ["idle", "--bases", "50", "--seconds", "15", "--modules", "10"]
    (scale,), (tools,) = everything.commands(0.1, ["scale"], []), everything.commands(0.1, ["tools"], [])
    assert scale == ["scale", "--bases", "50,100,200,500,1000"]
    assert tools == ["tools", "--vnodes", "1000", "--modules", "2000", "--watchers", "10"]


def test_a_tenth_of_the_bases_of_density_is_one_at_least(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["density", "--bases", "9"])
    assert "--bases: 9 is not a number from 10 to 5000" in capsys.readouterr().err


def test_an_option_of_the_caller_counts_in_place_of_ours() -> None:
    (words,) = everything.commands(1, ["idle"], ["idle --seconds 5 --bases 7", "mqtt --bases 9"])
    options = parser().parse_args(words)
    assert (options.seconds, options.bases, options.modules) == (5, 7, 10)


def test_the_folder_for_logs_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "new" / "logs"
    assert parser().parse_args(["idle", "--logs", str(logs)]).logs == logs
    assert logs.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        parser().parse_args(["idle", "--logs", str(tmp_path / "file")])
    assert "File exists" in capsys.readouterr().err


def report(*figures: Figure, failed: str = "") -> Report:
    return Report("idle, 10 bases", "python -m benchmarks idle --bases 10", MACHINE, figures, failed)


def test_what_was_kept_is_read_again() -> None:
    found = [report(Figure("rate", 5.0, "1/s", 8.0, "n", at_least=True), Figure("lost", math.nan, "s")), report()]
    (first, second) = read(as_json(found))
    assert first.figures[0] == found[0].figures[0]
    assert math.isnan(first.figures[1].value)
    assert (second.command, second.machine, second.figures) == (found[1].command, MACHINE, [])


@pytest.mark.parametrize("text", ["[1]", '[{"scenario": "x"}]', "soon", json.dumps([{"figures": [{"x": 1}]}])])
def test_what_was_not_kept_by_us_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


def test_the_table_has_what_has_a_target_and_missed_ones_in_bold() -> None:
    figures = [
        Figure("writes", 3.0, "1", 4.0),
        Figure("time", 9.0, "s", 6.0),
        Figure("without", 9.0, "s"),
        Figure("rate", 4.0, "1/s", 8.0, at_least=True),
    ]
    lines = markdown([report(*figures), report(failed="no servers")]).splitlines()
    assert lines[0] == "commit abc; machine 2 cores."
    assert lines[4:] == [
        "| `idle --bases 10` | 0.30 | 90 ms | writes | 3.00 | <= 4.00 | 0.75 |",
        "| | | | time | **9.00 s** | <= 6.00 | 1.50 |",
        "| | | | rate | **4.00 1/s** | >= 8.00 | 2.00 |",
        "| `idle --bases 10` | 0.30 | 90 ms | not measured: no servers | | | |",
    ]
