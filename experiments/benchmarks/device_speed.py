"""What a GPU or TPU does with jaxreg: first whether it computes what a CPU does, then how fast.

Command:  python experiments/benchmarks/device_speed.py [--minutes=8] [--output=FILE.json]

1. Masks bit for bit, then outputs and gradients of every implementation, against the reference in
   float32 on the CPU.
2. Attention beside cuDNN, Flax, jax.nn, splash, flash and tokamax, as far as the platform has
   them, with and without dropout .1: batch 4, 8 heads, width 128, causal, forward and backward. The
   end of each result is held against the CPU, too, where its mask is known.
3. A training step of the shipped model beside a Flax loop, and members per second of the main
   recipe by vmap.

What matters most comes first; what the time does not reach is said. One process on one device;
contenders take turns, figures are medians of rounds, with the smallest and the largest. Memory is
XLA's own figure for temporary arrays. The results are a JSON file, written after every step, and a
plot. The exit code is 1 where the device differs from the CPU.

With JAX_PLATFORMS=cpu it runs on the CPU, which is no accelerator: nothing is promised for it, and
nothing is written without --output.
"""

import argparse
import importlib.util
import json
import os
import re
import statistics
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks import attention_peers, attention_speed, peers, turns  # noqa: E402
from experiments.benchmarks import device_timing as timing  # noqa: E402

RESULTS = ROOT / "experiments" / "results" / "device_speed"
NOT_RUN = "compiled for, never run on"
ACCELERATORS = {
    "TPU v4": ("TPU v4",),
    "TPU v5e": ("TPU v5 lite", "TPU v5e"),
    "TPU v5p": ("TPU v5", "TPU v5p"),
    "TPU v6e": ("TPU v6 lite", "TPU v6e"),
    "TPU7x": ("TPU7x", "TPU v7x"),
    "NVIDIA H100": ("NVIDIA H100",),
}
"""What jaxreg is compiled for -> the names that JAX gives it; those of GPUs go on."""
LAST_SECONDS = 20.0
"""Of the minutes, kept for the plot and for what is under way."""
STEP_SHARE = 0.4
"""Of the time that is left: the most that one step may take."""

Group = tuple[str, int, int]
"""dtype, length T, width K: contenders of one group take turns."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
      batch, heads: of attention.
      first, rest: groups, before and after training.
      check: `device_checks.Size` fields. cases: names of its cases; None: all.
      models: name -> (size, members a device, steps of a run).
      members: of a wave. member_steps: of each.
      rounds, shortest: samples of a contender, seconds that one fills.
    """

    batch: int = attention_peers.BATCH
    heads: int = attention_peers.HEADS
    first: tuple[Group, ...] = (
        ("bfloat16", 2048, 128),
        ("bfloat16", 8192, 128),
        ("bfloat16", 2048, 64),
        ("bfloat16", 512, 128),
        ("bfloat16", 32768, 128),
    )
    rest: tuple[Group, ...] = (
        ("bfloat16", 4096, 128),
        ("bfloat16", 16384, 128),
        ("bfloat16", 1024, 128),
        ("float32", 2048, 128),
        ("float32", 8192, 128),
        ("float32", 512, 128),
        ("float32", 4096, 128),
        ("float32", 16384, 128),
        ("float32", 32768, 128),
        ("float32", 1024, 128),
    )
    check: dict[str, int] = field(default_factory=dict)
    cases: tuple[str, ...] | None = None
    models: dict[str, tuple[peers.Size, int, int]] = field(
        default_factory=lambda: {
            "2 layers, width 64, 64 x 8 tokens": (peers.SIZE, 8, 50),
            "4 layers, width 512, 8 x 1,024 tokens, bfloat16": (LONG, 1, 5),
        }
    )
    members: tuple[int, ...] = (8, 64, 512)
    member_steps: int = 400
    rounds: int = 5
    shortest: float = timing.SHORTEST_SECONDS


