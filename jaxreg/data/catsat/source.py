"""CATSAT: verb number in sentences of the cat-sat kind.

A sentence has its verb as a bare stem, and the model chooses the verb's form there: "the cat SIT on
the mat" -> sits. The noun always shows the number, an informative determiner (a, this, these, two)
does too: two redundant cues. Noun i is trained with `verbs_per_noun` of the 12 verbs; the primary
view, recombination, has the other pairs. The words are in `lexicon.py`, the frames in `grammar.py`,
the splits in `splits.py`.

The cuts are views of recombination, on the rows whose subject has an informative determiner. A view
without any row is left out: the neutral ones at neutral_rate 0, the informative ones and the cuts
at neutral_rate 1.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.data.catsat import grammar, lexicon
from jaxreg.data.catsat.encode import encode
from jaxreg.data.catsat.splits import (
    CUE_NAMES,
    SPLITS,
    TAG_NAMES,
    Settings,
    check_leaks,
    draw_splits,
)
from jaxreg.data.dataset import Dataset, View
from jaxreg.data.source import Legend, Source, Variants

_UNSEEN_FRAMES = {
    "two_adjectives": "a big red cat SIT",
    "adjective_adverb": "a big cat often SIT",
    "adverb_object": "a cat often SIT on the mat",
}
_unseen_pairs = functools.partial(View, split="recombination")
_both = ("noun", "determiner")

VIEWS = (
    View("train", "training sentences", "train"),
    View("validation", "new sentences, trained pairs", "validation"),
    _unseen_pairs("recombination", "unseen pairs"),
    _unseen_pairs("recombination_neutral", "unseen pairs, only the noun tells", subset="neutral"),
    View("template", "unseen frames", "template"),
    *(
        View(f"template_{name}", f"unseen frame: {words}", "template", subset=f"template:{name}")
        for name, words in _UNSEEN_FRAMES.items()
    ),
    View("attractor", "nearer noun of the other number", "attractor"),
    View("attractor_congruent", "nearer noun of the same number", "attractor_congruent"),
    View("fronted", "a phrase in front, its noun of the other number", "fronted"),
    View("novel_word", "novel word, the determiner tells", "novel_word", fresh=True),
    View(
        "novel_word_neutral",
        "novel word, nothing tells",
        "novel_word_neutral",
        fresh=True,
        at_chance="nothing in the sentence tells the number",
    ),
    _unseen_pairs("informative", "unseen pairs, noun and determiner tell", subset="informative"),
    _unseen_pairs(
        "noun_cut", "unseen pairs, verb cut from noun", cut=("noun",), subset="informative"
    ),
    _unseen_pairs(
        "determiner_cut",
        "unseen pairs, verb cut from determiner",
        cut=("determiner",),
        subset="informative",
    ),
    _unseen_pairs("both_cut", "unseen pairs, verb cut from both", cut=_both, subset="informative"),
    # No adjective, adverb or object could pass the number on in two steps: anything above chance
    # is a leak.
    _unseen_pairs(
        "both_cut_plain",
        "verb cut from both, and no other word",
        cut=_both,
        subset="template:plain",
        at_chance="the verb is cut from the only two words beside it",
    ),
)
VIEW_NAMES = tuple(view.name for view in VIEWS)
__all__ = ["SOURCE", "SPLITS", "VIEWS", "VIEW_NAMES", "Settings", "load"]


def _legend(settings: Settings) -> Legend:
    return Legend(
        tokens=lexicon.TOKENS,
        outputs=lexicon.OUTPUTS,
        templates=grammar.TEMPLATES,
        cue_names=CUE_NAMES,
        tag_names=TAG_NAMES,
        fresh_tokens=grammar.NONCE_IDS,
        fresh_like=grammar.NOUN_IDS.ravel(),
    )


def _rewrite(dataset: Dataset, kinds: Sequence[str], num: int) -> Mapping[str, Variants]:
    from jaxreg.data.catsat.rewriting import variants  # makes its tables when it is imported

    return variants(dataset, kinds, num)


SOURCE = Source(
    name="catsat",
    what="choose the verb's form from a noun and a determiner: the cat SIT on the mat -> sits",
    settings=Settings,
    splits=SPLITS,
    views=VIEWS,
    primary="recombination",
    draw=draw_splits,
    legend=_legend,
    check=check_leaks,
    address=Settings.content_hash,
    same_shape=("verbs_per_noun", "neutral_rate", "max_offset", "disambiguating_rate"),
    encode=lambda text, length: encode(text, length=length),
    example="The cat sat on the mat",
    rewritings=("synonym", "paraphrase", "back_translation"),
    rewrite=_rewrite,
    pathways={"intact": "informative"}
    | {name: name for name in ("noun_cut", "determiner_cut", "both_cut")},
)


def load(*, seed: int, cache_dir: str | os.PathLike, **settings: Any) -> Dataset:
    """CATSAT as one seed draws it, from files in `cache_dir` that are made if missing.

    Args:
      seed: draws the pairs and every split.
      cache_dir: a local folder; several processes may use it at once.
      settings: fields of `Settings`.

    Raises:
      ValueError: impossible settings, one line each, naming the field; or a `cache_dir` that is not
        local.
      LeakError: a sentence in two splits, or something held out in training.

    Randomness: NumPy's Philox, keyed by (seed, name of the split).
    """
    return SOURCE.load(seed=seed, cache_dir=cache_dir, **settings)
