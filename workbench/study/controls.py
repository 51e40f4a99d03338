"""The stage of a run that measures controls beside the chosen direction."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from workbench.activations import Activations
from workbench.analysis.selection.control_effects import (
    Edits,
    judge_controls,
    score_controls,
    sweep_controls,
)
from workbench.analysis.selection.controls import FEWEST, KINDS, Kind, control_directions
from workbench.directions.direction import Directions
from workbench.models.tokens import Tokens
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import judge_name
from workbench.study.keeping import kept_of
from workbench.study.material import Material
from workbench.study.thoughts import tokens_after

N_CONTROLS = 20
"""Of each kind; a vector without meaning leaves their range in 2 of 21 cases."""
_MOST_SCORED, _MOST_SWEPT, _MOST_JUDGED, _MOST_LAYERS = 16, 12, 8, 4
"""Test and validation prompts of a set that are scored with controls, test prompts that are
answered with one of each kind, or two of one, and layers at which they are added. Each takes a
forward per control.
"""
_SETS = ("harmful", "harmless")
_FEWEST_ASKED = 2


def measure_controls(
    material: Material, validation: Mapping[str, Tokens], projection: float
) -> xr.Dataset | None:
    """What vectors without signal do wherever the chosen direction is credited with something.

    Random vectors of the direction's length, and what the difference of means gives where labels
    are shuffled; of fewer training prompts than `FEWEST` of a label, random vectors alone.

    Args:
        material: the run, with its replies.
        validation: the prompts that candidates were scored on, up to where they are scored.
        projection: the value to which the direction's projection was set.

    Returns:
        Dataset with what `score_controls`, `judge_controls` and `sweep_controls` found; None where
        answers are scored after thinking that is closed on fewer than two prompts of a label.
    """
    model, study = material.model, material.study
    prompt_sets, rows = _asked(material)
    for kind, own in prompt_sets.items():
        if len(own) < _FEWEST_ASKED:
            material.say(f"controls not measured: thinking is closed on {len(own)} {kind} prompts")
            return None
    spread = spread_of_training(material)
    everywhere = material.directions.at(
        layer=_some_layers(material.directions.layers, material.layer), position=material.position
    )
    controls = _controls(material, everywhere, spread)
    at = controls.at(layer=material.layer)
    edits = Edits(model, material.direction, at, prompt_sets, projection, study.system)
    judged = {kind: _sample(own, _MOST_JUDGED, study.seed) for kind, own in prompt_sets.items()}
    kinds = at.provenance["control_kinds"]
    parts = [
        score_controls(model, edits, prompt_sets, rows, material.refusal_tokens),
        judge_controls(
            model,
            edits,
            judged,
            material.replies,
            [f"{kind} 1" for kind in kinds] if len(kinds) > 1 else list(at.names[:2]),
            judge=study.judge,
            max_new_tokens=study.max_new_tokens,
            system=study.system,
        ),
        sweep_controls(
            model,
            material.direction,
            controls,
            *(own.rows(_evenly(len(own), _MOST_SWEPT)) for own in validation.values()),
            refusal_tokens=material.refusal_tokens,
        ),
    ]
    found = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="drop_conflicts")
    return found.assign_attrs(
        model=model.name,
        layer_chosen=material.layer,
        position=material.position,
        norm=float(material.direction.norms.item()),
        kinds=list(kinds),
        scored_on={
            kind: "kept test prompts" if _is_kept(material, kind) else "test prompts"
            for kind in prompt_sets
        },
        n_swept=[min(len(own), _MOST_SWEPT) for own in validation.values()],
        judge=judge_name(study.judge),
        seed=study.seed,
        provenance={**model.provenance, "direction": dict(material.direction.provenance)},
    )


def spread_of_training(material: Material) -> list[Activations] | None:
    """Training prompts one by one; None where they are too few to say how activations vary."""
    kept = material.train_activations
    if small := [f"{own.n_prompts} {kind}" for kind, own in kept.items() if own.n_prompts < FEWEST]:
        material.say(f"random directions alone: only {', '.join(small)} training prompts")
        return None
    return list(kept.values())


def _controls(
    material: Material, everywhere: Directions, spread: list[Activations] | None
) -> Directions:
    """As many of each kind, at every layer."""
    kinds: list[Kind] = ["isotropic"] if spread is None else [*KINDS]
    seed = material.study.seed
    return control_directions(everywhere, spread, kinds=kinds, n=N_CONTROLS, seed=seed)


def _is_kept(material: Material, kind: str) -> bool:
    """Whether enough test prompts are treated as their label says to be asked alone."""
    return len(material.kept_test[kind]) >= FEWEST


def _asked(material: Material) -> tuple[dict[str, PromptSet], dict[str, Tokens]]:
    """Some test prompts of either label, and where their answers are scored."""
    model, study = material.model, material.study
    prompt_sets, rows = {}, {}
    for kind in _SETS:
        tests = material.kept_test if _is_kept(material, kind) else material.test
        prompts = _sample(tests[kind], _MOST_SCORED, study.seed)
        if study.score_after == "prompt":
            prompt_sets[kind], rows[kind] = prompts, model.tokens(prompts, study.system)
            continue
        thoughts = material.thoughts[kind]
        prompt_sets[kind] = kept_of(prompts, list(thoughts))
        if len(prompt_sets[kind]) < _FEWEST_ASKED:
            break
        rows[kind] = tokens_after(model, study, prompt_sets[kind], thoughts)
    return prompt_sets, rows


def _sample(prompts: PromptSet, most: int, seed: int) -> PromptSet:
    return prompts if len(prompts) <= most else prompts.sample(most, seed)


def _evenly(n: int, most: int) -> list[int]:
    """Rows evenly apart: prompts stand by category, and the first are of one or two."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()


def _some_layers(layers: Sequence[int], chosen: int) -> list[int]:
    """Layers evenly apart, the chosen one among them."""
    if len(layers) <= _MOST_LAYERS:
        return list(layers)
    some = np.linspace(0, len(layers) - 1, _MOST_LAYERS - 1).round().astype(int)
    return sorted({chosen, *(layers[at] for at in some.tolist())})
