"""Prompts from anywhere: the built-in sets, the known benchmarks, files, folders and the Hub.

One function reads them all, `load_prompts`; `prompt_sources` lists what there is by name.
"""

import difflib
import re
import reprlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import PromptError
from workbench.intake.limits import MAX_BYTES, MAX_ROWS, allowing, lies_there
from workbench.intake.parsing import parsing
from workbench.prompts.files import SUFFIXES, parse_text, read_table
from workbench.prompts.inputs import table_of
from workbench.prompts.labels import Values
from workbench.prompts.presets import PRESETS, Preset, fetch, fetch_data_set
from workbench.prompts.prompt import BUILT_IN, LABELS, UNSPECIFIED, proper_text, whole_number
from workbench.prompts.promptset import PromptSet
from workbench.prompts.reading import Reading, read_prompts
from workbench.prompts.table import Table
from workbench.prompts.taxonomy import CROSSWALK, to_categories

if TYPE_CHECKING:
    import pandas as pd


_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_prompts(
    source: Any,
    *,
    path: str | Path | None = None,
    split: str | None = None,
    text_column: str | None = None,
    category_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    context_column: str | None = None,
    label: str | None = None,
    category: str | None = None,
    label_values: Values | None = None,
    name: str | None = None,
    limit: int | None = None,
    max_bytes: int | None = None,
    max_rows: int | None = None,
) -> PromptSet:
    """Loads prompts by name, from a file or folder, from the Hub, or from a table in memory.

    Of a conversation (``messages``, ShareGPT's ``conversations``, TRL's ``prompt``) the prompt is
    the **first turn of the user**; later turns and system prompts are left out. In Alpaca's and
    Dolly's rows the ``input`` or ``context`` follows the ``instruction`` after a blank line. How
    many rows that concerned stands in ``provenance["notes"]``.

    Args:
        source: a built-in set (``harmful``, ``harmless``, ``borderline``); a benchmark
            (``advbench``, ``harmbench``, ``jailbreakbench``, ``strongreject``, ``xstest``,
            ``or_bench_hard``), or ``NAME=FILE`` for a downloaded file of it; a file (.csv, .json,
            .jsonl, .parquet, .txt, .tsv; also .gz); a folder that `datasets.save_to_disk` wrote, or
            of such files; a data set of the Hugging Face Hub, ``owner/name``; a
            ``pandas.DataFrame``, a ``datasets.Dataset`` or a list of texts.
        path: a downloaded file of the named benchmark. Without it the benchmark comes from the
            Hugging Face Hub.
        split: which split to read, where a source has several: of a folder, a data set of the Hub,
            or a JSON object of lists.
        text_column: where the text stands; found from common names if not given.
        category_column: where the category stands. Given for a benchmark, it keeps the values as
            they are; otherwise they become our categories (see `workbench.prompts.taxonomy`).
            ``""`` reads none.
        label_column: where the label stands. Harmful may be spelled unsafe or malicious, harmless
            safe or benign, borderline pseudo-harmful. ``""`` reads no labels.
        id_column: where the ids stand; without one, prompts are numbered from 1.
        context_column: what follows the text; by default ``input`` or ``context``, ``""`` for none.
        label: of a source that says labels, only the prompts that have this one; how many were left
            out stands in ``provenance["notes"]``. Of one that says none, the label of every prompt.
        category: likewise, the prompts of one category, or the category of every prompt.
        label_values: what the values of the label column mean, where they are others: ``{1:
            "harmful", 0: "harmless"}`` or ``"1=harmful, 0=harmless"``. With ``label=`` rows of
            other values are left out.
        name: what to call the set; the source's name or the file's stem if not given.
        limit: at most so many prompts, drawn with the source's mix of labels and categories; the
            same ones every time.
        max_bytes: of a file, and of what it unpacks to; 512 MiB by default.
        max_rows: of a file or data set; 1,000,000 by default.

    Raises:
        PromptError: the source is not known, cannot be reached or read, is empty, lacks a column,
            has several that fit, holds a label, category or text that cannot be used, or more than
            is read.

    >>> load_prompts("harmful", limit=16)
    PromptSet('harmful': 16 prompts; 16 harmful; 8 categories)
    """
    if label is not None and label not in LABELS:
        raise PromptError(f"label={label!r} is not a label. Expected {', '.join(LABELS)}.")
    if name is not None:
        name = proper_text("the name of the set", name)
    if limit is not None:
        limit = whole_number("limit", limit, least=1)
    reading = Reading(
        text_column, category_column, label_column, id_column, context_column, label, category,
        label_values,
    )  # fmt: skip
    with allowing(max_bytes=max_bytes, max_rows=max_rows):
        opened = open_source(source, path=path, split=split)
    if opened.preset is None and opened.provenance["kind"] == "built-in" and reading.given():
        raise PromptError(
            f"{source!r} is built in and takes no {', '.join(reading.given())}: its prompts say "
            "all of it. Leave it out."
        )
    prompts = opened.read(reading, name)
    return prompts if limit is None or limit >= len(prompts) else prompts.sample(limit)


class Opened(NamedTuple):
    """A source whose rows are read, and not yet taken for prompts.

    Attributes:
        table: the rows.
        name: what the set is called if nobody says otherwise.
        provenance: where the rows come from.
        preset: the benchmark's layout, if it is one.
    """

    table: Table
    name: str
    provenance: Mapping[str, Any]
    preset: Preset | None = None

    def read(self, reading: Reading, name: str | None = None) -> PromptSet:
        """The rows as prompts; see `read_prompts`."""
        with parsing(self.table.origin, "a table of prompts", PromptError):
            return read_prompts(
                self.table, reading, name or self.name, self.provenance, self.preset
            )


