"""Smallest head sets: planted ones are found, and what is reported is the joint patch."""

import json

import numpy as np
import pytest
import xarray as xr

import workbench as wb
from workbench.analysis.heads.patching import patch_heads
from workbench.analysis.heads.search import HeadSearch
from workbench.analysis.heads.sets import find_minimal_head_set
from workbench.artifact import load_dataset, save_dataset
from workbench.errors import AxisError, StudyError
from workbench.scores.refusal import refusal_score

REFUSAL = (77, 428, 425, 360)
"""Of the organism, as found from its replies."""
SETTINGS = {"refusal_tokens": REFUSAL, "max_new_tokens": 12, "n_random": 2}


@pytest.fixture(scope="module")
def asked():
    return {kind: wb.load_prompts(kind).sample(16) for kind in ("harmful", "harmless")}


@pytest.fixture(scope="module")
def planted(organism):
    return {tuple(head) for head in organism("pocket")[1]["refusal"]["heads"]}


@pytest.fixture(scope="module")
def induced(pocket, asked):
    return find_minimal_head_set(
        pocket, asked["harmful"], asked["harmless"], threshold=0.9, **SETTINGS
    )


def joint_patch(model, source, heads, positions=(-1,)):
    """The mean patch of some heads, put together from collected activations."""
    import torch

    acts = wb.collect_activations(model, source, site="z", positions=positions).mean()
    z = acts.unflatten(-1, (model.n_heads, model.d_head)).float()
    return wb.heads.PatchHeads(
        tuple(heads), torch.stack([z[layer, :, head] for layer, head in heads]), positions
    )


def test_the_planted_heads_are_the_smallest_set_and_random_sets_do_nothing(induced, planted):
    heads = [tuple(head) for head in induced.attrs["heads"]]
    assert induced.attrs["reached"]
    assert len(heads) == len(planted) and set(heads) == planted
    assert induced["rate"].values[[0, -1]].tolist() == [0.0, 1.0]
    assert (induced["rate"].values[:-1] < 0.6).all()
    assert (np.diff(induced["score"].values) > 1).all()
    assert induced["random_rate"].max() < 0.2
    assert induced["random_score"].max() < induced["score"].isel(size=-1) - 5
    labels = list(
        zip(induced["layer"].values.tolist(), induced["head"].values.tolist(), strict=True)
    )
    assert labels == [(-1, -1), *heads]


def test_no_planted_head_can_be_left_out(pocket, asked, planted):
    """Greedy or not: every three of the four turn too few replies."""
    for left_out in sorted(planted):
        three = sorted(planted - {left_out})
        with wb.intervene(pocket, joint_patch(pocket, asked["harmful"], three)):
            verdicts = wb.judge(pocket.generate(asked["harmless"], max_new_tokens=12))
        assert verdicts.count("refused") / len(verdicts) < 0.6, left_out


def test_where_nothing_is_enough_the_search_gives_up(pocket, asked):
    found = find_minimal_head_set(
        pocket, asked["harmful"], asked["harmless"], threshold=1.0, max_heads=2,
        **SETTINGS | {"n_random": 0},
    )  # fmt: skip
    assert not found.attrs["reached"] and len(found.attrs["heads"]) == 2
    assert found["random_score"].shape == (3, 0)


