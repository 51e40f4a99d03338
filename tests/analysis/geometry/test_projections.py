"""Projections of prompts: a planted gap comes back, and prompts that were seen are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import workbench as wb
from workbench.analysis.geometry.projections import project_prompts


def direction(**settings):
    values = torch.stack([torch.zeros(8), 3 * torch.eye(8)[2]])[None, :, None]
    return wb.Directions(values, ("refusal",), (0, 4), (-1,), **settings)


def acts(label, gap, n=20, seed=0, prompts=None):
    """Prompts that reach ``gap`` along axis 2 at layer 4, with unit noise."""
    values = torch.randn(n, 2, 1, 8, generator=torch.Generator().manual_seed(seed))
    values[:, 1, 0, 2] += gap
    ids = tuple(f"{label}-{row}" for row in range(n))
    return wb.Activations(
        values, (1,) * n, ("x",) * n, (label,) * n, ids, (0, 4), (-1,), "resid_pre",
        {"prompts": prompts}, ids,
    )  # fmt: skip


def test_projections_are_along_the_unit_vector_and_separate_what_was_planted():
    sets = [acts("harmful", 2.0), acts("harmless", 0.0, seed=1), acts("borderline", 0.0, seed=2)]
    found = project_prompts(direction(), sets)
    values = found["projection"].sel(layer=4).values
    np.testing.assert_allclose(values[:20], sets[0].values[:, 1, 0, 2].numpy(), rtol=1e-6)
    for group in ("harmful", "borderline"):
        rows = np.isin(found["label"].values, (group, "harmless"))
        own = found["label"].values[rows] == group
        cell = found.sel(layer=4, group=group)
        assert float(cell["auc"]) == pytest.approx(roc_auc_score(own, values[rows]))
        low, high = cell["auc_interval"].values
        assert low <= float(cell["auc"]) <= high
    assert float(found["auc"].sel(layer=4, group="harmful")) > 0.8
    assert 0.3 < float(found["auc"].sel(layer=4, group="borderline")) < 0.7


def test_a_direction_that_is_zero_projects_nothing():
    found = project_prompts(direction(), [acts("harmful", 1.0), acts("harmless", 0.0)])
    assert found["projection"].sel(layer=0).isnull().all()
    assert found["auc"].sel(layer=0).isnull().all()


def test_single_prompts_that_the_direction_was_estimated_on_are_refused_and_kept_on_disk(tmp_path):
    sets = [acts("harmful", 1.0), acts("harmless", 0.0)]
    sets = [replace(each, prompt_keys=each.ids) for each in sets]
    seen = direction(prompt_keys=("harmful-3", "harmful-7", "other"))
    seen = wb.Directions.load(seen.save(tmp_path / "seen.safetensors"))
    sets[0] = wb.Activations.load(sets[0].save(tmp_path / "acts.safetensors"))
    with pytest.raises(wb.StudyError, match=r"2 of 20 prompts are among .* estimated on"):
        project_prompts(seen, sets)
    kept = [row for row in range(20) if row not in (3, 7)]
    project_prompts(seen, [sets[0].rows(kept), sets[1]])


def test_prompts_that_the_direction_was_estimated_on_are_refused():
    seen = direction(provenance={"prompts": {"positive": "abc", "negative": "def"}})
    with pytest.raises(wb.StudyError, match="estimated on"):
        project_prompts(seen, [acts("harmful", 1.0, prompts="abc"), acts("harmless", 0.0)])


def test_what_cannot_be_projected_is_refused():
    with pytest.raises(wb.StudyError, match="expected harmless prompts and others, found harmful"):
        project_prompts(direction(), acts("harmful", 1.0))
    two = wb.Directions(torch.ones(2, 2, 1, 8), ("a", "b"), (0, 4), (-1,))
    with pytest.raises(wb.AxisError, match="expected one name and position"):
        project_prompts(two, [acts("harmful", 1.0), acts("harmless", 0.0)])
    other = wb.Directions(torch.ones(1, 2, 1, 4), ("a",), (0, 4), (-1,))
    with pytest.raises(wb.AxisError, match="width 4 at resid_pre do not go with"):
        project_prompts(other, [acts("harmful", 1.0), acts("harmless", 0.0)])
