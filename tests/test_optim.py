"""The optimizer against loops in numpy: clips, noise, the four optimizers, decay, schedules,
average; each alone and all at once.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import optim
from jaxreg.nn import Transformer

NUM_STEPS = 8
LEAVES = {  # in the order of the tree
    ("dense", "bias"): (4,),
    ("dense", "kernel"): (3, 4),
    ("embedding", "embedding"): (5, 3),
    ("norm", "bias"): (3,),
    ("norm", "scale"): (3,),
    ("out", "bias"): (3,),
    ("out", "kernel"): (2, 2, 3),
    ("query", "bias"): (2, 2),
    ("query", "kernel"): (3, 2, 2),
}
KERNELS = {path for path in LEAVES if path[1] == "kernel"}
DECAYED = {
    "kernels": KERNELS,
    "kernels_and_embeddings": KERNELS | {("embedding", "embedding")},
    "all": set(LEAVES),
}
# which unit of its tensor each number belongs to: all that goes into one output; a vector is one
# unit
UNITS = {
    path: np.broadcast_to(unit, LEAVES[path])
    for path, unit in {
        **dict.fromkeys(LEAVES, 0),
        ("dense", "kernel"): np.arange(4),
        ("embedding", "embedding"): np.arange(3),
        ("out", "kernel"): np.arange(3),
        ("query", "kernel"): np.arange(4).reshape(2, 2),
    }.items()
}
OPTIONS = {
    "learning_rate": 0.1,
    "num_steps": NUM_STEPS,
    "weight_decay": 0.3,
    "max_grad_norm": 2.0,
    "warmup_steps": 3,
}
EVERYTHING = OPTIONS | {
    "max_param_grad_norm": 1.0,
    "adaptive_clip": 0.2,
    "gradient_noise": 0.04,
    "ema_decay": 0.7,
    "decay_mask": "all",
}
OFF = {
    "weight_decay": 0.0,
    "max_grad_norm": math.inf,
    "max_param_grad_norm": math.inf,
    "adaptive_clip": math.inf,
    "gradient_noise": 0.0,
    "ema_decay": 0.0,
}
AWAY = {
    "weight_decay": 0.3,
    "max_grad_norm": 0.5,
    "max_param_grad_norm": 0.3,
    "adaptive_clip": 0.05,
    "gradient_noise": 0.1,
    "ema_decay": 0.9,
}
NOISE_KEY = jax.random.key(11, impl="threefry2x32")


def tree(leaves):
    out = {}
    for (module, name), x in leaves.items():
        out.setdefault(module, {})[name] = jnp.asarray(x, jnp.float32)
    return out


def leaves_of(tree):
    return {(module, name): np.asarray(tree[module][name]) for module, name in LEAVES}


def normal(seed, size=1.0):
    draw = np.random.default_rng(seed)
    return {path: draw.normal(size=shape) * size for path, shape in LEAVES.items()}


START = normal(0)
GRADIENTS = [
    normal(step, size)
    for step, size in enumerate([1.0, 0.01, 5.0, 0.1, 1.0, 3.0, 0.02, 1.0], start=1)
]


def factor(step, warmup_steps, num_steps, schedule="cosine"):
    if step < warmup_steps:
        return step / warmup_steps
    done = min(step - warmup_steps, num_steps - warmup_steps) / (num_steps - warmup_steps)
    return {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "linear": 1 - done,
        "inverse_root": math.sqrt(max(warmup_steps, 1) / (step if warmup_steps else step + 1)),
    }[schedule]


def norm(numbers):
    return math.sqrt(sum(float(x) ** 2 for x in np.ravel(numbers)))


def noise_of(step):
    """Standard normal numbers: one draw over all parameters, cut up in the tree's order."""
    flat = np.asarray(
        jax.random.normal(
            jax.random.fold_in(NOISE_KEY, step),
            (sum(math.prod(shape) for shape in LEAVES.values()),),
        )
    )
    out = {}
    for path, shape in LEAVES.items():
        out[path], flat = flat[: math.prod(shape)].reshape(shape), flat[math.prod(shape) :]
    return out


