"""Models that also read images; the tests give them text alone."""

from typing import Any

from architectures.kind import GEMMA4, GROUPED, LINEAR, PER_LAYER, WIDE_HEADS, WINDOWS, Kind, kind

VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
VISION |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
CLIP = {**VISION, "model_type": "clip_vision_model", "num_hidden_layers": 2}
SIGLIP = {**VISION, "model_type": "siglip_vision_model"}
INTERNVL = {**VISION, "image_size": [28, 28], "patch_size": [14, 14]}
LLAMA4 = {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16}
GEMMA4_VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "head_dim": 8}
GEMMA4_VISION |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
GEMMA4_VISION |= {"position_embedding_size": 64}
DEEP = {"depth": 1, "num_heads": 2, "patch_size": 14, "hidden_size": 16, "intermediate_size": 16}
QWEN = {**DEEP, "spatial_merge_size": 2, "out_hidden_size": 32}
QWEN2 = {"depth": 1, "num_heads": 2, "patch_size": 14, "embed_dim": 16, "hidden_size": 32}
QWEN3 = {**QWEN, "num_position_embeddings": 16}
PLACES = {"image_token_id": 259, "video_token_id": 260}
QWEN_PLACES = {**PLACES, "vision_start_token_id": 261, "vision_end_token_id": 262}
GLM_PLACES = {**PLACES, "image_start_token_id": 261, "image_end_token_id": 262}
GEMMA3_PLACES = {"image_token_index": 263, "boi_token_index": 262, "eoi_token_index": 261}
AXES: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
ROTARY = {**GROUPED, "rope_parameters": AXES}


def _images(model: str, vision: dict[str, Any], text: dict[str, Any], **settings: Any) -> Kind:
    return kind(
        f"{model}ForConditionalGeneration",
        config=f"{model}Config",
        text=text,
        vision_config=vision,
        **settings,
    )


def _text(model_type: str, **settings: Any) -> dict[str, Any]:
    return {"model_type": model_type, **GROUPED, **settings}


IMAGES = {
    "gemma3_images": _images(
        "Gemma3",
        VISION,
        {**GROUPED, **WINDOWS, **WIDE_HEADS},
        mm_tokens_per_image=4,
        **GEMMA3_PLACES,
    ),
    "gemma4_images": _images(
        "Gemma4",
        GEMMA4_VISION,
        {**GEMMA4, **PER_LAYER},
        audio_config=None,
        audio_token_id=261,
        **PLACES,
    ),
    "llama4_images": _images(
        "Llama4",
        {**VISION, **LLAMA4},
        {**GROUPED, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 4},
        image_token_index=263,
    ),
    "llava": _images("Llava", CLIP, _text("llama"), image_token_index=263),
    "llava_next": _images("LlavaNext", CLIP, _text("mistral"), image_token_index=263),
    "llava_onevision": _images(
        "LlavaOnevision", SIGLIP, _text("qwen2"), image_token_index=263, video_token_index=262
    ),
    "mistral3": _images(
        "Mistral3",
        {**VISION, "model_type": "pixtral", "head_dim": 8},
        _text("mistral"),
        image_token_index=263,
    ),
    "idefics3": _images("Idefics3", VISION, _text("llama"), image_token_id=263, pad_token_id=0),
    # TransformerLens 4.3 wants torchvision for these, also for text.
    "qwen2_5_vl": _images("Qwen2_5_VL", QWEN, ROTARY, **QWEN_PLACES),
    "qwen3_vl": _images(
        "Qwen3VL",
        {**QWEN3, "deepstack_visual_indexes": [0]},
        {**ROTARY, "head_dim": 8},
        **QWEN_PLACES,
    ),
    "qwen3_5_images": _images("Qwen3_5", QWEN3, {**GROUPED, **LINEAR}, **QWEN_PLACES),
    "glm4v": _images(
        "Glm4v",
        {**DEEP, "out_hidden_size": 32, "image_size": 28},
        {**GROUPED, "rope_parameters": {**AXES, "partial_rotary_factor": 1.0}},
        **GLM_PLACES,
    ),
    # Unknown to it.
    "qwen2_vl": _images("Qwen2VL", QWEN2, ROTARY, **QWEN_PLACES),
    "smolvlm": _images("SmolVLM", VISION, _text("llama"), image_token_id=263, pad_token_id=0),
    "paligemma": _images(
        "PaliGemma",
        SIGLIP,
        _text("gemma", head_dim=12),
        image_token_index=263,
        projection_dim=32,
    ),
    "internvl": _images("InternVL", INTERNVL, _text("qwen2"), image_token_id=263),
}
