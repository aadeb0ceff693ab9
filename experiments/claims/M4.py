"""M4: training and inference do not see the same model."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that tests decide."""
    return Claim(
        id="M4",
        quote="training/inference mismatch",
        hypothesis=(
            "With dropout, the loss in training mode differs from that in evaluation mode; at rate"
            " 0 it does not. The probe measures it for any block and rate; how large it is in"
            " trained models is part of D10."
        ),
        refuted_if="the two modes agree at a rate above 0, or differ at rate 0",
        tests=(
            "tests/probe/test_ensemble.py::test_mismatch_is_train_minus_evaluation",
            "tests/probe/test_ensemble.py::test_at_rate_zero_every_mask_is_evaluation",
        ),
    )
