"""Estimators recover a direction that was planted in noise."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.activations import Activations
from workbench.directions.estimate import mean_difference, pca_direction, probe_direction
from workbench.errors import AxisError, StudyError

D_MODEL, LAYERS, POSITIONS = 24, (0, 1), (-2, -1)
FITTED = (pca_direction, probe_direction)
ALL = (mean_difference, *FITTED)


def planted(label, shift, n=200, seed=0, noise=1.0, categories=("one", "two")):
    """Noise around an offset, plus ``shift``; layer 0 is the same in every prompt."""
    draw = torch.Generator().manual_seed(seed + (label == "harmful"))
    values = noise * torch.randn(n, len(LAYERS), len(POSITIONS), D_MODEL, generator=draw)
    values[:, 0] = 0
    values[:, 1] += shift
    values += torch.linspace(-3, 3, D_MODEL)
    return Activations(
        values=values,
        counts=(1,) * n,
        categories=tuple(categories[row % len(categories)] for row in range(n)),
        labels=(label,) * n,
        ids=tuple(f"{label}-{row}" for row in range(n)),
        layers=LAYERS,
        positions=POSITIONS,
        site="resid_pre",
        provenance={"model": "synthetic", "weights": "ab", "prompts": label},
    )


def truth(length=8.0, seed=5):
    vector = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    return length * vector / vector.norm()


def streamed(acts):
    """The same activations as means over categories."""
    names = tuple(sorted(set(acts.categories)))
    return replace(
        acts,
        values=torch.stack([acts.mean(name) for name in names]),
        counts=tuple(acts.categories.count(name) for name in names),
        categories=names,
        labels=(acts.labels[0],) * len(names),
        ids=(),
    )


@pytest.mark.parametrize("estimate", ALL)
@settings(max_examples=10)
@given(seed=st.integers(0, 99), sign=st.sampled_from([1, -1]))
def test_a_planted_direction_is_recovered(estimate, seed, sign):
    r = sign * truth(4.0, seed)
    positive = planted("harmful", r, n=500, seed=seed)
    found = estimate(positive, planted("harmless", 0, n=500, seed=seed))
    for position in POSITIONS:
        vector = found.at(layer=1, position=position).vector
        assert torch.cosine_similarity(vector, r, dim=0) > 0.95
        assert vector.norm() == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("estimate", ALL)
def test_swapping_the_sets_turns_the_direction(estimate):
    positive, negative = planted("harmful", truth()), planted("harmless", 0)
    there = estimate(positive, negative)
    # Under labels that say otherwise, the same would be refused.
    positive, negative = (replace(each, labels=("a",) * 200) for each in (positive, negative))
    back = estimate(negative, positive)
    torch.testing.assert_close(there.values, -back.values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("estimate", FITTED)
def test_length_is_the_gap_between_the_mean_projections(estimate):
    positive, negative = planted("harmful", truth()), planted("harmless", 0)
    found = estimate(positive, negative).at(layer=1, position=-1)
    unit = found.unit().vector.double()
    gap = (positive.mean() - negative.mean())[1, 1] @ unit
    assert found.vector.norm().item() == pytest.approx(gap.item(), rel=1e-5)


def test_the_mean_difference_has_its_natural_length():
    positive, negative = planted("harmful", truth()), planted("harmless", 0)
    found = mean_difference(positive, negative)
    expected = positive.values.double().mean(0) - negative.values.double().mean(0)
    torch.testing.assert_close(found.values[0].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimate", ALL)
def test_a_token_that_is_the_same_in_every_prompt_gives_nothing(estimate):
    found = estimate(planted("harmful", truth()), planted("harmless", 0))
    assert found.values[0, 0].norm() < 1e-5
    assert found.degenerate[0].tolist() == [[True, True], [False, False]]


def test_the_probe_looks_through_a_loud_coordinate_and_pca_does_not():
    positive, negative = planted("harmful", truth(4.0)), planted("harmless", 0)
    loud = torch.randn(400, generator=torch.Generator().manual_seed(9)) * 50
    r = truth(4.0)
    r[0] = 0
    for acts, part in ((positive, loud[:200]), (negative, loud[200:])):
        acts.values[:, 1, :, 0] = part[:, None]
    probe = probe_direction(positive, negative).at(layer=1, position=-1).vector
    component = pca_direction(positive, negative).at(layer=1, position=-1).vector
    assert torch.cosine_similarity(probe, r, dim=0) > 0.9
    assert abs(torch.cosine_similarity(component, r, dim=0)) < 0.2


def test_the_probe_does_not_depend_on_the_units_of_a_coordinate():
    # It tells the sets apart by w·x, so in other units x·s it must find w/s.
    units = torch.logspace(-2, 2, D_MODEL)
    pair = planted("harmful", truth(2.0)), planted("harmless", 0)
    scaled = [replace(acts, values=acts.values * units) for acts in pair]
    own = probe_direction(*pair).at(layer=1, position=-1).vector
    other = probe_direction(*scaled).at(layer=1, position=-1).vector
    assert torch.cosine_similarity(own, other * units, dim=0) > 0.999


def test_stronger_regularization_moves_the_probe_to_the_mean_difference():
    positive, negative = planted("harmful", truth(2.0), n=60), planted("harmless", 0, n=60)
    mean = mean_difference(positive, negative).at(layer=1, position=-1).vector
    cosines = [
        torch.cosine_similarity(
            probe_direction(positive, negative, regularization=c).at(layer=1, position=-1).vector,
            mean,
            dim=0,
        )
        for c in (1e-6, 100.0)
    ]
    assert cosines[0] > 0.98 > cosines[1]


def test_one_direction_per_category():
    shift = truth()
    positive = planted("harmful", shift)
    odd = torch.arange(200) % 2 == 1
    other = truth(seed=6)
    positive.values[odd, 1] += other - shift
    found = mean_difference(positive, planted("harmless", 0), by="category")
    assert found.names == ("one", "two")
    for name, expected in (("one", shift), ("two", other)):
        vector = found.at(name=name, layer=1, position=-1).vector
        assert torch.cosine_similarity(vector, expected, dim=0) > 0.95
    assert mean_difference(positive, planted("harmless", 0)).names == ("refusal",)


@pytest.mark.parametrize("by", [None, "category"])
def test_streamed_means_give_the_same_difference(by):
    positive, negative = planted("harmful", truth()), planted("harmless", 0, n=30)
    found = mean_difference(streamed(positive), streamed(negative), by=by)
    torch.testing.assert_close(found.values, mean_difference(positive, negative, by=by).values)


def test_provenance_says_what_it_was_made_from():
    provenance = mean_difference(planted("harmful", 1), planted("harmless", 0, n=30)).provenance
    assert provenance["method"] == "mean_difference"
    assert provenance["prompts"] == {"positive": "harmful", "negative": "harmless"}
    assert provenance["n"] == {"positive": 200, "negative": 30}
    assert provenance["weights"] == "ab"


@pytest.mark.parametrize("estimate", FITTED)
def test_fits_need_single_prompts(estimate):
    acts = planted("harmful", truth())
    for pair in ((streamed(acts), acts), (acts, streamed(acts))):
        with pytest.raises(StudyError, match=r"needs single prompts: collect with per_prompt=True"):
            estimate(*pair)


@pytest.mark.parametrize("estimate", ALL)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "mlp_out"}, "site differ: positive resid_pre, negative mlp_out"),
        ({"layers": (0, 2)}, r"layers differ: positive \(0, 1\), negative \(0, 2\)"),
        ({"positions": (-3, -1)}, "positions differ"),
        ({"values": torch.zeros(200, 2, 2, 8)}, "widths differ: 24 and 8"),
        ({"provenance": {"weights": "cd"}}, "come from different weights"),
    ],
)
def test_what_was_not_read_in_the_same_place(estimate, change, message):
    negative = replace(planted("harmless", 0), **change)
    with pytest.raises(AxisError, match=message):
        estimate(planted("harmful", truth()), negative)


@pytest.mark.parametrize("estimate", ALL)
def test_one_set_of_prompts_against_itself_is_refused(estimate):
    acts = replace(planted("harmful", truth()), prompt_keys=("a", "b"))
    with pytest.raises(AxisError, match="the same 2 prompts, between which there is no difference"):
        estimate(acts, acts)


def labelled(label, system=None):
    acts = wb.Activations(
        torch.full((2, 1, 1, 3), float(len(label))), (1, 1), ("", ""), (label, label),
        (f"{label} 0", f"{label} 1"), (1,), (-1,), "resid_pre", {"system": system},
    )  # fmt: skip
    return acts


def test_two_system_prompts_are_not_subtracted():
    with pytest.raises(
        AxisError, match=r"system prompts differ: positive none, negative 'Be brief\.'"
    ):
        wb.mean_difference(labelled("harmful"), labelled("harmless", "Be brief."))


def test_labels_that_are_swapped_are_refused():
    with pytest.raises(AxisError, match="positive prompts are all labelled harmless"):
        wb.mean_difference(labelled("harmless"), labelled("harmful"))
    wb.mean_difference(labelled("harmful"), labelled("borderline"))


def test_positions_are_chosen_by_their_names_too():
    r = wb.Directions(
        torch.eye(3).view(1, 1, 3, 3), ("r",), (1,), (-5, -2, -1),
        provenance={"t_inst_position": -5},
    )  # fmt: skip
    assert r.at(position="t_inst").positions == (-5,) and r.at(position="t_post").positions == (-1,)
    assert r.at(position=("t_inst", "t_post")).positions == (-5, -1)
    assert r.at(position=range(-2, 0)).positions == (-2, -1)
    unknown = wb.Directions(torch.eye(3).view(1, 1, 3, 3), ("r",), (1,), (-5, -2, -1))
    with pytest.raises(AxisError, match="no position 't_inst' in these directions"):
        unknown.at(position="t_inst")
