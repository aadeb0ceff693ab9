"""Counterfactual dropout: one connection of one step kept, and nothing else changed; against a
training loop written by hand.
"""

import dataclasses
import functools
import json
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from jaxreg import optim, rng
from jaxreg.data import batch_indices
from jaxreg.errors import UserErrors
from jaxreg.probe import attention as probe
from jaxreg.store.member_store import Records
from jaxreg.study.commands import compare, counterfactual
from jaxreg.study.design.experiment import Arm
from jaxreg.study.engine import off_values, program
from jaxreg.study.engine.members import make_specs
from jaxreg.study.engine.trainer import passes_of
from jaxreg.study.report import counterfactual_section
from tests.helpers import tiny
from tests.study.commands.test_compare import DESIGN, Shown
from tests.study.test_targeted_dropout import ROWS, SEED, batch_of, pass_of

STEPS, STEP, RATE = 6, 2, 0.4
SHORT = tiny.LEAN | {
    "model.num_layers": 2,
    "model.attention_dropout_rate": RATE,
    "train.num_steps": STEPS,
    "optim.warmup_steps": 1,
    "eval.every_steps": 3,
    "optim.learning_rate": 0.2,
    "optim.optimizer": "sgd",  # Adam blows the rounding of a vanishing gradient up to a whole step
}
SPARES = SHORT | tiny.SPARING


def masks(step):
    """[N, B, H, T, T]: kept connections of a whole batch, replayed."""
    length = tiny.dataset(SEED).splits["train"].tokens.shape[1]
    examples = np.arange(tiny.BATCH)
    return probe.replay_masks(
        RATE, SEED, np.full(tiny.BATCH, step), examples, 2, 2, length
    ).transpose(1, 0, 2, 3, 4)


def place(dropped):
    """A connection of a query's row between words, in step STEP: the first that was dropped, or
    kept; as the section has it.
    """
    split = tiny.dataset(SEED).splits["train"]
    rows = batch_indices(
        seed=SEED, num_examples=len(split), batch_size=tiny.BATCH, first_step=STEP, num_steps=1
    )[0]
    kept = masks(STEP)
    for example, row in enumerate(rows):
        query = int(split.query_position[row])
        for key in np.flatnonzero(split.tokens[row]):
            if key != query and kept[0, example, 1, query, key] != dropped:
                return {
                    "step": STEP,
                    "example": example,
                    "layer": 0,
                    "head": 1,
                    "query": query,
                    "key": int(key),
                }
    raise AssertionError("no such connection")


NOTHING = {"step": STEPS, "example": 0, "layer": 0, "head": 0, "query": 0, "key": 0}
KEPT = {
    "dropped": place(True),
    "drawn_to_be_kept": place(False),
    "no_such_step": NOTHING,
    "no_such_example": place(True) | {"example": tiny.BATCH},
    "no_such_layer": place(True) | {"layer": 2},
}


@functools.cache
def trained():
    """The members of `KEPT` by name, through the section, in one wave."""
    made = tiny.setting(SPARES, quick=True)
    jobs = [
        made.job(SEED, {f"counterfactual.{name}": value for name, value in where.items()})
        for where in KEPT.values()
    ]
    return dict(zip(KEPT, made.train(jobs), strict=True))


