"""The tokens with which a reply begins that begins with a given word, after a given prompt."""

from collections.abc import Iterator, Sequence
from typing import Any

from workbench import screen
from workbench.errors import StudyError
from workbench.models.hooked import HookedModel


def first_tokens(
    model: HookedModel, words: Sequence[str], prompt: str, ids: Sequence[int]
) -> tuple[int, ...]:
    """The first token of each word where it begins a reply to a prompt.

    Tokenised behind the prompt itself, so a word after a line break has no space before it, also
    where the tokenizer puts one before every text. Where the prompt does not end in white space, a
    reply may begin with a space or not, and both tokens count, that with the space first.

    Args:
        model: the model.
        words: words that begin a reply; of several tokens, the first one counts.
        prompt: a rendered prompt; only how it ends matters.
        ids: its token ids.

    Raises:
        StudyError: no words, or one without a token.
    """
    if not words:
        raise StudyError("words= is empty: pass at least one word that begins a refusal.")
    found: list[int] = []
    for word in words:
        own = list(_variants(model.tokenizer, prompt, list(ids), word))
        if not own:
            raise StudyError(f"{word!r} has no token in the vocabulary of {model.name}.")
        found += own
    found = list(dict.fromkeys(found))
    bare = [token for token in found if not model.tokenizer.decode([token]).strip()]
    if bare:
        pieces = ", ".join(repr(model.tokenizer.decode([token])) for token in bare)
        screen.warn(
            f"in this vocabulary a reply that begins with a space and one of {', '.join(words)} "
            f"begins with a token of white space alone ({pieces}), which counts every other reply "
            "that begins so. Leave words= out, so that tokens are looked for in replies.",
            stacklevel=3,
        )
    return tuple(found)


def _variants(tokenizer: Any, prompt: str, ids: list[int], word: str) -> Iterator[int]:
    """The word's first token with and without a space before it, as the prompt's end allows."""
    if not word.strip():
        return
    for beginning in (word,) if prompt[-1:].isspace() else (f" {word}", word):
        row = tokenizer(prompt + beginning, add_special_tokens=False, verbose=False)["input_ids"]
        if row[: len(ids)] == ids and len(row) > len(ids):
            yield row[len(ids)]
        elif (token := _longest(tokenizer, ids, beginning)) is not None:
            yield token


def _longest(tokenizer: Any, ids: list[int], beginning: str) -> int | None:
    """The token of most characters that goes on from ids with what a reply begins with.

    For words that the tokenizer joins with the prompt's last token, which stands already.
    """
    before = tokenizer.decode(ids, skip_special_tokens=False)
    for end in range(len(beginning), 0, -1):
        piece = beginning[:end]
        alone = tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
        spelled = (piece, piece.replace(" ", "\u2581"))
        candidates = [*alone[: len(alone) == 1], *map(tokenizer.convert_tokens_to_ids, spelled)]
        for token in candidates:
            if token is None or token == tokenizer.unk_token_id:
                continue
            if tokenizer.decode([*ids, token], skip_special_tokens=False) == before + piece:
                return token
    return None
