"""Folders of prompts: what `datasets` saves to disk, and clones of data sets of the Hub."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.intake.arrow import check_arrow
from workbench.intake.limits import check_rows, regular_file, shortened
from workbench.intake.records import read_checked
from workbench.prompts.table import Table, picked, without_splits

DATA_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d+)-of-(?P<n>\d+)(-[0-9a-f]{16})?$")
_NO_DATA = re.compile(r"(dataset_infos?|dataset_dict|state|package|config)\.json$")


def is_saved_data_set(path: Path) -> bool:
    """Whether a folder is what `datasets.save_to_disk` writes."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def read_saved(path: Path, split: str | None, optional: bool) -> Table:
    """A `Dataset` or a `DatasetDict` that was saved to disk.

    Raises:
        PromptError: `datasets` is not installed, the folder is broken, or it holds several splits
            and none was chosen.
    """
    try:
        import datasets
    except ImportError as error:
        raise PromptError(
            f"{path} was saved with the package 'datasets', which is not installed. "
            "Run: pip install 'refusal-workbench[data]'."
        ) from error
    for file in path.rglob("*"):
        if not file.is_dir():
            regular_file(file, PromptError)
    try:
        for folder in _saved_in(path):
            state = read_checked(folder / "state.json", dict[str, Any])
            files = [folder / each["filename"] for each in state["_data_files"]]
            check_arrow(folder, files)
        loaded: Any = datasets.load_from_disk(str(path))
    except PromptError:
        raise
    except Exception as error:  # pyarrow, json and datasets each have classes of their own
        raise PromptError(
            f"{path} is a broken data set: {shortened(error)} Save it again."
        ) from error
    return of_data_set(loaded, str(path), split, optional, limited=True)


def _saved_in(path: Path) -> list[Path]:
    """The folder itself, or those of the splits of a `DatasetDict`."""
    whole = all((path / name).is_file() for name in ("state.json", "dataset_info.json"))
    if whole or not (path / "dataset_dict.json").is_file():
        return [path]
    splits = read_checked(path / "dataset_dict.json", dict[str, Any])
    return [path / split for split in splits["splits"]]


def of_data_set(
    loaded: Any, origin: str, split: str | None, optional: bool = False, limited: bool = False
) -> Table:
    """The table of a `datasets.Dataset`, or of one split of a `DatasetDict`.

    Labels that the data set stores as numbers get their names back. ``limited`` says that it was
    read just now, and not handed over.

    Raises:
        PromptError: there are several splits and none was chosen, no such split, no rows, or too
            many.
    """
    if isinstance(loaded, dict):
        split = picked(origin, list(loaded), split, optional)
        loaded = loaded[split]
    else:
        own = getattr(loaded, "split", None)
        if own is None or split != str(own):
            without_splits(origin, split, optional)
            split = None
    if limited:
        check_rows(origin, len(loaded), PromptError)
    rows = [dict(row) for row in loaded]
    for column, feature in (getattr(loaded, "features", None) or {}).items():
        if hasattr(feature, "int2str"):
            for row in rows:
                own = row[column]
                # -1 is how data sets store that a label is not known.
                row[column] = None if own is None or own < 0 else feature.int2str(own)
    return Table.of(origin, rows, split=split)


def data_files(path: Path, split: str | None, optional: bool) -> tuple[str, list[Path]]:
    """The files of one split in a folder, such as a clone of a data set of the Hub.

    Shards (``train-00000-of-00002.parquet``) belong together; any other file is a split of its own,
    named by its stem, with its folder where that is not ``data``.

    Raises:
        PromptError: no data, several splits and none was chosen, a shard that is not there, or two
            files of one name that are no shards, such as a table in two formats.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(_visible(path)):
        parts = [part for part in file.relative_to(path).parts[:-1] if part != "data"]
        stem = _stem(file)
        shard = _SHARD.match(stem)
        found.setdefault("/".join([*parts, shard["stem"] if shard else stem]), []).append(file)
    if not found:
        raise PromptError(
            f"{path} is a folder. Pass a file in it: it holds none of {', '.join(DATA_SUFFIXES)} "
            "by itself, and no data set that was saved to disk."
        )
    name = picked(f"{path}", list(found), split, optional)
    _check_shards(path, name, found[name])
    return name, found[name]


def _check_shards(path: Path, name: str, files: list[Path]) -> None:
    """Refuses files that would be read as one split and are not the shards of one.

    Raises:
        PromptError: as `data_files`.
    """
    shards = [_SHARD.match(_stem(file)) for file in files]
    inner = [str(file.relative_to(path)) for file in files]
    if len(files) == 1 and shards[0] is None:
        return
    kinds = {(file.parent, file.name.removeprefix(_stem(file))) for file in files}
    numbers = {int(shard["n"]) for shard in shards if shard}
    if len(kinds) > 1 or None in shards or len(numbers) > 1:
        raise PromptError(
            f"{path} holds the split {name!r} more than once: {shortened(', '.join(inner))}. Pass "
            "one of these files."
        )
    (n,) = numbers
    there = [int(shard["index"]) for shard in shards if shard]
    if sorted(there) not in ([*range(n)], [*range(1, n + 1)]):
        first = 1 if n in there else 0  # some count from 1
        missing = sorted({*range(first, first + n)} - {*there})
        fault = f"{len(there)} of {n} shards" if missing else "shards that stand twice"
        which = f"; number {missing[0]} is missing" if missing else ""
        raise PromptError(
            f"{path} holds {fault} of the split {name!r}{which}. Get the others, or pass one file."
        )


def _stem(file: Path) -> str:
    """The name of a file without its kind, compressed or not."""
    return Path(file.stem).stem if file.suffix.lower() == ".gz" else file.stem


def kind_of(path: Path) -> str:
    """What a file is by its name, whether it is compressed or not."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def _visible(path: Path) -> Iterator[Path]:
    for file in path.rglob("*"):
        inner = file.relative_to(path)
        if any(part.startswith(".") for part in inner.parts) or _NO_DATA.search(file.name):
            continue
        if file.is_file() and kind_of(file) in DATA_SUFFIXES:
            yield file
