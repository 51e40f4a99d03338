"""verify_model: does the wrapper tell the truth on this checkpoint?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from workbench.arguments import checked
from workbench.artifact import environment
from workbench.errors import ModelError, WorkbenchError
from workbench.models import checks
from workbench.models.form import form_line
from workbench.models.forwards.shortcuts import packed_fault, resumed_fault
from workbench.models.hooked import HookedModel
from workbench.models.sites import Inner, Site
from workbench.models.tokens import Tokens

if TYPE_CHECKING:
    import xarray as xr

VERDICTS = ("exact", "slower", "lacking", "wrong")
"""``exact``: as Hugging Face computes it, up to rounding. ``slower``: a shortcut is not exact, so
the plain way is taken. ``lacking``: the model has no such thing, and asking for it is an error.
``wrong``: what is read here would not be true."""

_TEXTS = ("hi", "How far is the sea from here?", "Name a colour, and say who likes it and why.")


@dataclass(frozen=True)
class Row:
    """One thing that was asked, and what came out.

    ``value`` is the largest difference that was found, ``allowed`` what rounding may do.
    """

    check: str
    value: float
    allowed: float
    verdict: str
    note: str


@checked
def verify_model(
    model: Any = "pocket",
    *,
    adapter: str | Path | None = None,
    merge: bool = True,
    tokenizer: Any = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    device_map: Any = None,
    trust_remote_code: bool = False,
    chat_template: str | Path | None = None,
    thinking: bool | None = None,
    date: str | None = None,
) -> "xr.Dataset":
    """Compares everything that the workbench reads from a model with plain forwards.

    In what form the weights came, where that is no ordinary checkpoint (GGUF, an adapter, few
    bits); logits and every site against the network as it was before it was wrapped; whether a
    block's output is the sum of its parts; whether something of an ablated direction is left at any
    layer; generation with its cache, padding, packed and resumed forwards against plain ones; the
    chat template, token by token.

    Args:
        model: a loaded model, or what `load_model` takes. A model that it would refuse is verified
            all the same, and the table says what is wrong.
        adapter: this and all others as of `load_model`, where the model is not loaded yet.
        merge: see there.
        tokenizer: see there.
        device: see there.
        dtype: see there.
        revision: see there.
        device_map: see there.
        trust_remote_code: see there.
        chat_template: see there.
        thinking: see there.
        date: see there.

    Returns:
        Dataset over ``check``: ``value``, the largest difference (logits in standard deviations,
        activations as a share of a token's length; NaN where nothing is measured), ``allowed``,
        ``verdict`` (one of `VERDICTS`) and ``note``; and over ``token``, one prompt as the
        template renders it: ``token_id``, ``token_text``, ``token_position`` and ``token_part``.
        ``attrs["verdict"]`` is the worst.

    Raises:
        ModelError: the model cannot be loaded at all, or wrapped.

    >>> import workbench as wb
    >>> found = wb.verify_model("pocket")
    >>> found.attrs["verdict"], float(found["value"].sel(check="logits")) < 1e-3
    ('exact', True)
    """
    settings = {
        "adapter": adapter,
        "merge": merge,
        "tokenizer": tokenizer,
        "device": device,
        "dtype": dtype,
        "revision": revision,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
        "chat_template": chat_template,
        "thinking": thinking,
        "date": date,
    }
    unset = {"trust_remote_code": False, "merge": True}
    given = [name for name, value in settings.items() if value is not unset.get(name)]
    if not isinstance(model, HookedModel):
        from workbench.models.loading.load import load_unchecked

        model = load_unchecked(model, **settings)
    elif given:
        raise ModelError(
            f"{', '.join(given)} would do nothing: {model.name} is loaded already. Pass its "
            "name instead."
        )
    rows = [
        *_form(model),
        _logits(model),
        *_sites(model),
        _sum(model),
        _ablation(model),
        _cache(model),
    ]
    tokens = None
    try:
        made = model.tokens(_TEXTS)
        rows.append(_template(model, made))
        tokens = made
    except WorkbenchError as error:
        rows.append(Row("template", np.nan, np.nan, "lacking", str(error)))
    rows.append(_padding(model))
    if tokens is not None:
        rows += _shortcuts(model, tokens)
    return _dataset(model, rows, tokens)


def _row(check: str, value: float, allowed: float, note: str = "", otherwise: str = "wrong") -> Row:
    """A row whose verdict hangs on one number; a number that is none is never exact."""
    return Row(check, value, allowed, "exact" if value <= allowed else otherwise, note)


def _form(model: HookedModel) -> list[Row]:
    """In what form the weights came; nothing of an ordinary checkpoint."""
    return [Row("form", np.nan, np.nan, "exact", form_line(model.form))] if model.form else []


def _logits(model: HookedModel) -> Row:
    gap = checks.logits_gap(model, checks.wrapped_logits(model), model.reference.logits)
    note = f"of {model.reference.ids.shape[1]} tokens, wrapped and plain, in standard deviations"
    return _row("logits", gap, checks.tolerance(model, *checks.LOGITS), note)


def _sites(model: HookedModel) -> list[Row]:
    """Each site at the layer where it is farthest from the plain network's."""
    gaps = checks.site_gaps(model)
    rows = []
    allowed = checks.tolerance(model, *checks.SITES)
    for site in (*get_args(Site), *get_args(Inner)):
        having = [layer for layer in range(model.n_layers) if model.sites.has(site, layer)]
        own = {layer: gaps[(site, layer)] for layer in having if (site, layer) in gaps}
        lacking = sorted(set(range(model.n_layers)) - set(having))
        note = f"not in layers {_ranges(lacking)}; " if lacking else ""
        if not having:
            if site in get_args(Site):
                rows.append(Row(site, np.nan, allowed, "lacking", "in no layer"))
            continue
        if not own:
            # Scaled or put together by the wrapper: no module gives it, and the sum must tell.
            if site in get_args(Site):
                note += "no module gives it as it is; see the sum"
                summed = not set(having) & model.sites.mixed
                rows.append(Row(site, np.nan, allowed, "exact" if summed else "lacking", note))
            continue
        worst = max(own, key=lambda layer: float("inf") if own[layer] != own[layer] else own[layer])
        rows.append(_row(site, own[worst], allowed, f"{note}most in layer {worst}"))
    return rows


def _sum(model: HookedModel) -> Row:
    """Whether blocks write what attention and MLP put out, and nothing else."""
    allowed = checks.tolerance(model, *checks.SUM)
    rests = checks.unexplained(model)
    own = {layer: rest for layer, rest in enumerate(rests) if layer not in model.sites.mixed}
    note = "resid_pre + attn_out + mlp_out against the output of the block"
    if model.sites.mixed:
        note = (
            f"layers {_ranges(sorted(model.sites.mixed))} write otherwise, too: there a direction "
            "is ablated from the stream itself, and parts do not add up"
        )
    value = max(own.values(), default=float("nan"))
    return _row("sum of the block", value, allowed, note, otherwise="lacking")


def _ablation(model: HookedModel) -> Row:
    left = checks.ablation_left(model)
    (site, layer), worst = checks.largest(left)
    note = f"left along a direction after Ablate, most at {site} of layer {layer}"
    inside = sorted(
        own
        for own in model.sites.mixed
        if "resid_mid" in model.sites.unwritable or not model.sites.has("resid_mid", own)
    )
    if inside:
        note += f"; within layers {_ranges(inside)} what one part writes the next still reads"
    return _row("ablation", worst, checks.tolerance(model, *checks.ABLATION), note)


def _padding(model: HookedModel) -> Row:
    gap, allowed = checks.padding_gap(model), checks.tolerance(model, *checks.PADDING)
    note = "logits with padding on the left and without"
    if not gap <= allowed:
        note = "the network reads padding, so only prompts of one length share a batch"
    elif not model.generation_pads:
        note = "generation reads padding, so only prompts of one length share a batch"
        return Row("padding", np.nan, np.nan, "slower", note)
    return _row("padding", gap, allowed, note, otherwise="slower")


def _cache(model: HookedModel) -> Row:
    allowed = checks.tolerance(model, *checks.CACHE)
    note = f"logits of {checks.N_STEPS} generated tokens, with a cache and by plain forwards"
    try:
        gap = max(
            checks.cache_gap(model, padded)
            for padded in {False, model.pads and model.generation_pads}
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # an architecture may object in any way it likes
        return Row("cache", np.nan, allowed, "wrong", f"generation fails: {_line(error)}")
    return _row("cache", gap, allowed, note)


def _shortcuts(model: HookedModel, tokens: Tokens) -> list[Row]:
    """Packed and resumed forwards, as their first use would compare them."""
    own = tokens if model.pads else tokens.rows([0])
    last = min(2, int(own.lengths.min()))
    asked: Sequence[tuple[str, Callable[[], str]]] = (
        ("packed forwards, last token", lambda: packed_fault(model, own, 1)),
        (f"packed forwards, last {last} tokens", lambda: packed_fault(model, own, last)),
        ("resumed forwards", lambda: resumed_fault(model, own)),
    )
    rows = []
    for check, find in asked:
        fault = find()
        note = f"{fault}; plain forwards are taken" if fault else "as plain forwards"
        rows.append(Row(check, np.nan, np.nan, "slower" if fault else "exact", note))
    return rows


def _template(model: HookedModel, tokens: Tokens) -> Row:
    """Whether the tokens say what the template wrote, with one BOS."""
    everything, tokens = tokens, tokens.rows([1])
    row = tokens.ids[0].tolist()
    bos = model.tokenizer.bos_token_id
    if bos is not None and row[:2] == [bos, bos]:
        return Row("template", 2, 1, "wrong", "the prompt begins with two BOS tokens")
    post = "".join(tokens.post_tokens)
    written, read = model.template.render(_TEXTS[1]), model.tokenizer.decode(row)
    if "".join(written.split()).lower() != "".join(read.split()).lower():
        note = f"the tokenizer reads {written!r} as {read!r}"
        return Row("template", np.nan, np.nan, "lacking", note)
    note = f"n_post = {tokens.n_post}, t_inst = {tokens.t_inst}, t_post = -1; after it: {post!r}"
    if shared := model.template.shared_tokens(everything):
        named = ", ".join(f"{token!r} in {n}" for token, n in shared.items())
        note += f"; t_inst holds characters of the template, too: {named} of {len(_TEXTS)}"
    return Row("template", np.nan, np.nan, "exact", note)


def _dataset(model: HookedModel, rows: Sequence[Row], tokens: Tokens | None) -> "xr.Dataset":
    import xarray as xr

    columns: dict[str, Any] = {
        "value": ("check", [row.value for row in rows]),
        "allowed": ("check", [row.allowed for row in rows]),
        "verdict": ("check", [row.verdict for row in rows]),
        "note": ("check", [row.note for row in rows]),
    }
    if tokens is not None:
        shown = tokens.rows([1])  # where it ends in a prompt may differ from prompt to prompt
        ids = shown.ids[0].tolist()
        positions = list(range(-len(ids), 0))
        columns |= {
            "token_id": ("token", ids),
            "token_text": ("token", [model.tokenizer.decode([token]) for token in ids]),
            "token_position": ("token", positions),
            "token_part": ("token", [_part(shown, position, len(ids)) for position in positions]),
        }
    worst = max((row.verdict for row in rows), key=VERDICTS.index)
    return xr.Dataset(
        columns,
        coords={"check": [row.check for row in rows]},
        attrs={
            "model": model.name,
            "architecture": type(model.network).__name__,
            "dtype": str(model.dtype).removeprefix("torch."),
            "verdict": worst,
            "environment": dict(environment()),
            "weights": model.weights_fingerprint,
        },
    )


def _part(tokens: Tokens, position: int, length: int) -> str:
    """What a token of a prompt is: the template's, the user's, or one of the named positions."""
    if position == -1:
        return "t_post"
    if position == tokens.t_inst:
        return "t_inst"
    if position > tokens.t_inst:
        return "post-instruction"
    return "instruction" if position >= tokens.n_pre - length else "template"


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers for a message: runs are written as ranges.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
