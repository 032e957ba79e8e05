"""No variable of the machine on which the tests run has an effect on them."""

import pytest

from modulecontroller.configuration import VARIABLES


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES | {"KUBERNETES_SERVICE_HOST"}:
        monkeypatch.delenv(name, raising=False)
