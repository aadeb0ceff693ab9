"""Files of every kind become the same runs; what cannot is said in one line each, all at once."""

import bz2
import gzip
import io
import json
import lzma
import math
import sys

import numpy as np
import pytest

from jaxreg.study.analysis.runs import Runs
from jaxreg.study.tables import reading
from jaxreg.study.tables.roles import Asked

LONG = [
    ("adamw", 1, "test", 0.31),
    ("adamw", 2, "test", 0.32),
    ("sgd", 1, "test", 0.35),
    ("sgd", 5, "test", 0.36),
    ("sgd", 7, "test", 0.34),
]
SEEDS = {"adamw": (1, 2), "sgd": (1, 5, 7)}
SCORES = {"adamw": [0.31, 0.32], "sgd": [0.35, 0.36, 0.34]}


def read(*paths, **asked) -> Runs:
    """The runs of files that have no mistake."""
    mistakes: list[str] = []
    found = reading.read_files([str(path) for path in paths], Asked(**asked), mistakes)
    assert mistakes == [] and found is not None
    return found.runs


def mistakes_of(*paths, **asked) -> list[str]:
    """What is wrong with files."""
    mistakes: list[str] = []
    found = reading.read_files([str(path) for path in paths], Asked(**asked), mistakes)
    assert found is None and all("\n" not in line for line in mistakes)
    return mistakes


def text(delimiter=",", header="arm seed split score") -> str:
    lines = [delimiter.join(header.split())]
    lines += [delimiter.join(map(str, row)) for row in LONG]
    return "\n".join(lines) + "\n"


def records() -> list[dict]:
    return [dict(zip(("arm", "seed", "split", "score"), row, strict=True)) for row in LONG]


def write_csv(folder):
    (folder / "runs.csv").write_text(text())


def write_excel_csv(folder):
    (folder / "runs.csv").write_bytes(b"\xef\xbb\xbf" + text(";").replace("\n", "\r\n").encode())


def write_tsv(folder):
    (folder / "runs.tsv").write_text(text("\t"))


def write_gzip(folder):
    (folder / "runs.csv.gz").write_bytes(gzip.compress(text(",").encode()))


def write_xz_without_an_inner_ending(folder):
    (folder / "runs.xz").write_bytes(lzma.compress(text("\t").encode()))


def write_bzip2(folder):
    lines = "\n".join(map(json.dumps, records()))
    (folder / "runs.jsonl.bz2").write_bytes(bz2.compress(lines.encode()))


def write_text(folder):
    (folder / "runs.txt").write_text(text("\t", "Method Seed Split Accuracy"))


def write_jsonl(folder):
    (folder / "runs.jsonl").write_text("\n".join(map(json.dumps, records())) + "\n\n")


def write_json_without_a_name(folder):
    (folder / "runs").write_text("\n".join(map(json.dumps, records())))


def write_records(folder):
    (folder / "runs.json").write_text(json.dumps(records(), indent=1))


def write_columns(folder):
    rows = records()
    (folder / "runs.json").write_text(json.dumps({k: [row[k] for row in rows] for k in rows[0]}))


def write_parquet(folder):
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    parquet.write_table(pyarrow.Table.from_pylist(records()), folder / "runs.parquet")


@pytest.mark.parametrize(
    "write",
    [
        write_csv,
        write_excel_csv,
        write_tsv,
        write_gzip,
        write_xz_without_an_inner_ending,
        write_bzip2,
        write_text,
        write_jsonl,
        write_json_without_a_name,
        write_records,
        write_columns,
        write_parquet,
    ],
)
def test_every_form_gives_the_same_runs(write, tmp_path):
    write(tmp_path)
    [path] = tmp_path.iterdir()
    runs = read(path)
    assert dict(runs.seeds) == SEEDS and runs.views == ("test",)
    assert {arm: row["test"].tolist() for arm, row in runs.scores.items()} == SCORES
    assert "seed = " in runs.understood[0] and str(path) in runs.understood[0]


class Frame:
    """The little of a data frame that is asked for."""

    def __init__(self, columns):
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name):
        return np.asarray(self._columns[name])


def test_tables_in_memory_give_the_same_runs():
    columns = {key: [row[key] for row in records()] for key in records()[0]}
    pyarrow = pytest.importorskip("pyarrow")
    for table in (columns, Frame(columns), records(), pyarrow.Table.from_pylist(records())):
        mistakes: list[str] = []
        found = reading.read_table(table, Asked(), mistakes)
        assert mistakes == [] and found is not None
        assert dict(found.runs.seeds) == SEEDS
        assert {a: row["test"].tolist() for a, row in found.runs.scores.items()} == SCORES


