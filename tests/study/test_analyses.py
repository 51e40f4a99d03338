"""Analyses of a run: made once, resumed to the same bytes, skipped with a reason."""

import json
import shutil
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import xarray as xr
from hostile.sealing import seal_run

import workbench as wb
from workbench.prompts.sources import load_prompts
from workbench.scores.judges import judge_name
from workbench.study import material as shared_material
from workbench.study import registry
from workbench.study.registry import ANALYSES, Analysis, chosen_analyses

DEFAULT = chosen_analyses("default")
RESULTS = [name for each in DEFAULT for name in each.results]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch, request):
    """No figures: they take longer than most analyses, and the gallery has tests of its own."""
    request.getfixturevalue("small_run")  # which is drawn, as other tests want it
    monkeypatch.setattr("workbench.study.run.draw", lambda *_args, **_settings: [])


def contents(run):
    folder = run.folder / "analyses"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def main_results(small_run, tmp_path):
    """A copy of a run whose main results are done and whose analyses are not."""
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    shutil.rmtree(folder / "analyses")
    for path in folder.glob("category_directions*"):
        path.unlink()
    return seal_run(folder)


def test_every_analysis_of_the_list_is_made(small_run):
    assert list(small_run.results) == RESULTS
    assert small_run.skipped == {}
    assert list(small_run.found) == [each.name for each in DEFAULT]


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda each: each.name)
def test_every_entry_says_what_it_is_and_resolves(analysis):
    module, function = analysis.home.split(".")
    assert callable(getattr(import_module(f"workbench.study.steps.{module}"), function))
    assert analysis.what and analysis.needs and analysis.results


def test_category_directions_come_from_kept_training_prompts(small_run):
    kept = json.loads((small_run.folder / "prompts.json").read_text())["kept"]["train"]
    stored = wb.Directions.load(small_run.folder / "category_directions.safetensors")
    n = stored.provenance["n"]
    assert n == {"positive": len(kept["harmful"]), "negative": len(kept["harmless"])}
    assert set(stored.names) == set(load_prompts("harmful").categories)


def test_what_is_detected_is_measured_on_prompts_that_no_estimate_saw(small_run):
    kept = json.loads((small_run.folder / "prompts.json").read_text())["kept"]
    parts = [kept[part] for part in ("train", "validation")]
    trained = {own for part in parts for ids in part.values() for own in ids}
    tested = set(small_run.replies["id"])
    for name in ("pca", "projections", "transfer"):
        prompts = set(small_run.results[name]["prompt"].values.tolist())
        assert prompts <= tested and not prompts & trained
    assert small_run.results["concept"].attrs["n"] == len(tested)


def test_maps_lie_at_the_chosen_place_and_have_intervals(small_run):
    choice = small_run.choice
    between = small_run.results["cosines"]
    assert between["position"].values.tolist() == [choice.position]
    at = between.sel(layer=choice.layer, position=choice.position)
    # Five or six prompts a category are too few for intervals, and every category is named.
    assert at["mean_cosine"].notnull() and at["mean_cosine_interval"].isnull().all()
    assert between.attrs["too_few"] == between.attrs["n_by_name"]
    assert "fewer than 8 prompts, too few for intervals" in small_run.found["cosines"]
    layers = small_run.results["cosines_between_layers"]
    assert layers.sizes["layer_other"] == small_run.directions.values.shape[1]
    positions = small_run.results["cosines_between_positions"]
    assert positions["layer"].values.tolist() == [choice.layer]
    # t_inst stands just before the template's tokens, which the candidates were read at.
    assert positions["position"].values.min() == min(small_run.directions.positions) - 1


def test_the_planted_direction_is_shared_by_all_categories(small_run):
    transfer = small_run.results["transfer"].sel(mode="ablate")
    assert set(transfer["block"].values.tolist()) == {1}
    # Of one category the model refuses none of the few test prompts.
    assert "1 causal block of 7 directions" in small_run.found["transfer"]
    assert "harmful against harmless: AUC 1.00" in small_run.found["pca"]


# One with several results and a file beside them, and one of replies; the others take minutes.
@pytest.mark.parametrize(
    "analysis",
    [
        pytest.param(each, marks=[] if each.name in ("cosines", "wording") else pytest.mark.slow)
        for each in DEFAULT
    ],
    ids=lambda each: each.name,
)
def test_a_run_stopped_in_an_analysis_goes_on_and_ends_the_same(
    small_run, small_study, pocket, monkeypatch, main_results, analysis
):
    """Only this one is missing, so that each test makes one analysis and not all of them."""
    shutil.copytree(small_run.folder, main_results, dirs_exist_ok=True)
    for name in analysis.made:
        (main_results / name).unlink()
    seal_run(main_results)

    def stop(self, material):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Analysis, "compute", stop)
        with pytest.raises(KeyboardInterrupt):
            wb.run_study(small_study, main_results, model=pocket)
    assert not list((main_results / "analyses").glob(".*.tmp"))
    half_way = wb.load_run(main_results)
    assert not set(analysis.results) & set(half_way.results)
    ended = wb.run_study(small_study, main_results, model=pocket)
    assert ended.skipped == {}
    assert contents(ended) == contents(small_run)


