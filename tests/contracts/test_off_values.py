"""Law 7, for every regularizer of the table: at its off value it is absent, away from it training
changes, and evaluation never does; in float32 and in bfloat16.

Exactly so operation by operation; to rounding in compiled programs, under pmap on one device and on
four that share the batch. (A published study ran for years with a dropout flag that never reached
the model.)
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import optim, rng
from jaxreg.batch import PARTNER
from jaxreg.metrics import Tally
from jaxreg.reg import penalties, sharpness
from jaxreg.reg.augmentations import AUGMENTATIONS, MIXING
from jaxreg.study.design.regularizers import REGULARIZER_KINDS, REGULARIZERS, Regularizer, strengths
from jaxreg.study.engine import objective, off_values
from jaxreg.study.engine import program as build
from jaxreg.train.step import Moment, Problem, TrainState, train_step
from tests.helpers import tiny

SEED, B, NUM_STEPS = 3, 8, 3
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
AS_WRITTEN = FAST | {"xla_allow_excess_precision": False}  # XLA leaves no rounding out
WHERE = [  # dtype, devices
    pytest.param("float32", 1, id="1", marks=pytest.mark.system),
    pytest.param("float32", 4, id="4"),
    pytest.param("bfloat16", 4, id="4-bfloat16", marks=pytest.mark.system),
]
# Of gradient and parameters. XLA on CPU makes of some small products, in one of two programs, a
# sum of products that are rounded to bfloat16 one by one.
TOLERANCES = {"float32": (1e-6, 1e-4), "bfloat16": (2**-8, 1e-3)}
# Adam makes steps of rounding errors where a gradient is 0 (key biases): not with this one.
EPS = 1e-3
SIZE = {
    "model.num_layers": 2,
    "model.width": 8,
    "model.num_heads": 2,
    "model.mlp_width": 12,
    "optim.eps": EPS,
    "optim.warmup_steps": 0,
    "optim.learning_rate": 0.05,
    "train.num_steps": 10,
    "train.batch_size": B,
}
OFF = {
    f"{section}.{name}": off
    for section, names in strengths().items()
    for name, off in names.items()
    if off is not None
}
MIXED, RADII = (
    tuple(f"augment.{name}" for name in MIXING),
    ("optim.sam_radius", "optim.asam_radius"),
)

BY_FIELD = {entry.field: entry for entry in REGULARIZERS.values()}
STRUCTURE = {
    name: entry
    for name, entry in REGULARIZERS.items()
    if entry.off is None and entry.field.split(".")[0] not in ("stopping", "probe")
}


def config_of(changes: dict[str, Any]) -> dict:
    """The small config without any term, with changes by field."""
    return tiny.config(dict.fromkeys(OFF) | SIZE | changes)


def _programs() -> list[list[str]]:
    """Strengths that share a compiled program: not all at once, which compiles for minutes, nor two
    that exclude one another.
    """

    def of(section):
        return [
            field
            for field in OFF
            if field.startswith(f"{section}.") and field not in (*MIXED, *RADII)
        ]

    return [
        of("model"),
        [*of("loss"), "model.attention_dropout_rate"],
        [*of("augment"), MIXED[0]],
        [*of("optim"), RADII[0]],
        [MIXED[1], RADII[1]],
        [MIXED[2]],
    ]


PROGRAMS = _programs()


def program_of(field: str) -> int:
    """The program in which a strength is tried."""
    return next(
        i
        for i, fields in enumerate(PROGRAMS)
        if field in fields and {*BY_FIELD[field].also} <= set(fields)
    )


@cache
def arrays() -> tuple[dict, dict]:
    """(a training batch with partners and all rewritings, a batch to score) of real sentences."""
    dataset = tiny.dataset(1)
    needs = sorted({need for augmentation in AUGMENTATIONS.values() for need in augmentation.needs})
    table = build.train_batch(dataset, needs)
    rows = np.arange(B)
    batch = {name: x[rows] for name, x in table.items()} | {
        PARTNER + name: x[np.roll(rows, 1)] for name, x in table.items()
    }
    return batch, {name: x[:B] for name, x in build.pass_batch(dataset, "validation", ()).items()}


def problem_of(config: dict, values: dict | None = None) -> Problem:
    """What a member of a config learns; `values` replace its strengths."""
    structure, vocabulary = build.structure_of(config), build.Vocabulary.of(tiny.dataset(1))
    return build.problem_of(structure, vocabulary)(
        build.strengths_of(config) if values is None else values
    )


@cache
def parameters() -> Any:
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(problem_of(config_of({})).init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.5 * draw.normal(size=x.shape), jnp.float32), shapes)


def difference(a: Any, b: Any) -> float:
    """Relative distance of two trees in the global norm."""

    def norm(tree):
        return np.sqrt(
            sum(np.sum(np.square(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree))
        )

    return norm(jax.tree.map(lambda x, y: np.asarray(x, np.float64) - np.asarray(y), a, b)) / norm(
        a
    )


# --- exact, not compiled: XLA rounds differently where it fuses differently ---


def eager_loss(changes: dict[str, Any]) -> np.ndarray:
    config = config_of(changes)
    batch, _ = arrays()
    tally = objective.training_loss(
        build.structure_of(config),
        build.strengths_of(config),
        build.Vocabulary.of(tiny.dataset(1)),
        parameters(),
        jax.tree.map(jnp.asarray, batch),
        Moment(SEED, 1),
        jnp.arange(B),
    )
    return np.asarray(tally.total)


@cache
def plain_loss(dtype: str) -> np.ndarray:
    return eager_loss({"model.dtype": dtype})


IN_BOTH = [
    pytest.param(field, dtype, id=field if dtype == "float32" else f"{field}, {dtype}")
    for dtype in ("float32", "bfloat16")
    for field in OFF
    if not field.startswith("optim.")
]


@pytest.mark.short_cases("model.attention_dropout_rate")
@pytest.mark.parametrize("field, dtype", IN_BOTH)
def test_at_its_off_value_the_loss_is_exactly_the_one_without_it(field, dtype):
    entry, own = BY_FIELD[field], {"model.dtype": dtype}
    np.testing.assert_array_equal(eager_loss(own | {field: entry.off}), plain_loss(dtype))
    seen_with = eager_loss({**own, **entry.also}) if entry.also else plain_loss(dtype)
    on = eager_loss({**own, **entry.also, field: entry.on})
    assert abs(on - seen_with) > 1e-4 * abs(seen_with)


@pytest.mark.system
def test_the_loss_of_the_dtypes_is_another_one_and_near():
    assert 1e-5 < abs(plain_loss("bfloat16") / plain_loss("float32") - 1) < 0.02


def steps_of(values: dict[str, Any]) -> tuple[list, Any]:
    """Updates of two steps of an optimizer that has only these terms, and the parameters that would
    be evaluated.
    """
    values = dict(values)
    perturb = sharpness.perturbation(
        **{name: values.pop(name) for name in sharpness.PERTURBATIONS if name in values}
    )
    chain = optim.optimizer(learning_rate=0.1, num_steps=10, eps=EPS, **values)
    params, out = parameters(), []
    state = chain.init(params)
    for scale in (1.0, 10.0):

        def gradient(p, s=scale):
            return jax.tree.map(lambda x: s * jnp.sin(x), p)

        found = gradient(params) if perturb is None else gradient(perturb(params, gradient(params)))
        update, state = chain.update(
            found, state, params, noise_key=jax.random.fold_in(jax.random.key(5), int(scale))
        )
        params = optax.apply_updates(params, update)
        out.append(update)
    return out, optim.averaged(state, params)


def bare_steps() -> tuple[list, Any]:
    """The same by optax's Adam behind a cosine, without a line of jaxreg."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, 0, 10)
    chain = optax.chain(
        optax.scale_by_adam(0.9, 0.98, EPS),
        optax.scale_by_learning_rate(lambda step: 0.1 * schedule(step)),
    )
    params, out = parameters(), []
    state = chain.init(params)
    for scale in (1.0, 10.0):
        update, state = chain.update(
            jax.tree.map(lambda x, s=scale: s * jnp.sin(x), params), state, params
        )
        params = optax.apply_updates(params, update)
        out.append(update)
    return out, params


