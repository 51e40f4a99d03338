"""Collecting activations: from prompts to labelled values, several sites in one pass."""

from collections.abc import Sequence
from itertools import product
from typing import Any, get_args, overload

import torch
from torch import Tensor

from workbench.activations.activations import Activations
from workbench.arguments import checked
from workbench.errors import AxisError, ModelError
from workbench.models.forwards.capture import capture
from workbench.models.given import given_prompts
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.sites import Place, Site
from workbench.models.tokens import Tokens
from workbench.positions import T_INST, InstructionEnd, Position
from workbench.progress import track
from workbench.prompts.promptset import PromptSet, text_key
from workbench.prompts.texts import Texts
from workbench.statistics.resampling import Resampler


@overload
def collect_activations(
    model: HookedModel,
    prompts: Prompts,
    *,
    site: Site | None = None,
    sites: None = None,
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] | None = None,
    per_prompt: bool = False,
    system: str | None = None,
    n_resamples: int = 0,
    seed: int = 0,
    t_inst: InstructionEnd | None = None,
) -> Activations: ...


@overload
def collect_activations(
    model: HookedModel,
    prompts: Prompts,
    *,
    site: None = None,
    sites: Sequence[Site],
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] | None = None,
    per_prompt: bool = False,
    system: str | None = None,
    n_resamples: int = 0,
    seed: int = 0,
    t_inst: InstructionEnd | None = None,
) -> dict[Site, Activations]: ...


@checked
def collect_activations(
    model: HookedModel,
    prompts: Prompts,
    *,
    site: Site | None = None,
    sites: Sequence[Site] | None = None,
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] | None = None,
    per_prompt: bool = False,
    system: str | None = None,
    n_resamples: int = 0,
    seed: int = 0,
    t_inst: InstructionEnd | None = None,
) -> Activations | dict[Site, Activations]:
    """Reads activations at one site, or at several in the same forwards.

    The forward stops after the last wanted layer, only the wanted positions are kept, and means
    are accumulated in float64, one per label and category.

    Args:
        model: the model to read.
        prompts: a prompt set, texts, a data frame, a data set, or tokens; see `as_prompts`. Ids and
            categories come along where there are any.
        site: ``resid_pre`` (the default), ``attn_out``, ``mlp_out`` or ``z``.
        sites: several of them, instead; what comes back are their activations by site.
        layers: all of them by default.
        positions: negative numbers, or ``"t_inst"`` for the last token of the instruction, which is
            found in each prompt. By default t_inst and the post-instruction tokens; t_inst by its
            name where the tokenizer joins instructions with the template, else by its number.
        per_prompt: keeps every prompt's activation instead of the means.
        system: a system prompt for all of them.
        n_resamples: replicates of `Resampled` means, accumulated in the same pass; they give
            directions and cosines their reliability, intervals and null. 0 for none.
        seed: of the resampling; sets that are compared need the same one.
        t_inst: which token that is where the tokenizer joins the end of an instruction with the
            template: ``last_token``, the last that holds a character of the instruction (the
            default), or ``last_whole_token``, the last that holds nothing else. What was read,
            and how many tokens are shared, is in ``provenance["t_inst"]``.

    Raises:
        PromptError: every token of an instruction is shared, and whole ones are asked for.
        AxisError: a layer or site that the model does not have, or both ``site`` and ``sites``; a
            position before the start of some prompt.
        ModelError: an activation is not finite.
        StudyError: a number of replicates, or a seed, that makes no sense.
    """
    prompts = given_prompts(prompts)
    wanted = _sites(site, sites)
    tokens = model.tokens(prompts, system, t_inst=t_inst)
    layers = tuple(range(model.n_layers) if layers is None else layers)
    if positions is None:
        positions = (tokens.t_inst_label, *tokens.post_instruction)
    positions = tuple(positions)
    _check_axes(model, tokens, wanted, layers, positions)
    ids, labels, categories = _prompt_axes(prompts, len(tokens))
    groups = sorted(set(zip(labels, categories, strict=True)))
    group_of = [groups.index(pair) for pair in zip(labels, categories, strict=True)]
    n_rows, dtype = (len(tokens), torch.float32) if per_prompt else (len(groups), torch.float64)
    texts = _texts(prompts)
    keys = _keys(tokens, texts) if n_resamples else ()
    values: dict[Site, Tensor] = {}
    resamplers: dict[Site, Resampler] = {}
    for own in wanted:
        width = model.n_heads * model.head_width(layers) if own == "z" else model.d_model
        values[own] = torch.zeros(n_rows, len(layers), len(positions), width, dtype=dtype)
        if n_resamples:
            shape = values[own].shape[1:]
            resamplers[own] = Resampler(keys, group_of, labels, shape, n_resamples, seed)
    places: list[Place] = list(product(wanted, layers))
    batches = model.batches(tokens)
    for chosen, batch in track(batches, f"collecting {', '.join(wanted)}", len(batches)):
        found, _ = capture(model, batch, places, positions)
        for own in wanted:
            read = torch.stack([found[own, layer].flatten(2) for layer in layers], dim=1)
            if not read.isfinite().all():
                raise ModelError(
                    f"{model.name} gives activations that are not finite at {own}. Check its "
                    "weights; on a GPU, try dtype=torch.float32."
                )
            if own in resamplers:
                resamplers[own].add(chosen, read)
            if per_prompt:
                values[own][chosen] = read.float().cpu()
            else:
                rows = torch.tensor([group_of[row] for row in chosen])
                values[own].index_add_(0, rows, read.cpu().double())
    counts = tuple(group_of.count(group) for group in range(len(groups)))
    fingerprint = prompts.fingerprint if isinstance(prompts, PromptSet) else None
    provenance = {
        **model.provenance,
        "prompts": fingerprint,
        # Tokens say nothing of the system prompt that they hold.
        **({} if isinstance(prompts, Tokens) else {"system": system}),
        **_where_read(model, tokens, positions),
    }
    collected = {}
    for own in wanted:
        if not per_prompt:
            values[own] /= torch.tensor(counts, dtype=torch.float64)[:, None, None, None]
        collected[own] = Activations(
            values=values[own],
            counts=(1,) * len(tokens) if per_prompt else counts,
            categories=tuple(categories) if per_prompt else tuple(group[1] for group in groups),
            labels=tuple(labels) if per_prompt else tuple(group[0] for group in groups),
            ids=ids if per_prompt else (),
            layers=layers,
            positions=positions,
            site=own,
            provenance=dict(provenance),
            texts=texts if per_prompt else (),
            resampled=resamplers[own].finish() if own in resamplers else None,
            prompt_keys=tuple(map(text_key, texts)),
        )
    return collected if sites is not None else collected[wanted[0]]


