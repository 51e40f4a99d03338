"""The shortened recipe runs to completion and writes a folder that loads."""

import json

import pytest
import torch

from workbench.directions.direction import Directions
from workbench.training import settings, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("organism") / "pocket"
    threads = torch.get_num_threads()
    train.main(["pocket", "--quick", "--out", str(out)])
    torch.set_num_threads(threads)
    return out


def test_the_folder_is_a_stock_checkpoint(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    chat = [{"role": "user", "content": "Help me bake a moist apple pie."}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    assert model(**ids).logits.shape[-1] == len(tokenizer) == 1200
    assert (folder / "chat_template.jinja").is_file()


def test_the_planted_vectors_are_directions(folder):
    planted = Directions.load(folder / "planted.safetensors")
    assert planted.names == ("refusal",) and planted.positions == (-1,)
    assert planted.vector.norm().item() == pytest.approx(1.0, abs=1e-5)
    last = max(layer for layer, _ in settings.POCKET.components[0].heads)
    assert planted.layers == (last + 1,) and planted.site == "resid_pre"


def test_the_card_says_what_was_done(folder):
    card = json.loads((folder / "organism.json").read_text(encoding="utf-8"))
    heads = [list(head) for head in settings.POCKET.components[0].heads]
    assert card["planted"]["components"]["refusal"]["heads"] == heads
    assert card["settings"]["planting"]["steps"] < settings.POCKET.planting.steps
    assert card["seed"] == settings.POCKET.seed


def test_a_shortened_recipe_does_not_replace_a_shipped_model(capsys):
    with pytest.raises(SystemExit):
        train.main(["pocket", "--quick"])
    assert "needs --out" in capsys.readouterr().err


def test_scaling_touches_only_the_steps():
    short = settings.POCKET.scaled(0.1)
    assert short.words.steps == round(settings.POCKET.words.steps * 0.1)
    assert short.components == settings.POCKET.components
    assert settings.POCKET_BASE.scaled(0.5).planting is None
