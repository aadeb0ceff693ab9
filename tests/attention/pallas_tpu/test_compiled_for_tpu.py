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
    for rows in RESULT["bundles"].values():
        assert all(n > 100 for kernel in tpu_schedule.KERNELS for n in rows[kernel])
    assert RESULT["temporary_bytes"]["v5e"]["T=2048, K=64"] <= 16e6


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
