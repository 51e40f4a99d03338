"""A small SAE, trained with SAELens on a shipped model, holds the vectors planted in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.directions.sae.saelens import import_sae_lens
from workbench.models.organisms import organism_path
from workbench.training.grammar import requests

STEPS, BATCH, K, EXPANSION = 800, 128, 3, 2
"""Few features, as a request of the grammar says few things: with K of 8 and 4 times the width
some seeds spread a planted vector over several features. With these, the best feature's cosine was
0.93 to 1.00 for both vectors of pocket-two with each of the seeds 0 to 4, and 0.96 to 1.00 for that
of pocket with 0 to 2."""
N_TRAIN = {"harmful": 1200, "harmless": 1200, "borderline": 600}


@dataclass(frozen=True)
class Trained:
    """An SAE as loaded, what was planted, and the activations it is asked about."""

    sae: Any
    planted: Any
    components: Any
    encoded: dict[str, Any]


@pytest.fixture(scope="session")
def activations(organism):
    """Where all planted vectors stand: prompts of the training side, and the held-out sets."""
    kept = {}

    def collect(name):
        if name in kept:
            return kept[name]
        model, components = organism(name)
        layer = max(each["layer"] for each in components.values())
        place = {"layers": [layer], "positions": [-1], "per_prompt": True}
        draw, texts, labels = np.random.default_rng(0), [], []
        for label, n in N_TRAIN.items():
            pool = requests(label, held_out=False)
            texts += [pool[row].text for row in draw.choice(len(pool), n, replace=False)]
            labels += [label] * n
        asked = {label: wb.load_prompts(label) for label in ("harmful", "harmless")}
        # The built-in sets are the other side of the grammar's split.
        assert not {*texts} & {text for each in asked.values() for text in each.texts}
        held_out = {
            label: wb.collect_activations(model, each, **place) for label, each in asked.items()
        }
        rows = wb.collect_activations(model, texts, **place).at(layer, -1)
        baseline = rows[np.array(labels) == "harmless"].mean(0)
        kept[name] = layer, rows, baseline, held_out
        return kept[name]

    return collect


@pytest.fixture(scope="session")
def trained(organism, activations, tmp_path_factory):
    """Trains an SAE, saves it with SAELens and loads it."""
    kept = {}

    def train(name, seed=0):
        model, components = organism(name)
        if (name, seed) in kept:
            return kept[name, seed]
        layer, rows, baseline, held_out = activations(name)
        folder = tmp_path_factory.mktemp("sae") / name
        train_with_saelens(
            rows, baseline, f"blocks.{layer - 1}.hook_resid_post", name, folder, seed
        )
        sae = wb.meaning.load_sae(folder)
        assert (sae.site, sae.layer, sae.d_model) == ("resid_pre", layer, model.d_model)
        planted = wb.Directions.load(organism_path(name) / "planted.safetensors")
        encoded = {label: sae.encode_activations(each) for label, each in held_out.items()}
        kept[name, seed] = Trained(sae, planted, components, encoded)
        return kept[name, seed]

    return train


def train_with_saelens(rows, baseline, hook, name, folder, seed):
    """A TopK SAE of SAELens, by its own trainer, from activations that are in memory."""
    sae_lens = import_sae_lens()
    from sae_lens.config import SAETrainerConfig

    def batches():
        draw = torch.Generator().manual_seed(seed)
        while True:
            yield rows[torch.randint(len(rows), (BATCH,), generator=draw)]

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        width = rows.shape[1]
        network = sae_lens.TopKTrainingSAE(
            sae_lens.TopKTrainingSAEConfig(
                d_in=width,
                d_sae=EXPANSION * width,
                k=K,
                metadata=sae_lens.saes.sae.SAEMetadata(model_name=name, hook_name=hook),
            )
        )
        # What harmless prompts share is the bias's, and features say what others have beyond it.
        network.b_dec.data = baseline
        settings = SAETrainerConfig(STEPS * BATCH, BATCH, lr=3e-3, lr_end=3e-4)
        settings.lr_decay_steps = STEPS // 2
        sae_lens.SAETrainer(settings, network, batches()).fit()
    network.save_inference_model(folder)


@pytest.mark.parametrize(
    "name, seed",
    [
        ("pocket", 0),
        ("pocket-two", 0),
        pytest.param("pocket-two", 1, marks=pytest.mark.slow),
    ],
)
def test_planted_vectors_are_features(trained, name, seed):
    found = trained(name, seed)
    harmless = found.encoded["harmless"]
    for component, card in found.components.items():
        planted = found.planted.at(name=component, layer=card["layer"])
        carried = card.get("categories") or set(found.encoded["harmful"]["category"].values)
        own = found.encoded["harmful"]
        own = own.isel(prompt=np.isin(own["category"].values, list(carried)))
        ranking = wb.meaning.rank_features(found.sae, planted, own, harmless)
        # A feature that does not fire on these prompts is no account of them.
        fires = ranking.isel(feature=ranking["rate_positive"].values > 0.1)
        best = fires.isel(feature=0)
        assert best["cosine"] >= 0.8, component
        assert best["cosine"] > ranking.attrs["chance_cosine"]
        by_difference = wb.meaning.rank_features(found.sae, planted, own, harmless, by="difference")
        assert int(best["feature"]) in by_difference["feature"].values[:3]
        assert best["difference"] > ranking.attrs["chance_difference"]
        assert best["difference_interval"].sel(bound="low") > 0
        direction = found.sae.direction(int(best["feature"]))
        cosine = direction.unit().vector @ planted.unit().vector
        assert float(cosine) == pytest.approx(float(best["cosine"]), abs=1e-5)


def test_the_feature_of_one_component_is_not_that_of_the_other(trained):
    found = trained("pocket-two")
    best = {
        component: int(
            wb.meaning.rank_features(
                found.sae, found.planted.at(name=component, layer=card["layer"])
            )["feature"][0]
        )
        for component, card in found.components.items()
    }
    assert len(set(best.values())) == 2


def test_ablating_the_feature_stops_refusals(trained, organism):
    model, _ = organism("pocket")
    found = trained("pocket")
    ranking = wb.meaning.rank_features(found.sae, found.planted)
    direction = found.sae.direction(int(ranking["feature"][0]))
    harmful = wb.load_prompts("harmful").sample(8)
    assert wb.judge(model.generate(harmful, max_new_tokens=16)).count("refused") >= 7
    with wb.intervene(model, wb.Ablate(direction)):
        assert wb.judge(model.generate(harmful, max_new_tokens=16)).count("refused") <= 2
