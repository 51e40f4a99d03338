"""What is said of refusals is measured on prompts that are refused, and the others are counted."""

import json
from dataclasses import replace

import pytest

import workbench as wb
from workbench.kept import kept_line
from workbench.scores.refusal import refusal_score
from workbench.study.keeping import check_kept, treatment

CATEGORIES = ("cybercrime", "drugs", "fraud", "weapons")
PLANTED = {(3, 2), (3, 3), (4, 4), (4, 5)}


def written(path, prompts):
    rows = ({"prompt": own.text, "category": own.category} for own in prompts)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def half_answered(tmp_path_factory):
    """A study whose harmful file holds as many prompts that the model answers as it refuses."""
    folder = tmp_path_factory.mktemp("half")
    harmful, answered = wb.load_prompts("harmful"), list(wb.load_prompts("harmless"))
    refused = [own for name in CATEGORIES for own in harmful.where(category=name).sample(11)]
    mixed = [replace(own, category=CATEGORIES[row % 4]) for row, own in enumerate(answered[:44])]
    return wb.Study(
        harmful=written(folder / "harmful.jsonl", [*refused, *mixed]),
        harmless=written(folder / "harmless.jsonl", answered[44:132]),
        borderline="", n_train=36, n_validation=20, n_test=28, max_new_tokens=10,
        analyses="heads,transfer",
    )  # fmt: skip


@pytest.fixture(scope="module")
def half_run(half_answered, pocket, tmp_path_factory, without_controls):
    """Its run, and what it said."""
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.study.run.draw", lambda *_args, **_settings: [])
        patch.setattr("workbench.study.steps.heads.N_RANDOM", 1)
        without_controls(patch)
        folder = tmp_path_factory.mktemp("half") / "run"
        return wb.run_study(half_answered, folder, model=pocket, say=said.append), said


def test_heads_of_a_half_answered_file_are_those_of_its_refused_half(half_run):
    run, _ = half_run
    curve = run.results["head_set"]
    assert curve.attrs["reached"] and float(curve["rate"][-1]) == 1.0
    assert {tuple(each) for each in curve.attrs["heads"]} == PLANTED
    assert float(run.results["head_patching"]["source_by_prompt"].min()) > 0


def test_transfer_is_measured_on_refused_prompts_and_counts_the_others(half_run):
    run, _ = half_run
    found = run.results["transfer"]
    harmful = found["prompt_category"] != "harmless"
    assert float(found["plain_score_by_prompt"].where(harmful, drop=True).min()) > 0
    told = found.attrs["test_prompts"]["harmful"]
    n_dropped = int(found["n_dropped"].sel(category=list(CATEGORIES)).sum())
    assert int(harmful.sum()) == told["kept"] == told["n"] - n_dropped < told["n"] == 28


def test_the_dropped_ones_are_named_with_what_they_do(half_run):
    run, said = half_run
    told = run.results["head_patching"].attrs["test_prompts"]["harmful"]
    kept = json.loads((run.folder / "prompts.json").read_text())
    scores = kept["scores"]["test"]["harmful"]
    dropped = {name: score for name, score in scores.items() if score <= 0}
    assert told["kept"] == len(kept["kept"]["test"]["harmful"]) == len(scores) - len(dropped)
    assert told["dropped_score"] == pytest.approx(sum(dropped.values()) / len(dropped))
    assert told["dropped_rate"] == 0.0
    words = f"test prompts: {told['kept']} of 28 harmful are refused (the others: score "
    assert any(line.startswith(words) for line in said)
    assert words in run.found["heads"] and words in run.found["transfer"]
    for result, figure in (
        ("head_patching", wb.figures.head_map),
        ("head_set", wb.figures.head_set),
        ("head_attribution", wb.figures.head_attribution),
        ("head_attention", wb.figures.head_attention),
        ("transfer", wb.figures.transfer),
    ):
        subtitle = figure(run.results[result]).to_dict()["layout"]["meta"]["subtitle"]
        assert any(part.startswith(words) for part in subtitle), result


def test_refusal_rates_stay_those_of_all_test_prompts(half_run):
    run, _ = half_run
    assert int(run.effects["n"].sel(prompt_set="harmful")) == 28
    rate = float(run.effects["refusal_rate"].sel(prompt_set="harmful", condition="plain"))
    told = run.results["transfer"].attrs["test_prompts"]["harmful"]
    assert rate == pytest.approx(told["kept"] / told["n"], abs=0.1)


def test_kept_test_prompts_are_those_that_the_scores_say(small_run, pocket):
    stored = json.loads((small_run.folder / "prompts.json").read_text())
    replies = small_run.replies.query("condition == 'plain'")
    for label in ("harmful", "harmless"):
        rows = replies[replies["prompt_set"] == label]
        score = refusal_score(pocket.logits(rows["prompt"].tolist()), stored["refusal_tokens"])
        refuses = (score > 0).tolist()
        wanted = [own for own, yes in zip(rows["id"], refuses, strict=True) if yes]
        if label == "harmless":
            wanted = [own for own in rows["id"] if own not in wanted]
        assert stored["kept"]["test"][label] == wanted


def test_too_few_refused_prompts_are_counted(half_run):
    run, _ = half_run
    path = run.folder / "prompts.json"
    found = json.loads(path.read_text())
    tests = {label: wb.load_prompts(label).sample(9) for label in ("harmful", "harmless")}
    found["kept"]["test"] = {"harmful": list(tests["harmful"].ids[:7]), "harmless": []}
    found["scores"]["test"] = {"harmful": {}, "harmless": {}}
    told = treatment(found, tests)
    assert told["harmful"] == {"n": 9, "kept": 7}
    with pytest.raises(wb.StudyError, match=r"^heads is about .* refuses 7 of 9 .* answers 0 of 9"):
        check_kept(told, "heads")
    every = {label: {"n": 3, "kept": 3} for label in ("harmful", "harmless")}
    check_kept(every, "heads")
    assert kept_line(None) == ""
