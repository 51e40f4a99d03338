"""The command line: parse, call, save. No science, and no heavy import before a command runs."""

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperCommand

from workbench import __version__, screen
from workbench.arguments.kinds import EMPTY_PATH, is_blank
from workbench.arguments.options import in_options, options_of
from workbench.errors import ArtifactError, StudyError
from workbench.intake.limits import allowing
from workbench.labels import head_labels
from workbench.positions import T_INST, Position
from workbench.study.registry import ANALYSES
from workbench.study.settings import Study

app = typer.Typer(
    help="Find, compare and causally test the directions that make a chat model refuse.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _path(given: str) -> Path:
    """A path, which is not empty: an empty one would mean the folder that one is in."""
    if is_blank(given):
        raise ArtifactError(EMPTY_PATH)
    return Path(given)


_MaxBytes = Annotated[
    int | None,
    typer.Option(
        "--max-bytes", help="Most bytes of a file that is read, also once unpacked; 512 MiB."
    ),
]
_MaxRows = Annotated[
    int | None, typer.Option("--max-rows", help="Most rows of a file of prompts; 1,000,000.")
]


def _version(wanted: bool | None) -> None:
    if wanted:
        screen.tell(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = None,
) -> None:
    pass


def worded(message: object) -> str:
    """One line, whatever a path or a prompt in it holds, in the words of the command line."""
    return in_options(screen.one_line(str(message)), called_options(sys.argv))


def called_options(arguments: list[str]) -> dict[str, str]:
    """The options of the command that was called, by the name of their argument."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    command = next((commands[each] for each in arguments[1:] if each in commands), None)
    return options_of(command.params, arguments) if command else {}


def _option(setting: Field[Any]) -> Any:
    name = setting.name.replace("_", "-")
    is_switch = setting.type in (bool, bool | None)
    spelled = f"--{name}/--no-{name}" if is_switch else f"--{name}"
    return typer.Option(spelled, help=setting.metadata["help"])


def _with_study_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command one option per setting of a study, named like the setting."""
    options = [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=setting.default,
            annotation=Annotated[setting.type, _option(setting)],
        )
        for setting in fields(Study)
    ]
    signature = inspect.signature(command)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    command.__signature__ = signature.replace(parameters=own + options)  # pyright: ignore
    return command


class _ListsAnalyses(TyperCommand):
    """A command whose help ends with a table of the analyses."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, and the table."""
        super().format_help(ctx, formatter)
        table = Table(title="Analyses", title_justify="left", box=None, padding=(0, 2, 0, 1))
        table.add_column("name", no_wrap=True)
        table.add_column("what it makes")
        for each in ANALYSES:
            table.add_row(each.name, each.what + ("" if each.cheap else " (only where named)"))
        screen.show(table)


@app.command(cls=_ListsAnalyses)
@_with_study_options
def run(
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=_path, help="Folder for results; default runs/MODEL."),
    ] = None,
    png: Annotated[
        bool, typer.Option("--png", help="Also draw pictures; needs kaleido and Chromium.")
    ] = False,
    **settings: Any,
) -> None:
    """Find a model's refusal direction and measure what it does.

    Splits prompts, collects activations, estimates and sweeps candidate directions, selects one,
    and answers test prompts plainly, with the direction ablated, and with it added. A run that was
    stopped goes on where it stopped.

    Example: [bold]workbench run --model Qwen/Qwen2.5-1.5B-Instruct --out runs/qwen[/bold]
    """
    study = Study(**settings)
    from workbench.cli.tables import show_run
    from workbench.report.page import write_report
    from workbench.study.run import run_study

    finished = run_study(study, out, say=_say, png=png)
    page = write_report(finished)
    show_run(finished)
    screen.tell_path("report", page)


def _say(line: str) -> None:
    """One line about what happens."""
    screen.say(worded(line))


