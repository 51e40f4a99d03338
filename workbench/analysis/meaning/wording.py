"""The wording of refusals: clusters of replies, and whether they go with harm categories."""

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int
from sklearn.feature_extraction.text import TfidfVectorizer

from workbench.analysis.meaning.clusters import Clusters
from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.models.thinking import answer_after_thinking
from workbench.statistics.association import association

GAP = "\N{HORIZONTAL ELLIPSIS}"
"""Stands in a reply for words that it owes to its own prompt."""

_STRUCTURE = 0.25
"""Below this silhouette there is no structure to speak of (Kaufman and Rousseeuw 1990)."""
_NEAR = 0.95
"""Silhouettes from this share of the best on are as good, and the fewest clusters are taken."""
_LIKELY = 0.01
"""First tokens that no reply gives this probability tell nothing apart."""
_CORRECTED = "p-value of the residual, corrected over cells by the largest of shuffled tables"
_FEW, _RARE = 2, 0.02
"""A word of fewer refusals, or of a smaller share of them, is nobody's way of refusing."""


@checked
def cluster_refusals(
    replies: pd.DataFrame,
    *,
    k: int | None = None,
    condition: str | None = "plain",
    first_tokens: Float[np.ndarray, "reply d_vocab"] | None = None,
    largest_k: int = 8,
    n_bootstrap: int = 50,
    n_terms: int = 6,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Groups refused replies by how they are worded.

    Words that a reply owes to its own prompt are left out, or clusters would be topics: a word
    counts only if at least two refusals, and 2 % of all, use it without being prompted to, or if
    most prompts hold it. Thinking blocks do not count. What is left is weighted by TF-IDF, words
    and pairs of them, and clustered by k-means.

    Args:
        replies: rows as `collect_completions` returns them; ``reply``, ``verdict``,
            ``category`` and ``prompt`` are read.
        k: how many clusters. By default the fewest whose silhouette comes within 5 % of the best,
            or one where the best is below 0.25, which is no structure.
        condition: only replies under this condition; None for all.
        first_tokens: the model's probabilities of the first token of each reply, a row for each
            row of ``replies``; weighs as much as the text.
        largest_k: largest number that is tried.
        n_bootstrap: resamples behind each stability.
        n_terms: how many typical terms of each cluster.
        confidence: of the intervals.
        seed: of the clusters and the resamples.

    Returns:
        Dataset. By ``reply``: ``cluster_of``, its text and its category. By ``cluster``, the
        largest first, numbered from 1: ``size``, ``term`` (…, term_rank), most typical first,
        ``representative``, the reply nearest to the centre, and ``wording``, the same with gaps for
        what it owes to its prompt. By ``k``: ``silhouette``, and
        ``stability``, the mean adjusted Rand index between the clusters and those found on
        resampled replies, with its interval. Over (cluster, category): ``count`` and ``residual``,
        the adjusted Pearson residual, with ``residual_p``, corrected over cells. ``chi_square``,
        ``p_value``, ``cramers_v`` and its interval: see `association`.

    Raises:
        StudyError: nothing was refused; k is larger than the number of different wordings; columns
            are absent; ``first_tokens`` has other rows.
    """
    table = _refused(replies, condition)
    if first_tokens is not None:
        if len(first_tokens) != len(replies):
            raise StudyError(
                f"{len(first_tokens)} rows of first_tokens for {len(replies)} replies: expected "
                "as many, in the same order."
            )
        first_tokens = first_tokens[table["row"].to_numpy()]
    tokens = _own_words(table["reply"].tolist(), table["prompt"].tolist())
    terms, text = _features(tokens)
    features = text if first_tokens is None else np.hstack([text, _likely(first_tokens)])
    wordings, which = np.unique(features.round(9), axis=0, return_inverse=True)
    clusters = Clusters(wordings, which.ravel(), seed)
    if k is not None and not 1 <= k <= len(wordings):
        raise StudyError(
            f"k={k} clusters cannot be made of {len(wordings)} different wordings in {len(table)} "
            f"refused replies. Pass k from 1 to {len(wordings)}, or leave it out."
        )
    tried = list(range(2, min(largest_k, len(wordings), len(table) - 1) + 1))
    quality = {each: clusters.silhouette(each) for each in tried}
    chosen = _best(quality) if k is None else k
    tail = (1 - confidence) / 2
    stability = [clusters.stability(each, n_bootstrap) for each in tried]
    ends = [np.quantile(each, [tail, 1 - tail]) for each in stability]
    cluster = clusters.labels(chosen)
    texts = table["reply"].to_numpy(dtype=object)
    typical = clusters.representatives(chosen)
    numbers = range(1, chosen + 1)
    categories = sorted(set(table["category"]))
    counts = np.array(
        [
            [((cluster == number) & (table["category"] == each)).sum() for each in categories]
            for number in numbers
        ]
    )
    found = association(counts, confidence, seed=seed)
    cells = ("cluster", "category")
    variables: dict[str, Any] = {
        "cluster_of": ("reply", cluster),
        "size": ("cluster", counts.sum(axis=1), {"units": "replies"}),
        "term": (("cluster", "term_rank"), _typical(text, terms, cluster, chosen, n_terms)),
        "representative": ("cluster", texts[typical]),
        "wording": ("cluster", np.array([" ".join(tokens[row]) for row in typical], dtype=object)),
        "silhouette": ("k", [quality[each] for each in tried], {"units": "1"}),
        "stability": ("k", [each.mean() for each in stability], {"units": "adjusted Rand index"}),
        "stability_interval": (("k", "bound"), np.array(ends).reshape(-1, 2)),
        "count": (cells, counts, {"units": "replies"}),
        "residual": (cells, found.residuals, {"units": "standard deviations"}),
        "residual_p": (cells, found.residual_p, {"units": "share", "long_name": _CORRECTED}),
        "chi_square": ((), found.chi_square),
        "p_value": ((), found.p_value),
        "cramers_v": ((), found.cramers_v, {"units": "1"}),
        "cramers_v_interval": ("bound", list(found.interval), {"units": "1"}),
    }
    return xr.Dataset(
        variables,
        coords={
            "cluster": list(numbers),
            "category": categories,
            "k": tried,
            "bound": ["low", "high"],
            "reply_text": ("reply", texts),
            "reply_category": ("reply", table["category"].to_numpy(dtype=object)),
        },
        attrs={
            "k": chosen,
            "k_chosen_by": "the caller" if k is not None else "silhouette",
            "n": len(table),
            "n_replies": table.attrs["n_replies"],
            "n_wordings": len(wordings),
            "condition": condition or "all",
            "features": "words and pairs" + ("" if first_tokens is None else ", first tokens"),
            "confidence": confidence,
            "interval": "stability: bootstrap over replies; Cramér's V: simulated tables",
            "seed": seed,
        },
    )


def _refused(replies: pd.DataFrame, condition: str | None) -> pd.DataFrame:
    """The refused replies under a condition, and in ``row`` where they stood."""
    wanted = ["reply", "verdict", "category", "prompt", *(["condition"] if condition else [])]
    if missing := [column for column in wanted if column not in replies]:
        raise StudyError(
            f"these replies have no column {missing[0]!r}: expected rows as "
            "collect_completions returns them."
        )
    table = replies.assign(row=np.arange(len(replies)))
    where = ""
    if condition:
        known = ", ".join(dict.fromkeys(map(str, table["condition"])))
        where = f" under condition {condition!r} (conditions: {known or 'none'})"
        table = table.loc[table["condition"] == condition]
    refused = table.loc[table["verdict"] == "refused"].reset_index(drop=True)
    if refused.empty:
        raise StudyError(
            f"none of {len(table)} replies{where} was refused, so there is no wording to compare."
        )
    # How a model refuses is what it says, not what it thinks before.
    refused["reply"] = [_answer(reply) for reply in refused["reply"]]
    refused.attrs["n_replies"] = len(table)
    return refused


def _answer(reply: str) -> str:
    """What stands after a reply's thinking, and a reply that does not think as it is."""
    answer = answer_after_thinking(reply)
    return reply if answer is None or answer == reply else answer.strip()


def _best(quality: Mapping[int, float]) -> int:
    """The fewest clusters that come near the best silhouette, one where none has structure.

    Fixed phrases score a little higher with every cluster, up to one for each of them.
    """
    best = max(quality.values(), default=0.0)
    if best < _STRUCTURE:
        return 1
    return min(k for k, value in quality.items() if value >= _NEAR * best)


def _words(text: str) -> list[str]:
    """Lower-case words, apostrophes inside them kept."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub("[\u2018\u2019\u02bc\u00b4`]", "'", text)
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)


def _own_words(replies: Sequence[str], prompts: Sequence[str]) -> list[list[str]]:
    """The words of each reply, with a gap for what only prompts bring in."""
    said = [_words(reply) for reply in replies]
    prompted = [set(_words(prompt)) for prompt in prompts]
    unprompted = Counter(
        word for words, theirs in zip(said, prompted, strict=True) for word in {*words} - theirs
    )
    # What most prompts hold, such as "how" and "i", is nobody's topic.
    common = Counter(word for theirs in prompted for word in theirs)
    least = max(min(_FEW, len(replies)), math.ceil(_RARE * len(replies)))
    kept = {word for word, n in unprompted.items() if n >= least}
    kept |= {word for word, n in common.items() if n > len(replies) / 2}
    return [
        _without_copies(words, theirs, kept) for words, theirs in zip(said, prompted, strict=True)
    ]


def _without_copies(words: list[str], prompted: set[str], kept: set[str]) -> list[str]:
    """One reply with gaps; a run of prompted words goes as a whole, "an" of "an old bomb" too."""
    found: list[str] = []
    for copied, run in itertools.groupby(words, key=lambda word: word in prompted):
        own = list(run)
        if copied and not kept.issuperset(own):
            own = [GAP]
        found += [word if word in kept else GAP for word in own]
    return [word for word, _ in itertools.groupby(found)]


def _features(tokens: list[list[str]]) -> tuple[list[str], Float[np.ndarray, "reply term"]]:
    """Terms, and their TF-IDF in each reply."""

    def grams(words: list[str]) -> list[str]:
        pairs = [" ".join(pair) for pair in itertools.pairwise(words)]
        return [word for word in words if word != GAP] + pairs

    if not any(grams(words) for words in tokens):
        return [], np.zeros((len(tokens), 1))
    analyzer: Any = grams  # any callable will do; the stubs know only the names
    vectorizer = TfidfVectorizer(analyzer=analyzer)
    weights = vectorizer.fit_transform(tokens).toarray()
    return list(vectorizer.get_feature_names_out()), np.asarray(weights)


def _likely(first_tokens: Float[np.ndarray, "reply d_vocab"]) -> Float[np.ndarray, "reply token"]:
    """Square roots of the probabilities that matter: their distance is Hellinger's."""
    return np.sqrt(first_tokens[:, first_tokens.max(axis=0) >= _LIKELY].astype(np.float64))


def _typical(
    weights: Float[np.ndarray, "reply term"],
    terms: list[str],
    cluster: Int[np.ndarray, " reply"],
    k: int,
    n_terms: int,
) -> np.ndarray:
    """The terms that a cluster uses more than the others do; all of its own where it is alone."""
    table = np.full((k, n_terms), "", dtype=object)
    for row in range(k):
        own = cluster == row + 1
        excess = weights[own].mean(axis=0) - (weights[~own].mean(axis=0) if k > 1 else 0)
        ranked = [terms[index] for index in np.argsort(-excess, kind="stable") if excess[index] > 0]
        # A word says nothing beside a pair that holds it.
        said: list[str] = []
        for term in ranked:
            if not any({*term.split()} <= {*other.split()} for other in said):
                said = [other for other in said if not {*other.split()} <= {*term.split()}]
                said.append(term)
        table[row, : len(said[:n_terms])] = said[:n_terms]
    return table
