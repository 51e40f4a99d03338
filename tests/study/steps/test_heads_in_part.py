"""What cannot be made of heads is left out with its reason; bad settings come first."""

import pytest
import torch

import workbench as wb
from workbench.errors import AxisError, ModelError, StudyError
from workbench.study.steps import heads as heads_module
from workbench.study.steps.heads import find_heads, study_heads


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"threshold": 1.5}, StudyError),
        ({"n_random": -1}, StudyError),
        ({"max_heads": 0}, StudyError),
        ({"metric": "score"}, AxisError),
        ({"aim": "both"}, AxisError),
        ({"positions": [0]}, AxisError),
    ],
)
def test_bad_settings_are_refused_before_the_model_is_loaded(
    monkeypatch, unchecked, settings, error
):
    monkeypatch.setattr(heads_module, "open_run", lambda *a, **k: pytest.fail("was opened"))
    with pytest.raises(error):
        find_heads(wb.Study(), **settings)


def test_a_late_failure_keeps_what_was_found(pocket, monkeypatch, tmp_path):
    def objects(*all, **settings):
        raise ModelError("heads that do not add up.")

    monkeypatch.setattr(heads_module, "direct_attribution", objects)
    monkeypatch.setattr(heads_module, "find_minimal_head_set", objects)
    harmful, harmless = (wb.load_prompts(kind).sample(4) for kind in ("harmful", "harmless"))
    r = wb.Directions(torch.ones(1, 1, 1, pocket.d_model), ("r",), (0,), (-1,))
    said = []
    found = study_heads(
        pocket, r, harmful, harmless, refusal_tokens=(77, 428, 425, 360), layers=[4],
        say=said.append,
    )  # fmt: skip
    assert list(found.results) == ["head_patching", "head_screen", "head_attention"]
    assert found.skipped == dict.fromkeys(
        ("head_set", "head_attribution"), "heads that do not add up."
    )
    assert "head_set skipped: heads that do not add up." in said
    assert {*found.figures()} == {"head_map", "head_attention"}
    assert "contribution" not in found.to_dataframe()
    assert all(path.is_file() for path in found.save(tmp_path))
