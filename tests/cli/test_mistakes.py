"""Every mistake a person can make at the command line: exit code 2, one clear line each, no
traceback, and all at once.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.cli import main as cli
from tests.helpers import run_design

ROOT = Path(__file__).parents[2]
COMPARE = "compare experiments/cat_sat.py --workdir=W"
TRAIN = "train --config=configs/cat_sat.py --workdir=W"
INSPECT = "inspect RUN --arm=none --seed=1"
COUNTERFACTUAL = "counterfactual RUN --arm=none --seed=1"

CASES = [
    ("compar x", ["'compar': there is no such command; did you mean compare?"]),
    ("compare --workdir=W", ["EXPERIMENT is missing"]),
    ("compare experiments/cat_sat.py", ["--workdir is missing"]),
    ("compare experiments/cat_sat.py --workdir", ["--workdir: has no value; write --workdir=DIR"]),
    ("compare experiments/cat_sat.py --workdir=", ["--workdir: has no value"]),
    ("compare experiments/cat_sat.py --workdir=FILE", ["is a file, not a directory"]),
    ("compare experiments/cat_sat.py --workdir=FILE/below", ["is a file, not a directory"]),
    (
        "compare experiments/cat_sat.py --workdir=nowhere://bucket/x",
        ["nowhere:// is no kind of storage that is known here"],
    ),
    (f"{COMPARE} --workdir=V", ["--workdir: is given 2 times"]),
    (
        "compare experiments/cat_sta.py --workdir=W",
        ["no such file; did you mean experiments/cat_sat.py?"],
    ),
    ("compare experiments --workdir=W", ["is a directory"]),
    (
        "compare configs/cat_sat.py --workdir=W",
        ["has no function get_experiment(); it is a config"],
    ),
    ("compare FILE --workdir=W", ["is not a .py file"]),
    (f"{COMPARE} --sedes=3", ["--sedes: compare has no such flag; did you mean --seeds?"]),
    (f"{COMPARE} --seed=3", ["--seed: compare has no such flag; did you mean --seeds?"]),
    (f"{COMPARE} --config=configs/cat_sat.py", ["takes its config from the experiment file"]),
    (f"{COMPARE} stray", ["'stray': is one argument too many"]),
    (f"{COMPARE} model.width=3", ["did you mean --model.width=3?"]),
    (f"{COMPARE} --seeds=", ["--seeds: has no value"]),
    (f"{COMPARE} --seeds=0", ["how many seeds, 1 or more"]),
    (f"{COMPARE} --seeds=1,1", ["repeated: 1"]),
    (f"{COMPARE} --seeds=-1", ["how many seeds, 1 or more"]),
    (f"{COMPARE} --arms=nonne", ["there is no arm 'nonne'; did you mean none?"]),
    (f"{COMPARE} --devices=0", ["--devices=0: must be a whole number, 1 or more"]),
    (f"{COMPARE} --devices=two", ["--devices=two"]),
    (f"{COMPARE} --config.model.num_layer=4", ["did you mean model.num_layers?"]),
    (f"{COMPARE} --config.model.num_layers=four", ["a whole number of blocks"]),
    (f"{COMPARE} --config.model.num_layers", ["has no value"]),
    (
        f"{COMPARE} --config.model.dtype=bfloat",
        ["--config.model.dtype=bfloat: must be one of: float32, bfloat16; did you mean bfloat16?"],
    ),
    (f"{COMPARE} --config.model.attention_dropout_rate=1.0", ["at least 0 and below 1"]),
    (f"{COMPARE} --config.optim.learning_rate=nan", ["above 0"]),
    (f"{COMPARE} --config.train.num_steps=-1", ["steps, 1 or more"]),
    (
        f"{COMPARE} --config.train.num_steps 20",
        ["optim.warmup_steps is 30; it must be less than train.num_steps"],
    ),
    (f"{COMPARE} --config.model.num_heads=5", ["must divide model.width"]),
    (f"{COMPARE} --config.data.dataset=dogsat", ["one of: catsat"]),
    (
        f"{COMPARE} --config.data.verbs_per_noun=11",
        ["arm 'more_verbs': is the same as arm 'none'; leave one of them out"],
    ),
    ("train --workdir=W", ["--config is missing"]),
    ("train --config=configs/none.py --workdir=W", ["configs/none.py: no such file"]),
    (
        "train --config=experiments/cat_sat.py --workdir=W",
        ["has no function get_config(); it is an experiment"],
    ),
    (f"{TRAIN} --seeds=3", ["--seeds: train has no such flag"]),
    (f"{TRAIN} --config.eval.curves=train,nope", ["eval.curves: catsat has no view 'nope'"]),
    ("report", ["DIR is missing"]),
    ("report nowhere", ["nowhere: there is no such directory"]),
    ("report EMPTY", ["it has no config.json"]),
    ("report RUN --seeds=3", ["--seeds: report has no such flag"]),
    ("report RUN --config.seed=3", ["report takes no config fields"]),
    ("inspect RUN", ["--seed is missing: the run has 1, 2"]),
    (
        "inspect RUN --arm=nonne --seed=1",
        ["--arm=nonne: the run has no such arm; did you mean none?"],
    ),
    ("inspect RUN --arm=none --seed=7", ["--seed=7: the run has no such seed; it has 1, 2"]),
    (f"{INSPECT} --step=-1", ["--step=-1: must be a whole number"]),
    (f"{INSPECT} --head=x", ["--head=x: must be a whole number"]),
    (f"{INSPECT} --text=catt", ["'catt' is not a word"]),
    (f"{INSPECT} --output=x.jpg", ["must end in .png"]),
    (f"{INSPECT} --output=nowhere/x.png", ["there is no directory"]),
    ("counterfactual RUN", ["--arm is missing", "--seed is missing"]),
    ("counterfactual nowhere --arm=none --seed=1", ["nowhere: there is no such directory"]),
    (
        "counterfactual RUN --arm=nonne --seed=1",
        ["--arm=nonne: the run has no such arm; did you mean none?"],
    ),
    ("counterfactual RUN --arm=none --seed=7", ["--seed=7: the run has no such seed; it has 1, 2"]),
    (f"{COUNTERFACTUAL} --step=first", ["--step=first: must be a whole number, 0 or more"]),
    (f"{COUNTERFACTUAL} --layer=-1", ["--layer=-1: must be a whole number"]),
    (f"{COUNTERFACTUAL} --head=1.5", ["--head=1.5: must be a whole number"]),
    (f"{COUNTERFACTUAL} --devices=0", ["--devices=0: must be a whole number, 1 or more"]),
    (f"{COUNTERFACTUAL} --text=catt", ["'catt' is not a word"]),
    (
        f"{COUNTERFACTUAL} --seeds=3",
        ["--seeds: counterfactual has no such flag; did you mean --seed?"],
    ),
    (f"{COUNTERFACTUAL} --config.seed=3", ["counterfactual takes no config fields"]),
    ("list all", ["'all': is one argument too many"]),
]


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A directory with the project's files, a file, an empty folder and a run."""
    for name in ("configs", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "FILE").write_text("")
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "config.json").write_text(json.dumps(run_design.design()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, capsys) -> list[str]:
    """Runs a wrong command in this process; the lines it prints."""
    code = cli.main(command.split())
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == "" and "Traceback" not in err
    lines = err.splitlines()
    assert lines and all(line.startswith("jaxreg") for line in lines), "one line per mistake"
    return lines


@pytest.mark.parametrize("command, words", CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_one_mistake(here, capsys, command, words):
    lines = run(command, capsys)
    assert len(lines) == len([word for word in words if "missing" in word]) or len(lines) == 1
    for word in words:
        assert any(word in line for line in lines), lines


def test_nothing_is_made_by_a_wrong_command(here, capsys):
    run(f"{COMPARE} --config.model.num_heads=5", capsys)
    assert not (here / "W").exists()


def test_all_mistakes_come_at_once(here, capsys):
    lines = run(
        "compare experiments/cat_sat.py stray --sedes=3 --seeds=1,1 --arms=nine --devices=0"
        " --config.model.widht=3 --config.optim.b1=nan --config.model.num_heads=7",
        capsys,
    )
    text = "\n".join(lines)
    for word in (
        "stray",
        "--sedes",
        "repeated: 1",
        "'nine'",
        "--devices=0",
        "--workdir is missing",
        "model.width",
        "optim.b1=nan",
        "must divide",
    ):
        assert word in text
    assert len(lines) == 9


def test_a_missing_experiment_does_not_hide_the_rest(here, capsys):
    assert (
        len(run("compare nowhere.py --seeds=x --config.model.widht=3 --workdir=FILE", capsys)) == 4
    )


def test_mistakes_inside_an_experiment_and_its_arms(here, capsys):
    (here / "mine.py").write_text(
        "from jaxreg.study.design.experiment import Arm, Experiment\n"
        "def get_experiment():\n"
        "  return Experiment(name='x', question='?', config='configs/cat_sat.py', baseline='a',\n"
        "    seeds=(1,), margin=.05, alpha=.05, primary='recombinaton', prediction='!',\n"
        "    arms={'a': Arm('a'), 'b': Arm('b', {'train.num_steps': 9}),\n"
        "          'c': Arm('c', {'model.atention_dropout_rate': .1})})\n"
    )
    lines = run("compare mine.py --workdir=W", capsys)
    assert len(lines) == 3
    assert "arm 'b': touches train.num_steps" in lines[0]
    assert "did you mean model.attention_dropout_rate?" in lines[1]
    assert "did you mean recombination?" in lines[2]


def test_a_defect_of_ours_is_1_with_a_traceback(capsys, monkeypatch):
    def broken(given):
        raise ZeroDivisionError("ours")

    monkeypatch.setitem(cli.COMMANDS, "list", (cli.COMMANDS["list"][0], broken))
    assert cli.main(["list"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "defect of jaxreg" in err


def test_an_interrupt_is_75(capsys, monkeypatch):
    def interrupted(given):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "list", (cli.COMMANDS["list"][0], interrupted))
    assert cli.main(["list"]) == 75


def test_the_real_command_says_it_on_standard_error_without_starting_a_device():
    # The tables of penalties and modules need JAX; but devices can only be chosen before the first
    # one starts.
    code = (
        "import sys; from jaxreg.cli.main import main; code = main(); from jax._src import"
        " xla_bridge; assert not xla_bridge.backends_are_initialized(), 'too early'; sys.exit(code)"
    )
    words = ["compare", "experiments/cat_sat.py", "--workdir=unused"]
    words += ["--config.model.num_heads=5", "--seeds=1,1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stderr
