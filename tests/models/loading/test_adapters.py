"""PEFT adapters: they compute what PEFT does, and what does not fit is refused with the cause."""

import copy
import json
import sys
import warnings

import pytest
import torch
from typer.testing import CliRunner

import workbench as wb
from workbench.cli.app import app
from workbench.errors import ModelError, StudyError
from workbench.models.loading.load import load_model
from workbench.study.folder import check_model

peft = pytest.importorskip("peft", reason="peft is not installed -> make test installs it")

PARTS = ["q_proj", "v_proj", "o_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory, make_network, make_tokenizer):
    """The folder of a tiny Llama."""
    path = tmp_path_factory.mktemp("bases") / "tiny"
    make_network("llama").save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


def adapted(network, trained=True, **settings):
    """A PeftModel of a network, which it changes."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT asks transformers for what it renames
        config = peft.LoraConfig(
            r=2, target_modules=PARTS, init_lora_weights=not trained, **settings
        )
        return peft.get_peft_model(network, config).eval()


def saved(model, folder, base):
    """The folder of a PeftModel that was saved."""
    model.peft_config["default"].base_model_name_or_path = None  # else it asks the Hub about it
    model.save_pretrained(folder)
    changed(folder, base_model_name_or_path=str(base))
    return folder


def changed(folder, **settings):
    """Writes other settings into an adapter."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.fixture
def lora(base, make_network, tmp_path):
    """A PeftModel and the folder that it was saved in, which names its base."""

    def make(folder=None, **settings):
        model = adapted(make_network("llama"), **settings)
        return model, saved(model, folder or tmp_path / "lora", base)

    return make


def gap(model, network):
    """The largest difference of logits from those of a network, relative to their spread."""
    tokens = model.tokens(["How far is the sea from here?"])
    with torch.no_grad():
        truth = network(input_ids=tokens.ids).logits[:, -1]
    return float((model.logits(tokens) - truth).abs().max() / truth.std())


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_a_model_with_its_adapter_is_what_peft_computes(base, lora, make_network, merge, settings):
    network, folder = lora(**settings)
    beside, alone = load_model(base, adapter=folder, merge=merge), load_model(folder, merge=merge)
    assert gap(beside, make_network("llama").eval()) > 0.1
    for model in (beside, alone):
        assert gap(model, network) < 1e-4
    assert (beside.name, alone.name) == (str(base), str(folder))
    assert wb.verify_model(beside).attrs["verdict"] == "exact"


def test_provenance_has_the_hashes_of_base_and_adapter(base, lora, tmp_path):
    _, folder = lora()
    plain, model = load_model(base), load_model(base, adapter=folder)
    other = load_model(base, adapter=lora(tmp_path / "other", lora_alpha=3)[1], merge=False)
    found = model.provenance
    assert found["form"] == "adapter" and found["merged"]
    assert found["base"] == {"model": str(base), "plain_weights": plain.plain_weights}
    assert other.provenance["base"] == found["base"] and not other.provenance["merged"]
    acts = [wb.collect_activations(model, texts, layers=[1]) for texts in (["a", "b"], ["c", "d"])]
    path = wb.mean_difference(*acts).save(tmp_path / "d.safetensors")
    stored = wb.Directions.load(path).provenance
    assert stored["adapter"] == found["adapter"] and stored["base"] == found["base"]
    changed = dict(found["adapter"])
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + bytes([1, 2, 3, 62]))
    again = load_model(base, adapter=folder).provenance["adapter"]
    assert again["weights"] != changed["weights"]
    assert again["file_sha256"] != changed["file_sha256"]


def test_a_direction_of_an_adapter_edits_it_merged_or_not_and_warns_elsewhere(base, lora):
    _, folder = lora()
    merged, left = (load_model(base, adapter=folder, merge=merge) for merge in (True, False))
    acts = [wb.collect_activations(merged, texts, layers=[1]) for texts in (["a", "b"], ["c", "d"])]
    direction = wb.mean_difference(*acts).at(layer=1, position=-1)
    with wb.intervene(left, wb.Ablate(direction)):
        pass
    told = rf"read on {base} with adapter {folder} \(\w+\) edits {base}, which has other weights"
    # Also where numbers are of another type: it is no rounding of the same checkpoint.
    for plain in (load_model(base), load_model(base, dtype="bfloat16")):
        with pytest.warns(UserWarning, match=told), wb.intervene(plain, wb.Ablate(direction)):
            pass


