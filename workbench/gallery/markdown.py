"""Text from data as Markdown that shows it: nothing in it is read as a tag, a link or emphasis."""

import html
import re
from urllib.parse import quote

from workbench.screen import plain


def text(words: str) -> str:
    r"""Words in a line, a heading or the cell of a table.

    >>> text("*a* <b> | [c](d)")
    '\\*a\\* &lt;b&gt; \\| \\[c\\](d)'
    """
    escaped = html.escape(_one_line(words), quote=False)
    escaped = re.sub(r"([\\`*_\[\]|~$#@])", r"\\\1", escaped)
    # What a page of its own would turn into links.
    escaped = re.sub(r"(?i)(https?|ftp):(?=//)", r"\1\\:", escaped)
    escaped = re.sub(r"(?i)\b(www)\.", r"\1\\.", escaped)
    # What begins a list, a rule or a heading at the start of a line.
    return re.sub(r"^(\s*)([-+=>]|\d+(?=[.)]))", _at_start, escaped)


def _at_start(found: re.Match[str]) -> str:
    mark = found[2]
    return f"{found[1]}\\{mark}" if not mark.isdigit() else f"{found[1]}&#{ord(mark[0])};{mark[1:]}"


def code(words: str) -> str:
    """Words as a span of code.

    >>> code("a`b"), code("")
    ('``a`b``', '` `')
    """
    line = _one_line(words) or " "
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padded = line[0] == "`" or line[-1] == "`" or (line.strip() and line[0] == line[-1] == " ")
    return f"{fence} {line} {fence}" if padded else f"{fence}{line}{fence}"


def block(lines: list[str]) -> str:
    """Lines of code as a paragraph of their own."""
    return "\n".join(f"    {_one_line(line)}" for line in lines)


def link(words: str, target: str) -> str:
    """A link to a file beside the page.

    >>> link("a.csv", "my folder/a(1).csv")
    '[a.csv](my%20folder/a%281%29.csv)'
    """
    return f"[{text(words)}]({quote(_one_line(target))})"


def picture(target: str, alternative: str, width: int) -> str:
    """A picture beside the page, with what it shows in words."""
    alternative = html.escape(_one_line(alternative))
    return f'<img src="{quote(_one_line(target))}" alt="{alternative}" width="{width}">'


def _one_line(words: str) -> str:
    """Without anything that ends a line or cannot be seen."""
    return re.sub(r"[\n\t]", " ", plain(words))
