"""load_model: what it loads, what it leaves alone, and one clear line for all that can go wrong."""

import json
import shutil

import pytest
import torch

import workbench as wb
from workbench.errors import ModelError, StudyError
from workbench.models.loading.load import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_network, make_tokenizer):
    """A tiny Llama checkpoint with its tokenizer; copy it before changing it."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    make_network("llama").save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def broken(folder, tmp_path):
    """A copy of the checkpoint that a test may break."""
    return shutil.copytree(folder, tmp_path / "broken")


@pytest.fixture
def hub(monkeypatch):
    """Answers every request to the Hub with the response that a function gives, without waiting."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", _http._GLOBAL_CLIENT_FACTORY)
    httpx = _http.httpx2

    def answer(status=None, code=""):
        def respond(request):
            if status is None:
                raise httpx.ConnectError("Name or service not known", request=request)
            headers = {"X-Error-Code": code, "X-Error-Message": "as the Hub says it"}
            return httpx.Response(status, headers=headers, request=request)

        set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(respond)))

    yield answer
    _http.close_session()


def test_a_folder_loads_in_float32_with_its_own_logits(folder, make_network, zoo):
    model = load_model(folder)
    assert (model.n_layers, model.n_heads, model.d_model) == (3, 4, 32)
    assert model.dtype == torch.float32
    assert model.device == torch.device("cpu")
    assert model.name == str(folder)
    torch.testing.assert_close(model.logits(["hi"]), zoo["llama"].model.logits(["hi"]))
    assert load_model(str(folder)).weights_fingerprint == model.weights_fingerprint


def test_a_loaded_model_is_not_for_training(folder):
    network = load_model(folder).network
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_the_fingerprint_sees_changed_weights(make_network, make_tokenizer):
    network, twin, tuned = make_network("llama"), make_network("llama"), make_network("llama")
    with torch.no_grad():
        tuned.lm_head.weight[0, 0] += 1
    first, same, other = (
        load_model(each, tokenizer=make_tokenizer()).weights_fingerprint
        for each in (network, twin, tuned)
    )
    assert first == same != other


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16"])
def test_dtype_can_be_chosen(folder, dtype):
    model = load_model(folder, dtype=dtype)
    assert model.dtype == torch.bfloat16
    assert model.logits(["hi"]).dtype == torch.float32


def test_a_loaded_model_keeps_its_dtype_and_is_wrapped_in_place(make_network, make_tokenizer):
    network = make_network("llama").bfloat16()
    model = load_model(network, tokenizer=make_tokenizer())
    assert model.dtype == torch.bfloat16
    assert model.network is network
    assert model.name == "LlamaForCausalLM"


def test_a_model_that_was_never_saved_is_recognised(make_network, make_tokenizer):
    network = make_network("olmo2")
    assert network.config.architectures is None
    assert load_model(network, tokenizer=make_tokenizer()).n_layers == 3


def test_the_tokenizer_stays_as_it_was_given(make_network, make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = tokenizer.bos_token = tokenizer.eos_token = None
    before = len(tokenizer), dict(tokenizer.special_tokens_map), tokenizer.padding_side
    model = load_model(make_network("llama"), tokenizer=tokenizer)
    assert model.tokenizer is tokenizer
    assert (len(tokenizer), dict(tokenizer.special_tokens_map), tokenizer.padding_side) == before


def test_a_template_of_ones_own(folder, tmp_path, make_tokenizer):
    text = "Q: {{ messages[-1]['content'] }}\nA:"
    file = tmp_path / "mine.jinja"
    file.write_text(text)
    for given in (text, file, str(file)):
        model = load_model(folder, chat_template=given)
        assert model.template.render("hi") == "Q: hi\nA:"
    assert load_model(folder, tokenizer=make_tokenizer(text)).template.render("hi") == "Q: hi\nA:"


def test_transformer_lens_tools_run_on_the_bridge(zoo):
    from transformer_lens.tools.analysis import logit_lens

    model = zoo["llama"].model
    tokens = model.tokens(["hi", "How far is the sea?"])
    before = model.logits(tokens)
    with torch.no_grad():
        logits, cache = model.bridge.run_with_cache(
            tokens.ids, attention_mask=tokens.mask.long(), position_ids=tokens.position_ids
        )
        torch.testing.assert_close(logits[:, -1], before, rtol=1e-4, atol=1e-4)
        read = wb.collect_activations(model, tokens, positions=[-1], per_prompt=True)
        torch.testing.assert_close(
            cache["blocks.1.hook_resid_pre"][:, -1], read.at(1, -1), rtol=1e-4, atol=1e-4
        )
        logit_lens(model.bridge, tokens.ids[1:])
    assert torch.equal(model.logits(tokens), before)


def test_provenance_says_what_was_loaded(folder):
    model = load_model(folder)
    provenance = model.provenance
    assert provenance["model"] == str(folder)
    assert provenance["weights"] == model.weights_fingerprint
    assert provenance["template"] == model.template.fingerprint
    assert provenance["dtype"] == "float32"
    json.dumps(provenance)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model(hub, status):
    hub(status, "GatedRepo")
    with pytest.raises(ModelError, match=r"^owner/model is gated\. Accept its licence .*HF_TOKEN"):
        load_model("owner/model")


@pytest.mark.parametrize("status", [401, 404])
def test_a_model_that_the_hub_does_not_have(hub, status):
    hub(status, "RepoNotFound")
    with pytest.raises(ModelError, match=r"^no model 'owner/model' on the Hugging Face Hub"):
        load_model("owner/model")


def test_a_revision_that_the_hub_does_not_have(hub):
    hub(404, "RevisionNotFound")
    with pytest.raises(ModelError, match=r"^owner/model has no such revision"):
        load_model("owner/model", revision="mian")


@pytest.mark.parametrize("status", [None, 500])
def test_a_hub_that_cannot_be_reached(hub, status):
    hub(status)
    with pytest.raises(ModelError, match=r"^owner/model is not on this machine and the Hub cannot"):
        load_model("owner/model")


def test_offline_by_choice(hub, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"^owner/model is not on this machine and the Hub cannot"):
        load_model("owner/model")


def test_errors_without_a_hub_keep_their_cause(hub):
    hub(404, "RepoNotFound")
    with pytest.raises(ModelError) as caught:
        load_model("owner/model")
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


def test_a_name_that_means_nothing():
    with pytest.raises(ModelError, match=r"no model 'pokcet': not a shipped organism .*owner/name"):
        load_model("pokcet")


@pytest.mark.parametrize("make", [str, lambda path: path])
def test_a_folder_that_is_not_there(tmp_path, make):
    with pytest.raises(ModelError, match=r"no model '.*/nowhere': not a shipped organism"):
        load_model(make(tmp_path / "nowhere"))


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json, so it is not a model folder"):
        load_model(tmp_path)


def test_an_architecture_that_transformer_lens_does_not_know(tmp_path, make_tokenizer):
    from transformers import BioGptConfig, BioGptForCausalLM

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = BioGptForCausalLM(BioGptConfig(vocab_size=300, intermediate_size=16, **size))
    network.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    message = r"^TransformerLens cannot wrap .*BioGptForCausalLM.*supported_models` lists"
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_model(network, tokenizer=make_tokenizer())


def test_an_architecture_that_nobody_knows(broken):
    config = json.loads((broken / "config.json").read_text())
    config |= {"model_type": "zorglub", "architectures": ["ZorglubForCausalLM"]}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"^TransformerLens cannot wrap .*zorglub"):
        load_model(broken)


