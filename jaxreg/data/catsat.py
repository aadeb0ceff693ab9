"""CATSAT: verb number in sentences of the cat-sat kind.

A sentence has its verb as a bare stem, and the model chooses the verb's form there: "the cat SIT on the mat" -> sits.
The noun always tells the number, an informative determiner (a, this, these, two) does too: two redundant cues. Noun i
is trained with `verbs_per_noun` of the 12 verbs; the primary view, recombination, has the other pairs. The words are in
`lexicon.py`, the frames in `grammar.py`, the splits in `splits.py`, the files in `builder.py`.

The cuts are views of recombination, on the rows whose subject has an informative determiner. A view without any row is
left out: the neutral ones at neutral_rate 0, the informative ones and the cuts at neutral_rate 1.
"""

import dataclasses
import os

import numpy as np

from jaxreg.data import grammar, lexicon
from jaxreg.data.dataset import Dataset, View
from jaxreg.data.splits import CUE_NAMES, SPLITS, TAG_NAMES, Settings, check_leaks

VIEWS = (
    View("train", "training sentences", "train"),
    View("validation", "new sentences, trained pairs", "validation"),
    View("recombination", "unseen pairs", "recombination"),
    View("recombination_neutral", "unseen pairs, only the noun tells", "recombination", subset="neutral"),
    View("template", "unseen frames", "template"),
    View("template_two_adjectives", "unseen frame: a big red cat SIT", "template", subset="template:two_adjectives"),
    View("template_adjective_adverb", "unseen frame: a big cat often SIT", "template",
         subset="template:adjective_adverb"),
    View("template_adverb_object", "unseen frame: a cat often SIT on the mat", "template",
         subset="template:adverb_object"),
    View("attractor", "nearer noun of the other number", "attractor"),
    View("attractor_congruent", "nearer noun of the same number", "attractor_congruent"),
    View("fronted", "a phrase in front, its noun of the other number", "fronted"),
    View("novel_word", "novel word, the determiner tells", "novel_word", fresh=True),
    View("novel_word_neutral", "novel word, nothing tells", "novel_word_neutral", fresh=True),
    View("informative", "unseen pairs, noun and determiner tell", "recombination", subset="informative"),
    View("noun_cut", "unseen pairs, verb cut from noun", "recombination", ("noun",), "informative"),
    View("determiner_cut", "unseen pairs, verb cut from determiner", "recombination", ("determiner",), "informative"),
    View("both_cut", "unseen pairs, verb cut from both", "recombination", ("noun", "determiner"), "informative"),
    # No adjective, adverb or object is there that could carry the number round in two hops: anything but chance is a leak.
    View("both_cut_plain", "verb cut from both, and no other word", "recombination", ("noun", "determiner"),
         "template:plain"),
)
VIEW_NAMES = tuple(view.name for view in VIEWS)
__all__ = ["SPLITS", "VIEWS", "VIEW_NAMES", "Settings", "load"]


def load(*, seed: int, cache_dir: str | os.PathLike, verbs_per_noun: int = 4, neutral_rate: float | int = 0.3,
         num_train: int = 256, num_eval: int = 512, max_offset: int = 3, length: int = 12,
         disambiguating_rate: float | int = 0.0) -> Dataset:
    """CATSAT as one seed draws it: from the files in `cache_dir`, which are made first where they are missing.

    Args:
      seed: draws the pairs and every split.
      cache_dir: a local folder; several processes may use it at once.
      verbs_per_noun, neutral_rate, num_train, num_eval, max_offset, length, disambiguating_rate: see `Settings`.

    Raises:
      ValueError: impossible settings, one line each, naming the field; or a `cache_dir` that is not local.
      LeakError: a sentence in two splits, or something held out in training.

    Randomness: NumPy's Philox, keyed by (seed, name of the split).
    """
    settings = Settings(seed=seed, verbs_per_noun=verbs_per_noun, neutral_rate=neutral_rate, num_train=num_train,
                        num_eval=num_eval, max_offset=max_offset, length=length,
                        disambiguating_rate=disambiguating_rate)
    from jaxreg.data import builder  # only here: importing tensorflow_datasets takes half a second

    splits = builder.load(settings, cache_dir)
    dataset = Dataset(
        name="catsat", seed=seed, splits=splits, views=VIEWS, tokens=lexicon.TOKENS, outputs=lexicon.OUTPUTS,
        templates=grammar.TEMPLATES, cue_names=CUE_NAMES, tag_names=TAG_NAMES, fresh_tokens=grammar.NONCE_IDS,
        fresh_like=grammar.NOUN_IDS.ravel(), content_hash=settings.content_hash())
    dataset.check_disjoint()
    check_leaks(splits, settings)
    return _without_empty_views(dataset)


def _without_empty_views(dataset: Dataset) -> Dataset:
    kept = tuple(view for view in dataset.views if np.any(dataset.view_weights(view)))
    return dataclasses.replace(dataset, views=kept)