def test_what_a_user_holds_is_merged_in_a_copy(lora, make_network, make_tokenizer):
    network, folder = lora()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    model = load_model(network, tokenizer=make_tokenizer())
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert not any(hasattr(part, "original_component") for part in network.modules())
    assert gap(model, network) < 1e-4
    own = load_model(make_network("llama"), tokenizer=make_tokenizer())
    assert model.form["base"]["plain_weights"] == own.plain_weights
    assert load_model(own.network, tokenizer=make_tokenizer()).plain_weights == own.plain_weights
    # In whatever way an adapter came, it has one hash.
    assert model.form["adapter"]["weights"] == load_model(folder).form["adapter"]["weights"]


def test_left_on_a_held_model_is_wrapped_in_place(lora, make_tokenizer):
    network, folder = lora()
    truth = copy.deepcopy(network)
    model = load_model(network, tokenizer=make_tokenizer(), merge=False)
    assert model.network is network.get_base_model()
    assert gap(model, truth) < 1e-4
    known = load_model(folder, merge=False)
    assert model.weights_fingerprint == known.weights_fingerprint
    again = load_model(model.network, tokenizer=make_tokenizer())
    assert again.form == model.form
    # A network on which adapters stand, and which is no PeftModel.
    inner = load_model(truth.get_base_model(), tokenizer=make_tokenizer())
    assert inner.form["adapter"]["weights"] == known.form["adapter"]["weights"]
    assert inner.form["base"]["plain_weights"] == known.form["base"]["plain_weights"]
    assert not inner.form["merged"]


@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_that_changes_nothing_is_named(base, lora, make_tokenizer, merge):
    network, folder = lora(trained=False)
    with pytest.warns(UserWarning, match=rf"adapter {folder} changes nothing: with it the model"):
        load_model(base, adapter=folder, merge=merge)
    with pytest.warns(UserWarning, match="adapter default changes nothing"):
        load_model(network, tokenizer=make_tokenizer(), merge=merge)


def test_another_base_of_the_same_shapes_is_named(base, lora):
    _, folder = lora()
    changed(folder, base_model_name_or_path="owner/Other-1B")
    with pytest.warns(UserWarning, match=r"says that its base is owner/Other-1B, and it is put on"):
        load_model(base, adapter=folder)
    changed(folder, base_model_name_or_path="owner/Tiny-bnb-4bit")
    load_model(base, adapter=folder)


def test_an_adapter_that_does_not_fit_is_refused_with_the_cause(lora, make_tokenizer, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    _, folder = lora()
    size = {"vocab_size": 264, "num_attention_heads": 4, "intermediate_size": 48}
    narrow = {"hidden_size": 16, "num_hidden_layers": 3}
    shallow = {"hidden_size": 32, "num_hidden_layers": 1, "num_key_value_heads": 2}
    for settings, message in (
        (narrow, r"does not fit .*tiny: size mismatch for .*q_proj\.lora_A.* And \d+ more\."),
        (
            shallow,
            r"does not fit .*tiny: 12 of its 18 weights have no place there, first .*s\.1",
        ),
    ):
        path = tmp_path / "of" / str(settings["hidden_size"]) / "tiny"
        LlamaForCausalLM(LlamaConfig(**size, **settings)).save_pretrained(path)
        make_tokenizer().save_pretrained(path)
        with pytest.raises(ModelError, match=message) as caught:
            load_model(path, adapter=folder)
        assert "\n" not in str(caught.value)


def test_an_adapter_without_a_target_in_the_base_is_refused(
    lora, make_network, make_tokenizer, tmp_path
):
    _, folder = lora()
    path = tmp_path / "of" / "tiny"
    make_network("gpt2").save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    with pytest.raises(ModelError, match=r"does not fit .*: Target modules .* not found"):
        load_model(path, adapter=folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_quux": True}, r"sets use_quux, which peft \d.* does not know"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "sets layer_replication, with which it is no"),
        ({"alora_invocation_tokens": [3]}, "sets alora_invocation_tokens, with which it is no"),
        ({"peft_type": "ZORGLUB"}, "adapter .*lora"),
        ({"base_model_name_or_path": None}, "does not say what its base is. Pass that as the"),
        ({"base_model_name_or_path": "nowhere"}, "the base of adapter .*: no model 'nowhere'"),
        ({"base_model_name_or_path": 3}, "is broken: base_model_name_or_path is no text"),
        ({"target_modules": ["q_proj", "v_proj"]}, "6 of its 18 weights have no place there"),
        ({"target_modules": [*PARTS, "k_proj"]}, "its file lacks 6 weights that its settings ask"),
    ],
)
def test_settings_that_cannot_be_honoured(lora, settings, message):
    _, folder = lora()
    changed(folder, **settings)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_an_adapter_of_prompts_is_refused_by_its_type(base, make_network, tmp_path):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(make_network("llama"), config)
    saved(model, tmp_path / "prompts", base)
    with pytest.raises(ModelError, match=r"is of type PROMPT_TUNING: it changes no weight"):
        load_model(tmp_path / "prompts")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "holds an adapter without weights: no adapter_model"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot load adapter .*"),
        (lambda path: (path.parent / "adapter_config.json").write_text("{"), "JSON|is broken"),
    ],
)
def test_damaged_files(lora, damage, message):
    _, folder = lora()
    damage(folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_arguments_that_contradict_each_other(base, lora, make_network, make_tokenizer):
    _, folder = lora()
    with pytest.raises(ModelError, match="is an adapter itself, and adapter="):
        load_model(folder, adapter=folder)
    with pytest.raises(ModelError, match=r"is no adapter: it has no adapter_config\.json"):
        load_model(base, adapter=base)
    with pytest.raises(ModelError, match=r"merge=False does nothing: .* has no adapter"):
        load_model(base, merge=False)
    network = make_network("llama")
    with pytest.raises(ModelError, match="merge=False does nothing: this LlamaForCausalLM is no"):
        load_model(network, tokenizer=make_tokenizer(), merge=False)
    with pytest.raises(ModelError, match="adapter= does nothing to a model that is loaded"):
        load_model(network, tokenizer=make_tokenizer(), adapter=folder)


def test_without_the_package_the_line_that_installs_it(lora, monkeypatch):
    _, folder = lora()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"peft: pip install 'refusal-workbench\[adapters\]'"):
        load_model(folder)


