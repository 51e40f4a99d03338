"""Sparse autoencoders: against SAELens and Hugging Face, on models whose sites are known."""

import importlib.util
import json

import pytest
import torch

import workbench as wb
from workbench.directions.sae.saelens import import_sae_lens
from workbench.errors import AxisError, ModelError, StudyError

PROMPTS = ["How far is the sea?", "hi", "Name a colour that nobody likes."]
WIDTH, N = 32, 48
ARCHITECTURES = ("standard", "topk", "topk rescaled", "jumprelu", "gated", "matching_pursuit")


@pytest.fixture(scope="module")
def sae_lens():
    return import_sae_lens()


@pytest.fixture
def saved(sae_lens, tmp_path):
    """Writes a random SAE with SAELens and gives its folder and SAELens' own object."""

    def save(architecture="standard", hook="blocks.1.hook_resid_pre", width=WIDTH, **settings):
        config = {"d_in": width, "d_sae": N, "apply_b_dec_to_input": True} | settings
        trained = config.pop("metadata", {})
        kind, *rescaled = architecture.split()
        config |= {"k": 6} if kind == "topk" else {}
        config |= {"max_iterations": 5} if kind == "matching_pursuit" else {}
        config |= {"rescale_acts_by_decoder_norm": True} if rescaled else {}
        sae_class, config_class = sae_lens.registry.get_sae_class(kind)
        metadata = sae_lens.saes.sae.SAEMetadata(hook_name=hook, model_name="tiny")
        sae = sae_class(config_class(**config, metadata=metadata))
        for name, value in trained.items():
            setattr(metadata, name, value)
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in sae.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
        sae.save_model(tmp_path / "sae")
        return tmp_path / "sae", sae

    return save


