"""A made-up payload with realistic values, for tests of the report only.

The accuracies follow the prototype's table; every number is drawn from one fixed seed.
"""

import math
from typing import Any

import numpy as np

# name, title, diff, kind, effect on the primary view in points
ARMS = (
    ("none", "no regularizer", {}, "arm", 0.0),
    ("attention_10", "attention dropout .1", {"model.attention_dropout_rate": 0.1}, "arm", 6.2),
    ("attention_30", "attention dropout .3", {"model.attention_dropout_rate": 0.3}, "arm", 11.3),
    ("mlp_50", "MLP dropout .5", {"model.mlp_dropout_rate": 0.5}, "arm", 5.4),
    ("decay", "weight decay 1", {"optim.weight_decay": 1.0}, "arm", 8.0),
    (
        "attention_30_decay",
        "attention dropout .3 + weight decay 1",
        {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1.0},
        "arm",
        15.9,
    ),
    ("smoothing", "label smoothing .1", {"loss.label_smoothing_strength": 0.1}, "arm", -4.8),
    ("early_stopping", "early stopping", {"stopping.patience_evals": 2.0}, "arm", 0.4),
    ("aa", "no regularizer, other seeds", {}, "aa", 1.0),
    ("more_verbs", "8 verbs per noun", {"data.verbs_per_noun": 8}, "control", 17.5),
)

# name, title, the baseline's accuracy, trained, asked
VIEWS = (
    ("train", "train", 1.0, "the cat SIT on the mat -> sits", "the cat SIT on the mat -> ?"),
    ("validation", "validation", 0.84, "the cat SIT on the mat -> sits", "my cat quickly SIT -> ?"),
    ("recombination", "recombination", 0.72, "the cat SIT on the mat -> sits", "a dog SIT -> ?"),
    (
        "recombination_neutral",
        "recombination, neutral determiner",
        0.57,
        "the cat SIT on the mat -> sits",
        "the dog SIT -> ?",
    ),
    ("template", "new frames", 0.83, "a small cat SIT -> sits", "a small old cat SIT -> ?"),
    (
        "template_daanv",
        "frame D A A N V",
        0.80,
        "a small cat SIT -> sits",
        "a small old cat SIT -> ?",
    ),
    (
        "template_danadv",
        "frame D A N Adv V",
        0.85,
        "a small cat SIT -> sits",
        "a small cat quickly SIT -> ?",
    ),
    (
        "template_dnadvp",
        "frame D N Adv V P D N",
        0.84,
        "a cat quickly SIT -> sits",
        "a cat quickly SIT on the mat -> ?",
    ),
    (
        "attractor",
        "attractor",
        0.62,
        "the cat SIT on the mat -> sits",
        "the cat near the dogs SIT -> ?",
    ),
    (
        "attractor_congruent",
        "attractor, congruent",
        0.88,
        "the cat SIT on the mat -> sits",
        "the cat near the dog SIT -> ?",
    ),
    (
        "fronted",
        "fronted phrase",
        0.60,
        "the cat SIT on the mat -> sits",
        "on the mats the cat SIT -> ?",
    ),
    ("novel_word", "novel word", 0.76, "the cat SIT on the mat -> sits", "this blick SIT -> ?"),
    (
        "novel_word_neutral",
        "novel word, neutral determiner",
        0.50,
        "the cat SIT on the mat -> sits",
        "the blick SIT -> ?",
    ),
    (
        "informative",
        "informative determiner",
        0.79,
        "the cat SIT on the mat -> sits",
        "a dog SIT -> ?",
    ),
    ("noun_cut", "noun cut", 0.70, "the cat SIT on the mat -> sits", "a dog SIT -> ? (SIT ↛ dog)"),
    (
        "determiner_cut",
        "determiner cut",
        0.62,
        "the cat SIT on the mat -> sits",
        "a dog SIT -> ? (SIT ↛ a)",
    ),
    (
        "both_cut",
        "both cut",
        0.50,
        "the cat SIT on the mat -> sits",
        "a dog SIT -> ? (SIT ↛ a, dog)",
    ),
)
CURVES = ("train", "validation", "recombination")
PATHWAYS = {
    "intact": "informative",
    "noun_cut": "noun_cut",
    "determiner_cut": "determiner_cut",
    "both_cut": "both_cut",
}
CHANCE_VIEWS = ("novel_word_neutral", "both_cut")


