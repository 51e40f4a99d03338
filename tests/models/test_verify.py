"""verify_model: a verdict for everything that is read, kept with a run and shown in a terminal."""

import numpy as np
import pytest
from architectures import random_network
from hostile.sealing import seal_run
from typer.testing import CliRunner

import workbench as wb
from workbench.artifact import load_dataset, save_dataset
from workbench.cli.app import app
from workbench.cli.tables import show_verification
from workbench.errors import ModelError
from workbench.models.forwards.shortcuts import chosen_method
from workbench.study.stages import open_run

MEASURED = ("logits", "resid_pre", "attn_out", "mlp_out", "z", "ablation", "padding", "cache")


def opened(study, folder, **settings):
    """Opens a run and lets it go."""
    with open_run(study, folder, **settings):
        pass


def verified(name, make_tokenizer):
    return wb.verify_model(random_network(name), tokenizer=make_tokenizer())


def verdicts(found):
    return dict(zip(found["check"].values.tolist(), found["verdict"].values.tolist(), strict=True))


def notes(found):
    return dict(zip(found["check"].values.tolist(), found["note"].values.tolist(), strict=True))


def test_a_sound_model_is_exact_in_everything(zoo):
    found = wb.verify_model(zoo["gemma2"].model)
    assert set(verdicts(found).values()) == {"exact"} == {found.attrs["verdict"]}
    values = found["value"].sel(check=list(MEASURED))
    assert (values < 1e-4).all() and (values >= 0).all()
    assert (found["value"] <= found["allowed"]).where(found["value"].notnull(), True).all()


def test_the_template_is_shown_token_by_token(pocket):
    found = wb.verify_model(pocket)
    parts, texts = found["token_part"].values.tolist(), found["token_text"].values.tolist()
    tokens = pocket.tokens(["How far is the sea from here?"])
    assert found["token_id"].values.tolist() == tokens.ids[0].tolist()
    assert parts[-1] == "t_post" and texts[parts.index("t_inst")] == "?"
    assert found["token_position"].values[parts.index("t_inst")] == tokens.t_inst
    assert parts.count("post-instruction") == tokens.n_post - 1
    assert parts.count("template") == tokens.n_pre


@pytest.mark.parametrize("name", ["falcon_alibi", "gpt2_unscaled"])
def test_a_wrapper_that_is_wrong_is_shown_and_not_only_refused(name, make_tokenizer):
    found = verified(name, make_tokenizer)
    own = verdicts(found)
    assert own["logits"] == own["z"] == found.attrs["verdict"] == "wrong"
    assert float(found["value"].sel(check="logits")) > 0.01


def test_what_a_hybrid_lacks_and_does_slowly_is_told(make_tokenizer):
    found = verified("lfm2", make_tokenizer)
    own = verdicts(found)
    assert own["logits"] == own["ablation"] == own["cache"] == own["padding"] == "exact"
    assert notes(found)["attn_out"].startswith("not in layers 0, 2; ")
    assert "layers 0, 2 write otherwise" in notes(found)["sum of the block"]
    assert own["packed forwards, last token"] == "slower"
    mamba = verdicts(verified("mamba", make_tokenizer))
    assert mamba["attn_out"] == mamba["mlp_out"] == mamba["z"] == "lacking"
    assert mamba["logits"] == "exact"


def test_a_model_that_reads_padding_is_slower(make_tokenizer):
    found = verified("recurrent_gemma", make_tokenizer)
    assert verdicts(found)["padding"] == "slower"
    assert "only prompts of one length share a batch" in notes(found)["padding"]


def test_a_site_that_the_wrapper_scales_is_told_by_its_sum(make_tokenizer):
    found = verified("granite", make_tokenizer)
    assert verdicts(found)["sum of the block"] == "exact"
    assert set(verdicts(found).values()) == {"exact"}


