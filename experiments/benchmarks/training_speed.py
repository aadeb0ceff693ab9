"""Model-steps per second of the population core, beside the loops that people write.

Command:  python experiments/benchmarks/training_speed.py [--rounds=7] [--steps=100]
[--size=small|language_model|short_data] [--output=FILE.json]

All train one model. Small: 2 layers, width 64, 4 heads, batch 64 x 8 tokens. Language model: 4
layers, width 128, 4 heads, batch 16 x 128 bytes, causal. Short data: the same with width 64 and
batch 4 x 64. Dropout .1 at attention and MLP (see peers.py). Each contender lives in a process of
its own (thread pools of two libraries disturb each other) and they take turns, so that a busy
moment of the machine hits all. Reported: the median over rounds, and each contender's share of the
matrix products' limit: the rate at which XLA multiplies large matrices here, over the products of
one step (forward and backward).
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks import peers, turns

if TYPE_CHECKING:
    from jaxreg.train.parallel import Layout

OURS, ONE = "jaxreg", "jaxreg_one"
MEMBERS_PER_DEVICE = 8
SIZES = {
    "small": peers.SIZE,
    "language_model": peers.LANGUAGE_MODEL,
    "short_data": peers.SHORT_DATA,
}
LIMIT_SIDE = 2048


class Population:
    """jaxreg's core: a population of members over the devices, steps inside the program.

    Args:
      longest: the most steps of a run.
      layout: the members and their devices; None: eight on each device, one after the other.
    """

    def __init__(self, longest: int, size: peers.Size = peers.SIZE, layout: "Layout | None" = None):
        import jax
        import numpy as np

        from jaxreg.train.parallel import Layout, Member, Programs, Tables

        layout = layout or Layout(members_per_device=MEMBERS_PER_DEVICE)
        each, devices = layout.members_per_device, len(layout.devices)
        self.name = f"jaxreg, {each} members a device"
        if each == devices == 1:
            self.name = "jaxreg, one member"
        self._programs, slots = Programs(_problem_of(size), layout), layout.slots
        strengths = {
            "rate": np.full(slots, size.dropout_rate, np.float32),
            "decay": np.full(slots, size.weight_decay, np.float32),
        }
        self._member = layout.spread(
            Member(np.arange(slots, dtype=np.int32), np.zeros(slots, np.int32), strengths)
        )
        data = peers.Batches(size, np.int32).data[:, None]
        self._tables = layout.put(
            layout.spread_tables(Tables({"tokens": data[0], "labels": data[1]}, {}))
        )
        self._state = self._programs.init(self._member)
        rows = np.random.default_rng(0).integers(
            0, peers.NUM_EXAMPLES, (slots, longest, size.batch_size)
        )
        self._indices = layout.spread_batches({"own": rows.astype(np.int32)})
        self._ids, self._layout, self._slots = layout.example_ids(size.batch_size), layout, slots
        self.num_parameters = (
            sum(leaf.size for leaf in jax.tree.leaves(self._state.params)) // slots
        )

    def warm_up(self) -> None:
        """Compiles, and takes a step."""
        self.run(1)

    def compiled(self):
        """The program that takes the steps, compiled ahead of time: every run uses it then."""
        self._programs.advance = self._programs.advance.lower(*self._call(1)).compile()
        return self._programs.advance

    def _call(self, num_steps: int) -> tuple:
        import numpy as np

        steps = self._layout.spread(np.full(self._slots, num_steps, np.int32))
        return self._state, self._member, self._tables, self._indices, steps, self._ids

    def run(self, num_steps: int) -> float:
        """Seconds per `num_steps` model-steps: the time of the whole population over its size."""
        import time

        import jax

        call = self._call(num_steps)
        start = time.perf_counter()
        self._state = self._programs.advance(*call)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - start) / self._slots


def _options(size: peers.Size):
    """How the model is put together: the defaults, causal or not."""
    from jaxreg import nn

    causal = nn.AttentionOptions(causal=size.causal)
    return nn.TransformerOptions(block=nn.BlockOptions(attention=causal))


def _problem_of(size: peers.Size):
    """From (traced) strengths to what a member learns: the same model as the peers'."""
    import jax.numpy as jnp

    from jaxreg import AttentionDropout, losses, nn, optim
    from jaxreg.metrics import Tally
    from jaxreg.train.step import Problem

    def build(strengths) -> Problem:
        model = nn.Transformer(
            vocab_size=size.vocabulary,
            num_outputs=size.vocabulary,
            num_layers=size.num_layers,
            width=size.width,
            num_heads=size.num_heads,
            mlp_width=size.mlp_width,
            max_length=size.length,
            options=_options(size),
            dtype=size.dtype,
            dropout=nn.TransformerDropout(
                nn.BlockDropout(
                    AttentionDropout(strengths["rate"]), nn.MlpDropout(strengths["rate"])
                )
            ),
        )

        def objective(params, batch, moment, example_ids) -> Tally:
            logits = model.apply(
                {"params": params},
                batch["tokens"],
                train=True,
                dropout_key=moment.key("dropout"),
                example_ids=example_ids,
            )
            values = losses.cross_entropy(logits, batch["labels"])
            return Tally(jnp.sum(values), jnp.float32(values.size))

        optimizer = optim.optimizer(
            learning_rate=size.learning_rate,
            num_steps=1,
            schedule="constant",
            weight_decay=strengths["decay"],
            max_grad_norm=size.max_grad_norm,
            b2=0.999,
        )
        init = lambda key: model.init(key, jnp.zeros((1, size.length), jnp.int32))["params"]  # noqa: E731
        return Problem(init, objective, None, optimizer)

    return build