@functools.cache
def by_hand(name):
    """Parameters after six steps, by a loop that keeps the connection with an array of its own; no
    section, no wave.
    """
    config, where = tiny.config(SHORT), KEPT[name]
    structure, strengths, dataset = (
        program.structure_of(config),
        program.strengths_of(config),
        tiny.dataset(SEED),
    )
    vocabulary = program.Vocabulary.of(dataset)
    model = program.model_of(structure, strengths, vocabulary)
    params = program.problem_of(structure, vocabulary)(strengths).init(rng.seed_key(SEED, "init"))
    options = {
        key: value
        for key, value in (structure["optim"] | strengths["optim"]).items()
        if not key.endswith("sam_radius")
    }
    optimizer, split = optim.optimizer(num_steps=STEPS, **options), dataset.splits["train"]

    def loss(params, batch, droppable, step):
        logits = model.apply(
            {"params": params},
            batch["tokens"],
            padding_mask=batch["tokens"] != 0,
            train=True,
            droppable=droppable,
            dropout_key=rng.step_key(rng.seed_key(SEED, "dropout"), step),
            read_positions=batch["query_position"],
        )
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["label"][:, None], axis=1)
        return -chosen.mean()

    gradient, state = jax.jit(jax.grad(loss)), optimizer.init(params)
    length = split.tokens.shape[1]
    for step in range(STEPS):
        rows = batch_indices(
            seed=SEED, num_examples=len(split), batch_size=tiny.BATCH, first_step=step, num_steps=1
        )[0]
        batch = {
            key: jnp.asarray(getattr(split, key)[rows])
            for key in ("tokens", "query_position", "label")
        }
        droppable = np.ones((2, tiny.BATCH, 2, length, length), bool)
        if step == where["step"] and where["example"] < tiny.BATCH and where["layer"] < 2:
            droppable[
                where["layer"], where["example"], where["head"], where["query"], where["key"]
            ] = False
        update, state = optimizer.update(
            gradient(params, batch, jnp.asarray(droppable), step),
            state,
            params,
            noise_key=rng.seed_key(SEED, "noise"),
        )
        params = optax.apply_updates(params, update)
    return params


