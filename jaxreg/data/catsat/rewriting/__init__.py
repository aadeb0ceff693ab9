"""Variants of training sentences, made before training: synonyms, paraphrases, back-translations.

    sentence       what a CATSAT sentence means, and the position of its words
    synonyms       words exchanged for others of their class
    paraphrases    the same words in another frame
    language       a second, artificial language: both directions as grammars
    leaks          the check that no variant is, or contains, something held out
    rows           variants as rows of tokens

Training may replace a sentence by one of its variants (`jaxreg.reg.augmentations`). numpy only.
"""

from jaxreg.data.catsat.rewriting.leaks import check_variants
from jaxreg.data.catsat.rewriting.rows import REWRITINGS, variants

__all__ = ["REWRITINGS", "check_variants", "variants"]
