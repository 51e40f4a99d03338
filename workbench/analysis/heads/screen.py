"""A cheap first screen of heads: patching, linearised, from one gradient per prompt."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.analysis.heads.metric import (
    Aim,
    check_positions,
    refusal_metric,
    refusal_tokens_of,
)
from workbench.analysis.heads.patches import Pairing, read_source
from workbench.analysis.inputs import prompt_ids, prompts_provenance
from workbench.arguments import checked
from workbench.errors import AxisError, StudyError
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.network import Hook
from workbench.models.sites import Place, Site
from workbench.models.tokens import Tokens
from workbench.progress import track
from workbench.scores.refusal import refusal_score
from workbench.statistics.corrected import holm
from workbench.statistics.intervals import MEAN_INTERVAL, bootstrap_interval, difference_interval

_FEWEST_CELLS = 5
"""Of fewer cells a rank correlation takes a handful of values."""

_GRADIENT_SHARE = 8
"""A forward that will be differentiated keeps its activations: batches are so much smaller."""


@checked
def attribution_patching(
    model: HookedModel,
    source: Prompts,
    target: Prompts,
    *,
    positions: Sequence[int] = (-1,),
    layers: Sequence[int] | None = None,
    aim: Aim = "induce",
    pairing: Pairing = "mean",
    refusal_tokens: Sequence[int] | None = None,
    exact: xr.Dataset | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
) -> xr.Dataset:
    """Estimates what `patch_heads` measures, all heads and positions from one backward pass.

    The estimate of a head is ``(z_source - z_target) · ∂score/∂z`` with the gradient taken on the
    target, unpatched: exact where the rest of the model is linear in ``z``, and wrong in size, at
    times in sign, where it is not. Use it to choose what to patch, and pass ``exact=`` to see what
    the choice is worth.

    TransformerLens' ``attribution_patch`` is the same estimate; it passes no attention mask and
    needs pairs of equal length, so it is taken as the oracle of the tests, and gradients here are
    read through the same hooks on left-padded batches.

    Args:
        model: the model.
        source: prompts whose activations would be written: harmful ones, to induce refusal.
        target: prompts that would be patched: harmless ones, to induce refusal.
        positions: negative, from the end of the prompt.
        layers: all of them by default.
        aim: ``"induce"``, the source is refused and the target answered, or ``"suppress"``;
            says on which prompts the default refusal tokens are looked for.
        pairing: ``"mean"``, the source's mean, or ``"paired"``, the i-th target the i-th source.
        refusal_tokens: ids, best found on other prompts, such as training prompts, with
            `find_refusal_tokens`; by default found on these ones, which ``attrs`` say.
        exact: what `patch_heads` measured on the same targets, of all or some of these cells.
        confidence: of the intervals, over target prompts and over source prompts.
        seed: of the bootstrap.
        system: a system prompt for all of them.

    Returns:
        Dataset over (layer, head, position): ``estimate`` in nats, ``estimate_interval`` (bound),
        ``estimate_by_prompt`` (prompt). With ``exact``: ``rank_correlation`` (position), Spearman's
        over the cells that both have, its ``…_interval`` from resampling prompts, and ``n_cells``.
        Most cells have no effect and only noise to be ranked by, so that a perfect screen is below
        1: ``rank_correlation_above_noise`` is over those alone whose exact effect is told from zero
        (t tests over prompts, corrected over cells), ``n_above_noise`` of them; NaN for fewer
        than 5. It says nothing of the heads that a screen misses among the small ones.

    Raises:
        AxisError: a layer or position that is not there, or a choice that is none.
        StudyError: paired prompts of different number, or ``exact`` on other prompts or of another
            quantity.

    Source: Nanda 2023, "Attribution patching"; Syed et al. 2023.
    """
    positions = tuple(positions)
    layers = tuple(model.layers_with("z") if layers is None else layers)
    rows = {"source": model.tokens(source, system), "target": model.tokens(target, system)}
    n_target = len(rows["target"])
    for name, own, known in (("aim", aim, Aim), ("pairing", pairing, Pairing)):
        if own not in get_args(known):
            raise AxisError(f"no {name} {own!r}: {', '.join(get_args(known))}.")
    if not layers or len({*layers}) < len(layers):
        raise AxisError(f"layers must be distinct and at least one, found {list(layers)}.")
    places: list[Place] = [("z", layer) for layer in layers]
    for place in places:
        model.hook_name(*place)
    if pairing == "paired" and len(rows["source"]) != n_target:
        raise StudyError(
            f"{len(rows['source'])} source prompts for {n_target} targets: pairs need as many. "
            "Pass pairing='mean', or equal numbers."
        )
    refusal_tokens, origin = refusal_tokens_of(model, source, target, aim, system, refusal_tokens)
    metric = refusal_metric(model, refusal_tokens, origin)
    check_positions(rows["source"], rows["target"], [(each,) for each in positions], metric)
    read = read_source(model, rows["source"], places, positions, metric, "paired")
    source_z = torch.stack([read.values[place] for place in places], 1)
    mean_z = source_z.double().mean(0, keepdim=True).float()
    estimates = np.zeros((n_target, len(layers), len(positions), model.n_heads))
    plain = np.zeros(n_target)
    mean_gradient = torch.zeros_like(mean_z[0])
    batches = model.batches(rows["target"], _GRADIENT_SHARE)
    for chosen, batch in track(batches, "screening heads", len(batches)):
        scores, z, gradient = _gradients(model, batch, layers, positions, tuple(refusal_tokens))
        written = (mean_z if pairing == "mean" else source_z[chosen]).to(z)
        mean_gradient += gradient.float().sum(0) / n_target
        estimates[chosen] = ((written - z) * gradient).sum(-1).double().cpu().numpy()
        plain[chosen] = scores.cpu().numpy()
    values = estimates.transpose(1, 3, 2, 0)
    ends = bootstrap_interval(values, confidence, seed=seed)
    if pairing == "mean":
        # The estimate is linear in the source: what each of its prompts does to it is exact.
        moved = ((source_z - mean_z) * mean_gradient).sum(-1).double().cpu().numpy()
        by_source = -moved.transpose(1, 3, 2, 0)
        zero = np.zeros_like(ends[0])
        spread = bootstrap_interval(by_source, confidence, seed=seed + 1)
        ends = difference_interval((values.mean(-1), *ends), (zero, *spread))
    cell = ("layer", "head", "position")
    unit = {"units": "nats", "long_name": "estimated change of the refusal score"}
    screen = xr.Dataset(
        {
            "estimate": (cell, values.mean(-1), unit),
            "estimate_interval": ((*cell, "bound"), np.stack(ends, -1), unit),
            "estimate_by_prompt": ((*cell, "prompt"), values, unit),
            "plain_by_prompt": ("prompt", plain, {"units": "nats", "long_name": "refusal score"}),
        },
        coords={
            "layer": list(layers),
            "head": list(range(model.n_heads)),
            "position": list(positions),
            "bound": ["low", "high"],
            "prompt": prompt_ids(target, n_target),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "aim": aim,
            "pairing": pairing,
            "n_target": n_target,
            "n_source": len(rows["source"]),
            "refusal_tokens": list(refusal_tokens),
            "refusal_tokens_from": origin,
            "refusal_token_texts": metric.attrs["refusal_token_texts"],
            "confidence": confidence,
            "interval": MEAN_INTERVAL,
            "seed": seed,
            "provenance": {**model.provenance, **prompts_provenance(source, target, system)},
        },
    )
    return screen if exact is None else _with_agreement(screen, exact, confidence, seed)


def _gradients(
    model: HookedModel,
    batch: Tokens,
    layers: Sequence[int],
    positions: Sequence[int],
    refusal: tuple[int, ...],
) -> tuple[
    Float[Tensor, " prompt"],
    Float[Tensor, "prompt layer position head d_head"],
    Float[Tensor, "prompt layer position head d_head"],
]:
    """Scores, ``z`` at the positions, and the gradient of each prompt's score with respect to it.

    A zero is added to ``z`` and differentiated by: the bridge hands hooks a view that the forward
    does not go through, so ``z`` itself has no gradient.
    """
    columns = [batch.ids.shape[1] + position for position in positions]
    shape = (len(batch), len(positions), model.n_heads, model.d_head)
    seen: dict[int, Tensor] = {}
    zeros = {
        layer: torch.zeros(shape, dtype=model.dtype, device=model.device, requires_grad=True)
        for layer in layers
    }

    def adding(layer: int) -> Hook:
        def hook(z: Tensor) -> Tensor:
            seen[layer] = z[:, columns].detach().to(model.device)
            # Out of place: what is differentiated through must not be written over.
            wide = torch.zeros_like(z).index_add(
                1, torch.tensor(columns, device=z.device), zeros[layer].to(z)
            )
            return z + wide

        return hook

    hooks: list[tuple[Site, int, Hook]] = [("z", layer, adding(layer)) for layer in layers]
    with torch.enable_grad(), model.hooks(hooks):
        scores = refusal_score(model.forward_with_gradients(batch), refusal)
        # Prompts do not see each other, so the gradient of the sum is each prompt's own.
        gradients = torch.autograd.grad(scores.sum(), list(zeros.values()))
    z = torch.stack([seen[layer] for layer in layers], 1)
    return scores.detach(), z, torch.stack(gradients, 1)


def _with_agreement(
    screen: xr.Dataset, exact: xr.Dataset, confidence: float, seed: int
) -> xr.Dataset:
    """Adds Spearman's rank correlation with exact effects, position by position."""
    if "effect_by_prompt" not in exact:
        raise StudyError("exact= is not what patch_heads returns: it has no effect_by_prompt.")
    if exact["prompt"].values.tolist() != screen["prompt"].values.tolist():
        raise StudyError("exact= was measured on other target prompts. Patch the same ones.")
    _check_comparable(screen, exact)
    both = xr.align(
        screen["estimate_by_prompt"], exact["effect_by_prompt"], join="inner", exclude=["prompt"]
    )
    pairs = [each.transpose("position", "layer", "head", "prompt") for each in both]
    n_positions = pairs[0].sizes["position"]
    cells = [each.values.reshape(n_positions, -1, each.sizes["prompt"]) for each in pairs]
    if not n_positions or cells[0].shape[1] < 3:
        raise StudyError(
            f"only {cells[0].shape[1]} cells of exact= are in the screen: a rank correlation needs "
            "at least 3."
        )
    n = cells[0].shape[-1]
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=500) / n
    told = _told_from_zero(cells[1], 1 - confidence)
    everywhere = np.ones_like(told)
    variables: dict[str, Any] = {"n_above_noise": ("compared_position", told.sum(-1))}
    for name, which, meaning in (
        ("rank_correlation", everywhere, "over all cells, lowered by noise in both"),
        ("rank_correlation_above_noise", told, "over cells with an exact effect told from zero"),
    ):
        unit = {"units": "1", "long_name": f"Spearman correlation with exact patching, {meaning}"}
        found, ends = np.full(n_positions, np.nan), np.full((n_positions, 2), np.nan)
        for row in range(n_positions):
            if which[row].sum() < _FEWEST_CELLS:
                continue
            own = [each[row, which[row]] for each in cells]
            found[row] = spearman(*(each.mean(-1) for each in own))
            resampled = spearman(*((each @ draws.T).T for each in own))
            tail = (1 - confidence) / 2
            ends[row] = np.quantile(resampled, [tail, 1 - tail])
        variables[name] = ("compared_position", found, unit)
        variables[f"{name}_interval"] = (("compared_position", "bound"), ends, unit)
    return (
        screen.assign(variables)
        .assign_coords(compared_position=pairs[0]["position"].values)
        .assign_attrs(n_cells=cells[0].shape[1])
    )


