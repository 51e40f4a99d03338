"""Logits and every exposed site against plain Hugging Face."""

import pytest
import torch

# Beside the ten that every test goes through: experts, scaled residuals, post-norms of another
# name, parallel blocks, ALiBi, latent attention, layers without attention.
MORE = (
    "mixtral",
    "qwen3_moe",
    "olmoe",
    "deepseek_v3",
    "gpt_oss",
    "granite",
    "glm4",
    "cohere2",
    "bloom",
    "lfm2",
    "qwen3_next",
)
PROMPTS = ["How far is the sea?", "hi", "Name a colour that nobody likes.", "42 plus 7"]


def read_every_site(specimen, tokens):
    """Logits at the last position, and the sites of every layer by (site, layer)."""
    model, found = specimen.model, {}
    places = [(site, layer) for layer in range(model.n_layers) for site in specimen.sites(layer)]
    hooks = [
        (*place, lambda x, place=place: found.__setitem__(place, x.flatten(2).clone()))
        for place in places
    ]
    with model.hooks(hooks):
        logits = model.forward(tokens)
    assert found.keys() == set(places)
    return logits, found


def check_against_plain(specimen, prompts, tolerance=5e-5):
    tokens = specimen.model.tokens(prompts)
    logits, found = read_every_site(specimen, tokens)
    expected, sites = specimen.read(tokens.ids, tokens.mask)
    scale = expected[:, -1].std().item()
    assert scale > 0.1, "a flat distribution would prove nothing"
    assert_close(logits, expected[:, -1], tolerance)
    for (site, layer), activation in found.items():
        # What stands at padding is nobody's business.
        assert_close(activation[tokens.mask], sites[site][layer][tokens.mask], tolerance)


def check_sums(specimen, prompts):
    """What a block adds is what its sites say that it adds."""
    tokens = specimen.model.tokens(prompts)
    _, found = read_every_site(specimen, tokens)
    for layer in range(specimen.model.n_layers - 1):
        if "attn_out" in specimen.sites(layer):
            total = sum(found[site, layer] for site in ("resid_pre", "attn_out", "mlp_out"))
            assert_close(total[tokens.mask], found["resid_pre", layer + 1][tokens.mask], 1e-6)


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    scale = expected.abs().mean().item()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * max(1, scale))


def test_sites_and_logits_equal_hugging_face_on_a_left_padded_batch(specimen):
    assert not specimen.model.tokens(PROMPTS).mask.all()
    check_against_plain(specimen, PROMPTS)


@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_sites_and_logits_equal_hugging_face_on_one_prompt(specimen, prompt):
    check_against_plain(specimen, [prompt])


def test_sites_and_logits_equal_hugging_face_on_trained_checkpoints(trained):
    check_against_plain(trained, ["how are you?", "hi"])
    check_against_plain(trained, ["tell me a story"])


def test_block_outputs_add_up_to_the_next_input(specimen):
    check_sums(specimen, PROMPTS)


@pytest.mark.parametrize("name", MORE)
def test_sites_sums_and_logits_of_more_kinds_equal_hugging_face(zoo, name):
    check_against_plain(zoo[name], PROMPTS)
    check_against_plain(zoo[name], PROMPTS[:1])
    check_sums(zoo[name], PROMPTS)


def test_the_sliding_window_is_shorter_than_the_prompts(zoo):
    lengths = zoo["gemma3"].model.tokens(PROMPTS).lengths
    for name in ("mistral", "gemma2", "gemma3"):
        assert zoo[name].plain.config.sliding_window < lengths.min()


def test_logits_come_back_in_the_order_of_the_prompts(specimen):
    model = specimen.model
    alone = torch.cat([model.logits(prompt) for prompt in PROMPTS])
    torch.testing.assert_close(model.logits(PROMPTS), alone, rtol=1e-4, atol=1e-4)
    assert model.logits(PROMPTS).dtype == torch.float32


def test_sizes_are_the_configs(specimen):
    model, config = specimen.model, specimen.plain.config
    assert model.n_layers == config.num_hidden_layers
    assert model.n_heads == config.num_attention_heads
    assert model.d_model == config.hidden_size
    assert model.d_head == specimen.part(0, "z").weight.numel() // model.d_model // model.n_heads
