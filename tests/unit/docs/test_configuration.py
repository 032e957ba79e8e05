"""docs/configuration.md says what the settings say."""

import tomllib

from docs import configuration
from modulecontroller.configuration import PROGRAMS
from tests.unit.docs.pages import ROOT


def test_the_page_is_what_the_settings_say() -> None:
    page = configuration.PAGE.read_text(encoding="utf-8")
    assert page == configuration.page(), "run: make docs"


def test_every_program_that_is_installed_is_on_the_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["scripts"]) == PROGRAMS.keys() | configuration.WITHOUT_SETTINGS, (
        "add the settings of new programs to PROGRAMS in modulecontroller/configuration.py"
    )
