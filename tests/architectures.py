"""Tiny random networks of many architectures, each as its class, its config and its settings.

The class is looked up in transformers when a network is asked for, so nothing here imports it.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """How to build one architecture.

    Attributes:
        model: name of the class in transformers, without ``ForCausalLM`` where it ends in that.
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


IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
SIZE: dict[str, Any] = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, **IDS}
SIZE |= {"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 256}
GROUPED = {**SIZE, "num_key_value_heads": 2}
WINDOWS: dict[str, Any] = {"sliding_window": 8}
WINDOWS["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention"]
GPT = {"vocab_size": 264, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, **IDS}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8}
LATENT |= {"qk_rope_head_dim": 4, "v_head_dim": 12, "num_key_value_heads": 4}
DEEPSEEK = {**LATENT, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}
DEEPSEEK |= {"n_group": 2, "topk_group": 1, "moe_intermediate_size": 24, "first_k_dense_replace": 1}
GLM_EXPERTS = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}
GLM_EXPERTS |= {"moe_intermediate_size": 24}
LINEAR: dict[str, Any] = {"linear_num_value_heads": 4, "linear_num_key_heads": 2}
LINEAR |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "head_dim": 8}
LINEAR["layer_types"] = ["linear_attention", "full_attention", "linear_attention"]
SHARED_EXPERT = {**ROUTED, "shared_expert_intermediate_size": 24}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
MAMBA2 |= {"mamba_chunk_size": 16}
GRANITE = {"embedding_multiplier": 2.0, "residual_multiplier": 0.4, "attention_multiplier": 0.3}
GRANITE |= {"logits_scaling": 2.0}
PER_LAYER = {"vocab_size_per_layer_input": 264, "hidden_size_per_layer_input": 8}
FALCON = {"vocab_size": 264, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
FALCON |= {"max_position_embeddings": 256, "bias": True, **IDS}
GEMMA4 = {**GROUPED, **WINDOWS, "head_dim": 12, "global_head_dim": 16, "num_kv_shared_layers": 0}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
VISION |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
QWEN_VISION = {"depth": 1, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2}
QWEN_IMAGES = {"image_token_id": 259, "video_token_id": 260, "vision_start_token_id": 261}
QWEN_IMAGES |= {"vision_end_token_id": 262}
QWEN_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN3_VISION = {"hidden_size": 16, "intermediate_size": 16, "out_hidden_size": 32}
QWEN3_VISION |= {"num_position_embeddings": 16, **QWEN_VISION}

# The networks that every test of an architecture goes through.
DENSE = {
    "llama": Kind("Llama", "LlamaConfig", GROUPED),
    "mistral": Kind("Mistral", "MistralConfig", {**GROUPED, "sliding_window": 8}),
    "qwen2": Kind("Qwen2", "Qwen2Config", GROUPED),
    "qwen3": Kind("Qwen3", "Qwen3Config", {**GROUPED, "head_dim": 12}),
    "phi3": Kind("Phi3", "Phi3Config", GROUPED),
    "gemma2": Kind("Gemma2", "Gemma2Config", {**GROUPED, **WINDOWS, "head_dim": 12}),
    "gemma3": Kind("Gemma3", "Gemma3TextConfig", {**GROUPED, **WINDOWS, "head_dim": 12}),
    "olmo2": Kind("Olmo2", "Olmo2Config", GROUPED),
    "gpt_neox": Kind("GPTNeoX", "GPTNeoXConfig", SIZE, scale=10),
    "gpt2": Kind("GPT2LMHeadModel", "GPT2Config", GPT, scale=10),
}
MORE_DENSE = {
    "gemma": Kind("Gemma", "GemmaConfig", {**GROUPED, "head_dim": 12}),
    "vaultgemma": Kind("VaultGemma", "VaultGemmaConfig", {**GROUPED, **WINDOWS, "head_dim": 12}),
    "granite": Kind("Granite", "GraniteConfig", {**GROUPED, **GRANITE}),
    "glm": Kind("Glm", "GlmConfig", {**GROUPED, "head_dim": 8}),
    "glm4": Kind("Glm4", "Glm4Config", {**GROUPED, "head_dim": 8}),
    "cohere": Kind("Cohere", "CohereConfig", {**GROUPED, "use_qk_norm": True, "logit_scale": 0.5}),
    "cohere2": Kind("Cohere2", "Cohere2Config", {**GROUPED, **WINDOWS, "logit_scale": 0.5}),
    "stablelm": Kind("StableLm", "StableLmConfig", GROUPED),
    "stablelm_parallel": Kind(
        "StableLm", "StableLmConfig", {**GROUPED, "use_parallel_residual": True}
    ),
    "phi": Kind("Phi", "PhiConfig", GROUPED),
    "starcoder2": Kind("Starcoder2", "Starcoder2Config", GROUPED),
    "nemotron": Kind("Nemotron", "NemotronConfig", GROUPED),
    "olmo": Kind("Olmo", "OlmoConfig", GROUPED),
    "olmo3": Kind("Olmo3", "Olmo3Config", {**GROUPED, **WINDOWS}),
    "exaone4": Kind("Exaone4", "Exaone4Config", {**GROUPED, **WINDOWS}),
    "ernie4_5": Kind("Ernie4_5", "Ernie4_5Config", GROUPED),
    "smollm3": Kind("SmolLM3", "SmolLM3Config", GROUPED),
    "hunyuan": Kind("HunYuanDenseV1", "HunYuanDenseV1Config", {**GROUPED, "head_dim": 8}),
    "seed_oss": Kind("SeedOss", "SeedOssConfig", {**GROUPED, "head_dim": 8}),
    "arcee": Kind("Arcee", "ArceeConfig", GROUPED),
    "apertus": Kind("Apertus", "ApertusConfig", GROUPED),
    "jais2": Kind("Jais2", "Jais2Config", GROUPED),
    "ministral3": Kind("Ministral3", "Ministral3Config", {**GROUPED, "head_dim": 8}),
    "nanochat": Kind("NanoChat", "NanoChatConfig", GROUPED),
    "bitnet": Kind("BitNet", "BitNetConfig", GROUPED),
    "youtu": Kind("Youtu", "YoutuConfig", {**SIZE, **LATENT}, scale=1.5),
    "modernbert_decoder": Kind("ModernBertDecoder", "ModernBertDecoderConfig", SIZE),
    "hrm_text": Kind("HrmText", "HrmTextConfig", {**SIZE, "head_dim": 8, "num_hidden_layers": 4}),
    "bloom": Kind(
        "Bloom",
        "BloomConfig",
        {"vocab_size": 264, "hidden_size": 32, "n_layer": 3, "n_head": 4, **IDS},
    ),
    "falcon": Kind(
        "Falcon", "FalconConfig", {**FALCON, "multi_query": True, "parallel_attn": True}
    ),
    "falcon_new": Kind(
        "Falcon", "FalconConfig", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}
    ),
    "falcon_sequential": Kind(
        "Falcon", "FalconConfig", {**FALCON, "multi_query": False, "parallel_attn": False}
    ),
    "falcon_alibi": Kind(
        "Falcon",
        "FalconConfig",
        {**FALCON, "multi_query": False, "parallel_attn": False, "alibi": True},
    ),
    "falcon_alibi_parallel": Kind(
        "Falcon", "FalconConfig", {**FALCON, "multi_query": True, "alibi": True}
    ),
    "mpt": Kind(
        "Mpt",
        "MptConfig",
        {"vocab_size": 264, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 256, **IDS},
    ),
    "opt": Kind("OPT", "OPTConfig", {**SIZE, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "opt_post_norm": Kind(
        "OPT",
        "OPTConfig",
        {**SIZE, "ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    ),
    "gptj": Kind("GPTJ", "GPTJConfig", {**GPT, "rotary_dim": 4}),
    "gpt_neo": Kind(
        "GPTNeo",
        "GPTNeoConfig",
        {
            "vocab_size": 264,
            "hidden_size": 32,
            "num_layers": 4,
            "num_heads": 4,
            "max_position_embeddings": 256,
            "window_size": 8,
            "attention_types": [[["global", "local"], 2]],
            **IDS,
        },
    ),
    "codegen": Kind("CodeGen", "CodeGenConfig", {**GPT, "rotary_dim": 4, "n_ctx": 256}),
    "gpt_bigcode": Kind("GPTBigCode", "GPTBigCodeConfig", GPT),
    "openai_gpt": Kind("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", GPT),
    "xglm": Kind(
        "XGLM",
        "XGLMConfig",
        {
            "vocab_size": 264,
            "d_model": 32,
            "ffn_dim": 48,
            "num_layers": 3,
            "attention_heads": 4,
            "max_position_embeddings": 256,
            **IDS,
        },
    ),
    # Unknown to TransformerLens 4.3.
    "persimmon": Kind("Persimmon", "PersimmonConfig", SIZE),
    "biogpt": Kind("BioGpt", "BioGptConfig", SIZE),
    "ctrl": Kind("CTRLLMHeadModel", "CTRLConfig", {**GPT, "dff": 48}),
    "minicpm3": Kind("MiniCPM3", "MiniCPM3Config", {**SIZE, **LATENT}, scale=1.5),
}
EXPERTS = {
    "mixtral": Kind("Mixtral", "MixtralConfig", {**GROUPED, **LOCAL_EXPERTS}),
    "qwen2_moe": Kind("Qwen2Moe", "Qwen2MoeConfig", {**GROUPED, **SHARED_EXPERT}),
    "qwen3_moe": Kind("Qwen3Moe", "Qwen3MoeConfig", {**GROUPED, **ROUTED, "head_dim": 12}),
    "olmoe": Kind("Olmoe", "OlmoeConfig", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2}),
    "flex_olmo": Kind(
        "FlexOlmo", "FlexOlmoConfig", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2}
    ),
    "deepseek_v2": Kind(
        "DeepseekV2", "DeepseekV2Config", {**SIZE, **DEEPSEEK, "topk_method": "greedy"}
    ),
    "deepseek_v3": Kind("DeepseekV3", "DeepseekV3Config", {**SIZE, **DEEPSEEK}),
    "gpt_oss": Kind(
        "GptOss", "GptOssConfig", {**GROUPED, **WINDOWS, **LOCAL_EXPERTS, "head_dim": 12}
    ),
    "granitemoe": Kind("GraniteMoe", "GraniteMoeConfig", {**GROUPED, **GRANITE, **LOCAL_EXPERTS}),
    "phimoe": Kind("Phimoe", "PhimoeConfig", {**GROUPED, **LOCAL_EXPERTS}),
    "glm4_moe": Kind(
        "Glm4Moe",
        "Glm4MoeConfig",
        {**GROUPED, **GLM_EXPERTS, "head_dim": 8, "first_k_dense_replace": 1},
    ),
    "glm4_moe_lite": Kind(
        "Glm4MoeLite",
        "Glm4MoeLiteConfig",
        {**SIZE, **LATENT, **GLM_EXPERTS, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    ),
    "ernie4_5_moe": Kind(
        "Ernie4_5_Moe",
        "Ernie4_5_MoeConfig",
        {
            **GROUPED,
            "moe_intermediate_size": 24,
            "moe_k": 2,
            "moe_num_experts": 4,
            "moe_num_shared_experts": 1,
        },
    ),
    "afmoe": Kind(
        "Afmoe",
        "AfmoeConfig",
        {**GROUPED, **WINDOWS, **ROUTED, "head_dim": 8, "num_shared_experts": 1},
    ),
    "jetmoe": Kind(
        "JetMoe",
        "JetMoeConfig",
        {**SIZE, **LOCAL_EXPERTS, "num_key_value_heads": 2, "kv_channels": 8},
    ),
    "laguna": Kind(
        "Laguna",
        "LagunaConfig",
        {**GROUPED, **WINDOWS, **SHARED_EXPERT, "head_dim": 8},
    ),
    "minimax_m2": Kind("MiniMaxM2", "MiniMaxM2Config", {**GROUPED, **LOCAL_EXPERTS, "head_dim": 8}),
    "llama4": Kind(
        "Llama4",
        "Llama4TextConfig",
        {**GROUPED, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 4},
    ),
    # Unknown to TransformerLens 4.3.
    "dots1": Kind("Dots1", "Dots1Config", {**GROUPED, **GLM_EXPERTS, "first_k_dense_replace": 1}),
    "hunyuan_moe": Kind(
        "HunYuanMoEV1",
        "HunYuanMoEV1Config",
        {**GROUPED, "head_dim": 8, "num_experts": 4, "moe_topk": 2},
    ),
}
# Some layers have no attention, or something beside it.
MIXED = {
    "lfm2": Kind(
        "Lfm2",
        "Lfm2Config",
        {
            **GROUPED,
            "layer_types": ["conv", "full_attention", "conv"],
            "block_auto_adjust_ff_dim": False,
        },
    ),
    "lfm2_moe": Kind(
        "Lfm2Moe",
        "Lfm2MoeConfig",
        {
            **GROUPED,
            **ROUTED,
            "layer_types": ["conv", "full_attention", "conv"],
            "num_dense_layers": 1,
        },
    ),
    "qwen3_next": Kind("Qwen3Next", "Qwen3NextConfig", {**GROUPED, **LINEAR, **SHARED_EXPERT}),
    "qwen3_5": Kind("Qwen3_5", "Qwen3_5TextConfig", {**GROUPED, **LINEAR}),
    "qwen3_5_moe": Kind(
        "Qwen3_5Moe", "Qwen3_5MoeTextConfig", {**GROUPED, **LINEAR, **SHARED_EXPERT}
    ),
    "olmo_hybrid": Kind(
        "OlmoHybrid", "OlmoHybridConfig", {**GROUPED, **LINEAR, "linear_num_key_heads": 4}
    ),
    "jamba": Kind(
        "Jamba",
        "JambaConfig",
        {
            **GROUPED,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "granitemoehybrid": Kind(
        "GraniteMoeHybrid",
        "GraniteMoeHybridConfig",
        {
            **GROUPED,
            **GRANITE,
            **LOCAL_EXPERTS,
            **MAMBA2,
            "shared_intermediate_size": 24,
            "position_embedding_type": "nope",
            "layer_types": ["mamba", "attention", "mamba"],
        },
    ),
    # Granite 4.0 Micro and its kin: the same class, without Mamba and without experts.
    "granitemoehybrid_dense": Kind(
        "GraniteMoeHybrid",
        "GraniteMoeHybridConfig",
        {
            **GROUPED,
            **GRANITE,
            **MAMBA2,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 24,
            "position_embedding_type": "rope",
            "layer_types": ["attention"] * 3,
        },
    ),
    "bamba": Kind("Bamba", "BambaConfig", {**GROUPED, **MAMBA2, "attn_layer_indices": [1]}),
    "falcon_h1": Kind(
        "FalconH1",
        "FalconH1Config",
        {
            **GROUPED,
            **MAMBA2,
            "head_dim": 8,
            "mamba_d_ssm": 64,
            "attention_out_multiplier": 0.7,
            "ssm_out_multiplier": 1.3,
        },
    ),
    "nemotron_h": Kind(
        "NemotronH",
        "NemotronHConfig",
        {
            "vocab_size": 264,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 16,
            "use_mamba_kernels": False,
            "max_position_embeddings": 256,
            **IDS,
        },
    ),
    "zamba2": Kind(
        "Zamba2",
        "Zamba2Config",
        {
            **SIZE,
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
            "num_hidden_layers": 4,
            "mamba_d_state": 8,
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "mamba_ngroups": 1,
            "chunk_size": 16,
            "adapter_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "mamba": Kind(
        "Mamba",
        "MambaConfig",
        {
            "vocab_size": 264,
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 3,
            "initializer_range": 0.02,
            **IDS,
        },
    ),
    "falcon_mamba": Kind(
        "FalconMamba",
        "FalconMambaConfig",
        {
            "vocab_size": 264,
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 3,
            "initializer_range": 0.02,
            **IDS,
        },
    ),
    "mamba2": Kind(
        "Mamba2",
        "Mamba2Config",
        {
            "vocab_size": 264,
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 3,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 1,
            "chunk_size": 16,
            "initializer_range": 0.02,
            **IDS,
        },
    ),
    "rwkv": Kind(
        "Rwkv",
        "RwkvConfig",
        {
            "vocab_size": 264,
            "hidden_size": 32,
            "attention_hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "context_length": 256,
            **IDS,
        },
    ),
    "recurrent_gemma": Kind(
        "RecurrentGemma",
        "RecurrentGemmaConfig",
        {
            **GROUPED,
            "head_dim": 8,
            "attention_window_size": 8,
            "lru_width": 32,
            "block_types": ["recurrent", "attention", "recurrent"],
            "w_init_variance_scale": 0.01,
        },
    ),
    # Per-layer inputs go into the stream after the MLP.
    "gemma4_per_layer": Kind("Gemma4", "Gemma4TextConfig", {**GEMMA4, **PER_LAYER}),
    "gemma4": Kind("Gemma4", "Gemma4TextConfig", {**GEMMA4, "hidden_size_per_layer_input": 0}),
    "gemma4_k_eq_v": Kind(
        "Gemma4",
        "Gemma4TextConfig",
        {
            **GEMMA4,
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
        },
    ),
    "gemma4_shared_kv": Kind(
        "Gemma4",
        "Gemma4TextConfig",
        {
            **GEMMA4,
            **PER_LAYER,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
        },
    ),
    "gemma4_moe": Kind(
        "Gemma4",
        "Gemma4TextConfig",
        {
            **GEMMA4,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
    ),
    "gemma3n": Kind(
        "Gemma3n",
        "Gemma3nTextConfig",
        {
            **GROUPED,
            **PER_LAYER,
            **WINDOWS,
            "head_dim": 12,
            "num_kv_shared_layers": 0,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
        },
    ),
}
IMAGES = {
    "gemma3_images": Kind(
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
            "image_token_index": 263,
            "boi_token_index": 262,
            "eoi_token_index": 261,
        },
        text={**GROUPED, **WINDOWS, "head_dim": 12},
    ),
    "gemma4_images": Kind(
        "Gemma4ForConditionalGeneration",
        "Gemma4Config",
        {
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "position_embedding_size": 64,
            },
            "audio_config": None,
            "image_token_id": 263,
            "video_token_id": 262,
            "audio_token_id": 261,
        },
        text={**GEMMA4, **PER_LAYER},
    ),
    "qwen2_vl": Kind(
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLConfig",
        {"vision_config": {**QWEN_VISION, "embed_dim": 16, "hidden_size": 32}, **QWEN_IMAGES},
        text={**GROUPED, "rope_parameters": QWEN_ROPE},
    ),
    "qwen2_5_vl": Kind(
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLConfig",
        {
            "vision_config": {
                **QWEN_VISION,
                "hidden_size": 16,
                "intermediate_size": 16,
                "out_hidden_size": 32,
            },
            **QWEN_IMAGES,
        },
        text={**GROUPED, "rope_parameters": QWEN_ROPE},
    ),
    "qwen3_vl": Kind(
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLConfig",
        {"vision_config": {**QWEN3_VISION, "deepstack_visual_indexes": [0]}, **QWEN_IMAGES},
        text={**GROUPED, "head_dim": 8, "rope_parameters": QWEN_ROPE},
    ),
    "qwen3_5_images": Kind(
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5Config",
        {"vision_config": QWEN3_VISION, **QWEN_IMAGES},
        text={**GROUPED, **LINEAR},
    ),
    "glm4v": Kind(
        "Glm4vForConditionalGeneration",
        "Glm4vConfig",
        {
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "num_heads": 2,
                "intermediate_size": 16,
                "out_hidden_size": 32,
                "image_size": 28,
                "patch_size": 14,
            },
            "image_token_id": 259,
            "video_token_id": 260,
            "image_start_token_id": 261,
            "image_end_token_id": 262,
        },
        text={**GROUPED, "rope_parameters": {**QWEN_ROPE, "partial_rotary_factor": 1.0}},
    ),
    "llava": Kind(
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        {
            "vision_config": {"model_type": "clip_vision_model", **VISION, "num_hidden_layers": 2},
            "image_token_index": 263,
        },
        text={"model_type": "llama", **GROUPED},
    ),
    "llava_next": Kind(
        "LlavaNextForConditionalGeneration",
        "LlavaNextConfig",
        {
            "vision_config": {"model_type": "clip_vision_model", **VISION, "num_hidden_layers": 2},
            "image_token_index": 263,
        },
        text={"model_type": "mistral", **GROUPED},
    ),
    "llava_onevision": Kind(
        "LlavaOnevisionForConditionalGeneration",
        "LlavaOnevisionConfig",
        {
            "vision_config": {"model_type": "siglip_vision_model", **VISION},
            "image_token_index": 263,
            "video_token_index": 262,
        },
        text={"model_type": "qwen2", **GROUPED},
    ),
    "mistral3": Kind(
        "Mistral3ForConditionalGeneration",
        "Mistral3Config",
        {
            "vision_config": {"model_type": "pixtral", **VISION, "head_dim": 8},
            "image_token_index": 263,
        },
        text={"model_type": "mistral", **GROUPED},
    ),
    "idefics3": Kind(
        "Idefics3ForConditionalGeneration",
        "Idefics3Config",
        {"vision_config": VISION, "image_token_id": 263, "pad_token_id": 0},
        text={"model_type": "llama", **GROUPED},
    ),
    "llama4_images": Kind(
        "Llama4ForConditionalGeneration",
        "Llama4Config",
        {
            "vision_config": {
                **VISION,
                "vision_output_dim": 16,
                "projector_input_dim": 16,
                "projector_output_dim": 16,
            },
            "image_token_index": 263,
        },
        text={**GROUPED, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 4},
    ),
    # Unknown to TransformerLens 4.3.
    "smolvlm": Kind(
        "SmolVLMForConditionalGeneration",
        "SmolVLMConfig",
        {"vision_config": VISION, "image_token_id": 263, "pad_token_id": 0},
        text={"model_type": "llama", **GROUPED},
    ),
    "paligemma": Kind(
        "PaliGemmaForConditionalGeneration",
        "PaliGemmaConfig",
        {
            "vision_config": {"model_type": "siglip_vision_model", **VISION},
            "image_token_index": 263,
            "projection_dim": 32,
        },
        text={"model_type": "gemma", **GROUPED, "head_dim": 12},
    ),
    "internvl": Kind(
        "InternVLForConditionalGeneration",
        "InternVLConfig",
        {
            "vision_config": {**VISION, "image_size": [28, 28], "patch_size": [14, 14]},
            "image_token_id": 263,
        },
        text={"model_type": "qwen2", **GROUPED},
    ),
}
KINDS: dict[str, Kind] = {**DENSE, **MORE_DENSE, **EXPERTS, **MIXED, **IMAGES}


def random_network(name: str, seed: int = 0) -> Any:
    """A tiny Hugging Face model in which no norm is trivial and no distribution flat."""
    import torch
    import transformers as hf

    kind = KINDS[name]
    torch.manual_seed(seed)
    settings = dict(kind.settings)
    if kind.text:
        settings["text_config"] = dict(kind.text)
    model = getattr(hf, kind.model, None) or getattr(hf, f"{kind.model}ForCausalLM")
    network = model(getattr(hf, kind.config)(**settings))
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim == 1 or key.endswith("norm.weight"):  # Cohere's of heads are 2-D
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif not key.endswith("A_log"):  # a time scale, not a weight
                parameter.mul_(kind.scale)
        for key, buffer in network.named_buffers():
            if key.endswith("layer_scalar"):
                buffer.fill_(0.8)
    return network.eval()