def read_by_hugging_face(specimen, site, layer):
    """One site at the last position, from the plain model."""
    tokens = specimen.model.tokens(PROMPTS)
    _, sites = specimen.read(tokens.ids, tokens.mask)
    return sites[site][layer][:, -1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalised", ["none", "layer_norm", "constant_norm_rescale"])
def test_features_are_those_of_saelens(zoo, saved, architecture, normalised):
    folder, theirs = saved(architecture, normalize_activations=normalised)
    sae = wb.meaning.load_sae(folder)
    assert (sae.site, sae.layer, sae.d_model, sae.n_features) == ("resid_pre", 1, WIDTH, N)
    found = sae.encode(zoo["llama"].model, PROMPTS, positions=[-1])
    with torch.no_grad():
        expected = theirs.encode(read_by_hugging_face(zoo["llama"], "resid_pre", 1))
    assert found.dims == ("prompt", "position", "feature")
    assert 0 < (expected > 0).float().mean() < 1, "all or none would prove little"
    torch.testing.assert_close(torch.tensor(found.values[:, 0]), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("hook", "site", "layer", "hf_layer"),
    [
        ("blocks.1.hook_resid_pre", "resid_pre", 1, 1),
        ("blocks.0.hook_resid_post", "resid_pre", 1, 1),
        ("model.layers.0", "resid_pre", 1, 1),
        ("model.layers.0.output", "resid_pre", 1, 1),
        ("blocks.2.hook_attn_out", "attn_out", 2, 2),
        ("blocks.2.hook_mlp_out", "mlp_out", 2, 2),
        ("blocks.1.attn.hook_z", "z", 1, 1),
        ("model.layers.1.self_attn.o_proj.input", "z", 1, 1),
    ],
)
def test_hooks_are_read_where_hugging_face_has_them(zoo, saved, hook, site, layer, hf_layer):
    reshape = "hook_z" if hook.endswith("hook_z") else "none"
    folder, theirs = saved(hook=hook, reshape_activations=reshape)
    sae = wb.meaning.load_sae(folder)
    assert (sae.site, sae.layer) == (site, layer)
    found = sae.encode(zoo["qwen2"].model, PROMPTS, positions=[-1])
    theirs.turn_off_forward_pass_hook_z_reshaping()
    with torch.no_grad():
        expected = theirs.encode(read_by_hugging_face(zoo["qwen2"], site, hf_layer))
    assert (expected > 0).any()
    torch.testing.assert_close(torch.tensor(found.values[:, 0]), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_direction_is_what_saelens_decodes_from_its_feature(saved, architecture):
    folder, theirs = saved(architecture)
    one = torch.zeros(2, N)
    one[1, 17] = 2.5
    with torch.no_grad():
        silent, fires = theirs.decode(one)
    found = wb.meaning.load_sae(folder).direction([4, 17], position=-3, scale=2.5)
    torch.testing.assert_close(found.at(name="feature 17").vector, fires - silent)
    assert (found.names, found.layers, found.positions) == (
        ("feature 4", "feature 17"),
        (1,),
        (-3,),
    )
    assert (found.site, found.provenance["features"]) == ("resid_pre", [4, 17])


@pytest.mark.parametrize("normalised", ["layer_norm", "constant_norm_rescale"])
def test_a_length_that_differs_by_prompt_is_refused(zoo, saved, normalised):
    folder, theirs = saved(normalize_activations=normalised)
    sae = wb.meaning.load_sae(folder)
    one = torch.zeros(len(PROMPTS), N)
    one[:, 17] = 2.5
    with torch.no_grad():
        written = []
        for features in (0 * one, one):
            # Their decoding undoes the normalisation of what was encoded before.
            theirs.encode(read_by_hugging_face(zoo["llama"], "resid_pre", 1))
            written.append(theirs.decode(features))
        writes = written[1] - written[0]
    row = sae.direction(17).unit().vector
    torch.testing.assert_close(torch.cosine_similarity(writes, row, dim=-1), torch.ones(3))
    assert writes.norm(dim=-1).std() > 1e-3, "of one length, a scale would be right"
    with pytest.raises(StudyError, match=rf"normalises each activation \({normalised}\).*scale=1"):
        sae.direction(17, scale=2.5)


def test_the_fingerprint_is_of_all_weights(saved):
    folder, theirs = saved()
    first = wb.meaning.load_sae(folder)
    assert wb.meaning.load_sae(folder).fingerprint == first.fingerprint
    with torch.no_grad():
        theirs.b_enc[3] += 1e-3
    theirs.save_model(folder)
    second = wb.meaning.load_sae(folder)
    torch.testing.assert_close(second.decoder, first.decoder)
    assert second.fingerprint != first.fingerprint


def test_a_feature_compares_with_a_direction_of_the_model(zoo, saved):
    sae = wb.meaning.load_sae(saved()[0])
    acts = wb.collect_activations(zoo["llama"].model, PROMPTS, layers=[1], positions=[-1])
    own = wb.Directions(acts.values.float(), ("mean",), (1,), (-1,), provenance=acts.provenance)
    found = wb.geometry.cosine_similarity_map(own, sae.direction(17))
    expected = torch.cosine_similarity(own.vector, sae.decoder[17], dim=0)
    assert found["cosine"].item() == pytest.approx(float(expected), abs=1e-5)
    assert sae.direction(17).provenance["sae_weights"] == sae.fingerprint


def test_a_direction_can_be_saved_ablated_and_added(zoo, saved, tmp_path):
    model, sae = zoo["llama"].model, wb.meaning.load_sae(saved()[0])
    direction = sae.direction(3)
    kept = wb.Directions.load(direction.save(tmp_path / "direction.safetensors"))
    torch.testing.assert_close(kept.vector, direction.vector)
    plain = wb.collect_activations(model, PROMPTS, per_prompt=True, positions=[-1], layers=[1])
    with wb.intervene(model, wb.Add(kept, coefficient=2.0)):
        added = wb.collect_activations(model, PROMPTS, per_prompt=True, positions=[-1], layers=[1])
    torch.testing.assert_close(
        added.values - plain.values, (2 * kept.vector).expand_as(plain.values), rtol=1e-4, atol=1e-4
    )
    with wb.intervene(model, wb.Ablate(kept)):
        left = wb.collect_activations(model, PROMPTS, per_prompt=True, positions=[-1], layers=[1])
    assert (left.at(1, -1) @ kept.unit().vector).abs().max() < 1e-4


def test_a_stream_that_training_centred_is_centred(zoo, saved):
    folder, theirs = saved(
        metadata={"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    )
    found = wb.meaning.load_sae(folder).encode(zoo["gpt2"].model, PROMPTS, positions=[-1])
    rows = read_by_hugging_face(zoo["gpt2"], "resid_pre", 1)
    with torch.no_grad():
        expected = theirs.encode(rows - rows.mean(-1, keepdim=True))
        uncentred = theirs.encode(rows)
    torch.testing.assert_close(torch.tensor(found.values[:, 0]), expected, rtol=1e-3, atol=1e-3)
    assert (expected - uncentred).abs().max() > 0.01


def test_a_scale_of_the_activations_is_folded_in_or_missed(zoo, saved):
    folder, theirs = saved(normalize_activations="expected_average_only_in")
    with pytest.raises(wb.ArtifactError, match="does not say by how much: expected a scaling_fac"):
        wb.meaning.load_sae(folder)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.25}))
    sae = wb.meaning.load_sae(folder)
    found = sae.encode(zoo["llama"].model, PROMPTS, positions=[-1])
    rows = read_by_hugging_face(zoo["llama"], "resid_pre", 1)
    with torch.no_grad():
        expected = theirs.encode(0.25 * rows)
    torch.testing.assert_close(torch.tensor(found.values[:, 0]), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sae.direction(5).vector, theirs.W_dec.detach()[5] / 0.25)


def test_encodings_carry_prompts_and_do_not_depend_on_the_batch(zoo, saved):
    sae, model = wb.meaning.load_sae(saved("topk")[0]), zoo["llama"].model
    prompts = wb.load_prompts("harmful").sample(3)
    together = sae.encode(model, prompts)
    assert together["text"].values.tolist() == list(prompts.texts)
    alone = sae.encode(model, prompts.texts[1])
    assert together["label"].values.tolist() == list(prompts.labels)
    assert together["prompt"].values.tolist() == list(prompts.ids)
    assert together.attrs["sae_weights"] == sae.fingerprint
    torch.testing.assert_close(
        torch.tensor(together.values[1]), torch.tensor(alone.values[0]), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("blocks.1.ln2.hook_normalized", "which is no site of the workbench: it reads hook_resid"),
        ("blocks.1.hook_mlp_outer", "trained at blocks.1.hook_mlp_outer"),
        (None, "trained at a hook that it does not name"),
    ],
)
def test_other_hooks_are_refused(saved, hook, message):
    with pytest.raises(AxisError, match=message):
        wb.meaning.load_sae(saved(hook=hook)[0])