LONG = peers.Size(
    batch_size=8, length=1024, vocabulary=256, num_layers=4, width=512, num_heads=8, mlp_width=2048
)
TINY = peers.Size(
    batch_size=2, length=4, vocabulary=8, num_layers=1, width=8, num_heads=2, mlp_width=8
)
FULL = Sizes()
QUICK = Sizes(
    batch=2,
    heads=2,
    first=(("bfloat16", 16, 8),),
    rest=(("float32", 32, 8),),
    check={"queries": 16, "heads": 2, "width": 8, "mask": 5},
    cases=("unit connection, stage weights",),
    models={"1 layer, width 8, 2 x 4 tokens, bfloat16": (TINY, 2, 2)},
    members=(2,),
    member_steps=40,
    rounds=2,
    shortest=0.0,
)


class Page:
    """What has been found so far; written after every step.

    Args:
      device: the one that is measured.
      sizes, minutes: how much, and how long.
      output: a JSON file, or None.
    """

    def __init__(self, device: Any, sizes: Sizes, minutes: float, output: Path | None):
        import jax

        from experiments.benchmarks import device_contenders

        self.device, self.cpu, self.sizes = device, jax.devices("cpu")[0], sizes
        self.platform, self.output = device_contenders.platform_of(device), output
        self.budget = timing.Budget(max(0.0, 60 * minutes - LAST_SECONDS))
        self.share = self.budget
        self.step, self._lock = "", threading.Lock()
        self.wrong: set[str] = set()
        """Contenders that differ from the CPU: they are not timed."""
        self.found: dict[str, Any] = {
            "device": device.device_kind,
            "platform": self.platform,
            "accelerator": self.platform != "cpu",
            "machine": f"{device.device_kind}, one of {len(jax.devices())}; host:"
            f" {turns.processor()}",
            "versions": attention_speed.versions() | versions_of(self.platform),
            "runtime": device.client.platform_version,
            "minutes": minutes,
            "rounds": sizes.rounds,
            "shape": {
                "batch": sizes.batch,
                "heads": sizes.heads,
                "rate": attention_peers.RATE,
                "causal": True,
            },
            "correct": None,
            "correctness": [],
            "attention": [],
            "training": [],
            "members": [],
            "not_reached": [],
            "failed": {},
            "table": [],
        }

    def take(self, steps: dict[str, Callable[[], None]]) -> None:
        """Takes the steps in order, as far as the time goes; one that fails leaves the others."""
        for name, step in steps.items():
            self.step = name
            if self.budget.left <= 0:
                self.found["not_reached"].append(name)
                continue
            print(f"{self.budget.left:4.0f} s left: {name}", file=sys.stderr, flush=True)
            self.share = timing.Budget(STEP_SHARE * self.budget.left)
            try:
                step()
            except Exception as error:
                self.found["failed"][name] = timing.first_line(error)
            self.write()

    def judge(self, results: list) -> None:
        """Adds what was checked; the device is correct as long as nothing is wrong."""
        from experiments.benchmarks import device_checks

        self.found["correctness"] += [result._asdict() for result in results]
        self.wrong |= {result.implementation for result in device_checks.wrong(results)}
        self.found["correct"] = not self.wrong

    def write(self) -> None:
        """The JSON file, whole or as before."""
        if self.output is None:
            return
        from jaxreg.store import atomic

        with self._lock:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(self.output, self.found)

    @property
    def verdict(self) -> str | None:
        """One line where the device is not known to compute what the CPU does."""
        bad = [row for row in self.found["correctness"] if row["status"] in ("differs", "error")]
        where = f"; see {self.output}" if self.output else ""
        if bad:
            first = bad[0]
            return (
                f"{self.found['device']} differs from the CPU in {len(bad)} of"
                f" {len(self.found['correctness'])} checks; the first: {first['implementation']},"
                f" {first['what']}, {first['mode']}: {first['said']}{where}"
            )
        failed = [name for name in self.found["failed"] if name in CHECKS]
        if failed:
            return f"{failed[0]} could not be checked: {self.found['failed'][failed[0]]}{where}"
        return None


