"""The training loops that people write, to be timed beside ours: plain Flax with optax, and
PyTorch.

Both train one model on one device, in a Python loop, one step per call: a pre-norm transformer
encoder of 2 layers, width 64, 4 heads, MLP 256, on 64 x 8 tokens of a vocabulary of 64, with
learned positions, a final norm and an untied output at every position; cross-entropy; dropout .1 on
the attention weights and in the MLP after the activation; AdamW at 1e-3 with decay .1 and
global-norm clip 1. Biases in every dense layer, scale and bias in every norm: 108,864 parameters,
and `num_parameters` is counted, not declared.

A peer has `name`, `num_parameters`, `warm_up()` (compiles, and takes the first steps) and
`run(num_steps)`, the seconds until all its work is done. What it trains on is noise: the time of a
step does not depend on it.

Time each peer in a process of its own: the thread pools of the two libraries get in each other's
way.
"""

import dataclasses
import time

import numpy as np

NUM_EXAMPLES = 4096
WARM_UP_STEPS = 20


@dataclasses.dataclass(frozen=True)
class Size:
    """Shapes and strengths that all peers share.

    dtype: of the activations, such as "bfloat16"; None: float32, as the parameters. causal: a
    position reads those up to it.
    """

    batch_size: int = 64
    length: int = 8
    vocabulary: int = 64
    num_layers: int = 2
    width: int = 64
    num_heads: int = 4
    mlp_width: int = 256
    dropout_rate: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    dtype: str | None = None
    causal: bool = False


SIZE = Size()
LANGUAGE_MODEL = Size(
    batch_size=16, length=128, vocabulary=257, num_layers=4, width=128, mlp_width=512, causal=True
)
"""A language model on bytes, of the size that a study with many members trains on a CPU."""
SHORT_DATA = Size(
    batch_size=4, length=64, vocabulary=257, num_layers=4, width=64, mlp_width=256, causal=True
)
"""The size of `experiments/short_data.py`: a language model on bytes, few of them in a step."""


class Batches:
    """Endless shuffled batches (tokens, labels), integers [B, T] each, gathered on the host as a
    data loader would.
    """

    def __init__(self, size: Size, dtype: type, seed: int = 0):
        self._stream = np.random.default_rng(seed)
        self.data = self._stream.integers(0, size.vocabulary, (2, NUM_EXAMPLES, size.length), dtype)
        self._batch_size = size.batch_size
        self._order = np.zeros(0, np.int64)

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        if self._order.size < self._batch_size:
            self._order = self._stream.permutation(NUM_EXAMPLES)
        rows, self._order = self._order[: self._batch_size], self._order[self._batch_size :]
        return self.data[0, rows], self.data[1, rows]


class FlaxLoop:
    """Linen modules with Flax's own attention dropout, one jitted step with a donated state.

    Args:
        broadcast_dropout: True is Flax's default (one mask for all examples and heads); False draws
          one per connection.
        batches: "host": numpy arrays go in at every step; "device": the same batch, already there.
    """

    def __init__(
        self, *, broadcast_dropout: bool = False, batches: str = "host", size: Size = SIZE
    ):
        import jax

        if batches not in ("host", "device"):
            raise ValueError(f"batches: {batches!r} is neither 'host' nor 'device'")
        masks = "one mask for all" if broadcast_dropout else "a mask per connection"
        self.name = f"Flax + optax loop, {masks}, {batches} batches"
        self._batches = Batches(size, np.int32)
        self._fixed = jax.device_put(next(self._batches)) if batches == "device" else None
        self._state, self._step = _flax_state_and_step(size, broadcast_dropout)
        self._dropout_key = jax.random.key(1)
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(self._state.params))
        self.last_loss = float("nan")

    def warm_up(self) -> None:
        """Compiles the step, and takes some."""
        self.run(WARM_UP_STEPS)

    def compiled(self):
        """The step, compiled ahead of time: every run uses it then."""
        self._step = self._step.lower(
            self._state, *next(self._batches), self._dropout_key
        ).compile()
        return self._step

    def run(self, num_steps: int) -> float:
        """Seconds for num_steps (at least 1) training steps, all of them finished."""
        import jax

        start = time.perf_counter()
        for _ in range(num_steps):
            tokens, labels = self._fixed or next(self._batches)
            self._state, loss = self._step(self._state, tokens, labels, self._dropout_key)
        jax.block_until_ready(self._state)
        seconds = time.perf_counter() - start
        self.last_loss = float(loss)
        return seconds


def _flax_state_and_step(size: Size, broadcast_dropout: bool):
    """A fresh TrainState, and step(state, tokens, labels, dropout_key) -> (state, loss)."""
    import jax
    import optax
    from flax.training.train_state import TrainState

    model = _flax_model(size, broadcast_dropout)
    params = model.init(jax.random.key(0), np.zeros((1, size.length), np.int32), train=False)[
        "params"
    ]
    optimizer = optax.chain(
        optax.clip_by_global_norm(size.max_grad_norm),
        optax.adamw(size.learning_rate, weight_decay=size.weight_decay),
    )
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)

    def step(state, tokens, labels, dropout_key):
        def loss_fn(params):
            rngs = {"dropout": jax.random.fold_in(dropout_key, state.step)}
            logits = state.apply_fn({"params": params}, tokens, train=True, rngs=rngs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads), loss

    return state, jax.jit(step, donate_argnums=0)


