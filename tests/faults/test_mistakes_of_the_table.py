"""Every mistake of the table: exit code 2, one clear line, no traceback, nothing made."""

import json
import shutil
from pathlib import Path

import pytest

from jaxreg.cli import main as cli
from jaxreg.study.design import components
from tests.helpers import own_experiment as own
from tests.helpers import run_design
from tests.helpers.mistakes import MISTAKES
from tests.helpers.place import CONFIG, EXPERIMENT

ROOT = Path(__file__).parents[2]
ALL = [mistake for mistakes in MISTAKES.values() for mistake in mistakes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with configs and experiments, a file, and directories of runs that are damaged."""
    made = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(ROOT / "configs", made / "configs")
    (made / "experiments").mkdir()
    for name, text in (
        ("configs/tiny.py", CONFIG),
        ("experiments/tiny.py", EXPERIMENT),
        ("configs/bits.py", own.CONFIG),
        ("FILE", ""),
    ):
        (made / name).write_text(text)
    run = run_design.design()
    for name, files in {
        "RUN": {"config.json": json.dumps(run)},
        "BROKEN": {"config.json": '{"arms"'},
        "LIST": {"config.json": "[]"},
        "HALF": {"config.json": json.dumps(run), "results.json": "{"},
        "OTHER": {"config.json": json.dumps(run), "members/0": ""},
    }.items():
        for file, text in files.items():
            (made / name / file).parent.mkdir(parents=True, exist_ok=True)
            (made / name / file).write_text(text)
    return made


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("JAXREG_DATA", str(folder / "data"))
    yield
    components.forget()


@pytest.mark.parametrize("mistake", ALL, ids=lambda mistake: mistake.name)
def test_mistake(folder, capfd, monkeypatch, mistake):
    if mistake.file is not None:
        (folder / "experiments" / "own.py").write_bytes(
            mistake.file.encode("utf-8", "surrogateescape")
        )
    words = mistake.typed.split()
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    words = [word.replace(",", " ") if word.startswith("--text") else word for word in words]
    code = cli.main(words)
    _, err = capfd.readouterr()
    assert code == 2, err
    lines = err.splitlines()
    assert "Traceback" not in err and lines and all(line.startswith("jaxreg ") for line in lines), (
        err
    )
    for part in mistake.says:
        assert part in err
    assert not (folder / "W" / "results.json").exists()