def clipped_by_hand(
    gradient, params, step, max_grad_norm, max_param_grad_norm, adaptive_clip, gradient_noise
):
    """The clips in their order, then the noise."""
    whole = norm(np.concatenate([x.ravel() for x in gradient.values()]))
    gradient = {path: x * min(1.0, max_grad_norm / whole) for path, x in gradient.items()}
    gradient = {path: x * min(1.0, max_param_grad_norm / norm(x)) for path, x in gradient.items()}
    for path, x in gradient.items():
        for unit in np.unique(UNITS[path]):
            mine = UNITS[path] == unit
            allowed = adaptive_clip * max(norm(params[path][mine]), 1e-3)
            x[mine] *= min(1.0, allowed / norm(x[mine]))
    noise = noise_of(step) if gradient_noise else dict.fromkeys(LEAVES, 0.0)
    return {
        path: x + math.sqrt(gradient_noise / (1 + step) ** 0.55) * noise[path]
        for path, x in gradient.items()
    }


def by_hand(
    *,
    learning_rate,
    num_steps,
    optimizer="adamw",
    b1=0.9,
    b2=0.98,
    eps=1e-8,
    weight_decay=0.0,
    decay_mask="kernels",
    max_grad_norm=math.inf,
    max_param_grad_norm=math.inf,
    adaptive_clip=math.inf,
    gradient_noise=0.0,
    ema_decay=0.0,
    schedule="cosine",
    warmup_steps=0,
):
    """(parameters, their average) after every step, in float64, number by number."""
    params = {path: x.astype(np.float32).astype(np.float64) for path, x in START.items()}
    mean, square = ({path: np.zeros(shape) for path, shape in LEAVES.items()} for _ in range(2))
    history = []
    for step, gradient in enumerate(GRADIENTS):
        gradient = {path: x.astype(np.float32).astype(np.float64) for path, x in gradient.items()}
        gradient = clipped_by_hand(
            gradient,
            params,
            step,
            max_grad_norm,
            max_param_grad_norm,
            adaptive_clip,
            gradient_noise,
        )
        rate = learning_rate * factor(step, warmup_steps, num_steps, schedule)
        for path, x in params.items():
            for i in np.ndindex(x.shape):
                g, decay = (
                    gradient[path][i],
                    weight_decay * x[i] if path in DECAYED[decay_mask] else 0.0,
                )
                if optimizer == "adam_l2":
                    g, decay = g + decay, 0.0
                old = mean[path][i]
                square[path][i] = b2 * square[path][i] + (1 - b2) * g * g
                if optimizer == "sgd":
                    mean[path][i] = update = g + b1 * old
                elif optimizer == "lion":
                    update, mean[path][i] = (
                        np.sign((1 - b1) * g + b1 * old),
                        (1 - b2) * g + b2 * old,
                    )
                else:
                    mean[path][i] = b1 * old + (1 - b1) * g
                    update = (
                        mean[path][i]
                        / (1 - b1 ** (step + 1))
                        / (math.sqrt(square[path][i] / (1 - b2 ** (step + 1))) + eps)
                    )
                x[i] -= rate * (update + decay)
        history.append({path: x.copy() for path, x in params.items()})
    weights = [[ema_decay ** (t - i) for i in range(t + 1)] for t in range(len(history))]
    averages = [
        {path: sum(w * after[path] for w, after in zip(row, history)) / sum(row) for path in LEAVES}
        for row in weights
    ]
    return list(zip(history, averages))


def stacked(gradients):
    return tree({path: np.stack([g[path] for g in gradients]) for path in LEAVES})


def history(optimizer, gradients):
    """(parameters, their average) after every step, stacked."""

    def step(carry, now):
        params, state = carry
        index, gradient = now
        updates, state = optimizer.update(
            gradient, state, params, noise_key=jax.random.fold_in(NOISE_KEY, index)
        )
        params = optax.apply_updates(params, updates)
        return (params, state), (params, optim.averaged(state, params))

    params = tree(START)
    return jax.lax.scan(
        step, (params, optimizer.init(params)), (jnp.arange(len(GRADIENTS)), gradients)
    )[1]


@jax.jit
def trained(strengths, gradients):
    """As `history`, with traced strengths."""
    return history(optim.optimizer(num_steps=NUM_STEPS, warmup_steps=3, **strengths), gradients)


