"""From a config to numbers: what is a strength, what is structure, and scores that equal a slow
evaluation written out.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import rng
from jaxreg.data.catsat import grammar
from jaxreg.store.member_store import Record
from jaxreg.study.design import config as configs
from jaxreg.study.engine import member_scores, program
from jaxreg.study.engine.trainer import passes_of
from jaxreg.train.step import Moment
from tests.helpers import tiny

SEED = 1
DROPPING = {"model.attention_dropout_rate": 0.2, "optim.weight_decay": 1.0}


@pytest.fixture(scope="module")
def tried():
    return tiny.setting()


@pytest.fixture(scope="module")
def trained(tried):
    """A member with decay and dropout, trained on draw 1 with seed 1."""
    return tried.train([tried.job(SEED, DROPPING)])[0]


@pytest.fixture(scope="module")
def data():
    return tiny.dataset(SEED)


@pytest.fixture(scope="module")
def model(tried, data):
    return program.model_of(
        program.structure_of(tried.config),
        program.strengths_of(tried.config),
        program.Vocabulary.of(data),
    )


def record_of(tried, member):
    return Record(
        {"scores": member.scores},
        {"passes": [[split, list(cut)] for split, cut in tried.passes.keys], "diverged": False},
    )


def rows_of(data, view):
    """The rows of a view's split that it counts, found one by one."""
    split, rows = data.splits[view.split], []
    for row in range(len(split.tokens)):
        if view.subset is None:
            rows.append(row)
        elif view.subset.startswith("template:"):
            if data.templates[split.template[row]] == view.subset.split(":")[1]:
                rows.append(row)
        elif split.tags[row, data.tag_names.index(view.subset)]:
            rows.append(row)
    return rows


def mask_of(data, view, row):
    """Who may look at whom in one sentence: bool [T, T], with the view's connections cut."""
    split = data.splits[view.split]
    tokens, query = split.tokens[row], int(split.query_position[row])
    allowed = np.zeros((12, 12), bool)
    for looking in range(12):
        for seen in range(12):
            allowed[looking, seen] = tokens[seen] != 0
    for name in view.cut:
        allowed[query, split.cues[row, data.cue_names.index(name)]] = False
    return allowed


@pytest.fixture(scope="module")
def slow_logits(model, trained, data):
    """A function of (view, row): logits of the trained member for one sentence, from model.apply
    alone.
    """
    one = jax.jit(
        lambda params, tokens, mask: model.apply(
            {"params": params}, tokens[None], mask=mask[None, None]
        )
    )
    table = np.array(trained.params["embedding"]["embedding"])
    nouns = [
        index
        for index, word in enumerate(data.tokens)
        if word in {form for noun in grammar.lexicon.NOUNS for form in noun}
    ]
    nonce = [index for index, word in enumerate(data.tokens) if word in grammar.lexicon.NONCE_WORDS]
    assert len(nouns) == 24 and len(nonce) == 32
    size = np.sqrt((table[nouns].astype(np.float64) ** 2).mean())
    table[nonce] = np.float32(size) * np.asarray(
        jax.random.normal(rng.seed_key(SEED, "fresh"), (32, 8))
    )
    fresh = {**trained.params, "embedding": {"embedding": table}}

    def logits(view, row):
        split = data.splits[view.split]
        out = one(
            fresh if view.fresh else trained.params, split.tokens[row], mask_of(data, view, row)
        )
        return np.asarray(out)[0, split.query_position[row]].astype(np.float64)

    return logits


def test_every_view_s_scores_equal_a_slow_evaluation_sentence_by_sentence(
    tried, trained, data, slow_logits
):
    record, seen = record_of(tried, trained), set()
    for view in data.views:
        hits, losses = member_scores.view_scores(record, data, view)
        rows, split = rows_of(data, view), data.splits[view.split]
        assert len(rows) == len(hits) > 0
        for row, hit, loss in zip(rows, hits, losses, strict=True):
            logits = slow_logits(view, row)
            right, wrong = logits[split.label[row]], logits[split.foil[row]]
            if abs(right - wrong) > 1e-4:
                assert hit == (1.0 if right > wrong else 0.0), (view.name, row)
            assert loss == pytest.approx(
                np.log(np.exp(logits).sum()) - right, rel=1e-4, abs=1e-5
            ), (view.name, row)
        expected = np.mean([logit_hit(slow_logits(view, row), split, row) for row in rows])
        assert member_scores.accuracy(record, data, view) == pytest.approx(
            expected, abs=0.5 / len(rows)
        )
        seen.add(round(float(losses.mean()), 6))
    assert len(seen) > len(data.views) - 2, "the views differ"


