"""Which reader meets which seeds."""

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import workbench as wb
from hostile import sealing, seeds
from hostile.mutate import mutated
from workbench.directions.published.files import LabelNeeded
from workbench.study.stored import read_kept
from workbench.study.texts import read_texts

_SEALED = 0.7
"""Share of the changed files of the workbench whose checksums are made to fit."""


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        make: its seeds.
        read: what is called with the folder of a bundle and the name of the file that was changed.
        seal: gives the files of a bundle checksums that fit, after one of them was changed.
        slow: how many times fewer of its inputs are tried, since it takes so many times longer.
        quick: whether its libraries are loaded fast enough for the tests.
    """

    make: Callable[[], list[seeds.Bundle]]
    read: Callable[[Path, str], Any]
    seal: Callable[[Path, str], Any] | None = None
    slow: int = 1
    quick: bool = True

    @cache  # noqa: B019
    def bundles(self) -> list[seeds.Bundle]:
        """Its seeds, made once."""
        return self.make()


def _prompts(folder: Path, name: str) -> None:
    try:
        found = wb.load_prompts(folder / name)
    except wb.PromptError:
        found = wb.load_prompts(folder / name, label="harmful")
    assert found.fingerprint and all(text.strip() for text in found.texts)


def _published(folder: Path, name: str) -> None:
    try:
        found = wb.load_published(folder / name)
    except LabelNeeded as error:
        # A matrix can be layers, positions or vectors of one place; `layers.1` either side of it.
        if "read_at=" in str(error):
            found = wb.load_published(folder / name, read_at="input")
        else:
            found = wb.load_published(folder / name, axes="layer")
    _check(found.directions)


def _published_run(folder: Path, name: str) -> None:
    found = wb.load_published(folder)
    _check(found.directions)
    repr(found.scores), repr(found.choice)


def _check(directions: Any) -> None:
    """What is read is what directions are: finite numbers, that can be reckoned with."""
    if directions is not None:
        assert directions.values.isfinite().all()
        repr(directions), directions.norms.numpy()


def _artifact(folder: Path, name: str) -> None:
    if name.startswith("directions"):
        found = wb.Directions.load(folder / name)
        repr(found), found.norms
    else:
        acts = wb.Activations.load(folder / name)
        acts.mean()
        assert len(acts.at(acts.layers[0], acts.positions[0])) == len(acts.counts)


def _run(folder: Path, name: str) -> None:
    found = wb.load_run(folder)
    repr(found.choice), repr(found.study)
    assert isinstance(found.found, dict)
    read_kept(folder / "prompts.json")
    read_texts(found)


@cache
def _own_tokenizer() -> Any:
    """The tokenizer of the shipped model."""
    from workbench.models.loading.load import read_tokenizer
    from workbench.models.organisms import organism_path

    return read_tokenizer(str(organism_path("pocket")), "pocket", None, False)


def _template(folder: Path, name: str) -> None:
    from workbench.models.templates import template_text

    _rendered(_own_tokenizer(), template_text(folder / name))


def _tokenizer(folder: Path, name: str) -> None:
    from workbench.models.loading.load import read_tokenizer

    _rendered(read_tokenizer(str(folder), "own", None, False), None)


def _rendered(tokenizer: Any, template: str | None) -> None:
    from workbench.models.loading.load import chat_template_of

    chat = chat_template_of("own", tokenizer, template)
    tokens = chat.tokens(["Bake bread"])
    repr(chat.provenance), tokens.t_inst, tokens.position_ids


def _model(folder: Path, name: str) -> None:
    model = wb.load_model(str(folder), device="cpu")
    assert model.logits(["Bake bread"]).isfinite().all()


def _model_file(folder: Path, name: str) -> None:
    model = wb.load_model(folder / name, device="cpu")
    assert model.logits(["Bake bread"]).isfinite().all()


def _adapter(folder: Path, name: str) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it changes nothing, or names another base
        model = wb.load_model("pocket-two", adapter=folder, device="cpu")
    assert model.logits(["Bake bread"]).isfinite().all()


def _sae(folder: Path, name: str) -> None:
    found = wb.meaning.load_sae(folder)
    _check(found.direction(0))


TARGETS = {
    "prompts": Target(seeds.prompts, _prompts),
    "parquet": Target(seeds.parquet, _prompts),
    "vectors": Target(seeds.vectors, _published),
    "gguf": Target(seeds.gguf, _published),
    "published_run": Target(seeds.published_run, _published_run, slow=10),
    "artifacts": Target(seeds.artifacts, _artifact, sealing.seal_artifact),
    "run": Target(seeds.run, _run, sealing.seal_again, slow=10),
    "templates": Target(seeds.templates, _template, quick=False),
    "tokenizers": Target(seeds.tokenizers, _tokenizer, slow=4, quick=False),
    "ggufs": Target(seeds.ggufs, _model_file, slow=50, quick=False),
    "adapters": Target(seeds.adapters, _adapter, slow=50, quick=False),
    "saes": Target(seeds.saes, _sae, slow=2, quick=False),
    "models": Target(seeds.models, _model, slow=200, quick=False),
}


def hostile_input(target: str, seed: int | None) -> tuple[seeds.Bundle, str, bytes]:
    """A bundle of seeds, the name of one of its files, and what becomes of that file.

    Without a seed nothing becomes of it.
    """
    if seed is None:
        bundle = TARGETS[target].bundles()[0]
        return bundle, *next(iter(bundle.items()))
    draw = random.Random(f"{target} {seed}")
    bundle = draw.choice(TARGETS[target].bundles())
    name = draw.choice(sorted(bundle))
    content = bundle[name]
    for _ in range(draw.choice((1, 1, 1, 2))):
        try:
            content = mutated(name, content, draw)
        except Exception:  # what was changed before can no longer be taken apart
            break
    seal = TARGETS[target].seal
    if seal is not None and draw.random() < _SEALED:
        bundle = _sealed({**bundle, name: content}, name, seal)
        content = bundle[name]
    return bundle, name, content


def _sealed(bundle: seeds.Bundle, name: str, seal: Callable[[Path, str], Any]) -> seeds.Bundle:
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        for own, content in bundle.items():
            (folder / own).parent.mkdir(parents=True, exist_ok=True)
            (folder / own).write_bytes(content)
        seal(folder, name)
        return {own: (folder / own).read_bytes() for own in bundle}
