"""The explorer without a browser: views follow the selection, jobs keep what is done."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.analysis.geometry.token_projections import read_prompt, token_projections
from workbench.explorer.jobs import Answers, Reading, check_model
from workbench.explorer.open import small_study
from workbench.explorer.views import VIEWS, Views, as_message, clicked
from workbench.figures.parts.embed import Embedded
from workbench.study.ledger import Ledger


@pytest.fixture
def views(small_run):
    return Views(small_run)


def ring(view):
    return [trace for trace in view.spec["data"] if trace.get("meta") == "selected"]


def test_the_start_is_what_the_run_chose(views, small_run):
    start = views.start
    assert (start.layer, start.position) == (small_run.choice.layer, small_run.choice.position)
    assert start.name == "refusal"


def test_the_selected_candidate_is_ringed_at_its_scores(views, small_run):
    selection = replace(views.start, layer=4, position=-3)
    rings = ring(views.draw("sweep", selection))
    assert len(rings) == 3
    cell = small_run.scores.sel(layer=4, position=-3)
    assert rings[0]["y"] == [pytest.approx(float(cell["bypass"]))]
    assert rings[1]["y"] == [pytest.approx(float(cell["induce"]))]
    assert all(each["x"] == [4] for each in rings)
    # The drawn sweep itself is not touched by it.
    assert len(ring(views.draw("sweep", views.start))) == 3


def test_only_what_hangs_on_a_change_is_drawn_again(views):
    start = views.start
    assert views.changed(start, start) == ()
    assert views.changed(start, replace(start, layer=2)) == ("sweep", "pca", "cosines", "tokens")
    assert views.changed(start, replace(start, name="other")) == ("tokens",)
    assert views.changed(start, replace(start, pair=("a", "b"))) == ("pair",)
    assert set(views.changed(start, replace(start, position=-2))) == set(VIEWS)


def test_a_click_selects_a_candidate_or_a_pair(views):
    start = views.start
    after = clicked(start, {"view": "sweep", "x": 3, "y": 0.5, "group": "-2"})
    assert (after.layer, after.position) == (3, -2)
    assert clicked(start, {"view": "sweep", "x": 5, "y": 0.5, "group": "chosen"}) == start
    assert clicked(start, {"view": "sweep"}) == start
    pair = clicked(start, {"view": "cosines", "x": "self harm", "y": "fraud"}).pair
    assert pair == ("fraud", "self_harm")
    assert clicked(start, {"view": "cosines", "x": "fraud", "y": "fraud"}) == start
    assert clicked(start, {"view": "tokens", "x": 1, "y": 1}) == start


def test_what_a_run_lacks_is_said_in_words(small_run, tmp_path):
    views = Views(replace(small_run, results={}, ledger=Ledger(tmp_path, {})))
    for view in ("pca", "cosines", "pair", "heads", "tokens"):
        said = views.draw(view, views.start)
        assert isinstance(said, str) and said
        assert as_message(said) == {"message": said}
    absent = replace(views.start, layer=99)
    assert isinstance(views.draw("tokens", absent), str)


def test_token_projections_are_those_of_the_stream(pocket, small_run):
    read = read_prompt(pocket, "How do I bake bread?")
    found = token_projections(read, small_run.direction)
    unit = small_run.direction.unit().vector.double()
    one = wb.collect_activations(
        pocket, ["How do I bake bread?"], layers=[3], positions=[-1], per_prompt=True
    )
    expected = float(one.at(3, -1)[0].double() @ unit)
    assert float(found["projection"].sel(layer=3, position=-1)) == pytest.approx(expected, abs=1e-5)
    assert np.nanmax(np.abs(found["cosine"])) <= 1 + 1e-9
    tokens = pocket.tokens(["How do I bake bread?"])
    assert found.sizes["position"] == int(tokens.lengths[0])
    assert found.attrs["n_post"] == tokens.n_post
    assert "".join(found["token"].values[-tokens.n_post :]) == "".join(tokens.post_tokens)


def test_directions_that_do_not_fit_a_prompt_are_refused(pocket, small_run):
    read = read_prompt(pocket, "How do I bake bread?")
    with pytest.raises(wb.AxisError, match="does not go with"):
        token_projections(read, replace(small_run.direction, site="mlp_out"))
    with pytest.raises(wb.AxisError, match="expected one vector"):
        token_projections(read, small_run.directions.at(layer=[3, 4]))


def test_the_prompt_is_seen_along_the_selected_direction(views, pocket):
    views.prompt = read_prompt(pocket, "How do I bake <b>bread</b>?")
    drawn = views.draw("tokens", views.start)
    assert isinstance(drawn, Embedded)
    framed = [note["text"] for note in drawn.spec["layout"]["annotations"]]
    assert "<b>t_inst</b>" in framed and "<b>t_post</b>" in framed
    other = views.draw("tokens", replace(views.start, layer=2))
    assert other.spec["data"][0]["z"] != drawn.spec["data"][0]["z"]
    assert "<b>bread" not in str(drawn.spec["layout"]["xaxis"]["ticktext"])


def test_positions_that_the_run_did_not_store_are_read(small_run, pocket):
    views, reading = Views(small_run), Reading(small_run)
    selection = replace(views.start, position=-2)
    assert isinstance(views.draw("pca", selection), str)
    steps = list(reading.make(pocket, views.positions))
    assert steps[-1][0] == steps[-1][1]
    views.activations = reading.activations
    assert isinstance(views.draw("pca", selection), Embedded)


def test_answers_are_kept_when_they_are_stopped(small_run, pocket, monkeypatch):
    views, answers = Views(small_run), Answers(small_run, 1)
    selection = replace(views.start, layer=4)
    assert answers.missing(views.start) == []
    before = len(answers.missing(selection))
    assert before == 2 * len(answers.prompts)  # plain replies are the run's own
    job = answers.make(pocket, views.direction(selection), selection)
    next(job), next(job), next(job)
    job.close()
    assert len(answers.missing(selection)) == before - 2
    list(answers.make(pocket, views.direction(selection), selection))
    assert answers.missing(selection) == []
    monkeypatch.setattr(type(pocket), "generate", None)
    assert list(answers.make(pocket, views.direction(selection), selection)) == [(0, 0, "done")]


def test_answers_on_demand_are_those_of_the_run(small_run, pocket):
    fresh = replace(small_run, replies=small_run.replies.query("condition == 'plain'"))
    views, answers = Views(fresh), Answers(fresh, 2)
    list(answers.make(pocket, views.direction(views.start), views.start))
    rows = small_run.replies.set_index(["condition", "prompt_set", "id"])
    for kind, name, _ in answers.prompts:
        for condition in ("ablated", "added"):
            own = answers.get(views.start, condition, kind, name)
            assert own.text == rows.loc[(condition, kind, name), "reply"]
            assert own.verdict == rows.loc[(condition, kind, name), "verdict"]


def test_replies_are_shown_as_text(small_run):
    hostile = small_run.replies.assign(reply="<script>alert(1)</script>", prompt='"><img src=x>')
    table = Answers(replace(small_run, replies=pd.DataFrame(hostile)), 1)
    shown = table.table(Views(small_run).start)
    assert "<script" not in shown and "<img" not in shown and "<bdi dir='auto'>" in shown


def test_another_model_is_refused(small_run, zoo):
    with pytest.raises(wb.StudyError, match=r"weights of .* are not those of the run"):
        check_model(small_run, zoo["llama"].model)


def test_heads_are_drawn_where_they_were_patched(views, small_run):
    start = views.start
    [position] = small_run.results["head_patching"]["position"].values.tolist()
    drawn = views.draw("heads", replace(start, position=position))
    assert isinstance(drawn, Embedded)
    effect = small_run.results["head_patching"]["effect"].sel(position=position)
    assert np.array(drawn.spec["data"][0]["z"]).shape == (
        effect.sizes["layer"],
        effect.sizes["head"],
    )
    said = views.draw("heads", replace(start, position=position - 1))
    assert said == f"Heads were patched at position {position} only."


def test_a_model_gets_a_small_run(pocket):
    study = small_study(pocket)
    assert study.model == "pocket" and study.n_train < wb.Study().n_train


def test_explore_says_what_it_lacks(tmp_path):
    with pytest.raises(wb.StudyError, match="holds no run"):
        wb.explore(tmp_path)