def test_a_mapping_of_arms_needs_no_columns():
    found = reading.read_table({"a": [1, 2, 3], "b": {"score": [4.0, 5.0]}}, Asked(), [])
    assert found is not None and dict(found.runs.seeds) == {"a": (0, 1, 2), "b": (0, 1)}
    assert found.runs.scores["b"]["score"].tolist() == [4.0, 5.0]
    assert found.said == {"paired": False}


def test_what_is_no_table_is_said():
    for table in (3, "runs.csv", [1, 2], {"arm": ["a"], "seed": [1, 2]}, {"a": ["x"]}):
        mistakes: list[str] = []
        assert reading.read_table(table, Asked(), mistakes) is None
        assert len(mistakes) == 1


@pytest.mark.parametrize("content", [text(), json.dumps(records())])
def test_standard_input(content, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert dict(read("-").seeds) == SEEDS


def test_a_wide_table_has_a_view_for_each_column_of_scores(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("arm,seed,val_acc,test_acc,host,Runtime\na,1,.1,.2,x,7\nb,1,.3,nan,y,8\n")
    runs = read(path)
    assert runs.views == ("val_acc", "test_acc")
    assert math.isnan(runs.scores["b"]["test_acc"][0])
    assert "not used: host, Runtime" in runs.understood
    assert read(path, metric="test_acc").views == ("test_acc",)
    assert read(path, metric="test_acc,val_acc").views == ("test_acc", "val_acc")


def test_a_column_of_metrics_is_the_view_or_chooses_the_rows(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("arm,seed,metric,value\na,1,acc,.5\na,1,loss,2\nb,1,acc,.6\nb,1,loss,3\n")
    assert read(path).views == ("acc", "loss")
    runs = read(path, metric="loss")
    assert runs.views == ("loss",) and runs.scores["b"]["loss"].tolist() == [3.0]
    assert mistakes_of(path, metric="los") == [
        "--metric=los: neither a column nor in column metric; did you mean loss?"
    ]


def test_several_columns_may_name_the_arm_together(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("opt,lr,seed,acc\nadam,.1,1,5\nsgd,.1,1,6\nadam,.2,1,7\nsgd,.2,1,8\n")
    runs = read(path, arm="opt,lr", metric="acc")
    assert runs.arms == ("adam, .1", "sgd, .1", "adam, .2", "sgd, .2")
    assert [row["acc"][0] for row in runs.scores.values()] == [5, 6, 7, 8]


def test_one_file_for_each_run(tmp_path):
    for arm in ("adam_w", "sgd"):
        for seed in (1, 12):
            folder = tmp_path / f"{arm}_s{seed}"
            folder.mkdir()
            rows = [{"step": 10 * i, "eval": {"loss": seed / (i + 1)}} for i in range(3)]
            (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"ste')
    paths = sorted(tmp_path.glob("*/metrics.jsonl"))
    for asked in ({}, {"run": "{arm}_s{seed}"}):
        runs = read(*paths, **asked)
        assert dict(runs.seeds) == {"adam_w": (1, 12), "sgd": (1, 12)}
        assert runs.scores["sgd"]["eval.loss"] == pytest.approx([1 / 3, 4.0])
        said = "\n".join(runs.understood)
        assert "{arm}_s{seed}" in said and "last one counts, 20" in said and "unfinished" in said
    assert read(*paths, at=10).scores["sgd"]["eval.loss"].tolist() == [0.5, 6.0]
    [line] = mistakes_of(*paths, run="{arm}-{seed}")
    assert line.startswith("--run={arm}-{seed}: does not match the files")


def test_a_file_for_each_arm(tmp_path):
    for arm in ("adamw", "sgd"):
        (tmp_path / f"{arm}.csv").write_text("seed,acc\n1,.5\n2,.6\n")
    runs = read(*sorted(tmp_path.iterdir()))
    assert dict(runs.seeds) == {"adamw": (1, 2), "sgd": (1, 2)}


def test_files_with_the_same_columns_are_one_table(tmp_path):
    for seed in (1, 2):
        (tmp_path / f"{seed}.csv").write_text(f"arm,seed,acc\na,{seed},.5\nb,{seed},.6\n")
    paths = sorted(tmp_path.iterdir())
    assert dict(read(*paths).seeds) == {"a": (1, 2), "b": (1, 2)}
    paths[1].write_text(paths[0].read_text())
    [line] = mistakes_of(*paths)
    assert "a seed 1 stands 2 times" in line and str(paths[1]) + " line 2" in line


CHART = (
    'Step,"adam-seed1 - acc","adam-seed1 - acc__MIN","adam-seed1 - acc__MAX","sgd-seed1 - acc"\n'
    "1,.1,.1,.1,.2\n2,.3,.3,.3,\n3,,,,.5\n"
)


def test_an_exported_chart(tmp_path):
    path = tmp_path / "wandb.csv"
    path.write_text(CHART)
    runs = read(path)
    assert dict(runs.seeds) == {"adam": (1,), "sgd": (1,)}
    assert runs.scores["adam"]["acc"].tolist() == [0.3] and runs.scores["sgd"]["acc"][0] == 0.5
    said = "\n".join(runs.understood)
    assert "2 columns __MIN and __MAX left out" in said and "from 2 to 3" in said
    path.write_text(CHART.replace("-seed1", ""))
    assert "which arm and seed are the runs 'adam', 'sgd'?" in mistakes_of(path)[0]
    path.write_text(CHART.replace("adam-seed1", "opt: adam").replace("sgd-seed1", "opt: sgd"))
    assert "ungroup the chart" in mistakes_of(path)[0]


def test_an_exported_table_of_runs(tmp_path):
    path = tmp_path / "wandb.csv"
    path.write_text(
        "Name,State,config/seed,optimizer,val_loss\n"
        "glad-moon-1,finished,1,adam,.5\nold-sun-2,crashed,2,adam,.6\nbig-sea-3,finished,1,sgd,.7\n"
    )
    runs = read(path)
    assert dict(runs.seeds) == {"adam": (1, 2), "sgd": (1,)}
    assert "not every run has finished: 1 crashed (State)" in runs.understood
    path.write_text("run_name,step,loss\nadam_s1,1,5\nadam_s1,2,4\nsgd_s1,1,6\nsgd_s1,2,3\n")
    runs = read(path)  # as trackio writes it
    assert {arm: row["loss"].tolist() for arm, row in runs.scores.items()} == {
        "adam": [4.0],
        "sgd": [3.0],
    }


def test_results_of_a_comparison_bring_their_question(tmp_path):
    names = {"none": [0.5, 0.6], "drop": [0.7, None], "aa": [0.5, 0.5], "must": [0.9, 0.9]}
    arms = {arm: {"test": {"per_seed": values}} for arm, values in names.items()}
    rows = [{"arm": "drop", "split": "test", "verdict": "inconclusive"}]
    controls = {"aa": {"noise_floor": 0.1}, "must": {"noise_floor": None}, "informative_views": {}}
    found = {"arms": arms, "seeds": [3, 4], "comparisons": rows, "controls": controls}
    found |= {"baseline": "none", "margin": 0.05, "alpha": 0.05}
    (tmp_path / "results.json").write_text(json.dumps(found))
    for path in (tmp_path, tmp_path / "results.json"):
        mistakes: list[str] = []
        done = reading.read_files([str(path)], Asked(), mistakes)
        assert mistakes == [] and done is not None
        assert done.runs.arms == tuple(names) and done.runs.seeds["drop"] == (3, 4)
        assert math.isnan(done.runs.scores["drop"]["test"][1])
        assert done.said == {
            "baseline": "none",
            "margin": 0.05,
            "alpha": 0.05,
            "primary": "test",
            "aa": "aa",
            "paired": True,
            "known": ("must",),
        }
        assert "controls, whose effect must be there: must" in done.runs.understood
    arms["drop"]["test"]["per_seed"] = [0.7]
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert "damaged results.json" in mistakes_of(tmp_path)[0]


def test_rows_about_the_machine_are_no_scores(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"machine": "start", "pid": 3}]
    rows += [
        {"arm": arm, "seed": 1, "step": step, "split": "val", "accuracy": step / 10}
        for arm in ("none", "drop")
        for step in (1, 2)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    runs = read(path)
    assert runs.views == ("val",) and runs.scores["drop"]["val"].tolist() == [0.2]


FORMS = [
    ("e.csv", b"", ["is empty; the first line must name the columns"]),
    ("e.csv", b"\narm,seed\n", ["has an empty first line"]),
    ("e.csv", b"arm,seed,acc\n", ["has a header and no rows"]),
    ("e.csv", b"arm,seed,acc,acc\n", ["2 columns are called 'acc'"]),
    ("e.csv", b"a,1,.5\nb,1,.6\n", ["the first line has the number 1; it must name the columns"]),
    ("e.csv", b"arm,seed,acc\na,1,\xff\n", ["is not UTF-8 (byte 0xff)"]),
    ("e.csv", "arm,seed\na".encode("utf-16"), ["is not UTF-8"]),
    (
        "e.csv",
        b"arm,seed,acc\na,1,.5\n\nb,1\nb,2,.5,9\nb,3,.5\n",
        ["line 4: has 2 fields, the header has 3", "line 5: has 4 fields"],
    ),
    ("e.csv", b'arm,seed,acc\na,1,"5\nb,1,6\n', ["a quotation mark is not closed"]),
    ("e.csv", b"arm,seed,acc\na,1,0;5\nb,1,6%\n", ["text where numbers belong: '0;5', '6%'"]),
    ("e.csv", b"arm;seed;acc\na;1;0,5\nb;1;0,6\n", ["write decimals with a point"]),
    ("e.csv", b"arm,seed,acc\na,1,5\n,1,6\na,,7\n", ["no arm in line 3", "no seed in line 4"]),
    ("e.csv", b"who,which,acc\na,1,5\n", ["no column is called arm", "no column is called seed"]),
    ("e.csv", b"arm,seed,split,acc,loss\na,1,x,5,5\n", ["several columns may be the score"]),
    ("e.csv", b"arm,seed\na,1\n", ["no column has scores"]),
    ("e.jsonl", b'{"arm": 1}\n{"arm"\n{"arm": 2}\n', ["line 2: not JSON"]),
    (
        "e.jsonl",
        b'{"arm": 1, "seed": 1, "acc": 2}\n{"arm": 2, "seed": 1, "acc": [1, 2]}\n',
        ["text where numbers belong: '[1, 2]' (line 2)"],
    ),
    ("e.json", b'{"arm": ["a"], "seed": [1], "acc": [[1, 2]]}', ["'[1, 2]' (row 1)"]),
    ("e.jsonl", b"3\n", ["line 1: is not an object"]),
    ("e.json", b"{", ["is not JSON"]),
    ("e.json", b"3", ["holds no table"]),
    ("e.json", b'{"a": [1], "b": [1, 2]}', ["different lengths: a 1, b 2"]),
    ("e.json", b" ", ["is empty"]),
    ("e.xlsx", b"PK\x03\x04", ["Excel file; export it as CSV"]),
    ("e.pkl", b"\x80\x04", ["a pickle, which is not opened"]),
    ("e.parquet", b"PAR1 and then nothing", ["cannot be read as Parquet"]),
    ("events.out.tfevents.1.host", b"x" * 40, ["is damaged at byte 0"]),
]


@pytest.mark.parametrize("name, content, words", FORMS)
def test_a_file_of_the_wrong_form(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    lines = mistakes_of(tmp_path / name)
    assert len(lines) == len(words), lines
    for line, word in zip(lines, words, strict=True):
        assert word in line


def test_files_that_are_not_there_and_folders_are_said_together(tmp_path):
    (tmp_path / "runs.csv").write_text(text())
    lines = mistakes_of(tmp_path / "run.csv", tmp_path, tmp_path / "runs.csv")
    assert len(lines) == 2 and "did you mean runs.csv?" in lines[0]
    assert "is a directory" in lines[1]


def test_without_pyarrow_parquet_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "runs.parquet").write_bytes(b"PAR1")
    [line] = mistakes_of(tmp_path / "runs.parquet")
    assert line.endswith("needs pyarrow, which is not installed: pip install pyarrow")


def test_columns_that_are_not_there_name_the_nearest(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(text())
    lines = mistakes_of(path, arm="arn", seed="sed", view="spilt", metric="scor", item="q")
    assert [line.split(":")[0] for line in lines] == [
        "--arm=arn",
        "--seed=sed",
        "--view=spilt",
        "--item=q",
        "--metric=scor",
    ]
    assert all("did you mean" in line for line in lines if "--item" not in line)


def test_scalars_of_tensorboard(tmp_path):
    tensorboardX = pytest.importorskip("tensorboardX")
    for arm in ("a", "b"):
        for seed in (1, 2):
            writer = tensorboardX.SummaryWriter(str(tmp_path / arm / f"seed{seed}"))
            for step in range(3):
                writer.add_scalar("acc", 0.1 * step * seed, step)
            writer.add_scalar("loss", 7.0, 2)
            writer.add_histogram("weights", np.arange(9.0), 2)
            writer.close()
    paths = sorted(tmp_path.glob("*/*/events*"))
    runs = read(*paths)
    assert runs.views == ("acc", "loss") and dict(runs.seeds) == {"a": (1, 2), "b": (1, 2)}
    assert runs.scores["b"]["acc"] == pytest.approx([0.2, 0.4], rel=1e-6)
    assert read(*paths, metric="acc", at=1).scores["a"]["acc"] == pytest.approx(
        [0.1, 0.2], rel=1e-6
    )
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[:-3])
    assert any("unfinished" in line for line in read(*paths, metric="acc").understood)
    paths[0].write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    assert "is damaged at byte" in mistakes_of(*paths)[0]


def test_a_damaged_compressed_file_is_one_line(tmp_path):
    whole = gzip.compress(text().encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "inner.csv.gz").write_bytes(gzip.compress(b"PAR1" + 60 * b"x"))
    [cut] = mistakes_of(tmp_path / "cut.csv.gz")
    assert cut.endswith("cut.csv.gz: cannot be read: it is compressed, and damaged or cut short")
    [inner] = mistakes_of(tmp_path / "inner.csv.gz")
    assert inner.endswith("inner.csv.gz: is compressed and no text inside; unpack it first")
