"""N1: words that no measurement decides."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that nothing could refute."""
    return Claim(
        id="N1",
        quote="more principled; crude; Focus Shift",
        hypothesis="None that an experiment could contradict.",
        refuted_if="nothing could",
        untestable=(
            "No measurement decides what is principled or crude. Listed, so that the ledger has"
            " every sentence."
        ),
    )
