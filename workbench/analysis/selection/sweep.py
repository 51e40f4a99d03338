"""The sweep: what every candidate direction does, with intervals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from workbench.analysis.inputs import check_places
from workbench.analysis.selection.forwards import candidate_logits
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError
from workbench.models.given import check_sides
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens, TokenSubset
from workbench.positions import position_axis
from workbench.progress import track
from workbench.scores.refusal import kl_divergence, refusal_score, scored_tokens
from workbench.statistics.intervals import MEAN_INTERVAL, bootstrap_interval, median_interval

_SCORES = {
    "bypass": ("harmful_prompt", "refusal score of harmful prompts, direction ablated"),
    "induce": ("harmless_prompt", "refusal score of harmless prompts, direction added"),
    "kl": ("harmless_prompt", "KL of harmless next tokens, plain against ablated"),
}


@checked
def sweep_directions(
    model: HookedModel,
    directions: Directions,
    *,
    harmful: Prompts,
    harmless: Prompts,
    tokens: TokenSubset = "all",
    refusal_tokens: Sequence[int] | None = None,
    refusal_tokens_from: tuple[Prompts, Prompts] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
) -> xr.Dataset:
    """Scores every (layer, position) of one direction by what intervening with it does.

    Three numbers each, means over prompts, in nats: ``bypass``, the refusal score of harmful
    prompts with the direction ablated everywhere; ``induce``, that of harmless prompts with the
    raw vector added at its layer; ``kl``, how far ablating moves the next token of harmless
    prompts. Candidates that are zero but for rounding are NaN.

    A few prompts make the mean KL, so the KL has no interval of its mean but ``kl_median``, with
    an interval from the order of the values, and ``kl_max``.

    Where only post-instruction tokens or the last one are touched, all candidates go through the
    model together; otherwise each takes a forward for either half, additions from their layer on.

    Args:
        model: the model.
        directions: one name, any layers and positions.
        harmful: validation prompts that the model refuses.
        harmless: validation prompts that it answers.
        tokens: which tokens the interventions touch.
        refusal_tokens: ids.
        refusal_tokens_from: harmful and harmless prompts on which they are looked for, such as
            training prompts. By default these prompts themselves, which ``attrs`` say: what scores
            is then fitted a little to what is scored.
        confidence: of the intervals over prompts, see `bootstrap_interval`.
        seed: of the bootstrap.
        system: a system prompt for all of them, the one that the directions were collected with.

    Returns:
        Dataset over (layer, position): the three scores, ``…_interval`` with a ``bound`` axis (NaN
        for ``kl``, and with too few prompts), ``…_by_prompt``, ``kl_median`` and
        ``kl_median_interval``, ``kl_max``, and ``norm``, the length of the vector. The baselines,
        scores without an intervention, are in ``attrs``.

    Raises:
        AxisError: more than one name, or a direction that does not fit the model.
        StudyError: refusal tokens given twice, or from prompts that are scored.

    Source: Arditi et al. 2024, appendix C.
    """
    if len(directions.names) != 1:
        raise AxisError(
            f"a sweep takes one direction, found {', '.join(directions.names)}. "
            "Choose with .at(name=…)."
        )
    check_places(model, directions, edited=True)
    check_sides(harmful, harmless)
    refusal_tokens, origin = scored_tokens(
        model, refusal_tokens, harmful, harmless, system, refusal_tokens_from
    )
    rows = {
        "harmful": model.tokens(harmful, system),
        "harmless": model.tokens(harmless, system),
    }
    measured = _measure(model, directions, rows, tuple(refusal_tokens), tokens)
    plain = {name: measured.pop(f"{name}_plain") for name in rows}
    dataset = _labelled(directions, measured, rows["harmful"], confidence, seed)
    dataset.attrs = {
        "model": model.name,
        "site": directions.site,
        "name": directions.names[0],
        "n_layers": model.n_layers,
        "tokens": tokens,
        "n_harmful": len(rows["harmful"]),
        "n_harmless": len(rows["harmless"]),
        "confidence": confidence,
        "interval": MEAN_INTERVAL,
        "seed": seed,
        "refusal_tokens": list(refusal_tokens),
        "refusal_tokens_from": origin,
        "refusal_token_texts": [model.tokenizer.decode([token]) for token in refusal_tokens],
        "provenance": {**model.provenance, "directions": dict(directions.provenance)},
    }
    for name, scores in plain.items():
        low, high = bootstrap_interval(scores, confidence, seed=seed)
        dataset.attrs[f"{name}_baseline"] = float(scores.mean())
        if np.isfinite(low):
            dataset.attrs[f"{name}_baseline_interval"] = [float(low), float(high)]
    return dataset


def _measure(
    model: HookedModel,
    directions: Directions,
    rows: dict[str, Tokens],
    refusal: tuple[int, ...],
    subset: TokenSubset,
) -> dict[str, np.ndarray]:
    """Scores per prompt, [layer position prompt], and those without an intervention, [prompt]."""
    n_harmful, n_harmless = len(rows["harmful"]), len(rows["harmless"])
    together = _concatenated(rows["harmful"], rows["harmless"])
    grid = directions.values.shape[1:3]
    degenerate = directions.degenerate[0]
    ablated = np.full((*grid, len(together)), np.nan)
    kl, induce = np.full_like(ablated, np.nan), np.full_like(ablated, np.nan)
    plain = np.zeros(len(together))
    cells = [cell for cell in np.ndindex(*grid) if not degenerate[cell]]
    candidates = [
        directions.at(layer=directions.layers[row], position=directions.positions[column])
        for row, column in cells
    ]
    batches = model.batches(together)
    for chosen, batch in track(batches, "sweeping candidates", len(batches)):
        plain_logits = model.forward(batch)
        model.check_finite(plain_logits)
        plain[chosen] = refusal_score(plain_logits, refusal).cpu().numpy()
        answered = [row for row, index in enumerate(chosen) if index >= n_harmful]
        ids = [chosen[row] for row in answered]
        if not cells:
            continue
        for index, logits in candidate_logits(model, batch, candidates, "ablate", subset):
            ablated[(*cells[index], chosen)] = refusal_score(logits, refusal).cpu().numpy()
            if answered:
                moved = kl_divergence(plain_logits[answered], logits[answered])
                kl[(*cells[index], ids)] = moved.cpu().numpy()
        if not answered:
            continue
        harmless = batch.rows(answered)
        for index, logits in candidate_logits(model, harmless, candidates, "add", subset):
            induce[(*cells[index], ids)] = refusal_score(logits, refusal).cpu().numpy()
    return {
        "bypass": ablated[..., :n_harmful],
        "induce": induce[..., n_harmful:],
        "kl": kl[..., n_harmful:],
        "harmful_plain": plain[:n_harmful],
        "harmless_plain": plain[n_harmful : n_harmful + n_harmless],
    }


def _concatenated(first: Tokens, second: Tokens) -> Tokens:
    """Both sets as one, padded on the left to the longer one's width."""
    if (first.n_pre, first.post_tokens) != (second.n_pre, second.post_tokens):
        raise AxisError(
            "harmful and harmless prompts were rendered with different templates or system "
            "prompts, so their positions do not match. Render both alike."
        )
    width = max(first.ids.shape[1], second.ids.shape[1])

    def widened(values: Tensor, fill: int | bool) -> Tensor:
        missing = width - values.shape[1]
        return torch.cat([values.new_full((len(values), missing), fill), values], dim=1)

    if first.instruction_end != second.instruction_end:
        raise AxisError(
            f"t_inst is the {first.instruction_end} of harmful prompts and the "
            f"{second.instruction_end} of harmless ones. Make both alike."
        )
    ends = {}
    if first.ends is not None or second.ends is not None:
        pair = (first, second)
        ends["ends"] = torch.cat(
            [each.t_insts if each.ends is None else each.ends for each in pair]
        )
        ends["wholes"] = torch.cat(
            [each.t_insts if each.wholes is None else each.wholes for each in pair]
        )
    return replace(
        first,
        ids=torch.cat([widened(first.ids, 0), widened(second.ids, 0)]),
        mask=torch.cat([widened(first.mask, False), widened(second.mask, False)]),
        **ends,
    )


