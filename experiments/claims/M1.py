"""M1: single connections are dropped, one by one."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that tests decide."""
    return Claim(
        id="M1",
        quote="Individual attention connections (not entire tokens)",
        hypothesis=(
            "Masks are independent over example, head, query and key; a whole column vanishes as"
            " often as rate to the power of the number of queries, and no more. Flax's default, one"
            " mask for all examples and heads, fails this."
        ),
        refuted_if=(
            "neighbours along any of the four axes agree more often than independent draws do"
        ),
        tests=(
            "tests/attention/test_mechanism.py::test_m1_single_connections_are_dropped_one_by_one",
            "tests/attention/test_mechanism.py::test_m1_fails_for_flax_s_default_of_one_mask_for_all_examples_and_heads",
            "tests/attention/test_randomness.py::test_neighbours_are_independent",
        ),
    )
