"""Features of a sparse autoencoder: along a direction, against what tells two prompt sets apart."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.theme import (
    GRID,
    INK,
    MUTED,
    NEUTRAL,
    PALETTE,
    legend_below,
    model_of,
    position_text,
    require,
    themed,
)
from workbench.names import without_folders

_MANY = 5000
"""Beyond so many points a browser needs WebGL to stay responsive."""

_HOVER = (
    "feature %{customdata[0]}<br>cosine %{x:.3f}<br>difference %{y:.3g}<br>fires on "
    "%{customdata[1]:.0%} against %{customdata[2]:.0%}<br>AUC on the prompts that "
    "rank it %{customdata[3]:.2f}<extra></extra>"
)


@checked
def sae_features(ranking: xr.Dataset, n_labels: int = 4) -> go.Figure:
    """Cosine with a direction against the difference of activations, a point per feature.

    The features furthest out on either axis carry their numbers and intervals. Dotted lines are
    what the furthest feature reaches by chance.

    Args:
        ranking: as `rank_features` returns it, from a direction and two prompt sets.
        n_labels: how many features are labelled for either axis.

    Raises:
        StudyError: not such a ranking, or one by cosine or by difference alone.
    """
    require(ranking, "ranking of features", ["cosine", "difference"], ("feature",))
    if n_labels < 0:
        raise StudyError(f"cannot label {n_labels} features: expected 0 or more.")
    cosine, difference = ranking["cosine"].values, ranking["difference"].values
    silent = (ranking["rate_positive"].values == 0) & (ranking["rate_negative"].values == 0)
    chosen = np.zeros(len(cosine), dtype=bool)
    for axis in (np.abs(cosine), np.where(silent, -1.0, np.abs(difference))):
        chosen[np.argsort(-axis, kind="stable")[:n_labels]] = True
    figure = go.Figure()
    _reference_lines(figure, ranking.attrs)
    groups = (
        ("fires on no prompt of either set", silent & ~chosen, NEUTRAL, 4),
        ("fires", ~silent & ~chosen, PALETTE[2], 5),
    )
    for name, where, colour, size in groups:
        if where.any():
            figure.add_trace(_points(ranking, where, f"{name} ({where.sum()})", colour, size))
    if chosen.any():
        figure.add_trace(_labelled(ranking, chosen))
    figure.update_xaxes(title_text=f"cosine with {_direction(ranking.attrs)}", range=_range(cosine))
    names = ranking.attrs.get("contrast") or ["positive", "negative"]
    figure.update_yaxes(
        title_text=f"difference of mean feature activation,<br>{names[0]} minus {names[1]} prompts"
    )
    themed(figure, "Features along a direction, and what they tell apart", _parts(ranking), 440)
    return legend_below(figure, "feature")


def _points(
    ranking: xr.Dataset, where: np.ndarray, name: str, colour: str, size: int
) -> go.Scatter | go.Scattergl:
    """Features without labels."""
    kind = go.Scattergl if where.sum() > _MANY else go.Scatter
    return kind(
        x=ranking["cosine"].values[where],
        y=ranking["difference"].values[where],
        mode="markers",
        name=name,
        marker={"color": colour, "size": size, "opacity": 0.7},
        customdata=_details(ranking, where),
        hovertemplate=_HOVER,
    )


def _labelled(ranking: xr.Dataset, chosen: np.ndarray) -> go.Scatter:
    """The features furthest out, with their numbers and intervals."""
    at = ranking.isel(feature=np.flatnonzero(chosen))
    x, y = at["cosine"].values, at["difference"].values
    ends = at["difference_interval"].values
    # Where nothing varies there is no interval, and plotly would draw none for the others either.
    reach = np.where(np.isfinite(ends), ends, y[:, None])
    return go.Scatter(
        x=x,
        y=y,
        mode="markers+text",
        name="labelled, with interval",
        text=[str(each) for each in at["feature"].values.tolist()],
        textposition=_sides(x, y),
        textfont={"size": 12, "color": INK},
        marker={"color": PALETTE[3], "size": 9, "line": {"color": INK, "width": 1}},
        error_y=error_bars(y, reach[:, 0], reach[:, 1], color=PALETTE[3], thickness=1.2),
        customdata=_details(ranking, chosen),
        hovertemplate=_HOVER,
        cliponaxis=False,
    )


def _details(ranking: xr.Dataset, where: np.ndarray) -> np.ndarray:
    """Number, firing rates and area, for hovering."""
    names = ("rate_positive", "rate_negative", "auc")
    return np.stack(
        [ranking["feature"].values[where], *(ranking[name].values[where] for name in names)], -1
    )


def _sides(x: np.ndarray, y: np.ndarray) -> list[str]:
    """On which side of its point a number stands, so that those of neighbours stay apart."""
    reach = max(float(np.ptp(x)), 1e-9), max(float(np.ptp(y)), 1e-9)
    order = np.argsort(x, kind="stable").tolist()
    between = ("top right", "bottom right", "top left", "bottom left")
    sides, crowded = [""] * len(x), 0
    for place, index in enumerate(order):
        close = [
            other != index
            and abs(x[other] - x[index]) < 0.2 * reach[0]
            and abs(y[other] - y[index]) < 0.08 * reach[1]
            for other in order
        ]
        before, after = any(close[:place]), any(close[place:])
        sides[index] = "middle left" if after else "middle right"
        if before and after:
            sides[index] = between[crowded % len(between)]
            crowded += 1
    return sides


def _reference_lines(figure: go.Figure, attrs: dict[str, Any]) -> None:
    """Zero, and what chance does not reach."""
    for add in (figure.add_vline, figure.add_hline):
        add(0, line={"color": GRID, "width": 1}, layer="below")
    dotted = {"color": MUTED, "dash": "dot", "width": 1}
    for add, name in ((figure.add_vline, "chance_cosine"), (figure.add_hline, "chance_difference")):
        if name in attrs:
            for sign in (-1, 1):
                add(sign * float(attrs[name]), line=dotted, layer="below")


def _range(cosine: np.ndarray) -> list[float]:
    """Cosines, symmetric about zero, with room for numbers beside the outermost points."""
    limit = min(1.12, 1.15 * float(np.nanmax(np.abs(cosine))) + 0.03)
    return [-limit, limit]


def _direction(attrs: dict[str, Any]) -> str:
    return f"the direction {attrs.get('direction', 'not recorded')!r}"


def _parts(ranking: xr.Dataset) -> list[str]:
    """The parts of the subtitle."""
    attrs = ranking.attrs
    place = f"{attrs.get('site')} at layer {attrs.get('layer')}"
    own = f"{attrs.get('direction_site')} at layer {attrs.get('direction_layer')}"
    n = attrs.get("n") or {}
    confidence = float(attrs.get("confidence", 0.95))
    return [
        model_of(attrs),
        f"SAE {without_folders(str(attrs.get('sae', 'not recorded')))}",
        f"{ranking.sizes['feature']} features, {place}",
        f"direction read from {own}" if own != place else "",
        f"position {position_text(attrs['position'])}" if "position" in attrs else "",
        f"n = {n['positive']} against {n['negative']} prompts" if n else "n not recorded",
        f"bars: {confidence:.0%} intervals ({attrs.get('interval', 'unnamed')}) of single features",
        f"dotted: what the furthest of as many random vectors, or under shuffled labels, stays "
        f"below ({confidence:.0%})",
    ]