def _sites(site: Site | None, sites: Sequence[Site] | None) -> tuple[Site, ...]:
    """The sites that were asked for.

    Raises:
        AxisError: none, one twice, one that is none, or both a site and sites.
    """
    if sites is None:
        wanted = ("resid_pre" if site is None else site,)
    elif site is not None or isinstance(sites, str):
        raise AxisError(
            f"site={site!r} and sites={sites!r}: pass site= for one, or sites= with several, such "
            "as sites=('resid_pre', 'attn_out')."
        )
    else:
        wanted = tuple(sites)
    for own in wanted:
        if own not in get_args(Site):
            raise AxisError(f"no site {own!r}: {', '.join(get_args(Site))}.")
    if not wanted or len({*wanted}) < len(wanted):
        raise AxisError(f"sites must be given, each once, found {list(wanted)}.")
    return wanted


def _check_axes(
    model: HookedModel,
    tokens: Tokens,
    sites: Sequence[Site],
    layers: tuple[int, ...],
    positions: tuple[Position, ...],
) -> None:
    """Refuses layers and positions that cannot be read."""
    if not layers or not positions:
        raise AxisError("no layers or no positions to read.")
    for axis, labels in (("layer", layers), ("position", positions)):
        if len(set(labels)) != len(labels):
            raise AxisError(f"a {axis} appears twice: {list(labels)}.")
    for site, layer in product(sites, layers):
        model.hook_name(site, layer)
    shortest = int(tokens.lengths.min())
    for position in positions:
        if position == T_INST:
            _ = tokens.t_insts  # refuses prompts that have none
        elif not -shortest <= position < 0:
            raise AxisError(
                f"position {position} cannot be read: positions are negative, counted from the "
                f"end, or 't_inst', and the shortest prompt has {shortest} tokens."
            )


def _where_read(
    model: HookedModel, tokens: Tokens, positions: tuple[Position, ...]
) -> dict[str, Any]:
    """What t_inst was in these prompts, or at which number it stands in all of them."""
    if T_INST not in positions:
        end = tokens.t_inst_label
        return {"t_inst_position": end} if isinstance(end, int) else {}
    return {
        "t_inst": {
            "token": tokens.instruction_end,
            "n_shared": int(tokens.shared.sum()),
            "shared_tokens": model.template.shared_tokens(tokens),
        }
    }


def _prompt_axes(
    prompts: PromptSet | Texts | Tokens, n_prompts: int
) -> tuple[tuple[str, ...], Sequence[str], Sequence[str]]:
    """Ids, labels and categories; tokens get their index, and empty labels."""
    if not isinstance(prompts, Tokens):
        return tuple(prompts.ids), prompts.labels, prompts.categories
    return tuple(str(row) for row in range(n_prompts)), [""] * n_prompts, [""] * n_prompts


def _texts(prompts: PromptSet | Texts | Tokens) -> tuple[str, ...]:
    """What the prompts say; nothing for tokens, which do not know it."""
    return () if isinstance(prompts, Tokens) else tuple(prompts.texts)


def _keys(tokens: Tokens, texts: tuple[str, ...]) -> Sequence[str]:
    """What tells one prompt from another: its text, or its ids where that is not known."""
    pairs = zip(tokens.ids, tokens.mask, strict=True)
    return texts or [str(ids[mask].tolist()) for ids, mask in pairs]
