"""A model whose two refusal mechanisms were written by hand, so every answer is known."""

from dataclasses import dataclass
from typing import Any

import pytest

EARLY, LATE = ("kites", "xylophones"), ("quilts", "zithers")
"""Categories refused through the early and through the late component."""
LETTERS = {"kites": "k", "xylophones": "x", "quilts": "q", "zithers": "z", "harmless": "m"}


@dataclass(frozen=True)
class TwoComponents:
    """A Llama of 8 layers that refuses four categories of letters through two directions.

    Layer 0 writes which letter it was, which nothing reads. Layer 1 writes ``early`` where k or x
    stands in the request; layer 4 reads it and writes the token S. Layer 6 writes ``late`` where q
    or z stands, which is mostly the token N itself. Everything else is answered with Y. Attention
    is uniform and the MLPs are zero.
    """

    model: Any
    early: Any
    late: Any
    harmful: Any
    harmless: Any
    refusal_tokens: tuple[int, ...]


def _network(vocab):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 8}
    config = LlamaConfig(
        **size,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
    )
    network = LlamaForCausalLM(config).eval()
    features = dict(zip(["k", "x", "q", "z"], (1, 2, 3, 4), strict=True))
    early, s, n, spare = 5, 6, 7, 8
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        embed, unembed = network.model.embed_tokens.weight, network.lm_head.weight
        embed[:, 0] = 1.0
        # The other letters differ too, in ways that nothing reads.
        draw = torch.Generator().manual_seed(0)
        embed[:, 13:] = 0.3 * torch.randn(264, 19, generator=draw)
        unembed[:, 13:] = 0.02 * torch.randn(264, 19, generator=draw)
        for letter, feature in features.items():
            embed[vocab[letter], feature] = 3.0
        unembed[vocab["Y"], 0], unembed[vocab["S"], s], unembed[vocab["N"], n] = 2.0, 2.0, 2.0
        late = torch.zeros(32)
        late[n], late[spare] = 0.9, 0.19**0.5

        def head(layer, number, read, write):
            attention = network.model.layers[layer].self_attn
            attention.v_proj.weight[8 * number, read] = 1.0
            attention.o_proj.weight[:, 8 * number] = write

        for number, feature in enumerate(features.values()):
            head(0, number, [feature], 0.3 * torch.eye(32)[9 + number])
        head(1, 0, [1, 2], 4 * torch.eye(32)[early])
        head(4, 1, [early], 8 * torch.eye(32)[s])
        head(6, 2, [3, 4], 6 * late)
    return network, torch.eye(32)[early], late


@pytest.fixture(scope="session")
def two_components(make_tokenizer):
    """The hand-made model with its directions and prompts; read-only."""
    import workbench as wb

    tokenizer = make_tokenizer()
    vocab = tokenizer.get_vocab()
    network, early, late = _network(vocab)

    def direction(name, vector, layer):
        return wb.Directions(8 * vector.view(1, 1, 1, -1), (name,), (layer,), (-1,))

    prompts = [
        wb.Prompt(
            f"{category}-{row}",
            letter * (4 + row % 3) + "mno"[: row % 4],
            "harmless" if category == "harmless" else "harmful",
            "letters" if category == "harmless" else category,
        )
        for category, letter in LETTERS.items()
        for row in range(8 if category == "harmless" else 6)
    ]
    prompts = [p if p.label == "harmful" else wb.Prompt(p.id, p.text, p.label) for p in prompts]
    return TwoComponents(
        model=wb.load_model(network, tokenizer=tokenizer),
        early=direction("early", early, 3),
        late=direction("late", late, 7),
        harmful=wb.PromptSet(tuple(p for p in prompts if p.label == "harmful"), "harmful"),
        harmless=wb.PromptSet(tuple(p for p in prompts if p.label == "harmless"), "harmless"),
        refusal_tokens=(vocab["S"], vocab["N"]),
    )


@pytest.fixture(scope="session")
def organism():
    """Loads a shipped model by name, or skips the test where it is not on this machine."""
    import workbench as wb
    from workbench.models.organisms import organism_card, organism_names

    def load(name):
        if name not in organism_names():
            pytest.skip(
                f"the organism {name} is not on this machine -> "
                f"python -m workbench.training.train {name}"
            )
        return wb.load_model(name), organism_card(name)["planted"]["components"]

    return load
