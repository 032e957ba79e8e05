"""The sources that the image copies can be built, installed and run without a checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def sources() -> list[str]:
    """Return what the image is built from."""
    copied = re.findall(r"^COPY (?!--from)(.+) (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return [source for names, _ in copied for source in names.split()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with our wheel; what it depends on is this one's."""
    folder = tmp_path_factory.mktemp("installed")
    for source in sources():
        target = folder / "sources" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels, environment = folder / "wheels", folder / "environment"
    alone = ("--no-deps", "--no-index")
    build = [*pip, "wheel", *alone, "--no-build-isolation", "-w", str(wheels), str(folder / "sources")]
    subprocess.run(build, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (wheel,) = wheels.iterdir()
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *alone, str(wheel)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # A path added this way is searched after our own, and the links in it to a checkout are not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def test_the_smoke_test_needs_no_checkout(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MQTT_"))}
    done = subprocess.run(
        [installed / "bin" / "module-controller", "smoke"],
        cwd=empty,
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("smoke: ok: ")
    assert list(empty.iterdir()) == []


def test_the_quick_start_names_an_example_that_is_there(installed: Path, tmp_path: Path) -> None:
    show = (
        "from pathlib import Path; from modulecontroller import quickstart, settings; "
        "print(quickstart.welcome(settings.QuickstartSettings(), 2, Path('/data')))"
    )
    done = subprocess.run(
        [installed / "bin" / "python", "-c", show],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=False,
    )
    named = re.search(r"apply -f (\S+)", done.stdout)
    assert named, done.stdout + done.stderr
    path = Path(named[1])
    assert path.is_file()
    assert installed in path.parents
