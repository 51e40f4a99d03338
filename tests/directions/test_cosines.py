"""Cosine maps: their laws, published numbers, and what does not fit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.activations import Activations
from workbench.artifact import load_dataset, save_dataset
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.errors import AxisError

AXES = ("name", "layer", "position")


def directions(seed=0, names=("a", "b", "c"), layers=(0, 3), positions=(-2, -1), **changes):
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(len(names), len(layers), len(positions), 8, generator=draw)
    made = Directions(values, tuple(names), tuple(layers), tuple(positions))
    return replace(made, **changes)


def resampled(seed=0, n_resamples=20, draws=0, positions=(-2, -1)):
    """Category directions of noise around two offsets; layer 0 is the same in every prompt."""

    def acts(label, categories, shift):
        draw = torch.Generator().manual_seed(seed + shift)
        values = torch.randn(len(categories), 2, len(positions), 8, generator=draw) + shift
        values[:, 0] = 1.5
        ids = tuple(f"{label}-{row}" for row in range(len(categories)))
        return Activations(
            values, (1,) * len(ids), tuple(categories), (label,) * len(ids), ids, (0, 3),
            positions, "resid_pre", {"model": "m", "weights": "w"},
        ).with_resamples(n_resamples, draws)  # fmt: skip

    return mean_difference(
        acts("harmful", "abc" * 20, 1), acts("harmless", "x" * 30, 0), by="category"
    )


@pytest.mark.parametrize("over", AXES)
def test_every_cell_is_the_cosine_of_two_vectors(over):
    found = cosine_similarity_map(directions(), over=over)
    rest = [axis for axis in AXES if axis != over]
    assert found["cosine"].dims == (over, f"{over}_other", *rest)
    labels = [found[dim].values.tolist() for dim in found["cosine"].dims]
    for cell in itertools.product(*labels):
        where = dict(zip(found["cosine"].dims, cell, strict=True))
        one = {axis: where[axis] for axis in AXES}
        other = {**one, over: where[f"{over}_other"]}
        a, b = (directions().at(**each).vector for each in (one, other))
        expected = torch.cosine_similarity(a, b, dim=0)
        assert float(found["cosine"].sel(where)) == pytest.approx(float(expected), abs=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 99), st.sampled_from(AXES), st.floats(0.01, 100), st.booleans())
def test_symmetric_scale_free_and_signed(seed, over, length, negative):
    d = directions(seed)
    cosine = cosine_similarity_map(d, over=over)["cosine"]
    values = cosine.values
    np.testing.assert_allclose(values, values.swapaxes(0, 1), atol=1e-12)
    np.testing.assert_allclose(np.einsum("ii...->i...", values), 1)
    assert np.abs(values).max() <= 1
    scaled = d.values.clone()
    scaled[1] *= -length if negative else length
    found = cosine_similarity_map(replace(d, values=scaled), over=over)["cosine"]
    expected = cosine.copy()
    if over == "name" and negative:
        expected.loc[{"name": "b"}] *= -1
        expected.loc[{"name_other": "b"}] *= -1
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


@pytest.mark.parametrize("over", AXES)
def test_another_set_is_matched_by_label(over):
    a, b = directions(0), directions(1)
    shuffled = b.at(name=["c", "a", "b"], layer=[3, 0], position=[-1, -2])
    expected = cosine_similarity_map(a, b, over=over)["cosine"]
    found = cosine_similarity_map(a, shuffled, over=over)["cosine"]
    np.testing.assert_allclose(found.sel({f"{over}_other": expected[f"{over}_other"]}), expected)
    back = cosine_similarity_map(b, a, over=over)["cosine"]
    np.testing.assert_allclose(back.transpose(f"{over}_other", over, ...), expected)
    one = {axis: getattr(a, f"{axis}s")[0] for axis in AXES}
    other = {**one, over: getattr(a, f"{over}s")[1]}
    by_hand = torch.cosine_similarity(a.at(**one).vector, b.at(**other).vector, dim=0)
    where = {**one, f"{over}_other": other[over]}
    assert float(expected.sel(where)) == pytest.approx(float(by_hand), abs=1e-6)


def test_other_sets_may_have_other_labels_on_the_compared_axis():
    found = cosine_similarity_map(directions(), directions(1, names=("overall",)))
    assert found["cosine"].sizes["name_other"] == 1
    assert found["name_other"].values.tolist() == ["overall"]
    assert "mean_cosine" not in found


def test_without_resamples_there_is_only_the_cosine_and_the_attributes_say_so():
    found = cosine_similarity_map(directions())
    assert set(found.data_vars) == {"cosine", "mean_cosine"}
    assert found.attrs["baselines"].startswith("none: these directions carry no resampled vectors")
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(
        found["mean_cosine"].values, found["cosine"].values[off].mean(0), atol=1e-12
    )


def test_two_sets_that_were_resampled_differently_have_no_baselines():
    found = cosine_similarity_map(resampled(), resampled(draws=1))
    assert set(found.data_vars) == {"cosine"}
    assert "resampled differently (20 times with seed 0, 20 times with" in found.attrs["baselines"]


@pytest.mark.parametrize("over", AXES)
def test_with_resamples_there_are_baselines(over):
    d = resampled()
    found = cosine_similarity_map(d, over=over, confidence=0.8)
    expected = {"cosine", "disattenuated", "ceiling", "cosine_interval", "disattenuated_interval"}
    expected |= {"reliability", "p_one_direction"}
    if over == "name":
        expected |= {"null", "p_permuted"} | {f"mean_{n}" for n in expected - {"reliability"}}
        expected |= {"mean_null", "mean_p_permuted"}
    assert set(found.data_vars) == expected
    baselines = {"reliability", "disattenuated", "ceiling"} | (
        {"null"} if over == "name" else set()
    )
    assert set(found.attrs["baselines"]) == baselines
    rest = {axis for axis in AXES if axis != over}
    assert set(found["reliability"].dims) == {over, *rest}
    assert set(found["cosine_interval"].dims) == {over, f"{over}_other", *rest, "bound"}
    assert found.attrs["confidence"] == 0.8
    assert found.attrs["n"] == {"positive": 60, "negative": 30}
    for variable in found.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"] in ("cosine", "share")
    plain = cosine_similarity_map(replace(d, resampled=None), over=over)
    np.testing.assert_allclose(found["cosine"], plain["cosine"])
    # A direction is itself, with certainty and at its own ceiling.
    at = {"layer": 3} if over != "layer" else {"layer": 3, "layer_other": 3}
    cell = {axis: 0 for axis in AXES} | ({f"{over}_other": 0} if over != "layer" else {})
    cell.pop("layer")
    itself = found.sel(at).isel(cell)
    for name in ("cosine", "disattenuated", "ceiling"):
        assert float(itself[name]) == pytest.approx(1)
    np.testing.assert_allclose(itself["disattenuated_interval"], [1, 1])


def test_two_sets_have_a_reliability_each_and_no_null():
    a, b = resampled(0), resampled(1)
    found = cosine_similarity_map(a, b)
    assert {"reliability", "reliability_other", "disattenuated"} <= set(found.data_vars)
    assert not {"null", "p_permuted", "mean_cosine"} & set(found.data_vars)
    assert set(found.attrs["baselines"]) == {"reliability", "disattenuated", "ceiling"}
    own = cosine_similarity_map(b)["reliability"].rename(name="name_other")
    np.testing.assert_allclose(
        found["reliability_other"], own.transpose(*found["reliability_other"].dims)
    )
    with_itself = cosine_similarity_map(a, a)
    alone = cosine_similarity_map(a)
    for name in ("cosine", "disattenuated", "ceiling", "cosine_interval"):
        np.testing.assert_allclose(with_itself[name], alone[name])


def test_what_is_zero_has_no_cosine_and_the_rest_has():
    found = cosine_similarity_map(resampled())
    for name, variable in found.data_vars.items():
        assert variable.sel(layer=0).isnull().all(), name
    for name in ("cosine", "ceiling", "null", "p_permuted", "mean_cosine", "reliability"):
        assert found[name].sel(layer=3).notnull().all(), name
    between_layers = cosine_similarity_map(resampled(), over="layer")["cosine"]
    assert between_layers.sel(layer=0).isnull().all()
    assert between_layers.sel(layer_other=0).isnull().all()
    assert between_layers.sel(layer=3, layer_other=3).notnull().all()


@pytest.mark.parametrize("over", AXES)
def test_a_map_is_an_artifact(over, tmp_path):
    found = cosine_similarity_map(resampled(), over=over)
    save_dataset(tmp_path / "map", found, kind="cosines")
    assert load_dataset(tmp_path / "map", kind="cosines").equals(found)


ZERO = directions().values.clone()
ZERO[1] = 0


@pytest.mark.parametrize(
    ("other", "over", "message"),
    [
        (replace(directions(), values=torch.ones(3, 2, 2, 4)), "name", "widths differ: 8 and 4"),
        (directions(site="mlp_out"), "name", "sites differ: resid_pre and mlp_out"),
        (directions(provenance={"weights": "cd"}), "name", "different weights: ab and cd"),
        (directions(provenance={"model": "n"}), "name", "different model: m and n"),
        (directions(layers=(0, 4)), "name", r"layers differ: \[0, 3\] and \[0, 4\]"),
        (directions(positions=(-3, -1)), "layer", "positions differ"),
        (directions(names=("a", "b", "d")), "layer", "names differ.*or compare over='name'"),
        (replace(directions(), values=ZERO), "name", "b is zero or not finite at every layer"),
    ],
)
def test_what_does_not_fit(other, over, message):
    mine = directions(provenance={"weights": "ab", "model": "m"})
    with pytest.raises(AxisError, match=message):
        cosine_similarity_map(mine, other, over=over)


def test_an_axis_that_does_not_exist(unchecked):
    with pytest.raises(AxisError, match="no axis 'head' to compare: name, layer, position"):
        cosine_similarity_map(directions(), over="head")


@pytest.mark.shared
@pytest.mark.parametrize("index, mean", [(4, 0.5828), (8, 0.6067), (14, 0.6409), (22, 0.6538)])
def test_published_category_directions(shared, index, mean):
    # Zhao et al. 2025, eleven categories of Qwen2-7B-Instruct, rows of the published tensors.
    d = wb.load_published(shared / "data/published/zhao_2025").directions
    categories = [name for name in d.names if name != "overall"]
    assert len(categories) == 11
    found = cosine_similarity_map(d.at(name=categories, layer=index)).squeeze()
    assert float(found["mean_cosine"]) == pytest.approx(mean, abs=1e-3)
    if index == 14:
        values = found["cosine"].where(~np.eye(11, dtype=bool))
        assert float(values.min()) == pytest.approx(0.4787, abs=1e-3)
        assert float(values.max()) == pytest.approx(0.8231, abs=1e-3)
        lowest = found["cosine"].sel(name="Child_Abuse", name_other="Tailored_Financial_Advice")
        assert float(lowest) == pytest.approx(0.4787, abs=1e-3)
