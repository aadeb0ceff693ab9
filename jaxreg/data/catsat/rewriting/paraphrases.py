"""Paraphrase by grammar: the same words, so the same meaning, in another frame.

The frames are chosen so that none is held out (`leaks.py` checks it) or close to a held-out one: no
noun stands between the subject and its verb, and no object phrase is fronted. So the views
attractor and fronted still measure generalization.
"""

from jaxreg.data.catsat.rewriting.sentence import TEMPLATE_OF, Words, classes, meaning_of, realize

PARAPHRASES = {
    "plain": ("V D N",),  # SIT the cat
    "adjective": ("D N V A", "V D A N"),  # the cat SIT quiet, SIT the quiet cat
    "object": ("V D N P D' N'",),  # SIT the cat on the mat
    # often the cat SIT, the cat SIT often, often SIT the cat, SIT the cat often
    "adverb": ("Adv D N V", "D N V Adv", "Adv V D N", "V D N Adv"),
    "disambiguating": (),  # every other order would be like the attractor's
}
"""Training frame -> the frames with the same meaning."""


def paraphrases(words: Words) -> tuple[Words, ...]:
    """The sentences with the same meaning, in the order of `PARAPHRASES`; none for other frames.

    Only training frames have paraphrases.

    Source: Iyyer et al. 2018, arXiv:1804.06059, paraphrase into a given syntactic template.
    Differs: exact, by grammar.
    """
    frames = PARAPHRASES.get(TEMPLATE_OF.get(classes(words), ""), ())
    return tuple(realize(meaning_of(words), tuple(frame.split())) for frame in frames)
