"""Controls of a run: in its folder, its tables and report, and made again when they are gone."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from workbench.report.summary import summary
from workbench.study import control_lines, controls, names, stages


def test_a_run_measures_controls_beside_its_direction(small_run):
    found = small_run.controls
    kinds = found["control_kind"].values.tolist()
    assert kinds == ["isotropic"] * 20 + ["covariance"] * 20 + ["permuted"] * 20
    assert found["judged"].values.tolist() == ["isotropic 1", "covariance 1", "permuted 1"]
    assert found["condition"].values.tolist() == ["ablated", "added", "projection set"]
    assert all("units" in found[name].attrs for name in found if found[name].dtype.kind == "f")
    assert int(found["n"].max()) <= 16 and found.attrs["n_swept"] == [12, 12]
    for kind, condition in (("harmful", "ablated"), ("harmless", "added")):
        at = found.sel(prompt_set=kind, condition=condition)
        assert bool(at["outside"]) and float(at["p_value"]) == pytest.approx(2 / 21)
        assert abs(float(at["effect"])) > abs(at["control_effect"]).max()
    cell = small_run.scores.sel(layer=small_run.choice.layer, position=small_run.choice.position)
    for name in ("bypass", "induce", "kl"):
        every = cell[f"{name}_by_prompt"].values
        prompts = every[np.linspace(0, len(every) - 1, 12).round().astype(int)]
        np.testing.assert_allclose(float(found[name]), prompts.mean(), atol=1e-3)


def test_tables_and_reports_say_what_any_vector_does(small_run):
    line = control_lines.told(small_run.controls, "harmless", "added")
    at = small_run.controls.sel(prompt_set="harmless", condition="added")
    for sort, own in (
        ("random vector", slice(40)),
        ("direction of shuffled labels", slice(40, 60)),
    ):
        every = at["control_effect"].values[own]
        assert f"{np.median(every):+.1f} [{every.min():+.1f}, {every.max():+.1f}]" in line
        assert sort in line
    assert f"the direction by {float(at['effect']):+.1f}, outside" in line
    assert line.endswith("outside the range of 20 controls of each kind (two-sided p = .095)")
    told = " ".join(summary(small_run))
    assert line[1:] in told and "20 random vectors of each of two kinds" in told
    assert "and 20 directions of shuffled labels" in told
    assert "leaves the range of its kind in 10% of cases" in told
    assert "of 6 effects are outside, up to 0.6 would be by chance" in told
    where = small_run.controls.attrs["scored_on"]
    assert set(where) == {"harmful", "harmless"} and f"harmful {where['harmful']}" in told
    within = at.assign(outside=False).expand_dims(prompt_set=["harmless"], condition=["added"])
    assert "within the range" in control_lines.told(within, "harmless", "added")
    assert control_lines.told(within, "harmless", "added").endswith("no finding")
    assert len(list(control_lines.rows(small_run.controls))) == 6


def test_controls_that_are_gone_are_made_again_with_the_same_bytes(
    small_run, pocket, tmp_path, monkeypatch
):
    # test_run.py computes them a second time.
    measured = small_run.controls.load()
    monkeypatch.setattr(stages, "measure_controls", lambda *_: measured)
    folder = shutil.copytree(small_run.folder, tmp_path / "run")
    path = folder / "controls.safetensors"
    before = path.read_bytes()
    path.unlink()
    said = []
    wb.run_study(small_run.study, folder, model=pocket, say=said.append)
    assert any(line.startswith("controls.safetensors is missing") for line in said)
    assert path.read_bytes() == before


def test_too_few_training_prompts_leave_random_vectors_alone(small_run):
    alone = small_run.controls.isel(control=range(20)).assign_attrs(kinds=["isotropic"])
    assert "activations vary" not in control_lines.about(alone)
    assert "p is .095 at least" in control_lines.about(alone)
    line = control_lines.told(alone, "harmless", "added")
    assert line.endswith("outside the range of 20 controls (two-sided p = .095)")


@pytest.mark.usefixtures("unchecked")
def test_where_thinking_is_not_closed_there_are_no_controls(
    small_run, pocket, tmp_path, monkeypatch
):
    prompts, said = wb.load_prompts("harmful").sample(9), []
    kept = {"harmful": prompts, "harmless": prompts.sample(3)}
    study = replace(small_run.study, score_after="thinking")
    material = SimpleNamespace(
        model=pocket,
        study=study,
        test=kept,
        kept_test=kept,
        thoughts={kind: {prompts.ids[0]: [1]} for kind in kept},
        say=said.append,
    )
    assert controls.measure_controls(material, {}, 0.0) is None  # pyright: ignore
    assert said == ["controls not measured: thinking is closed on 1 harmful prompts"]

    monkeypatch.setattr(stages, "measure_controls", lambda *_: None)
    folder = shutil.copytree(small_run.folder, tmp_path / "run")
    (folder / names.CONTROLS).unlink()
    again = wb.run_study(small_run.study, folder, model=pocket)
    assert again.controls is None and not (folder / names.CONTROLS).exists()
    assert "random vectors of each of" not in " ".join(summary(again)) and list(summary(again))
