"""A whole model whose batch lies on several devices, with Auto and with Explicit axes: the loss,
the gradient and the masks of one device.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg.nn import nnx as jnnx
from jaxreg.study.design.model_section import transformer, transformer_arguments
from tests.helpers import model_by_hand as by_hand

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, V = 4, by_hand.T, by_hand.V
KEY = jax.random.key(4)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(1, V, (B, T)))
RATES = dict.fromkeys(
    ("attention_dropout_rate", "residual_dropout_rate", "mlp_dropout_rate", "layer_dropout_rate"),
    0.3,
)
LLAMA = {
    "causal": True,
    "norm_kind": "rms",
    "positions": "rotary",
    "mlp_kind": "swiglu",
    "num_kv_heads": 1,
    "tie_embeddings": True,
    "use_bias": False,
}
SIZES = by_hand.SIZES | {"num_outputs": V} | LLAMA | RATES
REAL_SIZE = {"scan_layers": True, "remat": "block"}


def loss_and_gradient(flavour, params, tokens, **options):
    """Of the batch, in training; as a tree of Linen's names."""
    if flavour == "linen":
        model = transformer(**SIZES, **options)

        def loss(params, tokens):
            out = model.apply({"params": params}, tokens, train=True, dropout_key=KEY)
            return jnp.mean(jnp.sin(out))

        run = jax.value_and_grad(loss)
    else:
        twin = jnnx.Transformer(**transformer_arguments(**SIZES, **options), rngs=nnx.Rngs(0))
        graph, state = nnx.split(twin)

        def run(params, tokens):
            def loss(params):
                nnx.replace_by_pure_dict(state, params)
                out = nnx.merge(graph, state)(tokens, train=True, dropout_key=KEY)
                return jnp.mean(jnp.sin(out))

            return jax.value_and_grad(loss)(params)

    return jax.jit(run, compiler_options=FAST)(params, tokens)


@pytest.mark.system
@pytest.mark.parametrize(
    ("flavour", "form", "kind"),
    [
        ("linen", "plain", AxisType.Explicit),
        ("linen", "real size", AxisType.Auto),
        ("linen", "real size", AxisType.Explicit),
        ("nnx", "real size", AxisType.Explicit),
    ],
    ids=lambda x: x if isinstance(x, str) else x.name,
)
def test_a_model_on_a_mesh_has_the_numbers_of_one_device(flavour, form, kind):
    from jaxreg.nn import stack_layers

    options = REAL_SIZE if form == "real size" else {}
    params = jax.tree.map(jnp.asarray, by_hand.parameters(**LLAMA))
    params = stack_layers(params) if options else params
    loss, gradient = loss_and_gradient(flavour, params, TOKENS, **options)
    mesh = jax.make_mesh((2,), ("data",), (kind,), devices=jax.devices()[:2])
    place = partial(NamedSharding, mesh)
    with jax.set_mesh(mesh):
        tokens = jax.device_put(TOKENS, place(PartitionSpec("data")))
        whole = jax.device_put(params, place(PartitionSpec()))
        found = loss_and_gradient(flavour, whole, tokens, **options)
    np.testing.assert_allclose(found[0], loss, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found[1], gradient)