def test_a_config_that_is_no_json(broken):
    (broken / "config.json").write_text("{")
    with pytest.raises(ModelError, match=rf"^cannot load {broken}: "):
        load_model(broken)


def test_a_folder_without_a_tokenizer(broken):
    for file in broken.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=rf"^cannot load {broken}: .*tokenizer"):
        load_model(broken)


def test_a_truncated_checkpoint(broken):
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=rf"^cannot load {broken}: .*(incomplete|Header)"):
        load_model(broken)


def test_weights_that_are_not_numbers(broken, make_network, make_tokenizer):
    network = make_network("llama")
    with torch.no_grad():
        network.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    network.save_pretrained(broken)
    for given in ((broken,), (network, make_tokenizer())):
        with pytest.raises(
            ModelError, match=r"is broken: 1 weight .* model\.layers\.1\.mlp\.up_proj\."
        ):
            load_model(given[0], tokenizer=given[-1] if len(given) > 1 else None)


def test_weights_that_overflow_are_seen_in_the_logits(make_network, make_tokenizer):
    network = make_network("gpt2")
    with torch.no_grad():
        network.transformer.h[0].mlp.c_proj.weight.fill_(3e38)
    with pytest.raises(ModelError, match="the plain network gives logits that are not finite"):
        load_model(network, tokenizer=make_tokenizer())
    model = load_model(make_network("gpt2"), tokenizer=make_tokenizer())
    with torch.no_grad():
        model.bridge.blocks[0].mlp.out.weight.fill_(3e38)
    with pytest.raises(ModelError, match="gives logits that are not finite"):
        model.logits(["hi"])
    with pytest.raises(ModelError, match="gives activations that are not finite at resid_pre"):
        wb.collect_activations(model, ["hi"])


def test_arguments_that_contradict_each_other(folder, zoo, make_network, make_tokenizer):
    with pytest.raises(ModelError, match="device= and device_map= contradict each other"):
        load_model(folder, device="cpu", device_map="auto")
    for setting in ({"device_map": "auto"}, {"revision": "main"}):
        with pytest.raises(ModelError, match="do nothing to a model that is loaded already"):
            load_model(make_network("llama"), tokenizer=make_tokenizer(), **setting)
    for name in (folder, "pocket"):
        with pytest.raises(ModelError, match=r"revision must be .* of a Hub id, found .* Leave"):
            load_model(name, revision="main")
    with pytest.raises(StudyError, match="revision must be text that is not blank, found ' '"):
        load_model("owner/model", revision=" ")
    with pytest.raises(ModelError, match=r"cannot read the chat template: no file nowhere\.jinja"):
        load_model(folder, chat_template="nowhere.jinja")


def test_a_loaded_model_needs_its_tokenizer(make_network):
    with pytest.raises(ModelError, match=r"needs its tokenizer: load_model\(LlamaForCausalLM, tok"):
        load_model(make_network("llama"))
    with pytest.raises(ModelError, match=r"expected a Hugging Face tokenizer, found a str"):
        load_model(make_network("llama"), tokenizer="gpt2")


@pytest.mark.parametrize("thing", [3, None, torch.nn.Linear(2, 2)])
def test_not_a_model(thing):
    with pytest.raises(ModelError, match=r"expected a model's name, folder or Hugging Face model"):
        load_model(thing)


@pytest.mark.parametrize("bars", [True, False])
def test_logging_is_left_as_it_was(folder, bars):
    from transformers.utils import logging

    def switch(on):
        (logging.enable_progress_bar if on else logging.disable_progress_bar)()

    enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    switch(bars)
    try:
        load_model(folder)
        assert logging.is_progress_bar_enabled() == bars
        assert logging.get_verbosity() == verbosity
    finally:
        switch(enabled)
