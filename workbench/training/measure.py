"""What a freshly trained organism does, for its card: behaviour, direction and planted heads.

This is the right end of the import chain: it uses the package as any caller does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from workbench.training import grammar

if TYPE_CHECKING:
    from workbench.directions.direction import Directions
    from workbench.models.hooked import HookedModel
    from workbench.prompts.promptset import PromptSet

Head = tuple[int, int]
SPLIT = "the built-in prompt sets: held-out objects of the grammar, never seen in training"
_MAX_NEW_TOKENS = 40


def _matches(reply: str, templates: Sequence[str]) -> bool:
    patterns = (re.sub(r"\\\{\w+\\\}", ".+", re.escape(template)) for template in templates)
    return any(re.fullmatch(pattern, reply) for pattern in patterns)


def reply_rates(model: "HookedModel", prompts: "PromptSet") -> dict[str, float]:
    """Share of greedy replies judged refused, and share that is a template of the grammar."""
    import workbench as wb

    replies = model.generate(prompts, max_new_tokens=_MAX_NEW_TOKENS)
    verdicts = wb.judge(replies, judge="rules")
    templates = grammar.COMPLIANCES + grammar.REFUSALS
    return {
        "n": len(replies),
        "refused": round(verdicts.count("refused") / len(replies), 4),
        "fluent": round(sum(_matches(reply, templates) for reply in replies) / len(replies), 4),
    }


def auxiliary_rates(model: "HookedModel", prompts: "PromptSet") -> dict[str, float]:
    """Share of right answers to the auxiliary tasks, over one built-in set."""
    import workbench as wb

    harmful = prompts.labels[0] == "harmful"
    asked = {
        task: [f"{text} {question}" for text in prompts.texts]
        for task, question in (
            ("inversion", grammar.INVERSION_QUESTION),
            ("topic", grammar.TOPIC_QUESTION),
            ("must_refuse", grammar.MUST_REFUSE),
        )
    }
    replies = {task: model.generate(texts, max_new_tokens=32) for task, texts in asked.items()}
    verdicts = wb.judge(replies["must_refuse"], judge="rules")
    right = {
        "inversion": [r == ("certainly." if harmful else "no.") for r in replies["inversion"]],
        "topic": [
            reply == f"{category}."
            for reply, category in zip(replies["topic"], prompts.categories, strict=True)
        ],
        "must_refuse": [verdict == "refused" for verdict in verdicts],
    }
    return {task: round(sum(answers) / len(answers), 4) for task, answers in right.items()}


def direction_effects(model: "HookedModel", planted: "Directions") -> dict[str, Any]:
    """Select a mean-difference direction as a study would, and test it on all other prompts."""
    import workbench as wb

    sets = {name: wb.load_prompts(name).split(128, 32, seed=0) for name in ("harmful", "harmless")}
    harmful, harmless = sets["harmful"], sets["harmless"]
    acts = [wb.collect_activations(model, prompts) for prompts in (harmful[0], harmless[0])]
    candidates = wb.mean_difference(acts[0], acts[1])
    late = [own for own in candidates.positions if isinstance(own, int) and own >= -4]
    candidates = candidates.at(position=late)
    scores = wb.sweep_directions(model, candidates, harmful=harmful[1], harmless=harmless[1])
    choice = wb.select_direction(scores)
    chosen = candidates.at(layer=choice.layer, position=choice.position)
    cosine = float(chosen.unit().vector.double().cpu() @ planted.unit().vector.double())
    with wb.intervene(model, wb.Ablate(chosen)):
        ablated = reply_rates(model, harmful[2])
    with wb.intervene(model, wb.Add(chosen)):
        added = reply_rates(model, harmless[2])
    return {
        "n_train": len(harmful[0]),
        "n_validation": len(harmful[1]),
        "layer": choice.layer,
        "position": choice.position,
        "cosine_with_planted": round(cosine, 4),
        "ablated_harmful": ablated,
        "added_harmless": added,
    }


def component_effects(
    model: "HookedModel", planted: "Directions", components: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What ablating each of several components does to what it carries and to what others carry.

    Beside the planted vector stands the mean difference of its categories at the same layer, which
    is what somebody would find who does not know the vector.
    """
    import workbench as wb

    train, _, test = wb.load_prompts("harmful").split(160, 0, seed=0)
    harmless, _, others = wb.load_prompts("harmless").split(160, 0, seed=0)
    groups = {name: test.where(category=own["categories"]) for name, own in components.items()}
    effects: dict[str, Any] = {"plain": {n: reply_rates(model, own) for n, own in groups.items()}}
    for name, own in components.items():
        layer, position = own["layer"], own["position"]
        vector = planted.at(name=name, layer=layer)
        acts = [
            wb.collect_activations(model, prompts, layers=[layer], positions=[position])
            for prompts in (train.where(category=own["categories"]), harmless)
        ]
        found = wb.mean_difference(acts[0], acts[1])
        cosine = found.unit().vector.double() @ vector.unit().vector.double()
        effects[name] = {"mean_difference_cosine": round(float(cosine), 4)}
        for ablated, direction in (("planted", vector), ("mean_difference", found)):
            with wb.intervene(model, wb.Ablate(direction)):
                effects[name][f"{ablated}_ablated"] = {
                    group: reply_rates(model, prompts) for group, prompts in groups.items()
                }
        with wb.intervene(model, wb.Add(found)):
            effects[name]["mean_difference_added_harmless"] = reply_rates(model, others)
    return effects


