"""Directions of two or more runs, files or published folders side by side."""
