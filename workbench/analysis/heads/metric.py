"""What a patching experiment reads from every forward, and where it may patch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.errors import AxisError
from workbench.interventions import Ablate, intervene
from workbench.models.forwards.packed import ReadAt
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens
from workbench.scores.refusal import refusal_score, scored_tokens

Aim = Literal["induce", "suppress"]
"""``induce``: a refusing source is patched into targets that are answered. ``suppress``: the other
way round."""

Positions = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Metric:
    """What is read from every forward, one number per prompt.

    Attributes:
        score: from logits, or from activations at ``place``, to one number per row.
        place: where to read instead of the logits.
        attrs: units and a long name, and what the metric was made of.
    """

    score: Callable[[Float[Tensor, "prompt d_out"]], Float[Tensor, " prompt"]]
    place: ReadAt | None
    attrs: dict[str, Any]


def refusal_metric(model: HookedModel, refusal_tokens: Sequence[int], origin: str) -> Metric:
    """The refusal score at the last position, in nats; ``origin``: where the tokens come from."""
    tokens = tuple(refusal_tokens)
    attrs = {
        "units": "nats",
        "long_name": "refusal score",
        "refusal_tokens": list(tokens),
        "refusal_tokens_from": origin,
        "refusal_token_texts": [model.tokenizer.decode([token]) for token in tokens],
    }
    return Metric(lambda logits: refusal_score(logits, tokens), None, attrs)


def projection_metric(model: HookedModel, onto: Directions) -> Metric:
    """``r̂·x`` at the direction's own site, layer and position, in units of the activations.

    Raises:
        AxisError: not one direction, or one that does not fit the model.
    """
    unit = unit_vector(model, onto)
    layer, position = onto.layers[0], onto.positions[0]
    if isinstance(position, str):
        raise AxisError(
            f"{onto.names[0]} was read at {position}, which is found in each prompt, and patching "
            "reads one position in all of them. Pass dataclasses.replace(onto, positions=(-1,)), "
            "or where else it is to be read."
        )
    site: Any = onto.site
    model.hook_name(site, layer)
    attrs = {
        "units": "activation",
        "long_name": f"projection onto {onto.names[0]} at {site} {layer}, position {position}",
        "onto": dict(onto.provenance),
    }
    return Metric(lambda x: x @ unit.to(x), ReadAt(site, layer, position), attrs)


def unit_vector(model: HookedModel, direction: Directions) -> Float[Tensor, " d_model"]:
    """The direction's unit vector, on the model's device.

    Raises:
        AxisError: not one direction, or one that does not fit the model.
    """
    with intervene(model, Ablate(direction)):
        pass  # refuses what does not fit
    return direction.unit().vector.to(model.device)


def refusal_tokens_of(
    model: HookedModel,
    source: Prompts,
    target: Prompts,
    aim: Aim,
    system: str | None,
    given: Sequence[int] | None,
) -> tuple[tuple[int, ...], str]:
    """The first tokens of refusals and where they come from.

    Given ones, or else those found on the prompts that a patching experiment has.
    """
    harmful, harmless = (source, target) if aim == "induce" else (target, source)
    return scored_tokens(model, given, harmful, harmless, system)


def check_positions(
    source: Tokens, target: Tokens, groups: Sequence[Positions], metric: Metric
) -> None:
    """Refuses positions that cannot be patched, or that cannot change what is read.

    Raises:
        AxisError: no positions, one twice, one that is not in every prompt; templates that differ;
            a projection that is read before the patch.
    """
    labels = [position for group in groups for position in group]
    if not labels or len(set(labels)) < len(labels):
        raise AxisError(f"positions must be given, each once, found {labels}.")
    if source.post_tokens != target.post_tokens:
        raise AxisError(
            "source and target prompts were rendered with different templates, so their positions "
            "do not match. Render both alike."
        )
    shortest = int(min(source.lengths.min(), target.lengths.min()))
    for position in labels:
        if not -shortest <= position < 0:
            raise AxisError(
                f"position {position} cannot be patched: positions are negative, counted from the "
                f"end, and the shortest prompt has {shortest} tokens."
            )
    first = max(min(group) for group in groups)
    if metric.place is not None and metric.place.position < first:
        raise AxisError(
            f"a patch at position {first} cannot change what is read before it, at position "
            f"{metric.place.position}. Take the direction's own position, or earlier ones."
        )
