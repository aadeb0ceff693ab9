"""`jaxreg claims` and `jaxreg plan` at the command line: mistakes in one line each, the plan, and a
small real run.
"""

import shutil
from pathlib import Path

import pytest

from jaxreg.cli import main as cli
from tests.helpers import made_up_claims as made_up

ROOT = Path(__file__).parents[3]

MISTAKES = [
    ("claims", ["--workdir is missing"]),
    ("claims --workdir=W --claims=nowhere", ["nowhere: no claim files there"]),
    ("claims C11 --workdir=W", ["C11: there is no such claim; did you mean C1"]),
    ("claims C1 C1 --workdir=W", ["C1: is given 2 times"]),
    ("claims --workdir=W --minutes=0", ["--minutes=0: must be a whole number, 1 or more"]),
    ("claims --workdir=W --seeds=few", ["--seeds=few: must be a whole number, 1 or more"]),
    ("claims --workdir=W --quick --seeds=3", ["--seeds=3: a quick run has two seeds"]),
    ("claims --workdir=W --config.train.num_steps=3", ["claims takes no config fields"]),
    (
        "claims --workdir=nowhere://b/x",
        ["--workdir=nowhere://b/x: nowhere:// is no kind of storage that is known here"],
    ),
    ("plan", ["FILE is missing"]),
    ("plan nowhere.py", ["nowhere.py: no such file"]),
    ("plan experiments/claims/N1.py", ["N1 needs no run"]),
    ("plan experiments/claims/C1.py --sd=-1", ["--sd=-1: must be a number above 0"]),
    (
        "plan experiments/claims/D5b.py --sd=0.5",
        ["cannot decide: attention against MLP dropout: SD 50 points"],
    ),
    (
        "plan experiments/claims/C1.py --workdir=nowhere",
        ["--workdir=nowhere: there is no such directory"],
    ),
    (
        "plan experiments/cat_sat.py --accelerator=v9-8",
        ["--accelerator=v9-8: must be one of: v4-8, v5e-8"],
    ),
]


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A directory with the project's configs and experiments."""
    for name in ("configs", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.short_cases(
    "claims --workdir=W --claims=nowhere-",
    "plan-",
    "plan nowhere.py-",
    "plan experiments/claims/N1.py-",
    "plan experiments/claims/C1.py --workdir=nowhere-",
)
@pytest.mark.parametrize("command, words", MISTAKES, ids=lambda x: x if isinstance(x, str) else "")
def test_one_mistake(here, capsys, command, words):
    code = cli.main(command.split())
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and "Traceback" not in err
    assert len(err.splitlines()) == 1, err
    for word in words:
        assert word in err
    assert not (here / "W").exists()


def test_mistakes_in_all_claim_files_come_at_once(here, capsys):
    mine = here / "my" / "claims"
    mine.mkdir(parents=True)
    for name in ("C1", "C5"):
        text = (ROOT / "experiments" / "claims" / f"{name}.py").read_text()
        (mine / f"{name}.py").write_text(
            text.replace(
                "tune=ATTENTION", 'diff={"model.atention_dropout_rate": 0.3}, tune=ATTENTION'
            )
        )
    assert cli.main(["claims", "--claims=my/claims", "--workdir=W", "--minutes=x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any("--minutes=x" in line for line in lines)
    for name in ("C1", "C5"):
        assert any(
            f"{name}.py: arm 'dropout'" in line
            and "did you mean model.attention_dropout_rate?" in line
            for line in lines
        )


@pytest.mark.system
def test_a_plan_of_the_main_claim(here, capsys):
    assert cli.main(["plan", "experiments/claims/C1.py", "--sd=0.05"]) == 0
    first, words, agree, cost = capsys.readouterr().out.splitlines()
    assert "verdicts are possible" in first and "model-steps" in cost
    assert words.startswith("unseen pairs: SD 5 points") and agree.startswith(
        "unseen pairs, AGREE: SD 5 points"
    )


@pytest.mark.system
def test_the_budget_stands_first_and_nothing_is_made(here, jaxreg_command):
    done = jaxreg_command("claims", "C1", "C1b", "--workdir=W", "--dry_run", cwd=here)
    assert done.returncode == 0, done.stderr
    lines = [line.split("] ", 1)[1] for line in done.stdout.splitlines()]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("C1")}
    # C1, CATSAT: none, dropout, more verbs and A/A on 20 seeds, 4 candidates on 4 seeds for two of
    # them; the same on AGREE, without more verbs
    assert (
        rows["C1"][:2] == ["7", str(4 * 20 + 2 * 4 * 4 + 3 * 20 + 2 * 4 * 4)]
        and rows["C1"][4] == "0"
    )
    assert rows["C1b"][:2] == ["4", "112"], "C1b: none, dropout, one control and A/A"
    assert rows["C1b"][2:5] == ["0", "0", "44,800"], "all of it is trained for C1 already"
    assert not (here / "W").exists()


@pytest.mark.slow
def test_a_real_quick_run_from_the_outside(tmp_path, jaxreg_command):
    made_up.write_claim(tmp_path, made_up.PLAIN)
    shutil.copy(ROOT / "experiments" / "claims" / "M1.py", tmp_path / "claims" / "M1.py")
    done = jaxreg_command(
        "claims", "--claims=claims", "--workdir=runs/quick", "--quick", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a quick run has no verdicts" in done.stdout and "M1: exact" in done.stdout
    assert (tmp_path / "runs" / "quick" / "ledger.html").stat().st_size > 10_000