def test_what_cannot_be_encoded_is_refused(zoo, saved, sae_lens):
    model = zoo["llama"].model
    with pytest.raises(AxisError, match=r"does not fit .*: expected width 24 at resid_pre, found"):
        wb.meaning.load_sae(saved(width=24)[0]).encode(model, PROMPTS)
    with pytest.raises(AxisError, match=r"reads after the last block of .*: layers 0\.\.2"):
        wb.meaning.load_sae(saved(hook="blocks.2.hook_resid_post")[0]).encode(model, PROMPTS)
    with pytest.raises(AxisError, match=r"reads head 3 of blocks\.1\.attn\.hook_z alone"):
        wb.meaning.load_sae(saved(hook="blocks.1.attn.hook_z", metadata={"hook_head_index": 3})[0])
    folded = {"model_from_pretrained_kwargs": {"fold_value_biases": True}}
    with pytest.raises(wb.ArtifactError, match="its value biases folded away"):
        wb.meaning.load_sae(saved(hook="blocks.1.attn.hook_z", metadata=folded)[0])
    with pytest.raises(wb.ArtifactError, match="is a transcoder of SAELens"):
        wb.meaning.load_sae(saved("transcoder", d_out=WIDTH, apply_b_dec_to_input=False)[0])
    sae = wb.meaning.load_sae(saved()[0])
    means = wb.collect_activations(model, PROMPTS, layers=[1])
    with pytest.raises(StudyError, match="an SAE encodes single prompts"):
        sae.encode_activations(means)
    other = wb.collect_activations(model, PROMPTS, layers=[0, 2], per_prompt=True)
    with pytest.raises(AxisError, match=r"layer 1 of .* was not collected: layers \[0, 2\]"):
        sae.encode_activations(other)
    elsewhere = wb.collect_activations(model, PROMPTS, site="mlp_out", per_prompt=True)
    with pytest.raises(AxisError, match="activations of width 32 at mlp_out do not go into"):
        sae.encode_activations(elsewhere)
    with pytest.raises(AxisError, match=r"no feature 48 in .*: features 0\.\.47"):
        sae.direction([1, 48])
    with pytest.raises(AxisError, match="a name appears twice"):
        sae.direction([1, 1])