def assert_as_by_hand(found, **options):
    for step, expected in enumerate(by_hand(**options)):
        for kind, mine, theirs in zip(("parameters", "average"), found, expected):
            for path, x in leaves_of(jax.tree.map(lambda x, step=step: x[step], mine)).items():
                np.testing.assert_allclose(
                    x, theirs[path], rtol=1e-4, atol=1e-5, err_msg=f"{kind}, step {step}, {path}"
                )


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        OPTIONS | {"schedule": "constant", "b1": 0.5, "b2": 0.9, "eps": 0.01},
        {"learning_rate": 0.1, "num_steps": NUM_STEPS},
        OPTIONS | {"optimizer": "adam_l2"},
        OPTIONS | {"optimizer": "sgd", "schedule": "linear"},
        OPTIONS
        | {"optimizer": "lion", "schedule": "inverse_root", "decay_mask": "kernels_and_embeddings"},
        OPTIONS | {"max_param_grad_norm": 0.5},
        OPTIONS | {"adaptive_clip": 0.05, "optimizer": "sgd"},
        OPTIONS | {"gradient_noise": 0.04, "optimizer": "sgd"},
        OPTIONS | {"ema_decay": 0.9},
        EVERYTHING,
        EVERYTHING | {"optimizer": "adam_l2"},
        EVERYTHING | {"optimizer": "sgd"},
    ],
    ids=lambda options: (
        ", ".join(f"{k}={v}" for k, v in options.items() if OPTIONS.get(k) != v)[:60]
        or "as the config"
    ),
)
def test_every_step_by_hand(options):
    assert_as_by_hand(
        jax.jit(lambda g: history(optim.optimizer(**options), g))(stacked(GRADIENTS)), **options
    )


def test_the_four_optimizers_and_three_masks_are_tested():
    assert set(optim.OPTIMIZERS) == {"adamw", "adam_l2", "sgd", "lion"} and set(
        optim.DECAY_MASKS
    ) == set(DECAYED)


def test_strengths_may_be_traced_and_mapped():
    strengths = {"learning_rate": [0.1, 0.05], **{name: [AWAY[name], OFF[name]] for name in OFF}}
    found = jax.jit(jax.vmap(trained, (0, None)))(
        {name: jnp.array(x) for name, x in strengths.items()}, stacked(GRADIENTS)
    )
    for i in range(2):
        chosen = {name: x[i] for name, x in strengths.items()}
        assert_as_by_hand(
            jax.tree.map(lambda x, i=i: x[i], found), num_steps=NUM_STEPS, warmup_steps=3, **chosen
        )


HUGE = [
    {path: x * 1e6 for path, x in g.items()} for g in GRADIENTS
]  # a clip at inf must not even round them
PARTS = {
    "weight_decay": lambda x: optax.add_decayed_weights(x, optim.DECAY_MASKS["all"]),
    "max_grad_norm": optax.clip_by_global_norm,
    "max_param_grad_norm": optim.clip_each_norm,
    "adaptive_clip": optim.clip_adaptively,
    "gradient_noise": optim.add_gradient_noise,
    "ema_decay": optim.track_average,
}


@pytest.mark.short_cases("weight_decay", "adaptive_clip")
@pytest.mark.parametrize("name", OFF)
def test_a_part_alone_at_its_off_value_passes_each_bit_compiled_with_a_traced_strength(name):
    @jax.jit
    def run(strength):
        part, params = optax.with_extra_args_support(PARTS[name](strength)), tree(START)
        state = part.init(params)
        updates, state = part.update(tree(HUGE[0]), state, params, noise_key=NOISE_KEY)
        params = optax.apply_updates(params, updates)
        updates, state = part.update(tree(HUGE[1]), state, params, noise_key=NOISE_KEY)
        params = optax.apply_updates(params, updates)
        return updates, params, optim.averaged(state, params)

    (updates, params, average), away = run(OFF[name]), run(AWAY[name])
    jax.tree.map(np.testing.assert_array_equal, updates, tree(HUGE[1]))
    jax.tree.map(np.testing.assert_array_equal, average, params)
    assert any(
        np.any(x != y)
        for x, y in zip(jax.tree.leaves(away), jax.tree.leaves((updates, params, average)))
    )


@pytest.mark.short_cases("weight_decay-jit")
@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize("name", OFF)
def test_a_chain_with_a_part_at_its_off_value_is_that_without_it(name, how):
    """Bit for bit where nothing is compiled; XLA fuses other loops with it than without, which
    rounds otherwise.
    """

    def run(strength):
        given = {"learning_rate": jnp.float32(0.1)} | (
            {} if strength is None else {name: jnp.float32(strength)}
        )
        with jax.disable_jit(how == "eager"):
            return trained(given, stacked(GRADIENTS))

    equal = (
        np.testing.assert_array_equal
        if how == "eager"
        else lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
    )
    absent = run(None)
    jax.tree.map(equal, run(OFF[name]), absent)
    assert any(
        np.any(abs(x - y) > 1e-4)
        for x, y in zip(jax.tree.leaves(run(AWAY[name])), jax.tree.leaves(absent))
    )


