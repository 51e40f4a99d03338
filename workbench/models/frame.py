"""What a chat template writes around the user's words, and what they hold of its own tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from workbench.errors import ModelError

# Different first and last characters, so that nothing of the probes themselves is common.
PROBES = ("Name a colour", "How far is the sea?", "42 plus 7 equals x)", "(Zebra 9", "tea.")
"""What is rendered to find out what is the template's."""

Read = tuple[list[int], list[tuple[int, int]] | None]
"""Ids of a text and the characters, from and to, that each of them holds, where that is known."""


@dataclass(frozen=True)
class Frame:
    """What a template writes around the user's words, as text and as tokens.

    Attributes:
        before: its text before them.
        after: its text after them.
        pre: ids before them, the same in every prompt.
        post: ids after them, the same in every prompt.
        shares: the tokenizer joins the end of some prompts with the template's first token, so
            that ``post`` does not begin where the words end.
    """

    before: str
    after: str
    pre: tuple[int, ...]
    post: tuple[int, ...]
    shares: bool


def find_frame(texts: Sequence[str], read: Sequence[Read]) -> Frame:
    """What is the template's in the renderings of `PROBES`.

    Args:
        texts: the renderings.
        read: ids of each, and the characters that each token holds.

    Raises:
        ModelError: the words are not shown, or nothing stands after them.
    """
    n_before = _common_prefix(texts)
    if n_before == min(map(len, texts)):
        raise ModelError(
            "this chat template does not show the user's words. Check that chat_template= "
            "is Jinja text that renders `messages`."
        )
    n_after = _common_prefix([text[::-1] for text in texts])
    rows = [row for row, _ in read]
    n_pre = _common_prefix(rows)
    n_post = longest = _common_prefix([row[::-1] for row in rows])
    # Ids alone do not tell: all probes may begin or end in the same token, such as an unknown one.
    spans = [own for _, own in read if own is not None]
    if len(spans) == len(texts):
        n_pre = min(n_pre, *(_n_tokens_before(own, n_before) for own in spans))
        tails = [
            n_tokens_after(own, len(text) - n_after) for own, text in zip(spans, texts, strict=True)
        ]
        n_post, longest = min(n_post, *tails), max(tails)
    if n_post == 0:
        raise ModelError(
            "this chat template puts nothing after the user's words, so a reply has no "
            "place to begin. Check that it honours add_generation_prompt."
        )
    return Frame(
        before=texts[0][:n_before],
        after=texts[0][len(texts[0]) - n_after :],
        pre=tuple(rows[0][:n_pre]),
        post=tuple(rows[0][-n_post:]),
        shares=longest > n_post,
    )


class TypedSpecial(NamedTuple):
    """A special token that somebody typed inside prompts."""

    content: str
    times: int
    first: int
    """The first prompt that holds it."""

    @property
    def told(self) -> str:
        """The same in words."""
        return (
            f"the special token {self.content} is typed {self.times} times inside prompts, first "
            f"in prompt {self.first}, and is read as that token, as Hugging Face does. If it is "
            "meant as text, change it."
        )


def typed_specials(
    tokenizer: Any, texts: Sequence[str], rows: Sequence[Sequence[int]], frame: Frame
) -> list[TypedSpecial]:
    """Special tokens inside the user's words, by what they are, in the order that they appear in.

    Tokens that were added for tools and thoughts count too; others that were added are only
    frequent, such as several spaces.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {
        token.content: index
        for index, token in added.items()
        if token.content.strip()
        and (token.special or (token.content[0] in "<[" and token.content[-1] in ">]"))
    }
    if not special:
        return []
    longest_first = sorted(special, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    found: dict[str, TypedSpecial] = {}
    for index, (text, row) in enumerate(zip(texts, rows, strict=True)):
        own = set(row[len(frame.pre) : len(row) - len(frame.post)])
        for content in pattern.findall(text):
            # A template that changes the words may have taken it out.
            if special[content] in own:
                before = found.get(content, TypedSpecial(content, 0, index))
                found[content] = before._replace(times=before.times + 1)
    return list(found.values())


def _common_prefix(rows: Sequence[Sequence[Any]]) -> int:
    """Length of the longest prefix that all rows share."""
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length


def _n_tokens_before(spans: Sequence[tuple[int, int]], end: int) -> int:
    """Tokens at the start that hold only characters before ``end``."""
    return next((index for index, span in enumerate(spans) if span[1] > end), len(spans))


def n_tokens_after(spans: Sequence[tuple[int, int]], start: int) -> int:
    """Tokens at the end that hold only characters from ``start`` on."""
    backwards = enumerate(reversed(spans))
    return next((index for index, span in backwards if span[0] < start), len(spans))