def versions_of(platform: str) -> dict[str, str]:
    """Of the packages that decide how fast a platform is."""
    from importlib.metadata import distributions

    names = {"tokamax", "libtpu", "optax"}
    parts = ("jax-cuda", "jax-rocm", "nvidia-cudnn") if platform in ("cuda", "rocm") else ()
    return {
        name: each.version
        for each in distributions()
        if (name := (each.metadata["Name"] or "").lower()) in names or name.startswith(parts)
    }


BITS, OUTPUTS = "masks, bit for bit", "outputs and gradients of every implementation"
CHECKS = (BITS, OUTPUTS)


def steps_of(page: Page) -> dict[str, Callable[[], None]]:
    """Name -> step, what matters most first."""
    sizes = page.sizes
    attention = {group: partial(attend, page, *group) for group in (*sizes.first, *sizes.rest)}
    named = {group: "attention, {}, T = {:,}, K = {}".format(*group) for group in attention}
    return {
        BITS: partial(check_masks, page),
        OUTPUTS: partial(check_attention, page),
        **{named[group]: attention[group] for group in sizes.first},
        **{
            f"training step, {name}": partial(train, page, name, *model)
            for name, model in sizes.models.items()
        },
        "members per second": partial(train_members, page),
        **{named[group]: attention[group] for group in sizes.rest},
    }


def check_masks(page: Page) -> None:
    """Every unit and stage: bits on the device are bits on the CPU."""
    from experiments.benchmarks import device_checks as checks

    page.judge(checks.check_masks(page.device, page.cpu, checks.Size(**page.sizes.check)))


def check_attention(page: Page) -> None:
    """Every implementation: weights, dropped connections, gradients."""
    from experiments.benchmarks import device_checks as checks

    asked, names = checks.cases(), page.sizes.cases
    chosen = asked if names is None else {name: asked[name] for name in names}
    size = checks.Size(**page.sizes.check)
    results = checks.check_attention(
        page.device, page.cpu, size, chosen, lambda: page.share.left <= 0
    )
    page.judge(results)
    seen = {result.what for result in results}
    page.found["not_reached"] += [f"check: {name}" for name in chosen if name not in seen]


def attend(page: Page, dtype: str, length: int, width: int) -> None:
    """All contenders at one dtype, length and width."""
    import jax

    from experiments.benchmarks import device_checks as checks
    from experiments.benchmarks import device_contenders

    sizes, contenders = page.sizes, device_contenders.contenders(page.platform)
    shape = (sizes.batch, length, sizes.heads, width)
    with jax.default_device(page.device):
        arrays = [
            jax.random.normal(jax.random.fold_in(jax.random.key(1), i), shape, dtype)
            for i in range(4)
        ]
        arguments = (*arrays, jax.random.key(2, impl="threefry2x32"))
    wrong = {name for name in contenders if name.removesuffix("_dropout") in page.wrong}
    if "keep_mask" in page.wrong:
        wrong |= {name for name, each in contenders.items() if each.ours}
    made: dict[str, Any] = timing.compile_all(
        {
            name: attention_peers.forward_and_backward(each.attention)
            for name, each in contenders.items()
            if name not in wrong and expected_to_fit(page, name, dtype, length, width)
        },
        arguments,
        page.share,
    )
    ready = {
        name: timing.warmed(
            program,
            arguments,
            device=page.device,
            rounds=sizes.rounds,
            budget=page.share,
            shortest=sizes.shortest,
            keep=checks.tail_of,
        )
        for name, program in made.items()
    }
    samples = {name: each.sample for name, each in ready.items() if hasattr(each, "sample")}
    seconds = timing.take_rounds(samples, sizes.rounds, page.share)
    tails = Tails(page, dtype, arguments)
    for name, each in contenders.items():
        row = {"contender": name, "words": each.words, "dtype": dtype, "length": length}
        row["width"] = width
        if name in wrong:
            row |= failed(timing.Failure("error", "differs from the CPU: not timed"))
        elif name not in made:
            row |= failed(timing.Failure("not reached", "by its time at a smaller length"))
        elif name not in seconds:
            row |= failed(ready[name])
        elif isinstance(seconds[name], timing.Failure):
            row |= failed(seconds[name])
        else:
            row |= figures_of(made[name], seconds[name], ready[name].calls)
            row |= tails.compared(name, each, ready[name].kept)
        page.found["attention"].append(row)


