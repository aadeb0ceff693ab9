"""The device page, run where there is no device: every path of it at tiny sizes on the CPU, and
what may be said of an accelerator before it ran there.
"""

import json
import math
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from experiments.benchmarks import attention_peers as peers
from experiments.benchmarks import attention_speed, device_checks, device_contenders, device_speed
from experiments.benchmarks import device_timing as timing
from jaxreg import AttentionDropout
from jaxreg.attention.dropout import BITS_VERSIONS

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs" / "accelerators.md"


def quick_page(output=None):
    """A page of this CPU."""
    return device_speed.Page(jax.devices()[0], device_speed.QUICK, 60, output)


@pytest.mark.system
def test_every_step_runs_and_every_contender_has_a_row(tmp_path, capsys):
    page = quick_page(tmp_path / "a_cpu.json")
    page.take(device_speed.steps_of(page))
    assert device_speed.at_the_end(page) == 0, capsys.readouterr()
    found = json.loads((tmp_path / "a_cpu.json").read_text())
    assert found["correct"] and not found["failed"] and not found["not_reached"]
    names = set(device_contenders.contenders("cpu"))
    groups = device_speed.QUICK.first + device_speed.QUICK.rest
    for dtype, length, _ in groups:
        rows = [
            row for row in found["attention"] if (row["dtype"], row["length"]) == (dtype, length)
        ]
        assert {row["contender"] for row in rows} == names
        for row in rows:
            known = row["contender"] in (
                "jax_xla",
                "jaxreg",
                "jaxreg_blockwise_dropout",
                "flax_nnx",
            )
            assert row["status"] == "measured" or not known, row
            assert row["status"] != "error", row
            assert row.get("agrees", True), row
    assert {row["status"] for row in found["training"] + found["members"]} == {"measured"}
    assert all(row["members_per_second"] > 0 for row in found["members"])
    assert all(row["temporary_bytes"] > 0 for row in found["training"] + found["members"])
    assert (tmp_path / "a_cpu.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "no accelerator" in shown and "splash: not offered here: " in shown
    assert found["accelerator"] is False and found["table"] == []


@pytest.mark.system
def test_it_is_one_command_and_says_what_the_time_did_not_reach(tmp_path):
    target = tmp_path / "none.json"
    command = [sys.executable, "experiments/benchmarks/device_speed.py", "--quick"]
    done = subprocess.run(
        [*command, "--minutes=0", f"--output={target}"],
        cwd=ROOT,
        env={"JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    page = quick_page()
    assert found["not_reached"] == list(device_speed.steps_of(page)) and found["correct"] is None
    assert "not reached: members per second" in done.stdout


@pytest.mark.system
def test_a_compiler_that_hangs_ends_with_what_was_found(tmp_path):
    target = tmp_path / "cut.json"
    program = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from experiments.benchmarks import device_speed
device_speed.LAST_SECONDS = 0.1
device_speed.steps_of = lambda page: {{"one": lambda: None, "hangs": lambda: time.sleep(60)}}
sys.argv[1:] = ["--minutes=0.02", "--output={target}"]
device_speed.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1, done.stderr  # nothing was checked
    assert json.loads(target.read_text())["not_reached"] == ["hangs (it did not end in time)"]


# --- correctness ---


def test_a_wrong_mask_or_value_is_found_and_named():
    weights, gradient = np.array([[0.0, 0.5], [0.2, 0.3]]), np.ones(3)
    assert device_checks.compared((weights, gradient), (weights, gradient), 1e-6)[0] == "equal"
    other = weights.copy()
    other[0, 0] = 1e-9
    status, said, _ = device_checks.compared((other, gradient), (weights, gradient), 1e-6)
    assert status == "differs" and said == "1 of 4 connections differ"
    status, said, error = device_checks.compared(
        (weights, 1.1 * gradient), (weights, gradient), 1e-2
    )
    assert status == "differs" and error == pytest.approx(0.1, rel=1e-5)
    assert (
        device_checks.compared((weights * np.nan, gradient), (weights, gradient), 1)[0] != "equal"
    )


@pytest.mark.system
def test_masks_are_compared_for_every_unit_and_stage():
    cpu, size = jax.devices("cpu")[0], device_checks.Size(heads=2, mask=3)
    results = device_checks.check_masks(cpu, cpu, size)
    assert {result.status for result in results} == {"equal"}
    named = {(each.unit, each.stage) for each in device_checks.dropouts()}
    assert {each.bits for each in device_checks.dropouts()} == set(BITS_VERSIONS)
    assert len(named) == 10 and len(results) == len(list(device_checks.dropouts()))
    asked = device_checks.cases()
    assert {case.dropout.unit for case in asked.values() if case.dropout} == {
        unit for unit, _ in named
    }
    assert set(device_checks.EVERY_MODE) <= set(asked)


@pytest.mark.system
def test_an_implementation_that_draws_other_masks_is_caught(monkeypatch, tmp_path, capsys):
    cpu, size = jax.devices("cpu")[0], device_checks.Size(16, 2, 8, 3)
    true = device_checks.api.dot_product_attention

    def shifted(*arrays, implementation, **options):
        if implementation == "blockwise" and "dropout_key" in options:
            options["dropout_key"] = jax.random.fold_in(options["dropout_key"], 1)
        return true(*arrays, implementation=implementation, **options)

    monkeypatch.setattr(device_checks.api, "dot_product_attention", shifted)
    monkeypatch.setattr(device_checks, "EVERY_MODE", ())
    asked = {"droppable": device_checks.cases()["droppable"]}
    results = device_checks.check_attention(cpu, cpu, size, asked)
    by_name = {result.implementation: result for result in results}
    assert by_name["jaxreg_reference"].status == "equal"
    assert by_name["jaxreg_blockwise"].status == "differs"
    assert "connections differ" in by_name["jaxreg_blockwise"].said
    page = quick_page()
    page.judge(results)
    assert page.wrong == {"jaxreg_blockwise"} and page.found["correct"] is False
    assert page.verdict.startswith("cpu differs from the CPU in 1 of ")
    assert "see " not in page.verdict and not (tmp_path / "x.json").exists()
    page.output = tmp_path / "x.json"
    assert device_speed.at_the_end(page) == 1
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["correct"] is False and len(capsys.readouterr().err.splitlines()) == 1
    assert "\n" not in page.verdict


@pytest.mark.system
@pytest.mark.parametrize("drops, bits", [(False, 1), (True, 1), (True, 2)])
def test_the_end_of_a_long_result_is_what_a_whole_call_has(drops, bits):
    shape = (2, 24, 2, 8)
    arrays = jax.random.normal(jax.random.key(1), (4, *shape))
    arguments, name = (*arrays, jax.random.key(2)), "jaxreg_dropout" if drops else "jaxreg"
    run = peers.forward_and_backward(peers.jax_attention(name, "blockwise", bits))
    tail = device_checks.tail_of(jax.jit(run)(*arguments))
    expected = device_checks.expected_tail(
        jax.devices("cpu")[0], arguments, AttentionDropout(peers.RATE, bits=bits) if drops else None
    )
    assert len(tail) == 4 and all(x.shape == (device_checks.TAIL, 2, 8) for x in tail)
    for one, other in zip(tail, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_step_that_fails_leaves_the_others_and_an_unchecked_device_is_not_right(capsys):
    page, taken = quick_page(), []

    def fail():
        raise RuntimeError("out of\nmemory")

    page.take({device_speed.BITS: fail, "b": lambda: taken.append(page.share.left)})
    assert taken == [pytest.approx(device_speed.STEP_SHARE * page.budget.left, rel=0.1)]
    assert page.found["failed"] == {device_speed.BITS: "RuntimeError: out of"}
    assert device_speed.at_the_end(page) == 1
    assert "masks, bit for bit could not be checked" in capsys.readouterr().err


# --- contenders ---


def test_what_a_platform_lacks_is_not_offered_with_its_reason():
    arrays = [jax.ShapeDtypeStruct((1, 128, 2, 8), "bfloat16")] * 3
    key = jax.eval_shape(lambda: jax.random.key(0))
    lacking = {
        "cpu": {"jax_cudnn", "cudnn_dropout", "splash", "flash", "tokamax_dropout"},
        "cuda": {"splash", "flash", "tokamax_dropout"},
        "rocm": {"jax_cudnn", "cudnn_dropout", "splash", "flash", "tokamax_dropout"},
        "tpu": {"jax_cudnn", "cudnn_dropout"},
    }
    for platform, names in lacking.items():
        contenders = device_contenders.contenders(platform)
        functions = {name: contenders[name].attention for name in names}
        made = timing.compile_all(functions, (*arrays, key), timing.Budget(1e9))
        for name, failure in made.items():
            assert failure.kind == "not offered here" and platform in failure.reason, name


def test_an_unknown_implementation_is_not_offered_and_a_bad_shape_is_an_error():
    x = jnp.zeros((1, 4, 2, 8))

    def unknown(x):
        return device_checks.api.dot_product_attention(x, x, x, implementation="abacus")

    def refused(x):
        raise NotImplementedError("\nodd head width\nhere is more")

    functions = {"a": unknown, "b": refused, "c": lambda x: x + 1}
    made = timing.compile_all(functions, (x,), timing.Budget(1e9))
    assert made["a"].kind == "not offered here" and "abacus" in made["a"].reason
    assert made["b"] == timing.Failure("error", "NotImplementedError: odd head width")
    assert isinstance(made["c"], timing.Program) and made["c"].compile_seconds > 0


def test_equal_programs_are_compiled_once_and_a_failure_is_tried_again_alone(monkeypatch):
    tried = []

    def compiled(lowered):
        tried.append(lowered.as_text())
        first = len(tried) == 1
        return timing.Failure("error", "no memory") if first else timing.Program(print, 0.0, 1, 1)

    monkeypatch.setattr(timing, "_compiled", compiled)
    functions = {"a": lambda x: x + 1, "again": lambda x: x + 1, "b": lambda x: x * 2}
    made = timing.compile_all(functions, (jnp.zeros(3),), timing.Budget(1e9))
    assert len(tried) == 3 and len(set(tried)) == 2 and list(made) == list(functions)
    assert all(isinstance(program, timing.Program) for program in made.values())


def test_what_does_not_compile_in_time_is_left_out(monkeypatch):
    let_go = threading.Event()

    def compiled(lowered):
        if "multiply" in lowered.as_text():
            let_go.wait(60)
        return timing.Program(print, 0.0, 1, 1)

    monkeypatch.setattr(timing, "_compiled", compiled)
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 2)
    functions = {"slow": lambda x: x * 2, "fast": lambda x: x + 1}
    budget = timing.Budget(2.0, clock=lambda: 0.0)
    made = timing.compile_all(functions, (jnp.zeros(3),), budget)
    let_go.set()
    assert made["slow"] == timing.Failure("not reached", "it was not compiled in time")
    assert isinstance(made["fast"], timing.Program)


@pytest.mark.system
@pytest.mark.parametrize("name", ["splash", "flash"])
def test_the_kernels_of_jax_are_called_rightly(name):
    """Interpreted: the layouts, the scale and the causal mask are what ours are."""
    inputs = jax.random.normal(jax.random.key(0), (3, 1, 128, 2, 128))
    expected = peers.jax_attention("jaxreg")(*inputs, jax.random.key(1))
    with pltpu.force_tpu_interpret_mode():
        found = device_contenders.contenders("tpu")[name].attention(*inputs, jax.random.key(1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.system
@pytest.mark.parametrize("name", ["splash", "flash"])
@pytest.mark.parametrize("length, width", [(512, 128), (2048, 64), (16384, 128)])
def test_the_kernels_of_jax_lower_for_a_tpu(name, length, width):
    run = peers.forward_and_backward(device_contenders.contenders("tpu")[name].attention)
    x = jax.ShapeDtypeStruct((4, length, 8, width), "bfloat16")
    key = jax.eval_shape(lambda: jax.random.key(0))
    exported = jax.export.export(jax.jit(run), platforms=["tpu"])(x, x, x, x, key)
    assert "tpu_custom_call" in exported.mlir_module()


# --- time ---


def test_rounds_are_taken_in_turns_and_one_that_fails_has_no_figure():
    asked = []

    def run(name, fails=False):
        def once():
            asked.append(name)
            if fails and asked.count(name) == 2:
                raise RuntimeError("out of memory")
            return float(len(asked))

        return once

    runs = {"a": run("a"), "b": run("b", fails=True), "c": run("c")}
    found = timing.take_rounds(runs, 3, timing.Budget(1e9))
    assert asked == ["a", "b", "c", "a", "b", "c", "a", "c"]
    assert found["a"] == [1.0, 4.0, 7.0] and found["c"] == [3.0, 6.0, 8.0]
    assert found["b"] == timing.Failure("error", "RuntimeError: out of memory")


def test_a_round_that_the_time_cut_counts_for_nobody():
    now = [0.0]

    def run():
        now[0] += 1
        return now[0]

    budget = timing.Budget(4.5, clock=lambda: now[0])
    found = timing.take_rounds({"a": run, "b": run, "c": run}, 9, budget)
    assert found == {"a": [1.0], "b": [2.0], "c": [3.0]}
    failure = timing.too_long(1.0, timing.Budget(2.0, clock=lambda: 0.0))
    assert failure.kind == "not reached" and timing.too_long(1.0, timing.Budget(10.0)) is None


def test_what_does_not_fit_is_not_run(monkeypatch):
    ran = []
    program = timing.Program(lambda: ran.append(1), 0.1, 7, 2 * 10**9)
    monkeypatch.setattr(timing, "free_bytes", lambda device: 10**9)
    options = {"device": None, "rounds": 2, "budget": timing.Budget(1e9), "shortest": 0.0}
    failure = timing.warmed(program, (), **options)
    assert failure == timing.Failure("error", "needs 2.0 GB, 1.0 GB are free") and not ran
    fits = timing.warmed(program._replace(new_bytes=None), (), **options)
    assert fits.calls == 1 and fits.sample() > 0 and len(ran) == 3
    assert timing.warmed(failure, (), **options) is failure


def test_a_device_says_its_free_memory_or_nothing():
    assert timing.free_bytes(jax.devices("cpu")[0]) > 2**20

    def gpu(stats):
        return types.SimpleNamespace(platform="gpu", memory_stats=lambda: stats)

    assert timing.free_bytes(gpu({"bytes_limit": 10, "bytes_in_use": 3})) == 7
    assert timing.free_bytes(gpu(None)) is None and timing.free_bytes(gpu({})) is None


def test_a_length_is_not_tried_where_a_smaller_one_took_too_long():
    page = quick_page()
    page.share = timing.Budget(100.0, clock=lambda: 0.0)
    row = {"contender": "flax", "length": 512, "status": "measured"}
    page.found["attention"] = [row | {"seconds": [0.5, 1.0, 9.0]}]
    passes = device_speed.QUICK.rounds + 2
    assert passes * 1.0 * 4 <= timing.SHARE * 100 < passes * 1.0 * 64
    assert device_speed.expected_to_fit(page, "flax", "bfloat16", 1024, 8)
    assert not device_speed.expected_to_fit(page, "flax", "bfloat16", 4096, 8)
    assert device_speed.expected_to_fit(page, "jaxreg", "bfloat16", 4096, 8)


def test_without_time_no_training_begins():
    page = quick_page()
    page.share = timing.Budget(0.0)
    device_speed.train(page, "tiny", device_speed.TINY, 2, 2)
    device_speed.train_members(page)
    rows = page.found["training"] + page.found["members"]
    assert len(rows) == 4 + 2 and {row["status"] for row in rows} == {"not reached"}


# --- what was promised, and what may be said ---


def measured(contender, length, seconds, width=128, megabytes=1.0):
    """A row of attention."""
    return {
        "contender": contender,
        "dtype": "bfloat16",
        "length": length,
        "width": width,
        "status": "measured",
        "seconds": seconds,
        "temporary_bytes": int(1e6 * megabytes),
    }


def test_the_promises_of_each_platform_are_rows_with_kept_yes_or_no():
    rows = [
        measured("jaxreg_dropout", 2048, [1.0, 1.2, 9.0]),
        measured("jax_cudnn", 2048, [1.0, 1.0, 1.0]),
        measured("flax_dropout", 2048, [4.0, 4.0, 4.0]),
        measured("jaxreg_dropout", 8192, [1.4, 1.4, 1.4]),
        measured("jax_cudnn", 8192, [1.0, 1.0, 1.0]),
        measured("jaxreg", 2048, [1.0, 1.0, 1.0]),
        measured("splash", 2048, [0.9, 0.9, 0.9]),
        measured("jaxreg_bits2_dropout", 2048, [1.3, 1.3, 1.2]),
        measured("jaxreg_dropout", 2048, [1.0], width=64, megabytes=15.0),
        {"contender": "flax_dropout", "length": 8192, "status": "error", "said": "no memory"},
    ]
    table = device_speed.promised({"platform": "cuda", "attention": rows})
    kept = {(row["what"], row["length"]): (row["kept"], row["value"]) for row in table}
    assert kept == {
        ("time against cuDNN, without dropout", 2048): (True, 1.2),
        ("time against Flax, dropout", 2048): (False, pytest.approx(0.3)),
        ("time against cuDNN, without dropout", 8192): (False, pytest.approx(1.4)),
    }
    assert "**not kept**" in attention_speed.markdown(table)
    table = device_speed.promised({"platform": "tpu", "attention": rows})
    kept = {(row["what"], row["length"]): row["kept"] for row in table}
    assert kept == {
        ("time with / without dropout", 2048): True,
        ("with / without dropout, bits 2", 2048): False,
        ("without dropout, against splash", 2048): False,
        ("temporary memory, MB, K = 64", 2048): True,
    }
    assert device_speed.promised({"platform": "cpu", "attention": rows}) == []


def test_the_readme_says_compiled_for_never_run_on_until_a_result_exists():
    readme, never = README.read_text(), "compiled for, never run on"
    states = {name: device_speed.state(name) for name in device_speed.ACCELERATORS}
    idle = [name for name, state in states.items() if state == never]
    sentence = f"{', '.join(idle)}: {never}."
    assert (sentence in readme) == bool(idle)
    assert readme.count(never) == min(1, len(idle))
    for path in device_speed.RESULTS.glob("*.json"):
        found = json.loads(path.read_text())
        assert found["accelerator"] and found["correct"] and path.with_suffix(".png").exists()
        assert not any("check" in name for name in found["not_reached"])
        assert found["table"] == device_speed.promised(found)
        assert attention_speed.markdown(found["table"]) in readme and found["machine"] in readme


def test_the_page_of_accelerators_says_of_each_what_is_so():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", DOCS.read_text(), re.M)
    said = {name.strip(): state.strip() for name, state in rows}
    for name in device_speed.ACCELERATORS:
        assert said[name] == device_speed.state(name)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("TPU v5 lite", "TPU v5e"),
        ("TPU v5", "TPU v5p"),
        ("TPU v6 lite", "TPU v6e"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100"),
        ("NVIDIA H200", None),
        ("cpu", None),
    ],
)
def test_a_result_speaks_for_the_accelerator_it_ran_on(tmp_path, kind, name):
    for is_accelerator in (False, True):
        path = tmp_path / device_speed.default_output(kind).name
        path.write_text(json.dumps({"device": kind, "accelerator": is_accelerator}))
        states = {each: device_speed.state(each, tmp_path) for each in device_speed.ACCELERATORS}
        ran = {each for each, state in states.items() if state != device_speed.NOT_RUN}
        assert ran == ({name} - {None} if is_accelerator else set())


@pytest.mark.parametrize(
    "given, used", [(None, None), ("", ""), ("cpu", "cpu"), ("cuda", "cuda,cpu"), ("tpu,cpu",) * 2]
)
def test_the_cpu_is_there_to_be_compared_with(given, used):
    assert device_speed.with_cpu(given) == used


def test_a_share_of_products_counts_the_width():
    assert peers.flops(2, width=128) == 2 * peers.flops(2) and math.isfinite(peers.flops(2))