def test_a_finished_run_makes_only_what_it_lacks(small_run, small_study, pocket, main_results):
    said = []
    few = wb.run_study(
        replace(small_study, analyses="projections"), main_results, model=pocket, say=said.append
    )
    assert list(few.results) == ["projections"]
    more = replace(small_study, analyses="vocabulary, projections")
    run = wb.run_study(more, main_results, model=pocket, say=said.append)
    assert [line.split(":")[0] for line in said if ": " in line] == ["projections", "vocabulary"]
    assert run.study.analyses == "vocabulary, projections"
    for name in ("projections", "vocabulary"):
        xr.testing.assert_identical(run.results[name], small_run.results[name])


def test_none_makes_none(small_study, pocket, main_results):
    run = wb.run_study(replace(small_study, analyses="none"), main_results, model=pocket)
    assert run.results == {} and run.skipped == {} and run.found == {}


@pytest.mark.usefixtures("no_controls")
def test_prompts_without_categories_skip_what_compares_them(pocket, tmp_path):
    texts = [prompt.text for prompt in load_prompts("harmful").sample(96)]
    file = tmp_path / "plain.csv"
    file.write_text("prompt\n" + "".join(f'"{text}"\n' for text in texts))
    study = wb.Study(
        harmful=str(file), borderline="", n_train=48, n_validation=16, n_test=12,
        max_new_tokens=8, analyses="cosines,angles,transfer,concept,vocabulary",
    )  # fmt: skip
    said = []
    run = wb.run_study(study, tmp_path / "run", model=pocket, say=said.append)
    assert list(run.results) == ["vocabulary"]
    assert list(run.skipped) == ["cosines", "angles", "transfer", "concept"]
    for name, reason in run.skipped.items():
        assert "1 categories of at least 2 prompts (unspecified 4" in reason
        assert f"{name} skipped: {reason}" in said
    # It is known now, and not tried again.
    before = len(said)
    wb.run_study(study, tmp_path / "run", model=pocket, say=said.append)
    assert not [line for line in said[before:] if line.startswith("cosines")]
    assert run.effects["refusal_rate"].notnull().all()


def test_a_category_of_one_prompt_is_left_out_and_named(
    small_study, pocket, main_results, monkeypatch
):
    kept = json.loads((main_results / "prompts.json").read_text())
    weapons = [own for own in kept["kept"]["train"]["harmful"] if "weapons" in own]
    kept["kept"]["train"]["harmful"] = [
        own for own in kept["kept"]["train"]["harmful"] if own not in weapons[1:]
    ]
    (main_results / "prompts.json").write_text(json.dumps(kept))
    seal_run(main_results)
    said = []
    run = wb.run_study(
        replace(small_study, analyses="cosines"), main_results, model=pocket, say=said.append
    )
    assert "weapons" not in run.results["cosines"]["name"].values
    assert run.results["cosines"].attrs["categories_left_out"] == ["weapons"]
    assert any("left out" in line and "weapons" in line for line in said)


def test_nothing_refused_skips_the_wording(small_study, pocket, main_results):
    replies = main_results / "replies.jsonl"
    replies.write_text(replies.read_text().replace('"refused"', '"complied"'))
    seal_run(main_results)
    run = wb.run_study(replace(small_study, analyses="wording"), main_results, model=pocket)
    assert run.results == {}
    assert "was refused, so there is no wording" in run.skipped["wording"]


def test_a_bug_in_one_analysis_costs_no_other_and_is_tried_again(
    small_study, pocket, main_results, monkeypatch
):
    study = replace(small_study, analyses="projections,vocabulary")

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("by zero")

    with monkeypatch.context() as patch:
        patch.setattr("workbench.study.steps.geometry.project_prompts", broken)
        run = wb.run_study(study, main_results, model=pocket)
    assert list(run.results) == ["vocabulary"]
    assert run.skipped == {"projections": "failed with ZeroDivisionError: by zero"}
    note = json.loads((main_results / "analyses" / "projections.skipped.json").read_text())
    assert "Traceback" in note["traceback"]
    run = wb.run_study(study, main_results, model=pocket)
    assert list(run.results) == ["projections", "vocabulary"] and run.skipped == {}


def test_a_file_that_an_analysis_cannot_read_skips_until_it_is_mended(
    small_study, pocket, main_results, monkeypatch
):
    study = replace(small_study, analyses="vocabulary,angles,concept")

    def broken(*_arguments):
        raise wb.ArtifactError("torn")

    with monkeypatch.context() as patch:
        patch.setattr(wb.Directions, "save", broken)
        run = wb.run_study(study, main_results, model=pocket)
    assert list(run.results) == ["angles"]
    assert "failed with ArtifactError" in run.skipped["concept"]
    run = wb.run_study(study, main_results, model=pocket)
    assert list(run.results) == ["angles", "vocabulary", "concept"] and run.skipped == {}