def test_the_tokenizer_beside_an_adapter_comes_first(base, lora, make_tokenizer):
    _, folder = lora()
    assert load_model(folder).template.render("hi").startswith("<|im_start|>u:hi")
    make_tokenizer("Q: {{ messages[-1]['content'] }} A:").save_pretrained(folder)
    assert load_model(base, adapter=folder).template.render("hi") == "Q: hi A:"


def test_a_matrix_beside_which_an_adapter_stands_is_not_read(base, lora):
    _, folder = lora(modules_to_save=["lm_head"])
    left, merged = (load_model(base, adapter=folder, merge=merge) for merge in (False, True))
    direction = wb.Directions.from_vector([1.0] * 32, layer=2)
    with pytest.raises(ModelError, match=r"W_O of layer 0 of .* cannot be read: an adapter stands"):
        wb.heads.direct_attribution(left, direction, ["a", "b"])
    wb.heads.direct_attribution(merged, direction, ["a", "b"])


def test_the_base_may_be_a_gguf_file_or_an_organism(lora, make_network, make_tokenizer, tmp_path):
    pytest.importorskip("gguf", reason="gguf is not installed -> make test installs it")
    from ggufs import write_gguf

    network, folder = lora()
    tokenizer = make_tokenizer(merges=[("t", "h")])
    path = write_gguf(tmp_path / "tiny.Q8_0.gguf", make_network("llama"), tokenizer)
    model = load_model(path, adapter=folder)
    assert gap(model, network) < 1e-4
    own = model.form["base"]
    assert own["form"] == "gguf" and own["dequantized_from"] == [] and len(own["file_sha256"]) == 64
    note = wb.verify_model(model)["note"].sel(check="form").item()
    assert f"merged into {path}, a GGUF file" in note
    small = wb.load_model("pocket-two").network
    folder = saved(adapted(type(small)(small.config)), tmp_path / "on-organism", "pocket-two")
    assert load_model(folder).form["base"]["model"] == "pocket-two"


def test_runs_and_the_command_take_an_adapter(base, lora):
    _, folder = lora()
    model = load_model(base, adapter=folder)
    check_model(model, wb.Study(model=str(base), adapter=str(folder)))
    with pytest.raises(StudyError, match=rf"asks for adapter=None, .* with '{folder}'"):
        check_model(model, wb.Study(model=str(base)))
    done = CliRunner().invoke(app, ["verify", str(base), "--adapter", str(folder)])
    assert done.exit_code == 0, done.output
    assert "merged into" in " ".join(done.output.split())
