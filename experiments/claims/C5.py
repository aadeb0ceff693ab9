"""C5: dropout as an ensemble.

Command:  jaxreg claims C5 --workdir=runs/ledger
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import rng
from jaxreg.probe.ensemble import mask_ensemble
from jaxreg.probe.forward import query_logits
from jaxreg.study.claims.candidates import ATTENTION, LEARNING
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Question
from jaxreg.study.claims.measures import NATS, Probe, probed, probed_copies


def _masks(model, params, batch, seed, num_masks: int):
    """Evaluation mode minus the mean over masks: accuracy, and loss."""
    found = mask_ensemble(model, params, batch, rng.seed_key(seed, "second"), num_masks)
    both = (found.evaluation, found.mean_probability)
    return {"accuracy": both[0].accuracy - both[1].accuracy, "loss": both[0].loss - both[1].loss}


def _votes(model, params, batch, seed):
    """Each sentence's probability of the right form and of the wrong one."""
    chosen = jax.nn.softmax(query_logits(model, params, batch))

    def pick(index):
        return jnp.take_along_axis(chosen, index[:, None], axis=1)[:, 0]

    return {"right": pick(batch["label"]), "wrong": pick(batch["foil"])}


def _gain(votes) -> float:
    """Accuracy of the mean vote minus the mean accuracy of the voters."""
    right, wrong = (np.stack([vote[name] for vote in votes]) for name in ("right", "wrong"))

    def hits(a, b):
        return np.mean((a > b) + 0.5 * (a == b))

    return float(hits(right.mean(0), wrong.mean(0)) - hits(right, wrong))


MASKS = Probe("mask ensemble", _masks, rows=512, settings={"num_masks": 32})
VOTES = Probe("votes", _votes, rows=512)


def get_claim() -> Claim:
    """Returns two questions: evaluation mode against 32 masks, and what a true ensemble adds on top
    of dropout.
    """
    ensemble = probed_copies(
        "what an ensemble of 5 adds, unseen pairs", VOTES, _gain, is_difference=True
    )
    masks = probed(
        "accuracy, evaluation mode minus 32 masks",
        MASKS,
        lambda found: found["accuracy"],
        is_difference=True,
    )
    return Claim(
        id="C5",
        quote="Ensemble Effect",
        hypothesis=(
            "Evaluation mode is as good as the mean over 32 masks, within a point; and a true"
            " ensemble of 5 gains less on top of dropout, by 2 points or more. (That the loss of"
            " the mean is at most the mean of the losses is Jensen's inequality, no test.)"
        ),
        refuted_if=(
            "either fails: a point apart, or the true ensemble gains as much with dropout as"
            " without"
        ),
        published=(
            "Srivastava et al. 2014, section 7.5: on MNIST the mean over about 50 masks is as good"
            " as scaling the weights. Gal & Ghahramani 2016 read the mean over masks as a Bayesian"
            " average. Both are about fully connected layers."
        ),
        prediction=(
            "The first holds, evaluation mode ahead by less than half a point: attention dropout"
            " perturbs little at test time. The second too: five separately trained models gain"
            " about 5 points without dropout and 2 with it."
        ),
        regime="over-fitted",
        arms={
            "none": ClaimArm("no regularizer", tune=LEARNING),
            "dropout": ClaimArm("attention dropout", tune=ATTENTION),
            "none, 5 copies": ClaimArm("no regularizer, 5 on the same data", like="none", copies=5),
            "dropout, 5 copies": ClaimArm(
                "attention dropout, 5 on the same data", like="dropout", copies=5
            ),
        },
        questions=(
            Question(
                "evaluation mode is the mean over masks",
                {"dropout": 1},
                masks,
                margin=0.01,
                predict=0.4,
                kind="equivalence",
            ),
            Question(
                "a true ensemble adds less",
                {"dropout, 5 copies": 1, "none, 5 copies": -1},
                ensemble,
                margin=0.02,
                predict=-3,
                direction=-1,
            ),
        ),
        secondary=(
            probed(
                "loss, evaluation mode minus 32 masks",
                MASKS,
                lambda found: found["loss"],
                **NATS,
                is_difference=True,
            ),
            Effect("what an ensemble adds without dropout", {"none, 5 copies": 1}, ensemble),
            Effect("what an ensemble adds with dropout", {"dropout, 5 copies": 1}, ensemble),
        ),
        scope="CATSAT only; attention dropout",
        reading=(
            "The ensemble adds less in points because fewer errors are left: it removes 35.3%"
            " of the errors with dropout and 35.3% without. In shares of errors nothing is"
            " added less."
        ),
    )
