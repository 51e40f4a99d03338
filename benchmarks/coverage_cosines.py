"""How often intervals of cosines and of associations hold the truth, and tests raise false alarms.

    .venv/bin/python benchmarks/coverage_cosines.py [--seeds 20]

Directions are planted in noise, the prompts go through the same resampling as a run's, and each
number is a share over independent draws of the noise. Noise is either the same in every coordinate
or falls with the coordinate's rank, as in activations.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr

import workbench as wb
from workbench.activations import Activations
from workbench.analysis.transfer.blocks import asymmetry
from workbench.directions import cosines
from workbench.statistics.association import association

D_MODEL, N_HARMLESS, DRAWS = 64, 128, 30
RELIABILITIES = (0.7, 0.9, 0.98)
"""Of the shorter direction: the lengths that are planted follow from them."""


def simulate_map(
    directions: np.ndarray, n: int, falling: bool, seed: int, n_resamples: int = 200
) -> xr.Dataset:
    """The map of planted directions; layers are draws of the noise, positions reliabilities.

    Args:
        directions: one row per category, the shortest of length 1; scaled to the reliabilities.
        n: prompts per category.
        falling: whether noise falls with the coordinate's rank.
        seed: of noise and resampling.
        n_resamples: replicates.
    """
    draw = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, D_MODEL + 1.0) ** (-0.5 if falling else 0.0)
    spread *= (D_MODEL / (spread**2).sum()) ** 0.5
    noise = D_MODEL * (1 / n + 1 / N_HARMLESS)
    lengths = [(noise * each / (1 - each)) ** 0.5 for each in RELIABILITIES]
    shifts = torch.zeros(len(directions), len(lengths), D_MODEL)
    # Neither the noisiest coordinate nor the quietest.
    shifts[..., 3 : 3 + directions.shape[1]] = torch.stack(
        [torch.from_numpy(directions).float() * each for each in lengths], 1
    )

    def acts(label: str, categories: Sequence[str], shift: torch.Tensor) -> Activations:
        size = (len(categories), DRAWS, len(lengths), D_MODEL)
        ids = tuple(f"{label} {seed} {row}" for row in range(len(categories)))
        return Activations(
            torch.randn(size, generator=draw) * spread + shift,
            (1,) * len(ids),
            tuple(categories),
            (label,) * len(ids),
            ids,
            tuple(range(DRAWS)),
            tuple(range(-len(lengths), 0)),
            "resid_pre",
        ).with_resamples(n_resamples, seed)

    category = torch.arange(n * len(directions)) % len(directions)
    names = [f"c{int(each):02}" for each in category]
    harmful = acts("harmful", names, shifts[category][:, None])
    harmless = acts("harmless", ["none"] * N_HARMLESS, torch.zeros(D_MODEL))
    return wb.geometry.cosine_similarity_map(wb.mean_difference(harmful, harmless, by="category"))


def simulate_cosine_intervals(seeds: int = 20, fewest: int = 3) -> pd.DataFrame:
    """Share of disattenuated 95 % intervals that hold the planted cosine, by prompts per category.

    Args:
        seeds: of 30 draws each.
        fewest: with fewer prompts the workbench gives no interval; here it is asked for them all.
    """
    rows = []
    limit, cosines.FEWEST = cosines.FEWEST, fewest
    try:
        for falling in (False, True):
            for n in (3, 4, 6, 8, 12, 20, 40):
                for cosine in (0.0, 0.5, 0.9):
                    pair = np.array([[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]])
                    covered = []
                    for seed in range(seeds):
                        at = simulate_map(pair, n, falling, seed).isel(name=0, name_other=1)
                        low, high = at["disattenuated_interval"].transpose("bound", ...).values
                        known = np.isfinite(low)
                        covered.append(((low <= cosine) & (cosine <= high))[known])
                    share = float(np.concatenate(covered).mean())
                    rows.append({"falling noise": falling, "n": n, "cosine": cosine,
                                 "covered": share})  # fmt: skip
    finally:
        cosines.FEWEST = limit
    return pd.DataFrame(rows)


def simulate_one_direction(seeds: int = 20) -> pd.DataFrame:
    """Share of draws in which directions are told from one at 5 %, by reliability.

    True directions are one where ``cosine`` is 1: there it is the false alarms. Of six categories
    the share with any pair told from one, corrected; ``permuted`` is the same question put to
    categories permuted among prompts, which also hear lengths.
    """
    rows = []
    cases = [(1.0, (1, 1)), (1.0, (1, 2)), (1.0, (1, 4)), (1.0, (1, 1, 2, 2, 4, 4))]
    cases += [(each, (1, 1)) for each in (0.99, 0.95, 0.9, 0.8, 0.5)]
    cases += [(0.9, (1, 1, 1, 1, 1, 1))]
    for falling in (False, True):
        for n in (8, 20, 64):
            for cosine, lengths in cases:
                directions = np.zeros((len(lengths), 2))
                directions[:, 0] = lengths
                directions[-1] = directions[-1, 0] * np.array([cosine, (1 - cosine**2) ** 0.5])
                told: dict[str, list[np.ndarray]] = {"p_one_direction": [], "p_permuted": []}
                for seed in range(seeds):
                    found = simulate_map(directions, n, falling, seed)
                    for name, shares in told.items():
                        least = found[name].min(["name", "name_other"])  # NaN is not told
                        shares.append((least.transpose("position", "layer") <= 0.05).values)
                for name, shares in told.items():
                    by_reliability = np.concatenate(shares, axis=1).mean(axis=1)
                    values = dict(zip(map(str, RELIABILITIES), by_reliability, strict=True))
                    rows.append({"falling noise": falling, "n": n, "cosine": cosine,
                                 "lengths": ":".join(map(str, lengths)), "asked": name,
                                 **values})  # fmt: skip
    return pd.DataFrame(rows)


def simulate_association(seeds: int = 20) -> pd.DataFrame:
    """Share of 95 % intervals of Cramér's V that hold the planted one, and the estimate."""
    rng, rows = np.random.default_rng(0), []
    for shape in ((2, 8), (3, 3), (4, 8)):
        follows = np.zeros(shape)
        follows[np.arange(shape[1]) % shape[0], np.arange(shape[1])] = 1 / shape[1]
        for n in (60, 120, 300):
            for true in (0.0, 0.3, 0.6, 0.95):
                # Rows are equally frequent, or nearly, and V is close to the share that follows.
                margins = np.outer(follows.sum(1), follows.sum(0))
                shares = (1 - true) * margins + true * follows
                found = []
                for seed in range(4 * seeds):
                    counts = rng.multinomial(n, shares.ravel()).reshape(shape)
                    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
                    found.append(association(counts, n_resamples=2, seed=seed))
                low, high = np.array([each.interval for each in found]).T
                own = np.array([each.cramers_v for each in found])
                covered = float(((low <= true) & (true <= high)).mean())
                inside = float(((low <= own) & (own <= high)).mean())
                row = {"table": f"{shape[0]} x {shape[1]}", "n": n, "V": true, "covered": covered}
                rows.append({**row, "estimate inside": inside})
    return pd.DataFrame(rows)