def _labelled(
    directions: Directions,
    measured: dict[str, np.ndarray],
    tokens: Tokens,
    confidence: float,
    seed: int,
) -> xr.Dataset:
    """Means, intervals and per-prompt scores with their labels and units."""
    variables: dict[str, Any] = {}
    cell = ("layer", "position")
    for name, (prompt, meaning) in _SCORES.items():
        attrs = {"units": "nats", "long_name": meaning}
        low, high = bootstrap_interval(measured[name], confidence, seed=seed)
        if name == "kl":  # one prompt in hundreds can be most of it, and few samples hold that one
            low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
        variables[name] = (cell, measured[name].mean(-1), attrs)
        variables[f"{name}_interval"] = ((*cell, "bound"), np.stack([low, high], -1), attrs)
        variables[f"{name}_by_prompt"] = ((*cell, prompt), measured[name], attrs)
    middle = {"units": "nats", "long_name": "median over prompts of the KL"}
    variables["kl_median"] = (cell, np.median(measured["kl"], axis=-1), middle)
    ends = np.stack(median_interval(measured["kl"], confidence), -1)
    variables["kl_median_interval"] = ((*cell, "bound"), ends, middle)
    largest = {"units": "nats", "long_name": "largest KL of any prompt"}
    variables["kl_max"] = (cell, measured["kl"].max(axis=-1), largest)
    norms = directions.norms[0].double().cpu().numpy()
    variables["norm"] = (cell, norms, {"units": "activation", "long_name": "length of the vector"})
    labels = tokens.position_labels(directions.positions)
    return xr.Dataset(
        variables,
        coords={
            "layer": list(directions.layers),
            "position": position_axis(directions.positions),
            "bound": ["low", "high"],
            "position_label": ("position", labels),
        },
    )
