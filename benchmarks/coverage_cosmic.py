"""How often intervals of COSMIC's score hold that of all prompts.

    .venv/bin/python benchmarks/coverage_cosmic.py [--samples 2000] [--places 5,-1 3,-1]

The population is every built-in prompt that `pocket` treats as labelled, with the stream of each
plainly and under the two edits; samples of it are drawn with replacement and go through the
resampling and the intervals of `sweep_cosmic`.
"""

import argparse

import numpy as np
import pandas as pd

import workbench as wb
from workbench.analysis.selection import cosmic

N_TRAIN, LAYERS, SIZES = 128, (6, 7), (28, 32, 64)
"""Prompts of a label that the directions are from, layers that are compared, prompts of a label."""


def population(layer: int, position: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The stream of every prompt [prompt layer*d_model], plainly and edited, by label.

    Args:
        layer: of the direction that is ablated on harmful prompts, and added on harmless ones.
        position: of the same.
    """
    model = wb.load_model("pocket")
    sets = {kind: wb.load_prompts(kind) for kind in ("harmful", "harmless")}
    directions = wb.mean_difference(
        *(wb.collect_activations(model, own.sample(N_TRAIN)) for own in sets.values())
    )
    direction = directions.at(layer=layer, position=position)
    first = wb.find_refusal_tokens(model, *(own.sample(40) for own in sets.values()))
    found = {}
    for kind, edit in (("harmful", wb.Ablate(direction)), ("harmless", wb.Add(direction))):
        rows = model.tokens(sets[kind])
        scores = wb.refusal_score(model.logits(sets[kind]), first).numpy()
        treated = scores > 0 if kind == "harmful" else scores < 0
        batches = model.batches(rows)
        plain = cosmic._summed(model, batches, len(rows), LAYERS)
        with wb.intervene(model, edit):
            edited = cosmic._summed(model, batches, len(rows), LAYERS)
        found[kind] = plain[treated], edited[treated]
    return found


def coverage(layer: int, position: int, samples: int) -> pd.DataFrame:
    """The share of samples whose interval holds the score of all prompts, a row per size."""
    found = population(layer, position)
    (plain_harmful, ablated), (plain_harmless, added) = found["harmful"], found["harmless"]
    truth = float(
        _score(*(own.mean(0, keepdims=True) for own in (plain_harmful, ablated)),
               *(own.mean(0, keepdims=True) for own in (plain_harmless, added)))["score"][0]
    )  # fmt: skip
    rows = []
    for n in SIZES:
        rng = np.random.default_rng(n)
        held = 0
        for sample in range(samples):
            harmful = rng.integers(0, len(plain_harmful), n)
            harmless = rng.integers(0, len(plain_harmless), n)
            weights = cosmic._weights(n, 2 * sample), cosmic._weights(n, 2 * sample + 1)
            values = _score(
                weights[0] @ plain_harmful[harmful], weights[0] @ ablated[harmful],
                weights[1] @ plain_harmless[harmless], weights[1] @ added[harmless],
            )  # fmt: skip
            measured = {name: values[name][None, None] for name in ("refuse", "comply")}
            made = cosmic._with_intervals(measured, 0.95)
            low, high = made["score_interval"][1][0, 0]
            held += bool(low <= truth <= high)
        where = f"pocket, layer {layer}, position {position}"
        rows.append({"population": where, "n": n, "score": truth, "covers": held / samples})
    return pd.DataFrame(rows)


def _score(
    harmful: np.ndarray, ablated: np.ndarray, harmless: np.ndarray, added: np.ndarray
) -> dict[str, np.ndarray]:
    """Cosines of means under edits with the other label's plain ones, by resample."""
    found = {
        "comply": cosmic._cosines(ablated, harmless),
        "refuse": cosmic._cosines(added, harmful),
    }
    return {**found, "score": found["comply"] + found["refuse"]}


def main() -> None:
    """Prints rows of the table as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--places", nargs="+", default=["5,-1", "4,-1", "3,-1", "5,-4"])
    asked = parser.parse_args()
    for place in asked.places:
        layer, position = map(int, place.split(","))
        table = coverage(layer, position, asked.samples)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"), flush=True)


if __name__ == "__main__":
    main()