def logit_hit(logits, split, row):
    difference = logits[split.label[row]] - logits[split.foil[row]]
    return 1.0 if difference > 0 else 0.0 if difference < 0 else 0.5


def test_the_curves_are_the_means_of_these_scores(tried, trained):
    for index, ((split, cut), rows) in enumerate(
        zip(tried.passes.keys[: tried.passes.num_curves], tried.plan.pass_rows, strict=False)
    ):
        assert not cut
        np.testing.assert_allclose(
            trained.curves[-1, index],
            trained.scores[index, :rows].mean(0, dtype=np.float64),
            rtol=1e-6,
            err_msg=split,
        )


def test_each_cut_takes_away_what_it_says(tried, trained, data):
    """Cutting the noun changes the answer's loss; where a cut does not apply, nothing does."""
    record, by_name = record_of(tried, trained), {view.name: view for view in data.views}
    losses = {
        name: member_scores.view_scores(record, data, by_name[name])[1]
        for name in ("informative", "noun_cut", "determiner_cut", "both_cut")
    }
    for name in ("noun_cut", "determiner_cut", "both_cut"):
        assert (losses[name] != losses["informative"]).all(), name
    assert (losses["noun_cut"] != losses["determiner_cut"]).all()


def test_both_cut_in_a_sentence_of_three_words_is_exactly_blind(model, trained, data):
    """Nothing is left to read but the verb itself: the same bits whatever noun and determiner stand
    there.
    """
    verb, words = int(grammar.STEM_IDS[0]), np.arange(1, 13)
    tokens = np.zeros((144, 12), np.int32)
    nouns, determiners = np.meshgrid(grammar.NOUN_IDS.ravel()[:12], words)
    tokens[:, 3], tokens[:, 4], tokens[:, 5] = determiners.ravel(), nouns.ravel(), verb
    batch = {"tokens": jnp.asarray(tokens), "query_position": jnp.full(144, 5)}
    run = jax.jit(
        lambda cuts: program.predict(model, trained.params, {**batch, "cut_positions": cuts})
    )
    both = np.asarray(run(np.tile(np.int32([4, 3]), (144, 1))))
    assert (both == both[0]).all()
    noun_only = np.asarray(run(np.tile(np.int32([4, -1]), (144, 1)))).reshape(12, 12, -1)
    assert (noun_only == noun_only[:, :1]).all(), "with the noun cut, no noun matters"
    assert not (noun_only == noun_only[:1]).all(), "and the determiner still does"
    none = np.asarray(run(np.full((144, 2), -1, np.int32)))
    assert len(np.unique(none[:, 0])) > 72


def test_other_rows_may_still_look_at_what_the_verb_may_not(model, trained):
    """A cut takes the verb's own look away, not the adjective's: with one layer neither can come
    round.
    """
    tokens = np.zeros((2, 12), np.int32)
    tokens[:, :4] = [[5, 11, 20, int(grammar.STEM_IDS[0])], [5, 12, 20, int(grammar.STEM_IDS[0])]]
    batch = {
        "tokens": tokens,
        "query_position": np.int32([3, 3]),
        "cut_positions": np.int32([[2, 0], [2, 0]]),
    }
    out = np.asarray(jax.jit(lambda batch: program.predict(model, trained.params, batch))(batch))
    assert not np.array_equal(out[0], out[1]), "the adjective is not cut"


