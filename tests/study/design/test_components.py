"""A person's own claim: a file outside the repository with its own TFDS data set, Flax module and
penalty. The page's own example runs.
"""

import json
import re
from pathlib import Path

import pytest

from jaxreg.cli.main import main
from jaxreg.errors import UserErrors
from jaxreg.study.design import components, experiment
from jaxreg.study.design import config as configs
from jaxreg.study.design.components import Own
from jaxreg.study.engine import members, run_directory
from tests.helpers import run_design

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "own-experiment.md").read_text()
QUICK = (
    "--seeds=2",
    "--config.train.num_steps=20",
    "--config.eval.every_steps=10",
    "--config.optim.warmup_steps=2",
)


def files_of_the_page() -> dict[str, str]:
    return dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder that is no clone, with the page's files in it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, text in files_of_the_page().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def ours_only_afterwards():
    yield
    components.forget()


@pytest.fixture(scope="module")
def finished(place, jaxreg_command):
    [command] = re.findall(r"<!-- command: own -->\n```bash\njaxreg (.*?)\n```", PAGE)
    return jaxreg_command(*command.split(), *QUICK, cwd=place), place / "runs" / "parity"


@pytest.mark.system
def test_the_page_s_own_claim_runs_outside_the_repository(finished):
    done, run = finished
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((run / "results.json").read_text())
    assert set(results["arms"]) == {"none", "small_logits", "dropout", "transformer"}
    assert results["controls"]["off_value"]["passed"] is True
    accuracies = {arm: tuple(row["validation"]["per_seed"]) for arm, row in results["arms"].items()}
    assert len(set(accuracies.values())) > 1 and (run / "report.html").stat().st_size > 10_000


@pytest.mark.system
def test_the_penalty_and_the_module_s_rate_really_train(finished):
    _, run = finished
    losses = {}
    for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        if "machine" not in row and row["split"] == "train" and row["step"] == 20:
            losses.setdefault(row["arm"], []).append(row["train_mode_loss"])
    assert losses["small_logits"] != losses["none"] and losses["dropout"] != losses["none"]


@pytest.mark.system
def test_the_report_finds_the_pieces_again_and_refuses_changed_ones(
    finished, place, jaxreg_command
):
    _, run = finished
    again = jaxreg_command("report", str(run), "--experiment=own/parity.py", cwd=place)
    assert again.returncode == 0, again.stdout + again.stderr
    file = place / "own" / "parity.py"
    text = file.read_text()
    file.write_text(text.replace("seen.logits**2", "seen.logits**4"))
    try:
        refused = jaxreg_command("report", str(run), "--experiment=own/parity.py", cwd=place)
    finally:
        file.write_text(text)
    assert (
        refused.returncode == 2
        and "parity.py has changed since" in refused.stderr
        and len(refused.stderr.splitlines()) == 1
    )