def test_files_that_are_no_sae_are_refused(saved, tmp_path):
    with pytest.raises(wb.ArtifactError, match=r"no folder nowhere\. Pass a folder that SAELens"):
        wb.meaning.load_sae("nowhere")
    with pytest.raises(wb.ArtifactError, match=r"does not hold an SAE .* Expected cfg\.json and"):
        wb.meaning.load_sae(tmp_path)
    folder, _ = saved()
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | {"architecture": "nonsense"}))
    with pytest.raises(wb.ArtifactError, match="no SAE of architecture or entry 'nonsense'"):
        wb.meaning.load_sae(folder)
    (folder / "cfg.json").write_text(json.dumps(config))
    (folder / "sae_weights.safetensors").write_bytes(b"broken")
    with pytest.raises(wb.ArtifactError, match="does not hold an SAE that SAELens can read"):
        wb.meaning.load_sae(folder.parent, "sae")


@pytest.fixture
def small_directory(monkeypatch, sae_lens):
    """A list of releases with one entry; reading SAELens' own takes long."""
    directory, loaders = (
        sae_lens.loading.pretrained_saes_directory,
        sae_lens.loading.pretrained_sae_loaders,
    )
    entry = directory.PretrainedSAELookup(
        "a-release", "nobody/a-repository", "gpt2", None, {"an-id": "folder"}, {}, {}, {}, {}, None
    )
    for place in (directory, loaders, sae_lens.saes.sae):
        monkeypatch.setattr(place, "get_pretrained_saes_directory", lambda: {"a-release": entry})


def test_releases_that_are_unknown_or_out_of_reach(monkeypatch, sae_lens, small_directory):
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with pytest.raises(wb.ArtifactError, match="Release nonsense not found in pretrained SAEs"):
        wb.meaning.load_sae("nonsense", "an-id")
    with pytest.raises(wb.ArtifactError, match=r"ID other not found in release a-release\. Valid"):
        wb.meaning.load_sae("a-release", "other")
    loaders = sae_lens.loading.pretrained_sae_loaders
    for error, message in (
        (LocalEntryNotFoundError("offline"), "a-release, an-id is not on this machine and the Hub"),
        (EntryNotFoundError("404"), "the Hub has no SAE a-release, an-id"),
        (RuntimeError("first\nsecond"), "cannot load the SAE a-release, an-id: first\\.$"),
    ):

        def fail(error=error, **asked):
            raise error

        monkeypatch.setattr(loaders, "hf_hub_download", fail)
        with pytest.raises(wb.ArtifactError, match=message):
            wb.meaning.load_sae("a-release", "an-id")


def test_a_release_is_read_through_saelens(monkeypatch, saved, sae_lens, small_directory):
    from huggingface_hub.errors import EntryNotFoundError

    folder, _ = saved("topk")
    asked = []

    def download(repo_id, filename, **settings):
        asked.append(repo_id)
        path = folder / filename.removeprefix("folder/")
        if not path.is_file():
            raise EntryNotFoundError(filename)
        return str(path)

    monkeypatch.setattr(sae_lens.loading.pretrained_sae_loaders, "hf_hub_download", download)
    sae = wb.meaning.load_sae("a-release", "an-id")
    assert sae.name == "a-release, an-id"
    assert set(asked) == {"nobody/a-repository"}
    torch.testing.assert_close(sae.decoder, wb.meaning.load_sae(folder).decoder)


def test_the_extra_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"Run: pip install 'refusal-workbench\[sae\]'"):
        wb.meaning.load_sae(tmp_path)


def test_stand_ins_go_away_and_refuse_to_work(sae_lens):
    import sys

    import transformer_lens

    assert "transformer_lens.HookedTransformer" not in sys.modules
    assert "HookedTransformer" not in vars(transformer_lens)
    with pytest.raises(ModelError, match="HookedTransformer left TransformerLens in version 4"):
        sae_lens.load_model.HookedTransformer()
