"""Heads are those that the output projection reads, also where values are wider than keys."""

import copy

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.errors import ModelError
from workbench.models.head_layout import by_head, projected_width

TEXTS = ["How far is the sea?", "hi", "Name a colour."]
SOURCE = ["ok", "What a day", "Is the tea cold by now?"]
REFUSAL = (17, 40)


@pytest.fixture(scope="module")
def latent(make_tokenizer):
    """Multi-head latent attention: values of 8 numbers a head, where the bridge speaks of 4."""
    import transformers as hf

    config = hf.DeepseekV3Config(
        vocab_size=264, hidden_size=32, intermediate_size=48, moe_intermediate_size=16,
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, n_routed_experts=4,
        num_experts_per_tok=2, n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=None,
        kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8,
        max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=3,
    )  # fmt: skip
    torch.manual_seed(0)
    network = hf.DeepseekV3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    plain = copy.deepcopy(network)
    plain.set_attn_implementation("eager")
    return wb.load_model(network, tokenizer=make_tokenizer()), plain


def replaced(plain, tokens, layer, head, value):
    """Logits of the plain model where one head's slice of what o_proj reads is replaced."""

    def before(module, args):
        z = args[0].clone()
        z[:, -1, 8 * head : 8 * (head + 1)] = value
        return (z, *args[1:])

    projection = plain.model.layers[layer].self_attn.o_proj
    handle = projection.register_forward_pre_hook(before)
    try:
        with torch.no_grad():
            return plain(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                position_ids=tokens.position_ids,
            ).logits[:, -1]
    finally:
        handle.remove()


@pytest.mark.parametrize("method", ["packed", "plain"])
def test_a_latent_models_heads_are_patched_whole(latent, method):
    model, plain = latent
    assert model.bridge.cfg.d_head == 4 and model.d_head == 8
    source = wb.collect_activations(model, SOURCE, site="z", positions=[-1]).mean()
    tokens = model.tokens(TEXTS)
    found = wb.heads.patch_heads(model, SOURCE, TEXTS, refusal_tokens=REFUSAL, method=method)
    before = wb.refusal_score(model.logits(TEXTS), REFUSAL)
    for layer in range(3):
        for head in range(4):
            value = source[layer, 0].float().unflatten(0, (4, 8))[head]
            after = wb.refusal_score(replaced(plain, tokens, layer, head, value), REFUSAL)
            own = found["effect_by_prompt"].sel(layer=layer, head=head, position=-1).values
            assert own == pytest.approx((after - before).numpy(), abs=1e-4)
    assert abs(found["effect"]).max() > 1e-2


def test_a_latent_models_interventions_and_gradients_have_whole_heads(latent):
    model, plain = latent
    tokens = model.tokens(TEXTS)
    value = torch.linspace(-1, 1, 8)
    with wb.intervene(model, wb.heads.PatchHeads(((1, 2),), value.view(1, 1, 8))):
        found = model.forward(tokens)
    expected = replaced(plain, tokens, 1, 2, value).float()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (found - model.forward(tokens)).abs().max() > 1e-2
    exact = wb.heads.patch_heads(model, SOURCE, TEXTS, refusal_tokens=REFUSAL)
    screen = wb.heads.attribution_patching(
        model, SOURCE, TEXTS, refusal_tokens=REFUSAL, exact=exact
    )
    # Attention of the last layer is followed by one expert layer: nearly linear.
    assert screen["rank_correlation"].item() > 0.7


@pytest.mark.parametrize("shape", [(2, 5, 12), (2, 5, 6, 2), (2, 5, 2, 6)])
def test_other_shapes_are_split_and_given_back_as_they_were(shape):
    z = torch.arange(120.0).view(shape)
    seen = []

    def zero_the_second(heads):
        seen.append(tuple(heads.shape))
        heads = heads.clone()
        heads[:, :, 1] = 0
        return heads

    changed = by_head(zero_the_second, 4, 12, "z")(z)
    assert seen == [(2, 5, 4, 3)] and changed.shape == shape
    expected = z.flatten(2).clone()
    expected[..., 3:6] = 0
    assert torch.equal(changed.flatten(2), expected)
    assert by_head(lambda heads: None, 4, 12, "z")(z) is None


@pytest.mark.parametrize(
    ("shape", "width"), [((2, 5, 4, 3), 16), ((2, 5, 3, 4), None), ((2, 5, 10), 10)]
)
def test_what_does_not_split_is_refused(shape, width):
    said = rf"z of toy is of shape \[{', '.join(map(str, shape))}\].* split into 4 heads.*attn_out"
    with pytest.raises(ModelError, match=said):
        by_head(lambda z: z, 4, width, "z of toy")(torch.zeros(shape))


def test_the_width_is_asked_of_the_projection(specimen):
    attention = specimen.model.bridge.blocks[0].attn
    assert projected_width(attention) == specimen.model.n_heads * specimen.model.d_head
    assert projected_width(nn.Linear(2, 2)) is None