def expected_to_fit(page: Page, name: str, dtype: str, length: int, width: int) -> bool:
    """Whether a contender is tried: its time at a smaller length, times the square of the ratio, is
    not too long.
    """
    known = [
        statistics.median(row["seconds"]) * (length / row["length"]) ** 2
        for row in page.found["attention"]
        if row["contender"] == name and row.get("seconds") and row["length"] < length
    ]
    passes = page.sizes.rounds + 2
    return not known or timing.too_long(passes * max(known), page.share) is None


class Tails:
    """The end of long results, held against the reference on the CPU."""

    def __init__(self, page: Page, dtype: str, arguments: tuple):
        self._page, self._dtype, self._arguments = page, dtype, arguments
        self._known: dict[tuple[bool, int], list] = {}

    def compared(self, name: str, contender: Any, tail: list) -> dict:
        """The error, and whether it is as small as it must be; nothing where only the contender
        knows its mask.
        """
        from experiments.benchmarks import device_checks as checks

        if contender.drops and not contender.ours:
            return {}
        kind = contender.drops, contender.bits
        if kind not in self._known:
            dropout = checks.AttentionDropout(attention_peers.RATE, bits=contender.bits)
            self._known[kind] = checks.expected_tail(
                self._page.cpu, self._arguments, dropout if contender.drops else None
            )
        error = max(map(checks.relative_error, tail, self._known[kind]))
        agrees = error <= checks.TOLERANCES[self._dtype]
        if contender.ours:
            length, width = self._arguments[0].shape[1::2]
            said = f"error {error:.2g}, allowed {checks.TOLERANCES[self._dtype]:.2g}"
            what = f"the end of T = {length:,}, K = {width}{', dropout' * contender.drops}"
            status = "equal" if agrees else "differs"
            implementation = name.removesuffix("_dropout")
            self._page.judge(
                [checks.Result(what, implementation, self._dtype, status, said, error)]
            )
        return {"error": error, "agrees": agrees}


def failed(failure: timing.Failure) -> dict:
    """A row's fields where there is no figure."""
    return {"status": failure.kind, "said": failure.reason}


def figures_of(program: timing.Program, seconds: list[float], calls: int) -> dict:
    """A row's fields: seconds of every round, memory, time to compile."""
    return {
        "status": "measured",
        "seconds": seconds,
        "calls": calls,
        "temporary_bytes": program.temporary_bytes,
        "new_bytes": program.new_bytes,
        "compile_seconds": program.compile_seconds,
    }


def train(page: Page, name: str, size: peers.Size, members: int, steps: int) -> None:
    """A training step of the shipped model, beside a loop in Flax and optax: seconds of one model's
    step.
    """
    from experiments.benchmarks.training_speed import Population
    from jaxreg.train.parallel import Layout

    def population(axis: str):
        layout = Layout("members", members, axis, (page.device,))
        return Population(steps, size, layout)

    made = {f"jaxreg, {members} by {axis}": partial(population, axis) for axis in ("map", "vmap")}
    made["Flax + optax loop, a mask per connection"] = partial(peers.FlaxLoop, size=size)
    shared = partial(peers.FlaxLoop, size=size, broadcast_dropout=True)
    made["Flax + optax loop, one mask for all"] = shared
    samples, known = {}, {}
    for contender, make in made.items():
        if left_out := timing.too_long(0.0, page.share):
            known[contender] = failed(left_out)
            continue
        try:
            trained = make()
            temporary, _ = timing.memory(trained.compiled())
            trained.run(steps)
            once = trained.run(steps)
        except Exception as error:
            known[contender] = failed(timing.failure_of(error))
            continue
        known[contender] = {"temporary_bytes": temporary, "parameters": trained.num_parameters}
        share = members if contender.startswith("jaxreg") else 1
        left_out = timing.too_long(once * share * page.sizes.rounds, page.share)
        if left_out:
            known[contender] |= failed(left_out)
        else:
            samples[contender] = lambda trained=trained: trained.run(steps) / steps
    add_rounds(page, "training", {"model": name}, samples, known)


