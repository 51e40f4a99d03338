"""Which heads carry refusal: patched, alone and in sets, attributed, and where they look."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from workbench import figures
from workbench.analysis.heads.attention import collect_attention
from workbench.analysis.heads.attribution import direct_attribution
from workbench.analysis.heads.metric import Aim
from workbench.analysis.heads.patching import patch_heads
from workbench.analysis.heads.screen import attribution_patching
from workbench.analysis.heads.sets import check_search, find_minimal_head_set
from workbench.arguments import checked
from workbench.artifact import save_dataset, write_text
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError, WorkbenchError
from workbench.kept import kept_end, kept_line
from workbench.labels import head_label, head_labels, largest_cells
from workbench.models.hooked import HookedModel
from workbench.models.organisms import organism_card, organism_names
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import Judge
from workbench.statistics.ranks import is_outside, rank_p_value
from workbench.study import names
from workbench.study.keeping import check_kept
from workbench.study.ledger import Ledger, delete_figure, holds_run
from workbench.study.material import Material
from workbench.study.occupied import occupied
from workbench.study.registry import Found, Results
from workbench.study.results import choose
from workbench.study.settings import Study
from workbench.study.stages import open_run
from workbench.study.thoughts import check_scored_after_prompt
from workbench.tabled import Tabled
from workbench.written import estimated, p_among_controls

MetricName = Literal["refusal_score", "projection"]

_FIGURES = ("head_map", "head_set", "head_attribution", "head_board", "head_attention")
N_PROMPTS = 32
"""Prompts of either kind in the analysis of a run: intervals are narrow enough, and time short."""
N_RANDOM = 8
"""Random sets in the analysis of a run; each answers all target prompts."""
N_TOP = 6
"""Heads whose attention is shown."""


@dataclass(frozen=True, eq=False, repr=False)
class Heads(Tabled):
    """What was found about the heads of one model.

    Attributes:
        results: datasets by name, each an artifact of this name: ``head_patching``, ``head_set``,
            ``head_attribution``, ``head_attention``, and ``head_screen`` where the metric is the
            refusal score.
        skipped: why one of them is missing, by its name; ``head_patching`` never is.
        made_from: the hash of each file of the run that they were made from, if of one.
    """

    results: Mapping[str, xr.Dataset]
    skipped: Mapping[str, str] = field(default_factory=dict)
    made_from: Mapping[str, str | None] = field(default_factory=dict)

    def __repr__(self) -> str:
        curve = self.results.get("head_set")
        told = "no set searched" if curve is None else f"{len(curve.attrs['heads'])} in the set"
        strong = ", ".join(head_label(layer, head) for layer, head, _ in self.top)
        return f"Heads(strongest {strong}; {told})"

    @property
    def top(self) -> list[tuple[int, int, int]]:
        """The heads with the largest effects, as (layer, head, position)."""
        return strongest(self.results["head_patching"], N_TOP)

    def figures(self) -> dict[str, go.Figure]:
        """The figures of what there is, by name."""
        patching, attribution = self.results["head_patching"], self.results.get("head_attribution")
        drawn = {"head_map": figures.head_map(patching)}
        if "head_set" in self.results:
            drawn["head_set"] = figures.head_set(self.results["head_set"])
        if attribution is not None:
            drawn["head_attribution"] = figures.head_attribution(attribution)
            drawn["head_board"] = figures.head_board(patching, attribution)
        if "head_attention" in self.results:
            drawn["head_attention"] = figures.head_attention(self.results["head_attention"])
        return drawn

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head and position, with what was measured, estimated and written."""
        patching = self.results["head_patching"]
        columns = {**_with_ends(patching, "effect", patching)}
        if "head_screen" in self.results:
            columns |= _with_ends(self.results["head_screen"], "estimate", patching)
        attribution = self.results.get("head_attribution")
        if attribution is not None:
            group = attribution["group"].values[-1]
            at = attribution.sel(group=group).drop_vars("group")
            at = at.expand_dims(position=[attribution.attrs["position"]])
            columns |= _with_ends(at, "contribution", patching)
        order = ["position", "layer", "head"]
        return xr.Dataset(columns).to_dataframe(dim_order=order).reset_index()

    @checked
    def save(self, folder: str | Path, png: bool = False) -> list[Path]:
        """Writes the artifacts, the table and the figures; in a run's folder, into its ledger, too.

        Raises:
            StudyError: the run in the folder is another one by now, or another process writes
                there.
            ArtifactError: the folder cannot be written, or pictures cannot be drawn here.
        """
        folder = Path(folder)
        if folder.name != names.HEADS_FOLDER or not holds_run(folder.parent):
            return self._write(folder, png)
        with occupied(folder.parent):
            ledger = Ledger.read(folder.parent)
            changed = [name for name, own in self.made_from.items() if own != ledger.digest(name)]
            if changed or not self.made_from:
                of = f"another {changed[0]}" if changed else "no run"
                raise StudyError(
                    f"these heads were found with {of}, and not with the run in {folder.parent}. "
                    "Find them again in this run, or save them elsewhere."
                )
            return self._write(folder, png, ledger)

    def _write(self, folder: Path, png: bool, ledger: Ledger | None = None) -> list[Path]:
        """Writes everything, each file of numbers into the ledger when it is there.

        What an earlier search left in a run is taken away: it would stand beside another's.
        """
        if ledger is not None:
            ledger.drop(*(own for own in ledger.entries if Path(own).parent.name == folder.name))
            for name in _FIGURES:
                delete_figure(folder / names.FIGURES, name)
        written = []
        for name, dataset in self.results.items():
            written.append(save_dataset(folder / f"{name}.safetensors", dataset, kind=name))
        written.append(write_text(folder / "heads.csv", self.to_dataframe().to_csv(index=False)))
        if ledger is not None:
            for path in written:
                ledger.keep(f"{names.HEADS_FOLDER}/{path.name}", names.PLACE)
        for name, figure in self.figures().items():
            files = figures.save_figure(figure, folder / names.FIGURES, name, png=png)
            written += files.values()
        return written


