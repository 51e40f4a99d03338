"""What a chat template writes around the user's words, and what they hold of its own tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from workbench.errors import ModelError
from workbench.intake.parsing import parsing

# Different first and last characters, so that nothing of the probes themselves is common.
PROBES = ("Name a colour", "How far is the sea?", "42 plus 7 equals x)", "(Zebra 9", "tea.")
"""What is rendered to find out what is the template's."""

_SPACES = ("\u0120", "\u2581")
"""How vocabularies write a space: of bytes, and of SentencePiece."""

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
        shares: the tokenizer joins the end of some prompts, or of all, with the template's first
            token, so that ``post`` does not begin where the words end.
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
    n_post = _common_prefix([row[::-1] for row in rows])
    shares = False
    # Ids alone do not tell: all probes may begin or end in the same token, such as an unknown one.
    spans = [own for _, own in read if own is not None]
    if len(spans) == len(texts):
        n_pre = min(n_pre, *(_n_tokens_before(own, n_before) for own in spans))
        starts = [len(text) - n_after for text in texts]
        tails = [n_tokens_after(own, start) for own, start in zip(spans, starts, strict=True)]
        n_post = min(n_post, *tails)
        joined = [
            last_whole_token(own, n_before, start) != -1 - n_post
            for own, start in zip(spans, starts, strict=True)
        ]
        shares = max(tails) > n_post or any(joined)
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
        shares=shares,
    )


def check_spelled(tokenizer: Any, frame: Frame) -> None:
    """Refuses tokenizers that do not say which characters their tokens hold, where it matters.

    Where the tokens after the words spell just what the template writes there, the words end before
    them. Where they do not, some token is shared, and t_inst would be a guess.

    Raises:
        ModelError: they do not.
    """
    with parsing("the tokenizer", "one that reads and writes text", ModelError):
        spelled = tokenizer.decode(list(frame.post), clean_up_tokenization_spaces=False)
        first = str(tokenizer.convert_ids_to_tokens(frame.post[0]))
    # SentencePiece leaves out the space that the first piece of a text begins with.
    lost = frame.after[:1] == " " and first[:1] in _SPACES and spelled == frame.after[1:]
    if spelled != frame.after and not lost:
        raise ModelError(
            f"the tokens after the user's words spell {spelled!r}, and the chat template writes "
            f"{frame.after!r}: this tokenizer joins the end of prompts with the template, and does "
            "not say which characters a token holds, so t_inst cannot be found. Load a fast one "
            "(a tokenizer.json), or pass another chat_template=."
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


def last_whole_token(spans: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """Position of the last token that holds only characters from ``start`` to ``end``; 0 for none.

    Negative, from the end.
    """
    held = [start <= first < last <= end for first, last in spans]
    return next((-1 - back for back, whole in enumerate(reversed(held)) if whole), 0)


def with_spaces(spans: Sequence[tuple[int, int]], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Spans that hold the spaces of their tokens, which some tokenizers leave out of them.

    Byte-level tokenizers with ``trim_offsets`` give ``Ġ[`` the characters of ``[`` alone; whether a
    space at the end of an instruction is in a token would be lost. What no token holds stays out.

    Args:
        spans: the characters, from and to, that each token holds.
        pieces: the tokens as the vocabulary writes them.

    >>> with_spaces([(0, 2), (3, 4)], ["hi", "Ġ["])
    [(0, 2), (2, 4)]
    """
    found = list(spans)
    for index, piece in enumerate(pieces):
        first, last = found[index]
        if piece[:1] in _SPACES and index:
            first = min(first, max(found[index - 1][1], first - _n_spaces(piece)))
        if piece[-1:] in _SPACES and index + 1 < len(spans):
            last = max(last, min(spans[index + 1][0], last + _n_spaces(piece[::-1])))
        found[index] = (first, last)
    return found


def _n_spaces(piece: str) -> int:
    """Spaces that a piece begins with."""
    return len(piece) - len(piece.lstrip("".join(_SPACES)))
