"""The tracker's configuration file is read, and the file that it writes is bounded."""

from pathlib import Path

import pytest

from controlplane.reports.trackerfile import EventLog, TrackerConfig, WrongTrackerFile, load
from controlplane.settings import ControlPlaneSettings
from service.settings import read

ORIGINAL = """\
logDir: "."
reportLevel: "error" # value: debug/error, debug means success log will report too
reportLinks:  # default tracker will send post requests with report data to every link
  - "http://localhost:8080/log"
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "tracker.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_originals_file_is_read(tmp_path: Path) -> None:
    assert load(written(tmp_path, ORIGINAL)) == TrackerConfig(
        logDir=Path(), reportLevel="error", reportLinks=("http://localhost:8080/log",)
    )
    assert load(written(tmp_path, "")).level == "error"
    assert load(written(tmp_path, "logDir: /var/log\nreportLevel: debug\nreportLinks:\n")) == TrackerConfig(
        logDir=Path("/var/log"), reportLevel="debug", reportLinks=()
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("logDir: [", "not YAML in line"),
        ("- a", "must have the keys"),
        ("reportLevel: info", "field reportLevel must be 'error' or 'debug'"),
        ("reportLink: []", "field reportLink is not known; the keys are logDir"),
        ("reportLinks: http://host/log", "field reportLinks must be a list"),
        ("logDir: 5", "field logDir "),
        (b"\xff\xfe\x00", "not YAML"),
        ("x: " + "y" * 2_000_000, "larger than"),
    ],
)
def test_with_a_malformed_file_nothing_is_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes, problem: str
) -> None:
    path = written(tmp_path, text)
    monkeypatch.setenv("TRACKER_CONFIG_PATH", str(path))
    (line,) = read(ControlPlaneSettings).complaints()
    assert line.startswith(f"TRACKER_CONFIG_PATH={path}: ")
    assert problem in line
    assert line.endswith("; nothing is tracked")


def test_a_link_that_cannot_be_used_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = "[ftp://host/log, 'http://host/log', 'http://host:port/s3cret']"
    path = written(tmp_path, f"logDir: {tmp_path}\nreportLinks: {links}")
    config = load(path)
    assert [(link.name, link.url) for link in config.links if not link.problem] == [
        ("link 2 (http://host/***)", "http://host/log")
    ]
    monkeypatch.setenv("TRACKER_CONFIG_PATH", str(path))
    complaints = read(ControlPlaneSettings).complaints()
    assert [line.partition(" gets no reports: ")[2] for line in complaints] == [
        "it must begin with http:// or https://",
        "its host is neither a name nor an address, or its port is not a number from 0 to 65535",
    ]
    assert "s3cret" not in str(complaints)


def test_without_the_named_file_nothing_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_CONFIG_PATH", str(tmp_path / "none.yaml"))
    (line,) = read(ControlPlaneSettings).complaints()
    assert "it cannot be read (No such file or directory)" in line
    with pytest.raises(WrongTrackerFile, match="Is a directory"):
        load(tmp_path)


def test_a_folder_that_is_missing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, f"logDir: {tmp_path}/none")
    monkeypatch.setenv("TRACKER_CONFIG_PATH", str(path))
    (line,) = read(ControlPlaneSettings).complaints()
    assert f"logDir: there is no folder {tmp_path}/none" in line
    (tmp_path / "none").mkdir()
    assert not read(ControlPlaneSettings).complaints()


def test_without_the_default_file_nothing_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(ControlPlaneSettings).tracker_file is None
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "default_tracker_config.yaml").write_text(ORIGINAL)
    assert read(ControlPlaneSettings).tracker_file == Path("config/default_tracker_config.yaml")


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


async def test_the_file_is_rotated_and_stays_bounded(tmp_path: Path) -> None:
    log = EventLog(tmp_path, largest=100, kept=2)
    for number in range(10):
        await log.append(f"{number:039}\n")
    found = files(tmp_path)
    assert list(found) == ["events.log", "events.log.1", "events.log.2"]
    text = "".join(reversed(found.values()))
    assert [int(line) for line in text.splitlines()] == [4, 5, 6, 7, 8, 9]
    assert all(len(part) <= 100 for part in found.values())


async def test_a_file_that_was_moved_away_is_recreated(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    await log.append("one\n")
    log.path.rename(tmp_path / "moved")
    await log.append("two\n")
    assert files(tmp_path) == {"events.log": "two\n", "moved": "one\n"}


async def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "events.log").mkdir()
    log = EventLog(tmp_path)
    assert log.why_not_writable() == f"{tmp_path}/events.log is a folder"
    with pytest.raises(OSError, match="directory"):
        await log.append("three\n")
