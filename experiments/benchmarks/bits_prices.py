"""What the random bits of attention dropout cost on a TPU, by the compiler's own schedule.

    python experiments/benchmarks/bits_prices.py            # minutes; needs jax[tpu], no TPU
    python experiments/benchmarks/bits_prices.py --cpu      # a minute: CPU times

One tile of 512 queries by 512 keys, bfloat16, heads of 128, compiled by libtpu for v5e and v6e: an
online softmax (forward), and one kernel for the gradients of queries, keys and values (backward,
with the keys first, in strips). Counted are the bundles (instruction words) of the tile in the
final static schedule: what it takes without waiting for memory. Nothing is run.

Every candidate draws the same number of decisions in the same layout: the queries of a block lie in
quarters, so that the draws of a group of four queries belong to four slabs as they lie; a call that
serves more than one key takes keys from as many parts of the block. Candidates with tables have two
words for every group and key; those along the sublanes are spread once for a row of tiles, which
is counted apart ("row").

On CPU: blockwise attention, forward and backward, causal, one example of 2,048 positions, 8 heads
of 64, float32: with version 1, and with version 2 of three to five steps, in turns.

Writes experiments/results/bits_prices.json. The dumps are large and deleted at once.
"""

import argparse
import glob
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parents[1] / "results" / "bits_prices.json"
BLOCK = 512
GENERATIONS, STRIPS = ("v5e", "v6e"), (512, 256, 128)
USES = ("MXU", "XLU", "VALU", "VPOP", "EUP", "VLOAD", "FILL", "VSTORE", "SPILL", "SALU")

CANDIDATES = {
    "none": "no dropout",
    "threefry2x32-13": "bits version 1: 16-bit draws, 4 queries a call",
    "threefry2x32-13, 4 keys": "16-bit draws, one query and 4 keys a call",
    "threefry2x32-13, 8 bits": "8-bit draws, 4 queries x 2 keys a call",
    "threefry2x32-12": "one round fewer",
    "threefry2x32-8": "five rounds fewer",
    "threefry4x32-12": "4 queries x 2 keys a call",
    "threefry4x32-12, 8 bits": "8-bit draws, 4 queries x 4 keys a call",
    "philox2x32-7": "multiplies by 16 x 16 products",
    "philox4x32-7": "the same, 4 queries x 2 keys a call",
    "pcg4d": "Jarzynski and Olano 2020, 4 queries x 2 keys a call",
    "tables, 3 steps": "version 2 with a step fewer",
    "tables, 4 steps": "bits version 2",
    "tables, 5 steps": "version 2 with a step more",
    "tables, 4 steps, 8 bits": "8-bit draws, 4 queries x 2 keys a call",
}


def prepare(dump: str) -> None:
    """The environment in which libtpu compiles without a TPU, and writes its schedules."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "LIBTPU_INIT_ARGS": f"--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true"
        " --xla_jf_dump_llo_pass_label_regex=.*final.*",
    }


def measure(generation: str, direction: str, candidate: str, strip: int) -> dict:
    """The bundles of one kernel's tile, what uses them, and the bundles of its row of tiles."""
    with tempfile.TemporaryDirectory() as dump:
        command = [sys.executable, __file__, "--one", generation, direction, candidate, str(strip)]
        subprocess.run([*command, dump], check=True, stdout=subprocess.DEVNULL)
        return schedule(dump)


def schedule(dump: str) -> dict:
    """{"tile": bundles, "regions": bundles of every region, "use": share of each unit's slots}."""
    (bundles,) = glob.glob(f"{dump}/*kern*[0-9]-final_bundles.txt")
    (uses,) = glob.glob(f"{dump}/*kern*final_hlo-static-per-bundle-utilization.txt")
    marks, last = [0], 0
    for line in Path(bundles).read_text().splitlines():
        found = re.match(r"\s*(0x[0-9a-f]+|0)\s*(LB|PB|PF|LH|LE)?:", line)
        if found:
            last = int(found.group(1), 16)
            marks += [last] if found.group(2) else []
    marks.append(last + 1)
    rows = [
        list(map(int, line.split()))
        for line in Path(uses).read_text().splitlines()
        if re.fullmatch(r"\s*\d+(\s+\d+){9}\s*", line)
    ]
    capacity, rows = rows[0], rows[1:]
    begin, end = max(itertools.pairwise(marks), key=lambda ends: ends[1] - ends[0])
    share = {
        name: round(sum(row[i] for row in rows[begin:end]) / capacity[i] / (end - begin), 3)
        for i, name in enumerate(USES)
    }
    regions = [b - a for a, b in itertools.pairwise(marks)]
    return {"tile": end - begin, "regions": regions, "use": share}


