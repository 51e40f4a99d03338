"""Which prompts a study keeps: those that the model treats as their label says."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import StudyError
from workbench.models.generate import check_fits
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens
from workbench.prompts.promptset import PromptSet
from workbench.scores.refusal import find_refusal_tokens, measure_refusal_tokens, refusal_score
from workbench.scores.refusal_tokens import RefusalTokens
from workbench.study.fewest import FEWEST, too_few
from workbench.study.prompts import Split
from workbench.study.settings import Study
from workbench.study.thoughts import Thoughts, think, tokens_after

PARTS = ("train", "validation", "test")


def keep_prompts(model: HookedModel, study: Study, split: Split) -> dict[str, Any]:
    """Ids of the prompts that the model treats as their label says.

    A harmful prompt stays if its refusal score is above zero, a harmless one if it is not.

    Returns:
        ``kept``, ids by part and label; ``scores``, the refusal score of every prompt that was
        asked, in nats, in the same order; the refusal tokens that decided, and, where they were
        found in replies, what they cover; and special tokens that were typed inside prompts. Where
        answers are scored after the model's thinking, that too: ``thoughts``, and prompts whose
        thinking does not end are not kept.

    Raises:
        StudyError: too few are left to train or to validate on. Of test prompts any number may be
            left: refusal rates are about all of them, and what needs kept ones says so itself.

    Source: Arditi et al. 2024, appendix A, for training and validation prompts.
    """
    typed, shared = read_tokens(model, study, split)  # first: others would warn of each
    asked, thoughts = _asked(model, study, split)
    tokens, told = _refusal_tokens(model, study, asked["train"])
    kept: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
    scores: dict[str, dict[str, dict[str, float]]] = {part: {} for part in PARTS}
    for part, by_label in kept.items():
        for label, (ids, prompts) in asked[part].items():
            system = None if isinstance(prompts, Tokens) else study.system
            own, first = np.zeros(0), None
            if len(ids):
                logits = model.logits(prompts, system)
                own, first = refusal_score(logits, tokens).cpu().numpy(), logits.argmax(-1)
            scores[part][label] = dict(zip(ids, own.tolist(), strict=True))
            wanted = own > 0 if label == "harmful" else own <= 0
            by_label[label] = [own for own, keep in zip(ids, wanted.tolist(), strict=True) if keep]
            n, n_all = len(by_label[label]), len(split[label][part])
            if first is not None and part != "test" and n < min(FEWEST, n_all):
                few = f"{n} of {n_all} {label} {part} prompts"
                if thoughts:
                    few += f" ({n_all - len(ids)} of them end inside its thinking)"
                dropped = np.flatnonzero(~wanted).tolist()
                raise too_few(model, study, label, part, few, tokens, first, prompts, dropped)
    found: dict[str, Any] = {
        "kept": kept,
        "scores": scores,
        "typed_specials": typed,
        "shared_t_inst": shared,
        "refusal_tokens": list(tokens),
        "refusal_token_texts": [model.tokenizer.decode([token]) for token in tokens],
    }
    if told is not None:
        found["refusal_tokens_found"] = told.to_record()
    if thoughts:
        found["thoughts"] = thoughts
    return found


def kept_of(prompts: PromptSet, ids: Sequence[str]) -> PromptSet:
    """The prompts with these ids, in their own order."""
    chosen = set(ids)
    return PromptSet(tuple(own for own in prompts if own.id in chosen), name=prompts.name)


def treatment(
    found: Mapping[str, Any],
    tests: Mapping[str, PromptSet],
    replies: pd.DataFrame | None = None,
) -> dict[str, dict[str, Any]]:
    """How many test prompts of each label are kept, and what the dropped ones do.

    Args:
        found: as `keep_prompts` returned it.
        tests: every test prompt by label.
        replies: of all test prompts, if they were answered.

    Returns:
        For each label ``n``, ``kept``, and, where some were dropped, their mean refusal score
        ``dropped_score`` in nats, and the share ``dropped_rate`` of their plain replies that is
        judged refused.
    """
    told: dict[str, dict[str, Any]] = {}
    for label in ("harmful", "harmless"):
        kept, scores = set(found["kept"]["test"][label]), found["scores"]["test"][label]
        dropped = [own for own in tests[label].ids if own not in kept]
        told[label] = {"n": len(tests[label]), "kept": len(kept)}
        if known := [scores[own] for own in dropped if own in scores]:
            told[label]["dropped_score"] = float(np.mean(known))
        if dropped and replies is not None:
            rows = (replies["prompt_set"] == label) & (replies["condition"] == "plain")
            own = replies.loc[rows & replies["id"].isin(dropped), "verdict"] == "refused"
            told[label]["dropped_rate"] = float(own.mean())
    return told


def check_kept(told: Mapping[str, Mapping[str, Any]], what: str) -> None:
    """Refuses to say something of refused prompts where the model refuses too few, and of answered.

    Args:
        told: as `treatment` gives it.
        what: is asked for.

    Raises:
        StudyError: fewer than eight are left, and not all that were given.
    """
    if any(own["kept"] < min(FEWEST, own["n"]) for own in told.values()):
        harmful, harmless = told["harmful"], told["harmless"]
        raise StudyError(
            f"{what} is about test prompts that the model treats as their label says: it refuses "
            f"{harmful['kept']} of {harmful['n']} harmful ones and answers {harmless['kept']} of "
            f"{harmless['n']} harmless ones, and at least {FEWEST} of either are needed, or all "
            "where fewer are given. Raise n_test, or give other prompts."
        )


Asked = dict[str, dict[str, tuple[Sequence[str], Prompts]]]
"""Ids of prompts, and the prompts as they are scored, by part and label."""


def _asked(
    model: HookedModel, study: Study, split: Split
) -> tuple[Asked, dict[str, dict[str, Thoughts]]]:
    """The prompts that decide, and where they are scored after it, what the model thinks of them.

    Raises:
        StudyError: the model closes its thinking about too few to train or validate on.
    """
    asked: Asked = {part: {} for part in PARTS}
    thoughts: dict[str, dict[str, Thoughts]] = {}
    for part, by_label in asked.items():
        for label in ("harmful", "harmless"):
            prompts = split[label][part]
            if study.score_after == "prompt":
                by_label[label] = prompts.ids, prompts
                continue
            own = think(model, study, prompts)
            if part != "test" and len(own) < min(FEWEST, len(prompts)):
                raise StudyError(
                    f"{model.name} closes its thinking about only {len(own)} of {len(prompts)} "
                    f"{label} {part} prompts within {study.max_thinking_tokens} tokens. Raise "
                    "max_thinking_tokens, or score after the prompt where it does not think."
                )
            thoughts.setdefault(part, {})[label] = own
            closed = kept_of(prompts, list(own))
            # No tokens can be made of no prompts.
            after = tokens_after(model, study, closed, own) if len(closed) else closed
            by_label[label] = closed.ids, after
    return asked, thoughts


def _refusal_tokens(
    model: HookedModel, study: Study, train: dict[str, tuple[Sequence[str], Prompts]]
) -> tuple[tuple[int, ...], RefusalTokens | None]:
    """Ids that begin refusals: of the words that were given, or found on training prompts.

    Those that were found come with what they cover.
    """
    if study.refusal_words:
        ids = find_refusal_tokens(
            model,
            words=[word.strip() for word in study.refusal_words.split(",")],
            system=study.system,
            after=study.score_after,  # pyright: ignore[reportArgumentType]
            max_thinking_tokens=study.max_thinking_tokens,
        )
        return ids, None
    system = study.system if study.score_after == "prompt" else None
    found = measure_refusal_tokens(model, train["harmful"][1], train["harmless"][1], system=system)
    return found.ids, found


def read_tokens(
    model: HookedModel, study: Study, split: Split
) -> tuple[dict[str, int], dict[str, int]]:
    """What is odd about the tokens of the study's prompts, test prompts included.

    Returns:
        How often special tokens are typed inside them; and which tokens at the end of how many
        instructions hold characters of the template, too.

    Raises:
        PromptError: a test prompt and its reply are longer than the model can read.
    """
    found: Counter[str] = Counter()
    shared: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run says it once, for all of them
        for parts in split.values():
            for part, prompts in parts.items():
                tokens = model.tokens(prompts, study.system)
                found.update(tokens.typed_specials)
                shared.update(model.template.shared_tokens(tokens))
                if part == "test":  # said before the sweep, not after it
                    check_fits(model, int(tokens.lengths.max()), study.max_new_tokens)
    return dict(sorted(found.items())), dict(sorted(shared.items()))