def train_members(page: Page) -> None:
    """Members per second of the main recipe: whole waves, the host's work included."""
    from experiments.benchmarks.weak_scaling import Wave

    steps, waves, known = page.sizes.member_steps, {}, {}
    asked = [(page.sizes.members[0], "map"), *((m, "vmap") for m in page.sizes.members)]
    for members, axis in asked:
        name = f"{members} by {axis}"
        if left_out := timing.too_long(0.0, page.share):
            known[name] = failed(left_out)
            continue
        try:
            wave = Wave(1, members, steps, axis)
            temporary, _ = timing.memory(wave.advance)
            left_out = timing.too_long(wave.train()["wave"] * page.sizes.rounds, page.share)
        except Exception as error:
            known[name] = failed(timing.failure_of(error))
            continue
        known[name] = {"members": members, "steps": steps, "temporary_bytes": temporary}
        if left_out:
            known[name] |= failed(left_out)
        else:
            waves[name] = lambda wave=wave: wave.train()["wave"]
    add_rounds(page, "members", {}, waves, known)
    for row in page.found["members"]:
        if row["status"] == "measured":
            row["members_per_second"] = row["members"] / statistics.median(row["seconds"])


def add_rounds(page: Page, part: str, about: dict, samples: dict, known: dict) -> None:
    """Takes the rounds, and adds a row for each contender to a part of the page."""
    seconds = timing.take_rounds(samples, page.sizes.rounds, page.share)
    for contender, fields in known.items():
        row = {"contender": contender, **about, **fields}
        found = seconds.get(contender)
        if isinstance(found, timing.Failure):
            row |= failed(found)
        elif found is not None:
            row |= {"status": "measured", "seconds": found}
        page.found[part].append(row)


def figures(found: dict) -> attention_speed.Figures:
    """The rows of attention as "contender dtype length width" -> seconds and memory."""
    rows = [row for row in found["attention"] if row["status"] == "measured"]
    key = "{contender} {dtype} {length} {width}".format_map
    return attention_speed.Figures(
        {
            "seconds": {key(row): row["seconds"] for row in rows},
            "temporary_bytes": {
                key(row): row["temporary_bytes"] for row in rows if row["temporary_bytes"]
            },
        }
    )


def promised(found: dict) -> list[dict]:
    """The table: what was promised for the platform, as far as it was measured."""
    known, table = figures(found), []

    def against(other: str, words: str, length: int, bound: float, own: str = "jaxreg_dropout"):
        one, two = (f"{name} bfloat16 {length} 128" for name in (own, other))
        if known.has(one) and known.has(two):
            ratio = known.ratio(one, two)
            seconds = attention_speed.milliseconds(known.seconds(one))
            theirs = attention_speed.milliseconds(known.seconds(two))
            table.append(
                attention_speed.row(words, length, theirs, f"{seconds} = {ratio:.3f}", ratio, bound)
            )

    for length in (2048, 8192):
        if found["platform"] == "cuda":
            against("jax_cudnn", "time against cuDNN, without dropout", length, 1.3)
            against("flax_dropout", "time against Flax, dropout", length, 1 / 8)
        if found["platform"] == "tpu":
            against("jaxreg", "time with / without dropout", length, 1.45)
            second = "jaxreg_bits2_dropout"
            against("jaxreg", "with / without dropout, bits 2", length, 1.25, second)
            against("splash", "without dropout, against splash", length, 1.0, "jaxreg")
    narrow = "jaxreg_dropout bfloat16 2048 64"
    if found["platform"] == "tpu" and narrow in known.found["temporary_bytes"]:
        ours, flax = known.megabytes(narrow), narrow.replace("jaxreg", "flax")
        has_flax = flax in known.found["temporary_bytes"]
        theirs = f"{known.megabytes(flax):,.0f} (Flax)" if has_flax else ""
        words = "temporary memory, MB, K = 64"
        table.append(attention_speed.row(words, 2048, theirs, f"{ours:.1f}", ours, 16))
    return table


