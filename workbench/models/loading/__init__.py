"""From a name, a folder or a network to a wrapped model."""