def make_payload(
    *,
    num_seeds: int = 12,
    words: str = "the cat SIT on the mat",
    num_steps: int = 25,
    num_layers: int = 2,
    num_heads: int = 4,
) -> dict[str, Any]:
    """A complete payload; the sizes are what the page must cope with."""
    rng = np.random.default_rng(7)
    seeds = list(range(100, 100 + num_seeds))
    table = {
        name: {view[0]: _summary(_accuracies(rng, view, effect, num_seeds)) for view in VIEWS}
        for name, _, _, _, effect in ARMS
    }
    comparisons = [_comparison(arm[0], view[0], table) for arm in ARMS[1:] for view in VIEWS]
    matrices = _matrices(rng, words.split(), num_steps, num_layers, num_heads)
    return {
        "title": "cat_sat",
        "question": "Which regularizer makes a small transformer generalize from “the cat sat”"
        " to “a dog sat”?",
        "prediction": "Attention dropout .3 will gain 8 points on recombination and weight decay 6;"
        " label smoothing nothing. With the noun cut, attention dropout will lose least.",
        "command": "jaxreg compare experiments/cat_sat.py --workdir=runs/cat_sat",
        "generated_from": "results.json",
        "scope": "2 layers, width 32, 4 heads · 256 sentences, 48 of 144 noun-verb pairs ·"
        " over-fitted: batch 16 × 400 steps · 12 seeds · 2 CPU devices · rates not tuned",
        "headline": [
            "Attention dropout .3 with weight decay generalizes best to unseen pairs: +15.9 points"
            " over no regularizer (72% to 88%).",
            "Label smoothing hurts: −4.8 points. Early stopping makes no difference that matters.",
            "The essay is right when over-fitted; its literal example, one verb per noun, stays"
            " near chance.",
        ],
        "details": ["Helped: attention dropout .3 (+10.0 points)."],
        "primary": "recombination",
        "margin": 0.05,
        "alpha": 0.05,
        "baseline": "none",
        "seeds": seeds,
        "views": [{"name": v[0], "title": v[1], "trained": v[3], "asked": v[4]} for v in VIEWS],
        "uninformative": {v[0]: reason for v in VIEWS if (reason := _uninformative(v[0]))},
        "arms": [
            {"name": name, "title": title, "kind": kind, "diff": diff}
            for name, title, diff, kind, _ in ARMS
        ],
        "table": table,
        "comparisons": comparisons,
        "controls": _controls(),
        "curves": {name: _curves(rng, table[name]) for name, *_ in ARMS},
        "pathways": {
            name: {
                path: {k: table[name][view][k] for k in ("mean", "ci95")}
                for path, view in PATHWAYS.items()
            }
            for name, *_ in ARMS
        },
        "attention_mass": {name: _mass(rng, effect, num_seeds) for name, _, _, _, effect in ARMS},
        "matrices": matrices,
        "edges": _edges(rng, matrices),
        "flipped": {name: _flipped(rng, seeds) for name, *_ in ARMS[1:]},
        "predictions": _predictions(table, comparisons),
        "timing": {
            "data": 3.1,
            "compiling": 17.4,
            "training": 96.2,
            "evaluation": 11.8,
            "checkpoints": 1.6,
            "statistics": 0.9,
            "report": 2.2,
        },
        "environment": {
            "python": "3.11.2",
            "jax": "0.10.2",
            "jaxlib": "0.10.2",
            "devices": "2 × cpu",
            "member axis": "map",
        },
    }


def _uninformative(view: str) -> str | None:
    return (
        "uninformative: all arms at the ceiling (arms from 0.997 to 0.999, ceiling 0.99)"
        if view == "train"
        else (
            "uninformative: all arms at chance (arms from 0.497 to 0.503, chance 0.5)"
            if view in CHANCE_VIEWS
            else None
        )
    )


def _accuracies(rng: np.random.Generator, view: tuple, effect: float, count: int) -> np.ndarray:
    if view[0] == "train":
        return np.minimum(1.0, 0.998 + rng.normal(0, 0.001, count))
    if view[0] in CHANCE_VIEWS:
        return 0.5 + rng.normal(0, 0.006, count)
    return np.clip(
        view[2]
        + effect / 100 * (1 if view[0] == "recombination" else 0.6)
        + rng.normal(0, 0.03, count),
        0,
        1,
    )