def test_fresh_rows_are_as_long_as_the_trained_nouns_and_nothing_else_changes(trained, data):
    vocabulary = program.Vocabulary.of(data)
    before = np.asarray(trained.params["embedding"]["embedding"])
    params = jax.tree.map(jnp.asarray, trained.params)
    out = program.with_fresh_rows(params, jnp.int32(SEED), vocabulary)
    after = np.asarray(out["embedding"]["embedding"])
    fresh = list(vocabulary.fresh_tokens)
    others = np.setdiff1d(np.arange(len(before)), fresh)
    assert (
        np.array_equal(before[others], after[others]) and not (before[fresh] == after[fresh]).any()
    )
    assert all(out[name] is params[name] for name in params if name != "embedding")
    rms = np.sqrt((before[grammar.NOUN_IDS.ravel()] ** 2).mean())
    wide = program.with_fresh_rows(
        {"embedding": {"embedding": jnp.tile(before, (1, 100))}}, jnp.int32(SEED), vocabulary
    )
    assert np.sqrt(
        (np.asarray(wide["embedding"]["embedding"])[fresh] ** 2).mean()
    ) == pytest.approx(rms, rel=0.02)
    again, other = (
        program.with_fresh_rows(params, jnp.int32(seed), vocabulary)["embedding"]["embedding"]
        for seed in (SEED, 2)
    )
    assert np.array_equal(again, after) and not np.array_equal(other, after)


def test_neither_gradient_nor_decay_reaches_the_words_that_are_never_trained(tried, trained, data):
    start = tried.programs.layout.gather(tried.wave([tried.job(SEED)]).state.params)["embedding"][
        "embedding"
    ][0]
    end, fresh = trained.params["embedding"]["embedding"], list(data.fresh_tokens)
    assert np.array_equal(start[fresh], end[fresh])
    seen = np.setdiff1d(np.unique(data.splits["train"].tokens), [0])
    assert (start[seen] != end[seen]).any(1).all()


def test_evaluation_never_depends_on_a_strength(tried, trained):
    wave = tried.wave([tried.job(SEED), tried.job(SEED, tiny.STRENGTHS)])
    everywhere = jax.tree.map(lambda x: np.stack([x] * 6), trained.params)
    num_passes = len(tried.plan.pass_rows)
    passes = [wave.layout.spread(np.full(6, n, np.int32)) for n in (0, num_passes)]
    scores = wave.layout.gather_scores(
        tried.programs.score(
            wave.layout.put(wave.layout.spread(everywhere)), wave.member, wave.tables, *passes
        )
    )
    assert np.array_equal(scores[0], scores[1]) and np.array_equal(scores[0], trained.scores)


def test_strengths_and_structure_part_the_model_and_training_between_them():
    config = tiny.config()
    strengths, structure = program.strengths_of(config), program.structure_of(config)
    for section in ("model", "loss", "optim"):
        assert set(strengths[section]) | set(structure[section]) == set(config[section])
        assert not set(strengths[section]) & set(structure[section])
    assert structure["train"] == config["train"] and structure["eval"] == config["eval"]


@pytest.mark.parametrize(
    "changes, same",
    [
        (
            {
                "model.attention_dropout_rate": 0.3,
                "optim.learning_rate": 0.1,
                "loss.label_smoothing_strength": 0.2,
            },
            True,
        ),
        (
            {
                "stopping.patience_evals": 2.0,
                "checkpoint.every_seconds": 1.0,
                "data.verbs_per_noun": 5,
                "data.neutral_rate": 0.1,
            },
            True,
        ),
        ({"model.attention_dropout_rate": None}, False),
        ({"model.norm": "post"}, False),
        ({"train.num_steps": 51}, False),
        ({"data.num_train": 33}, False),
        ({"data.length": 13}, False),
        ({"stopping.split": "template"}, False),
        ({"eval.curves": ("train",)}, False),
        ({"optim.b2": 0.9}, False),
        ({"train.member_axis": "vmap"}, False),
    ],
)
def test_what_shares_a_program(changes, same):
    assert (
        program.structure_of(tiny.config(changes)) == program.structure_of(tiny.config())
    ) is same


@pytest.mark.parametrize("section", ["model", "optim", "loss"])
def test_a_field_that_nobody_reads_is_a_mistake_in_the_config(section):
    name = f"{section}.momentum_of_mind"
    [mistake] = configs.validate(configs.flat(tiny.config()) | {name: 0.5})
    assert mistake.startswith(f"{name}: there is no such field")


