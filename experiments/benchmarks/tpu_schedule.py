"""What the TPU compiler makes of the attention kernels, without a TPU: bundles and memory.

Command:  python experiments/benchmarks/tpu_schedule.py [--accelerators=v5e,...] [--output=FILE]

Needs libtpu (`pip install 'jaxreg[aot-tpu]'`). A bundle is the work of one cycle: those of the
inner tile, the longest piece of a kernel without a branch, are what a tile costs when nothing waits
for memory. They are given for 512 queries x 512 keys, bfloat16, width 128, without a mask. jax's
own splash attention, which has no dropout, is compiled beside.

From the bundles of the kernels for a causal mask follows an estimate of a whole causal pass of one
head: those of an inner tile, and of each part of a tile that the mask cuts, times how often they
are computed; and what is left of the loop (`Loop`). Waiting for memory is not in it.

Memory is XLA's figure for temporary arrays of a causal forward and backward pass with dropout,
batch 4 and 8 heads at T = 2048, one head at greater lengths.

The compiler's flags that write the schedule are not documented; where they write nothing, the
bundles are null.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TOPOLOGIES = {
    "v4": "v4:2x2x1",
    "v5e": "v5e:2x2",
    "v5p": "v5p:2x2x1",
    "v6e": "v6e:2x2",
    "tpu7x": "tpu7x:2x2x1",
}
KERNELS = {"without": 0, "dropout": 1, "dropout, bits 2": 2, "splash": None}
"""What is compiled -> the version of its dropout bits."""
SIZES = {
    f"T={t}, K={k}": (4 if t == 2048 else 1, t, 8 if t == 2048 else 1, k)
    for t in (2048, 8192, 32768)
    for k in (64, 128)
}
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
TILE = 512
CAUSAL = {f"causal, {name}": name for name in KERNELS if name != "splash"}
LENGTHS = (2048, 8192)
"""Positions of the whole causal passes that are estimated."""
SHORT = 30
"""Bundles up to which a piece is taken for a part of every step of the grid."""


class Loop(NamedTuple):
    """Bundles of the pieces of a kernel's loop over its grid.

    tile: an inner tile. parts: each part of a tile that the causal mask cuts. block: what begins
    and ends blocks; it is counted once for each block of queries. step: the rest, counted at every
    step of the grid, also where it reads nothing.
    """

    tile: int
    parts: tuple[int, ...]
    block: int
    step: int


class Counts(NamedTuple):
    """How often the pieces of a `Loop` are computed in a causal pass of one head."""

    tile: int
    parts: tuple[int, ...]
    block: int
    step: int


def pieces_of(text: str) -> list[int]:
    """Bundles of the pieces without a branch of a final schedule, in its order."""
    lines = [x for x in text.splitlines() if re.match(r"\s*(0x)?[0-9a-f]+\s", x)]
    label = re.compile(r"\s*\S+\s+(LB|PB|PF|CT|LH|LE)\b")
    cuts = [n for n, x in enumerate(lines) if "sbr.rel" in x or label.match(x)]
    return [b - a for a, b in itertools.pairwise([0, *cuts, len(lines)])]


def schedules_of(folder: Path, name: str) -> list[str]:
    """The final schedules of the kernels with this name."""
    paths = sorted(folder.glob(f"*{name}*final_bundles.txt"))
    return [x.read_text() for x in paths if "schedule-analysis" not in x.name]


def bundles_of(folder: Path, name: str) -> int | None:
    """The longest piece without a branch among the schedules of kernels with this name."""
    return max((max(pieces_of(x)) for x in schedules_of(folder, name)), default=None)


def loop_of(text: str, num_parts: int) -> Loop:
    """The pieces of the loop of a kernel for a causal mask.

    The inner tile is the longest one, and the parts of a tile that the mask cuts are the longest of
    those that follow it.
    """
    pieces = pieces_of(text)
    at = pieces.index(max(pieces))
    rest = sorted(range(at + 1, len(pieces)), key=lambda n: -pieces[n])[:num_parts]
    parts = tuple(pieces[n] for n in sorted(rest))
    others = [x for n, x in enumerate(pieces) if n != at and n not in rest]
    block = sum(x for x in others if x > SHORT)
    return Loop(pieces[at], parts, block, sum(others) - block)


def counts_of(t: int, query_block: int, key_block: int, part: int) -> Counts:
    """How often each piece is computed for T = S = `t` (`pallas_tpu/forward.py`, each_part)."""
    tiles, parts = 0, [0] * (key_block // part)
    blocks, steps = range(0, t, query_block), 0
    for first_query, first_key in itertools.product(blocks, range(0, t, key_block)):
        steps += 1
        if first_key + key_block - 1 <= first_query:
            tiles += 1
            continue
        for n in range(len(parts)):
            parts[n] += first_key + n * part < first_query + query_block
    return Counts(tiles, tuple(parts), len(blocks), steps)


def causal_bundles(loop: Loop, counts: Counts) -> int:
    """Bundles of a causal pass of one head."""
    parts = sum(a * b for a, b in zip(loop.parts, counts.parts, strict=True))
    others = loop.block * counts.block + loop.step * counts.step
    return loop.tile * counts.tile + parts + others


def causal_passes(folder: Path, kernel: str) -> dict[str, list[int]] | None:
    """Length -> bundles of forward and backward pass; None where the compiler wrote none."""
    from jaxreg.attention.pallas_tpu import kernel as own

    key_block = own.KEYS[KERNELS[kernel]][0]
    sizes, loops = (own.QUERY_BLOCK, key_block, own.EDGE), []
    for name in ("_forward", "_backward"):
        found = schedules_of(folder, name)
        if len(found) != 1:
            return None
        loops.append(loop_of(found[0], key_block // own.EDGE))
    return {
        f"T={t}": [causal_bundles(loop, counts_of(t, *sizes)) for loop in loops] for t in LENGTHS
    }


def attention_of(kernel: str, t: int, k: int, *, is_causal: bool = False, scale: float = 1.0):
    """f(query, key, value, words, rate) for [1, T, 1, K]; splash is not causal, and not scaled."""
    from jaxreg import AttentionDropout
    from jaxreg.attention.inputs import inputs_of
    from jaxreg.attention.pallas_tpu.kernel import attention

    if kernel == "splash":
        from jax.experimental.pallas.ops.tpu import splash_attention as splash

        block = {"block_q": TILE, "block_kv": 2 * TILE, "block_kv_compute": TILE}
        of_gradient = {"block_q_dkv": TILE, "block_kv_dkv": 2 * TILE, "block_kv_dkv_compute": TILE}
        sizes = splash.BlockSizes(**block, **of_gradient, use_fused_bwd_kernel=True)
        mask = splash.MultiHeadMask([splash.FullMask((t, t))])
        run = splash.make_splash_mha(mask, head_shards=1, q_seq_shards=1, block_sizes=sizes)
        return lambda q, k, v, words, rate: run(
            q[0, :, :1].swapaxes(0, 1), *(x[0, :, :1].swapaxes(0, 1) for x in (k, v))
        )
    bits = KERNELS[kernel]

    def ours(q, k, v, words, rate):
        dropping = (words, AttentionDropout(rate, bits=bits)) if bits else (None, None)
        arrays = (q, k, v, None, None, None, *dropping)
        return attention(*inputs_of(*arrays, is_causal=is_causal, scale=scale))

    return ours


def compiled(accelerator: str, attention, shape: tuple[int, int, int, int]):
    """Forward and backward pass of bfloat16 arrays [B, T, H, K], compiled for one device."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[accelerator])
    device = SingleDeviceSharding(topology.devices[0])

    def array(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=device)

    def both(q, k, v, words, rate):
        out, back = jax.vjp(lambda *x: attention(*x, words, rate), q, k, v)
        return out, back(out)

    x, word = array(shape, jnp.bfloat16), array((shape[0], shape[2]), jnp.uint32)
    rate = array((), jnp.float32)
    return jax.jit(both).lower(x, x, x, (word, word), rate).compile()