def simulate_asymmetry(seeds: int = 20) -> pd.DataFrame:
    """Share of symmetric matrices whose asymmetry lies above what chance gives at 95 %."""
    rng, rows = np.random.default_rng(0), []
    for sizes in ((8,), (4, 8, 20), (16,), (40,)):
        for n_categories in (2, 4, 8):
            for shared in (0.0, 0.8):
                alarms = 0
                for _ in range(20 * seeds):
                    effects = []
                    for column in range(n_categories):
                        n = sizes[column % len(sizes)]
                        own = rng.normal(size=(n_categories, n)) * (1 - shared) ** 0.5
                        effects.append(-3 + 2 * (own + shared**0.5 * rng.normal(size=n)))
                    found = asymmetry(effects, n_resamples=400)
                    alarms += found.index > found.noise
                row = {"prompts": ", ".join(map(str, sizes)), "categories": n_categories}
                rows.append({**row, "shared noise": shared, "false alarms": alarms / (20 * seeds)})
    return pd.DataFrame(rows)


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    for simulate in (
        simulate_cosine_intervals,
        simulate_one_direction,
        simulate_association,
        simulate_asymmetry,
    ):
        table = simulate(seeds)
        print(simulate.__name__)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"), end="\n\n")


if __name__ == "__main__":
    main()
