"""Activation patching: which heads, and which layers' outputs, carry refusal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.stats import t

from workbench.analysis.heads.metric import (
    Aim,
    Metric,
    Positions,
    check_positions,
    projection_metric,
    refusal_metric,
    refusal_tokens_of,
    unit_vector,
)
from workbench.analysis.heads.patches import (
    Cell,
    Measured,
    Pairing,
    Source,
    patched_scores,
    read_source,
    source_error,
)
from workbench.analysis.inputs import prompt_ids, prompts_provenance
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.models.forwards.packed import Method
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.sites import Place, Site
from workbench.models.tokens import Tokens
from workbench.statistics.intervals import (
    MEAN_INTERVAL,
    MIN_PROMPTS,
    bootstrap_interval,
    difference_interval,
)

_SOURCE_GROUPS = 8
"""Of source prompts, each left out once, to see what the choice of them does."""

SITES: tuple[Site, ...] = ("attn_out", "mlp_out", "resid_pre")


@checked
def patch_heads(
    model: HookedModel,
    source: Prompts,
    target: Prompts,
    *,
    positions: Sequence[int] = (-1,),
    together: bool = False,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    metric: Literal["refusal_score", "projection"] = "refusal_score",
    aim: Aim = "induce",
    onto: Directions | None = None,
    along: Directions | None = None,
    pairing: Pairing = "mean",
    refusal_tokens: Sequence[int] | None = None,
    method: Method = "auto",
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
) -> xr.Dataset:
    """Replaces each head's output on target prompts by that on source prompts, one head at a time.

    At one position ``z`` of one head becomes what it is on the source; all else is recomputed. The
    effect is the metric with the patch minus the metric without. Exact: all heads go through the
    model in one forward, which was compared with one forward per head.

    Args:
        model: the model.
        source: prompts whose activations are written: to induce refusal, harmful ones that the
            model refuses. Those that it answers only dilute the mean.
        target: prompts that are patched: to induce refusal, harmless ones that it answers.
        positions: negative, from the end of the prompt; each is patched on its own.
        together: patches all positions at once instead; ``position`` is then the first of them.
        layers: all of them by default.
        heads: of each layer; all of them by default.
        metric: ``"refusal_score"`` at the last position, or ``"projection"`` on ``onto``, at that
            direction's own site, layer and position.
        aim: ``"induce"``: the source is refused and the target answered; ``"suppress"``: the
            other way round. Says on which prompts the default refusal tokens are looked for.
        onto: a direction, for ``metric="projection"``.
        along: writes only that part of what the patch changes in ``attn_out`` that lies along this
            direction.
        pairing: ``"mean"``, every target gets the source's mean; ``"paired"``, the i-th target
            the i-th source's own value.
        refusal_tokens: ids, best found on other prompts, such as training prompts, with
            `find_refusal_tokens`; by default found on these ones, which ``attrs`` say.
        method: ``"auto"``, ``"packed"`` or ``"plain"``: one forward for all heads, or one each.
        confidence: of the intervals. They hold the choice of target prompts, see
            `bootstrap_interval`, and with ``pairing="mean"`` that of source prompts, to first
            order: by a jackknife of groups of them, each on a few targets.
        seed: of the bootstrap.
        system: a system prompt for all of them.

    Returns:
        Dataset over (layer, head, position): ``effect``, ``effect_interval`` (bound) and
        ``effect_by_prompt`` (prompt); ``plain_by_prompt``, the metric without a patch, and
        ``source_by_prompt`` (source_prompt), the metric on the source, which is what a patch of
        everything would reach. Their means and intervals are in ``attrs``.

    Raises:
        AxisError: a layer, head or position that is not there, a direction that does not fit, or
            a choice that is none.
        StudyError: paired prompts of different number.
        ModelError: ``method="packed"`` on a model on which it is not exact.

    Source: Vig et al. 2020; Meng et al. 2022; Wang et al. 2023.
    """
    layers = _labels("layer", model.layers_with("z") if layers is None else layers, model.n_layers)
    heads = _labels("head", heads, model.n_heads)
    cells = [Cell("z", layer, head) for layer in layers for head in heads]
    axes = {"layer": list(layers), "head": list(heads)}
    settings = _Settings(
        tuple(positions), together, metric, aim, onto, along, pairing,
        refusal_tokens, method, confidence, seed, system,
    )  # fmt: skip
    return _patched(model, source, target, cells, axes, settings)


@checked
def patch_sites(
    model: HookedModel,
    source: Prompts,
    target: Prompts,
    *,
    sites: Sequence[Site] = SITES,
    positions: Sequence[int] = (-1,),
    together: bool = False,
    layers: Sequence[int] | None = None,
    metric: Literal["refusal_score", "projection"] = "refusal_score",
    aim: Aim = "induce",
    onto: Directions | None = None,
    along: Directions | None = None,
    pairing: Pairing = "mean",
    refusal_tokens: Sequence[int] | None = None,
    method: Method = "auto",
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
) -> xr.Dataset:
    """Replaces what whole layers write or read, one site of one layer at a time.

    As `patch_heads`, but over (site, layer, position): ``attn_out`` and ``mlp_out``, what a layer
    adds to the stream, and ``resid_pre``, all that it reads.
    """
    known = [site for site in sites if site in SITES]
    if isinstance(sites, str) or not sites or len({*known}) < len(sites):
        raise AxisError(f"sites are {', '.join(SITES)}, each at most once, found {sites!r}.")
    layers = _labels("layer", layers, model.n_layers)
    cells = [Cell(site, layer) for site in sites for layer in layers]
    axes = {"site": list(sites), "layer": list(layers)}
    settings = _Settings(
        tuple(positions), together, metric, aim, onto, along, pairing,
        refusal_tokens, method, confidence, seed, system,
    )  # fmt: skip
    return _patched(model, source, target, cells, axes, settings)


@dataclass(frozen=True)
class _Settings:
    """What both functions are told beside what to patch.

    Raises:
        AxisError: a choice that is none.
    """

    positions: Positions
    together: bool
    metric: str
    aim: Aim
    onto: Directions | None
    along: Directions | None
    pairing: Pairing
    refusal_tokens: Sequence[int] | None
    method: Method
    confidence: float
    seed: int
    system: str | None

    def __post_init__(self) -> None:
        choices = {"aim": Aim, "pairing": Pairing, "method": Method}
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                raise AxisError(f"no {name} {getattr(self, name)!r}: {', '.join(get_args(known))}.")

    @property
    def groups(self) -> list[Positions]:
        """Positions that are patched at once."""
        return [self.positions] if self.together else [(each,) for each in self.positions]


def _patched(
    model: HookedModel,
    source: Prompts,
    target: Prompts,
    cells: Sequence[Cell],
    axes: dict[str, list[Any]],
    settings: _Settings,
) -> xr.Dataset:
    """Reads the source, patches the targets, and labels what came out."""
    rows = {"source": model.tokens(source, settings.system)}
    rows["target"] = model.tokens(target, settings.system)
    n_source, n_target = len(rows["source"]), len(rows["target"])
    if settings.pairing == "paired" and n_source != n_target:
        raise StudyError(
            f"{n_source} source prompts for {n_target} targets: paired patching expects as many. "
            "Pass pairing='mean', or equal numbers."
        )
    along = settings.along
    unit = None if along is None else unit_vector(model, along)
    metric = _metric(model, source, target, settings)
    check_positions(rows["source"], rows["target"], settings.groups, metric)
    places: dict[Place, None] = {(cell.site, cell.layer): None for cell in cells}
    n_groups = min(_SOURCE_GROUPS, n_source) if settings.pairing == "mean" else 1
    shuffled = np.random.default_rng(settings.seed).permutation(n_source)
    read = read_source(
        model, rows["source"], list(places), settings.positions, metric, settings.pairing,
        shuffled % n_groups,
    )  # fmt: skip
    measured = patched_scores(
        model, rows["target"], cells, settings.groups, read, metric, unit, settings.method
    )
    error = None
    if settings.pairing == "mean":
        error = np.full(measured.patched.shape[:2], np.nan)  # of one source prompt, nobody knows
        if n_groups > 1 and n_target >= MIN_PROMPTS:
            error = source_error(
                model, rows["target"], cells, settings.groups, read, metric, unit, settings.method,
                measured.patched,
            )  # fmt: skip
    dataset = _labelled(measured, read, error, metric, axes, settings, rows["target"])
    prompts = {"prompt": prompt_ids(target, n_target)}
    prompts["source_prompt"] = prompt_ids(source, n_source)
    return dataset.assign_coords(prompts).assign_attrs(
        model=model.name,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        metric=settings.metric,
        **metric.attrs,
        aim=settings.aim,
        pairing=settings.pairing,
        together=settings.together,
        along=None if along is None else along.names[0],
        n_target=n_target,
        n_source=n_source,
        method="+".join(sorted(measured.methods)),
        confidence=settings.confidence,
        interval=f"{MEAN_INTERVAL}; source {'jackknifed' if error is not None else 'paired'}",
        seed=settings.seed,
        provenance={
            **model.provenance,
            **prompts_provenance(source, target, settings.system),
            "along": None if along is None else dict(along.provenance),
        },
    )


def _metric(model: HookedModel, source: Prompts, target: Prompts, settings: _Settings) -> Metric:
    """The metric that was asked for."""
    if settings.metric == "refusal_score":
        tokens, origin = refusal_tokens_of(
            model, source, target, settings.aim, settings.system, settings.refusal_tokens
        )
        return refusal_metric(model, tokens, origin)
    if settings.metric != "projection":
        raise AxisError(f"no metric {settings.metric!r}: refusal_score, projection.")
    if settings.onto is None:
        raise AxisError("metric='projection' needs a direction: pass onto=.")
    return projection_metric(model, settings.onto)


def _labels(axis: str, wanted: Sequence[int] | None, n: int) -> tuple[int, ...]:
    """The layers or heads that were asked for."""
    labels = tuple(range(n) if wanted is None else (int(each) for each in wanted))
    if not labels or len(set(labels)) < len(labels) or not all(0 <= each < n for each in labels):
        raise AxisError(f"{axis}s must be distinct and within 0..{n - 1}, found {list(labels)}.")
    return labels


def _labelled(
    measured: Measured,
    source: Source,
    error: Float[np.ndarray, "cell group"] | None,
    metric: Metric,
    axes: dict[str, list[Any]],
    settings: _Settings,
    rows: Tokens,
) -> xr.Dataset:
    """Effects, means and intervals with their labels and units."""
    groups = settings.groups
    name = str(metric.attrs["long_name"])
    unit = {"units": metric.attrs["units"]}
    change = {**unit, "long_name": f"change of the {name}"}
    sizes = [len(labels) for labels in axes.values()]
    n_prompts = len(measured.plain)
    effects = (measured.patched - measured.plain).reshape(*sizes, len(groups), n_prompts)
    low, high = bootstrap_interval(effects, settings.confidence, seed=settings.seed)
    if error is not None:
        n_groups = len(source.without)
        quantile = t.ppf((1 + settings.confidence) / 2, n_groups - 1) if n_groups else np.nan
        half = quantile * error.reshape(low.shape)
        zero = np.zeros_like(half)
        low, high = difference_interval((effects.mean(-1), low, high), (zero, -half, half))
    cell = (*axes, "position")
    labels = [
        rows.position_labels(group)[0] if len(group) == 1 else ", ".join(map(str, sorted(group)))
        for group in groups
    ]
    dataset = xr.Dataset(
        {
            "effect": (cell, effects.mean(-1), change),
            "effect_interval": ((*cell, "bound"), np.stack([low, high], -1), change),
            "effect_by_prompt": ((*cell, "prompt"), effects, change),
            "plain_by_prompt": ("prompt", measured.plain, {**unit, "long_name": name}),
            "source_by_prompt": ("source_prompt", source.scores, {**unit, "long_name": name}),
        },
        coords={
            **axes,
            "position": [min(group) for group in groups],
            "position_label": ("position", labels),
            "bound": ["low", "high"],
        },
    )
    for own, scores in (("plain", measured.plain), ("source", source.scores)):
        low, high = bootstrap_interval(scores, settings.confidence, seed=settings.seed)
        dataset.attrs[own] = float(scores.mean())
        if np.isfinite(low):
            dataset.attrs[f"{own}_interval"] = [float(low), float(high)]
    return dataset
