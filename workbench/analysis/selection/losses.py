"""Cross-entropy under interventions: what they do to ordinary text, in nats per token."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float

from workbench.analysis.selection.controls import check_random, random_vectors
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import PromptError, StudyError
from workbench.interventions import Ablate, Add, Intervention, SetProjection, intervene
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens, padded
from workbench.progress import track
from workbench.statistics.intervals import MIN_PROMPTS, bootstrap_interval
from workbench.statistics.ranks import is_outside, rank_p_value

_SHARE = 4
"""Logits of every token take about so many times the memory of a plain forward."""

UNITS = {"units": "nats per token"}


@checked
def measure_cross_entropy(
    model: HookedModel,
    texts: Sequence[str],
    *,
    replies: Sequence[str] | None = None,
    interventions: Sequence[Intervention] = (),
    system: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """How surprised the model is by text: the mean of ``-log p(token | tokens before)``.

    Args:
        model: the model.
        texts: plain text, read without a chat template, with what the tokenizer puts before text
            by itself; the first token is not scored. With ``replies``, prompts, to be rendered.
        replies: what follows each prompt; only its tokens are scored. Text is tokenised anew, and a
            token that would end the reply is not among it.
        interventions: held while the text is read.
        system: a system prompt, with ``replies``.
        confidence: of the intervals.
        seed: of the bootstrap over texts.

    Returns:
        Dataset with ``loss``, the mean over all scored tokens in nats per token, and
        ``perplexity``, its exponential, each with an ``_interval`` over texts; and over ``text``,
        ``loss_by_text`` and ``n_tokens``. Every token weighs the same, and a text is drawn whole.

    Raises:
        PromptError: no texts, one without a token to score, or one that the model cannot read.
        ModelError: logits are not finite.

    >>> found = wb.selection.measure_cross_entropy(model, ["The sea is far."])  # doctest: +SKIP
    >>> float(found["loss"])  # doctest: +SKIP
    """
    tokens, scored = _read(model, texts, replies, system)
    loss, n = _losses(model, tokens, scored, interventions)
    found = _summed(loss[None], n, confidence, seed).isel(condition=0, drop=True)
    # Of one condition there is no change.
    found = found.drop_vars(["change", "change_interval", "change_by_text"])
    return found.assign_attrs(
        model=model.name,
        n=len(n),
        n_tokens=int(n.sum()),
        confidence=confidence,
        interval=_INTERVAL,
        seed=seed,
        provenance=dict(model.provenance),
    )


@checked
def losses_with_and_without(
    model: HookedModel,
    direction: Directions,
    text_sets: Mapping[str, Any],
    *,
    projection: float | None = None,
    coefficient: float = 1.0,
    n_random: int = 20,
    system: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Cross-entropy plainly, with a direction ablated, added and set, and with random ones.

    Args:
        model: the model.
        direction: one vector; ablated everywhere, added raw at its own layer to every token.
        text_sets: by name, plain texts, or a pair of prompts and replies to them; see
            `measure_cross_entropy`.
        projection: also with the projection on the direction set to this.
        coefficient: of the addition, in units of the vector's length.
        n_random: random vectors of the direction's length that are ablated and added for
            comparison: 0 or at least 20, of which a vector without meaning leaves the range in a
            tenth of cases.
        system: a system prompt for the prompts.
        confidence: of the intervals.
        seed: of the bootstrap over texts and of the random vectors.

    Returns:
        Dataset over (text_set, condition): ``loss``, ``perplexity``, ``change`` of the loss from
        the plain one, each with an ``_interval`` over texts; over (condition, text)
        ``loss_by_text`` and ``change_by_text``, where texts carry ``text_set_of_text`` and
        ``n_tokens``. Of random vectors, conditions ``random ablated`` and ``random added`` have the
        mean; ``random_change`` (text_set, edit, control) has each, and over (text_set, edit) are
        ``outside``, whether the direction leaves their range, and ``p_value``, two-sided by rank.

    Raises:
        AxisError: the direction does not fit the model.
        PromptError: as `measure_cross_entropy`.
        StudyError: no sets, or a few random vectors.

    Source: Arditi et al. 2024, section 4.3, for the loss under ablation.
    """
    if not text_sets:
        raise StudyError("no texts to read.")
    check_random(n_random)
    text_sets = {name: _as_lists(given) for name, given in text_sets.items()}
    for name, texts in text_sets.items():
        _check_texts(name, texts)
    edits = _edits(direction, projection, coefficient, n_random, seed)
    parts, by_text = [], []
    for name, texts in text_sets.items():
        pair = texts if _is_pair(texts) else (texts, None)
        tokens, scored = _read(model, pair[0], pair[1], system if pair[1] is not None else None)
        sums: dict[str, list[np.ndarray]] = {condition: [] for condition in edits}
        n = np.zeros(0)
        every = [(condition, each) for condition, own in edits.items() for each in own]
        for condition, each in track(every, f"reading {name}", len(every)):
            loss, n = _losses(model, tokens, scored, each)
            sums[condition].append(loss)
        means = np.stack([np.mean(own, axis=0) for own in sums.values()])
        found = _beside_random(_summed(means, n, confidence, seed), sums, n)
        by_text.append(found[["loss_by_text", "change_by_text", "n_tokens"]].assign_coords(
            text_set=("text", [name] * len(n))
        ))  # fmt: skip
        parts.append(found.drop_dims("text"))
    made = xr.concat(parts, dim="text_set").assign_coords(
        text_set=list(text_sets), condition=list(edits)
    )
    texts = xr.concat(by_text, dim="text").rename(text_set="text_set_of_text")
    made = made.merge(texts.assign_coords(condition=list(edits)))
    made["n"] = ("text_set", [each.sizes["text"] for each in by_text], {"units": "texts"})
    made.attrs = {
        "model": model.name,
        "layer": direction.layers[0],
        "position": direction.positions[0],
        "coefficient": coefficient,
        "n_random": n_random,
        "mean": "over all scored tokens of a set, each of the same weight",
        "confidence": confidence,
        "interval": _INTERVAL,
        "seed": seed,
        "provenance": {**model.provenance, "direction": dict(direction.provenance)},
    }
    if projection is not None:
        made.attrs["projection"] = projection
    return made


