"""Thinking blocks in text: where a model's own block opens and closes, and what it answers after.

Models mark their thoughts in many ways; the tags of all known ones are read here, so that nobody
has to say which model it is.
"""

import re
from typing import Any

_NAME = r"(?:think|thinking|thoughts?|reason|reasoning|reflection|scratchpad|analysis)"
_OPENING = re.compile(
    rf"<(?:[\w.-]+:)?{_NAME}>|\[{_NAME}\]|◁{_NAME}▷"
    rf"|<\|(?:begin_(?:of_)?|start_(?:of_)?)?{_NAME}(?:_start|_begin)?\|>"
    r"|<\|inner_prefix\|>|<unused94>|<\|channel>",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"</(?:[\w.-]+:)?{_NAME}>|\[/{_NAME}\]|◁/{_NAME}▷"
    rf"|<\|(?:/|end_(?:of_)?){_NAME}\|>|<\|{_NAME}_end\|>"
    r"|<\|inner_suffix\|>|<unused95>|<channel\|>",
    re.IGNORECASE,
)
# Channels: thoughts stand in `analysis` and `commentary`, the answer in `final`.
_CHANNEL = "<|channel|>"
_CHANNEL_PARTS = (_CHANNEL, "<|message|>", "<|start|>", "<|end|>", "<|constrain|>")
_FINAL = re.compile(r"<\|channel\|>\s*final(?:(?!<\|message\|>).)*<\|message\|>", re.DOTALL)
# The same where somebody has left out the special tokens.
_BARE_CHANNEL, _BARE_FINAL = re.compile(r"analysis(?=[A-Z])"), "assistantfinal"
# Thoughts and answer announced in words, as Granite 3 does.
_SAID = re.compile(r"here(?: is|'s) my thought process:", re.IGNORECASE)
_SAID_AFTER = re.compile(r"here(?: is|'s) my response:", re.IGNORECASE)
_WRAPPER = re.compile(
    r"^\s*(?:<(?:answer|response|output|solution)>|<\|begin_of_solution\|>"
    r"|<\|start_response\|>|\[begin final response\])",
    re.IGNORECASE,
)
_WRAPPERS = (
    "<answer>", "<response>", "<output>", "<solution>", "<|begin_of_solution|>",
    "<|start_response|>", "[begin final response]",
)  # fmt: skip
_AFTER_ANSWER = re.compile(
    r"(?:</(?:answer|response|output|solution)>|<\|end_of_solution\|>|<\|end_response\|>"
    r"|\[end final response\]|<\|end\|>|<\|return\|>)\s*$",
    re.IGNORECASE,
)


def answer_after_thinking(reply: str) -> str | None:
    """What a reply says after its last closed thinking block; None where the block is cut off.

    A reply without a block is returned as it is. A block that is not closed counts where its
    opening tag begins a line; in the middle of one it is somebody who writes about tags.

    >>> answer_after_thinking("<think>It is about bread.</think> Take flour.")
    ' Take flour.'
    >>> answer_after_thinking("<think>It is about") is None
    True
    """
    end = _end_of_block(reply)
    if end is None:
        return None if _opens_line(reply) else reply
    rest = reply[end:]
    if _opens_line(rest):
        return None
    return _AFTER_ANSWER.sub("", _WRAPPER.sub("", rest))


def opens_answer(text: str) -> bool:
    """Whether a text is the tag with which some models open their answer, and nothing more."""
    return bool(text.strip()) and not _WRAPPER.sub("", text).strip()


def may_open_answer(text: str) -> bool:
    """Whether a text is such a tag, or the beginning of one."""
    own = text.strip().lower()
    return opens_answer(text) or any(each.startswith(own) for each in _WRAPPERS)


def closes_block(text: str) -> bool:
    """Whether a thinking block ends somewhere in the text."""
    return _end_of_block(text) is not None


def opened_block(text: str) -> str:
    """The end of a rendered prompt from where it opens a thinking block; empty where it does not.

    Templates of models that always think open the block themselves, and the reply goes on in it.

    >>> opened_block("<|im_start|>assistant" + chr(10) + "<think>")
    '<think>'
    >>> opened_block("<think></think>")
    ''
    """
    opened = [*_OPENING.finditer(text)]
    start = opened[-1].start() if opened else text.rfind(_CHANNEL)
    if start < 0 or closes_block(text[start:]):
        return ""
    return text[start:]


def kept_specials(tokenizer: Any) -> tuple[set[int], set[int]]:
    """Ids of special tokens that mark thinking, and of the other special ones."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {index: token.content for index, token in added.items() if token.special}
    channels = _CHANNEL_PARTS if _CHANNEL in special.values() else ()
    stops = {tokenizer.eos_token, tokenizer.pad_token}
    marks = {
        index
        for index, content in special.items()
        if content not in stops
        and (content in channels or _OPENING.fullmatch(content) or _CLOSING.fullmatch(content))
    }
    return marks, set(special) - marks


def _end_of_block(text: str) -> int | None:
    """Where the last closed block ends."""
    ends = [match.end() for match in _CLOSING.finditer(text)]
    ends += [match.end() for match in _FINAL.finditer(text)]
    start = len(text) - len(text.lstrip())
    if _BARE_CHANNEL.match(text, start) and _BARE_FINAL in text:
        ends.append(text.rindex(_BARE_FINAL) + len(_BARE_FINAL))
    if _SAID.match(text, start) and (said := _SAID_AFTER.search(text)):
        ends.append(said.end())
    return max(ends, default=None)


def _opens_line(text: str) -> bool:
    """Whether a block opens at the start of a line, whatever stands before it."""
    start = text.lstrip()
    if _SAID.match(start) or _BARE_CHANNEL.match(start) or _CHANNEL in text:
        return True
    return any(
        not text[: match.start()].rpartition("\n")[2].strip() for match in _OPENING.finditer(text)
    )
