"""What does one category's direction do to another's prompts?"""

from workbench.analysis.transfer.matrix import measure_transfer

__all__ = [
    "measure_transfer",
]
