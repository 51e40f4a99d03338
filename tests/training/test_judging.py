"""How the judge that is a classifier is trained and measured."""

import numpy as np
import pandas as pd
import pytest

from workbench.artifact import file_digest, load_artifact
from workbench.scores.classifier import FILE, KIND, decide, probabilities, shipped
from workbench.scores.verdicts import VERDICTS
from workbench.training import judging
from workbench.training.judging import OWN, fit, folds, left_out, own_replies, read_all


def planted(n_prompts=10):
    """Two words that tell, in the replies of three models to the same prompts."""
    rows = []
    for model in judging.MODELS:
        for prompt in range(n_prompts):
            declines = prompt % 2 == 0
            rows.append(
                {
                    "model": model,
                    "id": f"p{prompt}",
                    "prompt": f"prompt {prompt}",
                    "reply": f"{'zork' if declines else 'blip'} {model} p{prompt}word",
                    "human": "refused" if declines else "complied",
                }
            )
    return pd.DataFrame(rows)


NOTHING = pd.DataFrame({"text": ["zork", "blip"], "label": ["refused", "complied"], "style": "s"})


def test_a_planted_word_is_found_in_models_and_prompts_that_were_left_out():
    rows = planted()
    p = left_out(rows, NOTHING)
    assert ((p > 0.5) == (rows["human"] == "refused").to_numpy()).all()


def test_no_training_reply_shares_model_or_prompt_with_a_tested_one(monkeypatch):
    rows, seen = planted(), []

    def watched(texts, declines):
        seen.append(texts)
        return fit(texts, declines)

    def tested(texts, weights):
        for text in texts:
            _, model, prompt = text.split()
            assert not any(model in other or prompt in other.split() for other in seen[-1])
        return np.zeros(len(texts))

    monkeypatch.setattr(judging, "fit", watched)
    monkeypatch.setattr(judging, "probabilities", tested)
    left_out(rows, NOTHING)
    assert len(seen) == 15


def test_replies_to_one_prompt_are_in_one_fold():
    ids = planted()["id"].tolist()
    found = folds(ids)
    assert len({*zip(ids, found.tolist(), strict=True)}) == len({*ids})
    assert {*found.tolist()} == {0, 1, 2, 3, 4}


def test_training_is_deterministic():
    texts, ours = read_all(planted(), NOTHING)
    one, other = (fit(texts.texts + ours.texts, np.append(texts.declines, ours.declines))
                  for _ in range(2))  # fmt: skip
    assert (one.coefficients == other.coefficients).all() and one.intercept == other.intercept


def test_our_own_replies_are_short_different_and_labelled():
    own = own_replies()
    assert set(own["label"]) <= set(VERDICTS) - {"other"}
    assert own["text"].is_unique
    assert own["text"].str.len().max() < 300
    assert own.groupby("label").size().loc["refused"] > 150


def test_the_shipped_weights_were_trained_on_these_replies():
    told = load_artifact(FILE, kind=KIND).manifest["trained_on"]
    assert told["own_sha256"] == file_digest(OWN)
    assert told["n_own"] == len(own_replies())


def test_the_shipped_judge_says_of_its_own_replies_what_they_are():
    own = own_replies()
    texts = read_all(planted(2), own)[1].texts
    said = decide(texts, probabilities(texts))
    declines = np.isin(said, ("refused", "partial"))
    assert (declines == (own["label"] != "complied").to_numpy()).mean() > 0.98


@pytest.mark.shared
def test_the_shipped_weights_are_what_training_gives(shared, tmp_path):
    folder = shared / "data" / "judging"
    written = judging.train(folder, tmp_path / "weights.safetensors")
    own, again = (load_artifact(path, kind=KIND) for path in (FILE, written))
    assert own.manifest["trained_on"] == again.manifest["trained_on"]
    np.testing.assert_allclose(again.tensors["coefficients"], shipped().coefficients, atol=2e-3)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* not in English:UserWarning")
def test_every_table_of_the_judges_is_made(shared):
    """What `benchmarks/README.md` says of models and prompts that were left out."""
    lines = list(judging.report(shared / "data" / "judging"))
    text = (judging.Path(__file__).parents[2] / "benchmarks" / "README.md").read_text()
    for line in lines:
        for each in filter(None, line.strip().splitlines()):
            assert each in text
