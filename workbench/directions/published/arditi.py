"""Runs of Arditi et al. 2024, as github.com/andyrdt/refusal_direction leaves them on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from workbench.directions.direction import Directions
from workbench.directions.published.files import (
    Published,
    PublishedChoice,
    read_tensor,
)
from workbench.errors import ArtifactError
from workbench.intake.limits import check_elements
from workbench.intake.records import read_checked, read_record
from workbench.layers import first_skipped_layer

_SITE = "resid_pre"


@dataclass(frozen=True)
class _Place:
    layer: int
    pos: int


@dataclass(frozen=True)
class _Cell:
    layer: int
    position: int


@dataclass(frozen=True)
class _Evaluation(_Cell):
    refusal_score: float
    steering_score: float
    kl_div_score: float


@dataclass(frozen=True)
class _Replies:
    completions: list[dict[str, Any]] = field(default_factory=list)


_SCORES = {"refusal_score": "bypass", "steering_score": "induce", "kl_div_score": "kl"}

RUN_FILES = (
    "direction_metadata.json",
    "generate_directions/mean_diffs.pt",
    "select_direction/direction_evaluations.json",
)

_PAPER = {"kl_cap": 0.1, "induce_floor": 0.0, "skip_last": 0.2}
"""Settings of the paper. Files do not hold them, so they are noted only where they fit."""


def read_run(path: Path) -> Published:
    """Whatever the folder of one run holds.

    No file of a run names its model. The folder usually does, by the last part of the name alone
    (``gemma-2b-it``), and anyone may rename it: it is kept as ``run``, and none of what is read is
    refused or accepted because of it.
    """
    provenance: dict[str, Any] = {
        "source": "Arditi et al. 2024, github.com/andyrdt/refusal_direction",
        "run": path.resolve().name,
    }
    if losses := sorted(path.glob("loss_evals/*.json")):
        provenance["losses"] = {file.stem: read_checked(file, dict[str, Any]) for file in losses}
    files = [path / name for name in RUN_FILES]
    choice = read_choice(files[0]) if files[0].is_file() else None
    directions = _read_run_directions(path, choice, provenance)
    scores = _read_scores(files[2], directions, provenance) if files[2].is_file() else None
    if choice is not None and scores is not None:
        choice = _scored(choice, scores, path)
    completions = {
        file.stem: pd.DataFrame(read_record(file, _Replies).completions)
        for file in sorted(path.glob("completions/*.json"))
    }
    return Published(directions, scores, choice, completions or None, provenance)


def _read_run_directions(
    path: Path, choice: PublishedChoice | None, provenance: dict[str, Any]
) -> Directions | None:
    """All candidates, or the chosen one alone; where both are there they must agree."""
    grid_path, one_path = path / RUN_FILES[1], path / "direction.pt"
    grid = from_grid(grid_path, provenance) if grid_path.is_file() else None
    if choice is None or not one_path.is_file():
        return grid
    one = from_vector(one_path, choice, provenance)
    if grid is None:
        return one
    if choice.layer not in grid.layers or choice.position not in grid.positions:
        raise ArtifactError(f"{path}: the choice {choice} is none of the candidates.")
    if not torch.equal(one.vector, grid.at(layer=choice.layer, position=choice.position).vector):
        raise ArtifactError(f"{path}: direction.pt is not the candidate that was chosen.")
    return grid


def from_grid(path: Path, provenance: Mapping[str, Any]) -> Directions:
    """Mean differences [position layer d_model]: index i of P positions is position i - P."""
    grid = read_tensor(path)
    if grid.ndim != 3:
        raise ArtifactError(
            f"{path}: expected mean differences (position, layer, d_model), found shape "
            f"{tuple(grid.shape)}."
        )
    if grid.shape[1] == 1 and grid.shape[0] > 1:
        raise ArtifactError(
            f"{path}: mean differences are (position, layer, d_model), and of shape "
            f"{tuple(grid.shape)} they would be {grid.shape[0]} positions of layer 0. Where they "
            "are layers pass axes='layer position'; where they are positions, axes='position "
            "layer' and layer=…."
        )
    values = grid.transpose(0, 1).unsqueeze(0).contiguous()
    _, n_layers, n_positions, _ = values.shape
    positions = tuple(range(-n_positions, 0))
    return Directions(values, ("refusal",), tuple(range(n_layers)), positions, _SITE, provenance)


def from_vector(path: Path, at: PublishedChoice, provenance: Mapping[str, Any]) -> Directions:
    """The chosen vector alone, labelled with the choice that was stored beside it."""
    vector = read_tensor(path)
    if vector.ndim != 1:
        raise ArtifactError(
            f"{path}: expected one direction (d_model), found shape {tuple(vector.shape)}."
        )
    values = vector.clone()[None, None, None]  # the file keeps the storage of all candidates
    return Directions(values, ("refusal",), (at.layer,), (at.position,), _SITE, provenance)


def read_choice(path: Path) -> PublishedChoice:
    """The chosen layer and position."""
    found = read_record(path, _Place)
    return PublishedChoice(layer=found.layer, position=found.pos)


def _scored(choice: PublishedChoice, scores: xr.Dataset, path: Path) -> PublishedChoice:
    try:
        cell = scores.sel(layer=choice.layer, position=choice.position)
    except KeyError as error:
        raise ArtifactError(f"{path}: the choice {choice} was never scored.") from error
    return replace(choice, **{name: float(cell[name]) for name in _SCORES.values()})


def _read_scores(
    path: Path, directions: Directions | None, provenance: Mapping[str, Any]
) -> xr.Dataset:
    """Scores of all candidates; ``passed_filter`` marks those that the run itself kept."""
    table = pd.DataFrame(read_checked(path, list[_Evaluation]))
    if missing := {"layer", "position", *_SCORES} - set(table.columns):
        raise ArtifactError(f"{path} has no column {sorted(missing)[0]!r}.")
    n_cells = len(set(table["layer"])) * len(set(table["position"]))
    check_elements(path, n_cells, what="layers by positions")
    try:
        scores = table.rename(columns=_SCORES).set_index(["layer", "position"]).to_xarray()
    except ValueError as error:
        raise ArtifactError(f"{path} scores a candidate twice: {error}.") from error
    scores = scores[list(_SCORES.values())].astype(np.float64)
    for variable in scores.data_vars.values():
        variable.attrs["units"] = "nats"
    n_layers = int(scores["layer"].max()) + 1
    if directions is not None and set(scores["layer"].values) <= set(directions.layers):
        coords = {"layer": list(directions.layers), "position": list(directions.positions)}
        norms = xr.DataArray(directions.norms[0].numpy(), coords, ("layer", "position"))
        scores["norm"] = norms.reindex_like(scores).assign_attrs(units="activation")
        n_layers = max(n_layers, len(directions.layers))
    scores.attrs = {**provenance, "site": _SITE, "name": "refusal", "n_layers": n_layers}
    if (kept := path.with_name("direction_evaluations_filtered.json")).is_file():
        passed = xr.zeros_like(scores["bypass"], dtype=bool).drop_attrs()
        for row in read_checked(kept, list[_Cell]):
            passed.loc[{"layer": row["layer"], "position": row["position"]}] = True
        scores["passed_filter"] = passed
        if bool((passed == _by_the_paper(scores)).all()):
            scores.attrs |= _PAPER
    return scores


def _by_the_paper(scores: xr.Dataset) -> xr.DataArray:
    """Which candidates the paper's settings would keep."""
    first_skipped = first_skipped_layer(int(scores.attrs["n_layers"]), _PAPER["skip_last"])
    kept = (scores["kl"] <= _PAPER["kl_cap"]) & (scores["induce"] >= _PAPER["induce_floor"])
    return kept & scores["bypass"].notnull() & (scores["layer"] < first_skipped)
