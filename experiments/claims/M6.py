"""M6: the two matrices, before and after dropping."""

from jaxreg.study.claims.claim import Claim


def get_claim() -> Claim:
    """Returns a claim that tests decide."""
    return Claim(
        id="M6",
        quote="Each 0 represents a dropped connection",
        hypothesis=(
            "A mask takes the matrix before to the matrix after: kept weights over the keep"
            " probability, dropped ones 0. The words 'each 0' fail in the essay's own second"
            " matrix: of its 8 zeros 5 were dropped, 3 were 0.0 before. So every picture here draws"
            " dropped and tiny differently. The example attends forwards ('The' to 'cat'), so it is"
            " an encoder."
        ),
        refuted_if=(
            "a shown matrix is not the one before, times its mask, over the keep probability; or a"
            " tiny weight is drawn as dropped"
        ),
        tests=(
            "tests/study/test_real_run.py::test_inspect_shows_both_matrices_for_any_sentence",
            "tests/study/report/test_page_in_chromium.py::test_dropped_and_tiny_cells_differ",
            "tests/study/report/test_page_in_chromium.py::test_slider_shows_the_mask_of_each_step",
        ),
    )
