"""`jaxreg sample` and `jaxreg.load_run` on a tiny model that was really trained."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxreg
from jaxreg.cli import main as cli
from jaxreg.cli.live_display import Silent
from jaxreg.errors import UserErrors
from jaxreg.study.commands import compare, inspect, trained_run
from jaxreg.study.commands.inspect import typed
from jaxreg.study.commands.sample import Asked, continuations, sample
from jaxreg.study.design import config as configs
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import off_values
from jaxreg.study.engine.members import plain
from tests.helpers import next_tokens, tiny

DESIGN = Experiment(
    name="letters",
    question="Which?",
    config="c.py",
    baseline="none",
    arms={"drop": Arm("dropout", {"model.attention_dropout_rate": 0.4}), "none": Arm("nothing")},
    seeds=(4, 5),
    primary="validation",
    margin=0.05,
    alpha=0.05,
    prediction="none",
    metric="loss",
)


def base(**changes):
    file = configs.load_config(tiny.ROOT / "configs" / "base.py")
    return configs.with_changes(file, next_tokens.CHANGES | changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of a `train`, of one that keeps its best evaluation, and of a `compare`."""
    with pytest.MonkeyPatch.context() as patch:
        next_tokens.known(patch)
        patch.setenv("JAXREG_DATA", str(tiny.data_dir()))
        passed = {"passed": True, "what": "w", "detail": "d"}
        patch.setattr(off_values, "off_value", lambda *arguments: passed)  # has its own tests
        folder = tmp_path_factory.mktemp("letters")
        alone = configs.with_changes(base(), {"seed": 3})
        assert compare.train(alone, folder / "alone", display=Silent()) == 0
        best = configs.with_changes(base(), {"stopping.keep_best": True})
        assert compare.train(best, folder / "best", display=Silent()) == 0
        arms = {name: plain(own) for name, own in configs.resolve_arms(DESIGN, base()).items()}
        given = (DESIGN, plain(base()), arms, DESIGN.seeds, folder / "several")
        assert compare.compare(*given, display=Silent()) == 0
        yield folder


def printed(workdir, *, arm=None, seed=None, **asked):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    assert sample(workdir, arm, seed, Asked(**{"text": "a b", "length": 12} | asked), console) == 0
    return console.file.getvalue().splitlines()


def test_it_says_whose_text_it_is_and_what_comes_next(runs):
    lines = printed(runs / "alone")
    assert lines[0] == "arm run, seed 3; parameters of step 40, the last"
    assert lines[1].startswith("the model says next: '") and lines[1].count("%") == 5
    assert lines[2] == "" and len(lines) == 4
    assert lines[3].startswith("a b ") and len(lines[3].split()) == 2 + 12
    assert set(lines[3].split()) <= set("abcdef"), "never padding"


def test_the_most_probable_tokens_are_those_of_the_model(runs):
    member = trained_run.read(runs / "alone").member()
    ids = jnp.asarray(member.encode("a b"))[None]
    logits = np.array(member.model.apply({"params": member.params}, ids)[0, -1], np.float64)
    logits[0] = -np.inf
    shares = np.exp(logits) / np.exp(logits).sum()
    first = int(np.argmax(shares))
    says = printed(runs / "alone")[1].removeprefix("the model says next: ")
    assert says.split(", ")[0] == f"{member.dataset.tokens[first]!r} {100 * shares[first]:.0f}%"


def test_which_member_it_is_where_the_run_has_several(runs):
    assert printed(runs / "several")[0] == (
        "arm none (the baseline), seed 4 (the first of 2); parameters of step 40, the last"
    )
    assert printed(runs / "several", arm="drop", seed=5)[0].startswith("arm drop, seed 5;")
    assert printed(runs / "best")[0].endswith(" of 40, the best evaluation")


def test_the_same_seed_gives_the_same_text_and_another_one_another(runs):
    asked = {"length": 30, "number": 2}
    once = printed(runs / "alone", **asked)
    assert once == printed(runs / "alone", **asked)
    assert [line for line in once if line.startswith("---")] == ["--- 1 of 2", "--- 2 of 2"]
    assert once[4] != once[7] and once != printed(runs / "alone", sample_seed=1, **asked)


