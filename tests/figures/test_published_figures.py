"""Published directions as figures: the published numbers stand in them, and no interval does."""

import numpy as np
import pytest

import workbench as wb
from workbench import figures

pytestmark = pytest.mark.shared

MEANS = {4: 0.5828, 8: 0.6067, 14: 0.6409, 22: 0.6538}
"""Mean off-diagonal cosine of the eleven Qwen2-7B category directions, by layer."""


@pytest.fixture(scope="module")
def cosines(shared):
    directions = wb.load_published(shared / "data" / "published" / "zhao_2025").directions
    categories = [name for name in directions.names if name != "overall"]
    return wb.geometry.cosine_similarity_map(directions.at(name=categories))


def heats(figure):
    """Cosines of each panel without the diagonal, which is not drawn."""
    return [
        np.array(trace.z, dtype=float)
        for trace in figure.data
        if trace.type == "heatmap" and trace.coloraxis
    ]


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def test_the_map_holds_the_published_cosines(cosines):
    figure = figures.cosine_map(cosines, layer=14)
    (heat,) = heats(figure)
    assert heat.shape == (11, 11)
    assert np.isfinite(heat).sum() == 110
    assert np.nanmean(heat) == pytest.approx(MEANS[14], abs=1e-3)
    labels = list(figure.data[0].y)
    pair = labels.index("Child Abuse"), labels.index("Tailored Financial Advice")
    assert heat[pair] == np.nanmin(heat) == pytest.approx(0.4787, abs=1e-3)
    pair = labels.index("Fraud Deception"), labels.index("Illegal Activity")
    assert heat[pair] == np.nanmax(heat) == pytest.approx(0.8231, abs=1e-3)
    assert "no intervals: directions were not resampled" in subtitle(figure)
    assert "Qwen/Qwen2-7B-Instruct" in subtitle(figure)
    assert "final norm" not in subtitle(figure)


def test_maps_side_by_side_hold_the_published_means(cosines):
    figure = figures.cosine_maps_by_layer(cosines.sel(layer=list(MEANS)))
    means = [np.nanmean(heat) for heat in heats(figure)]
    assert means == pytest.approx(list(MEANS.values()), abs=1e-3)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == [f"layer {layer}: {mean:.2f}" for layer, mean in MEANS.items()]
    assert "no intervals: directions were not resampled" in subtitle(figure)
    assert "final norm" not in subtitle(figure)
    whole = figures.cosine_maps_by_layer(cosines)
    assert "12 of 29 layers shown" in subtitle(whole)
    assert "layer 28 follows the last block, before or after the final norm" in subtitle(whole)


def test_the_line_over_layers_goes_through_the_published_means(cosines):
    figure = figures.cosine_by_layer(cosines)
    traces = {trace.name: trace for trace in figure.data}
    mean = dict(zip(traces["mean over pairs"].x, traces["mean over pairs"].y, strict=True))
    assert list(mean) == list(range(29))
    assert [mean[layer] for layer in MEANS] == pytest.approx(list(MEANS.values()), abs=1e-3)
    assert traces["lowest pair"].y[14] == pytest.approx(0.4787, abs=1e-3)
    assert traces["highest pair"].y[14] == pytest.approx(0.8231, abs=1e-3)
    assert not [trace for trace in figure.data if trace.fill]
    assert "no intervals: directions were not resampled" in subtitle(figure)
    assert "layer 28 follows the last block, before or after the final norm" in subtitle(figure)


@pytest.mark.parametrize("name", ["gemma-2b-it", "qwen-1_8b-chat"])
def test_curves_of_a_published_selection_show_what_was_published(shared, name):
    run = wb.load_published(shared / "data" / "published" / "arditi_2024" / name)
    figure = figures.sweep(run.scores, run.choice)
    lines = [trace for trace in figure.data if "lines" in trace.mode]
    assert len(lines) == 15  # five positions in three panels
    for index, score in enumerate(("bypass", "induce")):
        for line, position in zip(lines[5 * index : 5 * index + 5], range(-5, 0), strict=True):
            assert list(line.y) == run.scores[score].sel(position=position).values.tolist()
    stars = [trace for trace in figure.data if trace.name.startswith("chosen")]
    drawn = [(star.x[0], star.y[0]) for star in stars]
    choice = run.choice
    assert drawn == [(choice.layer, y) for y in (choice.bypass, choice.induce, choice.kl)]
    assert not [trace for trace in figure.data if trace.fill]
    assert "no intervals" in subtitle(figure)
