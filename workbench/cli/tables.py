"""Results as tables for a terminal of 80 columns."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from workbench import control_kinds, screen
from workbench.arguments.options import in_options
from workbench.few import averaged_names, few_names, few_resamples, n_averaged, too_few
from workbench.kept import kept_line
from workbench.labels import has_intervals, head_label
from workbench.written import as_cosine, estimated, with_interval

if TYPE_CHECKING:
    import xarray as xr

    from workbench.compare.runs import Comparison
    from workbench.study.steps.heads import Heads

_SIGNED = ("bypass", "induce")
"""Scores of a candidate that have an interval."""
_PAIRS = 10
"""Most pairs that are listed."""


def show_run(finished: Any) -> None:
    """The tables of a run, candidates and refusal rates, and what its analyses found."""
    choice, again = finished.choice, finished.held_out
    scores = finished.scores if again is None else again
    harmful, harmless = (scores.attrs[f"n_{kind}"] for kind in ("harmful", "harmless"))
    table = Table(
        title="Candidates, the chosen one first",
        box=SIMPLE,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        caption=f"nats, {_intervals(scores, finished.study.confidence)} over {harmful} harmful and "
        f"{harmless} harmless "
        + (
            "validation prompts, which chose and so flatter the first: none is measured on others"
            if again is None
            else "kept test prompts, none of which chose; last, the bypass that chose"
        )
        + "; of the KL the mean and the largest of any prompt",
    )
    dropped = []
    for name in ("", "layer", "pos.", "bypass ↓", "induce ↑", "KL ↓ (max)"):
        table.add_column(name, justify="right", no_wrap=True)
    if again is not None:
        table.add_column("chose", justify="right", no_wrap=True)
    tested = [] if again is None else _again(again)
    for rank, row in enumerate(choice.table.head(choice.top_k).itertuples(), start=1):
        shown = row if again is None else tested[rank - 1] if rank <= len(tested) else None
        cells = [] if shown is None else [_with_interval(shown, own) for own in _SIGNED]
        cells = ["", "", ""] if shown is None else [*cells, _with_largest(shown)]
        if again is not None:
            cells.append("" if row.bypass != row.bypass else f"{row.bypass:.1f}")
        table.add_row(
            "★" if rank == 1 else str(rank),
            str(row.layer),
            str(row.position),
            *cells,
            style="bold" if rank == 1 else "dim" if row.dropped else None,
        )
        if row.dropped:
            dropped.append(f"{rank} dropped: {row.dropped}")
    screen.show(table)
    for line in dropped:
        screen.show(f"  {line}", style="dim")
    screen.show(_rates_table(finished.effects))
    if finished.controls is not None:
        screen.show(_controls_table(finished.controls))
    if finished.planted_cosine is not None:
        screen.show(
            f"cosine of the chosen direction with the planted one: {finished.planted_cosine:.3f}"
        )
    screen.show(_analyses_table(finished))
    screen.tell_path("figures", finished.folder / "figures")
    screen.tell_path("results", finished.folder)


def _analyses_table(finished: Any) -> Table:
    """One line for each analysis: what it found, or why it was not made."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, line in finished.found.items():
        table.add_row(name, line)
    for name, reason in finished.skipped.items():
        table.add_row(name, f"skipped: {reason}", style="dim")
    return table


def _intervals(scores: "xr.Dataset", confidence: float) -> str:
    """What a table says of the intervals in it, where there are any."""
    known = any(has_intervals(scores.get(f"{name}_interval")) for name in _SIGNED)
    return f"with {confidence:.0%} intervals" if known else "without intervals (too few prompts)"


def _again(scores: "xr.Dataset") -> list[Any]:
    """What was measured on test prompts, a row for each candidate, as the table of a choice."""
    columns = {}
    for name in ("bypass", "induce", "kl"):
        columns[name] = scores[name]
        for end in ("low", "high"):
            columns[f"{name}_{end}"] = scores[f"{name}_interval"].sel(bound=end, drop=True)
    columns["kl_max"] = scores["kl_max"]
    found = {name: own.values for name, own in columns.items()}
    return [
        SimpleNamespace(**{name: own[rank] for name, own in found.items()})
        for rank in range(scores.sizes["candidate"])
    ]