def study_heads(
    model: HookedModel,
    direction: Directions,
    harmful: PromptSet,
    harmless: PromptSet,
    *,
    refusal_tokens: Sequence[int],
    positions: Sequence[int] = (-1,),
    layers: Sequence[int] | None = None,
    metric: MetricName = "refusal_score",
    aim: Aim = "induce",
    threshold: float = 0.9,
    max_heads: int = 8,
    n_random: int = 20,
    chosen_on: Mapping[str, PromptSet] | None = None,
    judge: Judge = "combined",
    max_new_tokens: int = 48,
    system: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Heads:
    """Patches every head, grows a minimal set, attributes the direction, looks where heads look.

    The set is patched at all ``positions`` together, and drawn from the heads of all ``layers``.
    What cannot be made, other than the patching, is left out, and `Heads.skipped` says why.

    Args:
        model: the model.
        direction: the refusal direction, attributed where it was read.
        harmful: prompts that the model refuses.
        harmless: prompts that it answers.
        refusal_tokens: first tokens of its refusals.
        positions: that are patched, each on its own.
        layers: that are patched; all by default.
        metric: ``"refusal_score"``, or ``"projection"`` on the direction.
        aim: ``"induce"`` refusal of harmless prompts, or ``"suppress"`` that of harmful ones.
        threshold: share of replies that the set has to turn.
        max_heads: the largest set that is tried.
        n_random: random sets of the same size to compare it with.
        chosen_on: other prompts, ``harmful`` and ``harmless``, on which the heads of the set are
            chosen, so that it is judged on prompts that the search did not see; by default it is
            judged on those that it was chosen on, which flatters it.
        judge: how replies are judged.
        max_new_tokens: longest reply.
        system: a system prompt for all of them.
        confidence: of the intervals.
        seed: of their bootstraps.
        say: is told what happens.

    Raises:
        AxisError: positions or layers that are not there, or a metric or aim that is none.
        StudyError: a threshold that is no share, numbers that make no sense, or no such judge.
    """
    _check(metric, aim, threshold, max_heads, n_random, judge)
    source, target = (harmful, harmless) if aim == "induce" else (harmless, harmful)
    shared = {"system": system, "confidence": confidence, "seed": seed}
    asked = {"positions": tuple(positions), "layers": layers, "aim": aim}
    onto = {"onto": direction} if metric == "projection" else {}
    tokens = {"refusal_tokens": tuple(refusal_tokens)}
    n_heads = model.n_heads * len(model.layers_with("z") if layers is None else layers)
    places = ", ".join(map(str, positions))
    say(f"patching {n_heads} heads at position {places} on {len(target)} prompts")
    patching = patch_heads(
        model, source, target, metric=metric, **onto, **asked, **tokens, **shared
    )
    chosen_layers = model.layers_with("z") if layers is None else layers
    search = (source, target)
    if chosen_on is not None:
        kinds = ("harmful", "harmless") if aim == "induce" else ("harmless", "harmful")
        search = (chosen_on[kinds[0]], chosen_on[kinds[1]])
    both = harmful + harmless
    top = strongest(patching, N_TOP)
    place = top[0][2]
    steps: dict[str, tuple[str, Callable[[], xr.Dataset]]] = {
        "head_screen": (
            "screening them by gradient",
            lambda: attribution_patching(
                model, source, target, exact=patching, **asked, **tokens, **shared
            ),
        ),
        "head_set": (
            "growing the smallest set that turns the replies",
            lambda: find_minimal_head_set(
                model,
                *search,
                threshold=threshold,
                candidates=[
                    (layer, head) for layer in chosen_layers for head in range(model.n_heads)
                ],
                max_heads=max_heads,
                n_random=n_random,
                positions=tuple(positions),
                aim=aim,
                judge=judge,
                max_new_tokens=max_new_tokens,
                judged=None if chosen_on is None else target,
                **tokens,
                **shared,
            ),
        ),
        "head_attribution": (
            "attributing the direction to heads",
            lambda: direct_attribution(
                model,
                direction,
                both,
                position=direction.positions[0],  # pyright: ignore[reportArgumentType]
                **shared,
            ),
        ),
        "head_attention": (
            "",
            lambda: collect_attention(
                model,
                [(layer, head) for layer, head, position in top if position == place],
                both,
                position=place,
                **shared,
            ),
        ),
    }
    if metric != "refusal_score":
        del steps["head_screen"]
    found: dict[str, xr.Dataset] = {"head_patching": patching}
    skipped: dict[str, str] = {}
    for name, (line, step) in steps.items():
        if line:
            say(line)
        try:
            found[name] = step()
        except WorkbenchError as error:
            # What stands already took most of the time, and is whole without this.
            skipped[name] = str(error)
            say(f"{name} skipped: {error}")
    planted = planted_heads(model.name)
    if planted is not None:
        for name in {"head_patching", "head_attribution"} & {*found}:
            found[name].attrs["planted_heads"] = planted
    return Heads(found, skipped)


def find_heads(
    study: Study,
    out: str | Path | None = None,
    *,
    positions: Sequence[int] | None = (-1,),
    layers: Sequence[int] | None = None,
    metric: MetricName = "refusal_score",
    aim: Aim = "induce",
    threshold: float = 0.9,
    max_heads: int = 8,
    n_random: int = 20,
    model: HookedModel | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Heads, Path]:
    """The heads of a study's model, with the direction that the study selects.

    Whatever of the run is in its folder is read from there; what is missing up to the direction is
    made and saved as `run_study` does, which can go on from it. The heads of the set are chosen on
    validation prompts and judged on test prompts; all else is measured on test prompts. Of either,
    only those count that the model refuses (harmful) or answers (harmless).

    Args:
        study: the settings.
        out: the run's folder; by default ``runs/`` and the model's name.
        positions: that are patched; None for all post-instruction tokens.
        layers: that are patched; all by default.
        metric: see `study_heads`, as are the next four.
        aim: what patching should do.
        threshold: share of replies that the set has to turn.
        max_heads: the largest set that is tried.
        n_random: random sets to compare it with.
        model: the study's model, where it is loaded already.
        say: is told what happens.

    Returns:
        What was found, and the folder for it; nothing is written there yet.

    Raises:
        StudyError: the folder holds another study, nothing passes the selection, or too few test
            prompts are refused or answered.
        AxisError: positions or layers that are not there, or a metric or aim that is none.
    """
    # All that can be wrong is said before the model is loaded and the direction searched.
    _check(metric, aim, threshold, max_heads, n_random, study.judge)
    check_scored_after_prompt(study, "patching of heads")
    if positions is not None and not all(position < 0 for position in positions):
        raise AxisError(
            f"positions must be negative, since they count from the end, found {list(positions)}."
        )
    with open_run(study, out, model=model, say=say) as stages:
        for layer in layers or ():
            stages.model.hook_name("z", layer)
        directions = stages.directions()
        choice = choose(study, stages.scores(directions))
        direction = stages.direction(directions, choice)
        told, tests = stages.treatment(), stages.all_kept("test")
        check_kept(told, "patching of heads")
        say(kept_line(told))
        if positions is None:
            positions = stages.model.tokens(tests["harmful"], study.system).post_instruction
        found = study_heads(
            stages.model,
            direction,
            tests["harmful"],
            tests["harmless"],
            refusal_tokens=stages.refusal_tokens(),
            positions=positions,
            layers=layers,
            metric=metric,
            aim=aim,
            threshold=threshold,
            max_heads=max_heads,
            n_random=n_random,
            chosen_on=stages.all_kept("validation"),
            judge=study.judge,
            max_new_tokens=study.max_new_tokens,
            system=study.system,
            confidence=study.confidence,
            seed=study.seed,
            say=say,
        )
        origin = {name: stages.ledger.digest(name) for name in names.PLACE}
    results = _of_kept(found.results, told)
    return replace(found, results=results, made_from=origin), stages.folder / names.HEADS_FOLDER


def heads(material: Material) -> Found:
    """Every head patched where the reply begins, and the chosen direction attributed."""
    study = material.study
    check_scored_after_prompt(study, "patching of heads")
    check_kept(material.treatment, "patching of heads")
    tests, choosing = (
        {
            kind: own[kind].sample(min(N_PROMPTS, len(own[kind])), seed=study.seed)
            for kind in ("harmful", "harmless")
        }
        for own in (material.kept_test, material.validation)
    )
    found = study_heads(
        material.model,
        material.direction,
        tests["harmful"],
        tests["harmless"],
        refusal_tokens=material.refusal_tokens,
        n_random=N_RANDOM,
        chosen_on=choosing,
        judge=study.judge,
        max_new_tokens=study.max_new_tokens,
        system=study.system,
        confidence=study.confidence,
        seed=study.seed,
    )
    reasons = [f"{name}: {reason}" for name, reason in found.skipped.items()]
    return Found(_of_kept(found.results, material.treatment), "; ".join(reasons))


def heads_line(results: Results, layer: int, position: int) -> str:
    """The heads with the largest effects, the smallest set found, and how the screen ranks."""
    patching, curve = results["head_patching"], results["head_set"]
    at = patching.isel(position=-1)
    effects = at["effect"].transpose("layer", "head").values
    layers, numbers = at["layer"].values, at["head"].values
    order = np.argsort(-np.abs(effects), axis=None)[:4]
    top = [
        f"{head_label(int(layers[row]), int(numbers[column]))} {effects[row, column]:+.1f}"
        for row, column in zip(*np.unravel_index(order, effects.shape), strict=True)
    ]
    screen = results["head_screen"].isel(compared_position=-1)
    return (
        f"largest effects {', '.join(top)} {patching['effect'].attrs['units']}; {set_line(curve)}; "
        f"{screen_line(screen)}{kept_end(patching)}"
    )


def screen_line(at: xr.Dataset) -> str:
    """How the gradient screen ranks heads beside exact patching, at one position."""
    text = (
        f"rank correlation of the gradient screen {estimated(at, 'rank_correlation', '.2f')} over "
    )
    text += f"{at.attrs['n_cells']} heads, most of them noise"
    n = int(at["n_above_noise"])
    if float(at["rank_correlation_above_noise"]) != float(at["rank_correlation_above_noise"]):
        return f"{text}; too few effects told from zero ({n}) to rank those alone"
    value = estimated(at, "rank_correlation_above_noise", ".2f")
    return f"{text}; {value} over the {n} with an effect told from zero"


def set_line(curve: xr.Dataset) -> str:
    """The set of heads that was found, its judged rate, and that of random sets."""
    names = head_labels(curve.attrs["heads"])
    at = curve.isel(size=-1)
    reached = "" if curve.attrs["reached"] else f"threshold {curve.attrs['threshold']:.0%} missed, "
    text = f"{len(curve.attrs['heads'])} together ({names}): {reached}refusal rate "
    text += estimated(at, "rate", ".0%")
    if n := curve.sizes["draw"]:
        every, own = curve["random_score"].isel(size=-1).values, float(at["score"])
        place = "outside" if bool(is_outside(own, every)) else "within"
        p = p_among_controls(float(rank_p_value(own, every)))
        rate, sets = float(curve["random_rate"].mean()), "set" if n == 1 else "sets"
        text += f", its score {place} the range of {n} random {sets} "
        text += f"(two-sided p = {p}), refused {rate:.0%}"
    return f"{text}; {judged_on(curve)}"


def judged_on(curve: xr.Dataset) -> str:
    """Whether the heads were chosen on other prompts than those that they are judged on."""
    n = curve.attrs["n_target"]
    if curve.attrs["held_out"]:
        return f"judged on {n} prompts, chosen on {curve.attrs['n_chosen_on']} others"
    return f"chosen and judged on the same {n} prompts, which flatters the set"


def _of_kept(
    results: Mapping[str, xr.Dataset], told: Mapping[str, Mapping[str, Any]]
) -> dict[str, xr.Dataset]:
    """The results, each with how many of the test prompts the model treats as labelled."""
    return {name: own.assign_attrs(test_prompts=dict(told)) for name, own in results.items()}


def strongest(patching: xr.Dataset, n: int) -> list[tuple[int, int, int]]:
    """The largest effects of either sign whose intervals leave zero out; the largest if none does.

    As (layer, head, position).
    """
    dims = ("layer", "head", "position")
    effect = patching["effect"]
    found = largest_cells(effect, patching["effect_interval"], n, dims)
    found = found or largest_cells(effect, None, 1, dims)
    if not found:  # all of them are zero
        found = [tuple(int(effect[dim].values[0]) for dim in dims)]
    return [(layer, head, position) for layer, head, position in found]


def _check(
    metric: str, aim: str, threshold: float, max_heads: int, n_random: int, judge: Judge
) -> None:
    """Refuses settings that make no sense, before anything is computed."""
    if metric not in get_args(MetricName):
        raise AxisError(
            f"metric must be one of {', '.join(get_args(MetricName))}, found {metric!r}."
        )
    if aim not in get_args(Aim):
        raise AxisError(f"aim must be one of {', '.join(get_args(Aim))}, found {aim!r}.")
    check_search(aim, threshold, max_heads, n_random, judge)


def planted_heads(model_name: str) -> list[list[int]] | None:
    """The heads that were planted in an organism; None for a model without any."""
    if model_name not in organism_names():
        return None
    components = organism_card(model_name).get("planted", {}).get("components", {})
    found = sorted(list(head) for own in components.values() for head in own["heads"])
    return found or None


def _with_ends(dataset: xr.Dataset, name: str, like: xr.Dataset) -> dict[str, xr.DataArray]:
    """A variable and the bounds of its interval, at the heads and positions of the patching."""
    ends = dataset[f"{name}_interval"]
    columns = {name: dataset[name]}
    for end in ("low", "high"):
        columns[f"{name}_{end}"] = ends.sel(bound=end).drop_vars("bound")
    axes = {axis: like[axis].values for axis in ("layer", "head", "position")}
    return {key: each.reindex(axes).reset_coords(drop=True) for key, each in columns.items()}
