"""Runs: the planted answer is found, and a stopped run ends with the same numbers."""

import json
import shutil
from dataclasses import replace

import pytest
import xarray as xr

import workbench as wb
from workbench.study import stages
from workbench.study.prompts import split_prompts
from workbench.study.stages import open_run
from workbench.study.stored import read_replies

RESULTS = (
    "prompts.json",
    "directions.safetensors",
    "scores.safetensors",
    "direction.safetensors",
    "candidates.csv",
    "held_out.safetensors",
    "replies.jsonl",
    "effects.safetensors",
    "controls.safetensors",
)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in RESULTS}


def test_the_planted_direction_is_found(small_run):
    assert small_run.planted_cosine >= 0.9
    rate = small_run.effects["refusal_rate"]
    assert rate.sel(prompt_set="harmful", condition="plain") >= 0.75
    assert rate.sel(prompt_set="harmful", condition="ablated") <= 0.1
    assert rate.sel(prompt_set="harmless", condition="plain") <= 0.1
    assert rate.sel(prompt_set="harmless", condition="added") >= 0.9
    assert rate.sel(prompt_set="harmless", condition="projection set") >= 0.9


def test_every_rate_lies_in_its_interval(small_run):
    rate, bounds = (small_run.effects[name] for name in ("refusal_rate", "refusal_rate_interval"))
    assert (bounds.sel(bound="low") <= rate).all() and (rate <= bounds.sel(bound="high")).all()


def test_rates_can_be_recounted_from_the_replies(small_run):
    replies = small_run.replies
    for kind in ("harmful", "harmless", "borderline"):
        for condition in ("plain", "ablated", "added", "projection set"):
            rows = replies[(replies.prompt_set == kind) & (replies.condition == condition)]
            rate = small_run.effects["refusal_rate"].sel(prompt_set=kind, condition=condition)
            assert (rows.verdict == "refused").mean() == float(rate)


def test_train_validation_and_test_prompts_are_disjoint(small_run):
    kept = json.loads((small_run.folder / "prompts.json").read_text())["kept"]
    train, validation = (
        set(kept[part]["harmful"] + kept[part]["harmless"]) for part in ("train", "validation")
    )
    tested = set(small_run.replies["id"])
    assert not train & validation and not (train | validation) & tested


def test_candidates_are_swept_on_kept_validation_prompts(small_run, pocket):
    kept = json.loads((small_run.folder / "prompts.json").read_text())["kept"]
    scores = small_run.scores
    for label in ("harmful", "harmless"):
        texts = {own.id: own.text for own in wb.load_prompts(label)}
        means = {
            part: wb.refusal_score(
                pocket.logits([texts[each] for each in kept[part][label]]),
                scores.attrs["refusal_tokens"],
            ).mean()
            for part in ("train", "validation")
        }
        assert scores.attrs[f"n_{label}"] == len(kept["validation"][label])
        found = scores.attrs[f"{label}_baseline"]
        assert found == pytest.approx(float(means["validation"]), abs=1e-4)
        assert found != pytest.approx(float(means["train"]), abs=1e-2)


def test_results_carry_where_they_come_from(small_run, pocket):
    for provenance in (
        small_run.directions.provenance,
        small_run.scores.attrs["provenance"],
        small_run.effects.attrs["provenance"],
    ):
        assert provenance["weights"] == pocket.weights_fingerprint
        assert provenance["environment"]["torch"]


def test_figures_are_drawn(small_run):
    for name in (entry.name for entry in wb.figures.GALLERY if entry.needs != "transfer_rates"):
        assert (small_run.folder / "figures" / f"{name}.html").stat().st_size > 1000
        figure = json.loads((small_run.folder / "figures" / f"{name}.json").read_text())
        assert figure["data"]


@pytest.fixture
def own_run(small_run, tmp_path):
    """A copy of the small run that a test may write into."""
    return shutil.copytree(small_run.folder, tmp_path / "copy")


def test_a_finished_run_is_read_not_repeated(small_run, own_run, small_study, pocket, monkeypatch):
    before = contents(own_run)
    monkeypatch.setattr(stages, "sweep_directions", None)
    monkeypatch.setattr(stages, "collect_completions", None)
    again = wb.run_study(small_study, own_run, model=pocket)
    assert contents(own_run) == before
    xr.testing.assert_identical(again.scores, small_run.scores)


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_the_same(
    small_run, small_study, pocket, monkeypatch, tmp_path
):
    """One stop in the middle, with everything computed anew; test_faults.py stops everywhere.

    The small run is the command's, so this also says that both give the same bytes.
    """

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    study = replace(small_study, analyses="none")
    with monkeypatch.context() as patch:
        patch.setattr(stages, "sweep_directions", stop)
        with pytest.raises(KeyboardInterrupt):
            wb.run_study(study, tmp_path / "run", model=pocket)
    assert not list((tmp_path / "run").glob(".*.tmp"))
    with pytest.raises(wb.StudyError, match="not finished"):
        wb.load_run(tmp_path / "run")
    wb.run_study(study, tmp_path / "run", model=pocket)
    assert contents(tmp_path / "run") == contents(small_run.folder)