def _with_interval(row: Any, name: str) -> str:
    value, low, high = (getattr(row, f"{name}{end}", np.nan) for end in ("", "_low", "_high"))
    if value != value:  # a skipped candidate has no scores
        return ""
    return with_interval(value, (low, high), ".1f", lacking="")


def _with_largest(row: Any) -> str:
    """The mean KL, and the largest of any prompt where it is known."""
    if row.kl != row.kl:
        return ""
    largest = getattr(row, "kl_max", np.nan)
    return f"{row.kl:.2g} ({largest:.2g})" if largest == largest else f"{row.kl:.2g}"


def _rates_table(effects: Any) -> Table:
    table = Table(
        title="Refusal rate (%)",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=f"judge {effects.attrs['judge']}; {effects.attrs['confidence']:.0%} Wilson "
        f"intervals{_compared(effects)}",
    )
    table.add_column("prompts")
    table.add_column("n", justify="right")
    for condition in effects["condition"].values:
        table.add_column(str(condition), justify="right", no_wrap=True)
    for kind in effects["prompt_set"].values:
        cells = 100 * effects.sel(prompt_set=kind)
        rates = [
            f"{float(cells['refusal_rate'].sel(condition=condition)):.0f} "
            "[{:.0f}, {:.0f}]".format(
                *cells["refusal_rate_interval"].sel(condition=condition).values
            )
            + _star(effects.sel(prompt_set=kind, condition=condition), effects)
            for condition in effects["condition"].values
        ]
        n = int(effects["n"].sel(prompt_set=kind))
        table.add_row(str(kind), str(n), *rates)
    return table


