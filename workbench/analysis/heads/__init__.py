"""Who writes it? Attention heads: patching, sets, attribution, screen, attention."""

from workbench.analysis.heads.attention import collect_attention
from workbench.analysis.heads.attribution import direct_attribution
from workbench.analysis.heads.patching import patch_heads, patch_sites
from workbench.analysis.heads.screen import attribution_patching
from workbench.analysis.heads.sets import find_minimal_head_set
from workbench.interventions import PatchHeads

__all__ = [
    "PatchHeads",
    "attribution_patching",
    "collect_attention",
    "direct_attribution",
    "find_minimal_head_set",
    "patch_heads",
    "patch_sites",
]
