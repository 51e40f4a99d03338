"""Settings: frozen, checked, and the same after a round trip through JSON."""

from dataclasses import FrozenInstanceError

import pytest

from workbench.errors import StudyError
from workbench.study.settings import Study


def test_settings_survive_json():
    study = Study(model="owner/name", n_train=3, refusal_words="I, As", kl_cap=0.2)
    assert Study.from_json(study.to_json()) == study


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
        ({"estimator": "median"}, "no estimator 'median': mean_difference, pca_direction"),
        ({"site": "z"}, "no site 'z': resid_pre, attn_out, mlp_out"),
        ({"judge": "oracle"}, "no judge 'oracle': rules, substring"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, message):
    with pytest.raises(StudyError, match=message):
        Study(**setting)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"n_trian": 3}'])
def test_foreign_json_is_refused(text):
    with pytest.raises(StudyError, match="the settings of a study is broken"):
        Study.from_json(text)
