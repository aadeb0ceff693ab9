"""C4: dropout forces redundancy.

Looked at before, on seeds 70 to 75: CATSAT with rates tuned on seed 60 alone (the worse cut 71% ->
86%, difference +15, SD 3; one mask for all heads +12, SD 4), CATSAT at rate .3, not tuned
(determiner cut 64% -> 80%, noun cut 76% -> 87%), and CUES with rates tuned on seed 60
alone: with a useless shortcut (rho .5) the worse cut goes from 89% to 99.6% (+10, SD 4.7 over
seeds), with one that is right in 4 of 5 rows from 84% to 97% (SD 14); so rho is .5. At a learning
rate of 1e-2 the baseline has 91% there.

Command:  jaxreg claims C4 --workdir=runs/ledger
"""

from jaxreg.study.claims.candidates import ATTENTION, HIGHER_ATTENTION, HIGHER_LEARNING, LEARNING
from jaxreg.study.claims.claim import Claim, ClaimArm, Control, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy, worst

CONFIGS = {"CATSAT": "", "CUES": "../../configs/cues.py"}
CHOICES = {
    "CATSAT": (LEARNING, ATTENTION),
    "CUES": (HIGHER_LEARNING, HIGHER_ATTENTION),
}  # without dropout, with it
SETTINGS = {"CATSAT": {}, "CUES": {"data.rho": 0.5}}  # no third cue beside the two
VIEWS = {
    "CATSAT": ("informative", "noun_cut", "determiner_cut", "both_cut", "both_cut_plain"),
    "CUES": ("no_shortcut", "a_cut", "b_cut", "both_cut", "a_removed", "b_removed"),
}
SHARED = {"model.attention_dropout_share": ("head",)}
ON_CATSAT, ON_CUES = ("CATSAT: noun or determiner cut",), ("CUES: one cue or the other cut",)


def _arms(data: str) -> dict[str, ClaimArm]:
    place = {"config": CONFIGS[data], "setting": SETTINGS[data]}
    return {
        f"none, {data}": ClaimArm(f"no regularizer, {data}", tune=CHOICES[data][0], **place),
        f"dropout, {data}": ClaimArm(f"attention dropout, {data}", tune=CHOICES[data][1], **place),
        f"shared, {data}": ClaimArm(
            f"attention dropout, one mask for all heads, {data}",
            SHARED,
            tune=CHOICES[data][1],
            **place,
        ),
    }


def _gain(arm: str, data: str) -> dict[str, int]:
    return {f"{arm}, {data}": 1, f"none, {data}": -1}


def get_claim() -> Claim:
    """Returns two questions: is either of two redundant cues enough, on CATSAT and on CUES?"""
    words, cues = worst("noun_cut", "determiner_cut"), worst("a_cut", "b_cut")
    return Claim(
        id="C4",
        quote="Forces Redundancy",
        hypothesis=(
            "With tuned attention dropout the worse of two cuts, one cue cut from the verb in all"
            " heads and layers, leaves an accuracy higher by 5 points. That is not the perturbation"
            " of the training, where a connection is dropped head by head and layer by layer."
        ),
        refuted_if="no rise: 5 points are excluded, or it falls",
        published=(
            "Srivastava et al. 2014: hidden units learn features that are useful by themselves, as"
            " they cannot rely on others (shown in pictures of features). Michel et al. 2019: most"
            " heads of models trained with dropout can be removed one at a time; without a"
            " comparison to models trained without it."
        ),
        prediction=(
            "It rises: by 17 points on CATSAT and by 10 on CUES. On CUES much of it is another way"
            " and not another cue: with dropout the answer is right even with both connections cut,"
            " since other words carry it."
        ),
        regime="over-fitted",
        arms=_arms("CATSAT")
        | _arms("CUES")
        | {
            "more_verbs": ClaimArm(
                "11 verbs per noun",
                like="none, CATSAT",
                setting={"data.verbs_per_noun": 11},
                kind="control",
            )
        },
        questions=(
            Question(ON_CATSAT[0], _gain("dropout", "CATSAT"), words, margin=0.05, predict=17),
            Question(ON_CUES[0], _gain("dropout", "CUES"), cues, margin=0.05, predict=10),
        ),
        secondary=(
            Effect(
                "CUES, one cue or the other not there",
                _gain("dropout", "CUES"),
                worst("a_removed", "b_removed"),
            ),
            Effect("CATSAT, one mask for all heads", _gain("shared", "CATSAT"), words),
            Effect("CUES, one mask for all heads", _gain("shared", "CUES"), cues),
            *(
                Effect(f"{data}, {view}", _gain("dropout", data), accuracy(view))
                for data in CONFIGS
                for view in VIEWS[data]
            ),
        ),
        preconditions=(
            Precondition(
                "CATSAT: the baseline fits its training sentences",
                "none, CATSAT",
                accuracy("train"),
                at_least=0.99,
                of=ON_CATSAT,
            ),
            Precondition(
                "CUES: the baseline fits its training rows",
                "none, CUES",
                accuracy("train"),
                at_least=0.98,
                of=ON_CUES,
            ),
            Precondition("CUES: there is room to rise", "none, CUES", cues, below=0.97, of=ON_CUES),
        ),
        # At seeds 80 to 83 more verbs per noun gained 11 points: 2 must be found.
        controls=(
            Control(
                "more verbs per noun",
                {"more_verbs": 1, "none, CATSAT": -1},
                accuracy("recombination"),
                margin=0.02,
                predict=10,
                of=ON_CATSAT,
            ),
        ),
        scope=(
            "CATSAT and CUES. With both cues cut the answer can still come round in two hops, over"
            " another word; sentences without one must be at chance, which is a control"
        ),
        reading=(
            "Of the 16.3 points on CATSAT 8.7 [7.1, 10.4] are there with nothing cut; 7.6 [6.0,"
            " 9.1] belong to the cut. That part alone was no question."
        ),
    )
