"""Control directions: vectors that carry no signal, beside which an effect is read.

Any vector of some length moves a model. What a direction does says something about the direction
where it leaves the range of what vectors without meaning do at the same place. Controls of one kind
are drawn alike, and ranks are among them; those of two kinds are not, so `beside` asks each kind.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from workbench.activations import Activations
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError

Kind = Literal["isotropic", "covariance", "permuted"]
KINDS: tuple[Kind, ...] = ("isotropic", "covariance", "permuted")
FEWEST_RANDOM = 20
"""Of which a vector without meaning leaves the range in a tenth of cases."""
FEWEST = 8
"""Prompts of each label from which a spread is taken; of fewer it has too few dimensions."""

_NOISE = 1e-6
"""Prompts that spread less than this share of their size all have one activation, but for noise."""


@checked
def control_directions(
    direction: Directions,
    activations: Activations | Sequence[Activations] | None = None,
    *,
    kinds: Sequence[Kind] = ("isotropic",),
    n: int = 20,
    n_shuffled: int | None = None,
    seed: int = 0,
) -> Directions:
    """Directions without signal, at every layer and position of a given one.

    ``isotropic``: every orientation is as likely, at the length of the direction there.

    ``covariance``: drawn from a normal distribution with the covariance that activations have
    within labels, at the same length. A stream varies in few of its dimensions, and what points
    there is read more.

    ``permuted``: what the difference of means gives where labels say nothing, at the length that it
    then has. Labels are shuffled among what is left of the activations without the mean of their
    label. Shuffled among the activations themselves they keep a part of the signal, since harmful
    prompts rarely fall half to either side; and at the length of the direction they would mostly
    repeat ``covariance``. Such a vector is short, so that adding it does little: it shows how much
    of a direction the noise of its estimate could be.

    Args:
        direction: one name; its places and lengths are those of the controls.
        activations: per prompt, of one or of several sets, at all of these places: the last two
            kinds need them, and ``permuted`` those of two labels.
        kinds: which.
        n: how many of each kind.
        n_shuffled: how many prompts ``permuted`` takes for those of the first label in the
            alphabet, beside as many for the other as have it; by default as many as have either. A
            direction of few prompts has more noise.
        seed: of the draws. A control is the same however many follow it.

    Returns:
        Directions named ``isotropic 1``, ``isotropic 2`` and so on; `control_kinds` reads names.

    Raises:
        AxisError: several names, a kind twice, none or unknown, or activations of another place or
            width.
        StudyError: no activations where a kind needs them, means, fewer than eight prompts of a
            label, another number of labels than two to permute, or prompts that do not differ.

    >>> r = Directions.from_vector([3.0, 4.0], layer=2)
    >>> [round(length, 6) for length in control_directions(r, n=2).norms.flatten().tolist()]
    [5.0, 5.0]
    """
    _check_kinds(kinds)
    if n_shuffled is not None and "permuted" not in kinds:
        raise StudyError("n_shuffled= is for kinds=['permuted']: leave it out.")
    if len(direction.names) != 1:
        raise AxisError(
            f"controls are of one direction, found {', '.join(direction.names)}. Choose with "
            ".at(name=…)."
        )
    if n < 1:
        raise StudyError(f"n must be at least 1, found {n}.")
    rows: Spread | None = None
    if set(kinds) - {"isotropic"}:
        rows = Spread.of(direction, activations)
    drawn = []
    for kind in kinds:
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        if kind == "isotropic":
            found = rng.standard_normal((n, *direction.values.shape[1:]))
        else:
            assert rows is not None
            found = rows.drawn(kind, n, rng, n_shuffled)
        drawn.append(found if kind == "permuted" else _at_length(found, direction))
    return Directions(
        torch.from_numpy(np.concatenate(drawn)).to(direction.values),
        tuple(f"{kind} {row + 1}" for kind in kinds for row in range(n)),
        direction.layers,
        direction.positions,
        direction.site,
        {
            **direction.provenance,
            "control_of": direction.names[0],
            "control_kinds": list(kinds),
            "control_seed": seed,
        },
    )


def check_random(n: int) -> None:
    """Refuses so few random vectors that their range says little.

    Raises:
        StudyError: fewer than 20, and not none.
    """
    if n != 0 and n < FEWEST_RANDOM:
        raise StudyError(
            f"n_random must be 0 or at least {FEWEST_RANDOM}, found {n}: a vector without meaning "
            "leaves the range of fewer too often."
        )


def random_vectors(direction: Directions, n: int, seed: int) -> list[Directions]:
    """Vectors of any orientation, at the place of one direction and as long: none if n is 0."""
    if not n:
        return []
    found = control_directions(direction, n=n, seed=seed)
    return [found.at(name=name) for name in found.names]


def control_kinds(controls: Directions) -> list[str]:
    """The kind of each control, by its name."""
    return [name.rpartition(" ")[0] for name in controls.names]


class Spread:
    """Activations of single prompts without the mean of their label, at a direction's places.

    Attributes:
        values: [prompt layer position d_model], float64.
        labels: of the prompts.
    """

    def __init__(
        self, values: Float[np.ndarray, "prompt layer position d_model"], labels: np.ndarray
    ):
        self.values, self.labels = values, labels

    @classmethod
    def of(
        cls, direction: Directions, activations: Activations | Sequence[Activations] | None
    ) -> "Spread":
        """What is left of activations at all places of a direction.

        Raises:
            WorkbenchError: as `control_directions`.
        """
        if activations is None:
            raise StudyError(
                "controls like activations need activations. Pass what collect_activations gives "
                "with per_prompt=True, or kinds=['isotropic']."
            )
        sets = [activations] if isinstance(activations, Activations) else list(activations)
        for each in sets:
            _check_set(direction, each)
        values = np.concatenate([_placed(direction, each) for each in sets])
        labels = np.array([label for each in sets for label in each.labels])
        size = np.abs(values).max(axis=(0, -1))
        for label in sorted({*labels.tolist()}):
            own = labels == label
            if own.sum() < FEWEST:
                raise StudyError(
                    f"{own.sum()} prompts are labelled {label!r}: the spread of activations takes "
                    f"at least {FEWEST} of each label. Pass more, or kinds=['isotropic']."
                )
            values[own] -= values[own].mean(0)
        flat = np.abs(values).max(axis=(0, -1)) <= _NOISE * size
        meant = ~direction.degenerate[0].cpu().numpy()
        if (flat & meant).any():
            layer, position = np.argwhere(flat & meant)[0].tolist()
            raise StudyError(
                f"at layer {direction.layers[layer]}, position {direction.positions[position]} all "
                "prompts of a label have one activation, so nothing can be drawn from their "
                "spread. Choose another place, or kinds=['isotropic']."
            )
        return cls(values, labels)

    def drawn(
        self, kind: Kind, n: int, rng: np.random.Generator, n_shuffled: int | None = None
    ) -> Float[np.ndarray, "control layer position d_model"]:
        """Weighted sums of prompts; the weights of a control are the same at all places."""
        if kind == "covariance":
            # A sum with normal weights has the covariance of what is summed.
            weights = rng.standard_normal((n, len(self.values)))
        else:
            present = sorted({*self.labels.tolist()})
            if len(present) != 2:
                raise StudyError(
                    f"labels are permuted between two, found {', '.join(map(repr, present))}. "
                    "Pass activations of harmful and of harmless prompts."
                )
            sizes = [int((self.labels == label).sum()) for label in present]
            n_first = sizes[0] if n_shuffled is None else n_shuffled
            if not 1 <= n_first <= sizes[0]:
                raise StudyError(
                    f"n_shuffled must be from 1 to {sizes[0]}, the prompts labelled "
                    f"{present[0]!r}, found {n_first}."
                )
            signed = np.zeros(len(self.labels))
            signed[:n_first], signed[n_first : n_first + sizes[1]] = 1 / n_first, -1 / sizes[1]
            weights = np.stack([rng.permutation(signed) for _ in range(n)])
        return np.einsum("cr,rlpd->clpd", weights, self.values, optimize=True)


def _check_kinds(kinds: Sequence[str]) -> None:
    known = ", ".join(KINDS)
    if isinstance(kinds, str):
        raise AxisError(f"kinds are a list of {known}, found {kinds!r}. Pass kinds=['isotropic'].")
    for kind in kinds:
        if kind not in KINDS:
            raise AxisError(f"no kind {kind!r}: {known}.")
    if not kinds or len({*kinds}) < len(kinds):
        raise AxisError(f"kinds are {known}, each at most once, found {list(kinds)}.")


def _check_set(direction: Directions, activations: Activations) -> None:
    """Refuses means, and activations of another place, width or model."""
    if not activations.per_prompt:
        raise StudyError(
            "controls like activations need single prompts: collect with per_prompt=True."
        )
    if activations.site != direction.site:
        raise AxisError(
            f"the direction was read at {direction.site}, the activations at {activations.site}."
        )
    if activations.values.shape[-1] != direction.d_model:
        raise AxisError(
            f"the direction is {direction.d_model} wide, the activations "
            f"{activations.values.shape[-1]}: they come from different models."
        )


def _placed(direction: Directions, activations: Activations) -> np.ndarray:
    """Activations at the places of a direction, in float64.

    Raises:
        AxisError: one of them was not collected.
    """
    columns = [
        torch.stack([activations.at(layer, position) for position in direction.positions], 1)
        for layer in direction.layers
    ]
    return torch.stack(columns, 1).double().cpu().numpy()


def _at_length(drawn: Any, direction: Directions) -> Any:
    """Vectors at the length of the direction; nothing where that has none but rounding."""
    lengths = np.linalg.norm(drawn, axis=-1, keepdims=True)
    norms = direction.norms[0].double().cpu().numpy()[None, ..., None]
    # Where there is no spread there is no direction either.
    return drawn / np.maximum(lengths, np.finfo(float).tiny) * norms
