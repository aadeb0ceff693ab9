"""The TPU's own compiler takes the kernels for every generation; their schedules stay as short.

Each compilation is a process of its own, as libtpu reads its settings once.
"""

import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import tpu_schedule

ROOT = Path(__file__).parents[3]
RESULT = json.loads((ROOT / "experiments" / "results" / "tpu_schedule.json").read_text())
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'jaxreg[aot-tpu]'"
)
GROWTH = 1.05
"""What a kernel's inner tile may grow by."""


@pytest.mark.system
@needs_compiler
@pytest.mark.parametrize("kernel", ["without", "dropout", "dropout, bits 2"])
@pytest.mark.parametrize("accelerator", tpu_schedule.TOPOLOGIES)
def test_the_inner_tile_has_no_more_bundles_than_committed(accelerator, kernel):
    found = tpu_schedule.measured(accelerator, kernel)
    if None in found:
        pytest.skip("this libtpu writes no schedules")
    if metadata.version("libtpu") != RESULT["versions"]["libtpu"]:
        pytest.skip("the committed bundles are those of another libtpu")
    for now, committed in zip(found, RESULT["bundles"][accelerator][kernel], strict=True):
        assert 0 < now <= GROWTH * committed


@pytest.mark.system
@needs_compiler
@pytest.mark.parametrize("accelerator", ["v5e", "v6e"])
def test_a_causal_pass_has_no_more_bundles_than_committed(accelerator):
    found = tpu_schedule.measured(accelerator, "causal, dropout")
    if found is None:
        pytest.skip("this libtpu writes no schedules")
    if metadata.version("libtpu") != RESULT["versions"]["libtpu"]:
        pytest.skip("the committed bundles are those of another libtpu")
    committed = RESULT["causal_bundles"][accelerator]["dropout"]
    assert list(found) == list(committed)
    for length, passes in found.items():
        for now, before in zip(passes, committed[length], strict=True):
            assert 0 < now <= GROWTH * before


@pytest.mark.system
@needs_compiler
@pytest.mark.parametrize("job", tpu_schedule.SIZES)
@pytest.mark.parametrize("accelerator", tpu_schedule.TOPOLOGIES)
def test_long_sequences_fit(accelerator, job):
    """Where scratch or blocks do not fit into VMEM, or arrays into HBM, the compiler refuses."""
    b, t, h, _ = tpu_schedule.SIZES[job]
    found = tpu_schedule.measured(accelerator, job)
    # Copies of queries, keys, values and gradients in bfloat16 and float32; no array of T x T.
    assert found < b * h * t * 128 * 4 * 12
    committed = RESULT["temporary_bytes"][accelerator][job]
    if metadata.version("libtpu") == RESULT["versions"]["libtpu"]:
        assert found <= GROWTH * committed + 2**20


ON_AUTO_AXES = """
import re
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxreg import AttentionDropout, dot_product_attention

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
batch = NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec("data"))
x = jax.ShapeDtypeStruct((4, 512, 2, 64), jnp.bfloat16, sharding=batch)

def both(*arrays):
    dropout = {"dropout": AttentionDropout(0.1), "dropout_key": jax.random.key(0)}
    out, back = jax.vjp(lambda *x: dot_product_attention(*x, is_causal=True, **dropout), *arrays)
    return out, *back(out)

program = jax.jit(both).lower(x, x, x).compile()
assert all(found.is_equivalent_to(batch, 4) for found in program.output_shardings)
print(re.findall(r" (all-[a-z]+|collective-permute|reduce-scatter)[^ ]*\\(", program.as_text()))
"""


@pytest.mark.system
@needs_compiler
def test_a_batch_that_xla_divides_compiles_and_no_device_waits_for_another():
    done = subprocess.run(
        [sys.executable, "-c", ON_AUTO_AXES],
        env=os.environ | tpu_schedule.ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_committed_table_has_every_accelerator():
    assert list(RESULT["temporary_bytes"]) == list(tpu_schedule.TOPOLOGIES)
    assert list(RESULT["bundles"]) == list(tpu_schedule.TOPOLOGIES)
    assert list(RESULT["causal_bundles"]) == list(tpu_schedule.TOPOLOGIES)
    for rows in RESULT["bundles"].values():
        assert all(n > 100 for kernel in tpu_schedule.KERNELS for n in rows[kernel])
    assert RESULT["temporary_bytes"]["v5e"]["T=2048, K=64"] <= 16e6


@pytest.mark.parametrize("accelerator", ["v5e", "v6e"])
def test_bits_version_2_cost_at_most_what_was_promised(accelerator):
    row = RESULT["bundles"][accelerator]
    assert sum(row["dropout, bits 2"]) <= 1.25 * sum(row["without"])


def test_the_page_has_the_committed_table():
    page = (ROOT / "docs" / "accelerators.md").read_text()
    assert f"<!-- table: tpu_schedule -->\n{tpu_schedule.markdown(RESULT)}\n" in page


def test_the_longest_piece_without_a_branch_is_counted(tmp_path):
    straight = "".join(f"  0x{n:x}   : > {{ work }}\n" for n in range(7))
    text = f"header\n   0  :  {{ start }}\n  0x1 LB: > {{ a }}\n{straight}  0x9 : > {{ sbr.rel }}\n"
    (tmp_path / "1-kernel_forward.1-03-final_bundles.txt").write_text(text)
    (tmp_path / "1-kernel_forward.1-02-schedule-analysis_final_bundles.txt").write_text(
        "  1 : x\n" * 99
    )
    assert tpu_schedule.bundles_of(tmp_path, "_forward") == 8
    assert tpu_schedule.bundles_of(tmp_path, "_backward") is None


@pytest.mark.parametrize("key_block", [512, 1024, 2048])
@pytest.mark.parametrize("t", [512, 2048])
def test_tiles_of_a_causal_pass_are_counted_as_the_mask_has_them(t, key_block):
    """Against every connection of the mask: a whole tile, a part that is read, or nothing."""
    reads = np.tril(np.ones((t, t + key_block), bool))[:, : -(-t // key_block) * key_block]
    tiles, parts = 0, [0] * (key_block // 512)
    for first_query in range(0, t, 512):
        for first_key in range(0, t, key_block):
            tile = reads[first_query : first_query + 512, first_key : first_key + key_block]
            if tile.all():
                tiles += 1
                continue
            for n, part in enumerate(np.split(tile, len(parts), axis=1)):
                parts[n] += bool(part.any())
    steps = t // 512 * -(-t // key_block)
    expected = (tiles, tuple(parts), t // 512, steps)
    assert tpu_schedule.counts_of(t, 512, key_block, 512) == expected


def test_a_causal_pass_is_the_sum_of_its_pieces():
    """A loop: 3 bundles, a start of 40, a tile of 90, parts of 60 and 50, an end of 35, and 2."""
    sizes, number, lines = [3, 40, 90, 60, 4, 50, 35, 2], 0, []
    for size in sizes:
        lines.append(f"  0x{number:x} LB: > {{ cut }}")
        lines += [f"  0x{number + n:x}   : > {{ work }}" for n in range(1, size)]
        number += size
    loop = tpu_schedule.loop_of("\n".join(lines), 2)
    assert loop == (90, (60, 50), 40 + 35, 3 + 4 + 2)
    counts = tpu_schedule.Counts(5, (2, 1), 4, 8)
    assert tpu_schedule.causal_bundles(loop, counts) == 5 * 90 + 170 + 4 * 75 + 8 * 9