_INTERVAL = (
    f"studentised bootstrap over texts, from {MIN_PROMPTS} on, of the linearised ratio of sums"
)


def _edits(
    direction: Directions, projection: float | None, coefficient: float, n_random: int, seed: int
) -> dict[str, list[list[Intervention]]]:
    """The interventions of each condition; those of every random vector where it is of them."""
    edits: dict[str, list[list[Intervention]]] = {
        "plain": [[]],
        "ablated": [[Ablate(direction)]],
        "added": [[Add(direction, coefficient=coefficient)]],
    }
    if projection is not None:
        edits["projection set"] = [[SetProjection(direction, projection)]]
    if controls := random_vectors(direction, n_random, seed):
        edits["random ablated"] = [[Ablate(each)] for each in controls]
        edits["random added"] = [[Add(each, coefficient=coefficient)] for each in controls]
    return edits


def _read(
    model: HookedModel, texts: Sequence[str], replies: Sequence[str] | None, system: str | None
) -> tuple[Tokens, Bool[torch.Tensor, "text token"]]:
    """Tokens of texts, and which of them are scored.

    Raises:
        PromptError: as `measure_cross_entropy`.
    """
    if isinstance(texts, str) or isinstance(replies, str):
        raise PromptError("expected a list of texts, found one text. Pass [text].")
    if not len(texts):
        raise PromptError("no texts: the list is empty.")
    if replies is None:
        if system is not None:
            raise PromptError("system= does nothing to plain text. Leave it out.")
        rows = [model.tokenizer(text)["input_ids"] for text in texts]
        starts = [1] * len(rows)
    else:
        if len(replies) != len(texts):
            raise PromptError(f"{len(texts)} prompts and {len(replies)} replies: one each.")
        prompts = model.tokens(list(texts), system).to("cpu")
        before = [ids[mask].tolist() for ids, mask in zip(prompts.ids, prompts.mask, strict=True)]
        after = [
            model.tokenizer(_without_opened(own, prompts.opened), add_special_tokens=False)[
                "input_ids"
            ]
            for own in replies
        ]
        rows = [[*own, *reply] for own, reply in zip(before, after, strict=True)]
        starts = [len(own) for own in before]
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        if len(row) <= start:
            raise PromptError(
                f"text {index} ({texts[index][:40]!r}) has no token that could be scored. Leave it "
                "out."
            )
        if model.max_tokens is not None and len(row) > model.max_tokens:
            raise PromptError(
                f"text {index} ({texts[index][:40]!r}…) has {len(row):,} tokens; {model.name} "
                f"reads at most {model.max_tokens:,}. Shorten it."
            )
    ids, mask = padded(rows, model.tokenizer.pad_token_id)
    width = ids.shape[1]
    column = torch.arange(width).expand_as(ids)
    first = torch.tensor(
        [width - len(row) + start for row, start in zip(rows, starts, strict=True)]
    )
    scored = column >= first.unsqueeze(1)
    return Tokens(ids, mask, n_pre=0, n_post=0, post_tokens=()).to(model.device), scored


def _is_pair(given: Any) -> bool:
    """Whether something is prompts and replies, and not two texts."""
    return (
        isinstance(given, tuple)
        and len(given) == 2
        and not any(isinstance(own, str) for own in given)
    )


