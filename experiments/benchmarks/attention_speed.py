"""Time and memory of attention with dropout: ours beside Flax's and PyTorch's, forward and
backward, in one run.

Command:  python experiments/benchmarks/attention_speed.py [--rounds=7] [--avx2]
            [--output=FILE.json]

Batch 4, 8 heads, width 64, causal, float32, dropout .1 of single connections. The contenders take
turns, so that a busy moment of the machine hits all; figures are medians over the rounds, ratios
medians of each round's ratio. Memory is XLA's own figure for temporary arrays. The share of the
matrix-product rate counts the products that causal attention needs, seven of width 64 over T (T +
1) / 2 connections, in the median time, against XLA's rate at one large product in its best round.
With --output the table is written as JSON and drawn beside it as PNG. --avx2 keeps XLA and PyTorch
to vectors of 256 bits, as on a processor without AVX-512.
"""

import argparse
import importlib.util
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks import attention_peers as peers
from experiments.benchmarks import turns

LENGTHS = (512, 1024, 2048, 4096, 8192)
SHORT = (16, 64, 128)
MEMORY = (1024, 2048, 4096, 8192, 16384)
MIDDLE = 2048
OURS, WITHOUT = "jaxreg_dropout", "jaxreg"


def cases(lengths: tuple[int, ...], with_torch: bool) -> dict[str, list[str]]:
    """Process -> the lines it is asked in every round."""
    flax = [f"flax_dropout {n}" for n in (*SHORT, *(n for n in lengths if n <= MIDDLE))]
    ours = [f"{name} {n}" for n in (*SHORT, *lengths) for name in (WITHOUT, OURS)]
    torch = [f"{name} {n}" for n in lengths if n <= MIDDLE for name in ("torch", "torch_dropout")]
    return (
        {"jax": ["limit", *ours, *flax], "torch": torch}
        if with_torch
        else {"jax": ["limit", *ours, *flax]}
    )


def serve(process: str, lines: list[str]) -> None:
    """A process of contenders: compiles everything, then answers."""
    if process == "torch":
        contender = peers.TorchCases(lines)
    else:
        extra = [f"{OURS} {n}" for n in MEMORY]
        contender = peers.JaxCases(sorted({*lines, *extra} - {"limit"}))
    turns.serve(contender.about, contender.run)


def measure(rounds: int, lengths: tuple[int, ...]) -> dict:
    """All rounds of all cases, what XLA said about each, and the machine."""
    asked = cases(lengths, importlib.util.find_spec("torch") is not None)
    commands = {
        process: [sys.executable, __file__, f"--serve={process}", f"--cases={';'.join(lines)}"]
        for process, lines in asked.items()
    }
    order = [(process, line) for process, lines in asked.items() for line in lines]
    about, answers = turns.take(commands, order, rounds, lambda line: print(line, file=sys.stderr))
    return {
        "machine": turns.processor(),
        "rounds": rounds,
        "versions": versions(),
        "shape": {
            "batch": peers.BATCH,
            "heads": peers.HEADS,
            "width": peers.WIDTH,
            "rate": peers.RATE,
            "causal": True,
            "dtype": "float32",
        },
        "seconds": {line: found for (_, line), found in answers.items()},
        **about["jax"],
    }


def versions() -> dict[str, str]:
    """Of the packages that were timed."""
    from importlib.metadata import version

    return {
        name: version(name)
        for name in ("jax", "jaxlib", "flax", "torch")
        if importlib.util.find_spec(name)
    }


