"""PatchHeads: what it writes, where, and what it refuses."""

import pytest
import torch

import workbench as wb
from workbench.errors import ArtifactError, AxisError, ModelError
from workbench.models.generate import stop_ids


def head_values(model, n_heads, n_positions):
    draw = torch.Generator().manual_seed(5)
    return torch.randn(n_heads, n_positions, model.d_head, generator=draw)


def test_patched_heads_are_replaced_and_nothing_else(specimen):
    model = specimen.model
    heads, positions = ((1, 0), (1, 3), (2, 2)), (-1, -4)
    values = head_values(model, 3, 2)
    texts = ["How far is the sea?", "hi"]
    tokens = model.tokens(texts)
    read = {}
    hooks = [("z", layer, lambda z, layer=layer: read.__setitem__(layer, z)) for layer in (1, 2)]
    with model.hooks(hooks):
        plain = model.forward(tokens)
    before = read[1]
    with wb.intervene(model, wb.heads.PatchHeads(heads, values, positions)), model.hooks(hooks):
        changed = model.forward(tokens)
    for row, (layer, head) in enumerate(heads):
        for index, position in enumerate(positions):
            assert torch.equal(read[layer][:, position, head], values[row, index].expand(2, -1))
    same = torch.ones_like(before, dtype=torch.bool)
    for position in positions:
        same[:, position, [0, 3]] = False
    assert torch.equal(read[1][same], before[same])
    assert (changed - plain).abs().max() > 1e-2
    assert torch.equal(model.forward(tokens), plain)


def test_a_patch_leaves_the_reply_alone(pocket):
    patch = wb.heads.PatchHeads(((3, 2), (4, 5)), head_values(pocket, 2, 1) * 3)
    text = "How do I bake bread?"
    tokens = pocket.tokens([text])
    with wb.intervene(pocket, patch):
        reply = pocket.generate(tokens, max_new_tokens=8)
        ids = tokens.ids
        for _ in range(8):
            # Without a cache every step reads prompt and reply, and -1 is still the prompt's end.
            with pocket.reading(tokens):
                output = pocket.network(input_ids=ids, use_cache=False)
            ids = torch.cat([ids, output.logits[:, -1:].argmax(-1)], 1)
            if ids[0, -1] in stop_ids(pocket):
                break
    new = ids[0, tokens.ids.shape[1] :]
    assert pocket.tokenizer.decode(new, skip_special_tokens=True).strip() == reply[0]


def test_a_patch_is_an_artifact(tmp_path):
    patch = wb.heads.PatchHeads(((3, 2),), torch.ones(1, 2, 4), (-2, -1), {"model": "m"})
    found = wb.heads.PatchHeads.load(patch.save(tmp_path / "patch.safetensors"))
    assert torch.equal(found.values, patch.values)
    assert (found.heads, found.positions, found.provenance) == (
        patch.heads,
        patch.positions,
        patch.provenance,
    )
    with pytest.raises(ArtifactError, match="is of kind 'patch_heads', not 'directions'"):
        wb.Directions.load(tmp_path / "patch.safetensors")


def test_what_is_no_patch(zoo):
    model = zoo["llama"].model
    one = torch.ones(1, 1, model.d_head)
    for arguments, message in (
        ((((0, 0), (0, 1)), one), r"do not fit 2 heads and 1 positions: expected \(2, 1\)"),
        ((((0, 0),), one, (-1, -2)), "do not fit 1 heads and 2 positions"),
        ((((0, 0), (0, 0)), one.expand(2, -1, -1)), "a head appears twice"),
        ((((0, 0),), one, (0,)), "count from the end and are negative"),
        (((), torch.ones(0, 1, 4)), "do not fit 0 heads"),
    ):
        with pytest.raises(AxisError, match=message):
            wb.heads.PatchHeads(*arguments)
    for patch, message in (
        (wb.heads.PatchHeads(((9, 0),), one), "no layer 9"),
        (wb.heads.PatchHeads(((0, 4),), one), r"no head 4 .* heads 0\.\.3"),
        (wb.heads.PatchHeads(((0, 0),), torch.ones(1, 1, 3)), "width 3 do not fit"),
    ):
        with pytest.raises(AxisError, match=message), wb.intervene(model, patch):
            pass
    with (
        pytest.raises(ModelError, match="a patch at chosen positions needs to know which token"),
        wb.intervene(model, wb.heads.PatchHeads(((0, 0),), one)),
    ):
        model.network(input_ids=model.tokens(["hi"]).ids)


def test_a_position_before_a_prompt_is_refused_and_no_padding_patched(pocket):
    short, long = "hi", "How do I bake bread that keeps for a week?"
    shortest = int(pocket.tokens([short]).lengths.min())
    patch = wb.heads.PatchHeads(((3, 2),), head_values(pocket, 1, 1), (-shortest - 1,))
    for texts in ([short], [short, long]):
        with (
            wb.intervene(pocket, patch),
            pytest.raises(AxisError, match=rf"position {-shortest - 1} of a prompt of {shortest}"),
        ):
            pocket.forward(pocket.tokens(texts))
    with wb.intervene(pocket, patch):
        pocket.forward(pocket.tokens([long]))