def test_the_chain_of_the_first_ledger_is_unchanged_bit_for_bit():
    """Clip, Adam, decay of matrices, rate: written out here as it was when its results were
    published.
    """

    def mask(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)

    @jax.jit
    def written_out(strengths, gradients):
        schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, 3, NUM_STEPS)
        return history(
            optax.with_extra_args_support(
                optax.chain(
                    optax.clip_by_global_norm(strengths["max_grad_norm"]),
                    optax.scale_by_adam(0.9, 0.98, 1e-8),
                    optax.add_decayed_weights(strengths["weight_decay"], mask),
                    optax.scale_by_learning_rate(
                        lambda step: strengths["learning_rate"] * schedule(step)
                    ),
                )
            ),
            gradients,
        )

    strengths = {"learning_rate": 0.1, "weight_decay": 0.3, "max_grad_norm": 2.0}
    jax.tree.map(
        np.testing.assert_array_equal,
        trained(strengths, stacked(GRADIENTS)),
        written_out(strengths, stacked(GRADIENTS)),
    )


def test_clips_at_zero_gradients_and_zero_parameters_give_no_nan():
    zeros = tree({path: np.zeros(shape) for path, shape in LEAVES.items()})
    for strength in (0.5, math.inf):
        options = dict.fromkeys(("max_grad_norm", "max_param_grad_norm", "adaptive_clip"), strength)
        chain = optim.optimizer(
            learning_rate=0.1, num_steps=10, optimizer="sgd", schedule="constant", **options
        )
        for gradient, params in ((zeros, tree(START)), (tree(GRADIENTS[0]), zeros)):
            updates, _ = jax.jit(chain.update)(gradient, chain.init(params), params)
            assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(updates))


