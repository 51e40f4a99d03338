"""HookedModel: a chat model with every site of its residual stream exposed."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.arguments import checked
from workbench.errors import ModelError
from workbench.models.generate import generate
from workbench.models.network import Network
from workbench.models.own_thinking import after_thinking
from workbench.models.tokens import Tokens
from workbench.positions import InstructionEnd
from workbench.progress import track
from workbench.prompts.inputs import as_prompts
from workbench.prompts.promptset import PromptSet

Prompts = PromptSet | Tokens | Sequence[str] | str | Any
"""Whatever can be answered: what `as_prompts` takes (a prompt set, texts, one text, a data frame, a
data set), or tokens made before. What cannot is a `PromptError` that says so."""

ScoreAfter = Literal["prompt", "thinking"]
"""Where a reply is scored: after the rendered prompt, or after the model's own thinking block."""


class HookedModel(Network):
    """A chat model whose residual stream can be read and written at every layer.

    Made by `load_model`; not to be called directly. What a user asks of it is here: tokens, logits
    and replies; sites, hooks and plain forwards are those of its `Network`.
    """

    def tokens(
        self,
        prompts: Prompts,
        system: str | None = None,
        after: ScoreAfter = "prompt",
        max_thinking_tokens: int = 1024,
        t_inst: InstructionEnd | None = None,
    ) -> Tokens:
        """Renders prompts with the chat template, tokenises and left-pads them.

        Args:
            prompts: what is asked.
            system: a system prompt for all of them.
            after: ``"prompt"``, or ``"thinking"``: each prompt goes on with the block that the
                model thinks of it, greedily, so that what is read at the last token is the answer.
            max_thinking_tokens: longest block that is waited for.
            t_inst: ``last_token`` of the instruction (the default), or ``last_whole_token``, where
                the tokenizer joins the end of some with the template; see `InstructionEnd`.

        Raises:
            PromptError: no prompts, something that is none, one that is too long for the model, or
                one whose thinking the model does not close.
            ModelError: no chat template, or none with a place for ``system``.
        """
        if after not in get_args(ScoreAfter):
            raise ModelError(f"no place {after!r} to score: {', '.join(get_args(ScoreAfter))}.")
        if after == "thinking":
            asked = self.tokens(prompts, system, t_inst=t_inst)
            return after_thinking(self, asked, max_thinking_tokens)
        if isinstance(prompts, Tokens):
            if system is not None:
                raise ModelError(
                    "these prompts are tokens already, so system= would do nothing. Pass it where "
                    "they are made: model.tokens(prompts, system=…)."
                )
            return prompts.ending_at(t_inst).to(self.device)
        texts = as_prompts(prompts).texts
        return self.template.tokens(texts, system, self.max_tokens, t_inst).to(self.device)

    def logits(
        self,
        prompts: Prompts,
        system: str | None = None,
        after: ScoreAfter = "prompt",
        max_thinking_tokens: int = 1024,
    ) -> Float[Tensor, "prompt d_vocab"]:
        """Next-token logits at the last position of every prompt, on the CPU, in float32.

        Arguments are those of `tokens`: with ``after="thinking"`` the position is that where the
        answer begins, after the model's own closed thinking block.

        Raises:
            ModelError: the logits are not finite.
            PromptError: the model does not close a block in time.
        """
        tokens = self.tokens(prompts, system, after, max_thinking_tokens)
        rows, parts = [], []
        batches = self.batches(tokens)
        for chosen, batch in track(batches, "reading prompts", len(batches)):
            parts.append(self.forward(batch).cpu())
            rows.extend(chosen)
        logits = torch.cat(parts)[torch.tensor(rows).argsort()]
        self.check_finite(logits)
        return logits

    @checked
    def generate(
        self,
        prompts: Prompts,
        max_new_tokens: int = 64,
        do_sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        system: str | None = None,
    ) -> list[str]:
        """The model's replies, one per prompt, without special tokens but with thinking blocks.

        Greedy unless ``do_sample``. Sampling is reproducible for the same seed, prompts and
        ``batch_tokens``. Interventions that are active apply to prompt and reply as they say.

        Raises:
            PromptError: prompt and reply together are longer than the model can read.
        """
        return generate(
            self,
            self.tokens(prompts, system),
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            temperature=temperature,
            seed=seed,
        )
