"""M7: which of the dropped connections can matter to the verb at all."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that tests decide."""
    return Claim(
        id="M7",
        quote="Step 1: cat->sat dropped ... Step 2 ... Step 3",
        hypothesis=(
            "With one layer, a connection outside the verb's own row cannot change the verb's"
            " answer, exactly; from two layers on it can. So of the essay's three steps those that"
            " drop another word's connection matter only with two layers or more."
        ),
        refuted_if="one layer's answer changes when another word's connection is cut",
        tests=(
            "tests/study/claims/test_m7.py::test_with_one_layer_only_the_verb_s_own_row_matters",
            "tests/study/claims/test_m7.py::test_with_two_layers_another_word_s_connection_matters",
        ),
    )
