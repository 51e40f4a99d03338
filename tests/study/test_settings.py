"""Settings: frozen, checked, and the same after a round trip through JSON."""

from dataclasses import FrozenInstanceError

import pytest

from workbench.errors import StudyError
from workbench.intake.records import as_record
from workbench.study.settings import Study


def test_settings_survive_json():
    study = Study(model="owner/name", n_train=3, refusal_words="I, As", kl_cap=0.2)
    assert as_record(study.to_json(), "it", Study) == study


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Study().n_train = 3  # pyright: ignore


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_train": 0}, "n_train must be at least 1, found 0"),
        ({"n_test": -2}, "n_test must be at least 1"),
        ({"skip_last": 1.0}, r"skip_last must be in \[0, 1\)"),
        ({"confidence": 0.0}, r"confidence must be between 0 and 1"),
        ({"kl_cap": float("nan")}, "kl_cap must be a finite number"),
        ({"kl_cap": -1.0}, "kl_cap must be a finite number, at least 0, found -1"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, found -1"),
        ({"estimator": "median"}, "estimator must be one of mean_difference, pca_direction"),
        ({"site": "resid_post"}, "site must be one of .*The output of block l is resid_pre of"),
        ({"judge": "rule"}, "judge must be one of combined, rules, .*, found 'rule'. Did you"),
        ({"harmful": ["a"]}, "harmful must be text, found a list of str"),
        ({"refusal_words": "I,,As"}, "refusal_words must be words with commas between"),
        ({"harmful": "my\udcff.csv"}, r"harmful must be UTF-8 text, .*, found 'my\\udcff\.csv'"),
        ({"max_thinking_tokens": 9}, "max_thinking_tokens=9 does nothing where scores are read"),
    ],
)
def test_a_setting_out_of_range_is_refused(unchecked, setting, message):
    with pytest.raises(StudyError, match=message):
        Study(**setting)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"n_trian": 3}'])
def test_foreign_json_is_refused(text):
    with pytest.raises(StudyError, match="the settings of a study is broken"):
        as_record(text, "the settings of a study", Study, StudyError)
