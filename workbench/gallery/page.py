"""The page of a gallery: every picture with what it asks, how it is read and how it is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from workbench.gallery import markdown

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
"""The folder of figures of published results; no model's figures go there."""


@dataclass(frozen=True)
class Shown:
    """One figure on the page, whose words the page escapes, but for captions and answers.

    Attributes:
        section: the folder that it lies in, or `PUBLISHED_SECTION`.
        title: of the section: a model's name.
        about: one sentence for the whole section.
        name: of its files.
        question: what it answers.
        subject: what it is about, where it is not the section; "" where it is.
        caption: how it is read, in Markdown.
        source: where its data was published, or "".
        answers: the published figure that shows the same, or "".
        subtitle: as under the figure's own title: model, number of prompts, judge.
        command: that made the results; "" for published ones.
    """

    section: str
    title: str
    about: str
    name: str
    question: str
    caption: str
    answers: str
    subtitle: str
    command: str
    subject: str = ""
    source: str = ""


def gallery_page(shown: Sequence[Shown], pictures: bool = True) -> str:
    """The page as Markdown, in the order given.

    Args:
        shown: what is on it.
        pictures: whether they could be drawn; without, the page links to those of the figures.
    """
    made = list(dict.fromkeys(each.command for each in shown if each.command))
    commands = markdown.block([*made, "workbench figures --out figures"])
    parts = [_HEAD.format(commands=commands)]
    for section, members in groupby(shown, key=lambda each: each.section):
        own = list(members)
        published = section == PUBLISHED_SECTION
        title = "Published results" if published else markdown.code(own[0].title)
        parts.append(f"## {title}\n\n{markdown.text(own[0].about)}\n")
        parts += [_figure(each, pictures) for each in own]
    return "\n".join(parts)


def _figure(each: Shown, pictures: bool) -> str:
    """Heading, picture, how to read it, and the facts."""
    path = f"{each.section}/{each.name}"
    published = each.section == PUBLISHED_SECTION
    heading, question = markdown.text(each.question), each.question
    if each.subject:
        heading += f" ({markdown.code(each.subject)})"
        question += f" ({each.subject})"
    shown = markdown.picture(f"{path}.png", question, width=800)
    if not pictures:
        shown = "No picture: pictures could not be drawn where this page was made."
        if not published:
            shown += f" See {markdown.link(f'{each.name}.html', f'{path}.html')}."
    caption = each.caption
    if each.source:
        caption += f" Source: {markdown.text(each.source)}."
    facts = [
        f"- Drawn: {markdown.text(each.subtitle)}",
        f"- Answers: {each.answers or 'no published figure'}",
    ]
    if published:
        facts.append("- Command: `workbench figures --published FOLDER`")
    else:
        facts.append(f"- Command: {markdown.code(each.command)}, then `workbench figures`")
        facts.append(f"- Data: {markdown.link(f'{each.name}.csv', f'{path}.csv')}")
    lines = "\n".join(facts)
    return f"### {heading}\n\n{shown}\n\n{caption}\n\n{lines}\n"
