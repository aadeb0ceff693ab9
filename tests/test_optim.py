"""The optimizer against loops in numpy: clip, Adam with bias correction, decoupled decay of matrices, warm-up and cosine."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import optim
from jaxreg.nn import Transformer

NUM_STEPS = 8
LEAVES = {
    ("dense", "kernel"): (3, 4), ("dense", "bias"): (4,), ("query", "kernel"): (3, 2, 2), ("query", "bias"): (2, 2),
    ("norm", "scale"): (3,), ("norm", "bias"): (3,), ("embedding", "embedding"): (5, 3)}
DECAYED = {("dense", "kernel"), ("query", "kernel")}
OPTIONS = dict(learning_rate=0.1, num_steps=NUM_STEPS, weight_decay=0.3, max_grad_norm=2.0, warmup_steps=3)


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
GRADIENTS = [normal(step, size) for step, size in enumerate([1.0, 0.01, 5.0, 0.1, 1.0, 3.0, 0.02, 1.0], start=1)]


def factor(step, warmup_steps, num_steps, schedule="cosine"):
    if step < warmup_steps:
        return step / warmup_steps
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(step - warmup_steps, num_steps - warmup_steps) / (num_steps - warmup_steps)))


def by_hand(
    *, learning_rate, num_steps, b1=0.9, b2=0.98, eps=1e-8, weight_decay=0.0, max_grad_norm=math.inf, schedule="cosine", warmup_steps=0,
):
    """Parameters after every step, in float64, number by number."""
    params = {path: x.astype(np.float32).astype(np.float64).ravel() for path, x in START.items()}
    mean, square = ({path: np.zeros(x.size) for path, x in params.items()} for _ in range(2))
    history = []
    for step, gradients in enumerate(GRADIENTS):
        norm = math.sqrt(sum(float(np.float32(g)) ** 2 for x in gradients.values() for g in x.ravel()))
        clip = min(1.0, max_grad_norm / norm)
        rate = learning_rate * factor(step, warmup_steps, num_steps, schedule)
        for path, x in params.items():
            for i, g in enumerate(gradients[path].ravel()):
                g = float(np.float32(g)) * clip
                mean[path][i] = b1 * mean[path][i] + (1 - b1) * g
                square[path][i] = b2 * square[path][i] + (1 - b2) * g * g
                update = mean[path][i] / (1 - b1 ** (step + 1)) / (math.sqrt(square[path][i] / (1 - b2 ** (step + 1))) + eps)
                x[i] -= rate * (update + (weight_decay * x[i] if path in DECAYED else 0))
        history.append({path: x.reshape(LEAVES[path]).copy() for path, x in params.items()})
    return history


def stacked(gradients):
    return tree({path: np.stack([g[path] for g in gradients]) for path in LEAVES})


@jax.jit
def trained(strengths, gradients):
    """Parameters after every step, stacked; the strengths are traced."""
    return history(optim.adamw(num_steps=NUM_STEPS, warmup_steps=3, **strengths), gradients)


def history(optimizer, gradients):
    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params = tree(START)
    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]


@pytest.mark.parametrize("options", [
    OPTIONS,
    OPTIONS | {"schedule": "constant", "b1": 0.5, "b2": 0.9, "eps": 0.01},
    dict(learning_rate=0.1, num_steps=NUM_STEPS),
], ids=["everything", "constant, other betas", "defaults"])
def test_every_step_by_hand(options):
    found = jax.jit(lambda g: history(optim.adamw(**options), g))(stacked(GRADIENTS))
    for step, expected in enumerate(by_hand(**options)):
        for path, x in leaves_of(jax.tree.map(lambda x, step=step: x[step], found)).items():
            np.testing.assert_allclose(x, expected[path], rtol=1e-4, atol=1e-5, err_msg=f"step {step}, {path}")


def test_strengths_may_be_traced_and_mapped():
    strengths = {"learning_rate": [0.1, 0.05], "weight_decay": [0.3, 0.0], "max_grad_norm": [2.0, math.inf]}
    found = jax.jit(jax.vmap(trained, (0, None)))({name: jnp.array(x) for name, x in strengths.items()}, stacked(GRADIENTS))
    for i in range(2):
        chosen = {name: x[i] for name, x in strengths.items()}
        expected = by_hand(num_steps=NUM_STEPS, warmup_steps=3, **chosen)[-1]
        for path, x in leaves_of(jax.tree.map(lambda x, i=i: x[i, -1], found)).items():
            np.testing.assert_allclose(x, expected[path], rtol=1e-4, atol=1e-5)


def test_a_clip_at_infinity_leaves_large_gradients_alone():
    big = tree({path: x * 1e12 for path, x in GRADIENTS[0].items()})
    clipped = jax.jit(lambda g: optax.clip_by_global_norm(math.inf).update(g, optax.EmptyState())[0])(big)
    jax.tree.map(np.testing.assert_array_equal, clipped, big)
    found = trained({"learning_rate": 0.1, "max_grad_norm": math.inf}, stacked([{path: x * 1e12 for path, x in g.items()} for g in GRADIENTS]))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))


def test_matrices_are_decayed_by_name_biases_norms_and_embeddings_are_not():
    model = Transformer(vocab_size=5, num_outputs=3, num_layers=1, width=8, num_heads=2, mlp_width=4, max_length=3)
    params = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 3), jnp.int32))["params"]
    params = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), params)
    decayed = {jax.tree_util.keystr(path) for path, yes in jax.tree_util.tree_leaves_with_path(optim.decay_mask(params)) if yes}
    block = "['block_0']"
    assert decayed == {
        *(f"{block}['attention']['{name}']['kernel']" for name in ("query", "key", "value", "out")),
        f"{block}['mlp']['wi']['kernel']", f"{block}['mlp']['wo']['kernel']", "['output']['kernel']"}


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_the_schedule_at_its_points(schedule, warmup_steps):
    found = optim.learning_rate_factor(schedule, warmup_steps=warmup_steps, num_steps=10)
    for step in range(13):
        assert float(found(step)) == pytest.approx(factor(step, warmup_steps, 10, schedule), abs=1e-6), step
    if schedule == "cosine":
        assert float(found(10)) == pytest.approx(0, abs=1e-7) and float(found(warmup_steps)) == 1.0
        assert float(found((warmup_steps + 10) // 2)) == pytest.approx(0.5)


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="schedule: 'linear'; allowed: cosine, constant"):
        optim.learning_rate_factor("linear", warmup_steps=0, num_steps=10)
