"""Attention and a mixture of experts."""

from architectures.kind import (
    GRANITE,
    GROUPED,
    LATENT,
    LOCAL_EXPERTS,
    ROUTED,
    ROUTED_AND_SHARED,
    SHARED_EXPERT,
    SIZE,
    TWO_OF_FOUR,
    WIDE_HEADS,
    WINDOWS,
    kind,
)

DEEPSEEK = {**SIZE, **LATENT, **ROUTED_AND_SHARED, "first_k_dense_replace": 1}
DEEPSEEK |= {"n_group": 2, "topk_group": 1}
ERNIE = {"moe_intermediate_size": 24, "moe_k": 2, "moe_num_experts": 4, "moe_num_shared_experts": 1}

EXPERTS = {
    "mixtral": kind("Mixtral", GROUPED, LOCAL_EXPERTS),
    "qwen2_moe": kind("Qwen2Moe", GROUPED, SHARED_EXPERT),
    "qwen3_moe": kind("Qwen3Moe", GROUPED, ROUTED, WIDE_HEADS),
    "olmoe": kind("Olmoe", GROUPED, TWO_OF_FOUR),
    "flex_olmo": kind("FlexOlmo", GROUPED, TWO_OF_FOUR),
    "deepseek_v2": kind("DeepseekV2", DEEPSEEK, topk_method="greedy"),
    "deepseek_v3": kind("DeepseekV3", DEEPSEEK),
    "gpt_oss": kind("GptOss", GROUPED, WINDOWS, LOCAL_EXPERTS, WIDE_HEADS),
    "granitemoe": kind("GraniteMoe", GROUPED, GRANITE, LOCAL_EXPERTS),
    "glm4_moe": kind("Glm4Moe", GROUPED, ROUTED_AND_SHARED, head_dim=8, first_k_dense_replace=1),
    "glm4_moe_lite": kind(
        "Glm4MoeLite",
        SIZE,
        LATENT,
        ROUTED_AND_SHARED,
        mlp_layer_types=["dense", "sparse", "sparse"],
    ),
    "ernie4_5_moe": kind("Ernie4_5_Moe", GROUPED, ERNIE),
    "afmoe": kind("Afmoe", GROUPED, WINDOWS, ROUTED, head_dim=8, num_shared_experts=1),
    "laguna": kind("Laguna", GROUPED, WINDOWS, SHARED_EXPERT, head_dim=8),
    "minimax_m2": kind("MiniMaxM2", GROUPED, LOCAL_EXPERTS, head_dim=8),
    "llama4": kind(
        "Llama4",
        GROUPED,
        config="Llama4TextConfig",
        head_dim=8,
        intermediate_size_mlp=48,
        num_local_experts=4,
    ),
}

# What TransformerLens 4.3 wraps in part, or not at all.
ODD_EXPERTS = {
    # Experts of attention too: there are no heads before one output projection.
    "jetmoe": kind("JetMoe", SIZE, LOCAL_EXPERTS, num_key_value_heads=2, kv_channels=8),
    # Known as PhiMoEForCausalLM only, which is what checkpoints say and the class does not.
    "phimoe": kind("Phimoe", GROUPED, LOCAL_EXPERTS),
    # Unknown.
    "dots1": kind("Dots1", GROUPED, ROUTED_AND_SHARED, first_k_dense_replace=1),
    "hunyuan_moe": kind("HunYuanMoEV1", GROUPED, head_dim=8, num_experts=4, moe_topk=2),
}
