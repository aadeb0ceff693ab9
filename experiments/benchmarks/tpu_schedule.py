"""What the TPU compiler makes of the attention kernels, without a TPU: bundles and memory.

Command:  python experiments/benchmarks/tpu_schedule.py [--accelerators=v5e,...] [--output=FILE]

Needs libtpu (`pip install 'jaxreg[aot-tpu]'`). A bundle is the work of one cycle: those of the
inner tile, the longest piece of a kernel without a branch, are what a tile costs when nothing waits
for memory. They are given for 512 queries x 512 keys, bfloat16, width 128, without a mask. jax's
own splash attention, which has no dropout, is compiled beside.

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


def bundles_of(folder: Path, name: str) -> int | None:
    """The longest piece without a branch among the schedules of kernels with this name."""
    longest = None
    for path in sorted(folder.glob(f"*{name}*final_bundles.txt")):
        if "schedule-analysis" in path.name:
            continue
        lines = [x for x in path.read_text().splitlines() if re.match(r"\s*(0x)?[0-9a-f]+\s", x)]
        label = re.compile(r"\s*\S+\s+(LB|PB|PF|CT|LH|LE)\b")
        cuts = [n for n, x in enumerate(lines) if "sbr.rel" in x or label.match(x)]
        ends = [0, *cuts, len(lines)]
        found = max(b - a for a, b in itertools.pairwise(ends))
        longest = found if longest is None else max(longest, found)
    return longest


def attention_of(kernel: str, t: int, k: int):
    """f(query, key, value, words, rate) for [1, T, 1, K], not causal."""
    from jaxreg import AttentionDropout
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
    return lambda q, k, v, words, rate: attention(
        *(q, k, v, None, None, None),
        words if bits else None,
        AttentionDropout(rate, bits=bits) if bits else None,
        is_causal=False,
        scale=1.0,
    )


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
    from jaxreg import AttentionDropout
    from jaxreg.attention.pallas_tpu.kernel import attention

    def causal(q, k, v, words, rate):
        dropout = AttentionDropout(rate)
        arrays = (q, k, v, None, None, None, words, dropout)
        return attention(*arrays, is_causal=True, scale=1.0)

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
        if job in KERNELS:
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
    """The bundles and the memory as the table of docs/accelerators.md."""
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
        "temporary_bytes": {},
    }
    for name in names:
        found["bundles"][name] = {job: measured(name, job) for job in KERNELS}
        print(name, json.dumps(found["bundles"][name]))
        found["temporary_bytes"][name] = {job: measured(name, job) for job in SIZES}
        print(name, json.dumps(found["temporary_bytes"][name]))
    if flags.output:
        flags.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