def serve(accelerator: str, job: str, folder: str) -> None:
    """The process of one compilation: prints bundles, or bytes."""
    if job in KERNELS:
        compiled(accelerator, attention_of(job, 2048, 128), (1, 2048, 1, 128))
        names = ("splash_mha_fwd", "splash_mha_d") if job == "splash" else ("_forward", "_backward")
        found = [bundles_of(Path(folder), name) for name in names]
        print(json.dumps([None if n is None else round(n / _tiles(job)) for n in found]))
        return
    if job in CAUSAL:
        kernel, shape = CAUSAL[job], (1, 2048, 1, 128)
        compiled(accelerator, attention_of(kernel, 2048, 128, is_causal=True), shape)
        print(json.dumps(causal_passes(Path(folder), kernel)))
        return
    _, t, _, k = SIZES[job]
    causal = attention_of("dropout", t, k, is_causal=True, scale=k**-0.5)  # as a model's: not free
    program = compiled(accelerator, causal, SIZES[job])
    print(json.dumps(program.memory_analysis().temp_size_in_bytes))


def _tiles(job: str) -> int:
    """Tiles of 512 x 512 in an inner tile."""
    from jaxreg.attention.pallas_tpu import kernel

    keys = 2 * TILE if job == "splash" else kernel.KEYS[KERNELS[job]][0]
    return kernel.QUERY_BLOCK * keys // TILE**2


