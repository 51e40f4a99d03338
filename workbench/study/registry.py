"""Which analyses a run can make of what it found: one entry each, and how they are chosen.

Settings and ``--help`` read this list, so the code behind an entry is imported only when it runs.
Another analysis is another entry, and two functions in ``steps``: one takes the `Material` of a run
and returns a dataset per result, the other says in one line what was found.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.arguments.words import meant
from workbench.errors import StudyError
from workbench.positions import Position
from workbench.study import names

if TYPE_CHECKING:
    import xarray as xr

Results = Mapping[str, "xr.Dataset"]


@dataclass(frozen=True)
class Found:
    """What came out of an analysis.

    Attributes:
        results: by name.
        reason: why some are missing; empty where all are there.
    """

    results: Results
    reason: str = ""


@dataclass(frozen=True)
class Analysis:
    """One thing that can be asked of a finished run.

    Attributes:
        name: as it is chosen by.
        what: one line for ``--help``.
        needs: without which it is skipped.
        results: its datasets, each an artifact of this name.
        home: module and function of ``steps`` that compute them. Beside it stands ``…_line``: what
            was found, in one line, from the results of this analysis, and the layer and position
            that the run chose.
        made_from: files of the run that it reads, where they are there.
        cheap: whether it is made by default.
        line_needs: the results that the line is made from; all of them by default.
        beside: other files of the run that it writes.
    """

    name: str
    what: str
    needs: str
    results: tuple[str, ...]
    home: str
    made_from: tuple[str, ...]
    cheap: bool = True
    line_needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """The file that says why it was skipped, in the run's folder."""
        return f"{names.ANALYSES_FOLDER}/{self.name}.skipped.json"

    @property
    def made(self) -> tuple[str, ...]:
        """The files that it writes where it is made, in the run's folder."""
        return (*map(names.result_name, self.results), *self.beside)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it may write."""
        return (*self.made, self.note)

    def compute(self, material: Any) -> "Found":
        """The results, by name, or some of them and why the others are missing.

        Raises:
            WorkbenchError: this run has not what the analysis needs.
        """
        found = self._function()(material)
        if not isinstance(found, Found):
            found = Found(found)
        expected = [name for name in self.results if not found.reason or name in found.results]
        assert list(found.results) == expected, f"{self.name} gave {tuple(found.results)}"
        return found

    def describe(self, results: Results, layer: int, position: Position) -> str | None:
        """What was found, in one line; None where what it is made from is missing."""
        if not all(name in results for name in self.line_needs or self.results):
            return None
        return self._function("_line")(results, layer, position)

    def _function(self, suffix: str = "") -> Callable[..., Any]:
        module, function = self.home.split(".")
        return getattr(import_module(f"workbench.study.steps.{module}"), f"{function}{suffix}")


_CATEGORY_PLACE = (*names.PLACE, names.CATEGORY_DIRECTIONS)
_CATEGORIES = "two or more harm categories of two or more kept training prompts"

ANALYSES = (
    Analysis(
        name="pca",
        what="principal components of the test prompts at every layer",
        needs="three or more test prompts",
        results=("pca",),
        home="geometry.pca",
        made_from=names.PLACE,
    ),
    Analysis(
        name="projections",
        what="test prompts projected on the direction of every layer",
        needs="test prompts",
        results=("projections",),
        home="geometry.projections",
        made_from=(names.DIRECTIONS, *names.PLACE),
    ),
    Analysis(
        name="cosines",
        what="cosines between categories, layers and positions, with intervals",
        needs=_CATEGORIES,
        results=("cosines", "cosines_between_layers", "cosines_between_positions"),
        home="geometry.cosines",
        made_from=names.PLACE,
        beside=(names.RESAMPLED_DIRECTIONS,),
    ),
    Analysis(
        name="angles",
        what="principal angles between the subspaces of categories",
        needs=_CATEGORIES,
        results=("angles",),
        home="geometry.angles",
        made_from=names.PLACE,
    ),
    Analysis(
        name="cosmic",
        what="which direction COSMIC picks, by activations alone, beside the rule's",
        needs="a direction that passes its filters",
        results=("cosmic",),
        home="selection.cosmic",
        made_from=(names.DIRECTIONS, *names.PLACE),
    ),
    Analysis(
        name="transfer",
        what="what each category's direction does to every category's refusals",
        needs=f"{_CATEGORIES}, and test prompts of them that are refused",
        results=("transfer",),
        home="transfer.transfer",
        made_from=(*_CATEGORY_PLACE, names.REPLIES),
    ),
    Analysis(
        name="transfer_rates",
        what="the same by judged refusal rates: a reply per direction and test prompt, twice",
        needs=f"{_CATEGORIES}, and test prompts of them that are refused",
        results=("transfer_rates",),
        home="transfer.transfer_rates",
        made_from=(*_CATEGORY_PLACE, names.REPLIES),
        cheap=False,
    ),
    Analysis(
        name="vocabulary",
        what="tokens that the directions promote and suppress",
        needs="an architecture whose logits can be read off",
        results=("vocabulary",),
        home="meaning.vocabulary",
        made_from=_CATEGORY_PLACE,
    ),
    Analysis(
        name="concept",
        what="whether directions detect their category or spell the refusal",
        needs=f"{_CATEGORIES}, and test prompts of them",
        results=("concept",),
        home="meaning.concept",
        made_from=_CATEGORY_PLACE,
    ),
    Analysis(
        name="wording",
        what="how harmful prompts are refused, and whether categories differ in the wording",
        needs="refused replies to harmful prompts",
        results=("wording",),
        home="meaning.wording",
        made_from=(names.REPLIES,),
    ),
    Analysis(
        name="losses",
        what="what the edits do to the loss on plain text and on the model's own replies",
        needs="replies to test prompts",
        results=("losses",),
        home="selection.losses",
        made_from=(*names.PLACE, names.REPLIES, names.EFFECTS),
    ),
    Analysis(
        name="heads",
        what="which attention heads carry refusal, write the direction, and where they look",
        needs="test prompts that are refused, and an architecture whose heads add up",
        results=("head_patching", "head_screen", "head_set", "head_attribution", "head_attention"),
        home="heads.heads",
        made_from=(*names.PLACE, names.REPLIES),
        line_needs=("head_patching", "head_screen", "head_set"),
    ),
)
"""Every analysis, in the order in which they are made."""

SETS = ("default", "all", "none")
"""What can be asked for instead of names."""


def chosen_analyses(wanted: str) -> tuple[Analysis, ...]:
    """The analyses that a setting names, in the order in which they are made.

    Args:
        wanted: names with commas between, or ``"default"`` (the cheap ones), ``"all"``, ``"none"``.

    Raises:
        StudyError: a name that none has.

    >>> [each.name for each in chosen_analyses("cosines, pca")]
    ['pca', 'cosines']
    """
    if wanted.strip() in SETS:
        return {
            "default": tuple(each for each in ANALYSES if each.cheap),
            "all": ANALYSES,
            "none": (),
        }[wanted.strip()]
    names = [name.strip() for name in wanted.split(",")]
    known = [each.name for each in ANALYSES]
    if unknown := [name for name in names if name not in known]:
        raise StudyError(
            f"analyses must be one of {', '.join(SETS)}, or names with commas between "
            f"({', '.join(known)}), found {unknown[0]!r}. {meant(unknown[0], known)}".rstrip()
        )
    return tuple(each for each in ANALYSES if each.name in names)


def analyses_help() -> str:
    """What ``--help`` says of the setting."""
    slow = [each.name for each in ANALYSES if not each.cheap]
    default = f"all but {', '.join(slow)}" if slow else "all"
    return (
        f"Analyses of what was found, with commas between, or all, none, default ({default}). "
        "A finished run makes those that it lacks. They are listed below."
    )
