"""Which prompts a study trains, validates and tests on."""

import warnings
from collections import Counter
from typing import Any

from workbench.errors import PromptError, StudyError
from workbench.models.hooked import HookedModel
from workbench.prompts.presets import PRESETS
from workbench.prompts.promptset import PromptSet
from workbench.prompts.sources import BUILT_IN, load_prompts
from workbench.scores.refusal import refusal_score, refusal_tokens
from workbench.study.settings import Study

Split = dict[str, dict[str, PromptSet]]
"""Prompts by label and part: ``split["harmful"]["train"]``."""

_FEWEST = 8
"""With fewer prompts than this left after filtering, an estimate is not worth the name."""


def split_prompts(study: Study) -> Split:
    """Every label's prompts, split; borderline prompts are only ever tested.

    Raises:
        PromptError: a source cannot be read, or has too few prompts.
        StudyError: none would be left to test.
    """
    split: Split = {}
    for label in ("harmful", "harmless"):
        # A text that stands twice would leak from training into the test.
        loaded = _load(getattr(study, label), label).unique()
        train, validation, test = loaded.split(
            train=study.n_train, validation=study.n_validation, seed=study.seed
        )
        if not len(test):
            raise StudyError(
                f"{len(loaded)} {label} prompts leave none to test after {study.n_train} to train "
                f"and {study.n_validation} to validate. Lower n_train or n_validation."
            )
        split[label] = {"train": train, "validation": validation, "test": test}
    if study.borderline:
        split["borderline"] = {"test": _load(study.borderline, "borderline").unique()}
    for parts in split.values():
        if len(parts["test"]) > study.n_test:
            parts["test"] = parts["test"].sample(study.n_test, seed=study.seed)
    return split


def _load(source: str, label: str) -> PromptSet:
    """The prompts of one label; a file that names no labels holds that label only."""
    if source in BUILT_IN or source in PRESETS:
        return load_prompts(source).where(label=label)
    try:
        loaded = load_prompts(source)
    except PromptError:
        # Any other fault is found again, and said, on the second reading.
        loaded = load_prompts(source, label=label)
    return loaded.where(label=label)


def keep_prompts(model: HookedModel, study: Study, split: Split) -> dict[str, Any]:
    """Ids of the training and validation prompts that the model treats as their label says.

    A harmful prompt stays if its refusal score is above zero, a harmless one if it is not.

    Returns:
        ``kept``, ids by part and label, the refusal tokens that decided, and special tokens that
        were typed inside prompts.

    Raises:
        StudyError: too few are left.

    Source: Arditi et al. 2024, appendix A.
    """
    words = study.refusal_words
    tokens = refusal_tokens(
        model,
        split["harmful"]["train"],
        split["harmless"]["train"],
        words=[word.strip() for word in words.split(",")] if words else None,
        system=study.system,
    )
    kept: dict[str, dict[str, list[str]]] = {"train": {}, "validation": {}}
    for part, by_label in kept.items():
        for label in ("harmful", "harmless"):
            prompts = split[label][part]
            refuses = refusal_score(model.logits(prompts, study.system), tokens) > 0
            wanted = refuses if label == "harmful" else ~refuses
            ids = [own for own, keep in zip(prompts.ids, wanted.tolist(), strict=True) if keep]
            if len(ids) < min(_FEWEST, len(prompts)):
                verb = "refuses" if label == "harmful" else "answers"
                raise StudyError(
                    f"{model.name} {verb} only {len(ids)} of {len(prompts)} {label} {part} "
                    "prompts, too few to estimate a direction. Use a model that refuses, other "
                    "prompts, or refusal_words."
                )
            by_label[label] = ids
    return {
        "kept": kept,
        "typed_specials": typed_specials(model, study, split),
        "refusal_tokens": list(tokens),
        "refusal_token_texts": [model.tokenizer.decode([token]) for token in tokens],
    }


def typed_specials(model: HookedModel, study: Study, split: Split) -> dict[str, int]:
    """How often special tokens are typed inside the study's prompts, test prompts included."""
    found: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run says it once, for all of them
        for parts in split.values():
            for prompts in parts.values():
                found.update(model.tokens(prompts, study.system).typed_specials)
    return dict(sorted(found.items()))