def measured(accelerator: str, job: str):
    """What `serve` prints in a process of its own, which libtpu's settings need."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {}
        if job in KERNELS or job in CAUSAL:
            flags["LIBTPU_INIT_ARGS"] = (
                f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
                " --xla_jf_dump_llo_pass_label_regex=.*final.*"
            )
        command = [sys.executable, __file__, f"--accelerators={accelerator}", f"--serve={job}"]
        done = subprocess.run(
            [*command, f"--folder={folder}"],
            env=os.environ | ENVIRONMENT | flags | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{accelerator}, {job}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def markdown(found: dict) -> str:
    """Bundles and memory as the table of docs/accelerators.md."""
    head = ["", *(f"{name}" for name in found["bundles"])]
    rows = [head, ["---"] * len(head)]
    for title, kernel in (
        ("without dropout: forward, backward", "without"),
        ("splash attention: forward, backward", "splash"),
        ("dropout: forward, backward", "dropout"),
        ("dropout, bits version 2: forward, backward", "dropout, bits 2"),
    ):
        cells = (row[kernel] for row in found["bundles"].values())
        rows.append([title, *(f"{first:,}, {second:,}" for first, second in cells)])
    totals = {k: [sum(row[k]) for row in found["bundles"].values()] for k in KERNELS}
    for title, above, below in (
        ("without dropout / splash, both passes", "without", "splash"),
        ("with / without dropout, both passes", "dropout", "without"),
        ("the same, bits version 2", "dropout, bits 2", "without"),
    ):
        pairs = zip(totals[above], totals[below], strict=True)
        rows.append([title, *(f"{a / b:.2f}" for a, b in pairs)])
    of_heads = found["causal_bundles"].values()
    for length in (f"T={t}" for t in LENGTHS):
        sums = [{k: sum(row[k][length]) for k in CAUSAL.values()} for row in of_heads]
        cells = [f"{x['without']:,}, {x['dropout']:,}" for x in sums]
        rows.append([f"causal, {length}, both passes: without, with dropout", *cells])
        for title, kernel in (
            (f"with / without dropout, causal, {length}", "dropout"),
            ("the same, bits version 2", "dropout, bits 2"),
        ):
            rows.append([title, *(f"{x[kernel] / x['without']:.2f}" for x in sums)])
    for job in SIZES:
        sizes = (found["temporary_bytes"].get(name, {}).get(job) for name in found["bundles"])
        cells = ("" if size is None else f"{size / 1e6:.1f}" for size in sizes)
        rows.append([f"temporary MB, {job}", *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accelerators", default=",".join(TOPOLOGIES))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    names = flags.accelerators.split(",")
    if flags.serve:
        serve(names[0], flags.serve, flags.folder)
        return
    found: dict = {
        "versions": {name: metadata.version(name) for name in ("jax", "libtpu")},
        "bundles": {},
        "causal_bundles": {},
        "temporary_bytes": {},
    }
    for name in names:
        found["bundles"][name] = {job: measured(name, job) for job in KERNELS}
        print(name, json.dumps(found["bundles"][name]))
        found["causal_bundles"][name] = {CAUSAL[job]: measured(name, job) for job in CAUSAL}
        print(name, json.dumps(found["causal_bundles"][name]))
        found["temporary_bytes"][name] = {job: measured(name, job) for job in SIZES}
        print(name, json.dumps(found["temporary_bytes"][name]))
    if flags.output:
        flags.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
