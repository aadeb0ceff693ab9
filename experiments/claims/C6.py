"""C6: contextual backup.

Looked at before. CATSAT on seeds 70 to 74: strongest head out +0.1 points (SD 4.0 over seeds),
norms frozen +0.7 (4.0), strongest connection out +1.2 (1.6). AGREE on the same: -0.1 (2.7), 0.0
(2.3), +3.4 (2.1). At CATSAT's learning rate, 3e-3, half of AGREE's baselines never reached 85%: it
is 1e-2 there. On CATSAT evaluations every ten steps overshot, to 88% on average: they are every
five.

Command:  jaxreg claims C6 --workdir=runs/ledger
"""

from jaxreg.probe.knockout import Removal, costliest, head_knockouts, strongest_knockout
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import Measure, Probe, accuracy, probed, trained_steps

RATE, MATCHED = 0.3, 0.85
DROPOUT = {"model.attention_dropout_rate": RATE}
SHARED = DROPOUT | {"model.attention_dropout_share": ("head",)}
CONFIGS = {"CATSAT": "", "AGREE": "../../configs/agree.py"}
# With 256 sentences, or at AGREE's usual learning rate, too few baselines ever reach 85%.
SETTINGS = {
    "CATSAT": {"data.num_train": 512, "eval.every_steps": 5},
    "AGREE": {"optim.learning_rate": 1e-2, "eval.every_steps": 10},
}


def _knockouts(model, params, batch, seed):
    """Accuracy without the strongest head, and without the strongest connection of the query; norms
    as they are, and frozen.
    """
    found = {}
    for name, removal in (("free", Removal()), ("frozen", Removal(frozen_norms=True))):
        found[f"head, {name}"] = costliest(head_knockouts(model, params, batch, removal)).accuracy
        found[f"connection, {name}"] = strongest_knockout(
            model, params, batch, removal, per="model", query_only=True
        ).accuracy
    return found


def _left(what: str, norms: str = "free") -> Measure:
    """Accuracy on validation sentences without the strongest head or connection."""
    title = (
        f"accuracy, validation, strongest {what} out{', norms frozen' if norms == 'frozen' else ''}"
    )
    probe = Probe("knock-outs", _knockouts, view="validation", rows=512)
    return probed(title, probe, lambda found: found[f"{what}, {norms}"], lost=0.5)


def _arms(data: str) -> dict[str, ClaimArm]:
    """All stop at the first evaluation with 85% on validation, so that they are compared at equal
    accuracy.
    """
    place = {"config": CONFIGS[data], "setting": SETTINGS[data] | {"stopping.at_accuracy": MATCHED}}
    return {
        f"none, {data}": ClaimArm(f"no regularizer, {data}", **place),
        f"dropout, {data}": ClaimArm(f"attention dropout, {data}", DROPOUT, **place),
        f"shared, {data}": ClaimArm(
            f"attention dropout, one mask for all heads, {data}", SHARED, **place
        ),
    }


def _gain(arm: str, data: str) -> dict[str, int]:
    return {f"{arm}, {data}": 1, f"none, {data}": -1}


def get_claim() -> Claim:
    """Returns three questions: the strongest head knocked out on CATSAT, with norms as they are and
    frozen, and on AGREE.
    """
    arms = _arms("CATSAT") | _arms("AGREE")
    return Claim(
        id="C6",
        quote="Contextual Backup",
        hypothesis=(
            "Stopped at the same validation accuracy, 85%, a model trained with attention dropout"
            " is right 5 points more often once its strongest head is knocked out; with the"
            " statistics of all LayerNorms frozen at the clean run too."
        ),
        refuted_if="no difference, or it vanishes when LayerNorm statistics are frozen",
        published=(
            "Michel et al. 2019: most heads can be removed one at a time with little loss. McGrath"
            " et al. 2023 (the Hydra effect): later layers make up for a knocked-out one in a"
            " language model trained without dropout, so a backup needs no dropout."
        ),
        prediction=(
            "No gain in any of the three: the strongest head costs about 4 points in either arm, on"
            " CATSAT perhaps 3 more with dropout. With the strongest connection out dropout may"
            " keep 3 points more on AGREE."
        ),
        regime="matched accuracy: the first evaluation with 85% on validation",
        arms=arms,
        questions=(
            Question(
                "CATSAT: strongest head out",
                _gain("dropout", "CATSAT"),
                _left("head"),
                margin=0.05,
                predict=-3,
            ),
            Question(
                "CATSAT: the same, norms frozen",
                _gain("dropout", "CATSAT"),
                _left("head", "frozen"),
                margin=0.05,
                predict=0,
            ),
            Question(
                "AGREE: strongest head out",
                _gain("dropout", "AGREE"),
                _left("head"),
                margin=0.05,
                predict=-1,
            ),
        ),
        secondary=(
            *(
                Effect(
                    f"{data}: strongest connection out", _gain("dropout", data), _left("connection")
                )
                for data in CONFIGS
            ),
            *(
                Effect(
                    f"{data}: strongest connection out, norms frozen",
                    _gain("dropout", data),
                    _left("connection", "frozen"),
                )
                for data in CONFIGS
            ),
            Effect(
                "AGREE: strongest head out, norms frozen",
                _gain("dropout", "AGREE"),
                _left("head", "frozen"),
            ),
            *(
                Effect(
                    f"{data}: strongest head out, one mask for all heads",
                    _gain("shared", data),
                    _left("head"),
                )
                for data in CONFIGS
            ),
            *(
                Effect(
                    f"{data}: strongest connection out, one mask for all heads",
                    _gain("shared", data),
                    _left("connection"),
                )
                for data in CONFIGS
            ),
            *(
                Effect(f"{data}: nothing out", _gain("dropout", data), accuracy("validation"))
                for data in CONFIGS
            ),
            *(
                Effect(f"{data}: steps to 85%", _gain("dropout", data), trained_steps())
                for data in CONFIGS
            ),
        ),
        preconditions=tuple(
            Precondition(
                f"{name} reaches 85%, and hardly more",
                name,
                accuracy("validation"),
                at_least=MATCHED,
                below=0.92,
            )
            for name in arms
            if not name.startswith("shared")
        ),
        # At seeds 70 to 74 dropout needed 32% more steps to 85% on AGREE (SD 17).
        controls=(
            Question(
                "dropout takes longer to 85%",
                _gain("dropout", "AGREE"),
                trained_steps(),
                margin=0.05,
                predict=30,
            ),
        ),
        scope=(
            "CATSAT with 512 training sentences, and AGREE at a learning rate of 1e-2. Rate .3, not"
            " tuned: models are compared at equal accuracy, not at their best. The strongest head"
            " is the one whose removal costs most loss, found on the sentences it is judged on"
        ),
        reading=(
            "The margin, 5 points, is 86% of what the strongest head costs without dropout on"
            " CATSAT (5.8) and 99% on AGREE (5.1): only a nearly complete backup could be"
            " supported. The essay speaks of connections: without its strongest connection the"
            " model of AGREE is better with dropout by 5.2 points [3.3, 7.1], CATSAT's by 1.8"
            " [0.2, 3.4]; these were secondary, without a verdict."
        ),
    )
