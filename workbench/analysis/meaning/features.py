"""Features of a sparse autoencoder: which lie along a direction, and which tell prompts apart."""

from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.stats import beta, rankdata, t

from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.directions.sae.autoencoder import SparseAutoencoder
from workbench.errors import AxisError, StudyError
from workbench.positions import Position

_SLICE = 4096
"""Features whose activations are ranked and permuted at once."""

By = Literal["cosine", "difference", "auc"]


@checked
def rank_features(
    sae: SparseAutoencoder,
    direction: Directions | None = None,
    positive: xr.DataArray | None = None,
    negative: xr.DataArray | None = None,
    *,
    by: By | None = None,
    position: Position | None = None,
    confidence: float = 0.95,
    n_permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Ranks an SAE's features by cosine with a direction and by activation on two prompt sets.

    The best of thousands of features looks good by chance. Both rankings therefore carry what the
    best of as many would reach: random vectors for the cosine, shuffled labels for the difference.
    Intervals are of each feature alone, and make no allowance for having chosen it.

    Args:
        sae: the SAE.
        direction: one vector of the stream, for an SAE of the stream; one of ``z`` for one of
            ``z``. It may have been read at another layer, which the result records.
        positive: as `SparseAutoencoder.encode` returns them, usually of harmful prompts.
        negative: usually of harmless prompts.
        by: what features are sorted by, falling: ``"cosine"``, signed, the default with a
            direction; ``"difference"``, the default without; or ``"auc"``.
        position: where the two sets are compared; needed if they hold several.
        confidence: of the intervals, and of what chance does not reach.
        n_permutations: of the labels.
        seed: of the permutations.

    Returns:
        Dataset over feature, sorted. With a direction ``cosine`` and, in ``attrs``,
        ``chance_cosine``: the largest absolute cosine of as many random vectors stays below it
        with this confidence. With prompt sets ``difference`` of the mean activations,
        ``difference_interval`` (bound; Welch's, NaN where nothing varies), ``mean_positive``,
        ``mean_negative``, ``rate_positive`` and ``rate_negative``, the shares of prompts on which
        the feature fires, ``auc``, and in ``attrs`` ``chance_difference``: the largest absolute
        difference over all features stays below it under shuffled labels.

    Raises:
        AxisError: a direction of another width or space, several vectors, or a position that was
            not encoded or not chosen.
        StudyError: nothing to rank by, one prompt set without the other, encodings of another SAE
            or of fewer than two prompts, or the same prompts in both.
    """
    if direction is None and positive is None and negative is None:
        raise StudyError("nothing to rank by: pass direction=, or positive= and negative=.")
    if (positive is None) != (negative is None):
        raise StudyError("positive= and negative= are compared with each other: pass both.")
    if not 0 < confidence < 1:
        raise StudyError(f"confidence {confidence} is not between 0 and 1.")
    if n_permutations < 1:
        raise StudyError(
            f"{n_permutations} permutations of the labels: expected at least 1, better 200."
        )
    variables: dict[str, Any] = {}
    attrs: dict[str, Any] = {
        "sae": sae.name,
        "site": sae.site,
        "layer": sae.layer,
        "n_features": sae.n_features,
        "confidence": confidence,
        "provenance": {"sae": dict(sae.provenance)},
    }
    if direction is not None:
        variables["cosine"] = ("feature", _cosines(sae, direction), {"units": "1"})
        attrs["chance_cosine"] = _chance_cosine(sae.n_features, sae.d_model, confidence)
        attrs["direction"] = direction.names[0]
        attrs["direction_site"], attrs["direction_layer"] = direction.site, direction.layers[0]
        attrs["provenance"]["direction"] = dict(direction.provenance)
    if positive is not None and negative is not None:
        sets = [_at(sae, each, position) for each in (positive, negative)]
        if shared := _shared(*sets):
            raise StudyError(
                f"{len(shared)} prompts are in both sets, such as {min(shared)!r}. Compare "
                "two sets that have none in common."
            )
        above, below = (each.values.astype(np.float64) for each in sets)
        variables |= _contrast(above, below, confidence)
        attrs |= {
            "model": positive.attrs.get("model"),
            "position": sets[0]["position"].item(),
            "n": {"positive": len(above), "negative": len(below)},
            "contrast": [_described(each) for each in sets],
            "interval": "Welch",
            "chance_difference": _chance_difference(above, below, confidence, n_permutations, seed),
            "n_permutations": n_permutations,
            "seed": seed,
        }
        attrs["provenance"]["positive"] = dict(positive.attrs.get("provenance", {}))
        attrs["provenance"]["negative"] = dict(negative.attrs.get("provenance", {}))
    by = by or ("cosine" if direction is not None else "difference")
    if by not in variables:
        known = ", ".join(each for each in ("cosine", "difference", "auc") if each in variables)
        raise StudyError(f"cannot rank by {by!r}: this ranking holds {known}.")
    attrs["by"] = by
    ranked = xr.Dataset(
        variables,
        coords={"feature": range(sae.n_features), "bound": ["low", "high"]},
        attrs=attrs,
    )
    return ranked.isel(feature=np.argsort(-ranked[by].values, kind="stable"))


def _cosines(sae: SparseAutoencoder, direction: Directions) -> Float[np.ndarray, " feature"]:
    """Signed cosine of every decoder row with the direction; 0 for a row that is zero."""
    vector = direction.unit().vector.double().cpu().numpy()
    if len(vector) != sae.d_model or (direction.site == "z") != (sae.site == "z"):
        raise AxisError(
            f"a direction of width {len(vector)} at {direction.site} cannot be compared with "
            f"{sae!r}. Both must be of the stream, or both of z."
        )
    rows = sae.decoder.double().cpu().numpy()
    lengths = np.linalg.norm(rows, axis=1)
    return np.divide(rows @ vector, lengths, out=np.zeros(len(rows)), where=lengths > 0)


def _chance_cosine(n: int, width: int, confidence: float) -> float:
    """What the largest of n absolute cosines with random vectors stays below."""
    # A squared cosine is Beta(1/2, (d - 1)/2) distributed, and the n are independent.
    return float(np.sqrt(beta.ppf(confidence ** (1 / n), 0.5, (width - 1) / 2)))


def _at(sae: SparseAutoencoder, encoded: xr.DataArray, position: Position | None) -> xr.DataArray:
    """One prompt set at one position."""
    if encoded.attrs.get("sae_weights") != sae.fingerprint:
        raise StudyError(
            f"expected encodings by {sae.name}, found those of {encoded.attrs.get('sae')}. Pass "
            "what this SAE's encode() returned."
        )
    known = encoded["position"].values.ravel().tolist()
    position = known[0] if position is None and len(known) == 1 else position
    if position not in known:
        what = "several positions" if position is None else f"no position {position}"
        raise AxisError(f"{what} in these encodings: {known}. Choose one with position=.")
    if encoded["position"].ndim:
        encoded = encoded.sel(position=position)
    if encoded.sizes["prompt"] < 2:
        raise StudyError(
            f"expected at least 2 prompts of either set, found {encoded.sizes['prompt']}."
        )
    return encoded


def _shared(positive: xr.DataArray, negative: xr.DataArray) -> set[str]:
    """Texts that stand in both sets; ids, where a set holds no texts.

    Prompts that came as tokens have neither: their ids only count them, and nothing tells whether
    two are the same.
    """
    sets = positive, negative
    by = "text" if all("text" in each.coords for each in sets) else "prompt"
    names = [[str(name) for name in each[by].values] for each in sets]
    if by == "prompt" and any(row == [str(i) for i in range(len(row))] for row in names):
        return set()
    return set(names[0]) & set(names[1])


def _described(encoded: xr.DataArray) -> str:
    """What a prompt set is called: the labels in it."""
    labels = sorted({str(each) for each in encoded["label"].values} - {""})
    return " and ".join(labels) or "prompts"


def _contrast(
    positive: Float[np.ndarray, "positive feature"],
    negative: Float[np.ndarray, "negative feature"],
    confidence: float,
) -> dict[str, Any]:
    """Means, firing rates, Welch's intervals and areas of every feature."""
    means = positive.mean(0), negative.mean(0)
    difference = means[0] - means[1]
    errors = positive.var(0, ddof=1) / len(positive), negative.var(0, ddof=1) / len(negative)
    total = errors[0] + errors[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = total**2 / (
            errors[0] ** 2 / (len(positive) - 1) + errors[1] ** 2 / (len(negative) - 1)
        )
        half = t.ppf((1 + confidence) / 2, freedom) * np.sqrt(total)
    units = {"units": "feature activation"}
    return {
        "difference": ("feature", difference, units),
        "difference_interval": (
            ("feature", "bound"),
            np.stack([difference - half, difference + half], -1),
            units,
        ),
        "mean_positive": ("feature", means[0], units),
        "mean_negative": ("feature", means[1], units),
        "rate_positive": ("feature", (positive > 0).mean(0), {"units": "share of prompts"}),
        "rate_negative": ("feature", (negative > 0).mean(0), {"units": "share of prompts"}),
        "auc": ("feature", _areas(positive, negative), {"units": "1"}),
    }


def _areas(
    positive: Float[np.ndarray, "positive feature"], negative: Float[np.ndarray, "negative feature"]
) -> Float[np.ndarray, " feature"]:
    """Chance that a feature is more active on a positive prompt than on a negative one."""
    n, m = len(positive), len(negative)
    areas = np.empty(positive.shape[1])
    for start in range(0, len(areas), _SLICE):
        part = slice(start, start + _SLICE)
        ranks = rankdata(np.concatenate([positive[:, part], negative[:, part]]), axis=0)
        areas[part] = (ranks[:n].sum(0) - n * (n + 1) / 2) / (n * m)
    return areas


def _chance_difference(
    positive: Float[np.ndarray, "positive feature"],
    negative: Float[np.ndarray, "negative feature"],
    confidence: float,
    n_permutations: int,
    seed: int,
) -> float:
    """What the largest absolute difference over all features stays below under shuffled labels."""
    rng = np.random.default_rng(seed)
    n, m = len(positive), len(negative)
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    shuffled = np.stack([rng.permutation(weights) for _ in range(n_permutations)])
    largest = np.zeros(n_permutations)
    for start in range(0, positive.shape[1], _SLICE):
        part = slice(start, start + _SLICE)
        rows = np.concatenate([positive[:, part], negative[:, part]])
        largest = np.maximum(largest, np.abs(shuffled @ rows).max(1))
    return float(np.quantile(largest, confidence))
