"""When a run computes what, question by question."""
