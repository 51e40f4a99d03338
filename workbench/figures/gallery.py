"""The gallery: every figure that a run can have, with what it asks and how it is read.

A new family of figures is one file in this folder and one line here. An entry draws from anything
that has ``.scores``, ``.choice``, ``.effects`` and ``.results`` as a run has them, and gives None
where the result that it needs was not made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import plotly.graph_objects as go
import xarray as xr

from workbench.figures import numbers
from workbench.figures.concept import concept_or_words
from workbench.figures.controls import control_effects
from workbench.figures.cosine_layers import cosine_by_layer
from workbench.figures.cosines import cosine_map, cosine_maps_by_layer
from workbench.figures.cosmic import cosmic
from workbench.figures.effects import effects
from workbench.figures.head_attention import head_attention
from workbench.figures.head_board import head_board
from workbench.figures.head_maps import head_attribution, head_map
from workbench.figures.head_set import head_set
from workbench.figures.held_out import held_out
from workbench.figures.losses import losses
from workbench.figures.pca import pca
from workbench.figures.projections import projections
from workbench.figures.selection import selection_plane
from workbench.figures.sweep import sweep
from workbench.figures.transfer import layer_bands, transfer
from workbench.figures.vocabulary import vocabulary
from workbench.figures.wording import wording


@runtime_checkable
class RunLike(Protocol):
    """What a figure may look at of a run."""

    @property
    def scores(self) -> xr.Dataset:
        """The sweep."""
        ...

    @property
    def choice(self) -> Any:
        """The selected candidate, with ``.layer`` and ``.position``."""
        ...

    @property
    def effects(self) -> xr.Dataset:
        """Refusal rates."""
        ...

    @property
    def results(self) -> Mapping[str, xr.Dataset]:
        """What the analyses found."""
        ...


@dataclass(frozen=True)
class GalleryEntry:
    """One figure of a run.

    Attributes:
        name: of its files.
        question: what it answers, as a heading.
        caption: how it is read, and what would be misread.
        answers: the published figure that shows the same, or "".
        needs: the results that it draws, with spaces between, "" for one that every run has.
        figure: from a run to the figure; called only where ``needs`` is there.
        data: from a run to the numbers that the figure draws, for `tidy`.
    """

    name: str
    question: str
    caption: str
    answers: str
    needs: str
    figure: Callable[[RunLike], go.Figure]
    data: Callable[[RunLike], xr.Dataset]

    def draw(self, run: RunLike) -> go.Figure | None:
        """The figure, or None where the run has not the results that it draws.

        Raises:
            StudyError: the result is there and holds nothing that can be drawn.
        """
        there = all(_has(run, name) for name in self.needs.split())
        return self.figure(run) if there else None


def _has(run: RunLike, name: str) -> bool:
    """Whether a run has a result; what of the main ones may be missing is an attribute of it."""
    return name in run.results or getattr(run, name, None) is not None


def _controls(run: RunLike) -> xr.Dataset | None:
    """What random vectors do, of a run that measured them."""
    return getattr(run, "controls", None)


def _between(run: RunLike, axis: str) -> go.Figure:
    """A map between all layers, or all positions."""
    return cosine_map(run.results[f"cosines_between_{axis}s"])


GALLERY = (
    GalleryEntry(
        name="sweep",
        question="Where does intervening with a direction change refusal?",
        caption="Each line is a token position, each point the candidate of one layer, the star "
        "the selected one. Bypass should be low, induce high and KL small at once. The "
        "validation prompts chose it, so it looks better here than it is: the figure held_out has "
        "the test prompts. Candidates next to each other often differ by less than their bands, so "
        "the star is one of several. Grey is what random vectors of that "
        "length do: only what leaves it is the direction's own.",
        answers="Arditi et al. 2024, selection scores by layer and position",
        needs="",
        figure=lambda run: sweep(run.scores, run.choice, _controls(run)),
        data=numbers.candidates,
    ),
    GalleryEntry(
        name="selection_plane",
        question="Which candidates remove refusal and leave the rest alone?",
        caption="A good direction lies low and to the left. Hollow marks fail a criterion of the "
        "selection, named in the subtitle; a hollow mark further left than the star is "
        "not a better choice, it was refused.",
        answers="Arditi et al. 2024, the selection rule",
        needs="",
        figure=lambda run: selection_plane(run.scores, run.choice),
        data=numbers.candidates,
    ),
    GalleryEntry(
        name="held_out",
        question="What does the chosen direction do on prompts that did not choose it?",
        caption="Filled marks are the claim: test prompts, of which the selection saw none. "
        "Hollow marks are the validation prompts that chose; where they lie further to the good "
        "side than the filled ones, the winner was lucky there. The other rows are its "
        "runners-up, where others passed the selection, not controls.",
        answers="",
        needs="held_out",
        figure=lambda run: held_out(run.held_out),  # pyright: ignore[reportAttributeAccessIssue]
        data=numbers.held_out,
    ),
    GalleryEntry(
        name="effects",
        question="Does the direction decide whether the model refuses?",
        caption="Share of test prompts refused under each condition, as the named judge sees it. "
        "Needed for refusal: the bar of harmful prompts falls when the direction is "
        "ablated. Enough for it: the bar of harmless prompts rises when it is added or "
        "when its projection is set to the mean of harmful prompts. Where a random vector "
        "(diamond) does as much, it is not the direction's doing. A reply that is not refused need "
        "not be a good one. Bars are compared on the same prompts, so two intervals that overlap "
        "can still be told apart: the subtitle says which are not.",
        answers="Arditi et al. 2024, refusals with the direction ablated and added",
        needs="",
        figure=lambda run: effects(run.effects, _controls(run)),
        data=numbers.rates,
    ),
    GalleryEntry(
        name="controls",
        question="Does the direction do more than any vector of its length?",
        caption="Each row is one intervention on one set of test prompts: the diamond is what the "
        "direction does to the refusal score, the dots what random vectors of its length do, half "
        "of them drawn as activations vary within a label. An effect is a finding where the "
        "diamond leaves the dots of both colours; how far it moves beyond them is the direction's "
        "own share.",
        answers="",
        needs="controls",
        figure=lambda run: control_effects(_controls(run)),  # pyright: ignore[reportArgumentType]
        data=numbers.controls,
    ),
    GalleryEntry(
        name="losses",
        question="What do the edits do to ordinary text?",
        caption="Change of the mean loss per token from the plain model's, on passages of everyday "
        "prose and on the model's own plain replies to harmless test prompts. An edit that leaves "
        "the model as it was lies on the line; one that does no more harm than a random direction "
        "of the same length lies at the hollow mark. Every token weighs the same. The plain loss "
        "says how far the text is from what the model was trained on; read changes against it.",
        answers="Arditi et al. 2024, loss with the direction ablated and added",
        needs="losses",
        figure=lambda run: losses(run.results["losses"]),
        data=numbers.losses,
    ),
    GalleryEntry(
        name="cosmic",
        question="Which direction turns activations into those of the other prompts?",
        caption="A second opinion that looks at no output: how far adding a candidate makes "
        "harmless prompts look harmful, and ablating it harmful ones harmless, in the few layers "
        "where they differ most; 2 would be entirely. The star is COSMIC's pick, the diamond the "
        "rule's. They are scored on the same validation prompts, which chose both. A candidate "
        "that does nothing stands on the dashed line, not at zero.",
        answers="Siu et al. 2025, COSMIC's scores by layer and position",
        needs="cosmic",
        figure=lambda run: cosmic(run.results["cosmic"]),
        data=numbers.cosmic,
    ),
    GalleryEntry(
        name="projections",
        question="How far do prompts reach along the direction?",
        caption="Test prompts, which the directions were not estimated on, projected on the "
        "direction of each layer. Bars are shares of each label. That labels separate "
        "shows that the direction carries the distinction, not that the model uses it: "
        "that is what ablating shows. Scales differ between panels, because activations "
        "grow with depth.",
        answers="Zhao et al. 2025, the projections of harmful and harmless instructions",
        needs="projections",
        figure=lambda run: projections(run.results["projections"]),
        data=numbers.projections,
    ),
    GalleryEntry(
        name="pca",
        question="Do harmful and harmless prompts lie apart?",
        caption="Test prompts on the two directions of largest spread at each layer. Labels may "
        "separate along a direction that is not among these two: the AUC in the titles, "
        "on differences of means of the other half, says whether they do. Scales differ "
        "between panels.",
        answers="Arditi et al. 2024, the principal components of activations",
        needs="pca",
        figure=lambda run: pca(run.results["pca"]),
        data=numbers.components,
    ),
    GalleryEntry(
        name="cosine_map",
        question="Do harm categories share one direction?",
        caption="Cosines between the categories' directions at the selected layer and position. "
        "All are set against the same harmless prompts, which raises every cosine, and "
        "noise lowers it: read a value beside its reliability and, on hover, its ceiling and "
        "its value without noise. A ring is no proof of one direction: with much noise, "
        "different ones are not told apart either.",
        answers="Zhao et al. 2025, the cosines between risk categories",
        needs="cosines",
        figure=lambda run: cosine_map(numbers.at_choice(run, "cosines")),
        data=numbers.pairs_at_choice,
    ),
    GalleryEntry(
        name="cosine_maps_by_layer",
        question="Where do the categories' directions part?",
        caption="The same map at every layer, in one order and on one scale. Layers at which all "
        "prompts have the same activation are left out. Early layers with short, noisy "
        "directions look less alike than they are.",
        answers="Zhao et al. 2025, the cosines between risk categories",
        needs="cosines",
        figure=lambda run: cosine_maps_by_layer(run.results["cosines"]),
        data=numbers.pairs_by_layer,
    ),
    GalleryEntry(
        name="cosine_by_layer",
        question="How alike are the categories, layer by layer?",
        caption="Mean over all pairs. Above, as measured, with the ceiling that noise sets and "
        "the range with categories permuted among prompts; below, rid of noise. A band below 1 "
        "in the lower panel says that directions differ. A mean below the permuted range says "
        "less: that the categories' prompts do, if only in how far they reach along one "
        "direction.",
        answers="Zhao et al. 2025, the cosines between risk categories",
        needs="cosines",
        figure=lambda run: cosine_by_layer(run.results["cosines"]),
        data=numbers.mean_pairs,
    ),
    GalleryEntry(
        name="cosine_between_layers",
        question="Is the direction the same at different layers?",
        caption="Cosines between the harmful-harmless differences of means of all layers at the "
        "selected position. Neighbours share most of their stream, so a bright band along "
        "the diagonal is no finding; blocks and their borders are.",
        answers="",
        needs="cosines_between_layers",
        figure=lambda run: _between(run, "layer"),
        data=numbers.between_layers,
    ),
    GalleryEntry(
        name="cosine_between_positions",
        question="Is the direction the same at different tokens?",
        caption="Cosines between the differences of means at the last token of the instruction "
        "(the leftmost position) and the template's tokens after it, at the selected "
        "layer. A low cosine between t_inst and t_post says that what is read there "
        "differs.",
        answers="Zhao et al. 2025, harmfulness at t_inst against refusal at t_post",
        needs="cosines_between_positions",
        figure=lambda run: _between(run, "position"),
        data=numbers.between_positions,
    ),
    GalleryEntry(
        name="transfer_ablate",
        question="Whose refusals does each category's direction carry?",
        caption="Mean change of the refusal score of test prompts of each category when a "
        "direction is ablated everywhere. A row that is dark everywhere belongs to a "
        "shared mechanism; a block is a mechanism of its own. A change is read against "
        "the plain score in the subtitle, below which there is nothing left to remove.",
        answers="",
        needs="transfer",
        figure=lambda run: transfer(run.results["transfer"], "ablate"),
        data=lambda run: numbers.transfer(run, "ablate"),
    ),
    GalleryEntry(
        name="transfer_rates",
        question="How much is still refused without each category's direction?",
        caption="Judged refusal rate of test prompts of each category when a direction is ablated "
        "everywhere. A rate is read against the plain rate in the subtitle. With few prompts per "
        "category it moves in large steps, so its interval, on hover, is wide.",
        answers="",
        needs="transfer_rates",
        figure=lambda run: transfer(run.results["transfer_rates"], "ablate", quantity="rate"),
        data=lambda run: numbers.transfer_rates(run, "ablate"),
    ),
    GalleryEntry(
        name="transfer_add",
        question="What does adding each category's direction do?",
        caption="Mean change of the refusal score when the raw vector is added at its own layer. "
        "The harmless column is the one to read: prompts that are refused anyway have "
        "little room to rise.",
        answers="",
        needs="transfer",
        figure=lambda run: transfer(run.results["transfer"], "add"),
        data=lambda run: numbers.transfer(run, "add"),
    ),
    GalleryEntry(
        name="layer_bands",
        question="In which layers can a category's refusal be ablated?",
        caption="Change of the refusal score when each category's own direction is ablated inside "
        "one window of layers only. Any window between where a direction is written and "
        "where it is read works, so a band says two things alone: its first layer, where "
        "the direction stands whole, and its last, after which it has been read. Which "
        "layers in between use it, it does not say. Windows overlap, so neighbours are not "
        "independent. Where no window does much and ablating everywhere does, layers "
        "stand in for each other.",
        answers="",
        needs="transfer",
        figure=lambda run: layer_bands(run.results["transfer"]),
        data=numbers.own_windows,
    ),
    GalleryEntry(
        name="vocabulary",
        question="What do the directions say in tokens?",
        caption="The tokens that each direction alone makes more and less likely, read through "
        "the final norm and unembedding. Any direction has a strongest token: only bars "
        "beyond the dotted lines leave the range of directions without meaning, random ones and "
        "such as activations of one label vary in, 5 % of which pass them at either end. What "
        "later layers make of a direction is not shown.",
        answers="",
        needs="vocabulary",
        figure=lambda run: vocabulary(run.results["vocabulary"]),
        data=numbers.vocabulary,
    ),
    GalleryEntry(
        name="concept_or_words",
        question="Concept, or words of the refusal?",
        caption="Each line is a category's direction through the layers, large at the last: how "
        "well it detects test prompts of its category, against how much of it lies in the "
        "span of the refusal tokens. The grey band is where a random direction falls. "
        "High and left is a concept, to the right are words.",
        answers="",
        needs="concept",
        figure=lambda run: concept_or_words(run.results["concept"]),
        data=numbers.concept,
    ),
    GalleryEntry(
        name="wording",
        question="Are categories refused in different words?",
        caption="Plain refusals of harmful prompts, grouped by wording and by the model's first "
        "token; words of their own prompts are left out. Colours show where a category is refused "
        "in these words more or less often than by chance; a star is a cell in which it is so by "
        "more than the largest of all cells is by chance. Clusters of low stability are arbitrary.",
        answers="",
        needs="wording",
        figure=lambda run: wording(run.results["wording"]),
        data=numbers.wording,
    ),
    GalleryEntry(
        name="head_map",
        question="Which attention heads carry refusal?",
        caption="Change of the refusal score of harmless prompts when the output of one head, at "
        "the last token, is replaced by its mean on harmful prompts. One head at a time: "
        "heads that stand in for each other look weaker than they are together.",
        answers="",
        needs="head_patching",
        figure=lambda run: head_map(run.results["head_patching"]),
        data=numbers.head_effects,
    ),
    GalleryEntry(
        name="head_set",
        question="How many heads does it take to make the model refuse?",
        caption="Heads are added one by one, each time the one that raises the score most, and "
        "all are patched together. Where the line leaves the dashed one, heads depend on "
        "each other. The search is greedy: a smaller set may exist.",
        answers="",
        needs="head_set",
        figure=lambda run: head_set(run.results["head_set"]),
        data=numbers.head_set,
    ),
    GalleryEntry(
        name="head_attribution",
        question="Which components write the direction?",
        caption="What each head and MLP adds to the projection on the direction, harmful minus "
        "harmless prompts. Direct writes only: a head that makes another one write shows "
        "nothing here.",
        answers="",
        needs="head_attribution",
        figure=lambda run: head_attribution(run.results["head_attribution"]),
        data=numbers.head_writes,
    ),
    GalleryEntry(
        name="head_board",
        question="Do the heads that write the direction also carry refusal?",
        caption="The two maps beside each other, and one by the other. Up and to the right: a "
        "head that carries refusal by writing this direction. Up and not right: by "
        "another way. Most heads do neither, so the rank correlation says little about "
        "the few that matter.",
        answers="",
        needs="head_patching head_attribution",
        figure=lambda run: head_board(
            run.results["head_patching"], run.results["head_attribution"]
        ),
        data=numbers.head_board,
    ),
    GalleryEntry(
        name="head_attention",
        question="Where do these heads look?",
        caption="Attention of the heads with the largest effects, from the last token, over the "
        "user's words and the template around them; below, single prompts. Attention "
        "says where a head reads, not what it takes from there.",
        answers="",
        needs="head_attention",
        figure=lambda run: head_attention(run.results["head_attention"]),
        data=numbers.head_attention,
    ),
)
"""Every figure of a run, in the order in which they are read."""
