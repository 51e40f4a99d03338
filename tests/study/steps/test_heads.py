"""Heads of a run: what was planted is found, and the command and the analysis agree."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.artifact import load_dataset
from workbench.models.organisms import organism_card, organism_names
from workbench.study.ledger import Ledger
from workbench.study.steps.heads import find_heads, planted_heads, strongest

PLANTED = [[3, 2], [3, 3], [4, 4], [4, 5]]
RESULTS = ["head_patching", "head_screen", "head_set", "head_attribution", "head_attention"]


@pytest.fixture(scope="module")
def own_run(small_run, tmp_path_factory):
    """A copy of the small run that this file may open."""
    return shutil.copytree(small_run.folder, tmp_path_factory.mktemp("heads") / "run")


@pytest.fixture(scope="module")
def found(pocket, small_study, own_run):
    """Heads of two layers at two positions, with the direction of a finished run."""
    said = []
    heads, folder = find_heads(
        small_study, own_run, model=pocket, layers=[3, 4], positions=[-2, -1],
        n_random=2, say=said.append,
    )  # fmt: skip
    return heads, folder, said


def test_the_analysis_of_a_run_finds_the_planted_heads(small_run):
    results = small_run.results
    planted = {tuple(head) for head in PLANTED}
    for name, variable in (("head_patching", "effect"), ("head_screen", "estimate")):
        at = results[name][variable].sel(position=-1).to_series()
        assert {*at.nlargest(4).index} == planted
    written = results["head_attribution"]["contribution"].sel(group="difference").to_series()
    assert {*written.nlargest(4).index} == planted
    curve = results["head_set"]
    assert curve.attrs["reached"] and {tuple(each) for each in curve.attrs["heads"]} == planted
    assert float(curve["random_rate"].max()) < 0.5
    assert results["head_patching"].attrs["planted_heads"] == PLANTED
    assert {*results["head_attention"]["head"].values[:4]} == {"3.2", "3.3", "4.4", "4.5"}
    line = small_run.found["heads"]
    assert line.startswith("largest effects ") and "rank correlation" in line


def test_the_direction_of_a_finished_run_is_taken(found, own_run, small_run):
    heads, folder, said = found
    assert folder == own_run / "heads" and not folder.exists()
    assert [line.split()[0] for line in said] == [
        "loading", "test", "patching", "screening", "growing", "attributing",
    ]  # fmt: skip
    attribution = heads.results["head_attribution"]
    assert attribution.attrs["direction_layer"] == small_run.choice.layer
    assert list(heads.results) == RESULTS


def test_layers_and_positions_are_those_asked_for(found):
    heads, _, _ = found
    assert heads.results["head_patching"]["layer"].values.tolist() == [3, 4]
    assert heads.results["head_patching"]["position"].values.tolist() == [-2, -1]
    assert heads.results["head_screen"]["compared_position"].values.tolist() == [-2, -1]
    assert {layer for layer, _ in heads.results["head_set"].attrs["heads"]} <= {3, 4}
    assert all(layer in (3, 4) for layer, _, _ in heads.top)


def test_it_is_saved_with_a_table_and_figures(found):
    heads, folder, _ = found
    written = heads.save(folder)
    assert all(path.is_file() for path in written)
    for name, dataset in heads.results.items():
        stored = load_dataset(folder / f"{name}.safetensors", kind=name)
        assert {*stored.data_vars} == {*dataset.data_vars}
    table = pd.read_csv(folder / "heads.csv")
    assert len(table) == 2 * 2 * 8
    row = table.query("layer == 4 and head == 5 and position == -1").iloc[0]
    at = {"layer": 4, "head": 5}
    patching, attribution = heads.results["head_patching"], heads.results["head_attribution"]
    assert row["effect"] == pytest.approx(float(patching["effect"].sel(position=-1, **at)))
    ends = patching["effect_interval"].sel(position=-1, **at).values
    assert row[["effect_low", "effect_high"]].tolist() == pytest.approx(ends.tolist(), nan_ok=True)
    contribution = attribution["contribution"].sel(group="difference", **at)
    assert row["contribution"] == pytest.approx(float(contribution))
    # The direction was read at position -1 only.
    other = table.query("position != @attribution.attrs['position']")
    assert other["contribution"].isna().all() and other["estimate"].notna().all()
    names = {path.stem for path in (folder / "figures").glob("*.html")}
    assert names == {*heads.figures()}


def test_what_is_saved_in_a_run_is_tied_to_it(found, own_run, small_study, pocket, monkeypatch):
    heads, folder, _ = found
    if not folder.exists():
        heads.save(folder)
    wb.load_run(own_run)
    path = folder / "head_set.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(wb.ArtifactError, match=r"head_set.* is damaged.*`workbench patch-heads`"):
        wb.load_run(own_run)
    monkeypatch.setattr("workbench.study.run.draw", lambda *_arguments, **_settings: [])
    said = []
    wb.run_study(small_study, own_run, model=pocket, say=said.append)
    assert any(
        "head_set" in line and "`workbench patch-heads` makes it again" in line for line in said
    )
    path.write_bytes(whole)
    wb.load_run(own_run)
    fewer = {name: own for name, own in heads.results.items() if name != "head_set"}
    replace(heads, results=fewer).save(folder)
    assert not path.exists() and not list(folder.glob("figures/head_set.*"))
    assert "heads/head_set.safetensors" not in Ledger.read(own_run).entries
    assert (folder / "figures" / "head_map.html").exists()
    wb.load_run(own_run)
    for origin, told in (({}, "found with no run"), ({"prompts.json": "0"}, "another prompts")):
        with pytest.raises(wb.StudyError, match=told):
            replace(heads, made_from=origin).save(folder)


def test_suppressing_and_projections_turn_round_and_leave_the_screen_out(
    pocket, small_study, own_run
):
    heads, _ = find_heads(
        small_study, own_run, model=pocket, layers=[4], aim="suppress",
        metric="projection", n_random=0, threshold=0.5,
    )  # fmt: skip
    assert "head_screen" not in heads.results
    patching, curve = heads.results["head_patching"], heads.results["head_set"]
    assert patching.attrs["aim"] == curve.attrs["aim"] == "suppress"
    lowest = patching["effect"].sel(position=-1).to_series().nsmallest(2)
    assert {*lowest.index} == {(4, 4), (4, 5)} and (lowest < -2).all()
    assert "estimate" not in heads.to_dataframe()
    assert len(heads.figures()) == 5


def test_the_strongest_are_told_from_zero(found):
    patching = found[0].results["head_patching"].copy(deep=True)
    assert {*strongest(patching, 2)} == {(4, 5, -1), (4, 4, -1)}
    patching["effect_interval"][:] = [-100.0, 100.0]
    effect = abs(patching["effect"])
    assert len(strongest(patching, 2)) == 1
    assert strongest(patching, 2)[0] in {(4, 5, -1), (4, 4, -1)} and float(effect.max()) > 1
    assert np.isfinite(effect).all()


def test_planted_heads_are_those_of_the_card():
    assert planted_heads("pocket") == PLANTED
    assert planted_heads("pocket-base") is None and planted_heads("elsewhere") is None
    for name in organism_names():
        components = organism_card(name).get("planted", {}).get("components", {})
        assert len(planted_heads(name) or []) == sum(len(c["heads"]) for c in components.values())


def test_another_study_in_the_folder_is_refused(own_run, pocket):
    with pytest.raises(wb.StudyError, match="another study: n_train, prompts differ"):
        find_heads(wb.Study(n_train=47, n_validation=16, n_test=12, max_new_tokens=16),
                   own_run, model=pocket)  # fmt: skip
