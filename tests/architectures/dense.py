"""Attention and one MLP in every layer."""

from typing import Any

from architectures.kind import GPT, GRANITE, GROUPED, IDS, LATENT, SIZE, WIDE_HEADS, WINDOWS, kind

# Those that every test of an architecture goes through.
DENSE = {
    "llama": kind("Llama", GROUPED),
    "mistral": kind("Mistral", GROUPED, sliding_window=8),
    "qwen2": kind("Qwen2", GROUPED),
    "qwen3": kind("Qwen3", GROUPED, WIDE_HEADS),
    "phi3": kind("Phi3", GROUPED),
    "gemma2": kind("Gemma2", GROUPED, WINDOWS, WIDE_HEADS),
    "gemma3": kind("Gemma3", GROUPED, WINDOWS, WIDE_HEADS, config="Gemma3TextConfig"),
    "olmo2": kind("Olmo2", GROUPED),
    "gpt_neox": kind("GPTNeoX", SIZE, scale=10),
    "gpt2": kind("GPT2LMHeadModel", GPT, config="GPT2Config", scale=10),
}

FALCON: dict[str, Any] = {"vocab_size": 264, "hidden_size": 32, "num_hidden_layers": 3, **IDS}
FALCON |= {"num_attention_heads": 4, "max_position_embeddings": 256, "bias": True}
SEQUENTIAL = {"multi_query": False, "parallel_attn": False}
OPT = {**SIZE, "ffn_dim": 48}
BLOOM = {"vocab_size": 264, "hidden_size": 32, "n_layer": 3, "n_head": 4, **IDS}
MPT = {"vocab_size": 264, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 256, **IDS}
GPT_NEO = {"vocab_size": 264, "hidden_size": 32, "num_layers": 4, "num_heads": 4, **IDS}
GPT_NEO |= {"max_position_embeddings": 256, "window_size": 8}
GPT_NEO["attention_types"] = [[["global", "local"], 2]]
XGLM = {"vocab_size": 264, "d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4}
XGLM |= {"max_position_embeddings": 256, **IDS}

MORE_DENSE = {
    "gemma": kind("Gemma", GROUPED, WIDE_HEADS),
    "vaultgemma": kind("VaultGemma", GROUPED, WINDOWS, WIDE_HEADS),
    "granite": kind("Granite", GROUPED, GRANITE),
    "glm": kind("Glm", GROUPED, head_dim=8),
    "glm4": kind("Glm4", GROUPED, head_dim=8),
    "cohere": kind("Cohere", GROUPED, use_qk_norm=True, logit_scale=0.5),
    "cohere2": kind("Cohere2", GROUPED, WINDOWS, logit_scale=0.5),
    "stablelm": kind("StableLm", GROUPED),
    "stablelm_parallel": kind("StableLm", GROUPED, use_parallel_residual=True),
    "phi": kind("Phi", GROUPED),
    "starcoder2": kind("Starcoder2", GROUPED),
    "nemotron": kind("Nemotron", GROUPED),
    "olmo": kind("Olmo", GROUPED),
    "olmo3": kind("Olmo3", GROUPED, WINDOWS),
    "exaone4": kind("Exaone4", GROUPED, WINDOWS),
    "ernie4_5": kind("Ernie4_5", GROUPED),
    "smollm3": kind("SmolLM3", GROUPED),
    "hunyuan": kind("HunYuanDenseV1", GROUPED, head_dim=8),
    "seed_oss": kind("SeedOss", GROUPED, head_dim=8),
    "arcee": kind("Arcee", GROUPED),
    "apertus": kind("Apertus", GROUPED),
    "jais2": kind("Jais2", GROUPED),
    "ministral3": kind("Ministral3", GROUPED, head_dim=8),
    "nanochat": kind("NanoChat", GROUPED),
    "bitnet": kind("BitNet", GROUPED),
    "youtu": kind("Youtu", SIZE, LATENT, scale=1.5),
    "modernbert_decoder": kind("ModernBertDecoder", SIZE),
    "bloom": kind("Bloom", BLOOM),
    "falcon": kind("Falcon", FALCON, multi_query=True, parallel_attn=True),
    "falcon_sequential": kind("Falcon", FALCON, SEQUENTIAL),
    "mpt": kind("Mpt", MPT),
    "opt": kind("OPT", OPT, word_embed_proj_dim=32),
    "gptj": kind("GPTJ", GPT, rotary_dim=4),
    "gpt_neo": kind("GPTNeo", GPT_NEO),
    "codegen": kind("CodeGen", GPT, rotary_dim=4, n_ctx=256),
    "gpt_bigcode": kind("GPTBigCode", GPT),
    "xglm": kind("XGLM", XGLM),
}

# What TransformerLens 4.3 wraps wrongly, or not at all, or what has a norm on its stream.
ODD = {
    # Hugging Face adds ALiBi to the mask, and TransformerLens once more.
    "falcon_alibi": kind("Falcon", FALCON, SEQUENTIAL, alibi=True),
    "falcon_alibi_parallel": kind("Falcon", FALCON, multi_query=True, alibi=True),
    "falcon_new": kind("Falcon", FALCON, new_decoder_architecture=True, num_kv_heads=2),
    # Norms stand on the stream, not beside it.
    "opt_post_norm": kind("OPT", OPT, word_embed_proj_dim=16, do_layer_norm_before=False),
    "bloom_post_norm": kind("Bloom", BLOOM, apply_residual_connection_post_layernorm=True),
    "openai_gpt": kind("OpenAIGPTLMHeadModel", GPT, config="OpenAIGPTConfig"),
    # The setting is not heeded.
    "gpt2_unscaled": kind("GPT2LMHeadModel", GPT, config="GPT2Config", scale_attn_weights=False),
    # Two stacks of blocks, gone through in turns.
    "hrm_text": kind("HrmText", SIZE, head_dim=8, num_hidden_layers=4),
    # Unknown.
    "persimmon": kind("Persimmon", SIZE),
    "biogpt": kind("BioGpt", SIZE),
    "ctrl": kind("CTRLLMHeadModel", GPT, config="CTRLConfig", dff=48),
    "minicpm3": kind("MiniCPM3", SIZE, LATENT, scale=1.5),
}