def show(found: dict) -> None:
    """Prints the table of promises, and all that was measured."""
    if not found["accelerator"]:
        print(
            "This is a CPU, no accelerator: nothing is promised for it, and no result of it counts."
        )
    checked = [row["status"] for row in found["correctness"]]
    print(
        f"Against the CPU: {checked.count('equal')} checks equal,"
        f" {checked.count('differs')} different, {checked.count('error')} failed,"
        f" {checked.count('not offered here')} not offered here."
    )
    attention_speed.show(found, found["table"])
    for part, columns in PARTS.items():
        rows = [row for row in found[part] if row["status"] == "measured"]
        print(f"\n{part}; ms: median (least to most)")
        for row in rows:
            print("  " + "  ".join(column(row) for column in columns))
    refused: dict[tuple[str, str], str] = {}
    for part in PARTS:
        for row in found[part]:
            if row["status"] != "measured":
                refused.setdefault((row["contender"], row["status"]), f"{at(row)}{row['said']}")
    for (contender, status), said in refused.items():
        print(f"{contender}: {status}: {said}")
    for name in found["not_reached"]:
        print(f"not reached: {name}")
    for name, said in found["failed"].items():
        print(f"failed: {name}: {said}")


def at(row: dict) -> str:
    """Where a contender of attention has no figure first; nothing for what exists nowhere here."""
    if "length" not in row or row["status"] == "not offered here":
        return ""
    return f"from {row['dtype']}, T = {row['length']:,} on: "


def spread(row: dict) -> str:
    """Median, least and most, in milliseconds."""
    low, middle, high = (1e3 * pick(row["seconds"]) for pick in (min, statistics.median, max))
    return f"{middle:10.3f} ({low:.3f} to {high:.3f})"


def megabytes(row: dict) -> str:
    """Temporary memory."""
    known = row["temporary_bytes"]
    return "" if known is None else f"{known / 1e6:,.1f} MB"


PARTS: dict[str, tuple[Callable[[dict], str], ...]] = {
    "attention": (
        lambda row: f"{row['words']:28}{row['dtype']:9}T ={row['length']:7,} K ={row['width']:4}",
        spread,
        megabytes,
        lambda row: "" if row.get("agrees", True) else "DIFFERS FROM THE CPU",
    ),
    "training": (lambda row: f"{row['contender']:42}{row['model']}", spread, megabytes),
    "members": (
        lambda row: f"{row['contender']:16}{row['members_per_second']:10.2f} members a second",
        spread,
        megabytes,
    ),
}
STYLES = {
    "flax_dropout": ("Flax, dropout", "#7a6aa8", "o-"),
    "jax_cudnn": ("cuDNN, no dropout", "#b65d3a", "o:"),
    "cudnn_dropout": ("cuDNN, dropout", "#b65d3a", "o-"),
    "splash": ("splash, no dropout", "#6b8e23", "o:"),
    "tokamax": ("tokamax, no dropout", "#8a6d3b", "o:"),
    "tokamax_dropout": ("tokamax, dropout", "#8a6d3b", "o-"),
    "jaxreg_dropout": ("jaxreg, dropout", "#1f6f8b", "o-"),
    "jaxreg": ("jaxreg, no dropout", "#1f6f8b", "o:"),
}