def _told_from_zero(
    effects: Float[np.ndarray, "position cell prompt"], level: float
) -> Bool[np.ndarray, "position cell"]:
    """Whether a mean over prompts differs from zero: t tests, corrected over cells by Holm."""
    from scipy.stats import t

    n = effects.shape[-1]
    if n < 2:
        return np.zeros(effects.shape[:-1], dtype=bool)
    error = effects.std(-1, ddof=1) / np.sqrt(n)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(error > 0, 2 * t.sf(np.abs(effects.mean(-1)) / error, n - 1), 1.0)
    return holm(p) <= level


def _check_comparable(screen: xr.Dataset, exact: xr.Dataset) -> None:
    """Refuses to compare with what is not the quantity that the screen estimates."""
    expected = {name: screen.attrs[name] for name in ("pairing", "aim", "refusal_tokens")}
    expected |= {"metric": "refusal_score", "together": False, "along": None}
    for name, own in expected.items():
        other = exact.attrs.get(name)
        if other != own:
            raise StudyError(
                f"exact= was measured with {name}={other!r}, the screen estimates {name}={own!r}. "
                "Patch and screen with the same settings."
            )


def spearman(
    first: Float[np.ndarray, "*rows cell"], second: Float[np.ndarray, "*rows cell"]
) -> Float[np.ndarray, "*rows"]:
    """Spearman's rank correlation over the last axis; NaN where one side is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 8.0, 9.0])).item()
    1.0
    """
    from scipy.stats import rankdata

    ranks = [rankdata(each, axis=-1) for each in (first, second)]
    centred = [each - each.mean(-1, keepdims=True) for each in ranks]
    size = np.sqrt((centred[0] ** 2).sum(-1) * (centred[1] ** 2).sum(-1))
    with np.errstate(invalid="ignore"):
        return np.asarray((centred[0] * centred[1]).sum(-1) / np.where(size > 0, size, np.nan))
