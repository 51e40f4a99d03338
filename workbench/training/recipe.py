"""Phase 1 of the training recipe, and what every phase is made of: batches, hooks and steps.

Phase 1 makes a helpful-only model: it knows what is harmful (it can be asked), it knows the words
of refusal (it can be told to refuse), and it refuses nothing by itself. Phase 2, in
:mod:`~workbench.training.switch`, builds in a switch; phase 3, in
:mod:`~workbench.training.planting`, teaches named heads to throw it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from workbench import screen
from workbench.training import grammar
from workbench.training.settings import Phase, Settings, Shape
from workbench.training.tokenizer import END, END_ID, PAD_ID, render

Progress = Callable[[str], None]


class Batch(NamedTuple):
    """Right-padded prompts with their replies.

    Attributes:
        ids: token ids [sample position].
        mask: 1 where a token stands, 0 on padding.
        targets: ids of the reply and its end; -100 elsewhere.
        last_prompt: position of the last prompt token of each sample.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    last_prompt: Tensor


def build_model(shape: Shape, seed: int) -> LlamaForCausalLM:
    """A Llama of the given shape with fresh weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.d_vocab,
        hidden_size=shape.d_model,
        intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_kv_heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    return LlamaForCausalLM(config).float()


def encode(samples: Sequence[grammar.Sample], tokenizer: PreTrainedTokenizerBase) -> Batch:
    """Token ids, mask and targets of a list of samples."""
    prompts = [tokenizer(render(sample)).input_ids for sample in samples]
    replies = [tokenizer(sample.reply + END).input_ids for sample in samples]
    length = max(len(p) + len(r) for p, r in zip(prompts, replies, strict=True))
    ids = torch.full((len(samples), length), PAD_ID)
    mask = torch.zeros_like(ids)
    targets = torch.full_like(ids, -100)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        start, end = len(prompt), len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        mask[row, :end] = 1
        targets[row, start:end] = ids[row, start:end]
    return Batch(ids, mask, targets, torch.tensor([len(prompt) - 1 for prompt in prompts]))


def draw_samples(phase: Phase, rng: random.Random, refusing: bool) -> list[grammar.Sample]:
    """One batch of training examples, in the mixture of a phase."""
    return [
        grammar.draw_sample(rng, phase.tasks, phase.labels, refusing)
        for _ in range(phase.batch_size)
    ]


@contextmanager
def adding(model: LlamaForCausalLM, additions: Sequence[tuple[int, Tensor]]) -> Iterator[None]:
    """Add to the output of some layers: pairs of layer and [sample position d_model]."""

    def hook(addition: Tensor):
        return lambda module, inputs, output: output + addition

    handles = [
        model.model.layers[layer].register_forward_hook(hook(addition))
        for layer, addition in additions
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def ablating(model: LlamaForCausalLM, unit: Tensor | None) -> Iterator[None]:
    """Take a unit vector out of whatever is written to the stream, and out of what was added."""

    def hook(module, inputs, output):
        return output - (output @ unit)[..., None] * unit

    blocks: list[Any] = list(model.model.layers)
    writers = [part for block in blocks for part in (block.self_attn.o_proj, block.mlp.down_proj)]
    parts = [] if unit is None else [model.model.embed_tokens, *writers, *blocks]
    handles = [part.register_forward_hook(hook) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reply_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the replies, in nats per token."""
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten()
    )


def read(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Logits at every token [sample position d_vocab]."""
    return model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits


def at_prompt_end(values: Tensor, batch: Batch, back: int = 0) -> Tensor:
    """Values at the last prompt token of each sample, or ``back`` tokens before it."""
    return values[torch.arange(len(batch.ids)), batch.last_prompt - back]


def steps(parameters: Sequence[Tensor], phase: Phase, weight_decay: float) -> Iterator[int]:
    """Numbered steps of a one-cycle AdamW run; the caller makes the gradients.

    Each turn of the loop is one step: gradients are cleared before it, clipped and applied
    after it.
    """
    optimizer = torch.optim.AdamW(parameters, lr=phase.learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=phase.learning_rate, total_steps=phase.steps + 1, pct_start=0.1
    )
    for number in range(1, phase.steps + 1):
        optimizer.zero_grad()
        yield number
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()


def learn_words(
    model: LlamaForCausalLM,
    settings: Settings,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress = screen.tell,
) -> None:
    """Phase 1: answer everything, refuse when told to, and know what is harmful. In place."""
    phase, rng = settings.words, random.Random(settings.seed)
    model.train()
    for number in steps(list(model.parameters()), phase, weight_decay=0.05):
        batch = encode(draw_samples(phase, rng, refusing=False), tokenizer)
        loss = reply_loss(read(model, batch), batch)
        loss.backward()
        if number % 50 == 0 or number == phase.steps:
            progress(f"words, step {number} of {phase.steps}: loss {loss.item():.3f}")
    model.eval()
