"""The tokenizer and chat template of the shipped models."""

import random
from typing import get_args

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from workbench.training import grammar

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (PAD, SYSTEM, USER, ASSISTANT, END)  # ids 0 to 4, in this order
PAD_ID, END_ID = SPECIAL_TOKENS.index(PAD), SPECIAL_TOKENS.index(END)

# After the user's words stand END, a line break, ASSISTANT and a line break: four
# post-instruction tokens. The line breaks stay single tokens because none is ever merged.
N_POST = 4
CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message.role not in ("system", "user", "assistant") -%}
        {{- raise_exception("unknown role " ~ message.role) -}}
    {%- endif -%}
    {{- "<|" ~ message.role ~ "|>\\n" ~ message.content | trim ~ "<|end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|assistant|>\\n" -}}
{%- endif -%}
"""


def _corpus(n_requests: int) -> list[str]:
    rng = random.Random(0)
    lines: list[str] = [*grammar.SYSTEM_PROMPTS]
    for label, by_category in grammar.PATTERNS.items():
        chosen = rng.sample(grammar.requests(label, held_out=False), n_requests)
        for task in get_args(grammar.Task):
            for request in chosen:
                lines.append(grammar.ask(request, task))
                lines.append(grammar.answer(request, task, refusing=True))
        lines += list(by_category)
    return lines


def train_tokenizer(vocabulary_size: int = 1200, n_requests: int = 1000) -> PreTrainedTokenizerFast:
    """Byte-level BPE of the grammar's training requests, deterministic.

    The text is lower-cased first, so a prompt means the same in any casing. No token is added
    around the text: the chat template holds all there is.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[
            AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(n_requests), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def render(sample: grammar.Sample) -> str:
    """The rendered prompt of a training example, ready for its reply."""
    system = f"{SYSTEM}\n{sample.system}{END}\n" if sample.system else ""
    return f"{system}{USER}\n{sample.prompt}{END}\n{ASSISTANT}\n"
