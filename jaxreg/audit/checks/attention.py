"""Family attention: the subject's attention function, put through the conformance suite.

Sequences of 600 positions, and the check that needs them, are left out: `python -m
jaxreg.attention.conformance` runs them.
"""

from collections.abc import Callable

from jaxreg.attention.conformance import suite
from jaxreg.attention.conformance.bench import Bench as AttentionBench
from jaxreg.attention.conformance.subject import Subject as AttentionSubject
from jaxreg.audit.bench import Bench
from jaxreg.audit.check import Check, CheckFailed, NotApplicable
from jaxreg.errors import UserErrors

PARTS: dict[str, tuple[str, ...]] = {
    "attention_output": ("plain", "replay", "keep_rate", "scale", "unbiased"),
    "attention_gradient": ("backward_mask", "gradient"),
    "attention_arguments": ("arguments", "flax"),
    "attention_masks": ("masked", "empty_rows"),
    "attention_keys": ("keys",),
    "attention_transforms": ("jit", "vmap", "remat"),
    "attention_evaluation": ("deterministic", "rate_0"),
    "attention_rates": ("rate_1", "rate_nan", "rate_negative", "rate_above_1", "traced_rate"),
}
"""Check of the audit -> the checks of the suite that it stands for."""


def _bench(bench: Bench) -> AttentionBench:
    function = bench.subject.attention
    assert function is not None  # the check needs it

    def make():
        try:
            return AttentionBench(AttentionSubject(function), quick=True)
        except UserErrors as error:
            raise CheckFailed(f"`attention` is no attention function: {error}") from None

    return bench.once("attention", make)


def _run(name: str) -> Callable[[Bench], str]:
    """The check `name`: it fails where one of its parts fails, and lists those that do."""

    def run(bench: Bench) -> str:
        attention = _bench(bench)
        results = [suite.outcome(part, attention) for part in PARTS[name]]
        lines = {
            status: "; ".join(f"{r.check}: {r.detail}" for r in results if r.status == status)
            for status in ("FAILED", "ok", "not offered")
        }
        if lines["FAILED"]:
            raise CheckFailed(lines["FAILED"])
        if not lines["ok"]:
            raise NotApplicable(lines["not offered"])
        return lines["ok"]

    return run


def _check(name: str, holds: str, symptom: str, why: str, fix: str) -> Check:
    return Check(holds, symptom, why, fix, needs=("attention",), run=_run(name))


CHECKS: dict[str, Check] = {
    name: _check(name, *words)
    for name, words in {
        "attention_output": (
            "it is softmax(q k^T / sqrt K) v, times one mask of the rate asked for, scaled",
            "an effect smaller or larger than the rate explains, or worse evaluation",
            "the function in the config is not the one that is trained",
            "compare with the plain function; compare bits with the rate itself, and divide what"
            " is kept by the keep probability",
        ),
        "attention_gradient": (
            "the backward pass drops what the forward pass drops, and equals autodiff",
            "training is slow, diverges, or is worse than without dropout",
            "gradients belong to another function than the loss",
            "draw the same bits in both passes: same key, same numbering of the tiles",
        ),
        "attention_arguments": (
            "no argument is lost in silence, and Flax's modules can pass what it needs",
            "a mask, bias or rate that is passed changes nothing",
            "Flax passes an attention_fn only the names in its signature; others are lost",
            "use the argument or leave it out of the signature; name dropout_rng, dropout_rate,"
            " deterministic and mask",
        ),
        "attention_masks": (
            "no masked key comes back, and a row without keys is finite",
            "a loss that is too good, or NaN in the gradients alone",
            "a position reads the future or padding; one empty row stops a training",
            "mask the logits with the dtype's minimum before the softmax",
        ),
        "attention_keys": (
            "one key, one mask; another key, another mask",
            "dropout regularizes less than it should",
            "the same connections are dropped at each step, or for each example",
            "take a PRNG key as an argument; number examples, heads, queries and keys apart",
        ),
        "attention_transforms": (
            "jit, vmap and remat change nothing",
            "results differ between debugging and training, or under jax.checkpoint",
            "one of the two is wrong",
            "draw from the key that is passed, not from a counter or a state of Python",
        ),
        "attention_evaluation": (
            "in evaluation, and at rate 0, nothing is dropped",
            "evaluation is noisy; a baseline with rate 0 differs from one without dropout",
            "what is measured is not the model",
            "return early where deterministic is True; rate 0 keeps everything",
        ),
        "attention_rates": (
            "a rate that is no drop probability is refused",
            "NaN in the first step; or none, where 10 stands for 10%",
            "training runs, and the rate in the config is not the one that is applied",
            "raise ValueError unless 0 <= rate < 1",
        ),
    }.items()
}
"""Name -> check."""
