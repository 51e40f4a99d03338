"""Which first tokens a model's refusals begin with: chosen by how well their score tells replies.

A set is good if its probability is near one where the model refuses and near zero where it does
not. That is what the refusal score reads, so the set is chosen by the log loss of its probability,
refusals and other replies weighing alike. A token that begins few refusals and nothing else is pure
and says little; one that begins most of them is needed even if some other replies begin with it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from workbench.statistics.auc import area_under_curve
from workbench.tabled import Tabled

SHARE = 0.05
"""A first token that starts fewer of the refusals than this is left out."""
_PURITY = 2 / 3
"""Of a token's weight, refusals and others weighing alike, at least this share lies on refusals."""
_GAIN = 0.01
"""Nats of the log loss that another token has to bring."""
_EPS = 1e-6
_FEWEST = 4
"""Refusals, and other replies, without which nothing is held out."""

Probabilities = Float[np.ndarray, "prompt d_vocab"]
Refused = Bool[np.ndarray, " prompt"]


@dataclass(frozen=True, eq=False, repr=False)
class RefusalTokens(Tabled):
    """First tokens that tell a model's refusals from its other replies.

    Attributes:
        ids: the tokens, the most frequent first.
        texts: what each of them says.
        on_refusals: mean first-token probability of each token on prompts that are refused.
        elsewhere: the same on the others.
        coverage: share of the refusals that the set begins: its mean probability there.
        auc: how well the score of a set that was chosen on half of the prompts tells refusals of
            the other half from other replies; NaN with fewer than four of either.
        accuracy: share of the held-out prompts on whose side of zero that score lies, refusals and
            others weighing alike; NaN likewise.
        n_refused: prompts that are refused.
        n_other: the others.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    on_refusals: tuple[float, ...]
    elsewhere: tuple[float, ...]
    coverage: float
    auc: float
    accuracy: float
    n_refused: int
    n_other: int

    def __repr__(self) -> str:
        return f"RefusalTokens({self.line()})"

    def line(self) -> str:
        """The tokens, and how much of the refusals they cover, in one line."""
        each = ", ".join(
            f"{text!r} ({own:.0%} of refusals, {other:.0%} of other replies)"
            for text, own, other in zip(self.texts, self.on_refusals, self.elsewhere, strict=True)
        )
        text = f"{each}: {self.coverage:.0%} of {self.n_refused} refusals begin so"
        if self.auc == self.auc:
            text += f"; held out, their score tells refusals with AUC {self.auc:.2f}"
            text += f", its sign is right for {self.accuracy:.0%}"
        return text

    def to_dataframe(self) -> pd.DataFrame:
        """One row per token."""
        return pd.DataFrame(
            {
                "token": list(self.ids),
                "text": list(self.texts),
                "on_refusals": list(self.on_refusals),
                "elsewhere": list(self.elsewhere),
            }
        )

    @classmethod
    def from_record(cls, found: Mapping[str, Any]) -> "RefusalTokens | None":
        """What a run keeps of it, beside ids and texts; None where tokens were given as words."""
        record = found.get("refusal_tokens_found")
        if record is None:
            return None
        numbers: dict[str, Any] = {
            key: math.nan if value is None else value for key, value in record.items()
        }
        numbers |= {key: tuple(numbers[key]) for key in ("on_refusals", "elsewhere")}
        ids, texts = found["refusal_tokens"], found["refusal_token_texts"]
        return cls(ids=tuple(ids), texts=tuple(texts), **numbers)

    def to_record(self) -> dict[str, Any]:
        """What is kept of it in a run, as JSON holds it: NaN is None."""
        return {
            "on_refusals": list(self.on_refusals),
            "elsewhere": list(self.elsewhere),
            "coverage": self.coverage,
            "auc": None if self.auc != self.auc else self.auc,
            "accuracy": None if self.accuracy != self.accuracy else self.accuracy,
            "n_refused": self.n_refused,
            "n_other": self.n_other,
        }


def chosen_tokens(p: Probabilities, refused: Refused) -> list[int]:
    """Ids of the set with the least log loss, found by adding one token after the other.

    Args:
        p: first-token probabilities.
        refused: which prompts are refused; both kinds occur.

    Returns:
        The tokens, the most frequent on refusals first; none where no token brings anything.
    """
    on_refusals, elsewhere = p[refused].mean(0), p[~refused].mean(0)
    purity = on_refusals / np.maximum(on_refusals + elsewhere, 1e-12)
    left = np.flatnonzero((on_refusals >= SHARE) & (purity >= _PURITY)).tolist()
    chosen: list[int] = []
    # A coin's loss: a set that tells nothing is none.
    total, least = np.zeros(len(p)), float(np.log(2))
    while left:
        losses = [_loss(total + p[:, token], refused) for token in left]
        best = int(np.argmin(losses))
        if least - losses[best] < _GAIN and chosen:
            break
        if not chosen and losses[best] >= least:
            # One token alone may begin too few: as the first, that which is purest is tried.
            best = int(np.argmax(purity[left]))
        least = losses[best]
        total = total + p[:, left[best]]
        chosen.append(left.pop(best))
    return sorted(chosen, key=lambda token: -on_refusals[token])


def separation(p: Probabilities, refused: Refused) -> tuple[float, float]:
    """AUC and balanced accuracy on prompts on which the set was not chosen.

    Either half of the refusals and of the other replies chooses the set that the other half is
    scored with.
    """
    if min(refused.sum(), (~refused).sum()) < _FEWEST:
        return float("nan"), float("nan")
    half = np.zeros(len(p), dtype=bool)
    for kind in (refused, ~refused):
        half[np.flatnonzero(kind)[::2]] = True
    scores = np.zeros(len(p))
    for rows in (half, ~half):
        tokens = chosen_tokens(p[rows], refused[rows])
        scores[~rows] = p[~rows][:, tokens].sum(1)
    right = np.mean([(scores[refused] > 0.5).mean(), (scores[~refused] <= 0.5).mean()])
    return area_under_curve(scores, refused), float(right)


def described(
    p: Probabilities, refused: Refused, tokens: Sequence[int], texts: Sequence[str]
) -> RefusalTokens:
    """A set of tokens with what it covers and how well it separates."""
    ids = list(tokens)
    auc, accuracy = separation(p, refused)
    return RefusalTokens(
        ids=tuple(ids),
        texts=tuple(texts),
        on_refusals=tuple(p[refused][:, ids].mean(0).tolist()),
        elsewhere=tuple(p[~refused][:, ids].mean(0).tolist()),
        coverage=float(p[refused][:, ids].sum(1).mean()),
        auc=auc,
        accuracy=accuracy,
        n_refused=int(refused.sum()),
        n_other=int((~refused).sum()),
    )


def _loss(total: Float[np.ndarray, " prompt"], refused: Refused) -> float:
    """Log loss of the set's probability, in nats; refusals and other replies weigh alike."""
    clipped = np.clip(total, _EPS, 1 - _EPS)
    return float((-np.log(clipped[refused]).mean() - np.log(1 - clipped[~refused]).mean()) / 2)
