"""How much of a person's text a draw of TOKENS uses, and whether it has windows of that length."""

from jaxreg.data.tokens.corpus import SIDES, corpus_of
from jaxreg.data.tokens.source import Settings, deal
from jaxreg.data.tokens.windows import Stream


def used(settings: Settings) -> str:
    """One line: how many windows are drawn of each split, and of how many tokens they are.

    Raises:
      ValueError: the files cannot be read; one line for each mistake.
    """
    wanted = {"train": settings.num_train, "validation": settings.num_eval}
    sizes, length = _sizes(settings), settings.length
    parts = [
        f"{side} {wanted[side]:,} windows x {length:,} = {wanted[side] * length:,} of"
        f" {sizes[side]:,} ({_percent(wanted[side] * length / sizes[side])})"
        for side in SIDES
    ]
    return f"tokens that are used: {'; '.join(parts)}; more by data.num_train, data.num_eval"


def _percent(share: float) -> str:
    """ "100%", "26%", "2.6%"."""
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def too_long(settings: Settings) -> str | None:
    """One line where a split has no window of this length; None where both have.

    Raises:
      ValueError: the files cannot be read; one line for each mistake.
    """
    sizes, needed = _sizes(settings), settings.length + 1
    short = [side for side in SIDES if sizes[side] < needed]
    if not short:
        return None
    have = ", ".join(f"those of {side} have {sizes[side]}" for side in short)
    return (
        f"data.length is {settings.length}; a window takes {needed} tokens of the documents of a"
        f" split: {have}"
    )


def _sizes(settings: Settings) -> dict[str, int]:
    """The tokens of the documents of each split."""
    corpus = corpus_of(settings)
    dealt = deal(corpus, settings)
    return {side: len(Stream(corpus.readers, dealt[side])) for side in SIDES}
