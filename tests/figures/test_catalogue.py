"""The gallery: every figure explains itself, draws from a run, and is silent without its result."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import xarray as xr

from workbench import figures
from workbench.figures.catalogue import GALLERY
from workbench.study.registry import ANALYSES

ON_REQUEST = {name for each in ANALYSES if not each.cheap for name in each.results}
DEFAULT = [entry for entry in GALLERY if entry.needs not in ON_REQUEST]


@dataclass(frozen=True)
class RunLike:
    scores: xr.Dataset
    choice: Any
    effects: xr.Dataset
    results: dict[str, xr.Dataset] = field(default_factory=dict)


@pytest.fixture
def bare(scores, chosen, rates):
    return RunLike(scores, chosen, rates)


def test_names_are_file_names_and_stand_once():
    names = [entry.name for entry in GALLERY]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize("entry", GALLERY, ids=lambda entry: entry.name)
def test_every_entry_asks_and_explains(entry):
    assert entry.question.endswith("?")
    assert 2 <= entry.caption.count(". ") + 1 <= 6 and entry.caption.endswith(".")
    assert "  " not in entry.caption


@pytest.mark.parametrize("entry", GALLERY, ids=lambda entry: entry.name)
def test_a_run_without_the_result_has_no_such_figure(entry, bare):
    assert (entry.draw(bare) is None) == bool(entry.needs)


@pytest.mark.parametrize("entry", DEFAULT, ids=lambda entry: entry.name)
def test_every_figure_of_a_run_is_drawn(entry, small_run):
    figure = entry.draw(small_run)
    assert figure is not None and figure.data
    assert figure.layout.title.text
    assert "pocket" in figure.layout.title.subtitle.text


def test_the_map_is_drawn_where_the_run_chose(small_run):
    entry = next(each for each in GALLERY if each.name == "cosine_map")
    figure = entry.draw(small_run)
    place = f"layer {small_run.choice.layer}, position \N{MINUS SIGN}1"
    assert figure is not None and place in figure.layout.title.subtitle.text


def test_an_entry_is_one_line(bare):
    def mine(run):
        return figures.effects(run.effects)

    entry = replace(GALLERY[0], name="mine", figure=mine)
    drawn = entry.draw(bare)
    assert (
        drawn is not None and drawn.layout.title.text == "<b>What the direction does to refusal</b>"
    )