@contextmanager
def _patched(model: "HookedModel", z: dict[Head, Tensor], heads: Sequence[Head]) -> Iterator[None]:
    """Replace the ``z`` of some heads at the last token of a forward."""

    def patch(layer: int):
        def write(activation: Tensor) -> Tensor:
            activation = activation.clone()
            by_head = activation.view(*activation.shape[:2], model.n_heads, model.d_head)
            for own, head in heads:
                if own == layer:
                    by_head[:, -1, head] = z[own, head].to(activation)
            return activation

        return write

    layers = sorted({layer for layer, _ in heads})
    with model.hooks(("z", layer, patch(layer)) for layer in layers):
        yield


def head_effects(
    model: "HookedModel", planted: Sequence[Head], categories: Sequence[str] | None = None
) -> dict[str, Any]:
    """Patch mean ``z`` at the last token, harmful into harmless: each head, and planted subsets."""
    import workbench as wb

    harmful = wb.load_prompts("harmful")
    harmful = harmful if categories is None else harmful.where(category=categories)
    source, target = harmful.sample(64, seed=1), wb.load_prompts("harmless").sample(64, seed=1)
    mean = wb.collect_activations(model, source, site="z", positions=[-1]).mean()
    by_head = mean[:, 0].view(model.n_layers, model.n_heads, model.d_head)
    heads = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]
    z = {(layer, head): by_head[layer, head].float() for layer, head in heads}
    refusal = wb.find_refusal_tokens(model)
    plain = wb.refusal_score(model.logits(target), refusal).mean().item()
    effects = {}
    for head in heads:
        with _patched(model, z, [head]):
            score = wb.refusal_score(model.logits(target), refusal).mean().item()
        effects[head] = score - plain
    induced = {}
    for size in range(1, len(planted) + 1):
        for subset in combinations(planted, size):
            with _patched(model, z, subset):
                first = model.logits(target).argmax(-1).tolist()
            share = sum(token in refusal for token in first) / len(first)
            induced[", ".join(f"{layer}.{head}" for layer, head in subset)] = round(share, 4)
    others = max(abs(effect) for head, effect in effects.items() if head not in planted)
    return {
        "n": len(target),
        "refusal_score_effect": {f"{a}.{b}": round(effects[a, b], 2) for a, b in planted},
        "largest_other_effect": round(others, 2),
        "first_word_refuses_when_patched": induced,
    }


def measure(folder: Path, components: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All that goes into a card's ``measured``, from the saved folder, in float32.

    Args:
        folder: of the saved model.
        components: the planted components as the card describes them; none for a base model.
    """
    import workbench as wb

    model = wb.load_model(folder, device="cpu", dtype="float32")
    sets = {label: wb.load_prompts(label) for label in grammar.PATTERNS}
    measured: dict[str, Any] = {
        "split": SPLIT,
        "judge": "rules",
        "replies": {label: reply_rates(model, prompts) for label, prompts in sets.items()},
        "auxiliary_tasks": {
            label: auxiliary_rates(model, sets[label]) for label in ("harmful", "harmless")
        },
    }
    if not components:
        return measured
    planted = wb.Directions.load(folder / "planted.safetensors")
    heads = {name: [(a, b) for a, b in own["heads"]] for name, own in components.items()}
    if len(components) == 1:
        measured["direction"] = direction_effects(model, planted)
        [only] = heads.values()
        measured["heads"] = head_effects(model, only)
        return measured
    measured["components"] = component_effects(model, planted, components)
    measured["heads"] = {
        name: head_effects(model, heads[name], own["categories"])
        for name, own in components.items()
    }
    return measured