@pytest.mark.system
def test_a_neighbor_s_members_are_found_but_not_those_of_another_piece(
    finished, place, jaxreg_command
):
    """A's numbers under B's name: it is what the address is there to prevent."""
    text = (place / "own" / "parity.py").read_text()
    changed = text.replace("def get_experiment():", "class Other(LogitNorm):\n" + OTHER)
    changed = changed.replace(": LogitNorm}", ": Other}")
    assert "Other}" in changed
    (place / "own" / "other.py").write_text(changed)
    asked = ("--arms=none,small_logits", "--workdir=runs/other", *QUICK)
    done = jaxreg_command("compare", "own/other.py", *asked, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 4 members were found trained, 2 trained now" in done.stdout
    runs = [
        json.loads((place / "runs" / name / "results.json").read_text())["arms"]["small_logits"]
        for name in ("parity", "other")
    ]
    assert runs[0] != runs[1]


OTHER = """    def __call__(self, seen):
        return 1000 * super().__call__(seen)


def get_experiment():"""

OPENING = {
    "report": (),
    "inspect": ("--arm=transformer", "--seed=100"),
    "counterfactual": ("--arm=transformer", "--seed=100"),
}


@pytest.mark.parametrize("command", OPENING)
def test_opening_a_run_directory_runs_no_code_of_it(command, place, tmp_path, capsys):
    """Not even of a file inside it, and with the digest that the directory itself tells."""
    run = tmp_path / "run"
    run.mkdir()
    experiment.load_experiment(place / "own" / "parity.py")
    [found] = components.adopted().values()
    components.forget()
    marker = tmp_path / "marker"
    text = f"open({str(marker)!r}, 'w').close()\n"
    file = run / "evil.py"
    file.write_text((place / "own" / "parity.py").read_text() + text)
    own = {
        "own_files": {str(file): components.file_code(file)},
        "own_pieces": {str(file): found.pieces},
    }
    design = run_design.design(arms=("none", "transformer"), seeds=(100, 101))
    (run / "config.json").write_text(json.dumps(design | own))
    assert main([command, str(run), *OPENING[command]]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"name the file by --experiment={file}" in line
    file.write_text(file.read_text() + "ANOTHER = 1\n")
    assert main([command, str(run), *OPENING[command], f"--experiment={file}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "has changed since" in line and not marker.exists()
    assert main(["status", str(run)]) == 0 and not marker.exists()


def test_a_named_file_whose_sibling_has_changed_is_noticed(place, tmp_path):
    """The file itself says the same as before; what it imports does not."""
    (tmp_path / "parity.py").write_text("from helper import get_experiment\n")
    text = (place / "own" / "parity.py").read_text()
    (tmp_path / "helper.py").write_text(text)
    experiment.load_experiment(tmp_path / "parity.py")
    [(path, found)] = components.adopted().items()
    own = {"own_files": {path: found.code}, "own_pieces": {path: found.pieces}}
    design = run_design.design() | own
    (tmp_path / "config.json").write_text(json.dumps(design))
    run_directory.confirm(tmp_path, path)
    (tmp_path / "helper.py").write_text(text.replace("seen.logits**2", "seen.logits**4"))
    with pytest.raises(UserErrors, match="parity.py has changed since"):
        run_directory.confirm(tmp_path, path)


def test_no_file_may_be_named_where_none_is_needed(tmp_path):
    design = run_design.design() | {"own_files": {}, "own_pieces": {}}
    (tmp_path / "config.json").write_text(json.dumps(design))
    run_directory.confirm(tmp_path, None)
    with pytest.raises(UserErrors, match="with our pieces only; leave it out"):
        run_directory.confirm(tmp_path, "x.py")


def test_a_mistake_brings_no_second_line_about_the_pieces(place, capsys):
    """Where file or config is broken, fields of own pieces are not called unknown."""
    asked = ("--workdir=runs/none", "--config.loss.logit_norm_strength=.1")
    asked += ("--config.model.module=mixer", "--config.model.feature_dropout_rate=.1")
    text = (place / "own" / "parity.py").read_text()
    config = (place / "own" / "config.py").read_text()
    cases = {
        "margin is 5": (text.replace("margin=0.05", "margin=5"), config),
        "SystemExit: 0": (
            text.replace("return Exp", "raise SystemExit(0)\n    return Exp"),
            config,
        ),
        "ZeroDivisionError": (text, config.replace("return with", "1 / 0\n    return with")),
    }
    (place / "broken").mkdir()
    for told, (experiment_text, config_text) in cases.items():
        components.forget()
        (place / "broken" / "parity.py").write_text(experiment_text)
        (place / "broken" / "config.py").write_text(config_text)
        assert main(["compare", str(place / "broken" / "parity.py"), *asked]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert told in line


def load(place):
    design = experiment.load_experiment(place / "own" / "parity.py")
    base, mistakes = configs.read_config(place / "own" / "config.py", ())
    assert mistakes == []
    return design, base, configs.resolve_arms(design, base)


def test_fields_follow_from_the_pieces(place):
    _, base, arms = load(place)
    assert (
        dict(base.model) == {"module": "mixer", "width": 24, "feature_dropout_rate": 0.0}
        and base.data.dataset == "parity"
    )
    assert (
        base.loss.logit_norm_strength is None
        and arms["small_logits"].loss.logit_norm_strength == 0.01
    )
    assert arms["transformer"].model.num_layers == 2, "the model's own defaults"


@pytest.mark.parametrize(
    "override, words",
    [
        ("model.num_layers=3", "the model mixer has width, feature_dropout_rate"),
        ("model.feature_dropout_rate=1.5", "a number at least 0 and"),
        ("data.neutral_rate=.1", "parity has no such setting; it has num_train, num_eval, length"),
        ("loss.logit_nrm_strength=1", "did you mean loss.logit_norm_strength?"),
        ("model.module=mixr", "did you mean mixer?"),
    ],
)
def test_mistakes_are_told_in_the_words_of_the_pieces(place, override, words):
    experiment.load_experiment(place / "own" / "parity.py")
    _, mistakes = configs.read_config(place / "own" / "config.py", (override,))
    assert len(mistakes) == 1 and words in mistakes[0]


def test_what_the_pieces_say_is_in_the_address_and_the_design_is_not(place):
    text = (place / "own" / "parity.py").read_text()

    def address_of(changed, arm="small_logits"):
        components.forget()
        copy = place / "own" / "copy.py"
        copy.write_text(changed)
        design = experiment.load_experiment(copy)
        base, _ = configs.read_config(place / "own" / "config.py", ())
        config = members.plain(configs.resolve_arms(design, base)[arm])
        return members.member_hash(config, 1, "data", "code")

    first, other = address_of(text), text.replace("seen.logits**2", "seen.logits**4")
    assert first == address_of(text.replace("penalty .01", "another title")), "of get_experiment"
    assert first != address_of(other)
    assert address_of(text, "none") == address_of(other, "none"), "an arm without the penalty"


def test_wrong_pieces_are_named_all_at_once():
    class Careless:
        what = "nothing"

    own = Own(
        datasets={"catsat": None},
        models={"mixer": dict},
        penalties={"l2": Careless, "mine": Careless},
    )
    mistakes = own.mistakes()
    assert [line.split(":")[0] for line in mistakes] == [
        "own.datasets",
        "own.penalties",
        "own.datasets",
        "own.models",
        "own.penalties",
        "own.penalties",
    ]
    assert any("'mine' has no text `source`" in line for line in mistakes) and any(
        "no Flax Linen module" in line for line in mistakes
    )


@pytest.mark.system
def test_an_exception_in_a_penalty_keeps_the_user_s_traceback_first(place, jaxreg_command):
    file = place / "own" / "broken.py"
    file.write_text(
        (place / "own" / "parity.py")
        .read_text()
        .replace("jnp.sum(seen.logits**2, axis=-1)", "jnp.sum(seen.nothing)")
    )
    done = jaxreg_command("compare", "own/broken.py", "--workdir=runs/broken", *QUICK, cwd=place)
    assert (
        done.returncode == 2
        and "broken.py" in done.stderr
        and "'Seen' object has no attribute 'nothing'" in done.stderr
    )


def test_an_unknown_run_directory_still_says_so(tmp_path):
    with pytest.raises(UserErrors, match="no config.json"):
        run_directory.read(tmp_path)
