"""From prompts to token ids: chat template, left padding, masks and the named positions.

Positions are counted from the end of the rendered prompt, generation prompt included. The
*post-instruction tokens* are what the template puts after the user's words; they are found by
rendering several instructions: what their texts share at the end is the template's, and its tokens
are those that hold nothing else. No model's template is written down anywhere.

*t_inst* is the last token that holds a character of the instruction, found in each prompt. Where a
tokenizer joins the end of instructions with the template, that token may hold characters of the
template too, and stand at another position in another prompt.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench import screen
from workbench.errors import AxisError, ModelError, PromptError
from workbench.intake.parsing import parsing
from workbench.models.frame import (
    PROBES,
    Frame,
    TypedSpecial,
    check_spelled,
    find_frame,
    last_whole_token,
    n_tokens_after,
    typed_specials,
    with_spaces,
)
from workbench.models.rendering import Rendering
from workbench.models.templates import OWN
from workbench.models.thinking import opened_block
from workbench.positions import T_INST, InstructionEnd, Position
from workbench.prompts.prompt import proper_text

TokenSubset = Literal[
    "all", "prompt", "instruction", "t_inst", "post_instruction", "last", "generated"
]
"""Which tokens an intervention touches.

``all``: every token, generated ones included. ``prompt``: every token of the rendered prompt.
``instruction``: the user's words. ``t_inst``: the last token of them. ``post_instruction``: the
template's tokens after them. ``last``: the last token of the prompt. ``generated``: only tokens of
the reply.
"""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Left-padded token ids of rendered prompts, and which position is which.

    Attributes:
        ids: token ids; padding stands on the left.
        mask: True where a token is real.
        n_pre: template tokens before the user's words.
        n_post: template tokens after the user's words, in every prompt; 0 where prompts go on with
            the model's own thinking.
        post_tokens: those tokens as text, for tables and figures.
        ends: position of the last token that holds a character of the instruction, where prompts
            may differ in it or it may hold characters of the template too; None where it is the
            token before the template's in all of them.
        wholes: position of the last token that holds only characters of the instruction, 0 where
            there is none; None where ``ends`` is.
        instruction_end: which of the two is t_inst.
        opened: what the template has written of a thinking block that the reply goes on with.
        typed_specials: special tokens that somebody typed inside a prompt, and how often. They are
            read as tokens, as Hugging Face does.
    """

    ids: Int[Tensor, "prompt token"]
    mask: Bool[Tensor, "prompt token"]
    n_pre: int
    n_post: int
    post_tokens: tuple[str, ...]
    ends: Int[Tensor, " prompt"] | None = None
    wholes: Int[Tensor, " prompt"] | None = None
    instruction_end: InstructionEnd = "last_token"
    opened: str = ""
    typed_specials: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def t_insts(self) -> Int[Tensor, " prompt"]:
        """Position of the last token of the instruction in each prompt; see `InstructionEnd`.

        Raises:
            PromptError: a prompt has no token of its own, and whole tokens are asked for.
        """
        if self.ends is None or self.wholes is None:
            return torch.full((len(self),), -self.n_post - 1, device=self.ids.device)
        if self.instruction_end == "last_token":
            return self.ends
        if (lacking := (self.wholes == 0).nonzero().flatten().tolist()) != []:
            raise PromptError(
                f"every token of the instruction in {len(lacking)} of {len(self)} prompts (first "
                f"in prompt {lacking[0]}) holds characters of the template, too. Leave those "
                "prompts out, or pass t_inst='last_token'."
            )
        return self.wholes

    @property
    def shared(self) -> Bool[Tensor, " prompt"]:
        """True where the last token of the instruction holds characters of the template, too."""
        if self.ends is None or self.wholes is None:
            return torch.zeros(len(self), dtype=torch.bool, device=self.ids.device)
        return self.ends != self.wholes

    @property
    def t_inst_label(self) -> Position:
        """What t_inst is called on an axis of positions: its number, or ``"t_inst"``.

        It has a number where the tokenizer never joins an instruction with the template: there it
        is the position before the post-instruction tokens, in every prompt.
        """
        return -self.n_post - 1 if self.ends is None else T_INST

    @property
    def t_inst(self) -> int:
        """Position of the last token of the instruction.

        Raises:
            AxisError: it is not the same in all prompts, because some share it with the template.
        """
        if self.ends is None:
            return -self.n_post - 1
        own = self.t_insts.tolist()
        found = sorted({*own})
        if len(found) == 1:
            return found[0]
        if not self.n_post:
            raise AxisError(
                "t_inst is no one position in prompts that go on with the model's own thinking. "
                'Read it by its name, positions=["t_inst"], or where the prompts end: '
                'model.tokens(prompts, after="prompt").'
            )
        ending = ", ".join(f"{end} in {own.count(end)} prompts" for end in found)
        raise AxisError(
            f"t_inst is no one position in these prompts: {ending}, because this tokenizer joins "
            "the end of some with the template's first token after them. Read it by its name, "
            'positions=["t_inst", …]; tokens.t_insts has it for each prompt.'
        )

    @property
    def t_post(self) -> int:
        """Position of the last token of the prompt, where the reply begins."""
        return -1

    @property
    def post_instruction(self) -> tuple[int, ...]:
        """Positions of the post-instruction tokens, first to last.

        Raises:
            AxisError: the prompts go on with the model's own thinking.
        """
        self._check_ends_with_template()
        return tuple(range(-self.n_post, 0))

    @property
    def lengths(self) -> Int[Tensor, " prompt"]:
        """Number of real tokens of each prompt."""
        return self.mask.sum(1)

    @property
    def position_ids(self) -> Int[Tensor, "prompt token"]:
        """Index of each token in its own prompt; 0 at padding."""
        return (self.mask.long().cumsum(1) - 1).clamp(min=0)

    def columns(self, positions: Sequence[Position]) -> Int[Tensor, "prompt position"]:
        """Column of each position in each prompt."""
        found = torch.zeros(len(self), len(positions), dtype=torch.int64)
        for index, position in enumerate(positions):
            found[:, index] = self.t_insts.cpu() if position == T_INST else int(position)
        return found + self.ids.shape[1]

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
            self._check_ends_with_template()
            return column >= width - self.n_post
        if name == "instruction":
            start = width - self.lengths.unsqueeze(1) + self.n_pre
            last = -self.n_post - 1 if self.ends is None else self.ends.unsqueeze(1)
            return (column >= start) & (column <= width + last)
        if name == "t_inst":
            return column == width + self.t_insts.unsqueeze(1)
        return self.mask

    def position_labels(self, positions: Sequence[Position]) -> list[str]:
        """What stands at each position: ``t_inst``, a template token's text, or nothing."""
        texts: dict[Position, str] = {T_INST: T_INST}
        texts |= dict(zip(range(-self.n_post, 0), self.post_tokens, strict=True))
        if T_INST not in positions and len(found := {*self.t_insts.tolist()}) == 1:
            texts[found.pop()] = T_INST
        return [texts.get(position, "") for position in positions]

    def _check_ends_with_template(self) -> None:
        if not self.n_post:
            raise AxisError(
                "these prompts go on with the model's own thinking, so the template's tokens after "
                "the user's words are not at their end. Use positions and tokens of "
                'model.tokens(prompts, after="prompt").'
            )

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens on another device."""
        moved = self.changed_ends(lambda ends: ends.to(device))
        return replace(self, ids=self.ids.to(device), mask=self.mask.to(device), **moved)

    def rows(self, index: Sequence[int] | slice) -> "Tokens":
        """Some of the prompts, without the columns in which all of them are padding."""
        ids, mask = self.ids[index], self.mask[index]
        width = int(mask.sum(1).max())
        own = self.changed_ends(lambda ends: ends[index])
        return replace(self, ids=ids[:, -width:], mask=mask[:, -width:], **own)

    def changed_ends(self, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Where instructions end, changed as the rows are."""
        both = {"ends": self.ends, "wholes": self.wholes}
        return {name: None if own is None else change(own) for name, own in both.items()}

    def ending_at(self, instruction_end: InstructionEnd | None) -> "Tokens":
        """The same tokens with another t_inst; None leaves it as it is.

        Raises:
            AxisError: no such choice.
        """
        if instruction_end is None:
            return self
        if instruction_end not in get_args(InstructionEnd):
            raise AxisError(
                f"no t_inst {instruction_end!r}: {', '.join(get_args(InstructionEnd))}."
            )
        return replace(self, instruction_end=instruction_end)

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