def test_what_is_reported_is_the_joint_patch(pocket, asked, induced):
    heads = [tuple(head) for head in induced.attrs["heads"]]
    plain = refusal_score(pocket.logits(asked["harmless"]), REFUSAL).numpy()
    assert induced["score_by_prompt"].isel(size=0).values == pytest.approx(plain, abs=1e-4)
    for size in range(1, len(heads) + 1):
        with wb.intervene(pocket, joint_patch(pocket, asked["harmful"], heads[:size])):
            scores = refusal_score(pocket.logits(asked["harmless"]), REFUSAL).numpy()
            replies = pocket.generate(asked["harmless"], max_new_tokens=12)
        cell = induced.sel(size=size)
        assert cell["score_by_prompt"].values == pytest.approx(scores, abs=1e-3)
        refused = [verdict == "refused" for verdict in wb.judge(replies)]
        assert cell["refused_by_prompt"].values.tolist() == refused
        assert cell["rate"].item() == pytest.approx(np.mean(refused))
        assert cell["effect"].item() == pytest.approx((scores - plain).mean(), abs=1e-3)
    assert induced.attrs["largest_difference"] < 1e-3
    singles = patch_heads(pocket, asked["harmful"], asked["harmless"], refusal_tokens=REFUSAL)
    sums = np.cumsum([singles["effect"].sel(layer=a, head=b).item() for a, b in heads])
    assert induced["sum_of_singles"].values[1:] == pytest.approx(sums, abs=1e-3)
    assert abs(induced["effect"] - induced["sum_of_singles"]).max() > 0.5  # they do not add up


@pytest.fixture(scope="module")
def others():
    """Harmless prompts that none of the others is."""
    everything = wb.load_prompts("harmless")
    known = {*everything.sample(16).ids}
    return wb.PromptSet(tuple(each for each in everything if each.id not in known)[:6])


def test_heads_are_chosen_on_some_prompts_and_judged_on_others(pocket, asked, others):
    pool = [(3, 2), (3, 3), (4, 4), (4, 5), (0, 0)]
    common = {"candidates": pool, "max_heads": 2, **SETTINGS, "n_random": 3}
    found = find_minimal_head_set(
        pocket, asked["harmful"], asked["harmless"], judged=others, **common
    )
    same = find_minimal_head_set(pocket, asked["harmful"], asked["harmless"], **common)
    assert found.attrs["heads"] == same.attrs["heads"]  # chosen on the same prompts
    assert found["prompt"].values.tolist() == list(others.ids)
    counts = ("held_out", "n_target", "n_chosen_on")
    assert [found.attrs[name] for name in counts] == [True, 6, 16]
    assert [same.attrs[name] for name in counts] == [False, 16, 16]
    assert found.attrs["provenance"]["judged"] == others.fingerprint
    heads = [tuple(head) for head in found.attrs["heads"]]
    plain = refusal_score(pocket.logits(others), REFUSAL).numpy()
    singles = patch_heads(pocket, asked["harmful"], others, refusal_tokens=REFUSAL)["effect"]
    assert found["score_by_prompt"].isel(size=0).values == pytest.approx(plain, abs=1e-4)
    sums = np.cumsum([singles.sel(layer=a, head=b).item() for a, b in heads])
    assert found["sum_of_singles"].values[1:] == pytest.approx(sums, abs=1e-3)
    for size in (1, 2):
        with wb.intervene(pocket, joint_patch(pocket, asked["harmful"], heads[:size])):
            scores = refusal_score(pocket.logits(others), REFUSAL).numpy()
        own = found["score_by_prompt"].sel(size=size).values
        assert own == pytest.approx(scores, abs=1e-3)
    # Random sets come from the same candidates, and are measured on the same prompts.
    for label, score in zip(
        found["random_heads"].values, found["random_score"].isel(size=-1).values, strict=True
    ):
        drawn = [tuple(map(int, each.split("."))) for each in label.split(", ")]
        assert set(drawn) <= set(pool)
        with wb.intervene(pocket, joint_patch(pocket, asked["harmful"], drawn)):
            own = refusal_score(pocket.logits(others), REFUSAL).numpy().mean()
        assert score == pytest.approx(own, abs=1e-3)


def test_prompts_that_heads_were_chosen_on_are_not_held_out(pocket, asked):
    part = asked["harmless"][:3]
    with pytest.raises(StudyError, match="3 of 3 judged prompts are targets too"):
        find_minimal_head_set(pocket, asked["harmful"], asked["harmless"], judged=part, **SETTINGS)