def test_a_site_that_is_read_wrongly_is_wrong(make_tokenizer, monkeypatch):
    model = wb.load_model(random_network("llama"), tokenizer=make_tokenizer())
    monkeypatch.setattr(model.bridge.blocks[1].mlp.hook_out, "hook_conversion", None)
    truths = dict(model.reference.sites)
    truths["mlp_out", 1] = truths["mlp_out", 1] * 1.1
    object.__setattr__(model.reference, "sites", truths)
    found = wb.verify_model(model)
    assert verdicts(found)["mlp_out"] == "wrong"
    assert notes(found)["mlp_out"] == "most in layer 1"


def test_a_cache_that_is_lost_is_wrong(make_tokenizer, monkeypatch):
    attention = type(
        wb.load_model(random_network("llama"), tokenizer=make_tokenizer()).bridge.blocks[0].attn
    )
    own = attention.forward
    monkeypatch.setattr(
        attention,
        "forward",
        lambda self, *args, **kwargs: own(self, *args, **{**kwargs, "past_key_values": None}),
    )
    assert verdicts(verified("llama", make_tokenizer))["cache"] == "wrong"


def test_the_shortcuts_that_were_verified_are_those_that_are_taken(zoo):
    model = zoo["qwen3"].model
    wb.verify_model(model)
    assert chosen_method(model, model.tokens(["hi", "How far is the sea?"]), 1) == "packed"


def test_without_a_template_the_rest_is_verified(make_tokenizer, capsys):
    found = wb.verify_model(random_network("llama"), tokenizer=make_tokenizer(None))
    assert verdicts(found)["template"] == "lacking"
    assert "no chat template" in notes(found)["template"]
    assert "token" not in found.dims
    show_verification(found)
    assert "no prompt can be put to this model as it" in " ".join(capsys.readouterr().out.split())


def test_settings_of_a_loaded_model_are_refused(pocket):
    with pytest.raises(ModelError, match="dtype would do nothing: pocket is loaded already"):
        wb.verify_model(pocket, dtype="float32")
    with pytest.raises(ModelError, match="thinking would do nothing"):
        wb.verify_model(pocket, thinking=False)


def test_a_run_keeps_it_and_does_not_go_on_from_what_is_wrong(
    small_run, pocket, tmp_path, monkeypatch
):
    kept = load_dataset(small_run.folder / "verification.safetensors", kind="verification")
    assert kept.attrs["verdict"] == small_run.verification.attrs["verdict"] == "exact"
    wrong = kept.copy(deep=True)
    wrong["verdict"][0], wrong["note"][0] = "wrong", "off by 3"
    wrong.attrs["verdict"] = "wrong"
    opened(small_run.study, tmp_path / "run", model=pocket)
    for again in (True, False):
        save_dataset(tmp_path / "run" / "verification.safetensors", wrong, kind="verification")
        seal_run(tmp_path / "run")
        if again:
            opened(small_run.study, tmp_path / "run", model=pocket)  # asked again, it is right
    monkeypatch.setattr("workbench.study.stages.verify_model", lambda model: wrong)
    for _ in range(2):
        with pytest.raises(ModelError, match=r"pocket would not be true \(logits: off by 3\)"):
            opened(small_run.study, tmp_path / "run", model=pocket)


def test_the_command_line_says_it_and_exits_by_it(tmp_path, make_tokenizer):
    done = CliRunner().invoke(app, ["verify", "pocket", "--out", str(tmp_path / "v.safetensors")])
    assert done.exit_code == 0, done.output
    for said in ("logits", "exact", "t_inst", "t_post", "Everything that is read"):
        assert said in done.output
    assert load_dataset(tmp_path / "v.safetensors", kind="verification")["value"].notnull().any()
    random_network("falcon_alibi").save_pretrained(tmp_path / "falcon")
    make_tokenizer().save_pretrained(tmp_path / "falcon")
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "falcon")])
    assert done.exit_code == 1
    assert "wrong" in done.output and "Do not trust" in done.output


def test_numbers_that_are_none_are_never_exact():
    from workbench.models.verify import _row

    assert _row("x", np.nan, 1.0).verdict == "wrong"