def _as_lists(given: Any) -> Any:
    """Arrays and columns of texts as lists."""
    if _is_pair(given):
        return tuple(map(_as_lists, given))
    return given.tolist() if hasattr(given, "tolist") else given


def _check_texts(name: str, given: Any) -> None:
    """Refuses what is no list of texts, or no pair of such lists.

    Raises:
        PromptError: it is something else.
    """
    for listed in given if _is_pair(given) else (given,):
        if isinstance(listed, str) or not isinstance(listed, Sequence):
            raise PromptError(
                f"expected a list of texts for {name!r}, found something of type "
                f"{type(listed).__name__}. Pass texts, such as prompts.texts."
            )
        if wrong := [own for own in listed if not isinstance(own, str)]:
            raise PromptError(
                f"a text of {name!r} is of type {type(wrong[0]).__name__}. Pass texts, such as "
                "prompts.texts."
            )


def _without_opened(reply: str, opened: str) -> str:
    """What the model itself wrote of a reply: replies begin with a block that the prompt opens."""
    if not opened.strip() or not reply.startswith(opened.strip()):
        return reply
    return reply.removeprefix(opened if reply.startswith(opened) else opened.strip())


def _losses(
    model: HookedModel,
    tokens: Tokens,
    scored: Bool[torch.Tensor, "text token"],
    interventions: Sequence[Intervention],
) -> tuple[Float[np.ndarray, " text"], Float[np.ndarray, " text"]]:
    """Summed loss of each text, in nats, and how many tokens it is of; one forward per batch."""
    loss = np.zeros(len(tokens))
    with intervene(model, *interventions):
        for chosen, batch in model.batches(tokens, share=_SHARE):
            logits = model.logits_everywhere(batch)
            width = batch.ids.shape[1]
            own = scored[chosen][:, -width:]
            for row, index in enumerate(chosen):
                columns = own[row].nonzero().flatten().to(logits.device)
                # Of the scored columns alone: logits at padding may be anything.
                before = logits[row, columns - 1].float()
                model.check_finite(before)
                picked = before.gather(1, batch.ids[row, columns].to(before.device).unsqueeze(1))
                nats = before.logsumexp(-1) - picked.squeeze(1)
                loss[index] = float(nats.double().sum())
    return loss, scored.sum(1).numpy().astype(np.float64)


def _beside_random(
    found: xr.Dataset, sums: Mapping[str, Sequence[np.ndarray]], n: Float[np.ndarray, " text"]
) -> xr.Dataset:
    """Adds the change that each random vector makes, and whether the direction leaves its range.

    Args:
        found: of one set of texts.
        sums: losses of each edit of a condition, summed within texts.
        n: scored tokens of each text.
    """
    if "random added" not in sums:
        return found
    edits = ["ablated", "added"]
    plain = sums["plain"][0].sum() / n.sum()
    random = np.stack(
        [[own.sum() / n.sum() - plain for own in sums[f"random {edit}"]] for edit in edits]
    )
    own = found["change"].values[[list(sums).index(edit) for edit in edits]]
    return found.assign(
        random_change=(("edit", "control"), random, UNITS),
        outside=("edit", is_outside(own, random)),
        p_value=("edit", rank_p_value(own, random), {"units": "two-sided, by rank"}),
    ).assign_coords(edit=edits, control=list(range(1, random.shape[1] + 1)))


def _summed(
    loss: Float[np.ndarray, "condition text"],
    n: Float[np.ndarray, " text"],
    confidence: float,
    seed: int,
) -> xr.Dataset:
    """Means over tokens, their change from the first condition, and intervals over texts."""
    variables: dict[str, Any] = {}
    for name, sums in {"loss": loss, "change": loss - loss[:1]}.items():
        mean = sums.sum(1) / n.sum()
        # Texts are drawn whole, so the mean is a ratio of two sums that are drawn together. Its
        # linearisation has one number per text, whose mean is the ratio and whose spread its error.
        linear = mean[:, None] + (sums - mean[:, None] * n) / n.mean()
        low, high = bootstrap_interval(linear, confidence, seed=seed)
        variables[name] = ("condition", mean, UNITS)
        variables[f"{name}_interval"] = (("condition", "bound"), np.stack([low, high], -1), UNITS)
        variables[f"{name}_by_text"] = (("condition", "text"), sums / n, UNITS)
    made = xr.Dataset(variables, {"bound": ["low", "high"]})
    made["perplexity"] = xr.DataArray(np.exp(made["loss"]), attrs={"units": "exp(nats per token)"})
    made["perplexity_interval"] = np.exp(made["loss_interval"])
    made["n_tokens"] = ("text", n.astype(np.int64), {"units": "tokens"})
    return made
