"""Who writes it? The figures of attention heads."""