class ChatTemplate(Rendering):
    """A tokenizer's chat template, and where it puts the user's words; made like `Rendering`."""

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        *,
        thinking: bool | None = None,
        date: str | None = None,
        origin: str = OWN,
    ):
        super().__init__(tokenizer, template, thinking=thinking, date=date, origin=origin)
        self._frames: dict[str | None, Frame] = {}
        self._told: set[str] = set()

    def encode(self, text: str, system: str | None = None) -> list[int]:
        """Token ids of one rendered prompt, exactly as the template spells it: no second BOS."""
        return self._ids(self.render(text, system))[0]

    def _ids(self, rendered: str) -> tuple[list[int], list[tuple[int, int]] | None]:
        """Ids of a text that is rendered already, and which characters each of them holds."""
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        with parsing("the tokenizer", "one that reads text", ModelError):
            found = self.tokenizer(
                rendered, add_special_tokens=False, verbose=False, return_offsets_mapping=fast
            )
        ids = found["input_ids"]
        if not fast:
            return ids, None
        return ids, with_spaces(found["offset_mapping"], self.tokenizer.convert_ids_to_tokens(ids))

    def frame(self, system: str | None = None) -> Frame:
        """What the template writes around the user's words.

        Raises:
            ModelError: it does not show them, or leaves the reply no place to begin; or nothing
                says which characters the tokens hold, and they are not the template's alone.
        """
        if system not in self._frames:
            texts = [self.render(probe, system) for probe in PROBES]
            read = [self._ids(text) for text in texts]
            found = find_frame(texts, read)
            if read[0][1] is None:
                check_spelled(self.tokenizer, found)
            self._frames[system] = found
        return self._frames[system]

    def tokens(
        self,
        texts: Sequence[str],
        system: str | None = None,
        max_tokens: int | None = None,
        t_inst: InstructionEnd | None = None,
    ) -> Tokens:
        """Renders, tokenises and left-pads prompts.

        Special tokens typed inside a prompt are read as tokens, counted, and named in a warning.

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
            proper_text(f"prompt {index}", text)
        frame = self.frame(system)
        pre, post = frame.pre, frame.post
        rows, ends, wholes = [], [], []
        for index, text in enumerate(texts):
            rendered = self.render(text, system)
            row, spans = self._ids(rendered)
            rows.append(row)
            if max_tokens is not None and len(row) > max_tokens:
                raise PromptError(
                    f"prompt {index} ({text[:40]!r}…) has {len(row):,} tokens; this model "
                    f"reads at most {max_tokens:,}. Shorten it or leave it out."
                )
            if not (rendered.startswith(frame.before) and rendered.endswith(frame.after)):
                raise PromptError(
                    f"the chat template writes something else around prompt {index} "
                    f"({text[:40]!r}) than around others, so its positions are not theirs. Change "
                    "the prompt or leave it out."
                )
            n_after = n_tokens_after(spans, len(rendered) - len(frame.after)) if spans else None
            if tuple(row[-len(post) :]) != post or (n_after is not None and n_after < len(post)):
                raise PromptError(
                    f"the end of prompt {index} ({text[-20:]!r}) merges with the chat "
                    "template's first token after it. Strip white space from its end, or end it "
                    "otherwise."
                )
            if tuple(row[: len(pre)]) != pre:
                raise PromptError(
                    f"the start of prompt {index} ({text[:20]!r}) merges with the chat "
                    "template's last token before it. Strip white space from its start, or begin "
                    "it otherwise."
                )
            ends.append(-1 - (len(post) if n_after is None else n_after))
            own = (len(frame.before), len(rendered) - len(frame.after))
            wholes.append(ends[-1] if spans is None else last_whole_token(spans, *own))
        ids, mask = padded(rows, self.tokenizer.pad_token_id)
        typed = typed_specials(self.tokenizer, texts, rows, frame)
        self._tell(typed)
        alike = not frame.shares and {*ends, *wholes} == {-1 - len(post)}
        return Tokens(
            ids,
            mask,
            len(pre),
            len(post),
            tuple(self.tokenizer.decode([token]) for token in post),
            ends=None if alike else torch.tensor(ends),
            wholes=None if alike else torch.tensor(wholes),
            opened=opened_block(frame.after),
            typed_specials={each.content: each.times for each in typed},
        ).ending_at(t_inst)

    def shared_tokens(self, tokens: Tokens) -> dict[str, int]:
        """Tokens at the end of instructions that hold characters of the template, too.

        Returns:
            In how many prompts each of them stands, the most frequent first.
        """
        if tokens.ends is None:
            return {}
        rows = tokens.shared.nonzero().flatten()
        ids = tokens.ids[rows, tokens.ids.shape[1] + tokens.ends[rows]].tolist()
        counted = Counter(self.tokenizer.decode([token]) for token in ids)
        return dict(sorted(counted.items(), key=lambda own: (-own[1], own[0])))

    def _tell(self, typed: Sequence[TypedSpecial]) -> None:
        """Names each special token that somebody typed, once."""
        for each in typed:
            if each.content not in self._told:
                self._told.add(each.content)
                screen.warn(each.told, stacklevel=4)


def padded(
    rows: Sequence[Sequence[int]], pad: int | None
) -> tuple[Int[Tensor, "prompt token"], Bool[Tensor, "prompt token"]]:
    """Rows of ids as one table with padding on the left, and where it is none."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), 0 if pad is None else pad)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(row)
        mask[index, width - len(row) :] = True
    return ids, mask