def _controls_table(controls: "xr.Dataset") -> Table:
    """What the direction does beside what random vectors of its length do."""
    from workbench.study import control_lines

    table = Table(
        title="Change of the refusal score (nats), beside controls",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=f"{control_lines.about(controls)}; refused (%): {control_lines.judged(controls)}",
    )
    table.add_column("prompts, edit")
    sorts = list(control_kinds.sorts(controls.attrs["kinds"]))
    for name in ("\n".join(sorts), "direction", "range", "p", "refused", "direction"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in control_lines.rows(controls):
        table.add_row(*row, style="dim" if row[3] == "within" else None)
    return table


def _compared(effects: Any) -> str:
    """What a star at a rate says."""
    n = effects.attrs.get("n_compared", 0)
    if not n:
        return ""
    level = 1 - effects.attrs["confidence"]
    return (
        f"; * told apart from plain on the same prompts, p < {level:.2g} (McNemar's, exact, Holm "
        f"over {n})"
    )


def _star(cell: Any, effects: Any) -> str:
    """Marks a rate that is told apart from the plain one."""
    p = float(cell["p_holm"]) if "p_holm" in cell else np.nan
    return "*" if p < 1 - effects.attrs["confidence"] else ""


_STYLES = {"exact": "green", "slower": "yellow", "lacking": "dim", "wrong": "bold red"}
_SUMMARIES = {
    "exact": "Everything that is read from this model is what it computes.",
    "slower": "What is read is exact; where a shortcut is not, the plain way is taken.",
    "lacking": "What is read is exact; what this architecture lacks is refused by name.",
    "wrong": "Do not trust what is read from this model: load_model refuses it, or replies are.",
}


def show_verification(found: "xr.Dataset") -> None:
    """Every check with its verdict, and the template token by token."""
    table = Table(
        title=f"{found.attrs['model']} ({found.attrs['architecture']})",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=_summary(found),
    )
    table.add_column("check")
    for name in ("differs by", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("", ratio=1)
    for name in found["check"].values:
        row = found.sel(check=name)
        verdict = str(row["verdict"].item())
        numbers = (float(row[key]) for key in ("value", "allowed"))
        shown = ("" if number != number else f"{number:.1g}" for number in numbers)
        note = str(row["note"].item())
        table.add_row(str(name), *shown, Text(verdict, style=_STYLES[verdict]), note)
    screen.show(table)
    if "token" not in found.dims:
        return
    prompt = Table(title="One prompt, token by token", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("position", "id", "token", "part"):
        prompt.add_column(name, justify="right" if name in ("position", "id") else "left")
    columns = ("token_position", "token_id", "token_text", "token_part")
    for position, token, text, part in zip(*(found[key].values for key in columns), strict=True):
        style = "bold" if part in ("t_inst", "t_post") else ""
        prompt.add_row(str(position), str(token), repr(str(text)), str(part), style=style)
    screen.show(prompt)


def _summary(found: "xr.Dataset") -> str:
    """What a verification comes to, in one line."""
    verdicts = dict(zip(found["check"].values.tolist(), found["verdict"].values, strict=True))
    if found.attrs["verdict"] == "lacking" and verdicts.get("template") == "lacking":
        return (
            "What is read is exact, but no prompt can be put to this model as it stands: its chat "
            "template is lacking, or not read back as it is written."
        )
    return _SUMMARIES[found.attrs["verdict"]]


def show_heads(found: "Heads") -> None:
    """The heads with the largest effects, and the smallest set that turns the replies."""
    patching, curve = found.results["head_patching"], found.results.get("head_set")
    attribution, screened = (
        found.results.get(f"head_{name}") for name in ("attribution", "screen")
    )
    attrs = patching.attrs
    title = f"Largest effects of single heads, to {attrs['aim']} refusal"
    table = _table(title, "head", "pos.", "effect", "screen", "writes")
    table.caption = (
        f"{patching['effect'].attrs['long_name']}, {patching['effect'].attrs['units']}, with "
        f"{attrs['confidence']:.0%} intervals over {attrs['n_target']} prompts, each head's own: "
        f"not corrected for the {patching['effect'].size} heads and positions compared"
    )
    written = None
    if attribution is not None:
        table.caption += (
            f"; writes: along the direction of layer {attribution.attrs['direction_layer']}, "
            f"position {attribution.attrs['position']}, harmful minus harmless"
        )
        written = attribution.sel(group=attribution["group"].values[-1])
    for layer, head, position in found.top:
        at = {"layer": layer, "head": head, "position": position}
        estimate = "" if screened is None else f"{float(screened['estimate'].sel(at)):.2f}"
        own = {"layer": layer, "head": head}
        before = written is not None and layer in written["layer"].values
        table.add_row(
            head_label(layer, head),
            str(position),
            estimated(patching.sel(at), "effect", ".2f"),
            estimate,
            estimated(written.sel(own), "contribution", ".2f")
            if written is not None and before
            else "",
        )
    screen.show(table)
    if screened is not None:
        from workbench.study.steps.heads import screen_line

        for position in screened["compared_position"].values:
            line = screen_line(screened.sel(compared_position=position))
            screen.show(f"position {int(position)}: {line}")
    if line := kept_line(attrs.get("test_prompts")):
        screen.show(line)
    for name, reason in found.skipped.items():
        screen.show(f"{name} skipped: {reason}", style="dim")
    if curve is not None:
        _show_set(curve)


def _show_set(curve: "xr.Dataset") -> None:
    """The smallest set, on which prompts it was judged, and how exact the search was."""
    from workbench.study.steps.heads import set_line

    screen.show(f"smallest set: {set_line(curve)}")
    scores = curve["random_score"].isel(size=-1) if curve.sizes["draw"] else None
    last = curve.isel(size=-1)
    told = f"refusal score of the set {estimated(last, 'score', '.2f')} nats, "
    told += f"without a patch {float(curve['score'][0]):.2f}"
    if scores is not None:
        told += f", random sets {float(scores.mean()):.2f} [{float(scores.min()):.2f} to "
        told += f"{float(scores.max()):.2f}]"
    screen.show(told)
    screen.show(
        f"largest difference of scores between the search and the joint patch "
        f"{curve.attrs['largest_difference']:.1g} nats",
    )


_READING = {"axes": "--axes", "site": "--site", "read_at": "--read-at"}
"""Options of `compare` that say how a file is read."""


def show_comparison(found: "Comparison") -> None:
    """The tables of a comparison, and why it has no intervals where it has none."""
    screen.tell(" and ".join(found.sources), style="bold")
    for line in found.read:
        screen.tell(f"read: {in_options(line, _READING)}")
    if found.shown:
        screen.show(f"shown: {'; '.join(found.shown)} (--layer, --position)")
    if found.estimated:
        screen.show(f"directions {found.estimated}")
    if len(found.sources) == 2:
        screen.show(_across(found))
    elif found.over != "name":
        screen.show(_against_reference(found))
    else:
        if found.cosines.sizes["layer"] > 1:
            screen.show(_by_layer(found))
        screen.show(_pairs(found))
    if reasons := _unmeasured(found):
        screen.show(f"not measured: {'; or '.join(reasons)}")
    if found.same:
        screen.show("the two hold the same vectors, whose cosines with themselves are 1")
    if found.angles is not None:
        screen.show(_overlap(found))
    if found.left_out:
        screen.show(
            f"left out, no category of its own: {', '.join(found.left_out)}; to compare "
            "with it, give the source twice",
        )
    if few := too_few(found.cosines):
        screen.show(few)
    if "p_one_direction" in found.at and found.over == "name" and len(found.sources) == 1:
        screen.show(
            "p, one direction: of the two being one, whatever their lengths; corrected by Holm "
            "over the pairs of a layer and position"
        )
    confidence = found.cosines.attrs.get("confidence")
    no_intervals = found.no_intervals or few_resamples(found.cosines)
    screen.show(
        f"no intervals: {no_intervals}"
        if no_intervals
        else f"{confidence:.0%} intervals ({found.cosines.attrs['interval']})",
    )


def _table(title: str, *columns: str) -> Table:
    # As wide as its title, which would wrap otherwise.
    table = Table(
        title=title, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, min_width=len(title)
    )
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=bool(index))
    return table


def _by_layer(found: "Comparison") -> Table:
    """The mean over all pairs at every layer."""
    at = found.cosines.sel(position=found.position)
    title = f"Mean cosine between {n_averaged(at)} directions, position {found.position}"
    noiseless = "mean_disattenuated" in at
    columns = ("without noise", "permuted") if noiseless else ("lowest", "highest")
    table = _table(title, "layer", "mean", *columns)
    for layer in at["layer"].values.tolist():
        cell = at.sel(layer=layer)
        if noiseless:
            null = cell["mean_null"].values if "mean_null" in cell else None
            other = [_cell(cell, "mean_disattenuated"), "" if null is None else _span(null)]
        else:
            pairs = cell["cosine"].values[~_diagonal(cell)]
            known = pairs[np.isfinite(pairs)]
            other = [_two(known.min()), _two(known.max())] if len(known) else ["", ""]
        style = "bold" if layer == found.layer else None
        table.add_row(str(layer), _cell(cell, "mean_cosine"), *other, style=style)
    return table


def _pairs(found: "Comparison") -> Table:
    """The least alike pairs at the layer and position to look at."""
    from workbench.compare.runs import lowest_pairs

    at = found.at
    n = at.sizes["name"] * (at.sizes["name"] - 1) // 2
    columns = [name for name in ("cosine", "disattenuated") if name in at]
    heads = {"cosine": "cosine", "disattenuated": "without noise"}
    p = ["p, one direction"] if "p_one_direction" in at else []
    few = "The one pair" if n == 1 else f"All {n} pairs"
    what = f"{_PAIRS} least alike of {n} pairs" if n > _PAIRS else few
    title = f"{what}, layer {found.layer}, position {found.position}"
    table = _table(title, "pair", *(heads[name] for name in columns), *p)
    if n > _PAIRS:
        table.caption = "all of them are in cosines.csv with --out"
    names = [str(each) for each in at["name"].values]
    for row, column in lowest_pairs(at, _PAIRS):
        cell = at.isel(name=row, name_other=column)
        values = [_cell(cell, name) for name in columns]
        values += [_p(float(cell["p_one_direction"]))] if p else []
        table.add_row(f"{names[row]}, {names[column]}", *values)
    return table


def _against_reference(found: "Comparison") -> Table:
    """Every layer, or position, against the one to look at."""
    from workbench.compare.runs import with_reference

    over, at = found.over, with_reference(found)
    reference = at[f"{over}_other"].item()
    other = "position" if over == "layer" else "layer"
    name = str(at["name"].item())
    title = f"Cosine of {name} with {over} {reference}, {other} {at[other].item()}"
    columns = [name for name in ("cosine", "disattenuated") if name in at]
    table = _table(title, over, *("without noise" if c != "cosine" else c for c in columns))
    for label in at[over].values.tolist():
        cell = at.sel({over: label})
        style = "bold" if label == reference else None
        table.add_row(str(label), *(_cell(cell, name) for name in columns), style=style)
    return table


def _across(found: "Comparison") -> Table:
    """For each label of the first set: the same one of the second, and the most alike."""
    over, at = found.over, found.at
    at = at if over == "name" else at.isel(name=0)
    place = [f"{axis} {at[axis].item()}" for axis in ("layer", "position") if axis != over]
    table = _table(
        f"Cosines between the two sets, {', '.join(place)}", f"first: {over}", "the same", "", ""
    )
    table.columns[2].header, table.columns[2].justify = "most alike in the second", "left"
    others = at[f"{over}_other"].values.tolist()
    for label in at[over].values.tolist():
        row = at.sel({over: label})
        same = _cell(row.sel({f"{over}_other": label}), "cosine") if label in others else "-"
        known = row["cosine"].fillna(-2)
        best = row.isel({f"{over}_other": int(known.values.argmax())})
        most = [str(best[f"{over}_other"].item()), _cell(best, "cosine")]
        table.add_row(str(label), same, *most)
    return table


def _overlap(found: "Comparison") -> str:
    """What the principal angles say, in one line."""
    from workbench.study.steps.geometry import overlap_line

    assert found.angles is not None
    at = found.angles.sel(layer=found.layer, position=found.position)
    random = f"random {float(at['random_overlap']):.2f}"
    if "half_overlap" in at:
        return overlap_line(at)
    smallest = float(at["angle"].min())
    return f"subspaces of all names: overlap {float(at['overlap']):.2f} ({random}), smallest " + (
        f"principal angle {smallest:.0f} degrees" if smallest == smallest else "angle not measured"
    )


def _unmeasured(found: "Comparison") -> list[str]:
    """Why places that the tables show have no cosine, or none without noise."""
    from workbench.compare.runs import with_reference

    few = np.isin(_names(found.cosines), few_names(found.cosines))
    at, shown = found.at, np.s_[...]
    if len(found.sources) == 2:
        at = at[["cosine"]]
    elif found.over != "name":
        at = with_reference(found)
    else:
        at = found.cosines.sel(position=found.position)
        at = at.transpose("layer", "name", "name_other", ...)
        shown = _shown_pairs(found)
        few = np.broadcast_to(few[:, None] | few, shown.shape)[shown]
    zero = np.isnan(at["cosine"].values[shown])
    noisy = np.zeros_like(zero)
    if "disattenuated" in at:
        noisy = np.isnan(at["disattenuated"].values[shown]) & ~zero
    reasons = {
        "a vector there is zero but for rounding, as a difference of means is at layer 0 on a "
        "token that all prompts share": zero,
        "a direction there is not above its noise": noisy & ~few,
        "too few prompts": noisy & few,
    }
    return [reason for reason, where in reasons.items() if where.any()]


def _shown_pairs(found: "Comparison") -> Any:
    """The pairs of one set in its tables, [layer name name_other]: listed, or within a mean."""
    from workbench.compare.runs import lowest_pairs

    layers, names = found.cosines["layer"].values.tolist(), _names(found.cosines)
    shown = np.zeros((len(layers), len(names), len(names)), dtype=bool)
    if len(layers) > 1:
        averaged = np.isin(names, averaged_names(found.cosines))
        shown |= np.triu(np.outer(averaged, averaged), k=1)
    for row, column in lowest_pairs(found.at, _PAIRS):
        shown[layers.index(found.layer), row, column] = True
    return shown


def _names(cosines: "xr.Dataset") -> list[str]:
    return [str(each) for each in cosines["name"].values]


def _diagonal(at: Any) -> Any:
    """Where a square map compares a name with itself."""
    return at["name"].values[:, None] == at["name_other"].values


def _cell(at: Any, name: str) -> str:
    """A cosine to two digits, with its interval."""
    return estimated(at, name, _two)


def _p(value: float) -> str:
    return f"{value:.2g}" if value == value else "not tested"


def _span(ends: Any, between: str = " to ") -> str:
    low, high = float(ends[0]), float(ends[-1])
    return f"{_two(low)}{between}{_two(high)}" if low == low else "-"


def _two(cosine: float) -> str:
    return as_cosine(cosine, ".2f")
