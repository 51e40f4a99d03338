"""How the shipped models are made: no part of what a user runs."""
