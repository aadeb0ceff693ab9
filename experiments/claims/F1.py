"""F1: what released models did."""

from jaxreg.study.claims.claim import Claim, Finding


def get_claim() -> Claim:
    """Returns a claim that documents decide."""
    return Claim(
        id="F1",
        quote="GPT, BERT, T5 use minimal or no dropout ... only in specific places",
        hypothesis="Released configurations and papers say so.",
        refuted_if=(
            "they used more than the .1 that the essay itself calls light, or used it everywhere"
        ),
        findings=(
            Finding(
                "minimal or no dropout",
                "supported",
                "BERT (Devlin et al. 2019, released configs): hidden and attention dropout .1."
                " GPT-2 (released Hugging Face config): residual, embedding and attention dropout"
                " .1. T5 (Raffel et al. 2020): .1. T5.1.1 was pre-trained without dropout; LLaMA's"
                " released config has attention dropout 0. By the essay's own yardstick, .1, that"
                " is minimal.",
            ),
            Finding(
                "only in specific places",
                "refuted",
                "BERT and GPT-2 drop on embeddings, on attention weights and on what every sublayer"
                " adds; T5 wherever it can: feed-forward, skip connections, attention weights, and"
                " input and output of the stack (Raffel et al. 2020, section 3.1). That is"
                " everywhere, not specific places.",
            ),
        ),
    )