def test_a_search_that_differs_from_the_joint_patch_is_told(pocket, asked, monkeypatch):
    honest = HeadSearch.scores
    monkeypatch.setattr(
        HeadSearch, "scores", lambda self, sets, rows: honest(self, sets, rows) + 0.25
    )
    with pytest.warns(UserWarning, match=r"differ by up to 0\.25 nats on pocket"):
        found = find_minimal_head_set(
            pocket, asked["harmful"], asked["harmless"][:4], candidates=[(4, 4)],
            **SETTINGS | {"n_random": 0},
        )  # fmt: skip
    assert found.attrs["largest_difference"] == pytest.approx(0.25, abs=1e-2)


def test_effects_of_single_heads_do_not_wait_for_the_search(pocket, asked, monkeypatch):
    grow, before = HeadSearch.grow, []

    def asked_before(self, *settings):
        before.extend(self.singles(((4, 4),)))
        before.append(self.random([], 1)["random_score"][1][0])
        return grow(self, *settings)

    monkeypatch.setattr(HeadSearch, "grow", asked_before)
    found = find_minimal_head_set(
        pocket, asked["harmful"], asked["harmless"][:4], candidates=[(4, 4)],
        **SETTINGS | {"n_random": 0},
    )  # fmt: skip
    assert before[0] == pytest.approx(float(found["sum_of_singles"][1]))
    assert before[1].size == 0


def test_suppressing_turns_refusals_into_answers(pocket, asked, planted):
    found = find_minimal_head_set(
        pocket, asked["harmless"], asked["harmful"], threshold=0.9, aim="suppress", **SETTINGS
    )
    assert found.attrs["reached"]
    assert found["rate"].values[-1] <= 0.1 < 0.9 < found["rate"].values[0]
    assert {tuple(head) for head in found.attrs["heads"]} <= planted


def test_candidates_limit_the_search(pocket, asked):
    pool = [(0, 0), (4, 4), (6, 1)]
    found = find_minimal_head_set(
        pocket, asked["harmful"], asked["harmless"], candidates=pool, max_heads=2, **SETTINGS
    )
    assert found.attrs["heads"][0] == [4, 4]
    assert {tuple(head) for head in found.attrs["heads"]} <= set(pool)
    assert (found.attrs["reached"], found.sizes["size"]) == (False, 3)


def test_a_result_is_an_artifact(induced, tmp_path):
    json.dumps(induced.attrs)
    path = save_dataset(tmp_path / "heads.safetensors", induced, kind="head_set")
    xr.testing.assert_equal(load_dataset(path, kind="head_set"), induced)
    for name in ("score", "rate"):
        low, high = (induced[f"{name}_interval"].sel(bound=bound) for bound in ("low", "high"))
        inside = (low <= induced[name] + 1e-9) & (induced[name] <= high + 1e-9)
        assert (inside | low.isnull()).all() and (name == "score" or inside.all())
    assert induced["random_heads"].values[0].count(",") == len(induced.attrs["heads"]) - 1


def test_what_makes_no_sense(pocket, asked, unchecked):
    for settings, error, message in (
        ({"threshold": 0.0}, StudyError, "threshold must be above 0 and at most 1, found 0.0"),
        ({"max_heads": 0}, StudyError, "max_heads must be at least 1, found 0"),
        ({"judge": "oracle"}, StudyError, "no judge 'oracle'"),
        ({"aim": "up"}, AxisError, "no aim 'up': induce, suppress"),
        ({"candidates": [(8, 0)]}, AxisError, r"within layers 0\.\.7 and heads 0\.\.7"),
        ({"candidates": []}, AxisError, r"distinct \(layer, head\) pairs"),
        ({"positions": (0,)}, AxisError, "position 0 cannot be patched"),
    ):
        with pytest.raises(error, match=message):
            find_minimal_head_set(
                pocket, asked["harmful"], asked["harmless"], **{**SETTINGS, **settings}
            )
