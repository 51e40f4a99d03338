"""Immutable sets of prompts that split the same way on every machine."""

import hashlib
import json
import reprlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from workbench.artifact import write_text
from workbench.errors import PromptError
from workbench.prompts.draw import Urn
from workbench.prompts.prompt import (
    LABELS,
    UNSPECIFIED,
    Prompt,
    listed,
    row_id,
    spoken,
    whole_number,
)
from workbench.tabled import Tabled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class PromptSet(Tabled):
    """Prompts in a fixed order, each id once; equal to another set with the same prompts.

    ``provenance`` is plain JSON: where the prompts come from and what was done to them since.

    Raises:
        PromptError: something in it is not a `Prompt`, or two prompts share an id.

    >>> prompts = PromptSet.from_texts(["How do I bake bread?", "Why is snow white?"], "harmless")
    >>> prompts
    PromptSet('prompts': 2 prompts; 2 harmless; 1 category)
    >>> prompts[0].text, prompts[1:].ids
    ('How do I bake bread?', ('prompts-0002',))
    """

    prompts: tuple[Prompt, ...]
    name: str = field(default="prompts", compare=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", tuple(self.prompts))
        object.__setattr__(self, "provenance", dict(self.provenance))
        rows: dict[str, int] = {}
        for row, prompt in enumerate(self.prompts, start=1):
            if not isinstance(prompt, Prompt):
                raise PromptError(
                    f"row {row} of {self.name!r} is {reprlib.repr(prompt)}, not a Prompt. "
                    "For plain strings use PromptSet.from_texts(texts, label)."
                )
            first = rows.setdefault(prompt.id, row)
            if first != row:
                raise PromptError(
                    f"the id {prompt.id!r} of {self.name!r} stands twice, in rows {first} and "
                    f"{row}. Give every prompt its own id."
                )

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], label: str, category: str = UNSPECIFIED, name: str = "prompts"
    ) -> "PromptSet":
        """A set of plain strings that share one label and category, numbered from 1."""
        if isinstance(texts, str):
            raise PromptError("expected several texts, found one string. Pass [text].")
        if (
            isinstance(texts, Mapping)
            or hasattr(texts, "column_names")
            or hasattr(texts, "columns")
        ):
            # Iterating gives the names of its columns, which are no prompts.
            raise PromptError(
                f"expected texts, found a {type(texts).__name__}. Pass one column of it, or "
                "load_prompts(table, label=…)."
            )
        rows = enumerate(texts, start=1)
        return cls(tuple(Prompt(row_id(name, n), text, label, category) for n, text in rows), name)

    @property
    def ids(self) -> tuple[str, ...]:
        """One id per prompt."""
        return tuple(prompt.id for prompt in self.prompts)

    @property
    def texts(self) -> tuple[str, ...]:
        """One text per prompt."""
        return tuple(prompt.text for prompt in self.prompts)

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per prompt, each one of `LABELS`."""
        return tuple(prompt.label for prompt in self.prompts)

    @property
    def categories(self) -> tuple[str, ...]:
        """One category per prompt."""
        return tuple(prompt.category for prompt in self.prompts)

    @property
    def keys(self) -> tuple[str, ...]:
        """What each prompt is known by, whatever its id: 16 hex digits of its text's SHA-256."""
        return tuple(text_key(text) for text in self.texts)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over ids, texts, labels and categories in order; not over the name."""
        rows = [[p.id, p.text, p.label, p.category] for p in self.prompts]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> "PromptSet": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Prompt | PromptSet":
        if isinstance(index, slice):
            bounds = (index.start, index.stop, index.step)
            step = ":".join("" if bound is None else str(bound) for bound in bounds)
            return self._derived(self.prompts[index], f"[{step}]")
        return self.prompts[index]

    def __add__(self, other: "PromptSet") -> "PromptSet":
        """Both sets, one after the other; a prompt that is in both is kept once.

        Raises:
            PromptError: one id stands for two different prompts.
        """
        if not isinstance(other, PromptSet):
            return NotImplemented
        known = {prompt.id: prompt for prompt in self.prompts}
        clashes = [p.id for p in other.prompts if p.id in known and p != known[p.id]]
        if clashes:
            raise PromptError(
                f"{self.name!r} and {other.name!r} use the same ids for different prompts: "
                f"{listed(clashes)}. Load one of them with another name= or id_column=."
            )
        return PromptSet(
            self.prompts + tuple(p for p in other.prompts if p.id not in known),
            f"{self.name}+{other.name}",
            {"parts": [dict(self.provenance), dict(other.provenance)]},
        )

    def __repr__(self) -> str:
        labels = ", ".join(f"{self.labels.count(x)} {x}" for x in LABELS if x in self.labels)
        n = len(set(self.categories))
        return (
            f"PromptSet({self.name!r}: {len(self)} prompts; {labels or 'empty'}; "
            f"{n} {'category' if n == 1 else 'categories'})"
        )

    def where(
        self,
        *,
        label: str | Collection[str] | None = None,
        category: str | Collection[str] | None = None,
    ) -> "PromptSet":
        """The prompts with one of the given labels and one of the given categories.

        Raises:
            PromptError: nobody has such a label or category, or nobody has both.
        """
        labels = _known("label", label, self.labels, self.name)
        categories = _known("category", category, self.categories, self.name)
        kept = tuple(p for p in self.prompts if p.label in labels and p.category in categories)
        if not kept and self.prompts:
            raise PromptError(
                f"no prompt of {self.name!r} has both a label in {listed(labels)} and a category "
                f"in {listed(categories)}."
            )
        asked = {"label": label and sorted(labels), "category": category and sorted(categories)}
        words = ", ".join(f"{key}={value}" for key, value in asked.items() if value)
        return self._derived(kept, f"where({words})")

    def unique(self) -> "PromptSet":
        """Without the prompts whose text stands earlier in the set, but for capitals and spaces."""
        keys = [spoken(prompt.text) for prompt in self.prompts]
        first = {key: row for row, key in reversed([*enumerate(keys)])}
        kept = tuple(p for row, p in enumerate(self.prompts) if first[keys[row]] == row)
        return self._derived(kept, "unique()")

    def sample(self, n: int, seed: int = 0) -> "PromptSet":
        """Draws ``n`` prompts with the set's own mix of labels and categories, in the set's order.

        Raises:
            PromptError: there are fewer than ``n``.

        >>> PromptSet.from_texts([*"abcdef"], "harmless").sample(3, seed=1).texts
        ('a', 'c', 'e')
        """
        n = whole_number("n", n)
        if n > len(self):
            raise PromptError(f"cannot draw {n} of the {len(self)} prompts of {self.name!r}.")
        return self._derived(self._kept(Urn(self, seed).take(n)), f"sample({n}, seed={seed})")

    def split(
        self, train: int = 128, validation: int = 32, seed: int = 0
    ) -> tuple["PromptSet", "PromptSet", "PromptSet"]:
        """Three disjoint parts, ``(train, validation, test)``; what is left is the test part.

        Every part holds labels and categories in the proportions of the whole: to less than one
        prompt for train, to less than two for validation. Each keeps the set's order.

        Raises:
            PromptError: there are fewer than ``train + validation`` prompts, or one text stands
                under two ids, but for capitals and white space, so that the parts would overlap.
        """
        train = whole_number("train", train)
        validation = whole_number("validation", validation)
        if train + validation > len(self):
            raise PromptError(
                f"cannot split the {len(self)} prompts of {self.name!r} into {train} for training "
                f"and {validation} for validation. Pass smaller train= and validation=."
            )
        keys = [spoken(text) for text in self.texts]
        if len(set(keys)) < len(self):
            counts = Counter(keys)
            repeated = next(key for key, count in counts.items() if count > 1)
            twins = [p.id for p, key in zip(self.prompts, keys, strict=True) if key == repeated]
            raise PromptError(
                f"the parts of {self.name!r} would overlap: {listed(twins)} have the same text. "
                "Split .unique() instead."
            )
        urn = Urn(self, seed)
        taken = {"train": urn.take(train), "validation": urn.take(validation)}
        taken["test"] = urn.take(len(urn))
        step = f"split(train={train}, validation={validation}, seed={seed})"
        first, second, third = (
            self._derived(self._kept(ids), f"{step}: {part}", f"{self.name}:{part}")
            for part, ids in taken.items()
        )
        return first, second, third

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per prompt: id, text, label, category."""
        import pandas as pd

        columns = {"id": self.ids, "text": self.texts, "label": self.labels}
        return pd.DataFrame({**columns, "category": self.categories})

    def save(self, path: str | Path) -> Path:
        """Writes one JSON object per prompt; `load_prompts` reads the same prompts back.

        Raises:
            PromptError: the name does not end in ``.jsonl``.
            ArtifactError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".jsonl":
            raise PromptError(f"prompts are saved as .jsonl, not as {path.name!r}.")
        rows = ({k: getattr(p, k) for k in ("id", "text", "category", "label")} for p in self)
        return write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))

    def _derived(
        self, prompts: tuple[Prompt, ...], step: str, name: str | None = None
    ) -> "PromptSet":
        steps = [*self.provenance.get("steps", ()), step]
        return PromptSet(prompts, name or self.name, {**self.provenance, "steps": steps})

    def _kept(self, ids: Collection[str]) -> tuple[Prompt, ...]:
        return tuple(prompt for prompt in self.prompts if prompt.id in ids)


def _known(
    what: str, wanted: str | Collection[str] | None, present: Collection[str], name: str
) -> set[str]:
    """The wanted values, or all of them; each must be present."""
    if wanted is None:
        return set(present)
    values = {wanted} if isinstance(wanted, str) else set(wanted)
    absent = values - set(present)
    if absent or not values:
        raise PromptError(
            f"no prompt of {name!r} has the {what} {listed(absent) or '(none was given)'}. "
            f"There are: {listed(set(present)) or 'no prompts at all'}."
        )
    return values


def text_key(text: str) -> str:
    """The first 16 hex digits of a text's SHA-256.

    >>> text_key("How do I bake bread?")
    'e5e3a22cb1ebff54'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]
