"""GGUF files as models: what was written comes out, and what cannot be true is refused."""

import hashlib
import json
import shutil
import struct
import sys

import pytest
import torch
from typer.testing import CliRunner

import workbench as wb
from workbench.cli.app import app
from workbench.errors import ArtifactError, ModelError
from workbench.intake.gguf import check_gguf_model
from workbench.intake.limits import allowing
from workbench.models.form import form_line
from workbench.models.loading.load import load_model

gguf = pytest.importorskip("gguf", reason="gguf is not installed -> make test installs it")

from ggufs import write_gguf  # noqa: E402


@pytest.fixture(scope="module")
def own_tokenizer(make_tokenizer):
    """Of bytes, and one merge of two, without which there is no file of llama.cpp."""
    return make_tokenizer(merges=[("t", "h")])


@pytest.fixture(scope="module")
def written(tmp_path_factory, make_network, own_tokenizer):
    """Writes a file of a random Llama, once for each of its settings."""
    folder, made = tmp_path_factory.mktemp("ggufs"), {}

    def write(**settings):
        key = json.dumps(settings, sort_keys=True)
        if key not in made:
            path = folder / f"tiny-{len(made)}.gguf"
            made[key] = write_gguf(path, make_network("llama"), own_tokenizer, **settings)
        return made[key]

    return write


def gap(model, network):
    """The largest difference of logits from those of a network, relative to their spread."""
    tokens = model.tokens(["How far is the sea from here?"])
    with torch.no_grad():
        truth = network(input_ids=tokens.ids).logits[:, -1]
    return float((model.logits(tokens) - truth).abs().max() / truth.std())


def test_a_file_of_numbers_gives_the_logits_of_the_network_that_it_was_written_from(
    written, make_network
):
    model = load_model(written())
    assert (model.n_layers, model.n_heads, model.d_model) == (3, 4, 32)
    assert model.dtype == torch.float32 and model.name == str(written())
    assert gap(model, make_network("llama").eval()) < 1e-5
    assert model.form["dequantized_from"] == []
    assert form_line(model.form) == "a GGUF file"


