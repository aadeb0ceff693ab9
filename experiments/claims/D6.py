"""D6: weight decay against dropout, and AdamW against Adam with L2.

Looked at before, on seeds 44 to 47, CATSAT at the base learning rate: decay .1 to 3, L2 .0001 to .03, dropout .1 and .3, two mixtures. On unseen
pairs decay 3 had 92%, L2 .03 90%, dropout .3 86%, none 73%. The scale of L2's candidates was chosen after that. MODN was not looked at.

Command:  jaxreg claims D6 --workdir=runs/ledger
"""

from jaxreg.study.claims.candidates import ATTENTION, LEARNING, with_learning_rate
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy, gap, loss

DECAY, DROPOUT = "optim.weight_decay", "model.attention_dropout_rate"
MODN = "../../configs/modn.py"


def get_claim() -> Claim:
    """Returns two questions, each on unseen pairs; three arms on modular arithmetic stand beside them, without a verdict."""
    pairs, sums = accuracy("recombination"), accuracy("validation")
    return Claim(
        id="D6",
        quote="Weight Decay ... more principled ... works well with AdamW",
        hypothesis=(
            "At tuned strengths weight decay is no worse than attention dropout on unseen pairs, by 5 points; and decay in AdamW no worse "
            "than an L2 penalty through Adam, by 5 points."
        ),
        refuted_if="either is worse by 5 points; a significant loss that may be smaller is no refutation",
        published=(
            "Loshchilov & Hutter 2019: decoupled decay (AdamW) generalizes better than L2 through Adam on image classification, and its "
            "best value depends less on the learning rate. Power et al. 2022: on modular arithmetic weight decay helps most of what they "
            "tried."
        ),
        prediction=(
            "Decay is ahead of dropout by about 5 points, and together they add little to it. AdamW is ahead of L2 by about 2. On MODN "
            "decay finds the rule and dropout does not: 60 points or more."
        ),
        regime="over-fitted",
        arms={
            "none": ClaimArm("no regularizer", tune=LEARNING),
            "dropout": ClaimArm("attention dropout", tune=ATTENTION),
            "decay": ClaimArm("weight decay (AdamW)", tune=with_learning_rate(DECAY, 1.0, 3.0)),
            "both": ClaimArm("weight decay and attention dropout", tune=with_learning_rate((DECAY, DROPOUT), (1.0, 0.3), (3.0, 0.3))),
            "l2": ClaimArm("Adam with L2", {"optim.optimizer": "adam_l2"}, tune=with_learning_rate(DECAY, 1e-2, 3e-2)),
            "more_verbs": ClaimArm("11 verbs per noun", like="none", setting={"data.verbs_per_noun": 11}, kind="control"),
            "modn, none": ClaimArm("MODN, no regularizer", tune=LEARNING, config=MODN),
            "modn, dropout": ClaimArm("MODN, attention dropout", tune=with_learning_rate(DROPOUT, 0.2, 0.5), config=MODN),
            "modn, decay": ClaimArm("MODN, weight decay", tune=with_learning_rate(DECAY, 1.0, 3.0), config=MODN),
        },
        questions=(
            Question("decay no worse than dropout", {"decay": 1, "dropout": -1}, pairs, margin=0.05, predict=5, kind="non-inferiority"),
            Question("AdamW no worse than L2", {"decay": 1, "l2": -1}, pairs, margin=0.05, predict=2, kind="non-inferiority"),
        ),
        secondary=(
            Effect("decay against none", {"decay": 1, "none": -1}, pairs), Effect("L2 against none", {"l2": 1, "none": -1}, pairs),
            Effect("both against dropout alone", {"both": 1, "dropout": -1}, pairs),
            Effect("both against decay alone", {"both": 1, "decay": -1}, pairs),
            accuracy("validation"), accuracy("template"), accuracy("novel_word"), loss("validation"), gap("train", "validation"),
            Effect("MODN, held-out pairs, decay against dropout", {"modn, decay": 1, "modn, dropout": -1}, sums),
            Effect("MODN, held-out pairs, decay against none", {"modn, decay": 1, "modn, none": -1}, sums),
            Effect("MODN, held-out pairs, dropout against none", {"modn, dropout": 1, "modn, none": -1}, sums),
        ),
        preconditions=(
            Precondition("the baseline fits its training sentences", "none", accuracy("train"), at_least=0.99),
            Precondition("the baseline over-fits", "none", accuracy("validation"), below=0.95),
        ),
        # At seeds 100 to 111 more verbs per noun gained 5.7 points: 2 must be found.
        controls=(Question("more verbs per noun", {"more_verbs": 1, "none": -1}, pairs, margin=0.02, predict=6),),
        scope="CATSAT (judged), MODN (beside it); every arm tunes its learning rate, together with its strengths where it has any",
    )
