"""What control directions do where a direction is credited with an effect: scores and replies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from workbench.activations import collect_activations
from workbench.analysis.selection.controls import control_kinds
from workbench.analysis.selection.edits import score_edits
from workbench.analysis.selection.forwards import candidate_logits
from workbench.directions.direction import Directions
from workbench.interventions import Ablate, Add, Intervention, SetProjection, intervene
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens
from workbench.progress import track
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import Judge
from workbench.scores.judges import judge as judge_replies
from workbench.scores.refusal import kl_divergence
from workbench.statistics.ranks import beside

CONDITIONS = ("ablated", "added", "projection set")
_CELL = ("prompt_set", "condition")


class Edits:
    """What is done with a direction and each control, alike in what is moved and how far.

    Ablating takes out a component, adding adds a vector of one length. With the projection set, the
    prompts of a set move as far on average as along the direction: setting both to one value would
    move prompts by far more along a control, on which they lie elsewhere.
    """

    def __init__(
        self,
        model: HookedModel,
        direction: Directions,
        controls: Directions,
        prompt_sets: Mapping[str, PromptSet],
        projection: float,
        system: str | None,
    ):
        self.direction, self.controls, self.projection = direction, controls, projection
        self._means = {
            name: collect_activations(
                model,
                prompts,
                site=direction.site,  # pyright: ignore[reportArgumentType]
                layers=direction.layers,
                positions=direction.positions,
                system=system,
            ).mean()[0, 0]
            for name, prompts in prompt_sets.items()
        }

    def of(self, condition: str, prompt_set: str, control: str | None) -> Intervention:
        """One edit, with a control of this name or, with None, with the direction itself."""
        vector = self.direction if control is None else self.controls.at(name=control)
        if condition == "ablated":
            return Ablate(vector)
        if condition == "added":
            return Add(vector)
        value = self.projection
        if control is not None:
            mean = self._means[prompt_set]
            moved = value - float(mean @ self.direction.unit().vector.double().cpu())
            value = moved + float(mean @ vector.unit().vector.double().cpu())
        return SetProjection(vector, value)


def score_controls(
    model: HookedModel,
    edits: Edits,
    prompt_sets: Mapping[str, PromptSet],
    rows: Mapping[str, Tokens],
    refusal_tokens: Sequence[int],
) -> xr.Dataset:
    """Refusal scores with a direction, and with each control, ablated, added and set.

    Args:
        model: the model.
        edits: of the direction and its controls.
        prompt_sets: by name.
        rows: the same prompts, up to where answers are scored.
        refusal_tokens: ids of the first tokens of refusals.

    Returns:
        Dataset over (prompt_set, condition): ``score`` of the direction, ``control_score``
        (…, control), ``plain_score`` (prompt_set); ``effect`` and ``control_effect``, what each
        adds to the plain score; ``outside``, whether the direction leaves the range of every kind
        of controls, and ``p_value``, two-sided by rank, the largest over kinds. All scores by
        prompt, too.
    """
    names = [None, *edits.controls.names]
    plain, changed = [], []
    for kind, tokens in rows.items():
        every = [edits.of(condition, kind, name) for condition in CONDITIONS for name in names]
        without, *scores = score_edits(
            model, tokens, [None, *every], refusal_tokens, "measuring controls"
        )
        plain.append(without)
        changed.append(np.stack(scores).reshape(len(CONDITIONS), len(names), -1))
    by_prompt = np.concatenate(changed, axis=-1)
    sizes = [len(each) for each in plain]
    nats = {"units": "nats"}
    found = xr.Dataset(
        {
            "plain_by_prompt": ("prompt", np.concatenate(plain), nats),
            "score_by_prompt": (("condition", "prompt"), by_prompt[:, 0], nats),
            "control_score_by_prompt": (
                ("condition", "control", "prompt"),
                by_prompt[:, 1:],
                nats,
            ),
            "plain_score": ("prompt_set", [each.mean() for each in plain], nats),
            "score": (_CELL, np.stack([each[:, 0].mean(-1) for each in changed]), nats),
            "control_score": (
                ("prompt_set", "condition", "control"),
                np.stack([each[:, 1:].mean(-1) for each in changed]),
                nats,
            ),
            "n": ("prompt_set", sizes, {"units": "prompts"}),
        },
        coords={
            "prompt_set": list(rows),
            "condition": list(CONDITIONS),
            "control": list(edits.controls.names),
            "control_kind": ("control", control_kinds(edits.controls)),
            "prompt": [own for kind in rows for own in prompt_sets[kind].ids],
            "set_of_prompt": ("prompt", np.repeat(list(rows), sizes)),
        },
    )
    for prefix in ("", "control_"):
        effect = found[f"{prefix}score"] - found["plain_score"]
        found[f"{prefix}effect"] = effect.assign_attrs(
            units="nats", long_name="change of the refusal score"
        )
    values, controls = found["effect"].values, found["control_effect"].values
    outside, p = beside(values, controls, control_kinds(edits.controls))
    found["outside"] = _CELL, outside
    found["p_value"] = _CELL, p, {"units": "two-sided, by rank"}
    return found


def judge_controls(
    model: HookedModel,
    edits: Edits,
    prompt_sets: Mapping[str, PromptSet],
    replies: pd.DataFrame,
    names: Sequence[str],
    *,
    judge: Judge,
    max_new_tokens: int,
    system: str | None,
) -> xr.Dataset:
    """Judged refusal rates with some controls, and with the direction on the same prompts.

    Args:
        model: the model.
        edits: of the direction and its controls.
        prompt_sets: by name.
        replies: what was answered with the direction, as `collect_completions` gives it.
        names: of the controls; replies take long, so only few.
        judge: how replies are judged.
        max_new_tokens: longest reply.
        system: a system prompt for all of them.

    Returns:
        Dataset over (prompt_set, condition): ``judged_rate`` of the direction and
        ``control_rate`` (…, judged) on the same ``n_judged`` prompts.
    """
    shape = len(prompt_sets), len(CONDITIONS)
    rates, own = np.zeros((*shape, len(names))), np.zeros(shape)
    work = [(place, each) for place in np.ndindex(*shape) for each in enumerate(names)]
    for (row, column), (index, name) in track(work, "answering with controls", len(work)):
        kind, condition = list(prompt_sets)[row], CONDITIONS[column]
        prompts = prompt_sets[kind]
        with intervene(model, edits.of(condition, kind, name)):
            said = model.generate(model.tokens(prompts, system), max_new_tokens=max_new_tokens)
        verdicts = judge_replies(said, judge=judge, prompts=list(prompts.texts))
        rates[row, column, index] = np.mean([each == "refused" for each in verdicts])
        same = (
            replies["prompt_set"].eq(kind)
            & replies["condition"].eq(condition)
            & replies["id"].isin(prompts.ids)
        )
        own[row, column] = replies.loc[same, "verdict"].eq("refused").mean()
    share = {"units": "share of replies", "long_name": "refusal rate"}
    return xr.Dataset(
        {
            "judged_rate": (_CELL, own, share),
            "control_rate": ((*_CELL, "judged"), rates, share),
            "n_judged": (
                "prompt_set",
                [len(each) for each in prompt_sets.values()],
                {"units": "prompts"},
            ),
        },
        coords={
            "prompt_set": list(prompt_sets),
            "condition": list(CONDITIONS),
            "judged": list(names),
        },
    )


def sweep_controls(
    model: HookedModel,
    direction: Directions,
    controls: Directions,
    harmful: Tokens,
    harmless: Tokens,
    refusal_tokens: Sequence[int],
) -> xr.Dataset:
    """The scores of a sweep for controls: all three at one layer, induce at each of theirs.

    Args:
        model: the model.
        direction: one vector; at its layer controls are ablated, too.
        controls: one position, some layers; those at which they are zero are left out.
        harmful: validation prompts, up to where answers are scored.
        harmless: the same of those that are not refused.
        refusal_tokens: ids of the first tokens of refusals.

    Returns:
        Dataset with ``control_bypass`` and ``control_kl`` (control), and ``control_induce``
        (layer, control), as `sweep_directions` has them; ``bypass``, ``induce`` and ``kl`` of the
        direction on the same prompts.
    """
    names, layer = controls.names, direction.layers[0]
    ablated = [direction, *(controls.at(name=name, layer=layer) for name in names)]
    zero = controls.degenerate[:, :, 0].any(0).tolist()
    places = [at for at, left_out in zip(controls.layers, zero, strict=True) if not left_out]
    added = [direction, *(controls.at(name=name, layer=at) for at in places for name in names)]
    kl = np.zeros((len(ablated), len(harmless)))
    told = "trying candidates"
    bypass = score_edits(model, harmful, [*map(Ablate, ablated)], refusal_tokens, told)
    induce = score_edits(model, harmless, [*map(Add, added)], refusal_tokens, told)
    for chosen, batch in model.batches(harmless):
        plain = model.forward(batch)
        for index, logits in candidate_logits(model, batch, ablated, "ablate"):
            kl[index, chosen] = kl_divergence(plain, logits).cpu().numpy()
    by_layer = induce[1:].mean(-1).reshape(len(places), len(names))
    nats = {"units": "nats"}
    return xr.Dataset(
        {
            "bypass": ((), bypass[0].mean(), nats),
            "induce": ((), induce[0].mean(), nats),
            "kl": ((), kl[0].mean(), nats),
            "control_bypass": ("control", bypass[1:].mean(-1), nats),
            "control_kl": ("control", kl[1:].mean(-1), nats),
            "control_induce": (("layer", "control"), by_layer, nats),
        },
        coords={
            "layer": places,
            "control": list(names),
            "control_kind": ("control", control_kinds(controls)),
        },
    )
