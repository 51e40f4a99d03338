"""Who writes it? Attention heads: patching, sets, attribution, screen, attention."""