class Figures:
    """What the table says, from `measure`'s result."""

    def __init__(self, found: dict):
        self.found = found

    def has(self, case: str) -> bool:
        """Whether this case was timed."""
        return case in self.found["seconds"]

    def seconds(self, case: str) -> float:
        """Median over the rounds."""
        return statistics.median(self.found["seconds"][case])

    def ratio(self, one: str, other: str) -> float:
        """Median over the rounds of each round's ratio."""
        pairs = zip(self.found["seconds"][one], self.found["seconds"][other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def megabytes(self, case: str) -> float:
        """Temporary memory."""
        return self.found["temporary_bytes"][case] / 1e6

    def product_rate(self) -> float:
        """XLA's floating-point operations a second at one large matrix product, in the best round:
        what the machine can do.
        """
        return 2 * peers.LIMIT_SIDE**3 / min(self.found["seconds"]["limit"])

    def share(self, length: int) -> float:
        """What part of `product_rate` attention with dropout reaches."""
        return peers.flops(length) / self.seconds(f"{OURS} {length}") / self.product_rate()

    def nanoseconds(self, length: int) -> float:
        """Of one connection, forward and backward."""
        return (
            self.seconds(f"{OURS} {length}")
            / (peers.BATCH * peers.HEADS * peers.connections(length))
            * 1e9
        )


def row(
    what: str,
    length: int,
    other: str,
    own: str,
    value: float,
    promised: float,
    *,
    least: bool = False,
) -> dict:
    """A line of the table: the other's figure, ours, and whether the promised bound was kept."""
    return {
        "what": what,
        "length": length,
        "other": other,
        "ours": own,
        "value": value,
        "promised": promised,
        "least": least,
        "kept": value >= promised if least else value <= promised,
    }


def rows(figures: Figures) -> list[dict]:
    """The table: what is compared, at which length, the other's figure, ours, and what was
    promised.
    """
    lengths = [n for n in LENGTHS if figures.has(f"{OURS} {n}")]
    middle = MIDDLE if MIDDLE in lengths else lengths[-1]
    ours = f"{OURS} {middle}"

    def against(other: str, words: str, promised: float, length: int = middle) -> dict:
        ratio = figures.ratio(f"{OURS} {length}", f"{other} {length}")
        return row(
            f"time against {words}",
            length,
            milliseconds(figures.seconds(f"{other} {length}")),
            f"{milliseconds(figures.seconds(f'{OURS} {length}'))} = {ratio:.3f}",
            ratio,
            promised,
        )

    table = [against("flax_dropout", "Flax, a mask per connection", 1 / 6)]
    if figures.has(f"torch {middle}"):
        table += [
            against("torch_dropout", "PyTorch, dropout", 1 / 6),
            against("torch", "PyTorch, fused, without dropout", 1.5),
        ]
    table.append(
        row(
            "temporary memory, MB",
            middle,
            f"{figures.megabytes(f'flax_dropout {middle}'):,.0f} (Flax)",
            f"{figures.megabytes(ours):.1f}",
            figures.megabytes(ours),
            32,
        )
    )
    for n in lengths:
        ratio = figures.ratio(f"{OURS} {n}", f"{WITHOUT} {n}")
        table.append(
            row(
                "time with / without dropout",
                n,
                milliseconds(figures.seconds(f"{WITHOUT} {n}")),
                f"{ratio:.3f}, {figures.nanoseconds(n):.2f} ns a connection",
                ratio,
                1.10,
            )
        )
    table.append(
        row(
            "share of the matrix-product rate",
            middle,
            f"{figures.product_rate() / 1e9:.0f} GFLOP/s",
            f"{figures.share(middle):.1%}",
            figures.share(middle),
            0.4,
            least=True,
        )
    )
    table += [against("flax_dropout", "Flax, a mask per connection", 1.0, n) for n in SHORT]
    for n in MEMORY[1:]:
        growth = figures.megabytes(f"{OURS} {n}") / figures.megabytes(f"{OURS} {n // 2}")
        table.append(
            row(
                "memory as T doubles",
                n,
                "x4",
                f"x{growth:.2f} to {figures.megabytes(f'{OURS} {n}'):.0f} MB",
                growth,
                2.1,
            )
        )
    compiled = figures.found["compile_seconds"][ours]
    return [*table, row("seconds to compile", middle, "", f"{compiled:.2f}", compiled, 3)]


def milliseconds(seconds: float) -> str:
    """In words."""
    return f"{seconds * 1e3:,.0f} ms" if seconds > 0.01 else f"{seconds * 1e3:.2f} ms"


def show(found: dict, table: list[dict]) -> None:
    """Prints the table."""
    print(
        f"{found['machine']}; medians of {found['rounds']} rounds;"
        f" {', '.join(f'{k} {v}' for k, v in found['versions'].items())}"
    )
    print(f"{'':42}{'T':>6}{'the other':>18}  {'ours':38}promised")
    for line in table:
        bound = (
            f"{'at least' if line['least'] else 'at most'}"
            f" {line['promised']:.3g}{'' if line['kept'] else '   NOT KEPT'}"
        )
        print(f"{line['what']:42}{line['length']:6}{line['other']:>18}  {line['ours']:38}{bound}")


def markdown(table: list[dict]) -> str:
    """The table as it stands in the documentation."""
    lines = ["| forward + backward | T | the other | jaxreg | promised |", "|---|---|---|---|---|"]
    for line in table:
        bound = (
            f"{'at least' if line['least'] else 'at most'}"
            f" {line['promised']:.3g}{'' if line['kept'] else ': **not kept**'}"
        )
        lines.append(
            f"| {line['what']} | {line['length']:,} | {line['other']} | {line['ours']} | {bound} |"
        )
    return "\n".join(lines) + "\n"


def cost_of_dropout(wide: dict, narrow: dict) -> str:
    """Time with / without dropout on both kinds of processor, as it stands in the documentation.

    Args:
      wide, narrow: results with vectors of 512 and of 256 bits.
    """
    lines = ["| T | vectors of 512 bits | vectors of 256 bits | promised |", "|---|---|---|---|"]
    for n in LENGTHS:
        ratios = [Figures(found).ratio(f"{OURS} {n}", f"{WITHOUT} {n}") for found in (wide, narrow)]
        shown = (f"{ratio:.3f}{'' if ratio <= 1.1 else ' **not kept**'}" for ratio in ratios)
        lines.append(f"| {n:,} | {' | '.join(shown)} | at most 1.1 |")
    return "\n".join(lines) + "\n"


STYLES = {
    "torch_dropout": ("PyTorch, dropout", "#b65d3a", "o-"),
    "flax_dropout": ("Flax, dropout", "#7a6aa8", "o-"),
    "torch": ("PyTorch, no dropout", "#b65d3a", "o:"),
    OURS: ("jaxreg, dropout", "#1f6f8b", "o-"),
    WITHOUT: ("jaxreg, no dropout", "#1f6f8b", "o:"),
}
"""Contender -> its words, colour and line in the plot."""


def draw(found: dict, target: Path, styles: dict[str, tuple[str, str, str]] = STYLES) -> None:
    """Time and memory over the length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figures = Figures(found)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    for name, (label, colour, style) in styles.items():
        timed = sorted(int(case.split()[1]) for case in found["seconds"] if case.split()[0] == name)
        if timed:
            left.plot(
                timed,
                [figures.seconds(f"{name} {n}") * 1e3 for n in timed],
                style,
                color=colour,
                label=label,
                ms=3.5,
                lw=1.4,
            )
        known = sorted(
            int(case.split()[1])
            for case in found["temporary_bytes"]
            if case.split()[0] == name and int(case.split()[1]) >= 512
        )
        if known and name.endswith("dropout"):
            right.plot(
                known,
                [figures.megabytes(f"{name} {n}") for n in known],
                style,
                color=colour,
                label=label,
                ms=3.5,
                lw=1.4,
            )
    for axis, title in ((left, "forward + backward, ms"), (right, "temporary memory, MB")):
        axis.set(xscale="log", yscale="log", title=title, xlabel="length T")
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.25, lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if axis.lines:
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(target, dpi=130, metadata={"Software": None})


def main() -> None:
    """Measures, prints the table, and writes it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--lengths",
        type=lambda words: tuple(map(int, words.split(","))),
        default=LENGTHS,
        help="e.g. 512,2048",
    )
    parser.add_argument("--output", type=Path, help="a JSON file; the plot goes beside it")
    parser.add_argument("--avx2", action="store_true", help="switch AVX-512 off")
    for hidden in ("--serve", "--cases"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.cases.split(";"))
        return
    if given.avx2:
        turns.without_avx512()
    found = measure(given.rounds, given.lengths)
    table = rows(Figures(found))
    show(found, table)
    if given.output:
        given.output.write_text(json.dumps(found | {"table": table}, indent=1) + "\n")
        draw(found, given.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
