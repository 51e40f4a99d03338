"""Every architecture that is wrapped exactly: logits and what its blocks add, without names.

`test_sites` reads each site by the plain model's own modules, which it must know by name. Here the
plain model's streams are enough: the input of each block, and what the next input has more.
"""

import copy

import pytest
import torch
from architectures import EXPERTS, MORE_DENSE, random_network

import workbench as wb

PROMPTS = ["How far is the sea?", "hi", "Name a colour that nobody likes."]


def close(found, expected, tolerance):
    scale = expected.abs().mean().item()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * max(1, scale))


@pytest.mark.parametrize("name", [*MORE_DENSE, *EXPERTS])
def test_logits_streams_and_sums_equal_hugging_face(name, make_tokenizer):
    network = random_network(name)
    plain = copy.deepcopy(network)
    plain.set_attn_implementation("eager")
    model = wb.load_model(network, tokenizer=make_tokenizer())
    tokens = model.tokens(PROMPTS)
    assert not tokens.mask.all()
    found = {}
    sites = ("resid_pre", "attn_out", "mlp_out", "z")
    places = [(site, layer) for layer in range(model.n_layers) for site in sites]
    with model.hooks([(*p, lambda x, p=p: found.__setitem__(p, x.clone())) for p in places]):
        logits = model.forward(tokens)
    expected = plain(
        input_ids=tokens.ids,
        attention_mask=tokens.mask.long(),
        position_ids=tokens.position_ids,
        output_hidden_states=True,
        use_cache=False,
    )
    assert expected.logits[:, -1].std() > 0.1, "a flat distribution would prove nothing"
    close(logits, expected.logits[:, -1].float(), 5e-5)
    streams = expected.hidden_states[: model.n_layers]  # the last is after the final norm
    for layer, stream in enumerate(streams):
        close(found["resid_pre", layer][tokens.mask], stream[tokens.mask], 5e-5)
    for layer, stream in enumerate(streams[1:]):
        total = sum(found[site, layer] for site in ("resid_pre", "attn_out", "mlp_out"))
        close(total[tokens.mask], stream[tokens.mask], 5e-5)
    for layer in range(model.n_layers):
        assert found["z", layer].shape[:3] == (*tokens.ids.shape, model.n_heads)
    alone = torch.cat([model.logits(prompt) for prompt in PROMPTS])
    close(logits, alone, 1e-4)
