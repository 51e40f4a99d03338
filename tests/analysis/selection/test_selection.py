"""The published rule: brute force, both published runs, a reason for every dropped candidate."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st

import workbench as wb
from workbench.analysis.selection.selection import select_direction
from workbench.errors import StudyError

PUBLISHED = {"gemma-2b-it": (10, -2, 18), "qwen-1_8b-chat": (15, -2, 24)}


def scores_of(bypass, induce, kl, n_layers=None):
    """Scores in the form of a sweep, [layer position]."""
    grids = {"bypass": bypass, "induce": induce, "kl": kl}
    n, width = np.shape(bypass)
    return xr.Dataset(
        {name: (("layer", "position"), np.array(grid, float)) for name, grid in grids.items()},
        coords={"layer": range(n), "position": range(-width, 0)},
        attrs={} if n_layers is None else {"n_layers": n_layers},
    )


@st.composite
def random_scores(draw):
    n, width = draw(st.integers(2, 8)), draw(st.integers(1, 3))
    value = st.one_of(st.integers(-6, 6).map(float), st.just(float("nan")))
    share = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.9])

    def grid(cell):
        return draw(
            st.lists(st.lists(cell, min_size=width, max_size=width), min_size=n, max_size=n)
        )

    return scores_of(grid(value), grid(value), grid(share))


def passing(scores, kl_cap=0.1, induce_floor=0.0, skip_last=0.2):
    """By hand: (bypass, layer, position) of every candidate that the rule keeps."""
    n_layers = len(scores["layer"])
    kept = []
    for layer in scores["layer"].values.tolist():
        for position in scores["position"].values.tolist():
            cell = scores.sel(layer=layer, position=position)
            bypass, induce, kl = (float(cell[name]) for name in ("bypass", "induce", "kl"))
            if np.isnan([bypass, induce, kl]).any() or layer >= int((1 - skip_last) * n_layers):
                continue
            if kl <= kl_cap and induce >= induce_floor:
                kept.append((bypass, layer, position))
    return sorted(kept)


@given(random_scores())
def test_the_choice_is_the_smallest_bypass_of_all_that_pass(scores):
    kept = passing(scores)
    if not kept:
        with pytest.raises(StudyError, match="candidates passes"):
            select_direction(scores)
        return
    choice = select_direction(scores)
    assert (choice.layer, choice.position) == kept[0][1:]
    eligible = choice.table[choice.table["dropped"] == ""]
    found = list(eligible[["bypass", "layer", "position"]].itertuples(index=False, name=None))
    assert found == kept
    assert len(choice.table) == scores["bypass"].size
    assert (choice.table.iloc[len(kept) :]["dropped"] != "").all()


@given(
    random_scores(),
    st.sampled_from([0.05, 0.2]),
    st.sampled_from([-2.0, 1.0]),
    st.sampled_from([0.0, 0.5]),
)
def test_thresholds_are_obeyed(scores, kl_cap, induce_floor, skip_last):
    settings = {"kl_cap": kl_cap, "induce_floor": induce_floor, "skip_last": skip_last}
    kept = passing(scores, **settings)
    assume(kept)
    choice = select_direction(scores, **settings)
    assert (choice.layer, choice.position) == kept[0][1:]
    assert choice.settings == settings


@pytest.mark.shared
@pytest.mark.parametrize("run", PUBLISHED)
def test_the_published_choice_is_selected(shared, run):
    # Arditi et al. 2024: direction_metadata.json and direction_evaluations_filtered.json.
    folder = shared / "data" / "published" / "arditi_2024" / run
    layer, position, n_layers = PUBLISHED[run]
    published = wb.load_published(folder)
    assert published.scores.attrs["n_layers"] == n_layers
    choice = select_direction(published.scores)
    assert (choice.layer, choice.position) == (layer, position)
    assert (published.choice.layer, published.choice.position) == (layer, position)
    evaluations = folder / "select_direction" / "direction_evaluations_filtered.json"
    rows = json.loads(evaluations.read_text())
    eligible = choice.table[choice.table["dropped"] == ""]
    found = list(eligible[["layer", "position"]].itertuples(index=False, name=None))
    assert found == [(row["layer"], row["position"]) for row in rows]
    best = choice.top.iloc[0]
    assert best["bypass"] == pytest.approx(rows[0]["refusal_score"])
    assert best["induce"] == pytest.approx(rows[0]["steering_score"])
    assert best["kl"] == pytest.approx(rows[0]["kl_div_score"])


@pytest.mark.shared
def test_the_runner_up_of_qwen_is_the_one_in_the_papers_table(shared):
    published = wb.load_published(shared / "data" / "published" / "arditi_2024" / "qwen-1_8b-chat")
    choice = select_direction(published.scores, top_k=2)
    top = list(choice.top[["layer", "position"]].itertuples(index=False, name=None))
    assert top == [(15, -2), (15, -1)]


def test_every_dropped_candidate_has_its_reasons():
    scores = scores_of(
        bypass=[[-1], [-9], [-8], [-7], [np.nan], [-6]],
        induce=[[1], [1], [-2], [-3], [np.nan], [1]],
        kl=[[0], [0.5], [0.0], [0.25], [np.nan], [0.3]],
    )
    dropped = select_direction(scores).table.set_index("layer")["dropped"].to_dict()
    assert dropped == {
        0: "",
        1: "KL 0.5 > 0.1",
        2: "induce -2 < 0",
        3: "KL 0.25 > 0.1; induce -3 < 0",
        4: "no score: the vector is zero but for rounding, or its effect is not finite",
        5: "layer ≥ 4: too near the output; KL 0.3 > 0.1",
    }


def test_nothing_passes_and_the_nearest_misses_are_named():
    scores = scores_of(
        bypass=[[-1], [-5], [-4], [-9], [np.nan]],
        induce=[[-1], [1], [-2], [-3], [np.nan]],
        kl=[[0.5], [0.2], [0.0], [0.9], [np.nan]],
    )
    with pytest.raises(StudyError) as caught:
        select_direction(scores)
    message = str(caught.value)
    assert message.startswith(
        "none of 5 candidates passes. Nearest: layer 1, position -1: bypass -5, KL 0.2 > 0.1 | "
        "layer 2, position -1: bypass -4, induce -2 < 0 | layer 3, position -1: bypass -9, "
    )
    assert message.endswith(
        "Raise kl_cap, lower induce_floor or skip_last, or collect other layers and positions."
    )


def test_nothing_has_a_score():
    empty = np.full((2, 1), np.nan)
    with pytest.raises(StudyError, match="Nearest: none has a score"):
        select_direction(scores_of(empty, empty, empty))


@pytest.mark.parametrize("name", ["bypass", "induce", "kl"])
def test_scores_of_something_else(name):
    scores = scores_of([[0]], [[0]], [[0]]).drop_vars(name)
    with pytest.raises(StudyError, match=f"hold no '{name}': expected a result of a sweep"):
        select_direction(scores)


@pytest.mark.parametrize(
    ("n_layers", "skip_last", "last"), [(18, 0.2, 13), (24, 0.2, 18), (10, 0.9, 0), (10, 0.0, 9)]
)
def test_the_last_layers_are_counted_from_the_whole_model(n_layers, skip_last, last):
    grid = -np.arange(float(n_layers))[:, None]
    whole = scores_of(grid, grid + 100, grid * 0)
    assert select_direction(whole, skip_last=skip_last).layer == last
    part = scores_of(grid, grid + 100, grid * 0, n_layers).isel(layer=slice(0, last + 1))
    assert select_direction(part, skip_last=skip_last).layer == last


def test_bounds_are_kept():
    scores = scores_of([[-2], [-1]], [[0.0], [0.0]], [[0.1], [0.0]], n_layers=5)
    assert select_direction(scores).layer == 0


def test_intervals_and_norms_stand_in_the_table():
    scores = scores_of([[-2], [-1]], [[1], [1]], [[0], [0]], n_layers=5)
    scores["norm"] = scores["bypass"] * 0 + 3
    for name in ("bypass", "induce", "kl"):
        bounds = [scores[name] - 1, scores[name] + 1]
        scores[f"{name}_interval"] = xr.concat(bounds, "bound").assign_coords(bound=["low", "high"])
    best = select_direction(scores).table.iloc[0]
    assert (best["bypass_low"], best["bypass"], best["bypass_high"]) == (-3, -2, -1)
    assert best["norm"] == 3


def test_top_k_shows_only_what_can_be_chosen():
    scores = scores_of([[-4], [-3], [-2], [-1]], [[1]] * 4, [[0], [9], [0], [0]], n_layers=9)
    choice = select_direction(scores, top_k=2)
    assert choice.top["layer"].tolist() == [0, 2]
    assert repr(choice) == "Choice(layer=0, position=-1; best of 3 eligible, 4 candidates)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own.rename(position="place"), "'bypass' is not one number for each layer and"),
        (lambda own: own.astype(str), "'bypass' is not one number for each layer and position"),
        (lambda own: own.assign_coords(position=["a", "b"]), "do not say which positions they"),
        (lambda own: own.assign(norm=("layer", [1.0] * 3)), "'norm' is not one number for each"),
        (lambda own: own.isel(layer=[]), "do not say which layers they are of"),
        (lambda own: own.assign_attrs(n_layers="site"), "n_layers of these scores is 'site'"),
        (lambda own: own.assign_attrs(n_layers={}), "n_layers of these scores is {}, no number"),
    ],
)
def test_what_is_no_sweep_is_refused(change, message):
    scores = scores_of(*([[0.5, 0.5]] * 3 for _ in range(3)))
    with pytest.raises(StudyError, match=message):
        wb.select_direction(change(scores))
