"""What a study keeps of its model's chat template: the day, the switch for thinking, thoughts."""

import json
from dataclasses import replace

import pytest
from hostile.sealing import seal_run

import workbench as wb
from workbench.report.provenance import command
from workbench.scores.refusal import refusal_score
from workbench.study import thoughts
from workbench.study.folder import check_model
from workbench.study.keeping import keep_prompts
from workbench.study.ledger import Ledger
from workbench.study.prompts import split_prompts
from workbench.study.stages import open_run
from workbench.study.steps.heads import find_heads


@pytest.fixture
def dated(pocket, tmp_path):
    """A study whose template writes the day, with a switch for thinking."""
    path = tmp_path / "dated.jinja"
    path.write_text(
        "{{ strftime_now('%d') }}{{ 'no' if thinking is defined and not thinking }} "
        + pocket.template.template
    )
    return wb.Study(n_train=8, n_validation=8, n_test=4, borderline="", chat_template=str(path))


def opened(study, folder, **settings):
    """The stages of a run that was opened, and closed again."""
    with open_run(study, folder, **settings) as stages:
        return stages


def test_a_run_that_goes_on_another_day_repeats_its_first_day(dated, tmp_path):
    first = opened(replace(dated, date="2020-02-29"), tmp_path / "run")
    recorded = Ledger.read(tmp_path / "run").record["provenance"]
    assert recorded["date"] == first.model.template.date == "2020-02-29"
    unset = tmp_path / "unset"
    opened(dated, unset)
    text = (unset / "study.json").read_text()
    today = Ledger.read(unset).record["provenance"]["date"]
    old = wb.load_model("pocket", chat_template=dated.chat_template, date="2020-02-29")
    stored = json.loads(text)
    stored["provenance"] |= old.template.provenance
    (unset / "study.json").write_text(json.dumps(stored))
    again = opened(dated, seal_run(unset))
    assert again.model.template.date == "2020-02-29" != today
    assert again.model.template.render("hi") == first.model.template.render("hi")


def test_a_model_of_another_day_is_refused(dated, tmp_path):
    template = dated.chat_template
    study = replace(dated, chat_template=None)
    models = {
        day: wb.load_model("pocket", chat_template=template, date=day)
        for day in ("2020-02-29", "2021-03-01")
    }
    opened(study, tmp_path / "run", model=models["2020-02-29"])
    with pytest.raises(wb.StudyError, match=r"template, rendered, date differ.*2020-02-29 in the "):
        opened(study, tmp_path / "run", model=models["2021-03-01"])
    with pytest.raises(wb.StudyError, match=r"asks for date='2020-01-01', the model at hand was"):
        check_model(models["2020-02-29"], replace(study, date="2020-01-01"))
    with pytest.raises(wb.StudyError, match=r"asks for thinking=False, the model .* with None"):
        check_model(models["2020-02-29"], replace(study, thinking=False))


def test_a_day_for_a_model_whose_template_writes_none(pocket, tmp_path):
    study = wb.Study(n_train=8, n_validation=8, n_test=4, date="2020-02-29")
    for given in ({}, {"model": pocket}):
        with pytest.raises((wb.StudyError, wb.ModelError), match="date='2020-02-29' does noth"):
            opened(study, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_run_of_an_earlier_version_goes_on_with_its_results_made_again(pocket, tmp_path):
    study = wb.Study(n_train=8, n_validation=8, n_test=4)
    opened(study, tmp_path, model=pocket)
    stored = json.loads((tmp_path / "study.json").read_text())
    for name in ("rendered", "thinking", "date"):
        del stored["provenance"][name]
    for name in ("thinking", "date", "score_after", "max_thinking_tokens"):
        del stored["settings"][name]
    (tmp_path / "study.json").write_text(json.dumps(stored))
    (tmp_path / "ledger.json").unlink()
    said = []
    assert opened(study, tmp_path, model=pocket, say=said.append).study == study
    assert any("has no ledger.json. What was made there is made again" in line for line in said)
    assert any(line.startswith("verification.safetensors is not in ledger") for line in said)


def test_thinking_reaches_the_template_of_a_run(dated, tmp_path):
    stages = opened(replace(dated, thinking=False, date="2020-02-29"), tmp_path / "run")
    assert stages.model.template.render("hi").startswith("29no<")
    assert command(stages.study).endswith("--no-thinking --date 2020-02-29")


def test_typed_special_tokens_are_counted_in_a_run(pocket, tmp_path, small_study):
    token = pocket.tokenizer.eos_token
    texts = list(wb.load_prompts("harmless").texts[:80])
    texts[3:6] = [f"{text} {token}" for text in texts[3:6]]
    lines = [json.dumps({"prompt": text}) + "\n" for text in texts]
    (tmp_path / "own.jsonl").write_text("".join(lines))
    study = replace(small_study, harmless=str(tmp_path / "own.jsonl"), n_test=99)
    said = []
    with open_run(study, tmp_path / "run", model=pocket, say=said.append) as stages:
        stages.refusal_tokens()
    kept = json.loads((tmp_path / "run" / "prompts.json").read_text())
    assert kept["typed_specials"] == {token: 3}
    assert f"special tokens typed inside prompts are read as tokens: {token} (3)" in said


@pytest.fixture
def thoughtful(pocket, small_study, monkeypatch):
    """A study that scores after thinking, of a model that thinks what a test dictates."""

    def dictate(block_of):
        def own_blocks(model, tokens, max_thinking_tokens):
            return [block_of(row) for row in range(len(tokens))]

        monkeypatch.setattr(thoughts, "own_blocks", own_blocks)
        return replace(small_study, score_after="thinking", analyses="transfer,heads")

    return dictate


@pytest.mark.slow
@pytest.mark.usefixtures("no_controls")
def test_a_study_that_scores_after_empty_thoughts_is_one_that_scores_after_the_prompt(
    thoughtful, pocket, small_run, tmp_path
):
    run = wb.run_study(thoughtful(lambda row: []), tmp_path / "run", model=pocket)
    for name in ("bypass", "induce", "kl"):
        assert run.scores[name].values == pytest.approx(
            small_run.scores[name].values, rel=1e-4, abs=1e-5, nan_ok=True
        )
    assert set(run.skipped) == {"transfer", "heads"}
    assert "scores first tokens right after the prompt" in run.skipped["transfer"]
    with pytest.raises(wb.StudyError, match="patching of heads scores first tokens right after"):
        find_heads(run.study, run.folder, model=pocket)


def test_prompts_whose_thinking_does_not_end_are_left_out(thoughtful, pocket):
    study = thoughtful(lambda row: [] if row else None)
    split = split_prompts(study)
    kept = keep_prompts(pocket, study, split)
    for part in ("train", "validation"):
        prompts = split["harmful"][part]
        assert list(kept["thoughts"][part]["harmful"]) == list(prompts.ids[1:])
        refuses = refusal_score(pocket.logits(prompts), kept["refusal_tokens"]) > 0
        expected = [own for own, yes in zip(prompts.ids, refuses.tolist(), strict=True) if yes]
        assert kept["kept"][part]["harmful"] == [own for own in expected if own != prompts.ids[0]]


def test_a_model_whose_thinking_does_not_end(thoughtful, pocket):
    study = thoughtful(lambda row: None)
    with pytest.raises(wb.StudyError, match="closes its thinking about only 0 of 48 harmful train"):
        keep_prompts(pocket, study, split_prompts(study))
