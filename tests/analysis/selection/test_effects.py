"""Effects: rates counted from verdicts, and the error on nothing to answer."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from workbench.analysis.selection.effects import CONDITIONS, collect_completions, refusal_rates
from workbench.errors import StudyError
from workbench.scores.paired import paired_difference
from workbench.statistics.corrected import holm


def replies(counts):
    rows = []
    for (kind, condition), (refused, n) in counts.items():
        verdicts = ["refused"] * refused + ["complied"] * (n - refused)
        rows += [
            {"prompt_set": kind, "condition": condition, "id": f"{index}", "verdict": verdict}
            for index, verdict in enumerate(verdicts)
        ]
    return pd.DataFrame(rows)


COUNTS = {
    ("harmful", "plain"): (9, 10),
    ("harmful", "ablated"): (0, 10),
    ("harmful", "added"): (10, 10),
    ("harmless", "plain"): (1, 20),
    ("harmless", "ablated"): (0, 20),
    ("harmless", "added"): (19, 20),
    ("harmful", "projection set"): (8, 10),
    ("harmless", "projection set"): (17, 20),
}


def test_rates_and_their_wilson_intervals():
    effects = refusal_rates(replies(COUNTS))
    assert list(effects["prompt_set"].values) == ["harmful", "harmless"]
    assert effects["n"].values.tolist() == [10, 20]
    for (kind, condition), (refused, n) in COUNTS.items():
        cell = effects.sel(prompt_set=kind, condition=condition)
        assert float(cell["refusal_rate"]) == refused / n
        expected = binomtest(refused, n).proportion_ci(method="wilson")
        assert cell["refusal_rate_interval"].values == pytest.approx([expected.low, expected.high])


def test_conditions_keep_their_order_whatever_the_rows():
    shuffled = replies(COUNTS).sample(frac=1, random_state=0)
    assert tuple(refusal_rates(shuffled)["condition"].values) == CONDITIONS


def test_a_condition_that_was_not_tried_is_left_out():
    three = {key: count for key, count in COUNTS.items() if key[1] != "projection set"}
    assert list(refusal_rates(replies(three))["condition"].values) == ["plain", "ablated", "added"]


def test_only_refused_counts_as_refused():
    frame = replies({(("harmful"), condition): (0, 4) for condition in CONDITIONS})
    frame["verdict"] = ["partial", "other", "complied", "refused"] * len(CONDITIONS)
    assert (refusal_rates(frame)["refusal_rate"] == 0.25).all()


def test_every_condition_is_compared_with_plain_on_the_same_prompts():
    effects = refusal_rates(replies(COUNTS).sample(frac=1, random_state=0))
    assert effects.attrs["n_compared"] == 6
    assert effects.sel(condition="plain")["p_value"].isnull().all()
    for (kind, condition), (refused, n) in COUNTS.items():
        plain = COUNTS[kind, "plain"][0]
        cell = effects.sel(prompt_set=kind, condition=condition)
        if condition == "plain":
            continue
        assert float(cell["difference"]) == pytest.approx((refused - plain) / n)
        # In this table the prompts that are refused are the first ones, so changes go one way.
        expected = paired_difference(
            ["refused"] * plain + ["other"] * (n - plain),
            ["refused"] * refused + ["other"] * (n - refused),
        )
        assert (expected.gained, expected.lost) == (cell["gained"], cell["lost"])
        assert cell["difference_interval"].values == pytest.approx(expected.interval)
        assert float(cell["p_value"]) == pytest.approx(expected.p_value)
    together = holm(effects["p_value"].values.ravel())
    np.testing.assert_allclose(effects["p_holm"].values.ravel(), together)
    assert (effects["p_holm"] >= effects["p_value"]).sum() == 6


def test_prompts_are_matched_by_their_ids():
    table = pd.DataFrame(
        [("s", "plain", "a", "refused"), ("s", "plain", "b", "complied"),
         ("s", "ablated", "b", "complied"), ("s", "ablated", "a", "refused")],
        columns=["prompt_set", "condition", "id", "verdict"],
    )  # fmt: skip
    cell = refusal_rates(table).sel(prompt_set="s", condition="ablated")
    assert (cell["gained"], cell["lost"]) == (0, 0)


def test_other_prompts_are_not_compared():
    table = replies({("harmful", "plain"): (3, 4), ("harmful", "ablated"): (0, 4)})
    table.loc[table["condition"] == "ablated", "id"] = ["0", "1", "2", "9"]
    assert refusal_rates(table)["p_value"].isnull().all()
    assert "p_value" not in refusal_rates(table.drop(columns="id"))


def test_nothing_to_answer_is_an_error(pocket):
    import torch

    from workbench.directions.direction import Directions

    direction = Directions(torch.ones(1, 1, 1, pocket.d_model), ("r",), (3,), (-1,))
    with pytest.raises(StudyError, match="no prompt sets"):
        collect_completions(pocket, direction, {})


def test_rates_of_different_prompts_do_not_stand_side_by_side():
    with pytest.raises(StudyError, match="3 replies of 'a' under 'plain' and 10 under another"):
        refusal_rates(replies({("a", "plain"): (1, 3), ("a", "ablated"): (4, 10)}))
    with pytest.raises(StudyError, match="no condition 'steered': they are plain, ablated"):
        refusal_rates(replies({("a", "steered"): (1, 3)}))
    found = refusal_rates(
        replies({("a", "ablated"): (1, 4), ("b", "plain"): (1, 2), ("b", "ablated"): (1, 2)})
    )
    assert found["n"].values.tolist() == [4, 2]
    assert np.isnan(found["refusal_rate"].sel(prompt_set="a", condition="plain"))
