"""The page of a gallery: every picture with what it asks, how it is read and how it is made."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

_HEAD = """\
# Figures

`workbench figures` draws every figure on this page again, from results: as a picture, as a page
that opens without a network (`NAME.html` beside the picture, once you have run the command; pages
are not kept in the repository), and as a tidy table of the numbers in it (`NAME.csv`: one value
a row, with its interval). The runs themselves are made by

{commands}

The shipped models are organisms, trained for this project with their refusal planted: nothing here
that was measured on them is evidence about a real chat model. Figures of published results are
drawn from the files that their authors published, with `--published FOLDER`.
"""


PUBLISHED_SECTION = "published"
"""The folder of figures of published results."""


@dataclass(frozen=True)
class Shown:
    """One figure on the page.

    Attributes:
        section: the folder that it lies in: a model's name, or `PUBLISHED_SECTION`.
        about: one sentence for the whole section.
        name: of its files.
        question: what it answers.
        caption: how it is read.
        answers: the published figure that shows the same, or "".
        subtitle: as under the figure's own title: model, number of prompts, judge.
        command: that made the results; "" for published ones.
    """

    section: str
    about: str
    name: str
    question: str
    caption: str
    answers: str
    subtitle: str
    command: str


def gallery_page(shown: Sequence[Shown], pictures: bool = True) -> str:
    """The page as Markdown, in the order given.

    Args:
        shown: what is on it.
        pictures: whether they could be drawn; without, the page links to those of the figures.
    """
    made = list(dict.fromkeys(each.command for each in shown if each.command))
    commands = "\n".join(f"    {each}" for each in [*made, "workbench figures --out figures"])
    parts = [_HEAD.format(commands=commands)]
    for section, members in groupby(shown, key=lambda each: each.section):
        own = list(members)
        title = "Published results" if section == PUBLISHED_SECTION else f"`{section}`"
        parts.append(f"## {title}\n\n{own[0].about}\n")
        parts += [_figure(each, pictures) for each in own]
    return "\n".join(parts)


def _figure(each: Shown, pictures: bool) -> str:
    """Heading, picture, how to read it, and the facts."""
    path = f"{each.section}/{each.name}"
    published = each.section == PUBLISHED_SECTION
    picture = f'<img src="{path}.png" alt="{html.escape(each.question)}" width="800">'
    if not pictures:
        picture = "No picture: pictures could not be drawn where this page was made."
        if not published:
            picture += f" See [{each.name}.html]({path}.html)."
    facts = [
        f"- Drawn: {_plain(each.subtitle)}",
        f"- Answers: {each.answers or 'no published figure'}",
    ]
    if published:
        facts.append("- Command: `workbench figures --published FOLDER`")
    else:
        facts.append(f"- Command: `{each.command}`, then `workbench figures`")
        facts.append(f"- Data: [{each.name}.csv]({path}.csv)")
    lines = "\n".join(facts)
    return f"### {each.question}\n\n{picture}\n\n{each.caption}\n\n{lines}\n"


def _plain(text: str) -> str:
    """A subtitle as Markdown: nothing in it is read as a tag or as emphasis."""
    text = html.escape(text, quote=False)
    return text.replace("*", r"\*").replace("_", r"\_").replace("`", r"\`").replace("|", r"\|")
