"""Who attends in `attention_speed.py`: one forward and backward pass of causal attention, in our
words, Flax's and PyTorch's.

A case is a line "contender length", such as "jaxreg_dropout 2048". All see the same shapes,
float32, dropout per connection.
"""

import time
from functools import partial

BATCH, HEADS, WIDTH, RATE = 4, 8, 64, 0.1
LIMIT_SIDE = 2048
SHORTEST_SECONDS = 0.05
"""A turn repeats its pass until this is filled, and answers with the mean."""


def flops(length: int, width: int = WIDTH) -> float:
    """Of the matrix products that causal attention needs: two forward and five backward, over the
    connections that exist.
    """
    return 7 * 2 * BATCH * HEADS * width * connections(length)


def connections(length: int) -> int:
    """Of one head: query t reads keys 0 ... t."""
    return length * (length + 1) // 2


def timed(run, shortest: float = SHORTEST_SECONDS) -> float:
    """Seconds of one `run()`, the mean of as many as fill `shortest`."""
    start, number = time.perf_counter(), 0
    while not number or time.perf_counter() - start < shortest:
        run()
        number += 1
    return (time.perf_counter() - start) / number


def jax_attention(name: str, implementation: str | None = None, bits: int = 1):
    """f(query, key, value, dropout_key) -> output.

    Args:
      name: "jaxreg", "flax" (Linen) or "flax_nnx", with "_dropout" or without.
      implementation, bits: of jaxreg.
    """
    import jax.numpy as jnp
    from flax import linen, nnx

    import jaxreg

    def ours(query, key, value, dropout_key, rate=None):
        dropout = None if rate is None else jaxreg.AttentionDropout(rate, bits=bits)
        return jaxreg.dot_product_attention(
            query,
            key,
            value,
            is_causal=True,
            dropout=dropout,
            dropout_key=dropout_key if dropout else None,
            implementation=implementation,
        )

    def flax_s(query, key, value, dropout_key, rate=None, module=linen):
        mask = jnp.tri(query.shape[1], dtype=bool)[None, None]
        return module.dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            dropout_rng=dropout_key,
            dropout_rate=rate or 0.0,
            broadcast_dropout=False,
            deterministic=rate is None,
        )

    functions = {"jaxreg": ours, "flax": flax_s, "flax_nnx": partial(flax_s, module=nnx)}
    function = functions[name.removesuffix("_dropout")]
    rate = RATE if name.endswith("_dropout") else None
    return lambda *inputs: function(*inputs, rate=rate)


def forward_and_backward(attention):
    """f(query, key, value, cotangent, dropout_key) -> output, gradients of query, key and value."""
    import jax

    def run(query, key, value, cotangent, dropout_key):
        out, back = jax.vjp(lambda *qkv: attention(*qkv, dropout_key), query, key, value)
        return out, back(cotangent)

    return run


class JaxCases:
    """Compiled passes of the JAX contenders, and what XLA says about each: temporary bytes and
    seconds to compile.
    """

    def __init__(self, cases: list[str]):
        import jax

        self.about: dict = {"temporary_bytes": {}, "compile_seconds": {}}
        self._programs, self._inputs = {}, {}
        for case in cases:
            self._programs[case] = self._compiled(case)
        side = jax.random.normal(jax.random.key(0), (2, LIMIT_SIDE, LIMIT_SIDE))
        self._programs["limit"] = jax.jit(lambda a, b: a @ b)
        self._inputs["limit"] = tuple(side)

    def _compiled(self, case: str):
        import jax

        name, length = case.split()
        one_pass = forward_and_backward(jax_attention(name))
        shape = jax.ShapeDtypeStruct((BATCH, int(length), HEADS, WIDTH), "float32")
        lowered = jax.jit(one_pass).lower(*[shape] * 4, jax.random.key(0))
        start = time.perf_counter()
        program = lowered.compile()
        self.about["compile_seconds"][case] = time.perf_counter() - start
        self.about["temporary_bytes"][case] = program.memory_analysis().temp_size_in_bytes
        return program

    def run(self, case: str) -> float:
        """Seconds of one pass."""
        import jax

        # The limit is compared with long passes: it, too, gets the time to come to its full rate.
        return timed(
            lambda: jax.block_until_ready(self._programs[case](*self._arguments(case))),
            0.3 if case == "limit" else SHORTEST_SECONDS,
        )

    def _arguments(self, case: str) -> tuple:
        import jax

        if case == "limit":
            return self._inputs[case]
        length = int(case.split()[1])
        if length not in self._inputs:
            inputs = jax.random.normal(jax.random.key(1), (4, BATCH, length, HEADS, WIDTH))
            self._inputs[length] = (*inputs, jax.random.key(2))
            self.run(case)  # the first pass touches new memory
        return self._inputs[length]


class TorchCases:
    """PyTorch's scaled_dot_product_attention, eager, all cores."""

    def __init__(self, cases: list[str]):
        import torch

        self._torch, self._inputs = torch, {}
        self.about = {"version": torch.__version__}
        for case in cases:
            self.run(case)

    def run(self, case: str) -> float:
        """Seconds of one pass."""
        torch, (name, length) = self._torch, case.split()
        if length not in self._inputs:
            inputs = [
                torch.randn(BATCH, HEADS, int(length), WIDTH, requires_grad=n < 3) for n in range(4)
            ]
            self._inputs[length] = inputs
        *qkv, cotangent = self._inputs[length]
        rate = RATE if name.endswith("_dropout") else 0.0

        def one():
            out = torch.nn.functional.scaled_dot_product_attention(
                *qkv, is_causal=True, dropout_p=rate
            )
            torch.autograd.grad(out, qkv, cotangent)

        return timed(one)
