"""What can go wrong, as a tree.

    WorkbenchError
    ├── PromptError      prompts that cannot be read, are empty, or carry unknown labels
    ├── ModelError       a model that is absent, gated, unknown, broken, or asked for what it lacks
    ├── AxisError        a layer, position, name or shape that is not there
    ├── ArtifactError    a file that is broken, foreign, newer, or of another kind
    └── StudyError       settings or results with which the study cannot go on

Every message says what was expected, what was found, and what to do. The command line prints it
in one line and exits with status 2; any other exception is a bug and keeps its traceback. A message
fills a screen at most: of a longer one the middle is left out.
"""

_LONGEST = 2000
_END = 500


class WorkbenchError(Exception):
    """Base of every error that the workbench raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_cut(message))


def _cut(message: str) -> str:
    """A message of at most 2,000 characters, with what was found and what to do at its ends."""
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST - _END - 3]} … {message[-_END:]}"


class PromptError(WorkbenchError):
    """Prompts that cannot be read, are empty, or carry labels that nobody knows."""


class ModelError(WorkbenchError):
    """A model that is absent, gated, unknown, broken, or asked for something it lacks."""


class AxisError(WorkbenchError):
    """A layer, position, name or shape that is not there."""


class ArtifactError(WorkbenchError):
    """A file that is broken, foreign, newer than this version, or of another kind."""


class StudyError(WorkbenchError):
    """Settings or results with which a study cannot go on."""