@pytest.mark.system
def test_masks_and_units_of_the_real_model():
    """By name: norms, biases and embeddings are no kernels; attention's output kernel joins two
    axes into one unit.
    """
    model = Transformer(
        vocab_size=5, num_outputs=3, num_layers=1, width=8, num_heads=2, mlp_width=4, max_length=3
    )
    params = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 3), jnp.int32))[
        "params"
    ]
    params = jax.tree.map(
        lambda x: jnp.asarray(np.random.default_rng(0).normal(size=x.shape).astype(np.float32)),
        params,
    )
    masks = {
        name: {
            jax.tree_util.keystr(path)
            for path, yes in jax.tree_util.tree_leaves_with_path(mask(params))
            if yes
        }
        for name, mask in optim.DECAY_MASKS.items()
    }
    block = "['block_0']"
    kernels = {
        *(f"{block}['attention']['{name}']['kernel']" for name in ("query", "key", "value", "out")),
        f"{block}['mlp']['wi']['kernel']",
        f"{block}['mlp']['wo']['kernel']",
        "['output']['kernel']",
    }
    assert masks["kernels"] == kernels
    assert masks["kernels_and_embeddings"] == kernels | {
        "['embedding']['embedding']",
        "['positions']['embedding']",
    }
    assert len(masks["all"]) == len(jax.tree.leaves(params))
    clip = optim.clip_adaptively(1e-3)
    clipped, _ = clip.update(params, clip.init(params), params)
    attention, before = clipped["block_0"]["attention"], params["block_0"]["attention"]
    for name, axes in (("out", (0, 1)), ("query", 0)):

        def size(x, axes=axes):
            return np.linalg.norm(
                np.asarray(x).reshape(-1, *x.shape[2:]) if axes == (0, 1) else np.asarray(x), axis=0
            )

        np.testing.assert_allclose(
            size(attention[name]["kernel"]), 1e-3 * size(before[name]["kernel"]), rtol=1e-5
        )


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_the_schedule_at_its_points(schedule, warmup_steps):
    found = jax.jit(optim.learning_rate_factor(schedule, warmup_steps=warmup_steps, num_steps=10))
    for step in range(13):
        assert float(found(step)) == pytest.approx(
            factor(step, warmup_steps, 10, schedule), abs=1e-6
        ), step
    assert float(found(warmup_steps)) == 1.0
    if schedule in ("cosine", "linear"):
        assert float(found(10)) == pytest.approx(0, abs=1e-7)
        assert float(found((warmup_steps + 10) // 2)) == pytest.approx(0.5)
    if schedule == "inverse_root" and warmup_steps:
        assert float(found(400)) == pytest.approx(0.1), "warm-up 4: a tenth at step 400"


def test_unknown_names_are_named():
    with pytest.raises(
        ValueError, match="schedule: 'step'; allowed: cosine, constant, inverse_root, linear"
    ):
        optim.learning_rate_factor("step", warmup_steps=0, num_steps=10)
    with pytest.raises(ValueError, match="optimizer: 'adam'; allowed: adamw, adam_l2, sgd, lion"):
        optim.optimizer(learning_rate=0.1, num_steps=10, optimizer="adam")
    with pytest.raises(ValueError, match="decay_mask: 'matrices'; allowed: kernels"):
        optim.optimizer(learning_rate=0.1, num_steps=10, decay_mask="matrices")


# --- noise ---


def test_noise_has_the_variance_of_its_step_and_depends_on_its_key_alone():
    eta, zeros = 0.09, {"w": jnp.zeros((300, 400))}
    noise = optim.add_gradient_noise(eta)
    draw = jax.jit(
        lambda step, key: noise.update(zeros, optim.NoiseState(step), noise_key=key)[0]["w"]
    )
    for step in (0, 1, 99):
        x = np.asarray(draw(jnp.int32(step), jax.random.key(step)), np.float64)
        sigma2 = eta / (1 + step) ** 0.55
        # mean of squares of n normals: standard deviation sigma^2 sqrt(2 / n); five of them
        assert abs(np.mean(x**2) - sigma2) < 5 * sigma2 * math.sqrt(2 / x.size)
        assert abs(np.mean(x)) < 5 * math.sqrt(sigma2 / x.size)
        assert abs(np.mean(x**4) / sigma2**2 - 3) < 5 * math.sqrt(96 / x.size)
    same, again, other = (np.asarray(draw(jnp.int32(0), jax.random.key(k))) for k in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert abs(np.corrcoef(same.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(same.size)


@pytest.mark.system
def test_nothing_stored_is_a_key_and_a_missing_key_is_named():
    chain = optim.optimizer(**EVERYTHING)
    state = chain.init(tree(START))
    assert not [
        x
        for x in jax.tree.leaves(state)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) or x.dtype == jnp.uint32
    ]
    with pytest.raises(ValueError, match="noise_key: gradient noise needs the step's key"):
        chain.update(tree(GRADIENTS[0]), state, tree(START))


# --- average ---


def test_the_average_before_the_first_step_is_the_parameters_and_without_one_they_come_back():
    params = tree(START)
    chain = optim.optimizer(**OPTIONS, ema_decay=0.9)
    jax.tree.map(np.testing.assert_array_equal, optim.averaged(chain.init(params), None), params)
    assert optim.averaged(optim.optimizer(**OPTIONS).init(params), params) is params


@pytest.mark.parametrize("decay, num", [(0.0, 1), (0.9999, 1), (0.9999, 500)])
def test_the_average_of_a_straight_line(decay, num):
    """params_i = i: the weighted mean in float64; close to 1 it is the plain mean, and rounding
    must not spoil it.
    """
    average = optim.track_average(jnp.float32(decay))

    def step(carry, _):
        return (
            (carry[0] + 1, average.update({"x": jnp.ones(())}, carry[1], {"x": carry[0]})[1]),
            None,
        )

    (_, state), _ = jax.jit(
        lambda: jax.lax.scan(
            step, (jnp.float32(0), average.init({"x": jnp.float32(0)})), None, length=num
        )
    )()
    weights = np.float64(np.float32(decay)) ** np.arange(num)[::-1]
    expected = np.sum(weights * np.arange(1, num + 1)) / np.sum(weights)
    assert float(state.average["x"]) == pytest.approx(expected, rel=1e-3 if num > 1 else 1e-6)


def test_parameters_of_nnx_are_decayed_by_their_names():
    """The audit of our own modules found that none was: their paths end in `value`."""
    from flax import nnx

    params = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    assert jax.tree.leaves(optim.DECAY_MASKS["kernels"](params)) == [False, True]
    heads = nnx.state(nnx.LinearGeneral((2, 3), 4, axis=(-2, -1), rngs=nnx.Rngs(0)), nnx.Param)
    linen = {"out": nnx.to_pure_dict(heads)}
    gradients = jax.tree.map(lambda x: 100 * jnp.ones_like(x), linen)
    expected = clipped(linen, gradients)
    own = nnx.State({"out": heads})
    found = clipped(own, jax.tree.map(lambda x: 100 * jnp.ones_like(x), own))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(x, y)


def clipped(params, gradients):
    return optim.clip_adaptively(0.01).update(
        gradients, optim.clip_adaptively(0.01).init(params), params
    )[0]
