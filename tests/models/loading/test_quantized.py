"""Models in 8 and 4 bits, on a CPU: read as they compute; packed matrices are not read."""

import pytest
import torch

import workbench as wb
from workbench.errors import ModelError
from workbench.models.form import form_line
from workbench.models.loading.load import load_model
from workbench.models.organisms import organism_path

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed -> make test installs it")

BITS = {8: {"load_in_8bit": True}, 4: {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}}
KINDS = {8: "bitsandbytes in 8 bits", 4: "bitsandbytes in 4 bits (nf4)"}


def quantized(bits):
    """A shipped organism in so few bits, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    path, settings = organism_path("pocket-two"), {"dtype": torch.float32, "device_map": "cpu"}
    config = BitsAndBytesConfig(**BITS[bits])
    network = AutoModelForCausalLM.from_pretrained(path, quantization_config=config, **settings)
    return network, AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="module", params=BITS)
def bits(request):
    return request.param


@pytest.fixture(scope="module")
def model(bits):
    network, tokenizer = quantized(bits)
    return load_model(network, tokenizer=tokenizer)


def test_all_that_is_read_is_what_is_computed(model, bits):
    found = wb.verify_model(model)
    # Values in 8 bits are rounded by what is in the batch, so that shortcuts are not exact.
    assert found.attrs["verdict"] in ("exact", "slower") and (
        bits == 8 or found.attrs["verdict"] == "exact"
    )
    assert float(found["value"].sel(check="logits")) < 1e-4
    assert model.form == {"form": "quantized", "quantization": KINDS[bits]}
    assert found["note"].sel(check="form").item() == form_line(model.form)


def test_directions_are_read_and_ablated(model, bits):
    harmful, harmless = (
        wb.load_prompts("harmful").sample(16),
        wb.load_prompts("harmless").sample(16),
    )
    acts = [wb.collect_activations(model, prompts) for prompts in (harmful, harmless)]
    directions = wb.mean_difference(*acts)
    plain = wb.load_model("pocket-two")
    own = [wb.collect_activations(plain, prompts) for prompts in (harmful, harmless)]
    at = {"layer": 5, "position": -1}
    found, truth = directions.at(**at), wb.mean_difference(*own).at(**at)
    assert float(found.unit().vector @ truth.unit().vector) > 0.9
    assert found.provenance["quantization"] == KINDS[bits]
    with wb.intervene(model, wb.Ablate(found)):
        acts = wb.collect_activations(model, harmful, layers=[6], positions=[-1], per_prompt=True)
        left = acts.at(6, -1) @ found.unit().vector
    assert float(left.abs().max()) < 1e-3
    assert all(model.generate(harmful.sample(2), max_new_tokens=4))


def test_a_packed_matrix_is_not_read(model, bits):
    direction = wb.Directions.from_vector([1.0] * model.d_model, layer=2)
    kind = {8: "int8", 4: "uint8"}[bits]
    with pytest.raises(ModelError, match=rf"W_O of layer 0 of .* is packed as {kind}\. Load the"):
        wb.heads.direct_attribution(model, direction, ["a", "b"])
    # The unembedding is not quantized.
    wb.meaning.logit_lens(model, direction)


def test_settings_that_cannot_be_honoured(bits):
    network, tokenizer = quantized(bits)
    for setting in ({"dtype": "bfloat16"}, {"device": "cpu"}):
        with pytest.raises(ModelError, match="device= and dtype= do nothing to weights quantized"):
            load_model(network, tokenizer=tokenizer, **setting)


def test_an_adapter_is_left_on_and_not_merged(bits):
    peft = pytest.importorskip("peft", reason="peft is not installed -> make test installs it")
    import warnings

    network, tokenizer = quantized(bits)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = peft.get_peft_model(network, config).eval()
    with pytest.raises(ModelError, match="cannot be merged into weights quantized by"):
        load_model(held, tokenizer=tokenizer)
    model = load_model(held, tokenizer=tokenizer, merge=False)
    assert model.form["base"]["quantization"] == KINDS[bits] and not model.form["merged"]


def test_a_checkpoint_that_was_saved_in_few_bits_loads_by_its_folder(bits, tmp_path):
    network, tokenizer = quantized(bits)
    network.save_pretrained(tmp_path / "few")
    tokenizer.save_pretrained(tmp_path / "few")
    model = load_model(tmp_path / "few", device="cpu")
    assert model.form == {"form": "quantized", "quantization": KINDS[bits]}
    ids = model.tokens(["How far is the sea?"]).ids
    with torch.no_grad():
        truth = network(input_ids=ids).logits[:, -1].float()
    torch.testing.assert_close(model.logits(["How far is the sea?"]), truth, rtol=0.05, atol=0.05)
