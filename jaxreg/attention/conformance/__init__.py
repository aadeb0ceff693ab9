"""A conformance suite for attention functions, of jaxreg or any other package.

    python -m jaxreg.attention.conformance flax.linen:dot_product_attention
    python -m jaxreg.attention.conformance "jaxreg:attention_fn(unit='key')" --quick
        --output table.txt

It takes the function as a black box. Attention is linear in the values, so with the identity matrix
as values its output is the weights it applied, dropout included; from those the mask is recovered,
and everything else is compared with it: both passes, the keep rate, the mean, masks, jit, vmap and
remat. Arguments that are ignored are found, too. The tables of the functions of jaxreg, Flax and
jax.nn are in experiments/results/conformance/.

In tests:

    from jaxreg.attention import conformance

    def test_my_attention():
        failed = [result for result in conformance.run(my_attention) if result.status == "FAILED"]
        assert not failed
"""

from jaxreg.attention.conformance.result import Result
from jaxreg.attention.conformance.suite import CHECKS, run
from jaxreg.attention.conformance.target import load

__all__ = ["CHECKS", "Result", "load", "run"]
