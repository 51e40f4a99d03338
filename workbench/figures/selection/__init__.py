"""Which direction? The figures of sweep, choice and effects."""
