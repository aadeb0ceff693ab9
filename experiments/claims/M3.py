"""M3: at inference all connections are active, and scaled."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that tests decide."""
    return Claim(
        id="M3",
        quote="During Inference: All connections are active ... scaled appropriately",
        hypothesis=(
            "The mean over masks is the matrix without dropout, and evaluation does not depend on"
            " the rate. The essay's dropped rows sum to .8, .7, .4, .8, .8: it scales at inference;"
            " inverted dropout, which scales while training, is the same up to that factor."
        ),
        refuted_if=(
            "the mean over masks differs from the matrix without dropout, or the rate changes an"
            " evaluation"
        ),
        published=(
            "Srivastava et al. 2014, section 10: scaling at test time and scaling the kept units"
            " while training are equivalent."
        ),
        tests=(
            "tests/attention/test_mechanism.py::test_m3_the_mean_over_masks_is_the_matrix_without_dropout",
            "tests/attention/test_masks.py::test_threshold_and_scale_are_exact_inverses",
            "tests/nn/test_dropout_sites.py::test_evaluation_needs_no_key_and_equals_a_model_without_sites",
        ),
    )