def test_another_study_in_the_folder_is_refused(own_run, pocket):
    before = contents(own_run)
    with pytest.raises(wb.StudyError, match=r"holds another study: n_test, .*prompts differ"):
        wb.run_study(
            wb.Study(n_train=48, n_validation=16, n_test=11, max_new_tokens=16),
            own_run,
            model=pocket,
        )
    assert contents(own_run) == before


@pytest.mark.parametrize("setting", [{"model": "owner/other"}, {"dtype": "bfloat16"}])
def test_a_model_that_is_not_the_studys_is_refused(pocket, tmp_path, setting):
    with pytest.raises(wb.StudyError, match="the study is about"):
        wb.run_study(wb.Study(**setting), tmp_path / "run", model=pocket)
    assert not (tmp_path / "run").exists()


def test_a_file_without_labels_holds_the_label_it_is_given_for(tmp_path):
    rows = "".join(f"How do I bake bread number {n}?\n" for n in range(20))
    (tmp_path / "own.csv").write_text("prompt\n" + rows)
    study = wb.Study(harmless=str(tmp_path / "own.csv"), n_train=8, n_validation=8, borderline="")
    split = split_prompts(study)
    assert set(split["harmless"]["train"].labels) == {"harmless"}
    assert len(split["harmless"]["test"]) == 4


def test_replies_may_hold_any_line_separator(tmp_path):
    path = tmp_path / "replies.jsonl"
    names = ("prompt_set", "condition", "id", "category", "prompt", "verdict")
    row = {**dict.fromkeys(names, "other"), "reply": "one\u2028two\u0085three"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_replies(path)["reply"].tolist() == [row["reply"]]


def test_a_folder_with_something_else_is_refused(small_study, pocket, tmp_path):
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(wb.StudyError, match="is not empty and holds no run"):
        wb.run_study(small_study, tmp_path, model=pocket)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_model_that_never_refuses_is_said_to(tmp_path):
    study = wb.Study(model="pocket-base", n_train=16, n_validation=8, n_test=4)
    with pytest.raises(wb.StudyError, match="refused 0 of"):
        wb.run_study(study, tmp_path / "base")


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"harmful": "no-such-file.csv"}, wb.PromptError, "no-such-file.csv"),
        ({"n_train": 5000}, wb.PromptError, "360"),
        ({"model": "no-such-model"}, wb.ModelError, "no model 'no-such-model'"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, setting, error, message):
    with pytest.raises(error, match=message):
        wb.run_study(wb.Study(**setting), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_controls")
def test_an_estimator_that_reads_prompt_by_prompt_finds_it_too(pocket, tmp_path):
    study = wb.Study(
        n_train=48,
        n_validation=16,
        n_test=8,
        max_new_tokens=12,
        borderline="",
        estimator="probe_direction",
        analyses="none",
        kl_cap=10.0,
        induce_floor=-100.0,
    )
    run = wb.run_study(study, tmp_path, model=pocket)
    assert run.planted_cosine >= 0.4
    rate = run.effects["refusal_rate"].sel(prompt_set="harmful")
    assert rate.sel(condition="ablated") < rate.sel(condition="plain")
    assert list(run.effects["prompt_set"].values) == ["harmful", "harmless"]


def test_what_is_advised_where_too_few_are_refused_can_be_done_in_the_same_folder(pocket, tmp_path):
    study = wb.Study(n_train=9, n_validation=9, n_test=4, refusal_words="zzz")
    token = pocket.tokenizer.decode(wb.find_refusal_tokens(pocket, words=["zzz"]))
    with (
        pytest.raises(wb.StudyError) as caught,
        open_run(study, tmp_path, model=pocket) as stages,
    ):
        stages.refusal_tokens()
    told = str(caught.value)
    assert "refuses only 0 of 9 harmful train prompts; at least 8 are needed" in told
    assert (
        f"and {token!r} count as refusals. It said: " in told
        and len(told.split("It said: ")[1].split(". Raise")[0].split("; ")) == 3
        and "Raise n_train, see that all prompts are harmful" in told
    )
    assert "or leave out refusal_words='zzz'" in told
    again = replace(study, n_train=48, n_validation=16, refusal_words=None)
    with open_run(again, tmp_path, model=pocket) as stages:
        tokens = stages.refusal_tokens()
        assert tokens
    with open_run(again, tmp_path, model=pocket) as stages:
        assert stages.refusal_tokens() == tokens
    with (
        pytest.raises(wb.StudyError, match=r"holds another study: n_train, .*prompts differ"),
        open_run(replace(again, n_train=40), tmp_path, model=pocket),
    ):
        pass


def test_replies_that_cannot_fit_are_refused_before_the_sweep(pocket, tmp_path):
    study = wb.Study(n_train=9, n_validation=9, n_test=4, max_new_tokens=500)
    with (
        pytest.raises(wb.PromptError, match=r"500 new ones do not fit: .* Lower max_new_tokens"),
        open_run(study, tmp_path, model=pocket) as stages,
    ):
        stages.refusal_tokens()
