"""Which direction? Candidates are swept, one is chosen, and what it does is measured."""
