"""From prompts to token ids: chat template, left padding, masks and the named positions.

Positions are counted from the end of the rendered prompt, generation prompt included. The
*post-instruction tokens* are what the template puts after the user's words; they are found by
rendering several instructions and taking the common tail of their ids, so no model's template is
written down anywhere.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.errors import AxisError, ModelError, PromptError

TokenSubset = Literal["all", "prompt", "instruction", "post_instruction", "last", "generated"]
"""Which tokens an intervention touches.

``all``: every token, generated ones included. ``prompt``: every token of the rendered prompt.
``instruction``: the user's words. ``post_instruction``: the template's tokens after them.
``last``: the last token of the prompt. ``generated``: only tokens of the reply.
"""

# Different first and last characters, so that nothing of the probes themselves is common.
_PROBES = ("Name a colour", "How far is the sea?", "42 plus 7 equals x)", "(Zebra 9", "tea.")
_MARKER = "workbench system probe"


@dataclass(frozen=True, eq=False)
class Tokens:
    """Left-padded token ids of rendered prompts, and which position is which.

    Attributes:
        ids: token ids; padding stands on the left.
        mask: True where a token is real.
        n_pre: template tokens before the user's words.
        n_post: template tokens after the user's words.
        post_tokens: those tokens as text, for tables and figures.
    """

    ids: Int[Tensor, "prompt token"]
    mask: Bool[Tensor, "prompt token"]
    n_pre: int
    n_post: int
    post_tokens: tuple[str, ...]

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def t_inst(self) -> int:
        """Position of the last token of the instruction."""
        return -self.n_post - 1

    @property
    def t_post(self) -> int:
        """Position of the last token of the prompt, where the reply begins."""
        return -1

    @property
    def post_instruction(self) -> tuple[int, ...]:
        """Positions of the post-instruction tokens, first to last."""
        return tuple(range(-self.n_post, 0))

    @property
    def lengths(self) -> Int[Tensor, " prompt"]:
        """Number of real tokens of each prompt."""
        return self.mask.sum(1)

    @property
    def position_ids(self) -> Int[Tensor, "prompt token"]:
        """Index of each token in its own prompt; 0 at padding."""
        return (self.mask.long().cumsum(1) - 1).clamp(min=0)

    def subset(self, name: TokenSubset) -> Bool[Tensor, "prompt token"]:
        """True at the prompt's tokens that belong to the named subset."""
        if name not in get_args(TokenSubset):
            raise AxisError(f"no token subset {name!r}: {', '.join(get_args(TokenSubset))}.")
        width = self.ids.shape[1]
        column = torch.arange(width, device=self.ids.device).expand_as(self.ids)
        if name == "generated":
            return torch.zeros_like(self.mask)
        if name == "last":
            return column == width - 1
        if name == "post_instruction":
            return column >= width - self.n_post
        if name == "instruction":
            start = width - self.lengths.unsqueeze(1) + self.n_pre
            return (column >= start) & (column < width - self.n_post)
        return self.mask

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens on another device."""
        return Tokens(
            self.ids.to(device), self.mask.to(device), self.n_pre, self.n_post, self.post_tokens
        )

    def rows(self, index: Sequence[int] | slice) -> "Tokens":
        """Some of the prompts, without the columns in which all of them are padding."""
        ids, mask = self.ids[index], self.mask[index]
        width = int(mask.sum(1).max())
        return Tokens(ids[:, -width:], mask[:, -width:], self.n_pre, self.n_post, self.post_tokens)

    def batches(self, batch_tokens: int, mixed: bool = True) -> list[tuple[list[int], "Tokens"]]:
        """Batches of similar length, longest first, with the rows that they hold.

        Args:
            batch_tokens: most tokens of a batch, padding counted; a longer prompt goes alone.
            mixed: whether prompts of several lengths may share a batch.
        """
        # Longest first: a batch that does not fit in memory fails at once, not after an hour.
        lengths = self.lengths.tolist()
        order = sorted(range(len(self)), key=lambda row: (-lengths[row], row))
        batches = []
        while order:
            longest = lengths[order[0]]
            size = max(1, batch_tokens // max(1, longest))
            if not mixed:
                size = min(size, sum(lengths[row] == longest for row in order))
            batches.append((order[:size], self.rows(order[:size])))
            order = order[size:]
        return batches


class ChatTemplate:
    """A tokenizer's chat template, and where it puts the user's words.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: Jinja text to use instead of the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, template: str | None = None):
        self.tokenizer = tokenizer
        self.template = template or getattr(tokenizer, "chat_template", None)
        self._frames: dict[str | None, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the template's SHA-256, for provenance."""
        return hashlib.sha256(str(self.template).encode()).hexdigest()[:16]

    def render(self, text: str, system: str | None = None) -> str:
        """The rendered prompt, generation prompt included.

        Raises:
            ModelError: there is no template, or it has no place for a system prompt.
        """
        if self.template is None:
            raise ModelError(
                "this model's tokenizer has no chat template. Pass chat_template= (Jinja text or a "
                ".jinja file) to load_model, or load the instruction-tuned model."
            )
        if system is not None:
            self._check_system()
        return self._apply(text, system)

    def _apply(self, text: str, system: str | None) -> str:
        messages = [{"role": "user", "content": text}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=True,
        )

    def _check_system(self) -> None:
        remedy = "Put the words into the prompt instead, or pass another chat_template=."
        try:
            rendered = self._apply("hello", _MARKER)
        except Exception as error:  # templates raise whatever their author chose
            raise ModelError(
                f"this model's chat template refuses a system prompt ({error}). {remedy}"
            ) from error
        if _MARKER not in rendered.lower():
            raise ModelError(f"this model's chat template drops the system prompt. {remedy}")

    def encode(self, text: str, system: str | None = None) -> list[int]:
        """Token ids of one rendered prompt, exactly as the template spells it: no second BOS."""
        rendered = self.render(text, system)
        return self.tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]

    def frame(self, system: str | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the template's tokens before the user's words, and of those after them."""
        if system not in self._frames:
            rows = [self.encode(probe, system) for probe in _PROBES]
            n_pre = _common_prefix(rows)
            if n_pre == min(map(len, rows)):
                raise ModelError(
                    "this chat template does not show the user's words. Check that chat_template= "
                    "is Jinja text that renders `messages`."
                )
            n_post = _common_prefix([row[::-1] for row in rows])
            if n_post == 0:
                raise ModelError(
                    "this chat template puts nothing after the user's words, so a reply has no "
                    "place to begin. Check that it honours add_generation_prompt."
                )
            self._frames[system] = (tuple(rows[0][:n_pre]), tuple(rows[0][-n_post:]))
        return self._frames[system]

    def tokens(
        self, texts: Sequence[str], system: str | None = None, max_tokens: int | None = None
    ) -> Tokens:
        """Renders, tokenises and left-pads prompts.

        Raises:
            PromptError: no prompts, one that is no text, one longer than ``max_tokens``, or one
                whose words merge with the template's, so that positions would be wrong.
            ModelError: no template, or none for a system prompt.
        """
        if not len(texts):
            raise PromptError("no prompts: the list is empty.")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise PromptError(f"prompt {index} is a {type(text).__name__}, not text.")
            if not text.strip():
                raise PromptError(f"prompt {index} is empty.")
        pre, post = self.frame(system)
        rows = [self.encode(text, system) for text in texts]
        for index, row in enumerate(rows):
            if max_tokens is not None and len(row) > max_tokens:
                raise PromptError(
                    f"prompt {index} ({texts[index][:40]!r}…) has {len(row):,} tokens; this model "
                    f"reads at most {max_tokens:,}. Shorten it or leave it out."
                )
            if tuple(row[-len(post) :]) != post:
                raise PromptError(
                    f"the end of prompt {index} ({texts[index][-20:]!r}) merges with the chat "
                    "template's first token after it. Strip white space from its end."
                )
            if tuple(row[: len(pre)]) != pre:
                raise PromptError(
                    f"the start of prompt {index} ({texts[index][:20]!r}) merges with the chat "
                    "template's last token before it. Strip white space from its start."
                )
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        ids = torch.full((len(rows), width), 0 if pad is None else pad)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for index, row in enumerate(rows):
            ids[index, width - len(row) :] = torch.tensor(row)
            mask[index, width - len(row) :] = True
        words = tuple(self.tokenizer.decode([token]) for token in post)
        return Tokens(ids, mask, len(pre), len(post), words)


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Length of the longest prefix that all rows share."""
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length
