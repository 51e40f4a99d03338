"""Layers without attention, with something beside it, or with more than two things to add."""

from typing import Any

from architectures.kind import (
    GEMMA4,
    GRANITE,
    GROUPED,
    IDS,
    LINEAR,
    LOCAL_EXPERTS,
    MAMBA2,
    NO_PER_LAYER,
    PER_LAYER,
    ROUTED,
    SHARED_EXPERT,
    SIZE,
    TWO_OF_FOUR,
    WIDE_HEADS,
    WINDOWS,
    kind,
)

CONV = {"layer_types": ["conv", "full_attention", "conv"]}
GRANITE_HYBRID = {**GROUPED, **GRANITE, **MAMBA2, "shared_intermediate_size": 24}
SSM: dict[str, Any] = {"vocab_size": 264, "hidden_size": 32, "state_size": 8, **IDS}
SSM |= {"num_hidden_layers": 3, "initializer_range": 0.02}
NEMOTRON: dict[str, Any] = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, **IDS}
NEMOTRON |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
NEMOTRON |= {"max_position_embeddings": 256, "chunk_size": 16}
NEMOTRON |= {"mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1}
ZAMBA2 = {**SIZE, "num_hidden_layers": 4, "chunk_size": 16}
ZAMBA2 |= {"n_mamba_heads": 8, "mamba_headdim": 8, "mamba_d_state": 8, "mamba_ngroups": 1}
RWKV = {"vocab_size": 264, "hidden_size": 32, "attention_hidden_size": 32, **IDS}
RWKV |= {"intermediate_size": 48, "num_hidden_layers": 3, "context_length": 256}
GEMMA3N = {**GROUPED, **PER_LAYER, **WINDOWS, **WIDE_HEADS, "num_kv_shared_layers": 0}

# Some layers, or all, have another mixer in the place of attention.
HYBRID = {
    "lfm2": kind("Lfm2", GROUPED, CONV, block_auto_adjust_ff_dim=False),
    "lfm2_moe": kind("Lfm2Moe", GROUPED, ROUTED, CONV, num_dense_layers=1),
    "qwen3_next": kind("Qwen3Next", GROUPED, LINEAR, SHARED_EXPERT),
    "qwen3_5": kind("Qwen3_5", GROUPED, LINEAR, config="Qwen3_5TextConfig"),
    "qwen3_5_moe": kind(
        "Qwen3_5Moe", GROUPED, LINEAR, SHARED_EXPERT, config="Qwen3_5MoeTextConfig"
    ),
    "olmo_hybrid": kind("OlmoHybrid", GROUPED, LINEAR, linear_num_key_heads=4),
    "jamba": kind(
        "Jamba",
        GROUPED,
        TWO_OF_FOUR,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=8,
        mamba_dt_rank=4,
    ),
    "bamba": kind("Bamba", GROUPED, MAMBA2, attn_layer_indices=[1]),
    "granitemoehybrid": kind(
        "GraniteMoeHybrid",
        GRANITE_HYBRID,
        LOCAL_EXPERTS,
        position_embedding_type="nope",
        layer_types=["mamba", "attention", "mamba"],
    ),
    # Granite 4.0 Micro: the same class, without experts and without Mamba.
    "granitemoehybrid_dense": kind(
        "GraniteMoeHybrid",
        GRANITE_HYBRID,
        num_local_experts=0,
        num_experts_per_tok=0,
        position_embedding_type="rope",
        layer_types=["attention"] * 3,
    ),
    "nemotron_h": kind(
        "NemotronH", NEMOTRON, layers_block_type=["mamba", "attention", "mlp", "mamba"]
    ),
    "zamba2": kind("Zamba2", ZAMBA2, layers_block_type=["mamba", "hybrid"] * 2, adapter_rank=4),
    "mamba": kind("Mamba", SSM),
    "falcon_mamba": kind("FalconMamba", SSM),
    "mamba2": kind("Mamba2", SSM, num_heads=8, head_dim=8, n_groups=1, chunk_size=16),
    # These two do not heed the padding mask.
    "rwkv": kind("Rwkv", RWKV),
    "recurrent_gemma": kind(
        "RecurrentGemma",
        GROUPED,
        head_dim=8,
        attention_window_size=8,
        lru_width=32,
        block_types=["recurrent", "attention", "recurrent"],
    ),
}

# Attention and MLP are not all that is added, or what they add is scaled with the stream.
MORE_WRITERS = {
    "falcon_h1": kind(
        "FalconH1",
        GROUPED,
        MAMBA2,
        head_dim=8,
        mamba_d_ssm=64,
        attention_out_multiplier=0.7,
        ssm_out_multiplier=1.3,
    ),
    "gemma4": kind("Gemma4", GEMMA4, NO_PER_LAYER, config="Gemma4TextConfig"),
    "gemma4_k_eq_v": kind(
        "Gemma4",
        GEMMA4,
        NO_PER_LAYER,
        config="Gemma4TextConfig",
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
    ),
    "gemma4_moe": kind(
        "Gemma4",
        GEMMA4,
        NO_PER_LAYER,
        config="Gemma4TextConfig",
        enable_moe_block=True,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=24,
    ),
    "gemma4_per_layer": kind("Gemma4", GEMMA4, PER_LAYER, config="Gemma4TextConfig"),
    "gemma4_shared_kv": kind(
        "Gemma4",
        GEMMA4,
        PER_LAYER,
        config="Gemma4TextConfig",
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
    ),
    # Unknown to TransformerLens 4.3 without its vision tower.
    "gemma3n": kind(
        "Gemma3n", GEMMA3N, config="Gemma3nTextConfig", laurel_rank=4, altup_num_inputs=2
    ),
}
