"""docs/api-reference.md says what the contracts say, and docs/api.md names every method."""

import re

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2

from docs import api
from tests.unit.docs.pages import ROOT

METHODS = module_controller_pb2.DESCRIPTOR.services_by_name["ModuleControllerService"].methods_by_name


def test_the_page_is_what_the_contracts_say() -> None:
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "run: make docs"


def test_every_contract_is_on_the_page() -> None:
    assert {str(path.relative_to(api.PROTO)) for path in api.PROTO.rglob("*.proto")} == set(api.CONTRACTS)


def test_headings_are_unique() -> None:
    headings = re.findall("^##+ (.*)$", api.page(), re.MULTILINE)
    assert len(headings) == len(set(headings)), "links to one of them would lead to the other"


def test_what_has_no_comment_is_refused() -> None:
    file = api.compiled().file[0]
    with pytest.raises(ValueError, match="no comment at"):
        api.Contract(file, {}).comment(4, 0)


def test_the_guide_names_every_method() -> None:
    guide = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert not [name for name in METHODS if f"`{name}`" not in guide]