def test_what_another_version_skipped_is_tried_again(small_study, pocket, main_results):
    study = replace(small_study, analyses="projections")
    note = main_results / "analyses" / "projections.skipped.json"
    note.parent.mkdir()
    known = {"reason": "none", "needs": "", "again": False, "version": wb.__version__}
    note.write_text(json.dumps(known))
    seal_run(main_results)
    assert wb.run_study(study, main_results, model=pocket).skipped == {"projections": "none"}
    note.write_text(json.dumps({**known, "version": "0.0.1"}))
    seal_run(main_results)
    run = wb.run_study(study, main_results, model=pocket)
    assert list(run.results) == ["projections"] and run.skipped == {}


def test_names_are_chosen_in_the_order_of_the_list():
    assert [each.name for each in chosen_analyses("wording, pca")] == ["pca", "wording"]
    assert chosen_analyses("all") == ANALYSES and chosen_analyses("none") == ()


@pytest.mark.parametrize("wanted", ["pca,cosine", "", "every"])
def test_an_unknown_name_is_told_what_there_is(wanted):
    with pytest.raises(wb.StudyError, match=r"analyses must be .*, found '(cosine|every|)'"):
        wb.Study(analyses=wanted)


def test_what_is_not_cheap_is_made_only_when_named(monkeypatch):
    slow = replace(ANALYSES[0], name="slow", cheap=False)
    monkeypatch.setattr(registry, "ANALYSES", (*ANALYSES, slow))
    assert slow not in chosen_analyses("default") and slow in chosen_analyses("all")
    assert "all but transfer_rates, slow" in registry.analyses_help()


@pytest.mark.slow
def test_judged_rates_of_transfer_are_made_when_named(small_study, small_run, pocket, main_results):
    assert "transfer_rates" not in small_run.results
    study = replace(small_study, analyses="transfer_rates")
    run = wb.run_study(study, main_results, model=pocket)
    found = run.results["transfer_rates"]
    assert found.attrs["judge"] == judge_name(study.judge)
    # One planted direction: whatever is ablated, hardly anything is refused.
    plain = found["plain_rate"].drop_sel(category="harmless")
    assert float(plain.mean()) >= 0.75
    own = found["rate"].sel(mode="ablate").where(found["own"]).max("name").dropna("category")
    assert float(own.max()) <= 0.1
    low, high = found["rate_interval"].sel(mode="ablate").transpose("bound", ...).values
    assert (low < high).all()
    assert (
        "refusal rate with the own direction ablated 0% (all), plain" in run.found["transfer_rates"]
    )
    entry = next(each for each in wb.figures.GALLERY if each.name == "transfer_rates")
    figure = entry.draw(run)
    told = figure.layout.title.subtitle.text if figure is not None else ""
    assert f"judge: {judge_name(study.judge)}" in told
    rates = found["rate"].sel(mode="ablate")
    order = found["order"].sel(mode="ablate").values, found["category_order"].sel(mode="ablate")
    expected = 100 * rates.values[np.ix_(order[0], order[1].values)]
    np.testing.assert_allclose(np.array(figure.data[0].z, dtype=float), expected)


def test_wordings_are_those_of_harmful_prompts_with_first_tokens(
    small_study, small_run, pocket, main_results
):
    """A borderline prompt of a category is no harmful one, though it may be refused."""
    found = small_run.results["wording"]
    assert found.attrs["prompt_set"] == "harmful"
    assert found.attrs["features"] == "words and pairs, first tokens"
    path = main_results / "replies.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["prompt_set"] == "borderline" and row["condition"] == "plain":
            row |= {"verdict": "refused", "reply": "I am sorry, I can't help with that."}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seal_run(main_results)
    assert any(row["prompt_set"] == "borderline" for row in rows)
    run = wb.run_study(replace(small_study, analyses="wording"), main_results, model=pocket)
    xr.testing.assert_equal(run.results["wording"], found)


def test_a_broken_note_is_named(main_results):
    (main_results / "analyses").mkdir()
    (main_results / "analyses" / "pca.skipped.json").write_text("{")
    seal_run(main_results)
    with pytest.raises(wb.StudyError, match=r"pca\.skipped\.json is broken"):
        wb.load_run(main_results)


def test_sets_of_prompts_are_put_together_in_order(small_run, pocket):
    sets = {
        label: wb.collect_activations(
            pocket, load_prompts(label).sample(3), layers=[2], positions=[-1], per_prompt=True
        )
        for label in ("harmful", "harmless")
    }
    both = shared_material.together(sets)
    assert both.labels == ("harmful",) * 3 + ("harmless",) * 3
    assert both.ids == sets["harmful"].ids + sets["harmless"].ids
    assert both.provenance["sets"]["harmful"] == sets["harmful"].provenance["prompts"]