def _flax_model(size: Size, broadcast_dropout: bool):
    """The encoder in Linen. Defined in here so that timing PyTorch imports no Flax."""
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            h = nn.LayerNorm(dtype=size.dtype)(x)
            mask = nn.make_causal_mask(np.ones((1, size.length))) if size.causal else None
            x = x + nn.MultiHeadDotProductAttention(
                num_heads=size.num_heads,
                dtype=size.dtype,
                dropout_rate=size.dropout_rate,
                broadcast_dropout=broadcast_dropout,
            )(h, mask=mask, deterministic=not train)
            h = nn.LayerNorm(dtype=size.dtype)(x)
            h = nn.gelu(nn.Dense(size.mlp_width, dtype=size.dtype)(h))
            h = nn.Dropout(size.dropout_rate)(h, deterministic=not train)
            return x + nn.Dense(size.width, dtype=size.dtype)(h)

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, tokens, *, train):
            places = np.arange(size.length)
            positions = nn.Embed(size.length, size.width, dtype=size.dtype)(places)
            x = nn.Embed(size.vocabulary, size.width, dtype=size.dtype)(tokens) + positions
            for _ in range(size.num_layers):
                x = Block()(x, train=train)
            x = nn.LayerNorm(dtype=size.dtype)(x)
            return nn.Dense(size.vocabulary, dtype=size.dtype)(x).astype(np.float32)

    return Encoder()


class TorchLoop:
    """PyTorch modules with `scaled_dot_product_attention`, an eager step, on the CPU.

    Args:
        fused: whether AdamW updates all parameters in one call (PyTorch's faster way; not its
          default on a CPU).
    """

    def __init__(self, *, fused: bool = True, size: Size = SIZE):
        import torch

        if size.dtype is not None:
            raise ValueError(f"size.dtype: {size.dtype!r}; this loop has None, float32, only")
        torch.manual_seed(0)
        self.name = f"PyTorch loop, {'fused' if fused else 'default'} AdamW"
        self._batches, self._max_grad_norm = Batches(size, np.int64), size.max_grad_norm
        self._model = _torch_model(size).train()
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(),
            lr=size.learning_rate,
            weight_decay=size.weight_decay,
            fused=fused,
        )
        self.num_parameters = sum(parameter.numel() for parameter in self._model.parameters())
        self.last_loss = float("nan")

    def warm_up(self) -> None:
        """Takes some steps: the first allocate."""
        self.run(WARM_UP_STEPS)

    def run(self, num_steps: int) -> float:
        """Seconds for num_steps (at least 1) training steps; eager on a CPU, so each is finished
        when it returns.
        """
        start = time.perf_counter()
        for _ in range(num_steps):
            loss = self._step(*next(self._batches))
        seconds = time.perf_counter() - start
        self.last_loss = float(loss.detach())
        return seconds

    def _step(self, tokens, labels):
        import torch

        logits = self._model(torch.from_numpy(tokens))
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(labels).flatten()
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._max_grad_norm)
        self._optimizer.step()
        return loss


def _torch_model(size: Size):
    """The encoder in PyTorch. Defined in here so that timing Flax imports no PyTorch."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = (
                nn.LayerNorm(size.width, eps=1e-6) for _ in range(2)
            )  # Flax's epsilon
            self.qkv, self.out = (
                nn.Linear(size.width, 3 * size.width),
                nn.Linear(size.width, size.width),
            )
            self.mlp = nn.Sequential(
                nn.Linear(size.width, size.mlp_width),
                nn.GELU(approximate="tanh"),
                nn.Dropout(size.dropout_rate),
                nn.Linear(size.mlp_width, size.width),
            )

        def forward(self, x):
            batch, length, width = x.shape
            qkv = self.qkv(self.norm1(x)).view(
                batch, length, 3, size.num_heads, width // size.num_heads
            )
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            rate = size.dropout_rate if self.training else 0.0
            attended = nn.functional.scaled_dot_product_attention(
                query, key, value, dropout_p=rate, is_causal=size.causal
            )
            x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
            return x + self.mlp(self.norm2(x))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(size.vocabulary, size.width)
            self.positions = nn.Embedding(size.length, size.width)
            self.blocks = nn.Sequential(*(Block() for _ in range(size.num_layers)))
            self.norm, self.output = (
                nn.LayerNorm(size.width, eps=1e-6),
                nn.Linear(size.width, size.vocabulary),
            )

        def forward(self, tokens):
            x = self.embed(tokens) + self.positions(torch.arange(size.length))
            return self.output(self.norm(self.blocks(x)))

    return Encoder()