def compile_one(generation: str, direction: str, candidate: str, strip: int) -> None:
    """Compiles one kernel; libtpu writes its schedule."""
    import jax
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    sys.path.insert(0, str(Path(__file__).parent))
    from bits_tile import kernel

    call, arguments = kernel(direction, candidate, strip)
    topology = topologies.get_topology_desc(platform="tpu", topology_name=f"{generation}:2x2")
    place = SingleDeviceSharding(topology.devices[0])
    jax.jit(call, in_shardings=place, out_shardings=place).lower(*arguments).compile()


def times_on_cpu(rounds: int) -> dict:
    """{name: {"ms": median, "ratio": median of time with / without in the same round}}.

    The time is the process's, of all cores together: another process then matters less.
    """
    import jax
    import jax.numpy as jnp

    from jaxreg import AttentionDropout, dot_product_attention
    from jaxreg.attention import masks

    shape, key = (1, 2048, 8, 64), jax.random.key(0)
    arrays = [jax.random.normal(jax.random.key(n), shape) for n in range(3)]
    steps = (*masks.MIXING, (0x846CA68B, 15))

    def compiled(dropout: AttentionDropout | None, count: int = 4):
        masks.MIXING = steps[:count]
        jax.clear_caches()

        def loss(*given):
            *inputs, own_key = given
            options = {"is_causal": True, "implementation": "blockwise"}
            out = dot_product_attention(*inputs, dropout=dropout, dropout_key=own_key, **options)
            return jnp.sum(out)

        return jax.jit(jax.grad(loss, (0, 1, 2))).lower(*arrays, key).compile()

    programs = {"none": compiled(None), "version 1": compiled(AttentionDropout(0.1))}
    for count in (3, 4, 5):
        name = f"tables, {count} steps"
        programs[name] = compiled(AttentionDropout(0.1, bits=2), count)
    seconds = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            start = time.process_time()
            jax.block_until_ready(program(*arrays, key))
            seconds[name].append(time.process_time() - start)
    return {
        name: {
            "ms": round(1e3 * statistics.median(own[1:]), 1),
            "ratio": round(
                statistics.median(a / b for a, b in zip(own[1:], seconds["none"][1:], strict=True)),
                3,
            ),
        }
        for name, own in seconds.items()
    }


def main() -> None:
    """All candidates, or one kernel (in a process of its own, as the dump's place is fixed)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=5)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--candidates", nargs="*", default=list(CANDIDATES))
    arguments = parser.parse_args()
    if arguments.one:
        generation, direction, candidate, strip, dump = arguments.one
        prepare(dump)
        compile_one(generation, direction, candidate, int(strip))
        return
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if arguments.cpu:
        found["cpu"] = times_on_cpu(arguments.rounds)
        print(json.dumps(found["cpu"], indent=1))
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
        return
    for candidate in arguments.candidates:
        entry = found[candidate] = {"what": CANDIDATES[candidate]}
        for generation in GENERATIONS:
            backward = {s: measure(generation, "backward", candidate, s) for s in STRIPS}
            best = min(backward, key=lambda s: backward[s]["tile"])
            forward = measure(generation, "forward", candidate, BLOCK)
            whole = forward["tile"] + backward[best]["tile"]
            entry[generation] = {
                "forward": forward,
                "backward": backward[best] | {"strip": best},
                "whole": whole,
            }
            none = found["none"][generation]
            entry[generation]["ratio"] = round(whole / none["whole"], 3)
            print(
                f"{candidate}, {generation}: {forward['tile']} + {backward[best]['tile']} ="
                f" {whole}, {entry[generation]['ratio']}",
                flush=True,
            )
        RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
