"""How do directions lie? The figures of projections and cosines."""