def flops_per_step(size: peers.Size = peers.SIZE) -> int:
    """Floating-point operations of the matrix products of one training step; the backward pass
    costs twice the forward one.
    """
    tokens = size.batch_size * size.length
    projections = 4 * size.width * size.width + 2 * size.width * size.mlp_width
    attention = 2 * size.length * size.width
    forward = (
        2 * tokens * (size.num_layers * (projections + attention) + size.width * size.vocabulary)
    )
    return 3 * forward


class Limit:
    """XLA's rate at large matrix products, in place of training: `run` returns seconds for the
    products of so many steps.
    """

    name, num_parameters = f"matrix products of side {LIMIT_SIDE}", 0

    def __init__(self, size: peers.Size = peers.SIZE):
        import jax

        self._flop = flops_per_step(size)
        self._product = jax.jit(lambda a, b: a @ b)
        self._a, self._b = jax.random.normal(jax.random.key(0), (2, LIMIT_SIDE, LIMIT_SIDE))

    def warm_up(self) -> None:
        """Compiles."""
        self._product(self._a, self._b).block_until_ready()

    def run(self, num_steps: int) -> float:
        """Seconds that the products of `num_steps` steps would take at this rate."""
        import time

        start = time.perf_counter()
        for _ in range(3):
            self._product(self._a, self._b).block_until_ready()
        rate = 3 * 2 * LIMIT_SIDE**3 / (time.perf_counter() - start)
        return num_steps * self._flop / rate


def contenders(longest: int, size: peers.Size = peers.SIZE) -> dict:
    """Key -> a function that makes the contender, in its own process."""
    made = {
        OURS: lambda: Population(longest, size),
        ONE: lambda: Population(longest, size, _one_member()),
        "flax": lambda: peers.FlaxLoop(broadcast_dropout=False, size=size),
        "flax_shared_mask": lambda: peers.FlaxLoop(broadcast_dropout=True, size=size),
        "limit": lambda: Limit(size),
    }
    has_torch = importlib.util.find_spec("torch") is not None
    return made | ({"torch": lambda: peers.TorchLoop(size=size)} if has_torch else {})


def _one_member() -> "Layout":
    """One member on one device, which may use all cores."""
    import jax

    from jaxreg.train.parallel import Layout

    return Layout(members_per_device=1, devices=(jax.devices()[0],))


def serve(key: str, steps: int, size: peers.Size) -> None:
    """A contender's process: warms up, then runs once for every line that comes in."""
    if key == OURS:
        import jax

        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    contender = contenders(steps, size)[key]()
    contender.warm_up()
    turns.serve(
        {"name": contender.name, "num_parameters": contender.num_parameters},
        lambda _: contender.run(steps),
    )


def measure(rounds: int, steps: int, size: str = "small") -> dict:
    """Steps per second of every contender, median over the rounds, in turns."""
    commands = {
        key: [sys.executable, __file__, f"--serve={key}", f"--steps={steps}", f"--size={size}"]
        for key in contenders(steps, SIZES[size])
    }
    about, found = turns.take(commands, [(key, "go") for key in commands], rounds)
    rates = {key: [steps / seconds for seconds in found[key, "go"]] for key in commands}
    return {
        key: about[key] | {"steps_per_second": statistics.median(rates[key]), "rounds": rates[key]}
        for key in commands
    }


def main() -> None:
    """Measures, prints the table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.steps, SIZES[given.size])
        return
    found = measure(given.rounds, given.steps, given.size)
    limit = found.pop("limit")["steps_per_second"]
    print(f"{turns.processor()}; medians of {given.rounds} rounds of {given.steps} steps")
    print(f"{'':48}{'model-steps/s':>14}{'ours / it':>11}{'of limit':>10}")
    for entry in found.values():
        rate = entry["steps_per_second"]
        ratio = found[OURS]["steps_per_second"] / rate
        print(f"{entry['name']:48}{rate:14.0f}{ratio:10.2f}x{rate / limit:10.0%}")
    print(f"{'limit: matrix products alone, at the large rate':48}{limit:14.0f}")
    if given.output:
        result = {
            "machine": turns.processor(),
            "steps": given.steps,
            "size": given.size,
            "tokens_of_step": SIZES[given.size].batch_size * SIZES[given.size].length,
            "limit_steps_per_second": limit,
            "contenders": found,
        }
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
