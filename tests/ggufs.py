"""Tiny GGUF files of a random Llama, as llama.cpp's converter writes them, with the tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np

NORMS = (
    ("model.norm", "output_norm"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
)
MATRICES = (
    ("model.embed_tokens", "token_embd"),
    ("lm_head", "output"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
)
CONTROL, NORMAL = 3, 1


def write_gguf(
    path: Path, network: Any, tokenizer: Any, kind: str = "F32", left_out: str = "", **other: int
) -> Path:
    """Writes a Llama.

    Args:
        path: the file.
        network: with random weights.
        tokenizer: of bytes.
        kind: type of all matrices whose rows are long enough for it.
        left_out: a tensor that the file lacks.
        other: sizes that the header claims, instead of the true ones.
    """
    import gguf

    config, writer = network.config, gguf.GGUFWriter(path, "llama")
    sizes = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "head_count": config.num_attention_heads,
        "head_count_kv": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
        **other,
    }
    for name, size in sizes.items():
        getattr(writer, f"add_{name}")(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _write_tokenizer(writer, tokenizer)
    for name, values in _tensors(network):
        if name != left_out:
            _add(writer, name, values, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_tokenizer(writer: Any, tokenizer: Any) -> None:
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    control = {"<pad>", "<s>", "<|im_start|>", "<|im_end|>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([CONTROL if token in control else NORMAL for token, _ in vocabulary])
    writer.add_token_merges(["t h"])  # that of the tokenizer
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _tensors(network: Any) -> list[tuple[str, np.ndarray]]:
    """Every weight by its name in the file, in the order of rows that llama.cpp has."""
    heads = {
        "q_proj": network.config.num_attention_heads,
        "k_proj": network.config.num_key_value_heads,
    }
    found = []
    for name, weight in network.state_dict().items():
        own = name.removesuffix(".weight")
        values = weight.float().numpy()
        for part, n_heads in heads.items():
            if own.endswith(part):
                # Halves of a head, which is how the rotary embedding pairs them, one by one.
                split = values.reshape(n_heads, 2, -1, values.shape[1])
                values = split.swapaxes(1, 2).reshape(values.shape)
        theirs = next(gguf for ours, gguf in (*NORMS, *MATRICES) if own.endswith(ours))
        block = f"blk.{own.split('.')[2]}." if own.startswith("model.layers.") else ""
        found.append((f"{block}{theirs}.weight", np.ascontiguousarray(values)))
    return found


def _add(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    """One tensor, quantized where it is a matrix and its rows fill blocks."""
    import gguf
    from gguf.quants import quantize

    wanted = gguf.GGMLQuantizationType[kind]
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    if kind == "F32" or values.ndim == 1 or values.shape[1] % block:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, quantize(values, wanted), raw_dtype=wanted)