@pytest.mark.parametrize("section", ["model", "optim"])  # the loss takes the strengths that it has
def test_a_field_that_nobody_reads_is_an_error(section):
    config = tiny.config()
    config[section] = {**config[section], "momentum_of_mind": 0.5}
    structure = program.structure_of(config)
    with pytest.raises(TypeError, match="momentum_of_mind"):
        problem = program.problem_of(structure, program.Vocabulary.of(tiny.dataset(1)))(
            program.strengths_of(config)
        )
        batch = {
            "tokens": jnp.ones((2, 12), jnp.int32),
            "query_position": jnp.zeros(2, jnp.int32),
            "label": jnp.zeros(2, jnp.int32),
        }
        jax.eval_shape(
            lambda: problem.objective(
                problem.init(jax.random.key(0)), batch, Moment(1, 0), jnp.arange(2)
            )
        )


def test_passes_are_shared_and_the_curves_come_first(data):
    passes = program.Passes.of(data.views, ("train", "recombination"), "validation")
    assert (
        passes.keys[:3] == (("train", ()), ("recombination", ()), ("validation", ()))
        and passes.num_curves == 3
    )
    assert len(set(passes.keys)) == len(passes.keys)
    assert {(view.split, view.cut) for view in data.views} == set(passes.keys)
    assert passes.keys[passes.index("recombination", ("noun", "determiner"))] == (
        "recombination",
        ("noun", "determiner"),
    )
    twice = program.Passes.of(data.views, ("validation",), "validation")
    assert twice.num_curves == 1 and twice.index("validation") == 0


def test_a_pass_is_filled_up_by_its_last_row_and_cut_where_it_says(data):
    split = data.splits["recombination"]
    batch = program.pass_batch(data, "recombination", ("determiner",), rows=29)
    assert all(len(x) == 29 for x in batch.values())
    assert (
        np.array_equal(batch["tokens"][:24], split.tokens)
        and (batch["tokens"][24:] == split.tokens[-1]).all()
    )
    assert np.array_equal(
        batch["cut_positions"][:24, 0], split.cues[:, data.cue_names.index("determiner")]
    )
    assert (batch["cut_positions"][:, 1] == -1).all()


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_tables_have_a_row_per_draw_and_passes_that_devices_can_share(devices):
    draws = [tiny.dataset(1), tiny.dataset(2)]
    passes = passes_of(program.structure_of(tiny.config()), draws[0])
    tables = program.tables_of(draws, passes, devices)
    shape = tables.passes["tokens"].shape
    assert (
        shape[:2] == (2, len(passes.keys))
        and shape[2] % devices == 0
        and 32 <= shape[2] < 32 + devices
    )
    for row, draw in enumerate(draws):
        assert np.array_equal(tables.train["tokens"][row], draw.splits["train"].tokens)
        index = passes.index("fronted")
        assert np.array_equal(tables.passes["label"][row, index, :24], draw.splits["fronted"].label)
    assert set(tables.train) == {"tokens", "query_position", "label", "cues"}, (
        "training sees no foil"
    )


def test_of_a_large_training_split_an_even_sample_is_scored(data):
    n = 3 * program.SCORED_TRAINING_ROWS + 100
    split = data.splits["train"]
    many = dataclasses.replace(
        split,
        **{
            f.name: np.resize(getattr(split, f.name), (n, *getattr(split, f.name).shape[1:]))
            for f in dataclasses.fields(split)
            if getattr(split, f.name) is not None
        },
    )
    large = dataclasses.replace(data, splits=data.splits | {"train": many, "validation": many})
    rows = program.scored_rows(large, "train")
    assert (
        len(rows) == program.SCORED_TRAINING_ROWS
        and rows[0] == 0
        and n - 5 < rows[-1] < n
        and set(np.diff(rows)) == {3, 4}
    )
    assert np.array_equal(program.pass_batch(large, "train", ())["label"], many.label[rows])
    assert len(program.pass_batch(large, "validation", ())["label"]) == n, (
        "what is judged is scored whole"
    )


def test_the_plan_follows_from_structure_and_splits(data):
    structure = program.structure_of(tiny.config({"train.num_steps": 7, "eval.every_steps": 100}))
    passes = passes_of(structure, data)
    plan = program.plan_of(structure, data, passes)
    assert dataclasses.asdict(plan) == {
        "num_steps": 7,
        "most_chunk_steps": None,
        "batch_size": 8,
        "eval_every_steps": 100,
        "num_examples": 32,
        "pass_rows": tuple(32 if split == "train" else 24 for split, _ in passes.keys),
        "num_curve_passes": 3,
        "stopping_pass": passes.index("validation"),
    }
    assert plan.eval_steps == (7,)
