"""Forward passes that share work: packed, resumed, and compared with plain ones."""
