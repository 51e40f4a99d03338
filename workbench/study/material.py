"""What the analyses of a run work on, read from the model once and only if one asks for it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench.activations import Activations, collect_activations
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.errors import StudyError
from workbench.models.hooked import HookedModel
from workbench.positions import T_INST, Position
from workbench.prompts.promptset import PromptSet
from workbench.study import names
from workbench.study.ledger import Ledger
from workbench.study.settings import Study
from workbench.study.thoughts import Thoughts

N_RESAMPLES = 200
"""Replicates behind the intervals of cosines."""

RESAMPLING_SEED = 0
"""Of those replicates in every run, whatever its own seed: only sets that were resampled alike have
intervals of the cosines between them, since a prompt of both has to weigh the same in both."""

_FEWEST = 2
"""A category of fewer kept prompts cannot be split, so nothing is known of its noise."""


@dataclass(frozen=True, eq=False)
class Material:
    """A run's model, prompts and main results, and what several analyses share.

    Directions are estimated on ``train``, the training prompts that the model treats as their label
    says; whatever is detected or separated is measured on ``test``, which no estimate saw, and
    what is said of refusals on ``kept_test``, those of them that the model treats so.

    Attributes:
        folder: of the run.
        model: read-only.
        study: the settings.
        train: kept training prompts by label.
        test: test prompts by label, borderline ones too where there are any.
        kept_test: kept test prompts, ``harmful`` and ``harmless``.
        validation: kept validation prompts by label, on which the direction was selected.
        thoughts: what the model thinks of test prompts, by label, where answers are scored after
            it; prompts that it does not close its thinking about are absent.
        treatment: how many test prompts are kept, and what the others do; see
            `keeping.treatment`.
        directions: every candidate of the study.
        direction: the chosen one; its layer and position are where the analyses look.
        refusal_tokens: ids of the first tokens of refusals.
        replies: every reply with its verdict.
        ledger: of the folder.
        say: is told what happens.
    """

    folder: Path
    model: HookedModel
    study: Study
    train: Mapping[str, PromptSet]
    test: Mapping[str, PromptSet]
    kept_test: Mapping[str, PromptSet]
    validation: Mapping[str, PromptSet]
    thoughts: Mapping[str, Thoughts]
    treatment: Mapping[str, Mapping[str, Any]]
    directions: Directions
    direction: Directions
    refusal_tokens: tuple[int, ...]
    replies: pd.DataFrame
    ledger: Ledger
    say: Callable[[str], None] = field(default=lambda line: None)

    @property
    def layer(self) -> int:
        """The chosen layer."""
        return self.direction.layers[0]

    @property
    def position(self) -> int:
        """The chosen position; candidates are read at template tokens, which all have numbers."""
        position = self.direction.positions[0]
        assert not isinstance(position, str)
        return position

    @cached_property
    def positions(self) -> tuple[Position, ...]:
        """t_inst, by its name where the tokenizer shares it, and the template's tokens after it."""
        tokens = [self.model.tokens(prompts, self.study.system) for prompts in self.train.values()]
        shares = any(each.t_inst_label == T_INST for each in tokens)
        first: Position = "t_inst" if shares else tokens[0].t_inst_label
        return (first, *tokens[0].post_instruction)

    @cached_property
    def train_activations(self) -> dict[str, Activations]:
        """Training prompts one by one, at the chosen position of every layer."""
        return {
            label: self.read(prompts, positions=[self.position], per_prompt=True)
            for label, prompts in self.train.items()
        }

    @cached_property
    def test_activations(self) -> dict[str, Activations]:
        """Test prompts one by one, at the chosen position of every layer."""
        return {
            label: self.read(prompts, positions=[self.position], per_prompt=True)
            for label, prompts in self.test.items()
        }

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Harm categories with enough kept training prompts to estimate a direction.

        Raises:
            StudyError: fewer than two.
        """
        own = self.train["harmful"].categories
        found = sorted(name for name in set(own) if own.count(name) >= _FEWEST)
        small = sorted(set(own) - set(found))
        if len(found) < 2:
            counts = ", ".join(f"{name} {own.count(name)}" for name in sorted(set(own)))
            raise StudyError(
                f"the kept harmful training prompts have {len(found)} categories of at least "
                f"{_FEWEST} prompts ({counts}): comparing needs two. Use prompts with categories, "
                "or a larger n_train."
            )
        if small:
            self.say(f"left out, fewer than {_FEWEST} kept training prompts: {', '.join(small)}")
        return tuple(found)

    @cached_property
    def left_out(self) -> list[str]:
        """Categories of kept training prompts that are too small to take part."""
        return sorted({*self.train["harmful"].categories} - {*self.categories})

    @cached_property
    def category_directions(self) -> Directions:
        """One mean difference per category at every layer and position; saved beside the run's.

        Raises:
            StudyError: fewer than two categories.
        """
        if self.ledger.fault(names.CATEGORY_DIRECTIONS) is None:
            return Directions.load(self.folder / names.CATEGORY_DIRECTIONS)
        harmful = self.train["harmful"].where(category=self.categories)
        positive, negative = (
            self.read(prompts, positions=self.positions)
            for prompts in (harmful, self.train["harmless"])
        )
        found = mean_difference(positive, negative, by="category")
        self.keep(names.CATEGORY_DIRECTIONS, found, names.MADE_FROM[names.CATEGORY_DIRECTIONS])
        return found

    def keep(self, name: str, directions: Directions, made_from: Sequence[str]) -> None:
        """Saves directions into the run's folder and takes them down in its ledger."""
        directions.save(self.folder / name)
        self.ledger.keep(name, made_from)

    def directions_of(self, prompts: PromptSet) -> Directions:
        """The categories' directions at the chosen position, of categories with such prompts.

        Raises:
            StudyError: fewer than two.
        """
        tested = set(prompts.categories)
        names = [name for name in self.category_directions.names if name in tested]
        if len(names) < 2:
            raise StudyError(
                f"{len(names)} of {len(self.categories)} categories have test prompts: comparing "
                "needs two. Raise n_test."
            )
        return self.category_directions.at(name=names, position=self.position)

    def read(self, prompts: PromptSet, **settings: Any) -> Activations:
        """Activations at the study's site."""
        return collect_activations(  # pyright: ignore[reportCallIssue]
            self.model,
            prompts,
            site=self.study.site,  # pyright: ignore[reportArgumentType]
            system=self.study.system,
            t_inst=self.study.t_inst,  # pyright: ignore[reportArgumentType]
            **settings,
        )


def in_categories(activations: Activations, categories: Collection[str]) -> Activations:
    """The prompts of some categories."""
    return activations.rows(
        [row for row, own in enumerate(activations.categories) if own in categories]
    )


def together(sets: Mapping[str, Activations]) -> Activations:
    """Several sets of single prompts, read in the same place, as one."""
    first, *_ = sets.values()
    every = list(sets.values())
    return replace(
        first,
        values=torch.cat([each.values for each in every]),
        counts=(1,) * sum(len(each.ids) for each in every),
        categories=tuple(own for each in every for own in each.categories),
        labels=tuple(own for each in every for own in each.labels),
        ids=tuple(own for each in every for own in each.ids),
        texts=tuple(own for each in every for own in each.texts),
        prompt_keys=tuple(own for each in every for own in each.prompt_keys),
        provenance={
            **first.provenance,
            "prompts": None,
            "sets": {label: each.provenance.get("prompts") for label, each in sets.items()},
        },
    )
