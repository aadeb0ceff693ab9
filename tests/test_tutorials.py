"""The tutorials run from top to bottom. The site's build runs those of Python once more, with their
output.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.helpers import pages

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
OF_PYTHON = [path for path in TUTORIALS if "{code-cell}" in path.read_text()]
OF_THE_SHELL = [path for path in TUTORIALS if path not in OF_PYTHON]


@pytest.mark.system
@pytest.mark.parametrize("path", OF_PYTHON, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    cells = re.findall(r"```\{code-cell\}\n(.*?)```", path.read_text(), re.S)
    assert len(cells) >= 3
    names: dict = {"__name__": "tutorial"}
    for cell in cells:
        exec(compile(cell, path.name, "exec"), names)


@pytest.mark.system
@pytest.mark.parametrize("path", OF_THE_SHELL, ids=lambda path: path.stem)
def test_its_blocks_can_be_pasted_into_a_shell_in_an_empty_folder(path, tmp_path):
    """In order, each by a shell of its own: nothing but the folder goes from one to the next."""
    programs, folder = tmp_path / "programs", tmp_path / "folder"
    programs.mkdir()
    folder.mkdir()
    jaxreg = programs / "jaxreg"
    jaxreg.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jaxreg.cli.main "$@"\n')
    jaxreg.chmod(0o755)
    found = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": found, "PYTHONPATH": str(ROOT)}
    blocks = pages.blocks(path.read_text(encoding="utf-8"), "bash")
    assert len(blocks) >= 3
    for block in blocks:
        done = subprocess.run(
            ["sh", "-e", "-c", block], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
