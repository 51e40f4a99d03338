"""Layers that no selection takes."""


def first_skipped_layer(n_layers: int, skip_last: float) -> int:
    """The first of the last layers, which act on the output directly and cannot be chosen.

    >>> first_skipped_layer(8, 0.2), first_skipped_layer(10, 0.9)
    (6, 1)
    """
    return int((1 - skip_last) * n_layers + 1e-9)  # (1 - 0.9) · 10 is 0.999… in binary
