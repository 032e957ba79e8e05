"""The parts that settings choose say what is wrong with the settings."""

from pathlib import Path

import pytest

from controlplane.optional import embedded
from controlplane.settings import ControlPlaneSettings
from service.process import StartError


async def test_a_file_whose_folder_cannot_be_made_is_reported_with_cause_and_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "folder" / "cluster.db"
    settings = ControlPlaneSettings.model_validate({"EMBEDDED_DB": str(path)})
    with pytest.raises(StartError) as error:
        async with embedded(settings):
            pass
    text = str(error.value)
    assert text.startswith(f"EMBEDDED_DB={path}: cannot be opened (Not a directory); ")
    assert "name a file in a folder" in text
    assert "Errno" not in text
