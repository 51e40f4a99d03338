"""The candidate that COSMIC picks, and why every other one was dropped."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from workbench.analysis.selection.selection import Choice, best_first, first_choice
from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.layers import first_skipped_layer


@checked
def select_by_cosmic(
    scores: xr.Dataset, *, kl_cap: float = 0.1, skip_last: float = 0.2, top_k: int = 5
) -> Choice:
    """The candidate with the largest COSMIC score among those that pass.

    A candidate is dropped if it has no score, lies in the last layers (as in `select_direction`),
    or moves harmless prompts too far (``kl > kl_cap``). At position -1 one is dropped, too, that
    lies after the layers where the other positions have their best scores, ablated and added: there
    the token that is read is the one that is changed, and any vector does well.

    Args:
        scores: as `sweep_cosmic` gives them.
        kl_cap: largest KL, in nats.
        skip_last: share of the layers, counted from the last, that cannot be chosen.
        top_k: how many of the eligible ones `Choice.top` shows.

    Raises:
        StudyError: no such scores, or nothing passes.

    Source: Siu et al. 2025, section 3 and published code; the thresholds are Arditi et al.'s.
    """
    for name in ("score", "refuse", "comply", "kl"):
        if name not in scores or {*scores[name].dims} != {"layer", "position"}:
            raise StudyError(f"these scores hold no {name!r}: expected a result of sweep_cosmic.")
    first_skipped = first_skipped_layer(int(scores.attrs["n_layers"]), skip_last)
    names = ["score", "refuse", "comply", "kl"]
    columns = {name: scores[name].transpose("layer", "position") for name in names}
    for bound in ("low", "high"):
        columns[f"score_{bound}"] = scores["score_interval"].sel(bound=bound, drop=True)
    table = xr.Dataset(columns).drop_vars("position_label", errors="ignore")
    frame = table.to_dataframe().reset_index()
    peak = _peak(scores)
    frame["dropped"] = [
        _reason(row, kl_cap, first_skipped, peak) for row in frame.itertuples(index=False)
    ]
    frame = best_first(frame, "score", ascending=False)
    best = frame.iloc[0]
    if best["dropped"] != "":
        raise StudyError(
            f"none of {len(frame)} candidates passes COSMIC's filters; the best, layer "
            f"{int(best['layer'])}, position {best['position']}: {best['dropped']}. Raise "
            "kl_cap, lower skip_last, or collect other layers and positions."
        )
    settings = {"kl_cap": kl_cap, "skip_last": skip_last}
    return first_choice(frame, top_k, settings)


def _peak(scores: xr.Dataset) -> tuple[int, int] | None:
    """The median layers at which the positions before the last have their best scores.

    Of ``comply`` and of ``refuse``; of an even number the lower median. None where there are none.
    """
    before = [own for own in scores["position"].values.tolist() if own != -1]
    if not before:
        return None
    at = scores.sel(position=before)
    found = []
    for name in ("comply", "refuse"):
        values = at[name].transpose("position", "layer").fillna(-np.inf).values
        layers = np.sort(at["layer"].values[values.argmax(axis=1)])
        found.append(int(layers[(len(layers) - 1) // 2]))
    return found[0], found[1]


def _reason(row: Any, kl_cap: float, first_skipped: int, peak: tuple[int, int] | None) -> str:
    """Why a candidate cannot be chosen, or nothing."""
    if pd.isna(row.score) or pd.isna(row.kl):
        return "no score: the vector is zero but for rounding"
    reasons = []
    if row.layer >= first_skipped:
        reasons.append(f"layer ≥ {first_skipped}: too near the output")
    if row.kl > kl_cap:
        reasons.append(f"KL {row.kl:.3g} > {kl_cap:g}")
    if row.position == -1 and peak is not None and row.layer > max(peak):
        reasons.append(f"position -1, after the other positions' best layers (≤ {max(peak)})")
    return "; ".join(reasons)
