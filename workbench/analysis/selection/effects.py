"""What a direction does to replies: refusal rates with it ablated, added or set, and plain."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import PromptError, StudyError
from workbench.interventions import Ablate, Add, Intervention, SetProjection, intervene
from workbench.models.hooked import HookedModel
from workbench.models.organisms import organism_names, organism_path
from workbench.prompts.inputs import as_prompts
from workbench.scores.judges import Judge, judge_name
from workbench.scores.judges import judge as judge_replies
from workbench.scores.paired import paired_difference
from workbench.scores.verdicts import check_verdicts
from workbench.statistics.corrected import holm
from workbench.statistics.intervals import binomial_interval

CONDITIONS = ("plain", "ablated", "added", "projection set")


@checked
def collect_completions(
    model: HookedModel,
    direction: Directions,
    prompt_sets: Mapping[str, Any] | Any,
    *,
    judge: Judge = "combined",
    max_new_tokens: int = 48,
    coefficient: float = 1.0,
    projection: float | None = None,
    system: str | None = None,
) -> pd.DataFrame:
    """Greedy replies to every prompt plainly, with the direction ablated, and with it added.

    Adding moves every prompt by the same amount, whatever was there before; setting the projection
    gives every prompt the same amount of the direction, such as harmful prompts have on average.

    Args:
        model: the model.
        direction: one vector; ablated everywhere, added raw at its own layer to every token.
        prompt_sets: prompts by the name of their set: whatever `as_prompts` takes.
        judge: how replies are judged; see `workbench.judge`.
        max_new_tokens: longest reply.
        coefficient: of the addition, in units of the vector's length.
        projection: also answers with the projection on the direction set to this value at its own
            layer, in every token, prompt and reply; usually `mean_projection` over harmful prompts.
        system: a system prompt for all of them.

    Returns:
        One row per prompt and condition: prompt_set, condition, id, category, prompt, reply,
        verdict; ``attrs["judge"]`` names the judge and its version.

    Raises:
        AxisError: the direction does not fit the model.
        PromptError: something that cannot be taken for prompts.
        StudyError: no sets.
    """
    if not isinstance(prompt_sets, Mapping):
        raise PromptError(
            f"expected prompts by the name of their set, found a {type(prompt_sets).__name__}. "
            "Pass {'harmful': prompts}."
        )
    edits: dict[str, list[Intervention]] = {
        "plain": [],
        "ablated": [Ablate(direction)],
        "added": [Add(direction, coefficient=coefficient)],
    }
    if projection is not None:
        edits["projection set"] = [SetProjection(direction, projection)]
    frames = []
    for name, prompts in prompt_sets.items():
        prompts = as_prompts(prompts, name)
        tokens = model.tokens(prompts, system)
        for condition, interventions in edits.items():
            with intervene(model, *interventions):
                replies = model.generate(tokens, max_new_tokens=max_new_tokens)
            frames.append(
                pd.DataFrame(
                    {
                        "prompt_set": name,
                        "condition": condition,
                        "id": prompts.ids,
                        "category": prompts.categories,
                        "prompt": prompts.texts,
                        "reply": replies,
                        "verdict": judge_replies(replies, judge=judge, prompts=list(prompts.texts)),
                    }
                )
            )
    if not frames:
        raise StudyError("no prompt sets to answer.")
    found = pd.concat(frames, ignore_index=True)
    found.attrs["judge"] = judge_name(judge)  # a rate says whose it is
    return found


@checked
def refusal_rates(replies: pd.DataFrame, *, confidence: float = 0.95) -> xr.Dataset:
    """Share of replies judged refused, over (prompt_set, condition), with Wilson intervals.

    Every condition is compared with ``plain``, prompt by prompt: whether a rate changes is told by
    the prompts that change, not by whether two intervals overlap.

    Args:
        replies: rows as `collect_completions` returns them.
        confidence: of the intervals.

    Returns:
        Dataset with ``refusal_rate``, ``refusal_rate_interval`` (…, bound) and ``n``. Where plain
        replies and ids are there, also ``difference``, the rate minus the plain one on the same
        prompts, ``difference_interval`` (Tango's), ``gained`` and ``lost``, the prompts that are
        refused now and were not, and the other way round, ``p_value``, McNemar's, exact, and
        ``p_holm``, the same corrected for the number of comparisons, ``n_compared`` in ``attrs``.
        NaN where a condition was not tried on the same prompts.

    Raises:
        StudyError: the table is another one, or conditions of one set have different numbers of
            replies, so that their rates are of different prompts.
    """
    for column in ("verdict", "prompt_set", "condition"):
        if column not in replies:
            raise StudyError(
                f"these replies have no column {column!r}: expected the table that "
                "collect_completions gives, such as run.replies."
            )
    if not len(replies):
        raise StudyError("these replies are an empty table: there is no rate of nothing.")
    check_verdicts(replies["verdict"].map(str).tolist())
    if "id" in replies and (twice := replies.duplicated(["prompt_set", "condition", "id"])).any():
        raise StudyError(
            f"{int(twice.sum())} of {len(replies)} rows answer a prompt of a set again under the "
            "same condition: each counts once. Pass one reply for each prompt and condition."
        )
    if strange := sorted({*replies["condition"].map(str)} - {*CONDITIONS}):
        raise StudyError(
            f"no condition {strange[0]!r}: they are {', '.join(CONDITIONS)}. Rename it, or leave "
            "its rows out."
        )
    counted = replies.assign(refused=replies["verdict"].eq("refused"))
    kinds = list(dict.fromkeys(replies["prompt_set"]))
    present = set(replies["condition"])
    conditions = [condition for condition in CONDITIONS if condition in present]
    table = counted.pivot_table(
        index="prompt_set", columns="condition", values="refused", aggfunc=["sum", "count"]
    ).reindex(index=kinds)
    k, n = (
        table.reindex(columns=[(part, condition) for condition in conditions]).to_numpy(dtype=float)
        for part in ("sum", "count")
    )
    asked = np.nanmax(n, axis=1)
    uneven = np.argwhere(np.isfinite(n) & (n != asked[:, None]))
    if len(uneven):
        row, column = uneven[0].tolist()
        raise StudyError(
            f"{int(n[row, column])} replies of {kinds[row]!r} under {conditions[column]!r} and "
            f"{int(asked[row])} under another condition: rates side by side are of the same "
            "prompts. Answer all of them under both, or pass each condition alone."
        )
    interval = np.full((*k.shape, 2), np.nan)
    for cell in np.ndindex(*k.shape):
        if np.isfinite(k[cell]):
            interval[cell] = binomial_interval(int(k[cell]), int(n[cell]), confidence)
    attrs = {"units": "share of replies", "long_name": "refusal rate"}
    cells = ("prompt_set", "condition")
    compared = _against_plain(replies, kinds, conditions, confidence)
    return xr.Dataset(
        {
            "refusal_rate": (cells, k / n, attrs),
            "refusal_rate_interval": ((*cells, "bound"), interval, attrs),
            "n": ("prompt_set", asked.astype(np.int64), {"units": "prompts"}),
            **compared.data_vars,
        },
        coords={"prompt_set": kinds, "condition": conditions, "bound": ["low", "high"]},
        attrs={
            "confidence": confidence,
            "interval": "Wilson",
            **_judged(replies),
            **compared.attrs,
        },
    )


def _judged(replies: pd.DataFrame) -> dict[str, str]:
    """Who judged, where the table says it."""
    return {"judge": str(replies.attrs["judge"])} if "judge" in replies.attrs else {}


def _against_plain(
    replies: pd.DataFrame, kinds: list[str], conditions: list[str], confidence: float
) -> xr.Dataset:
    """Every condition compared with plain replies to the same prompts; nothing without those."""
    if "plain" not in conditions or "id" not in replies:
        return xr.Dataset()
    cells = ("prompt_set", "condition")
    found = np.full((len(kinds), len(conditions), 6), np.nan)
    verdicts = {
        key: own.set_index("id")["verdict"].astype(str)
        for key, own in replies.groupby(["prompt_set", "condition"])
    }
    for row, kind in enumerate(kinds):
        before = verdicts.get((kind, "plain"))
        for column, condition in enumerate(conditions):
            after = verdicts.get((kind, condition))
            if condition == "plain" or before is None or after is None:
                continue
            same = before.index.is_unique and after.index.is_unique
            if not same or {*before.index} != {*after.index}:
                continue
            own = paired_difference(
                before.tolist(), after[before.index].tolist(), confidence=confidence
            )
            found[row, column] = own.difference, *own.interval, own.gained, own.lost, own.p_value
    moved = {"units": "share of replies", "long_name": "refusal rate minus the plain one"}
    tested = {"units": "1", "long_name": "McNemar's exact p-value against plain"}
    corrected = {"units": "1", "long_name": f"{tested['long_name']}, after Holm"}
    return xr.Dataset(
        {
            "difference": (cells, found[..., 0], moved),
            "difference_interval": ((*cells, "bound"), found[..., 1:3], moved),
            "gained": (cells, found[..., 3], {"units": "prompts"}),
            "lost": (cells, found[..., 4], {"units": "prompts"}),
            "p_value": (cells, found[..., 5], tested),
            "p_holm": (cells, holm(found[..., 5].ravel()).reshape(found.shape[:2]), corrected),
        },
        attrs={"n_compared": int(np.isfinite(found[..., 5]).sum())},
    )


def planted_cosine(model_name: str, direction: Directions) -> float | None:
    """Cosine with an organism's planted direction; None for a model without exactly one."""
    if model_name not in organism_names():
        return None
    path = organism_path(model_name) / "planted.safetensors"
    if not path.is_file():
        return None
    planted = Directions.load(path)
    if len(planted) != 1:
        return None
    return float(planted.unit().vector @ direction.unit().vector.cpu())