@pytest.mark.short_cases("optim.weight_decay")
@pytest.mark.parametrize("field", [field for field in OFF if field.startswith("optim.")])
def test_at_its_off_value_the_update_is_exactly_the_one_without_it(field):
    entry, name = BY_FIELD[field], field.removeprefix("optim.")
    assert tiny.equal(steps_of({name: entry.off}), bare_steps())
    assert difference(bare_steps(), steps_of({name: entry.on})) > 1e-5


# --- compiled, with every strength that fits traced in one program, on one and on four devices ---


class Outcome(NamedTuple):
    """Loss [steps] and first gradient, the parameters evaluated after these steps, and scores of
    the first parameters.
    """

    losses: Any
    gradient: Any
    params: Any
    scores: Any


class Remembered(NamedTuple):
    """The state of an optimizer and the gradient that it was given last."""

    inner: Any
    gradient: Any


def remembering(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimizer; its state holds the gradient too, which need not be computed twice."""
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        return Remembered(inner.init(params), jax.tree.map(jnp.zeros_like, params))

    def update(gradient, state, params=None, **extra):
        updates, own = inner.update(gradient, state.inner, params, **extra)
        return updates, Remembered(own, gradient)

    return optax.GradientTransformationExtraArgs(init, update)


def outcome_of(own: Problem, params: Any, batch: Any, scored: Any, ids: Any) -> Outcome:
    own = own._replace(optimizer=remembering(own.optimizer))
    state = TrainState(
        jnp.int32(0), params, own.optimizer.init(params), jnp.bool_(False), Tally.empty()
    )

    def step(state, _):
        state, tally = train_step(own, state, batch, jnp.int32(SEED), ids, "batch")
        return state, (tally.total / tally.count, state.opt_state.gradient)

    state, (values, gradients) = jax.lax.scan(step, state, length=NUM_STEPS)
    first = jax.tree.map(lambda x: x[0], gradients)
    return Outcome(
        *(values, first, own.evaluated(state.params, state.opt_state.inner)),
        own.score(params, scored, SEED),
    )


def compiled(config: dict, devices: int):
    """A function from strengths to the outcome, the batch shared by some devices."""
    batch, scored = arrays()

    def share(tree):
        return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), tree)

    run = jax.pmap(
        lambda values, params, *rest: outcome_of(problem_of(config, values), params, *rest),
        "batch",
        in_axes=(None, None, 0, None, 0),
        devices=jax.devices()[:devices],
    )
    rest = parameters(), share(batch), scored, np.arange(B, dtype=np.int32).reshape(devices, -1)
    traced = jax.tree.map(np.float32, build.strengths_of(config))
    narrow = config["model"]["dtype"] == "bfloat16"
    ready = run.lower(traced, *rest).compile(compiler_options=AS_WRITTEN if narrow else FAST)

    def call(values: dict) -> Outcome:
        return jax.tree.map(
            lambda x: np.asarray(x)[0], ready(jax.tree.map(np.float32, values), *rest)
        )

    return call


@cache
def program(index: int, devices: int, dtype: str = "float32"):
    """(program with some strengths traced, their off values as a config)."""
    config = config_of({field: OFF[field] for field in PROGRAMS[index]} | {"model.dtype": dtype})
    return compiled(config, devices), config


@cache
def without_any(devices: int, dtype: str) -> Outcome:
    config = config_of({"model.dtype": dtype})
    return compiled(config, devices)(build.strengths_of(config))


def at(config: dict, values: dict[str, float]) -> dict:
    """The strengths of a config with some fields changed."""
    changed = {section: dict(own) for section, own in build.strengths_of(config).items()}
    for field, value in values.items():
        section, name = field.split(".")
        assert name in changed[section], field
        changed[section][name] = value
    return changed


@pytest.mark.short_cases("3-4")
@pytest.mark.parametrize("dtype, devices", WHERE)
@pytest.mark.parametrize("index", range(len(PROGRAMS)))
def test_a_program_at_all_off_values_is_the_one_without_any_term(index, dtype, devices):
    run, config = program(index, devices, dtype)
    off, absent = run(build.strengths_of(config)), without_any(devices, dtype)
    np.testing.assert_allclose(off.losses[0], absent.losses[0], rtol=1e-6)
    of_gradient, of_params = TOLERANCES[dtype]
    assert difference(absent.gradient, off.gradient) < of_gradient
    assert (
        difference(absent.params, off.params) < of_params
    )  # after three steps of Adam, which amplifies rounding
    np.testing.assert_allclose(absent.scores, off.scores, rtol=1e-5, atol=1e-6)


@pytest.mark.short_cases("optim.weight_decay-4")
@pytest.mark.parametrize("dtype, devices", WHERE)
@pytest.mark.parametrize("field", OFF)
def test_away_from_its_off_value_training_changes_and_evaluation_does_not(field, dtype, devices):
    entry = BY_FIELD[field]
    run, config = program(program_of(field), devices, dtype)
    before, after = (
        run(at(config, dict(entry.also))),
        run(at(config, {**entry.also, field: entry.on})),
    )
    assert difference(before.params, after.params) > 1e-3
    assert np.array_equal(before.scores, after.scores) is not entry.in_evaluation


@pytest.mark.system
@pytest.mark.parametrize("field", OFF)
def test_one_step_is_the_same_on_one_device_and_on_four(field):
    """Law 6 with the term on: masks, partners and noise depend on the place in the global batch."""
    entry = BY_FIELD[field]
    one, four = (
        run(at(config, {**entry.also, field: entry.on}))
        for run, config in (program(program_of(field), devices) for devices in (1, 4))
    )
    np.testing.assert_allclose(one.losses[0], four.losses[0], rtol=1e-6)
    assert difference(one.gradient, four.gradient) < 2e-6


# --- structure has no off value: it must change something ---


@pytest.mark.system
@pytest.mark.parametrize("name", STRUCTURE)
def test_structure_changes_training(name):
    entry: Regularizer = STRUCTURE[name]
    before, after = (
        _last_params(**(dict(entry.also) | changes)) for changes in ({}, {entry.field: entry.on})
    )
    same_shapes = jax.tree.structure(before) == jax.tree.structure(after)
    assert not same_shapes or difference(before, after) > 1e-3


@cache
def _last_params(**changes: Any) -> Any:
    own, batch = (
        problem_of(config_of(changes)),
        {name: jnp.asarray(x) for name, x in arrays()[0].items()},
    )

    def run(params):
        state = TrainState(
            jnp.int32(0), params, own.optimizer.init(params), jnp.bool_(False), Tally.empty()
        )
        return jax.lax.scan(
            lambda s, _: (train_step(own, s, batch, jnp.int32(SEED), jnp.arange(B))[0], None),
            state,
            length=NUM_STEPS,
        )[0].params

    first = own.init(rng.seed_key(SEED, "init"))  # not compiled: small programs, which all share
    return jax.tree.map(np.asarray, jax.jit(run, compiler_options=FAST)(first))


# --- the table is whole ---


def test_every_penalty_and_augmentation_is_in_the_table_once():
    fields = [entry.field for entry in REGULARIZERS.values()]
    assert len(REGULARIZERS) == sum(map(len, REGULARIZER_KINDS.values())) and len(
        set(fields)
    ) == len(fields)
    assert {f"loss.{name}_strength" for name in penalties.PENALTIES} <= set(fields)
    assert {f"augment.{name}" for name in AUGMENTATIONS} <= set(fields)
    assert {field for fields in PROGRAMS for field in fields} == set(OFF)


def test_the_control_of_every_run_knows_every_strength():
    on = config_of({field: BY_FIELD[field].on for field in PROGRAMS[0]})
    off = off_values.at_off_values(on)
    assert all(off[field.split(".")[0]][field.split(".")[1]] == OFF[field] for field in PROGRAMS[0])
    assert build.strengths_of(off_values.without_terms(on)) == build.strengths_of(config_of({}))