def open_source(
    source: Any,
    *,
    path: str | Path | None = None,
    split: str | None = None,
    optional: bool = False,
) -> Opened:
    """Finds out what a source is, and reads its rows.

    Args:
        source: see `load_prompts`.
        path: see `load_prompts`.
        split: see `load_prompts`.
        optional: whether a source without splits may ignore ``split``.

    Raises:
        PromptError: the source is not known, or cannot be reached or read.
    """
    preset = PRESETS.get(source) if isinstance(source, str) else None
    if isinstance(source, str) and not source.strip():
        raise PromptError("the name of the source is empty. Pass a name, a file or a folder.")
    if isinstance(source, str) and path is None and "=" in source:
        known, file = source.split("=", 1)
        if known in PRESETS:
            preset, path = PRESETS[known], file
    if isinstance(path, str) and not path.strip():
        raise PromptError("the path of the file is empty. Pass that of a file.")
    if path is not None and preset is None:
        raise PromptError(
            f"path= goes with a benchmark's name ({', '.join(PRESETS)}), not with "
            f"{reprlib.repr(source)}. To read any other file, pass the path itself as the source."
        )
    if isinstance(source, str) and source in BUILT_IN:
        opened = _built_in(source)
    elif preset is not None:
        opened = _benchmark(preset, path)
    elif not isinstance(source, str | Path):
        return Opened(table_of(source, split), "prompts", {"kind": "table"})
    else:
        return _file(source, split, optional)
    if split is not None and not optional:
        raise PromptError(f"{source} has no splits to choose from. Leave split={split!r} out.")
    return opened


def prompt_sources() -> "pd.DataFrame":
    """The sources that have a name, one a row.

    Columns: name, kind (built-in or benchmark), n (prompts; unknown before a benchmark is loaded),
    labels, categories (both comma-separated), origin.
    """
    import pandas as pd

    rows = []
    for name in BUILT_IN:
        prompts = load_prompts(name)
        kinds = (dict.fromkeys(prompts.labels), dict.fromkeys(prompts.categories))
        rows.append((name, "built-in", len(prompts), *kinds, "shipped with the workbench"))
    for preset in PRESETS.values():
        own = CROSSWALK[preset.name]
        labels = preset.to_labels(own) if preset.to_labels else (preset.label,)
        categories = to_categories(preset.name, own) or (UNSPECIFIED,)
        kinds = (dict.fromkeys(labels), dict.fromkeys(categories))
        rows.append((preset.name, "benchmark", None, *kinds, f"{preset.origin}, {preset.source}"))
    frame = pd.DataFrame(rows, columns=["name", "kind", "n", "labels", "categories", "origin"])
    frame["n"] = frame["n"].astype("Int64")
    for column in ("labels", "categories"):
        frame[column] = [", ".join(values) for values in frame[column]]
    return frame


def _built_in(source: str) -> Opened:
    file = resources.files("workbench.prompts") / "data" / f"{source}.jsonl"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise PromptError(
            f"the built-in set {source!r} is missing from this installation ({file}). "
            "Install the workbench again."
        ) from error
    provenance = {"kind": "built-in", "source": source}
    with allowing(MAX_BYTES, MAX_ROWS):  # they are ours, whatever is said of other files
        return Opened(parse_text(text, Path(f"{source}.jsonl")), source, provenance)


def _benchmark(preset: Preset, path: str | Path | None) -> Opened:
    provenance: dict[str, Any] = {"kind": "benchmark", "source": preset.name}
    if path is None:
        table = fetch(preset)
        provenance |= {"hub": preset.hub, "config": preset.config, "split": preset.split}
    else:
        table = read_table(path)
        provenance["file"] = Path(path).name
    if preset.leave_out:
        column, value = preset.leave_out
        kept = [row for row in table.rows if row.get(column) != value]
        if len(kept) < len(table.rows):
            provenance["left_out"] = f"{len(table.rows) - len(kept)} rows with {column} = {value}"
            table = Table.of(f"{table.origin} without {value} rows", kept)
    return Opened(table, preset.name, provenance, preset)


def _file(source: str | Path, split: str | None, optional: bool) -> Opened:
    path = Path(source)
    there = lies_there(path)
    if isinstance(source, str) and not there and not path.suffix and path.name == source:
        names = (*BUILT_IN, *PRESETS)
        close = difflib.get_close_matches(source.lower(), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise PromptError(
            f"no prompts called {reprlib.repr(source)}.{hint} Built in: {', '.join(BUILT_IN)}. "
            f"Benchmarks: {', '.join(PRESETS)}. Or pass a file, a folder, or a data set "
            "of the Hub as owner/name."
        )
    for preset in PRESETS.values():
        if str(source).lower() == preset.hub.lower():
            raise PromptError(f"{source} is a benchmark known by name: pass {preset.name!r}.")
    if isinstance(source, str) and not there and _is_hub_id(source):
        table = fetch_data_set(source, split, optional=optional)
        provenance = {"kind": "hub", "source": source}
    else:
        table = read_table(path, split, optional=optional)
        provenance = {"kind": "file", "source": path.name}
    if table.split is not None:
        provenance["split"] = table.split
    name = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
    return Opened(table, name, provenance)


def _is_hub_id(source: str) -> bool:
    """Whether a source can only be the id of a data set: owner/name, and no kind of file."""
    return bool(_HUB_ID.fullmatch(source)) and Path(source).suffix.lower() not in (*SUFFIXES, ".gz")