def test_greedy_is_the_loop_of_argmax_and_a_long_text_is_cut_to_the_window(runs):
    member = trained_run.read(runs / "alone").member()
    text = "a b c d e f a b c d"
    drawn = list(typed(member, text))
    for _ in range(10):
        tokens = jnp.asarray(drawn[-8:], jnp.int32)[None]
        logits = member.model.apply({"params": member.params}, tokens)[0, -1]
        drawn.append(1 + int(np.argmax(logits[1:])))
    [found] = continuations(member, typed(member, text), Asked(text, 10, temperature=0))
    assert found == " " + member.decode(drawn[10:])
    lines = printed(runs / "alone", text=text, temperature=0)
    assert lines[1] == "the model reads the last 8 of the text's 10 tokens"


def test_mistakes_are_one_line_each(runs):
    for asked, words in (
        ({"text": "a z"}, "--text: 'z' is no token of the data set; known: a, b, c, d, e, f"),
        ({"text": " "}, "--text: ' ' has no token"),
        ({"top_k": 7}, "--top_k=7: the data set has 6 tokens"),
        ({"arm": "dropp"}, "arm 'dropp': the run has no such arm; did you mean drop?"),
        ({"seed": 9}, "seed 9: the run has no such seed; it has 4, 5"),
    ):
        with pytest.raises(UserErrors) as refused:
            printed(runs / "several", **asked)
        assert refused.value.mistakes == [words]


def test_a_member_that_is_not_trained_or_diverged_has_no_text(runs, monkeypatch, tmp_path):
    member = trained_run.read(runs / "several").member("drop", 5)
    path = runs / "several" / "members" / f"{member.spec.hash}.npz"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(UserErrors, match="arm 'drop' at seed 5 is not trained; run it again"):
        printed(runs / "several", arm="drop", seed=5)
    path.write_bytes(content)
    member.record.meta["diverged"] = True
    monkeypatch.setattr(trained_run.TrainedRun, "member", lambda *given: member)
    with pytest.raises(UserErrors, match="diverged: it has no text"):
        printed(runs / "several")


def test_the_command_continues_a_text(runs, capsys):
    assert cli.main(["sample", str(runs / "alone"), "--text=a", "--length=5", "--top_k=2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("a ")


def test_a_trained_model_is_loaded_in_python(runs):
    run = jaxreg.load_run(runs / "several")
    assert run.arms == ("drop", "none") and run.seeds == (4, 5)
    model, params = run.model("drop", 5)
    member = run.member("drop", 5)
    tokens = member.encode("a b c")
    logits = model.apply({"params": params}, jnp.asarray(tokens)[None])
    assert logits.shape == (1, 3, 7) and member.decode(tokens) == "a b c"
    assert member.config["model"]["attention_dropout_rate"] == 0.4
    rows = member.dataset.splits["validation"]
    real = jnp.asarray(rows.tokens != 0)
    logits = model.apply({"params": params}, jnp.asarray(rows.tokens), padding_mask=real)
    asked = rows.label >= 0
    losses = -jax.nn.log_softmax(logits)[(*np.nonzero(asked), rows.label[asked])]
    each = [losses[np.nonzero(asked)[0] == row].mean() for row in range(len(rows))]
    index = [split for split, _ in member.record.meta["passes"]].index("validation")
    stored = member.record.arrays["scores"][index, : len(rows), 1]
    np.testing.assert_allclose(each, stored, rtol=1e-4)


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(UserErrors, match="no config.json there; it is no run directory"):
        jaxreg.load_run(tmp_path)


def test_inspect_says_what_comes_next_and_shows_a_matrix_once_where_nothing_is_dropped(
    runs, capsys
):
    assert cli.main(["inspect", str(runs / "alone"), "--text=a b c"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "a b c   arm run, seed 3, evaluation"
    assert "the model says next: '" in out and "as this step left it" not in out
    assert "no attention dropout" in out and "×" not in out
    given = ["inspect", str(runs / "several"), "--arm=drop", "--seed=4", "--text=a b c"]
    assert cli.main(given) == 0
    out = capsys.readouterr().out
    assert "masks of step 0" in out and " | " in out and "dropped by this step" in out
    found = inspect.matrices(runs / "alone", "run", 3, 0, "a b c")
    assert found.nothing_dropped and found.words == ("a", "b", "c")
