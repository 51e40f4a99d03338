"""Concept or words? The figures of vocabulary, wording and features."""
