"""`jaxreg judge`: a file of any framework to verdicts; exit codes for machines; all mistakes."""

import doctest
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxreg
from jaxreg.cli.main import main
from jaxreg.errors import UserErrors
from jaxreg.study.analysis import statistics, two_samples
from jaxreg.study.analysis.judge import judge_runs
from jaxreg.study.analysis.runs import Question
from jaxreg.study.commands import judge as study
from jaxreg.study.commands import judged_before
from jaxreg.study.tables import reading
from jaxreg.study.tables.roles import Asked

ROOT = Path(__file__).parents[3]
MEANS = {"adamw": 3.28, "muon": 3.22, "lion": 3.2801, "sgd": 3.31}
ASK = ("--baseline=adamw", "--lower_is_better", "--margin=.01")


def rows(num_seeds: int = 8, **means: float) -> list[tuple]:
    """(arm, seed, loss): arms around their means with little noise."""
    draw = np.random.default_rng(5)
    noise = 0.002 * draw.standard_normal((len(MEANS), 40))
    arms = MEANS | means
    return [
        (arm, seed, round(mean + noise[i, seed], 5))
        for i, (arm, mean) in enumerate(arms.items())
        for seed in range(num_seeds)
    ]


def write(path: Path, lines, header=("optimizer", "seed", "val_loss")) -> Path:
    text = "\n".join(",".join(map(str, line)) for line in (header, *lines))
    path.write_text(text + "\n")
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with runs.csv: muon is better than adamw, sgd worse, lion the same."""
    write(tmp_path / "runs.csv", rows())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def judged(capsys, *words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command."""
    code = main(["judge", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_the_verdicts_are_the_judge_s(here, capsys):
    code, out, _ = judged(capsys, "runs.csv", *ASK, "--json")
    assert code == 0
    found = json.loads(out)
    read = reading.read_files(["runs.csv"], Asked(), [])
    assert read is not None
    question = Question("adamw", "val_loss", margin=0.01, higher_is_better=False)
    outcome = judge_runs(read.runs, question)
    assert {row["arm"]: row["verdict"] for row in found["comparisons"]} == {
        arm: verdict.label for arm, verdict in outcome.verdicts.items()
    }
    labels = {arm: verdict.label for arm, verdict in outcome.verdicts.items()}
    assert labels["muon"] == "supported" and labels["sgd"] == "refuted: opposite"
    assert labels["lion"] == "refuted: negligible"
    assert found["understood"] == ["runs.csv: arm = optimizer; seed = seed; score = val_loss"]
    assert found["question"]["higher_is_better"] is False


def test_the_table_says_how_the_file_was_understood(here, capsys):
    code, out, err = judged(capsys, "runs.csv", *ASK)
    assert (code, err) == (0, "")
    assert out.startswith("runs.csv: arm = optimizer; seed = seed; score = val_loss\n")
    for word in ("adamw", "muon", "lion", "sgd", "supported", "opposite", "negligible"):
        assert word in out


def test_without_a_margin_there_are_intervals_and_no_verdicts(here, capsys):
    code, out, _ = judged(capsys, "runs.csv", *ASK[:2], "--json")
    found = json.loads(out)
    assert code == 0 and {row["verdict"] for row in found["comparisons"]} == {
        "no verdict: no margin"
    }
    assert all(row["p"] is not None for row in found["comparisons"])


@pytest.mark.parametrize(
    "required, code, lines",
    [
        ("supported:muon", 0, 0),
        ("supported:muon,refuted:sgd,opposite:sgd,negligible:lion,refuted:lion", 0, 0),
        ("supported, by the margin:muon,supported by the margin:muon,negligible:lion", 0, 0),
        ("supported_by_margin:muon,refuted: opposite, by the margin:sgd", 0, 0),
        ("refuted: negligible:lion,refuted: opposite:sgd", 0, 0),
        ("supported by the margin:lion", 3, 1),
        ("supported:lion", 3, 1),
        ("supported:muon,supported:sgd,inconclusive:lion", 3, 2),
    ],
)
def test_a_required_verdict_is_an_exit_code(here, capsys, required, code, lines):
    found, out, err = judged(capsys, "runs.csv", *ASK, f"--require={required}")
    assert found == code and "adamw" in out
    assert len(err.splitlines()) == lines
    assert all(line.startswith("jaxreg judge: --require=") for line in err.splitlines())


def test_files_are_written(here, capsys):
    names = ("verdict.html", "forest.svg", "table.md")
    flags = [f"--{f}={n}" for f, n in zip(("report", "picture", "markdown"), names, strict=True)]
    code, out, _ = judged(capsys, "runs.csv", *ASK, *flags)
    assert code == 0
    for name in names:
        text = (here / name).read_text(encoding="utf-8")
        assert "muon" in text and f"written: {name}" in out
    assert "jaxreg judge runs.csv --baseline=adamw" in (here / "verdict.html").read_text()


def test_the_standard_input_is_a_file_too(here):
    words = [sys.executable, "-m", "jaxreg.cli.main", "judge", "-", *ASK, "--json"]
    done = subprocess.run(
        words,
        input=(here / "runs.csv").read_text(),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert json.loads(done.stdout)["understood"][0].startswith("standard input: arm = optimizer")
    assert [path.name for path in here.iterdir()] == ["runs.csv"]


def test_it_loads_no_jax_and_little_else(here):
    heavy = ("jax", "jaxlib", "flax", "optax", "orbax", "ml_collections", "matplotlib", "pyarrow")
    heavy += ("tensorboardX", "tensorflow_datasets", "fsspec")
    code = (
        "import sys; from jaxreg.cli.main import main; code = main(sys.argv[1:]); "
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    words = [sys.executable, "-c", code, "judge", "runs.csv", *ASK, "--report=verdict.html"]
    done = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


MISTAKES = [
    ("", ["FILE is missing"]),
    ("run.csv", ["run.csv: there is no such file; did you mean runs.csv?"]),
    (
        "runs.csv --lower_is_better",
        ["missing: one of the arms adamw, muon, lion, sgd [arm = optimizer (guessed)]"],
    ),
    ("runs.csv --baseline=adamw", ["val_loss: reads as a loss; say which way is better"]),
    (
        "runs.csv --baseline=adamw --lower_is_better --higher_is_better",
        ["--lower_is_better and --higher_is_better: give one of them"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --margin=1%",
        ["--margin=1%: must be a number in the unit of the scores: 1 for percent, 0.01 for shares"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --unfinished=no",
        ["--unfinished=no: must be keep, drop or diverged"],
    ),
    ("runs.csv --lower_is_better --baseline=adam", ["there is no such arm; did you mean adamw?"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --metric=loss",
        ["--metric=loss: there is no such column"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --primary=test",
        ["--primary=test: there is no such view"],
    ),
    ("runs.csv --lower_is_better --baseline=adamw --margin=x", ["--margin=x: must be a number"]),
    ("runs.csv --lower_is_better --baseline=adamw --margin=-1", ["--margin=-1: must be above 0"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --margins=1",
        ["judge has no such flag; did you mean --margin?"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --margin",
        ["--margin: has no value; write --margin=M"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --alpha=5",
        ["--alpha=5: must be above 0 and below 1"],
    ),
    ("runs.csv --lower_is_better --baseline=adamw --claim=best", ["--claim=best: is no claim"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --paired=maybe",
        ["--paired=maybe: must be yes, no or auto"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --diverged=bad",
        ["must be worst, drop or a number"],
    ),
    ("runs.csv --lower_is_better --baseline=adamw --repeats=max", ["--repeats=max: must be mean"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --at=first",
        ["--at=first: must be last, best or a step"],
    ),
    ("runs.csv --lower_is_better --baseline=adamw --at=7", ["--at=7: there is no column of steps"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --looks=0",
        ["--looks=0: must be a whole number, 1 or more"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --look=2",
        ["--look=2: of how many? give --looks=K"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --look=3 --looks=2",
        ["--look=3: only 2 are planned"],
    ),
    ("runs.csv --lower_is_better --baseline=adamw --run=x", ["--run=x: names neither"]),
    ("runs.csv --lower_is_better --baseline=adamw --aa=aa", ["--aa=aa: there is no such arm"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --require=supported:muon",
        ["a verdict needs --margin"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --margin=1 --require=better:muon",
        ["'better' is no verdict"],
    ),
    ("runs.csv --lower_is_better --baseline=adamw --margin=1 --require=refuted", ["of which arm?"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --margin=1 --require=refuted:mun",
        ["did you mean muon?"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --margin=1 --require=refuted:adamw",
        ["no such arm to be judged"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --report=v.pdf",
        ["--report=v.pdf: must end in .html or .htm"],
    ),
    (
        "runs.csv --lower_is_better --baseline=adamw --picture=no/v.png",
        ["there is no directory no"],
    ),
    ("runs.csv --lower_is_better --baseline=adamw --sd=1", ["--sd: belongs to --plan"]),
    (
        "runs.csv --lower_is_better --baseline=adamw --run={arm}_{seed}",
        ["runs.csv has no column of names of runs"],
    ),
    ("--plan --sd=1 --margin=1 --alpha=1e-9", ["--alpha: 1e-09 over 1 tests is below"]),
    ("--plan", ["--sd is missing", "--margin is missing"]),
    ("--plan runs.csv --sd=-1 --margin=0", ["takes no file", "--sd=-1", "--margin=0"]),
]


@pytest.mark.parametrize("words, expected", MISTAKES)
def test_one_mistake(here, capsys, words, expected):
    code, out, err = judged(capsys, *words.split())
    lines = err.splitlines()
    assert (code, out) == (2, "") and len(lines) == len(expected), lines
    for word in expected:
        assert any(word in line for line in lines), lines
    assert [path.name for path in here.iterdir()] == ["runs.csv"]


def test_all_mistakes_come_at_once_and_nothing_is_written(here, capsys):
    lines = [("a", 1, 0.5), ("b", 1, 70), ("b", 2, "nan"), ("b", 2, 71)]
    write(here / "bad.csv", lines)
    words = "bad.csv bad.json --margin=0 --looks=x --require=won:a --report=r.html --picture=p.gif"
    code, _, err = judged(capsys, *words.split(), "--sedes=3")
    assert code == 2
    for word in ("bad.json", "--margin=0", "--looks=x", "'won'", "--picture", "--sedes"):
        assert sum(word in line for line in err.splitlines()) == 1, err
    assert sorted(path.name for path in here.iterdir()) == ["bad.csv", "runs.csv"]


def test_text_among_the_scores_hides_no_repeated_seed(here, capsys):
    write(here / "bad.csv", [("a", 1, 0.5), ("a", 1, 0.6), ("b", 1, "x"), ("b", 2, 0.7)])
    code, _, err = judged(capsys, "bad.csv", "--baseline=a")
    assert code == 2 and len(err.splitlines()) == 2, err
    assert "has text where numbers belong: 'x' (line 4)" in err and "a seed 1" in err


def test_names_of_a_file_do_not_steer_the_terminal(here, capsys):
    lines = [("\033[31mx", seed, 0.1 * seed) for seed in (1, 2)] + [("y", 1, "nan"), ("y", 2, 1)]
    write(here / "odd.csv", lines)
    _, _, err = judged(capsys, "odd.csv", "--baseline=z", "--lower_is_better")
    assert "\033" not in err and "\\x1b[31mx" in err and len(err.splitlines()) == 2
    words = ("--baseline=y", "--diverged=0", "--margin=.9", "--require=supported:\033[31mx")
    for found in judged(capsys, "odd.csv", "--lower_is_better", *words)[1:]:
        assert "\033" not in found


def test_a_million_rows_of_one_arm_are_one_line(here, capsys):
    text = "arm,seed,acc\n" + "".join(f"a,{seed},{seed % 7}\n" for seed in range(100_000))
    (here / "many.csv").write_text(text)
    code, _, err = judged(capsys, "many.csv", "--baseline=a")
    assert code == 2
    assert err == (
        "jaxreg judge: there is only one arm, 'a' with 100,000 runs; a comparison needs two\n"
    )
    (here / "many.csv").write_text(text.replace(",0\n", ",x\n"))
    code, _, err = judged(capsys, "many.csv", "--baseline=a")
    assert len(err.splitlines()) == 1 and "and 14,281 more" in err


def test_seeds_that_were_added_are_warned_of(here, capsys):
    assert "before" not in judged(capsys, "runs.csv", *ASK)[1]
    assert "before" not in judged(capsys, "runs.csv", *ASK)[1], "the same runs are no more runs"
    kept = here / ".runs.csv.judged.json"
    entry = json.loads(kept.read_text())["questions"][0]
    assert entry["runs"] == [dict.fromkeys(MEANS, 8)]
    assert entry["asked"]["primary"] == "val_loss"
    write(here / "runs.csv", rows(10))
    for extra, warned in ((["--looks=2", "--look=2"], False), ([], True)):
        out = " ".join(judged(capsys, "runs.csv", *ASK, *extra)[1].split())
        assert ("asked once before with fewer runs (adamw 8, now 10;" in out) is warned
    write(here / "runs.csv", rows(12))
    out = judged(capsys, "runs.csv", *ASK, "--json")[1]
    assert "asked 2 times before" in json.loads(out)["warnings"][0]
    assert (
        json.loads(judged(capsys, "runs.csv", *ASK, "--json", "--claim=equivalence")[1])["warnings"]
        == []
    ), "another question"
    write(here / "runs.csv", rows(6))
    assert json.loads(judged(capsys, "runs.csv", *ASK, "--json")[1])["warnings"] == []


def test_a_verdict_by_the_margin_is_more_than_a_verdict(here, capsys):
    words = ("runs.csv", "--baseline=adamw", "--lower_is_better", "--margin=.059")
    for required, code in (("supported:muon", 0), ("supported by the margin:muon", 3)):
        found, _, err = judged(capsys, *words, f"--require={required}")
        assert found == code and ("muon is supported (significant" in err) is (code == 3)


def test_the_memory_is_named_when_it_is_made(here, capsys):
    line = ".runs.csv.judged.json, beside the input, remembers how many runs were judged"
    assert line in judged(capsys, "runs.csv", *ASK)[1]
    assert line not in judged(capsys, "runs.csv", *ASK)[1]
    assert line not in judged(capsys, "runs.csv", *ASK, "--no_memory")[1]


def test_the_memory_is_left_out_where_it_cannot_or_shall_not_be_kept(here, capsys, monkeypatch):
    assert judged(capsys, "runs.csv", *ASK, "--no_memory")[0] == 0
    assert [path.name for path in here.iterdir()] == ["runs.csv"]
    kept = here / ".runs.csv.judged.json"
    for content in ("{", "[]", '{"questions": [{"asked": 3, "runs": [4]}]}', "\0"):
        kept.write_text(content)
        assert judged(capsys, "runs.csv", *ASK)[0] == 0
        assert json.loads(kept.read_text())["questions"][0]["runs"] == [dict.fromkeys(MEANS, 8)]
    kept.unlink()
    kept.mkdir()  # cannot be read, nor written
    assert judged(capsys, "runs.csv", *ASK)[0] == 0


def test_where_the_memory_lies(tmp_path):
    assert judged_before.place(["-"]) is None and judged_before.place([]) is None
    assert judged_before.place([str(tmp_path / "a.csv")]) == tmp_path / ".a.csv.judged.json"
    several = [str(tmp_path / "x" / name / "m.jsonl") for name in ("a", "b")]
    assert judged_before.place(several) == tmp_path / "x" / ".judged.json"


def test_the_plan_is_that_of_the_tests_power(capsys):
    code, out, _ = judged(capsys, "--plan", "--sd=.0013", "--margin=.001")
    assert code == 0
    _, _, unpaired, half, _ = out.splitlines()
    assert [int(cell) for cell in unpaired.split()[1:]] == [
        two_samples.runs_for_power((0.0013, 0.0013), 0.001, alpha=0.05, num_tests=num)
        for num in (1, 2, 3, 5, 10)
    ]
    spread = 0.0013  # of the differences, at a correlation of one half: sqrt(2 (1 - 1/2)) times it
    assert int(half.split()[-1]) == statistics.seeds_for_power(
        spread, 0.001, alpha=0.05, num_tests=10
    )
    worse = judged(capsys, "--plan", "--sd=.0013", "--margin=.001", "--looks=2")[1]
    assert int(worse.splitlines()[2].split()[1]) == int(unpaired.split()[2])


def test_results_of_a_comparison_are_judged_as_the_comparison_judged_them(capsys):
    path = ROOT / "experiments" / "results" / "cat_sat" / "results.json"
    before = json.loads(path.read_text())
    code, out, _ = judged(capsys, str(path), "--json", "--no_memory")
    assert code == 0
    now = {(row["arm"], row["split"]): row for row in json.loads(out)["comparisons"]}
    assert len(now) == len(before["comparisons"])
    for row in before["comparisons"]:
        found = now[row["arm"], row["split"]]
        for name in ("difference", "ci95", "p", "p_holm", "verdict", "seeds_needed"):
            if row["verdict"] is not None or name in ("difference", "ci95"):
                assert found[name] == row[name], (row["arm"], row["split"], name)


def columns() -> dict[str, list]:
    return {name: [row[i] for row in rows()] for i, name in enumerate(("arm", "seed", "val_loss"))}


def test_the_function_says_what_the_command_says(here, capsys):
    found = jaxreg.judge(columns(), baseline="adamw", lower_is_better=True, margin=0.01)
    said = json.loads(judged(capsys, "runs.csv", *ASK, "--json")[1])
    assert found.results["comparisons"] == said["comparisons"]
    assert found.verdicts["muon"].label == "supported"
    by_path = jaxreg.judge(here / "runs.csv", baseline="adamw", lower_is_better=True, margin=0.01)
    assert by_path.results == found.results
    assert "muon" in found.markdown() and "muon" in found.paragraph()
    found.save_page(here / "v.html")
    found.save_picture(here / "v.svg")
    assert "muon" in (here / "v.html").read_text() and "<svg" in (here / "v.svg").read_text()
    with pytest.raises(ValueError, match="neither .png nor .svg"):
        found.save_picture("v.gif")


def test_the_function_raises_all_mistakes():
    table = columns() | {"val_loss": [math.nan, *columns()["val_loss"][1:]]}
    with pytest.raises(UserErrors) as raised:
        jaxreg.judge(table, baseline="adam", margin=-1, claim="best", at="first", alpha=2)
    text = raised.value.mistakes
    assert len(text) == 7, text
    assert "val_loss: reads as a loss; say which way is better: lower_is_better=True or" in text[-1]
    assert not [line for line in text if "--" in line], "flags are the command's"
    for word in ("margin=-1", "claim=best", "at=first", "alpha=2", "baseline=adam", "diverged="):
        assert sum(word in line for line in text) == 1, word


def test_a_switch_is_an_argument_of_the_function_too():
    table = {"arm": ["a", "a", "b", "b"], "seed": [1, 2, 1, 2], "acc": [0.5, 0.6, 70, 80]}
    with pytest.raises(UserErrors, match="or say same_unit=True where they are"):
        jaxreg.judge(table, baseline="a")


def test_a_pattern_names_files_where_no_shell_replaces_it(here, capsys):
    for seed in range(4):
        for arm, value in (("a", 0.5), ("b", 0.6)):
            folder = here / f"{arm}_s{seed}"
            folder.mkdir()
            (folder / "metrics.jsonl").write_text(json.dumps({"acc": value + seed / 100}))
    found = jaxreg.judge("*_s*/metrics.jsonl", baseline="a", margin=0.01)
    assert found.runs.seeds == {"a": (0, 1, 2, 3), "b": (0, 1, 2, 3)}
    code, out, _ = judged(capsys, "*_s*/metrics.jsonl", "--baseline=a", "--margin=.01", "--json")
    assert code == 0 and json.loads(out)["comparisons"] == found.results["comparisons"]
    assert (here / ".judged.json").is_file(), "remembered beside all of them"
    with pytest.raises(UserErrors, match="no file matches it as a pattern"):
        jaxreg.judge("*_t*/metrics.jsonl", baseline="a")


def test_the_words_for_a_paper_stand_below_the_table(here, capsys):
    _, out, _ = judged(capsys, "runs.csv", *ASK)
    found = jaxreg.judge(here / "runs.csv", baseline="adamw", lower_is_better=True, margin=0.01)
    assert " ".join(out.split()).endswith(f"In words: {found.paragraph()}")


def test_the_example_of_the_docstring():
    [example] = doctest.DocTestFinder(recurse=False).find(study.judge, "judge", globs={})
    assert len(example.examples) == 4
    assert doctest.DocTestRunner().run(example).failed == 0


def accuracies(lost: dict[str, tuple[int, ...]]) -> list[tuple]:
    """(arm, seed, accuracy) of two arms with hard seeds in common; nan for the lost ones."""
    draw = np.random.default_rng(1)
    hard = draw.normal(0, 0.02, 8)
    return [
        (arm, seed, math.nan if seed in lost.get(arm, ()) else round(0.87 + hard[seed] + gain, 4))
        for arm, gains in (("plain", np.zeros(8)), ("mixup", draw.normal(0.02, 0.003, 8)))
        for seed, gain in enumerate(gains)
    ]


@pytest.mark.parametrize("empty", ["nan", ""])
@pytest.mark.parametrize("lost", [{"mixup": (5,)}, {"plain": (2,)}, {"plain": (2,), "mixup": (5,)}])
def test_errors_are_those_of_the_seeds_that_are_compared(here, capsys, lost, empty):
    lines = accuracies(lost)
    path = write(here / "acc.csv", lines, ("arm", "seed", "accuracy"))
    path.write_text(path.read_text().replace("nan", empty))
    ask = ("acc.csv", "--baseline=plain", "--margin=.01", "--diverged=drop")
    code, out, err = judged(capsys, *ask, "--report=v.html")
    assert (code, err) == (0, "") and "paired by seed" in out
    left = [seed for seed in range(8) if seed not in sum(lost.values(), ())]
    score = {(arm, seed): value for arm, seed, value in lines}
    errors = {arm: sum(1 - score[arm, seed] for seed in left) for arm in ("plain", "mixup")}
    words = f"errors {100 * (errors['mixup'] / errors['plain'] - 1):+.0f}% ["
    assert words in out
    found = jaxreg.judge(here / "acc.csv", baseline="plain", margin=0.01, diverged="drop")
    found.save_page(here / "w.html")
    [row] = found.shown["comparisons"]
    assert f"errors {row['errors']}".startswith(words)
    assert [seed for seed, _ in row["dots"]] == [str(seed) for seed in left]
    for name in ("v.html", "w.html"):
        assert json.dumps(row["errors"]) in (here / name).read_text()


def changed(capsys, *words: str) -> list[str]:
    """The warnings of an earlier choice."""
    out = judged(capsys, *words, "--json")[1]
    return [line for line in json.loads(out)["warnings"] if "judged before with" in line]


def test_another_margin_or_treatment_of_lost_runs_is_warned_of(here, capsys):
    write(here / "acc.csv", accuracies({"mixup": (5,)}), ("arm", "seed", "accuracy"))
    ask = ("acc.csv", "--baseline=plain")
    assert changed(capsys, *ask, "--diverged=drop") == []
    assert changed(capsys, *ask, "--diverged=drop", "--margin=.01") == [], "the first margin"
    assert changed(capsys, *ask, "--diverged=drop", "--margin=.01") == [], "the same again"
    [line] = changed(capsys, *ask, "--diverged=drop", "--margin=.02")
    assert "judged before with another margin (0.01; now 0.02). Verdicts depend on it" in line
    [line] = changed(capsys, *ask, "--diverged=0.5", "--margin=.02")
    both = "another margin (0.01; now 0.02) and another --diverged (drop; now 0.5)"
    assert both in line
    [line] = changed(capsys, *ask, "--diverged=worst", "--margin=.01")
    assert "margin (0.02; now 0.01) and another --diverged (drop, 0.5; now worst)" in line
    write(here / "acc.csv", accuracies({}), ("arm", "seed", "accuracy"))
    [line] = changed(capsys, *ask, "--diverged=drop", "--margin=.01")
    assert "--diverged" not in line, "no run is lost"
    out = " ".join(judged(capsys, *ask, "--margin=.01")[1].split())
    assert "! This question was judged before with another margin (0.02; now 0.01)" in out


def test_a_memory_of_an_earlier_version_is_read(here, capsys):
    assert judged(capsys, "runs.csv", *ASK)[0] == 0
    kept = here / ".runs.csv.judged.json"
    for choices in (None, 3, [4, {"margin": "x"}]):
        content = json.loads(kept.read_text())
        [entry] = content["questions"]
        entry["choices"] = choices
        if choices is None:
            del entry["choices"]
        kept.write_text(json.dumps(content))
        code, out, _ = judged(capsys, "runs.csv", *ASK, "--json")
        assert code == 0
        assert len(json.loads(out)["warnings"]) == isinstance(choices, list)
        assert json.loads(kept.read_text())["questions"][0]["choices"][-1] == {"margin": 0.01}


@pytest.mark.parametrize("how", ["worst", ".5", "drop"])
def test_runs_with_an_assumed_score_are_counted(here, capsys, how):
    lines = accuracies({"mixup": (5, 6)})
    write(here / "acc.csv", lines, ("arm", "seed", "accuracy"))
    ask = ("acc.csv", "--baseline=plain", "--margin=.01", f"--diverged={how}")
    _, out, _ = judged(capsys, *ask, "--report=v.html", "--markdown=v.md")
    is_assumed = how != "drop"
    assert ("2 assumed" in out) is is_assumed and out.count("assumed") == is_assumed
    assert ("| mixup | 8 (2 assumed) |" in (here / "v.md").read_text()) is is_assumed
    assert ('"assumed":["5","6"]' in (here / "v.html").read_text()) is is_assumed
    found = json.loads(judged(capsys, *ask, "--json")[1])
    assert found["without_score"] == {"mixup": [5, 6]}
    assert "without_score" not in json.loads(judged(capsys, "runs.csv", *ASK, "--json")[1])


def test_small_words_are_right(here, capsys):
    lines = [
        (arm.replace("plain", "baseline"), *rest) for arm, *rest in accuracies({"mixup": (5,)})
    ]
    write(here / "acc.csv", lines, ("arm", "seed", "accuracy"))
    _, _, err = judged(capsys, "acc.csv", "--baseline=baseline")
    assert "arm mixup: 1 of 8 runs has no score on accuracy (seed 5); say" in err
    write(
        here / "acc.csv",
        [(arm, seed, 0.5 if value != value else value) for arm, seed, value in lines],
        ("arm", "seed", "accuracy"),
    )
    found = jaxreg.judge(here / "acc.csv", baseline="baseline")
    assert "(higher is better) the baseline has 0.87" in found.shown["headline"][0]
    detail = found.results["controls"]["informative_views"]["detail"]
    assert detail == "the only view is informative"