def test_a_quantized_file_is_dequantized_and_says_from_what(written, make_network):
    from gguf.quants import dequantize, quantize

    path, network = written(kind="Q8_0"), make_network("llama").eval()
    model = load_model(path)
    assert 1e-4 < gap(model, network) < 0.2
    rounded = gguf.GGMLQuantizationType.Q8_0
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 2 and weight.shape[1] % 32 == 0:
                values = dequantize(quantize(weight.numpy(), rounded), rounded)
                weight.copy_(torch.from_numpy(values))
    # Rows of q and k are in another order in the file, and blocks lie within rows.
    assert gap(model, network) < 1e-5
    provenance = model.provenance
    assert provenance["form"] == "gguf" and provenance["dequantized_from"] == ["Q8_0"]
    assert provenance["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    json.dumps(provenance)
    assert not hasattr(model.network.config, "quantization_config")


def test_tokenizer_and_template_are_those_in_the_file(
    written, make_tokenizer, own_tokenizer, tmp_path
):
    path = tmp_path / "own.gguf"
    shutil.copy(written(), path)
    # What lies beside it is not its own.
    make_tokenizer("Q: {{ messages[-1]['content'] }}").save_pretrained(tmp_path)
    model, own = load_model(path), own_tokenizer
    assert model.template.render("hi") == "<|im_start|>u:hi<|im_end|><|im_start|>a:"
    assert model.tokens(["the"]).ids.tolist() == [own(model.template.render("the"))["input_ids"]]
    assert load_model(path, tokenizer=own).tokenizer is own


def test_directions_remember_the_file_and_verification_says_the_form(written, tmp_path):
    model = load_model(written(kind="Q8_0"))
    acts = [wb.collect_activations(model, texts, layers=[1]) for texts in (["a", "b"], ["c", "d"])]
    path = wb.mean_difference(*acts).save(tmp_path / "d.safetensors")
    stored = wb.Directions.load(path).provenance
    assert stored["form"] == "gguf" and stored["dequantized_from"] == ["Q8_0"]
    assert stored["file_sha256"] == model.provenance["file_sha256"]
    found = wb.verify_model(model)
    assert found.attrs["verdict"] == "exact"
    note = found["note"].sel(check="form").item()
    assert note == "a GGUF file, weights dequantized from Q8_0"


def test_a_model_of_a_file_that_is_wrapped_again_keeps_its_form(written):
    model = load_model(written(kind="Q8_0"))
    assert load_model(model.network, tokenizer=model.tokenizer).form == model.form


def test_what_transformers_read_says_that_nobody_looked_into_the_file(written):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = written(kind="Q8_0")
    own = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    network = AutoModelForCausalLM.from_pretrained(**own)
    model = load_model(network, tokenizer=AutoTokenizer.from_pretrained(**own))
    assert model.form == {"form": "gguf"} and "nobody looked into" in form_line(model.form)


def test_the_command_verifies_a_file(written):
    done = CliRunner().invoke(app, ["verify", str(written(kind="Q8_0"))])
    assert done.exit_code == 0, done.output
    assert "dequantized from Q8_0" in " ".join(done.output.split())


def test_without_the_package_the_line_that_installs_it(written, monkeypatch):
    for name in ("gguf", "gguf.constants"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"needs .* gguf: pip install 'refusal-workbench\[gguf\]'"):
        load_model(written())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "is broken or not a GGUF file"),
        (lambda content: b"<html>", "it does not begin as one"),
        (lambda content: content[:1000], "it ends after 1,000 bytes, within its header"),
        (lambda content: content[:-1000], "ends at byte .*, and the file has"),
        (lambda content: content[:16] + struct.pack("<Q", 2**40) + content[24:], "it claims"),
    ],
)
def test_a_damaged_file_is_one_line(written, tmp_path, damage, message):
    path = tmp_path / "broken.gguf"
    path.write_bytes(damage(written().read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"left_out": "blk.1.ffn_up.weight"}, r"lacks 1 weight.*model\.layers\.1\.mlp\.up_proj"),
        ({"vocab_size": 2**31}, "claims a network of .* numbers and holds"),
        ({"feed_forward_length": 2**30}, "claims a network of .* numbers and holds"),
        ({"block_count": 2**31}, "it claims 2,147,483,648 blocks of 30 tensors"),
        ({"head_count": 0}, "cannot load .*tiny"),
    ],
)
def test_a_header_that_claims_what_is_not_there(written, settings, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(written(**settings))
    assert "\n" not in str(caught.value)


def named(path, architecture="llama", **fields):
    """A file without tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in fields.items():
        writer.add_uint16(name.replace("_", "."), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_files_that_are_something_else(tmp_path):
    for own, message in (
        (named(tmp_path / "v.gguf", "controlvector"), "no GGUF of architecture 'controlvector'"),
        (named(tmp_path / "p.gguf", split_count=3), "one of 3 parts of a model. Join them first"),
        (tmp_path / "absent.gguf", r"no file .*absent\.gguf\. Check the path; .*hf download"),
    ):
        with pytest.raises(ModelError, match=message):
            load_model(own)
    with pytest.raises(ModelError, match=r"has no config\.json.* Pass one of its files, such as "):
        load_model(tmp_path)
    with pytest.raises(ArtifactError, match="a language model holds no directions"):
        wb.load_published(named(tmp_path / "m.gguf"))


def test_tensors_that_share_their_bytes(written, tmp_path):
    content = bytearray(written().read_bytes())
    reader = gguf.GGUFReader(written())
    for tensor in reader.tensors:
        at = tensor.field.parts[-1]  # the offset, as an array that lies on the file
        start = at.__array_interface__["data"][0] - reader.data.__array_interface__["data"][0]
        content[start : start + 8] = bytes(8)
    path = tmp_path / "shared.gguf"
    # Enough for the largest of them.
    path.write_bytes(content[: reader.data_offset + max(own.n_bytes for own in reader.tensors)])
    with pytest.raises(ModelError, match=r"tensors of .* bytes share"):
        load_model(path)


def test_the_memory_of_a_header_is_bounded(written):
    assert check_gguf_model(written()).types == {"F32": 30}
    with allowing(max_bytes=100_000), pytest.raises(ModelError, match="once its header is read"):
        check_gguf_model(written())


def test_settings_that_do_nothing_to_a_file(written):
    with pytest.raises(ModelError, match=r"revision must be .* of a Hub id"):
        load_model(written(), revision="main")
    with pytest.raises(ModelError, match="merge=False does nothing"):
        load_model(written(), merge=False)
