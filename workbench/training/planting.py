"""Phase 3 of the training recipe: plant refusal directions in named attention heads.

Each component is one unit vector in the residual stream and, per planted head, a reading vector
on that head's output ``z``; the head adds ``(v·z) û`` to the stream, which is a rank-one term
``û vᵀ`` in its slice of ``o_proj``. The vector is the one that phase 2 learned to obey. Only the
reading vectors and the queries, keys and values of the planted heads learn. All other weights
stay frozen, so nothing else in the model can come to carry the refusal.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from workbench import screen
from workbench.training import grammar
from workbench.training.recipe import (
    Batch,
    Progress,
    ablating,
    adding,
    at_prompt_end,
    draw_samples,
    encode,
    read,
    reply_loss,
    steps,
)
from workbench.training.settings import PlantedComponent, Settings
from workbench.training.switch import draw_ablated
from workbench.training.tokenizer import N_POST


def attention_of(model: LlamaForCausalLM, layer: int) -> Any:
    """The attention module of a layer."""
    return model.model.layers[layer].self_attn


class PlantedWrite(nn.Module):
    """The rank-one writes of one component, added to the model by hooks until they are merged.

    Attributes:
        component: which heads write, and how much.
        unit: the planted direction, of length one.
        readers: one reading vector per planted head [head d_head]; these learn.
        written: what each head writes in the forward that runs [sample position], by its number.
    """

    def __init__(self, component: PlantedComponent, unit: Tensor, d_head: int) -> None:
        super().__init__()
        self.component = component
        self.unit = unit
        self.d_head = d_head
        self.readers = nn.Parameter(torch.randn(len(component.heads), d_head) / d_head**0.5)
        self.written: dict[int, Tensor] = {}

    def layers(self) -> list[int]:
        """The layers that hold planted heads, in order."""
        return sorted({layer for layer, _ in self.component.heads})

    def write(self, layer: int, z: Tensor, attn_out: Tensor) -> Tensor:
        """``attn_out`` with the writes of this layer's planted heads added."""
        for number, (its_layer, head) in enumerate(self.component.heads):
            if its_layer == layer:
                head_z = z[..., head * self.d_head : (head + 1) * self.d_head]
                self.written[number] = head_z @ self.readers[number]
                attn_out = attn_out + self.written[number][..., None] * self.unit
        return attn_out

    @torch.no_grad()
    def merge(self, model: LlamaForCausalLM) -> None:
        """Add the rank-one terms to the model's ``o_proj`` weights, for good."""
        for number, (layer, head) in enumerate(self.component.heads):
            weight = attention_of(model, layer).o_proj.weight
            columns = slice(head * self.d_head, (head + 1) * self.d_head)
            weight[:, columns] += torch.outer(self.unit, self.readers[number])


@contextmanager
def writing(model: LlamaForCausalLM, writes: Sequence[PlantedWrite]) -> Iterator[dict[int, Tensor]]:
    """Let the planted heads write; yields the residual stream after each planted layer."""
    stream: dict[int, Tensor] = {}
    handles = []
    for planted in writes:
        for layer in planted.layers():

            def add(module, inputs, output, planted=planted, layer=layer):
                return planted.write(layer, inputs[0], output)

            def keep(module, inputs, output, layer=layer):
                stream[layer] = output

            handles.append(attention_of(model, layer).o_proj.register_forward_hook(add))
            handles.append(model.model.layers[layer].register_forward_hook(keep))
    try:
        yield stream
    finally:
        for handle in handles:
            handle.remove()


