"""The documentation's examples of the judge: published tables, and a PyTorch user's runs."""

import csv
import importlib.util
import re
import shlex
import shutil
import statistics
from pathlib import Path

import pytest

from jaxreg.cli.main import main

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "experiments" / "judged"
DOC = ROOT / "docs" / "judge.md"


@pytest.fixture(scope="module")
def tables():
    """experiments/judged/tables.py, as a module."""
    spec = importlib.util.spec_from_file_location("judged_tables", FOLDER / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_arm(name: str, column: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with (FOLDER / name).open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["arm"], []).append(float(row[column]))
    return found


@pytest.mark.parametrize(
    ("name", "column", "digits", "published"),
    [
        (
            "nanogpt_optimizers.csv",
            "val_loss",
            4,
            {
                "Muon tuned (#36)": (3.2787, 10),
                "NorMuonH (#8)": (3.2780, 10),  # of the logs; the table says 3.2778
                "NorMuon floor (#9)": (3.2771, 8),
                "NorMuon (#10)": (3.2789, 20),
                "MuonH tuned (#37)": (3.2786, 10),
            },
        ),
        (
            "nanogpt_value_embeddings.csv",
            "val_loss",
            4,
            {
                "H0 master": (3.2793, 5),
                "H1 ve-init-normal": (3.2784, 5),
                "H2 ve-gate-split": (3.2778, 5),
                "H3 rmsnorm-subtract-mean": (3.2796, 5),
                "H4 ve-layout-first-forward": (3.2776, 5),
                "H5 ve-layout-first-double-forward": (3.2778, 5),
                "H6 ve-layout-last-back": (3.2986, 5),
            },
        ),
        (
            "nanogpt_fused_loss.csv",
            "seconds",
            4,
            {"record before": (106.7415, 10), "fused loss": (105.7794, 10)},
        ),
    ],
)
def test_the_copied_numbers_have_the_means_that_were_published(name, column, digits, published):
    found = {
        arm: (round(statistics.fmean(values), digits), len(values))
        for arm, values in by_arm(name, column).items()
    }
    assert found == published


def test_the_page_of_published_tables_is_what_its_script_writes(tables):
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()


def test_the_words_beside_each_table_are_its_verdicts(tables):
    labels = {}
    for table in tables.PUBLISHED:
        judged = tables.judged(table)
        labels[table.title] = {arm: found.label for arm, found in judged.verdicts.items()}
    by_title = list(labels.values())
    assert [arm for arm, label in by_title[0].items() if label == "supported"] == [
        "NorMuon floor (#9)"
    ]
    assert {arm[:2]: label for arm, label in by_title[1].items()} == {
        "H6": "refuted: opposite"
    } | dict.fromkeys(("H1", "H2", "H3", "H4", "H5"), "inconclusive")
    assert by_title[2:4] == [{"fused loss": "supported"}, {"fused loss": "inconclusive"}]
    assert set(by_title[4].values()) == {"inconclusive"}
    assert set(by_title[5].values()) == {"supported"} and len(by_title) == 7
    assert by_title[6] == dict.fromkeys(("attention_0.3", "weight_decay"), "supported")
    last = tables.judged(tables.PUBLISHED[6]).verdicts
    assert {arm: found.by_margin for arm, found in last.items()} == {
        "attention_0.3": True,
        "weight_decay": False,
    }, "whether by the margin is open"


def blocks(mark: str) -> list[str]:
    """The code blocks of docs/judge.md after this comment."""
    text = DOC.read_text(encoding="utf-8")
    return re.findall(rf"<!-- {re.escape(mark)} -->\n```\w*\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder with the PyTorch user's file, and in it."""
    shutil.copy(FOLDER / "pytorch_runs.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_three_lines_make_the_page(place):
    [python, _] = blocks("run")
    assert len(python.splitlines()) == 3
    names: dict = {}
    exec(python, names)
    assert (place / "verdict.html").read_text().count("<script") == 2
    labels = {arm: found.label for arm, found in names["found"].verdicts.items()}
    assert labels == {
        "dropout": "supported",
        "decay": "supported",
        "little_decay": "refuted: negligible",
    }


def test_the_command_prints_the_documented_table(place, capsys):
    [_, command] = blocks("run")
    [printed] = blocks("printed")
    capsys.readouterr()
    assert main(shlex.split(command)[1:]) == 0
    out = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    told = [line.rstrip() for line in printed.splitlines()]
    start = out.index(told[0])
    assert out[start : start + len(told)] == told
    assert (place / "verdict.html").is_file()


def test_the_loop_of_the_documentation_is_the_program_s():
    [loop] = blocks("part of: experiments/judged/pytorch_runs.py")
    program = (FOLDER / "pytorch_runs.py").read_text(encoding="utf-8")
    assert loop in program and len(program.splitlines()) < 60
    numbers = by_arm("pytorch_runs.csv", "val_loss")
    assert {arm: len(values) for arm, values in numbers.items()} == dict.fromkeys(
        ("plain", "dropout", "decay", "little_decay"), 12
    )
