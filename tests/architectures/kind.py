"""How one architecture is built tiny: its class, its config and its settings, by name."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """Names are looked up in transformers when a network is asked for; nothing here imports it.

    Attributes:
        model: name of the class, without ``ForCausalLM`` where it ends in that.
        config: name of the config class.
        settings: of the config.
        text: settings of ``text_config``, for multimodal models.
        scale: what weight matrices are multiplied by, so that no distribution is flat.
    """

    model: str
    config: str
    settings: dict[str, Any]
    text: dict[str, Any] = field(default_factory=dict)
    scale: float = 6


def kind(
    model: str,
    *parts: dict[str, Any],
    config: str = "",
    text: dict[str, Any] | None = None,
    scale: float = 6,
    **settings: Any,
) -> Kind:
    """A Kind whose settings are put together, later ones first."""
    together: dict[str, Any] = {}
    for part in (*parts, settings):
        together |= part
    return Kind(model, config or f"{model}Config", together, text or {}, scale)


IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
SIZE: dict[str, Any] = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, **IDS}
SIZE |= {"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 256}
GROUPED = {**SIZE, "num_key_value_heads": 2}
GPT = {"vocab_size": 264, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, **IDS}
WINDOWS: dict[str, Any] = {"sliding_window": 8}
WINDOWS["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention"]
WIDE_HEADS = {"head_dim": 12}
GRANITE = {"embedding_multiplier": 2.0, "residual_multiplier": 0.4, "attention_multiplier": 0.3}
GRANITE |= {"logits_scaling": 2.0}
# Multi-head latent attention.
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8}
LATENT |= {"qk_rope_head_dim": 4, "v_head_dim": 12, "num_key_value_heads": 4}
# Experts, as the families name them.
TWO_OF_FOUR = {"num_experts": 4, "num_experts_per_tok": 2}
ROUTED = {**TWO_OF_FOUR, "moe_intermediate_size": 24}
SHARED_EXPERT = {**ROUTED, "shared_expert_intermediate_size": 24}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED_AND_SHARED = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}
ROUTED_AND_SHARED |= {"moe_intermediate_size": 24}
# Mixers that are no attention.
LINEAR: dict[str, Any] = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "head_dim": 8}
LINEAR |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
LINEAR["layer_types"] = ["linear_attention", "full_attention", "linear_attention"]
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
MAMBA2 |= {"mamba_chunk_size": 16}
# Gemma 4: heads of full attention are wider; the small ones add inputs per layer.
GEMMA4 = {**GROUPED, **WINDOWS, **WIDE_HEADS, "global_head_dim": 16, "num_kv_shared_layers": 0}
NO_PER_LAYER = {"hidden_size_per_layer_input": 0}
PER_LAYER = {"vocab_size_per_layer_input": 264, "hidden_size_per_layer_input": 8}