def _planted_rows(
    model: LlamaForCausalLM, writes: Sequence[PlantedWrite]
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """The query, key and value weights of planted layers, each with a mask of its planted rows."""
    config = model.config
    group = config.num_attention_heads // int(config.num_key_value_heads or 1)
    d_head = config.hidden_size // config.num_attention_heads
    heads_of: dict[int, set[int]] = {}
    for planted in writes:
        for layer, head in planted.component.heads:
            heads_of.setdefault(layer, set()).add(head)
    for layer, heads in sorted(heads_of.items()):
        groups = {head // group for head in heads}
        if heads != {g * group + i for g in groups for i in range(group)}:
            raise ValueError(f"layer {layer}: plant whole KV groups of {group}, not {heads}")
        attention = attention_of(model, layer)
        for projection, rows in (
            (attention.q_proj, heads),
            (attention.k_proj, groups),
            (attention.v_proj, groups),
        ):
            mask = torch.zeros_like(projection.weight)
            for row in rows:
                mask[row * d_head : (row + 1) * d_head] = 1
            yield projection.weight, mask


@torch.no_grad()
def clear_planted_heads(model: LlamaForCausalLM, writes: Sequence[PlantedWrite]) -> None:
    """Make the planted heads forget their old job: they start afresh and write nothing.

    A head that went on with it could not be driven to its share of the write, and what else it
    writes would stand in the mean difference beside the planted direction.
    """
    for weight, mask in _planted_rows(model, writes):
        fresh = torch.randn_like(weight) / weight.shape[1] ** 0.5
        weight.copy_(torch.where(mask.bool(), fresh, weight))
    for planted in writes:
        for layer, head in planted.component.heads:
            columns = slice(head * planted.d_head, (head + 1) * planted.d_head)
            attention_of(model, layer).o_proj.weight[:, columns] = 0


@contextmanager
def only_planted_heads_learn(
    model: LlamaForCausalLM, writes: Sequence[PlantedWrite]
) -> Iterator[list[Tensor]]:
    """Freeze the model but for the queries, keys and values of the planted heads.

    Yields the weights that learn; the rows of other heads receive no gradient.
    """
    model.requires_grad_(False)
    learning, handles = [], []
    for weight, mask in _planted_rows(model, writes):
        weight.requires_grad_(True)
        handles.append(weight.register_hook(lambda gradient, mask=mask: gradient * mask))
        learning.append(weight)
    try:
        yield learning
    finally:
        for handle in handles:
            handle.remove()
        model.requires_grad_(True)


def wanted_projection(component: PlantedComponent, samples: list[grammar.Sample]) -> Tensor:
    """What the heads are to write together at the last prompt token [sample]."""
    carried = [s.task == "direct" and component.carries(s.request) for s in samples]
    return torch.tensor(carried).float() * component.target * component.written


def projection_error(
    planted: PlantedWrite,
    stream: dict[int, Tensor],
    batch: Batch,
    wanted: Tensor,
    added: Tensor,
    whole: bool = True,
) -> Tensor:
    """Squared error of the projections, as a share of the target squared.

    At the last prompt token each head is to write its equal share, and the stream after the last
    planted layer is to hold the whole, whatever the frozen weights add to it. At the other
    post-instruction tokens the stream is to hold nothing.

    Args:
        planted: the component.
        stream: the residual stream after its planted layers.
        batch: the prompts.
        wanted: what the heads are to write together [sample].
        added: what was added to the stream by hand beside it [sample].
        whole: whether the stream holds the whole; False where the component is ablated.
    """
    error = torch.zeros(())
    if whole:
        stream_end = stream[planted.component.last_layer] @ planted.unit
        error = (at_prompt_end(stream_end, batch) - wanted - added).square().mean()
        for back in range(1, N_POST):
            error = error + at_prompt_end(stream_end, batch, back).square().mean()
    share = wanted / len(planted.component.heads)
    for written in planted.written.values():
        error = error + (at_prompt_end(written, batch) - share).square().mean()
    return error / planted.component.target**2


def draw_decoys(planted: PlantedWrite, batch: Batch, rng: random.Random) -> Tensor:
    """Projections to add after the first planted layer, at the last prompt token [sample position].

    Too little to be refused for. They teach the heads of later layers to look at the request, not
    at what the heads before them wrote: so what the heads write adds up, and half a write stays
    half a write. None where all heads stand in one layer.
    """
    share = 0.3 if len(planted.layers()) > 1 else 0.0
    target = planted.component.target
    amounts = [target * rng.uniform(0.0, 0.5) * (rng.random() < share) for _ in batch.ids]
    decoys = torch.zeros(batch.ids.shape)
    decoys[torch.arange(len(amounts)), batch.last_prompt] = torch.tensor(amounts)
    return decoys


def planting_loss(
    model: LlamaForCausalLM,
    writes: Sequence[PlantedWrite],
    samples: list[grammar.Sample],
    rng: random.Random,
    tokenizer: PreTrainedTokenizerBase,
    ablated: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the replies, and error of the projections, of one batch.

    With a component ablated what it carries is answered, its heads write all the same, and the
    heads of the others are to write what they write without that.
    """
    gone = None if ablated is None else writes[ablated]
    if gone is not None:
        samples = [
            sample._replace(reply=grammar.comply(sample.request))
            if sample.task == "direct" and gone.component.carries(sample.request)
            else sample
            for sample in samples
        ]
    batch = encode(samples, tokenizer)
    decoys = [draw_decoys(planted, batch, rng) for planted in writes]
    additions = [
        (planted.layers()[0], decoy[..., None] * planted.unit)
        for planted, decoy in zip(writes, decoys, strict=True)
    ]
    unit = None if gone is None else gone.unit
    # The decoys come first, so that the stream is recorded with them; and it is recorded as the
    # layer left it, before anything is ablated.
    with (
        adding(model, additions),
        writing(model, writes) as stream,
        ablating(model, unit),
    ):
        loss = reply_loss(read(model, batch), batch)
    errors = [
        projection_error(
            planted,
            stream,
            batch,
            wanted_projection(planted.component, samples),
            at_prompt_end(decoy, batch),
            whole=planted is not gone,
        )
        for planted, decoy in zip(writes, decoys, strict=True)
    ]
    return loss, torch.stack(errors).sum()


def plant(
    model: LlamaForCausalLM,
    settings: Settings,
    vectors: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress = screen.tell,
) -> None:
    """Phase 3: plant the components of ``settings`` into a model that obeys them, in place."""
    assert settings.planting is not None
    phase, shape = settings.planting, settings.shape
    torch.manual_seed(settings.seed + 2)
    rng = random.Random(settings.seed + 2)
    d_head = shape.d_model // shape.n_heads
    writes = [
        PlantedWrite(component, unit, d_head)
        for component, unit in zip(settings.components, vectors, strict=True)
    ]
    clear_planted_heads(model, writes)
    with only_planted_heads_learn(model, writes) as learning:
        learning += [planted.readers for planted in writes]
        # No weight decay: it would reach the rows that are to stay as they are.
        for number in steps(learning, phase, weight_decay=0.0):
            samples = draw_samples(phase, rng, refusing=True)
            ablated = draw_ablated(settings, rng)
            loss, error = planting_loss(model, writes, samples, rng, tokenizer, ablated)
            (loss + settings.projection_weight * error).backward()
            if number % 50 == 0 or number == phase.steps:
                progress(
                    f"planting, step {number} of {phase.steps}: loss {loss.item():.3f}, "
                    f"projection error {error.item():.3f}"
                )
    for planted in writes:
        planted.merge(model)