@app.command("patch-heads")
@_with_study_options
def patch_heads(
    positions: Annotated[
        str,
        typer.Option(
            help="Tokens whose heads are patched, counted from the end, with commas between; "
            "post_instruction for all of the template's after the user's words."
        ),
    ] = "-1",
    layers: Annotated[
        str, typer.Option(help="Layers to patch: all, or numbers and ranges, such as 8-15,20.")
    ] = "all",
    metric: Annotated[
        str,
        typer.Option(help="What is measured: refusal_score, or projection on the direction."),
    ] = "refusal_score",
    aim: Annotated[
        str,
        typer.Option(help="induce refusal of harmless prompts, or suppress that of harmful ones."),
    ] = "induce",
    threshold: Annotated[
        float, typer.Option(help="Share of replies that the smallest set has to turn.")
    ] = 0.9,
    max_heads: Annotated[int, typer.Option(help="The largest set that is tried.")] = 8,
    n_random: Annotated[
        int, typer.Option(help="Random sets of the same size, to compare the smallest set with.")
    ] = 20,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=_path, help="Folder of the run; default runs/MODEL."),
    ] = None,
    png: Annotated[
        bool, typer.Option("--png", help="Also draw pictures; needs kaleido and Chromium.")
    ] = False,
    **settings: Any,
) -> None:
    """Find the attention heads that carry refusal, and those that write the direction.

    Each head's output on test prompts that the model answers is replaced by its mean on prompts
    that it refuses, one head at a time, exactly; then heads, chosen on validation prompts, are
    patched together until enough replies to test prompts turn, beside random sets of as many
    heads. The direction's projection is split into what each head wrote, and the top heads'
    attention is shown.

    The direction is the one that [bold]workbench run[/bold] selects: of the run in the folder, if
    it is there, else it is found first. Results go into its folder heads.

    Example: [bold]workbench patch-heads --model Qwen/Qwen2.5-1.5B-Instruct --layers 8-20 --out
    runs/qwen[/bold]
    """
    study = Study(**settings)
    chosen_positions = None if positions.strip() == "post_instruction" else _numbers(positions)
    chosen_layers = None if layers.strip() == "all" else _numbers(layers)
    from workbench.cli.tables import show_heads
    from workbench.study.steps.heads import find_heads

    found, folder = find_heads(
        study,
        out,
        positions=chosen_positions,
        layers=chosen_layers,
        metric=metric,  # pyright: ignore[reportArgumentType]
        aim=aim,  # pyright: ignore[reportArgumentType]
        threshold=threshold,
        max_heads=max_heads,
        n_random=n_random,
        say=_say,
    )
    found.save(folder, png=png)
    show_heads(found)
    screen.tell_path("figures", folder / "figures")
    screen.tell_path("results", folder)


