"""The tutorials run from top to bottom. The site's build runs them once more, with their output."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.md"))


@pytest.mark.system
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    cells = re.findall(r"```\{code-cell\}\n(.*?)```", path.read_text(), re.S)
    assert len(cells) >= 3
    names: dict = {"__name__": "tutorial"}
    for cell in cells:
        exec(compile(cell, path.name, "exec"), names)
