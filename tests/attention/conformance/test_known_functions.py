"""What the suite finds in our functions (nothing), in Flax's and in jax.nn's (what is known), and
that the saved tables say the same.
"""

from functools import cache
from pathlib import Path

import pytest

from jaxreg.attention import by_platform, conformance
from jaxreg.attention.conformance import report, suite
from tests.helpers import flax_versions
from tests.helpers.flax_versions import LINEN, NNX, RATES
from tests.helpers.kernels import use_small_tpu_tiles

TABLES = Path(__file__).parents[3] / "experiments" / "results" / "conformance"
SAVED = {
    "jaxreg.txt": "jaxreg:attention_fn()",
    "flax_linen.txt": LINEN,
    "flax_nnx.txt": NNX,
    "jax_nn.txt": "jax.nn:dot_product_attention",
}


@cache
def found(words: str, quick: bool = True) -> dict[str, conformance.Result]:
    return {
        result.check: result for result in conformance.run(conformance.load(words), quick=quick)
    }


def having(words: str, status: str, quick: bool = True) -> set[str]:
    return {check for check, result in found(words, quick).items() if result.status == status}


@pytest.mark.system
@pytest.mark.parametrize(
    "words", ["jaxreg:attention_fn()", "jaxreg:attention_fn(implementation='blockwise')"]
)
def test_ours_passes_every_check(words):
    assert having(words, "ok") == set(suite.chosen(quick=True))


@pytest.mark.system
@pytest.mark.parametrize(
    "platform",
    [
        "gpu",
        pytest.param("tpu", marks=pytest.mark.slow(reason="test_interpreted_kernels.py has both")),
    ],
)
def test_the_kernels_interpreted_pass_every_check(platform, monkeypatch):
    use_small_tpu_tiles(monkeypatch)
    with by_platform.interpreted(platform):
        found = having("jaxreg:attention_fn(implementation='pallas')", "ok")
    assert found == set(suite.chosen(quick=True))


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "stage='logits'",
        "unit='key'",
        "unit='query'",
        "unit='head'",
        "unit='span', span_length=4",
        "share=('example', 'head')",
        "unit='key', stage='logits'",
    ],
)
def test_ours_fails_no_check_with_any_unit_and_stage(arguments, implementation):
    words = f"jaxreg:attention_fn(implementation={implementation!r}, {arguments})"
    assert having(words, "FAILED", quick=False) == set()
    missing = {"scale", "unbiased"} if "logits" in arguments else set()
    assert having(words, "not offered", quick=False) <= missing | {"repeats"}


@pytest.mark.slow
def test_our_own_function_lacks_only_what_it_has_no_argument_for():
    assert having("jaxreg:dot_product_attention", "FAILED", quick=False) == set()
    assert having("jaxreg:dot_product_attention", "not offered", quick=False) == {
        "flax",
        "deterministic",
    }


def test_what_is_shared_is_seen():
    words = "jaxreg:attention_fn(unit='span', span_length=4, share=('head',))"
    one = conformance.run(conformance.load(words), checks=["keys"])[0]
    assert one.status == "ok" and "shared by all heads, runs of 4 keys" in one.detail


@pytest.mark.system
@pytest.mark.parametrize("words", [LINEN, NNX])
def test_flax_takes_rates_that_are_none(words):
    assert having(words, "FAILED") == flax_versions.failed(words)
    silence = {
        "rate_1": "the output is NaN, in silence",
        "rate_nan": "nothing is dropped, in silence",
        "rate_negative": "nothing is dropped, in silence",
        "rate_above_1": "everything is dropped, in silence",
    }
    assert set(silence) == set(RATES)
    for check, said in silence.items():
        detail = found(words)[check].detail
        assert detail == said if check in flax_versions.failed(words) else "[0, 1)" in detail
    assert having(words, "not offered") == {"traced_rate"}
    assert "broadcast_dropout=True shares it by examples and heads" in found(words)["keys"].detail


def test_the_table_of_versions():
    assert (
        flax_versions.failed(LINEN, "0.12.8")
        == flax_versions.failed(LINEN, "0.12.12")
        == set(RATES)
    )
    assert flax_versions.failed(NNX, "0.12.8") == set(RATES)
    assert flax_versions.failed(NNX, "0.12.12") == flax_versions.failed(NNX, "0.13.0") == set()


@pytest.mark.system
def test_jax_nn_has_no_dropout_and_flax_would_not_say_so():
    words = "jax.nn:dot_product_attention"
    assert having(words, "FAILED") == set()
    assert having(words, "ok") == {
        "plain",
        "arguments",
        "masked",
        "empty_rows",
        "gradient",
        "jit",
        "vmap",
        "remat",
    }
    assert found(words)["keep_rate"].detail == "no argument for a dropout rate"
    assert (
        "would lose dropout_rng, dropout_rate, deterministic in silence"
        in found(words)["flax"].detail
    )


@pytest.mark.system
@pytest.mark.parametrize("file", SAVED)
def test_the_saved_table_says_what_is_found_today(file):
    text, words = (TABLES / file).read_text(encoding="utf-8"), SAVED[file]
    saved = report.statuses(text)
    assert list(saved) == list(conformance.CHECKS)
    if words.startswith("flax."):
        saved = flax_versions.at(words, text.split()[-1], saved)
    assert {check: saved[check] for check in suite.chosen(quick=True)} == {
        check: result.status for check, result in found(SAVED[file]).items()
    }


@pytest.mark.parametrize("file", SAVED)
def test_a_saved_table_is_plain_text_without_times(file):
    lines = (TABLES / file).read_text(encoding="utf-8").splitlines()
    assert lines[0] == SAVED[file] and not any(
        "\x1b" in line or line != line.rstrip() for line in lines
    )
    assert max(map(len, lines)) <= report.WIDTH and " s" not in lines[-2][-4:]
