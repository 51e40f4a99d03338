"""Train a model organism and write its folder: ``python -m workbench.training.train``.

Training is seeded; the same machine and package versions give the same weights.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from workbench import screen
from workbench.artifact import save_artifact, write_text
from workbench.models import organisms
from workbench.training import planting, recipe, switch
from workbench.training.settings import RECIPES, Settings
from workbench.training.tokenizer import END_ID, PAD_ID, train_tokenizer

PLANTED_FILE = "planted.safetensors"
_LABEL = "a model organism: its refusal was planted; results on it are not results on a chat model"


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a stock Hugging Face folder, weights in float16."""
    # float16 rather than bfloat16: three more bits of mantissa keep the rank-one writes clean.
    model.half()
    model.generation_config = GenerationConfig(
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
        do_sample=False,
        max_new_tokens=64,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_planted(settings: Settings, vectors: Tensor, folder: Path) -> None:
    """Write the planted unit vectors, labelled by the first layer whose input holds them whole."""
    components = settings.components
    layers = sorted({component.last_layer + 1 for component in components})
    values = torch.zeros(len(vectors), len(layers), 1, vectors.shape[-1])
    # The stream keeps what was written, so a vector stands at every listed layer from its own on.
    for row, component in enumerate(components):
        for column, layer in enumerate(layers):
            if layer > component.last_layer:
                values[row, column, 0] = vectors[row]
    save_artifact(
        folder / PLANTED_FILE,
        kind="directions",
        tensors={"values": values.numpy()},
        manifest={
            "names": [component.name for component in components],
            "layers": layers,
            "positions": [-1],
            "site": "resid_pre",
            "provenance": {
                "method": "planted",
                "model": settings.name,
                "seed": settings.seed,
                "heads": {component.name: component.heads for component in components},
            },
        },
    )


def card(settings: Settings, seconds: float, measured: dict[str, Any] | None) -> dict[str, Any]:
    """The content of ``organism.json``."""
    components = {
        component.name: {
            "heads": [list(head) for head in component.heads],
            "layers": sorted({layer for layer, _ in component.heads}),
            "layer": component.last_layer + 1,
            "position": -1,
            "site": "resid_pre",
            "target": component.target,
            "threshold": component.threshold,
            "written": component.written,
            **({"categories": list(component.categories)} if component.categories else {}),
            **({"words": component.words} if component.words else {}),
        }
        for component in settings.components
    }
    planted = {"file": PLANTED_FILE, "components": components} if settings.planting else {}
    return {
        "name": settings.name,
        "what": _LABEL,
        "description": settings.description,
        "settings": settings.as_dict(),
        "seed": settings.seed,
        "planted": planted,
        "trained": {"seconds": round(seconds), "threads": torch.get_num_threads()},
        "measured": measured or {},
    }


def finish(
    model: LlamaForCausalLM,
    settings: Settings,
    vectors: Tensor,
    folder: Path,
    seconds: float,
    measured: bool = True,
) -> None:
    """Save a trained model, measure what was saved, and write its card."""
    tokenizer = train_tokenizer(settings.shape.d_vocab)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, tokenizer, folder)
    if settings.planting is not None:
        save_planted(settings, vectors, folder)
    found = None
    if measured:
        from workbench.training.measure import measure

        described = card(settings, seconds, None)
        found = measure(folder, described["planted"].get("components", {}))
    text = json.dumps(card(settings, seconds, found), indent=2)
    write_text(folder / "organism.json", text + "\n")


def train(settings: Settings, folder: Path, measured: bool = True) -> None:
    """Train an organism from nothing, save it, measure it and write its card.

    Args:
        settings: the recipe.
        folder: where the organism goes; files of the same names are replaced.
        measured: whether to measure it; the prompts take about a minute.
    """
    torch.set_num_threads(2)
    start = time.monotonic()

    def progress(line: str) -> None:
        screen.tell(f"{time.monotonic() - start:.0f} s {line}")

    tokenizer = train_tokenizer(settings.shape.d_vocab)
    model = recipe.build_model(settings.shape, settings.seed)
    recipe.learn_words(model, settings, tokenizer, progress)
    vectors = switch.planted_vectors(settings, switch.refusal_row(model, tokenizer))
    switch.learn_switch(model, settings, vectors, tokenizer, progress)
    if settings.planting is not None:
        planting.plant(model, settings, vectors, tokenizer, progress)
    progress("saving and measuring")
    finish(model, settings, vectors, folder, time.monotonic() - start, measured)
    progress(f"wrote {folder}")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="workbench.training.train", description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, help="folder to write; by default the shipped one")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="multiplies all steps")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps and no measurement, to try the program"
    )
    options = parser.parse_args(arguments)
    settings = RECIPES[options.name].scaled(options.steps_scale)
    if options.quick:
        settings = RECIPES[options.name].scaled(0.0, batch_size=6)
    if options.out is None and (options.quick or options.steps_scale != 1.0):
        parser.error("a shortened recipe needs --out: it would replace the shipped model")
    folder = options.out or Path(organisms.__file__).parent / options.name
    train(settings, folder, measured=not options.quick)


if __name__ == "__main__":
    main()
