"""Controls of a run: in its folder, its tables and report, and made again when they are gone."""

import shutil

import numpy as np

import workbench as wb
from workbench.report.summary import summary
from workbench.study import control_lines


def test_a_run_measures_controls_beside_its_direction(small_run):
    found = small_run.controls
    kinds = found["control_kind"].values.tolist()
    assert kinds == ["isotropic"] * 10 + ["covariance"] * 10
    assert found["condition"].values.tolist() == ["ablated", "added", "projection set"]
    assert int(found["n"].max()) <= 16 and found.attrs["n_swept"] == [12, 12]
    for kind, condition in (("harmful", "ablated"), ("harmless", "added")):
        at = found.sel(prompt_set=kind, condition=condition)
        assert bool(at["outside"]) and float(at["p_value"]) == 1 / 21
        assert abs(float(at["effect"])) > abs(at["control_effect"]).max()
    cell = small_run.scores.sel(layer=small_run.choice.layer, position=small_run.choice.position)
    for name in ("bypass", "induce", "kl"):
        prompts = cell[f"{name}_by_prompt"].values[:12]
        np.testing.assert_allclose(float(found[name]), prompts.mean(), atol=1e-3)


def test_tables_and_reports_say_what_any_vector_does(small_run):
    line = control_lines.told(small_run.controls, "harmless", "added")
    at = small_run.controls.sel(prompt_set="harmless", condition="added")
    low, high = float(at["control_effect"].min()), float(at["control_effect"].max())
    assert f"[{low:+.1f}, {high:+.1f}] nats, the direction by {float(at['effect']):+.1f}" in line
    assert line.endswith("outside the range of 20 controls (one-sided p = .048)")
    told = " ".join(summary(small_run))
    assert line[1:] in told and "half of them drawn as activations vary" in told
    within = at.assign(outside=False).expand_dims(prompt_set=["harmless"], condition=["added"])
    assert "within the range" in control_lines.told(within, "harmless", "added")
    assert control_lines.told(within, "harmless", "added").endswith("no finding")
    assert len(list(control_lines.rows(small_run.controls))) == 6


def test_controls_that_are_gone_are_made_again_with_the_same_bytes(
    small_run, small_study, pocket, tmp_path
):
    folder = shutil.copytree(small_run.folder, tmp_path / "run")
    path = folder / "controls.safetensors"
    before = path.read_bytes()
    path.unlink()
    said = []
    wb.run_study(small_run.study, folder, model=pocket, say=said.append)
    assert any(line.startswith("controls.safetensors is missing") for line in said)
    assert path.read_bytes() == before


def test_too_few_training_prompts_leave_random_vectors_alone(small_run):
    controls = small_run.controls.isel(control=range(10)).assign_attrs(kinds=["isotropic"])
    assert "activations vary" not in control_lines.about(controls)
    assert "p of 0.091 at least" in control_lines.about(controls)
