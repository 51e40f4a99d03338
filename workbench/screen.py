"""The screen: the only place that prints, for what is printed was often written by others.

Prompts, categories, paths, names of models and texts of errors may hold bytes that a terminal
obeys: they set its title, colour what follows, turn lines around or write over others. None of
them reaches it. Nothing in a text is read as markup either: ``[/red]`` is five characters.
"""

import re
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# Controls but line ends and tabs; marks that turn text around; characters that cannot be seen.
# Joiners stay: scripts and emoji are spelled with them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_OTHER_LINE_ENDS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
_HALVES = re.compile("[\ud800-\udfff]")


def plain(words: str) -> str:
    r"""Words without what a terminal would obey or nobody can see; line ends and tabs stay.

    >>> plain("\x1b[31mred\x1b]0;title\x07\r\n\u202eabc")
    '[31mred]0;title\nabc'
    """
    words = _UNSEEN.sub("", words.replace("\r\n", "\n"))
    return _HALVES.sub("\ufffd", _OTHER_LINE_ENDS.sub(" ", words))


def one_line(words: str) -> str:
    """Words on one line: those of another line could pass for lines of ours."""
    return " ".join(plain(words).split())


class _Screen(Console):
    """A console that leaves out of every text, however deep in a table, what is not to be seen."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The pieces of what is shown; styles and cursor moves are the console's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text))


def console(stderr: bool = False) -> Console:
    """A console for displays that draw themselves, such as progress bars."""
    return _Screen(stderr=stderr, markup=False, emoji=False, highlight=False)


# In a notebook lines are text like any other output.
_OUT = _Screen(force_jupyter=False, markup=False, emoji=False, highlight=False)
_ERRORS = _Screen(stderr=True, force_jupyter=False, markup=False, emoji=False, highlight=False)


def show(what: RenderableType, style: str | None = None) -> None:
    """Shows a table, or words wrapped to the width of the terminal."""
    _OUT.print(what, style=style)


def say(line: str) -> None:
    """One line about what happens."""
    _OUT.print(Text.assemble(("·", "dim"), " ", one_line(line)))


def tell(line: str, style: str | None = None) -> None:
    """One line that is not broken however long it is."""
    _OUT.print(one_line(line), style=style, soft_wrap=True)


def tell_path(what: str, path: Path) -> None:
    """Where something lies, on one line, so that it can be copied."""
    _OUT.print(plain(f"{what}: {path}").replace("\n", " "), soft_wrap=True)


def fail(line: str) -> None:
    """One line on standard error."""
    _ERRORS.print(one_line(line), soft_wrap=True)


def warn(words: str, stacklevel: int = 1) -> None:
    """Warns on one line; ``stacklevel`` counts from the caller, as that of `warnings.warn`."""
    warnings.warn(one_line(words), UserWarning, stacklevel=stacklevel + 1)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What Python shows of a warning, for ``warnings.showwarning``."""
    words = warnings.formatwarning(message, category, filename, lineno, line)
    _ERRORS.print(words, end="", soft_wrap=True)


def show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What Python shows of an exception that nobody caught, for ``sys.excepthook``."""
    _ERRORS.print("".join(traceback.format_exception(kind, error, trace)), end="", soft_wrap=True)
