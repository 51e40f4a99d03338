"""Prompts that nobody labelled: plain texts, or a table of them without a column of labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workbench.prompts.prompt import Prompt


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts with an id and a category each, and the empty label.

    >>> Texts.plain(["Bake bread", "Sew"]).ids
    ('0', '1')
    """

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    categories: tuple[str, ...]

    @classmethod
    def plain(cls, texts: Sequence[str]) -> "Texts":
        """Texts that are known by their index."""
        return cls(tuple(texts), tuple(map(str, range(len(texts)))), ("",) * len(texts))

    @property
    def labels(self) -> tuple[str, ...]:
        """The empty label of each."""
        return ("",) * len(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def first(self, n: int) -> "Texts":
        """The first ``n`` of them."""
        return Texts(self.texts[:n], self.ids[:n], self.categories[:n])

    def labelled(self, label: str) -> tuple[Prompt, ...]:
        """The same as prompts of one label."""
        kinds = (kind or "unspecified" for kind in self.categories)
        rows = zip(self.ids, self.texts, kinds, strict=True)
        return tuple(Prompt(own, text, label, kind) for own, text, kind in rows)
