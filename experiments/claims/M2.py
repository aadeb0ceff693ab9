"""M2: another step, another mask."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that tests decide."""
    return Claim(
        id="M2",
        quote=(
            "randomly selected each training step; different dropout patterns across training steps"
        ),
        hypothesis=(
            "Another step draws another mask, the same step the same one; the keep rate lies within"
            " its binomial interval."
        ),
        refuted_if="two steps share a mask, or the keep rate leaves its interval",
        tests=(
            "tests/attention/test_mechanism.py::test_m2_another_step_another_mask_the_same_step_the_same",
            "tests/attention/test_randomness.py::test_the_keep_rate_is_the_stated_one",
            "tests/attention/test_randomness.py::test_other_steps_sites_and_seeds_draw_independent_masks",
        ),
    )