def furthest(a, b):
    return max(
        float(np.abs(np.asarray(x) - np.asarray(y)).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.mark.system
@pytest.mark.parametrize("name", KEPT)
def test_a_member_through_the_section_is_the_loop_written_by_hand(name):
    assert furthest(trained()[name].params, by_hand(name)) < 1e-6


@pytest.mark.system
def test_the_loop_tells_kept_connections_apart():
    """So that the test above can fail: what is kept moves the parameters by far more than it
    allows.
    """
    assert furthest(by_hand("dropped"), by_hand("no_such_step")) > 1e-3
    assert furthest(by_hand("drawn_to_be_kept"), by_hand("no_such_step")) > 1e-4, (
        "it is no longer scaled up"
    )


@pytest.mark.system
@pytest.mark.parametrize("name", ["no_such_example", "no_such_layer"])
def test_what_is_not_there_gives_the_factual_member_bit_for_bit(name):
    assert tiny.equal(tiny.content(trained()[name]), tiny.content(trained()["no_such_step"]))
    assert not tiny.equal(trained()["dropped"].params, trained()["no_such_step"].params)


@pytest.mark.system
def test_all_other_masks_of_the_step_stay():
    config, batch = tiny.config(SHORT), batch_of()
    free = pass_of(config, batch, STEP)
    whole = np.asarray(
        pass_of(
            tiny.config(SHORT | {"model.attention_dropout_rate": None}), batch, STEP
        ).attention_weights()
    )
    before = np.asarray(free.attention_weights())
    dropped = (before == 0) & (whole > 0)
    np.testing.assert_array_equal(dropped, ~masks(STEP) & (whole > 0))
    layer, example, head, query, key = np.argwhere(dropped[:1])[3]
    spared = {
        "step": STEP,
        "layer": layer,
        "example": example,
        "head": head,
        "query": query,
        "key": key,
    }
    after = np.asarray(dataclasses.replace(free, spared=spared).attention_weights())
    expected = dropped.copy()
    expected[layer, example, head, query, key] = False
    np.testing.assert_array_equal((after == 0) & (whole > 0), expected)
    others = np.ones(before[0].shape, bool)
    others[example, head, query, key] = False
    np.testing.assert_array_equal(after[0][others], before[0][others])
    assert after[0, example, head, query, key] == whole[0, example, head, query, key], (
        "as it is, not scaled"
    )
    assert tiny.equal(
        dataclasses.replace(free, spared=spared | {"step": STEP + 1}).attention_weights(), before
    )
    assert ROWS == tiny.BATCH


def spec_of(changes, seed=SEED):
    [spec] = make_specs(
        {"a": Arm("a")}, {"a": tiny.config(changes)}, [seed], lambda data, seed: "d"
    )
    return spec


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "changes, rate",
    [
        ({}, RATE),
        ({"model.attention_dropout_edges": "query->noun"}, RATE),
        ({"model.dropout_depth": "linear"}, (RATE / 2, RATE)),
        (
            {
                "schedule.shape": "early",
                "schedule.share": 0.5,
                "schedule.fields": ("model.attention_dropout_rate",),
            },
            RATE,
        ),
        ({"model.causal": True}, RATE),
    ],
)
def test_what_a_step_dropped_is_replayed_for_any_arm(changes, rate):
    spec, dataset, row = spec_of(SHORT | changes), tiny.dataset(SEED), 3
    split = dataset.splits["train"]
    replay, query = counterfactual.dropped_of(spec, dataset, row), int(split.query_position[row])
    readable = split.tokens[row] != 0
    if "model.causal" in changes:
        readable &= np.arange(len(readable)) <= query
    if "model.attention_dropout_edges" in changes:
        readable &= np.arange(len(readable)) == split.cues[row, dataset.cue_names.index("noun")]
    seen = 0
    for step, example in [(0, 0), (1, 5), (2, 7), (5, 1)]:
        rates = rate if isinstance(rate, tuple) else (rate, rate)
        kept = np.stack(
            [
                probe.replay_masks(
                    each, SEED, np.array([step]), np.array([example]), 2, 2, len(readable)
                )[0, layer, :, query]
                for layer, each in enumerate(rates)
            ]
        )
        expected = ~kept & readable
        if "schedule.shape" in changes and step >= STEPS / 2:
            expected[:] = False
        np.testing.assert_array_equal(replay(step, example), expected)
        seen += expected.sum()
    assert seen


# --- the whole command


def _make_quick(monkeypatch) -> None:
    tiny.use_compiled(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    monkeypatch.setattr(
        off_values, "off_value", lambda *arguments: {"passed": True, "what": "w", "detail": "d"}
    )
    monkeypatch.setattr(compare, "_report", lambda *arguments: None)
    monkeypatch.setattr("sys.argv", ["jaxreg", "counterfactual", "DIR"])


@pytest.fixture
def quick(monkeypatch):
    """Compiled programs, the tiny draws, no off-value control and no report."""
    _make_quick(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two arms at one seed."""
    folder = tmp_path_factory.mktemp("finished") / "own"
    arms = {"none": Arm("none"), "drop": Arm("drop", {"model.attention_dropout_rate": 0.3})}
    resolved = {name: tiny.config(arm.diff) for name, arm in arms.items()}
    design = dataclasses.replace(DESIGN, arms=arms)
    with pytest.MonkeyPatch.context() as patch:
        _make_quick(patch)
        code = compare.compare(design, tiny.config(), resolved, (1,), folder, display=Shown())
    assert code == 0
    return folder


@pytest.fixture
def workdir(quick, finished, tmp_path):
    """A copy of that run, for one test."""
    return Path(shutil.copytree(finished, tmp_path / "own"))


def command(
    workdir,
    arm="drop",
    seed=1,
    step=None,
    text=None,
    layer=None,
    head=None,
    dry_run=False,
    shown=None,
):
    return counterfactual.run(
        workdir, arm, seed, step, text, layer, head, dry_run=dry_run, display=shown or Shown()
    )


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_trains_one_member_for_each_dropped_connection(workdir, capsys):
    before, shown = files(workdir), Shown()
    assert command(workdir, shown=shown) == 0
    after = files(workdir)
    assert {path: after[path] for path in before} == before, (
        "the run's own members, metrics and checkpoints stay"
    )
    found = json.loads((workdir / "counterfactual.json").read_text())
    target = counterfactual.find(workdir, "drop", 1, None, None, None, None)
    words = found["words"]
    bits = np.array(
        [[[bit == "1" for bit in head] for head in layer] for layer in found["dropped"]]
    )
    np.testing.assert_array_equal(
        bits, target.dropped[:, :, target.start : target.start + len(words)]
    )
    assert bits.sum() == target.dropped.sum(), "no padding among them"
    assert [(row["layer"], row["head"], row["key"]) for row in found["connections"]] == [
        tuple(where) for where in np.argwhere(bits).tolist()
    ]
    assert [row["word"] for row in found["connections"]] == [
        words[row["key"]] for row in found["connections"]
    ]
    split = tiny.dataset(1).splits["train"]
    drawn = batch_indices(
        seed=1,
        num_examples=len(split),
        batch_size=tiny.BATCH,
        first_step=found["step"],
        num_steps=1,
    )[0]
    assert (
        drawn[found["example"]] == target.row
        and tiny.dataset(1).sentence("train", target.row) == found["text"]
    )
    stored = Records(workdir / "counterfactual" / "members")
    assert len(list(stored.directory.iterdir())) == len(found["connections"]) + 1
    moved = [row["distance"] for row in found["connections"]]
    assert min(moved) > 0 and found["factual_differs_from_stored"] < 0.5
    for row in found["connections"]:
        for name in ("probability", "accuracy", "loss"):
            assert row["change"][name] == pytest.approx(
                row[name] - found["factual"][name], abs=1e-12
            )
    assert (
        str(workdir) not in json.dumps(found)
        and "not scaled up" in found["what"]
        and "one seed" in found["caution"]
    )
    counterfactual_section.show(found, Console(width=120))
    out = capsys.readouterr().out
    assert "exact causal effect" in out and out.count(" -> ") == len(found["connections"])
    assert shown.closed[0].startswith("Keeping ")


def test_the_numbers_are_those_of_the_stored_members(workdir):
    command(workdir)
    found = counterfactual_section.read(workdir)
    target = counterfactual.find(workdir, "drop", 1, None, None, None, None)
    connection = counterfactual.chosen_of(target, None, None)[0]
    factual, spec = counterfactual.specs_of(
        target, [connection], lambda data, seed: target.spec.data
    )
    assert factual.config["counterfactual"]["step"] == factual.config["train"]["num_steps"], (
        "a step that never comes"
    )
    assert spec.config["counterfactual"] == {
        "step": target.step,
        "example": target.example,
        "query": target.query,
        **dict(zip(("layer", "head", "key"), connection, strict=True)),
    }
    stored = Records(workdir / "counterfactual" / "members")
    flat = []
    for each in (factual, spec):
        arrays = stored.get(each.hash).arrays
        flat.append(
            np.concatenate(
                [arrays[name].ravel() for name in sorted(arrays) if name.startswith("params/")]
            )
        )
    row, dataset = found["connections"][0], tiny.dataset(1)
    assert row["distance"] == pytest.approx(
        np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0]), rel=1e-4
    )
    scores = stored.get(spec.hash).arrays["scores"]
    index = passes_of(program.structure_of(spec.config), dataset).index("recombination")
    rows = len(dataset.splits["recombination"])
    assert row["accuracy"] == pytest.approx(scores[index, :rows, 0].mean()) and row[
        "loss"
    ] == pytest.approx(scores[index, :rows, 1].mean(), rel=1e-5)
    train = dataset.splits["train"]
    passed = passes_of(program.structure_of(spec.config), dataset).index("train")
    hit = scores[passed, target.row, 0]
    assert (row["probability"] > 0.5) == (hit > 0.5) and train.foil[target.row] >= 0


@pytest.mark.system
def test_again_it_finds_everything_and_a_signal_is_resumed(workdir):
    cut = Shown(lambda count: signal.raise_signal(signal.SIGTERM) if count == 3 else None)
    assert command(workdir, shown=cut) == 75
    assert (
        cut.notes[-1].startswith("interrupted; the same command goes on")
        and not (workdir / "counterfactual.json").exists()
    )
    assert command(workdir) == 0
    whole, again = (workdir / "counterfactual.json").read_bytes(), Shown()
    (workdir / "counterfactual.json").unlink()
    assert command(workdir, shown=again) == 0
    assert (
        workdir / "counterfactual.json"
    ).read_bytes() == whole and "compiling" not in again.phases


def test_planning_writes_nothing_and_bounds_are_said(workdir, monkeypatch):
    monkeypatch.setattr(counterfactual, "MOST", 1)
    before, shown = files(workdir), Shown()
    assert command(workdir, dry_run=True, shown=shown) == 0 and files(workdir) == before
    assert any(
        "only the first 1 are trained" in line and "--layer and --head" in line
        for line in shown.notes
    )
    assert sum(line.startswith("would keep ") for line in shown.notes) == 1
    assert command(workdir) == 0
    found = counterfactual_section.read(workdir)
    bits = "".join(head for layer in found["dropped"] for head in layer)
    assert len(found["connections"]) == 1 and found["left_out"] == bits.count("1") - 1 > 0


def test_only_the_chosen_head_is_trained(workdir):
    shown = Shown()
    assert command(workdir, head=1, dry_run=True, shown=shown) == 0
    named = [line for line in shown.notes if line.startswith("would keep ")]
    assert named and all(line.startswith("would keep layer 0 head 1: ") for line in named)


def test_the_report_takes_only_what_is_of_its_members(workdir):
    target = counterfactual.find(workdir, "drop", 1, None, None, None, None)
    assert counterfactual_section.found(workdir, [target.spec]) is None
    document = {"member": target.spec.hash, "connections": []}
    (workdir / "counterfactual.json").write_text(json.dumps(document))
    assert counterfactual_section.found(workdir, [target.spec]) == document
    assert (
        counterfactual_section.found(workdir, [dataclasses.replace(target.spec, hash="0" * 24)])
        is None
    )


def test_mistakes_are_one_line(workdir):
    split = tiny.dataset(1).splits["train"]
    row = counterfactual.find(workdir, "drop", 1, None, None, None, None).row
    drawn = batch_indices(
        seed=1,
        num_examples=len(split),
        batch_size=tiny.BATCH,
        first_step=0,
        num_steps=tiny.NUM_STEPS,
    )
    without = int(np.flatnonzero(~(drawn == row).any(1))[0])
    for changes, words in [
        ({"arm": "none"}, "arm 'none' has no attention dropout"),
        ({"layer": 1}, "--layer=1: the model has 1, 0 to 0"),
        ({"head": 2}, "--head=2: the model has 2"),
        ({"text": "flurb"}, "'flurb' is not a word"),
        ({"text": "on on on"}, "is no training sentence of seed 1, such as"),
        ({"step": 10**6}, "its batch did not have the sentence"),
        (
            {"step": without},
            f"--step={without}: its batch did not have the sentence; steps that had it: ",
        ),
    ]:
        with pytest.raises(UserErrors) as raised:
            command(workdir, **changes)
        [line] = raised.value.mistakes
        assert words in line, line
    assert not (workdir / "counterfactual").exists()


@pytest.mark.system
@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model.attention_dropout_rate": None}, "has no attention dropout"),
        ({"counterfactual.step": 3}, "it is a counterfactual itself"),
        ({"augment.token_cutoff_rate": 0.3}, "has augment.token_cutoff_rate"),
    ],
)
def test_arms_that_have_no_connection_to_keep(changes, words, workdir):
    target = counterfactual.find(workdir, "drop", 1, None, None, None, None)
    with pytest.raises(UserErrors, match=words):
        counterfactual._refuse(
            spec_of({"model.attention_dropout_rate": 0.3} | changes),
            target.record,
            target.dataset,
            None,
            None,
        )


def test_a_training_sentence_is_found_wherever_it_starts(workdir):
    text = tiny.dataset(1).sentence("train", 5)
    assert counterfactual.find(workdir, "drop", 1, None, text, None, None).row == 5