def _interval(values: np.ndarray) -> list[float]:
    half = 2.2 * values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return [float(values.mean() - half), float(values.mean() + half)]


def _summary(values: np.ndarray) -> dict[str, Any]:
    return {"mean": float(values.mean()), "ci95": _interval(values), "per_seed": values.tolist()}


def _comparison(arm: str, view: str, table: dict) -> dict[str, Any]:
    difference = np.subtract(table[arm][view]["per_seed"], table["none"][view]["per_seed"])
    low, high = _interval(difference)
    mean, primary = float(difference.mean()), view == "recombination"
    verdict = (
        "supported"
        if low > 0 and mean >= 0.05
        else (
            "refuted: opposite"
            if high < 0
            else "refuted: negligible"
            if high < 0.05
            else "inconclusive"
        )
    )
    needed = (
        34
        if (primary and verdict == "inconclusive")
        or (not primary and view.startswith("template_") and abs(mean) < 0.03)
        else None
    )
    return {
        "arm": arm,
        "split": view,
        "difference": mean,
        "ci95": [low, high],
        "p": 0.0005,
        "p_holm": 0.0039 if primary else None,
        "verdict": verdict if primary else None,
        "per_seed": difference.tolist(),
        "seeds_needed": needed,
    }


def _controls() -> list[dict[str, Any]]:
    return [
        {
            "name": "overfits",
            "what": "The baseline over-fits",
            "passed": True,
            "detail": "99.8% on train, 84.1% on validation (asked: at least 99%, below 95%)",
        },
        {
            "name": "aa",
            "what": "Two baselines with other seeds do not differ",
            "passed": True,
            "detail": "inconclusive; noise floor (SD over seeds) 4.1 points",
        },
        {
            "name": "positive",
            "what": "An effect that must be there is found: 8 verbs per noun",
            "passed": True,
            "detail": "supported, +17.5 points",
        },
        {
            "name": "leak",
            "what": "With both connections cut, accuracy is at chance",
            "passed": False,
            "detail": "52.9% for one arm (allowed: 48 to 52)",
        },
        {
            "name": "off",
            "what": "Strength 0 equals a program without the term",
            "passed": None,
            "detail": "not run at this size",
        },
    ]


def _curves(rng: np.random.Generator, row: dict) -> dict[str, Any]:
    steps = list(range(0, 401, 40))
    curves = {}
    for view in CURVES:
        end, pace = row[view]["mean"], 55 if view == "train" else 80
        mean = [
            0.5
            + (end - 0.5) * (1 - math.exp(-((s / pace) ** 1.3)))
            + float(rng.normal(0, 0.004)) * (s > 0)
            for s in steps
        ]
        curves[view] = {
            "steps": steps,
            "mean": mean,
            "lo": [m - 0.02 for m in mean],
            "hi": [min(1.0, m + 0.02) for m in mean],
        }
        loss = [
            0.02 + 2.6 * math.exp(-s / pace) + (0 if view == "train" else 0.0016 * s) for s in steps
        ]
        curves[f"loss/{view}"] = {
            "steps": steps,
            "mean": loss,
            "lo": [v * 0.93 for v in loss],
            "hi": [v * 1.07 for v in loss],
        }
    curves["loss/train_mode"] = {
        "steps": steps,
        "mean": [None] + [v * 1.3 for v in loss[1:]],
        "lo": [None] * len(steps),
        "hi": [None] * len(steps),
    }
    return curves


def _mass(rng: np.random.Generator, effect: float, count: int) -> dict[str, Any]:
    return {
        "noun": _summary(0.34 + effect / 120 + rng.normal(0, 0.025, count)),
        "determiner": _summary(0.21 - effect / 300 + rng.normal(0, 0.02, count)),
    }


