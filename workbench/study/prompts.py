"""Which prompts a study trains, validates and tests on."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workbench.errors import PromptError, StudyError
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens
from workbench.prompts.presets import PRESETS
from workbench.prompts.promptset import PromptSet
from workbench.prompts.sources import BUILT_IN, load_prompts
from workbench.scores.refusal import refusal_score, refusal_tokens
from workbench.study.settings import Study
from workbench.study.thoughts import Thoughts, think, tokens_after

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
        were typed inside prompts. Where answers are scored after the model's thinking, that too:
        ``thoughts``, and prompts whose thinking does not end are not kept.

    Raises:
        StudyError: too few are left.

    Source: Arditi et al. 2024, appendix A.
    """
    typed = typed_specials(model, study, split)  # first: others would warn of each
    asked, thoughts = _asked(model, study, split)
    tokens = _refusal_tokens(model, study, asked["train"])
    kept: dict[str, dict[str, list[str]]] = {"train": {}, "validation": {}}
    for part, by_label in kept.items():
        for label, (ids, prompts) in asked[part].items():
            system = None if isinstance(prompts, Tokens) else study.system
            refuses = refusal_score(model.logits(prompts, system), tokens) > 0
            wanted = refuses if label == "harmful" else ~refuses
            by_label[label] = [own for own, keep in zip(ids, wanted.tolist(), strict=True) if keep]
            n, n_all = len(by_label[label]), len(split[label][part])
            if n < min(_FEWEST, n_all):
                verb = "refuses" if label == "harmful" else "answers"
                cut = f" ({n_all - len(ids)} of them end inside its thinking)" if thoughts else ""
                raise StudyError(
                    f"{model.name} {verb} only {n} of {n_all} {label} {part} "
                    f"prompts{cut}, too few to estimate a direction. Use a model that refuses, "
                    "other prompts, or refusal_words."
                )
    found: dict[str, Any] = {
        "kept": kept,
        "typed_specials": typed,
        "refusal_tokens": list(tokens),
        "refusal_token_texts": [model.tokenizer.decode([token]) for token in tokens],
    }
    if thoughts:
        found["thoughts"] = thoughts
    return found


Asked = dict[str, dict[str, tuple[Sequence[str], Prompts]]]
"""Ids of prompts, and the prompts as they are scored, by part and label."""


def _asked(
    model: HookedModel, study: Study, split: Split
) -> tuple[Asked, dict[str, dict[str, Thoughts]]]:
    """The prompts that decide, and where they are scored after it, what the model thinks of them.

    Raises:
        StudyError: the model closes its thinking about too few.
    """
    asked: Asked = {"train": {}, "validation": {}}
    thoughts: dict[str, dict[str, Thoughts]] = {}
    for part, by_label in asked.items():
        for label in ("harmful", "harmless"):
            prompts = split[label][part]
            if study.score_after == "prompt":
                by_label[label] = prompts.ids, prompts
                continue
            own = think(model, study, prompts)
            if len(own) < min(_FEWEST, len(prompts)):
                raise StudyError(
                    f"{model.name} closes its thinking about only {len(own)} of {len(prompts)} "
                    f"{label} {part} prompts within {study.max_thinking_tokens} tokens. Raise "
                    "max_thinking_tokens, or score after the prompt where it does not think."
                )
            thoughts.setdefault(part, {})[label] = own
            closed = PromptSet(tuple(each for each in prompts if each.id in own), prompts.name)
            by_label[label] = closed.ids, tokens_after(model, study, closed, own)
    return asked, thoughts


def _refusal_tokens(
    model: HookedModel, study: Study, train: dict[str, tuple[Sequence[str], Prompts]]
) -> tuple[int, ...]:
    """Ids that begin refusals: of the words that were given, or found on training prompts."""
    if study.refusal_words:
        return refusal_tokens(
            model,
            words=[word.strip() for word in study.refusal_words.split(",")],
            system=study.system,
            after=study.score_after,  # pyright: ignore[reportArgumentType]
            max_thinking_tokens=study.max_thinking_tokens,
        )
    system = study.system if study.score_after == "prompt" else None
    return refusal_tokens(model, train["harmful"][1], train["harmless"][1], system=system)


def typed_specials(model: HookedModel, study: Study, split: Split) -> dict[str, int]:
    """How often special tokens are typed inside the study's prompts, test prompts included."""
    found: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run says it once, for all of them
        for parts in split.values():
            for prompts in parts.values():
                found.update(model.tokens(prompts, study.system).typed_specials)
    return dict(sorted(found.items()))