def draw(found: dict, target: Path) -> None:
    """Time and memory over the length, of the first group's dtype and width."""
    rows = [row for row in found["attention"] if row["status"] == "measured"]
    if not rows:
        return
    alike = [row for row in rows if all(row[x] == rows[0][x] for x in ("dtype", "width"))]
    key = "{contender} {length}".format_map
    shown = {
        "seconds": {key(row): row["seconds"] for row in alike},
        "temporary_bytes": {
            key(row): row["temporary_bytes"] for row in alike if row["temporary_bytes"]
        },
    }
    attention_speed.draw(shown, target, STYLES)


def state(accelerator: str, results: Path = RESULTS) -> str:
    """What may be said of an accelerator: that it was never run on, or which results there are."""
    ran = []
    for path in sorted(results.glob("*.json")):
        found = json.loads(path.read_text())
        if found["accelerator"] and is_one(found["device"], accelerator):
            ran.append(path.name)
    return f"ran: {', '.join(ran)}" if ran else NOT_RUN


def is_one(device_kind: str, accelerator: str) -> bool:
    """Whether JAX calls this accelerator so."""
    kinds = ACCELERATORS[accelerator]
    is_gpu = accelerator.startswith("NVIDIA")
    return device_kind.startswith(kinds) if is_gpu else device_kind in kinds


def default_output(device_kind: str) -> Path:
    """Where the result of an accelerator is kept in the repository."""
    words = re.findall(r"[a-z0-9]+", device_kind.lower())
    return RESULTS / f"{'-'.join(words)}.json"


def with_cpu(platforms: str | None) -> str | None:
    """JAX_PLATFORMS with the CPU, which everything is compared with."""
    if not platforms or "cpu" in platforms.split(","):
        return platforms
    return f"{platforms},cpu"


def at_the_end(page: Page) -> int:
    """Table, file and plot; returns the exit code."""
    page.found["table"] = promised(page.found)
    page.write()
    show(page.found)
    if page.output:
        if importlib.util.find_spec("matplotlib"):
            draw(page.found, page.output.with_suffix(".png"))
        print(f"written: {page.output}")
    if page.verdict:
        print(f"device_speed: {page.verdict}", file=sys.stderr)
    return int(page.verdict is not None)


def stop(page: Page) -> None:
    """Ends the process where a step does not come back: compilers may hang."""
    page.found["not_reached"].append(f"{page.step} (it did not end in time)")
    code = 1
    try:
        code = max(at_the_end(page), page.found["correct"] is None)
    finally:  # whatever the main thread is doing with the page meanwhile
        leave(code)


def leave(code: int) -> None:
    """Ends the process without waiting for threads, which may still compile."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Measures, prints the tables, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="for everything")
    parser.add_argument("--rounds", type=int, help="samples of each contender")
    parser.add_argument("--output", type=Path, help="a JSON file; the plot goes beside it")
    parser.add_argument("--quick", action="store_true", help="every path at tiny sizes: a test")
    given = parser.parse_args()
    platforms = with_cpu(os.environ.get("JAX_PLATFORMS"))
    if platforms:
        os.environ["JAX_PLATFORMS"] = platforms
    import jax

    device = jax.devices()[0]
    sizes = QUICK if given.quick else FULL
    if given.rounds:
        sizes = replace(sizes, rounds=given.rounds)
    output = given.output
    if output is None and device.platform != "cpu" and not given.quick:
        output = default_output(device.device_kind)
    page = Page(device, sizes, given.minutes, output)
    watch = threading.Timer(max(1.0, 60 * given.minutes - LAST_SECONDS / 4), stop, (page,))
    watch.daemon = True
    watch.start()
    page.take(steps_of(page))
    watch.cancel()
    leave(at_the_end(page))


if __name__ == "__main__":
    main()