def _matrices(
    rng: np.random.Generator, words: list[str], num_steps: int, num_layers: int, num_heads: int
) -> dict[str, Any]:
    size, query = len(words), 2
    logits = rng.normal(0, 1.6, (num_layers, num_heads, size, size))
    logits[:, :, query, 1] += 2.2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    kept = rng.random((num_steps, num_layers, num_heads, size * size)) >= 0.3
    steps = [
        {
            "step": 3 + 16 * i + int(rng.integers(0, 8)),
            "example": int(rng.integers(0, 16)),
            "kept": [["".join("01"[int(k)] for k in head) for head in layer] for layer in kept[i]],
        }
        for i in range(num_steps)
    ]
    return {
        "arm": "attention_30",
        "seed": 100,
        "rate": 0.3,
        "text": " ".join(words),
        "words": words,
        "query": query,
        "weights": weights.tolist(),
        "steps": steps,
        "scale": 65536 / (65536 - 19661),
    }


def _edges(rng: np.random.Generator, matrices: dict) -> dict[str, Any]:
    weights = np.asarray(matrices["weights"])[:, :, matrices["query"], :]
    return {
        "answer": "sits",
        "foil": "sit",
        "probability": 0.962,
        "severed": (0.962 - 0.9 * weights.mean((0, 1))).tolist(),
        "severed_by_head": (0.962 - 0.08 * weights + rng.normal(0, 0.004, weights.shape)).tolist(),
    }


def make_counterfactual(*, num_layers: int = 2, num_heads: int = 4) -> dict[str, Any]:
    """What counterfactual.json holds: of what one step dropped of the verb's row, all but the last
    connection trained again.
    """
    rng, words = np.random.default_rng(8), "the cat SIT on the mat".split()
    dropped = rng.random((num_layers, num_heads, len(words))) < 0.3
    factual = {"probability": 0.962, "accuracy": 0.84, "loss": 0.502}
    connections = []
    for layer, head, key in np.argwhere(dropped)[:-1].tolist():
        change = {
            "probability": float(rng.normal(0, 0.01)),
            "accuracy": float(rng.normal(0, 0.002)),
            "loss": float(rng.normal(0, 0.001)),
        }
        values = {name: factual[name] + change[name] for name in factual}
        connections.append(
            {
                "layer": layer,
                "head": head,
                "key": key,
                "word": words[key],
                **values,
                "distance": 0.002,
                "change": change,
            }
        )
    return {
        "arm": "attention_30",
        "arm_title": "attention dropout .3",
        "seed": 100,
        "member": "0" * 24,
        "rate": 0.3,
        "step": 6,
        "example": 4,
        "text": " ".join(words),
        "words": words,
        "query": 2,
        "answer": "sits",
        "foil": "sit",
        "view": "recombination",
        "view_title": "recombination",
        "dropped": [
            ["".join("01"[int(bit)] for bit in head) for head in layer] for layer in dropped
        ],
        "factual": factual,
        "factual_differs_from_stored": 0.0,
        "connections": connections,
        "left_out": 1,
        "what": "Each number is an effect.",
        "caution": "It is one seed.",
    }


def _flipped(rng: np.random.Generator, seeds: list[int]) -> list[dict[str, Any]]:
    texts = [
        ("a dog SIT", "sits", "sit"),
        ("these journeys END", "end", "ends"),
        ("my small bird SING", "sings", "sing"),
        ("two cats RUN on the mat", "run", "runs"),
    ]
    entries = []
    for i in range(18):
        text, right, wrong = texts[i % len(texts)]
        repaired = rng.random() < 0.7
        entries.append(
            {
                "view": "recombination",
                "text": text,
                "answer": right,
                "baseline_says": wrong if repaired else right,
                "arm_says": right if repaired else wrong,
                "seed": seeds[i % len(seeds)],
            }
        )
    return entries


def _predictions(table: dict, comparisons: list[dict]) -> list[dict[str, Any]]:
    predicted = {
        "attention_10": 5.0,
        "attention_30": 8.0,
        "mlp_50": 3.0,
        "decay": 6.0,
        "attention_30_decay": 12.0,
        "smoothing": 0.0,
        "early_stopping": 2.0,
    }
    found = {entry["arm"]: entry for entry in comparisons if entry["split"] == "recombination"}
    return [
        {
            "arm": name,
            "predicted": predicted.get(name),
            "found": 100 * found[name]["difference"],
            "ci95": [100 * end for end in found[name]["ci95"]],
            "verdict": found[name]["verdict"],
        }
        for name, _, _, kind, _ in ARMS[1:]
        if kind == "arm"
    ]