def _numbers(text: str) -> list[int]:
    """Numbers and ranges with commas between; a range runs from one number up to another."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise StudyError(
                f"{part.strip()!r} is no number and no range. Pass numbers with commas between, "
                "such as -1,-2, or a range, such as 8-15."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise StudyError(f"the range {part.strip()} runs down. Pass {last}-{first}.")
        found += range(first, last + 1)
    return found


def _position(text: str) -> Position:
    """A token counted from the end, or t_inst by its name."""
    if text.strip() == T_INST:
        return "t_inst"
    if re.fullmatch(r"-0*[1-9]\d*", text.strip(), re.ASCII) is None:
        raise StudyError(
            f"{text!r} is no position. Pass --position with a negative number, counted from the "
            "end of a prompt, such as -1, or with t_inst."
        )
    return int(text)


@app.command()
def compare(
    first: Annotated[
        Path, typer.Argument(parser=_path, help="A run's folder, a file of directions, or others'.")
    ],
    second: Annotated[
        Path | None,
        typer.Argument(parser=_path, help="Another one of the same model; none: the first alone."),
    ] = None,
    over: Annotated[
        str, typer.Option(help="What is compared: name (harm categories), layer or position.")
    ] = "name",
    layer: Annotated[
        int | None,
        typer.Option(
            help="Where to look, and the layer of a vector whose file has none; by default where "
            "the run chose."
        ),
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(
            help="Token, counted from the end, such as -1, or t_inst; by default as the run chose."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="One direction, where layers or positions are compared.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="Rows of others' matrix: layer, position, 'layer position' or name."),
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="Where others' vectors were read; by default resid_pre.")
    ] = None,
    read_at: Annotated[
        str | None,
        typer.Option(
            help="What a row or number l of others' file means: block l's input or output."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=_path, help="Folder for the artifact, CSV and figures; none: no files."
        ),
    ] = None,
    png: Annotated[
        bool, typer.Option("--png", help="Also draw pictures; needs --out, kaleido and Chromium.")
    ] = False,
    max_bytes: _MaxBytes = None,
) -> None:
    """Compare directions by their cosines: within one run or file, or between two of one model.

    One source: how alike the directions of its harm categories are. Two: how alike the two sets
    are, at the layers and positions that both have. A source is the folder of a run, a saved
    .safetensors of directions (such as a run's directions.safetensors), or a folder or file that
    another project published or you saved: a single vector takes --layer, a matrix --axes, and what
    was taken for granted is printed. Cosines of different models mean nothing and are refused.

    A cosine carries noise: more prompts, higher cosine. Where vectors were resampled, intervals and
    the cosine without noise are shown; where not, the last line says why there are none. Two runs
    that chose the same layer and position are compared there, with intervals; for all layers, give
    their category_directions.safetensors. Categories of a run are mean differences, whatever its
    estimator.

    Example: [bold]workbench compare runs/qwen --over layer --out runs/qwen-layers[/bold]
    """
    from workbench.cli.tables import show_comparison
    from workbench.compare.runs import compare_directions

    found = compare_directions(
        first,
        second,
        over=over,  # pyright: ignore[reportArgumentType]
        layer=layer,
        position=None if position is None else _position(position),
        name=name,
        axes=axes,
        site=site,
        read_at=read_at,
        max_bytes=max_bytes,
    )
    if png and out is None:
        raise StudyError("pictures need a folder: pass --out with --png.")
    if out is not None:
        found.save(out, png=png)
    show_comparison(found)
    if out is not None:
        screen.tell_path("results", out)


@app.command()
def figures(
    out: Annotated[Path, typer.Option("--out", parser=_path, help="Folder of the gallery.")] = Path(
        "figures"
    ),
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            parser=_path,
            help="Folder of a finished run, as often as wanted; by default runs/ of the shipped "
            "models, made where they are not there.",
        ),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(parser=_path, help="Folder with results that other projects published."),
    ] = None,
    max_bytes: _MaxBytes = None,
) -> None:
    """Draw every figure of the gallery again, with its data and a page that shows them.

    Pictures need kaleido and Chromium; without them the pages and the data are written.

    Example: [bold]workbench figures --run runs/qwen --out figures[/bold]
    """
    from workbench.gallery import draw_gallery

    with allowing(max_bytes=max_bytes):
        page = draw_gallery(out, runs or (), published, _say)
    screen.tell_path("gallery", page)


@app.command()
def prompts(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A built-in set, a benchmark, a file, a folder or a Hub data set; none lists all."
        ),
    ] = None,
    path: Annotated[
        Path | None, typer.Option(parser=_path, help="A downloaded file of the benchmark.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split, where there are several.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    category_column: Annotated[str | None, typer.Option(help="Column of the category.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the ids.")] = None,
    context_column: Annotated[
        str | None, typer.Option(help="Column of what follows the text; '' for none.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="harmful, harmless or borderline: keeps its rows, or is that of all in a file "
            "without labels."
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(help="Keeps its rows, or is that of all in a file without categories."),
    ] = None,
    label_values: Annotated[
        str | None,
        typer.Option(help="What values of the label column mean: 1=harmful,0=harmless."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many prompts, in the source's own mix.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="How many prompts to print; 0 for none.")] = 5,
    max_bytes: _MaxBytes = None,
    max_rows: _MaxRows = None,
) -> None:
    """List the sources of prompts, or look into one.

    Example: [bold]workbench prompts requests.csv --text-column request --label harmful[/bold]
    """
    from workbench.prompts.prompt import whole_number
    from workbench.prompts.sources import load_prompts, prompt_sources

    whole_number("--show", show)
    if source is None:
        screen.show(_frame_table(prompt_sources(), "Sources of prompts"))
        return
    loaded = load_prompts(
        source,
        path=path,
        split=split,
        text_column=text_column,
        category_column=category_column,
        label_column=label_column,
        id_column=id_column,
        context_column=context_column,
        label=label,
        category=category,
        label_values=label_values,
        limit=limit,
        max_bytes=max_bytes,
        max_rows=max_rows,
    )
    frame = loaded.to_dataframe()
    counts = frame.value_counts(["label", "category"], sort=False).reset_index(name="prompts")
    screen.show(_frame_table(counts, f"{source}: {len(loaded)} prompts"))
    if show:
        screen.show(_frame_table(frame.head(show), "First prompts"))
    for note in loaded.provenance.get("notes", ()):
        _say(note)


@app.command()
def verify(
    model: Annotated[
        str, typer.Argument(help="Organism, Hub id, folder, .gguf file or adapter.")
    ] = "pocket",
    adapter: Annotated[
        str | None,
        typer.Option(help="PEFT adapter, a folder or Hub id, that is merged into the model."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device; by default the GPU if there is one.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Weight type; by default bfloat16 on a GPU, else float32.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the checkpoint run its own Python.")
    ] = False,
    chat_template: Annotated[
        str | None,
        typer.Option(help="Jinja file for a model without a chat template, or one's name."),
    ] = None,
    thinking: Annotated[
        bool | None,
        typer.Option("--thinking/--no-thinking", help="For a template with such a switch."),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(help="Day, such as 2026-01-31, that a template writes; by default today."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=_path, help="File for the result, .safetensors; none: no file."),
    ] = None,
    max_bytes: _MaxBytes = None,
) -> None:
    """Check that what is read from a model is what the model computes.

    TransformerLens can wrap thousands of checkpoints, most of which nobody tried. This compares the
    wrapped model with Hugging Face's own on a short text: logits, every site of every layer,
    generation with its cache, padding, the shortcuts that the workbench takes, and whether an
    ablated direction is really gone; and it shows the chat template token by token. Exits with
    status 1 where something is wrong.

    Example: [bold]workbench verify Qwen/Qwen2.5-1.5B-Instruct[/bold]
    """
    from workbench.artifact import save_dataset
    from workbench.cli.tables import show_verification
    from workbench.models.verify import verify_model
    from workbench.study.ledger import check_no_result

    if out is not None:
        check_no_result(out)
    with allowing(max_bytes=max_bytes):
        found = verify_model(
            model,
            adapter=adapter,
            device=device,
            dtype=dtype,
            revision=revision,
            trust_remote_code=trust_remote_code,
            chat_template=chat_template,
            thinking=thinking,
            date=date,
        )
    notes = [worded(note) for note in found["note"].values.tolist()]
    show_verification(found.assign(note=("check", notes)))
    if out is not None:
        save_dataset(out, found, kind="verification")
        screen.tell_path("result", out)
    if found.attrs["verdict"] == "wrong":
        raise typer.Exit(1)


@app.command()
def judge(
    file: Annotated[
        Path, typer.Argument(parser=_path, metavar="FILE", help="Replies: .csv, .jsonl and others.")
    ],
    judge: Annotated[
        str, typer.Option(help="rules, classifier, combined, substring, a Hub id or a folder.")
    ] = Study.judge,
    labels: Annotated[
        str | None, typer.Option(help="Column of people's labels; empty ones are left out.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Another judge, to compare with on the same replies.")
    ] = None,
    reply_column: Annotated[
        str | None, typer.Option(help="Column of the replies; by default reply, or the like.")
    ] = None,
    prompt_column: Annotated[
        str | None, typer.Option(help="Column of the prompts; by default prompt, or the like.")
    ] = None,
    label_values: Annotated[
        str | None,
        typer.Option(help="What labels mean that do not say it: 1=refused,0=complied."),
    ] = None,
    verdict: Annotated[
        str,
        typer.Option(help="Verdict that is compared, told or not: complied, refused, …; or all."),
    ] = "complied",
    show: Annotated[int, typer.Option(min=0, help="Most replies shown that differ.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option(parser=_path, help="File for all that differ, .csv or .jsonl."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            parser=_path,
            help="New file for the replies on which --judge and --against differ, with an empty "
            "column label for people to fill; read it back with --labels label.",
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    max_bytes: _MaxBytes = None,
    max_rows: _MaxRows = None,
) -> None:
    """Say how far a judge agrees with people's labels, or with another judge.

    Reads a file of replies and gives the share on which both sides agree and Cohen's kappa, with
    intervals, and shows replies on which they differ.

    Example: [bold]workbench judge replies.csv --labels human[/bold]
    """
    from workbench.cli.judged import compare, show_compared, write_compared

    with allowing(max_bytes=max_bytes, max_rows=max_rows):
        found = compare(
            file,
            judge,
            labels=labels,
            against=against,
            columns=(reply_column, prompt_column),
            label_values=label_values,
            verdict=verdict,
            confidence=confidence,
            outputs=(out, export),
            say=_say,
        )
    for each in found:
        show_compared(each, show, verdict, confidence)
    write_compared(found, out, export)


@app.command()
def models() -> None:
    """List the shipped model organisms; Hub ids, folders, .gguf files and adapters do, too."""
    from workbench.models.organisms import organism_card, organism_names

    table = Table(
        title="Model organisms",
        caption="Small models trained for this project, whose refusal was planted. Results on them "
        "say nothing about real chat models. --model also takes a Hub id, a folder, a .gguf file "
        "or an adapter.",
    )
    for name in ("name", "what it is", "planted heads (layer.head)"):
        table.add_column(name)
    for name in organism_names():
        card = organism_card(name)
        components = card.get("planted", {}).get("components", {})
        heads = "; ".join(
            f"{component}: {head_labels(own['heads'])}" for component, own in components.items()
        )
        table.add_row(name, card["description"], heads or "none")
    screen.show(table)


def _frame_table(frame: Any, title: str) -> Table:
    """A data frame as a table; prompts are untrusted text and shown as text."""
    table = Table(title=title)
    for column, name in enumerate(frame.columns):
        # The first column is what one has to type: it is never cut.
        table.add_column(str(name), no_wrap=not column, overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(_short(value) for value in row))
    return table


def _short(value: Any, limit: int = 200) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    text = "" if value is None or str(value) == "<NA>" else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(parser=_path, metavar="RUN", help="Folder of a finished run.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=_path, help="Page to write; default RUN/report.html."),
    ] = None,
    max_bytes: _MaxBytes = None,
) -> None:
    """Write a finished run as one HTML page that needs no network.

    Example: [bold]workbench report runs/demo --out demo.html[/bold]
    """
    from workbench.report.page import write_report
    from workbench.study.results import load_run

    with allowing(max_bytes=max_bytes):
        page = write_report(load_run(folder), out)
    screen.tell_path("report", page)
