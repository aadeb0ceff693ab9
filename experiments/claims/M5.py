"""M5: how often a connection is completely severed."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that tests decide."""
    return Claim(
        id="M5",
        quote="Connection completely severed (journey -> Your, 0.65 -> 0.00)",
        hypothesis=(
            "With H heads, all of them lose one given connection with probability rate to the power"
            " H under independent masks, and with probability rate under a mask that heads share."
            " So with several heads the essay's picture is rare: at rate .1 with 4 heads, one step"
            " in 10,000."
        ),
        refuted_if=(
            "the share of steps in which all heads lose the connection leaves its binomial interval"
        ),
        tests=(
            "tests/attention/test_mechanism.py::test_m5_an_edge_is_lost_in_all_heads_as_often_as_rate_to_the_number_of_heads",
        ),
    )
