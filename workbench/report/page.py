"""One self-contained page: the template, the scripts that may run in it, and the file."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from workbench import __version__
from workbench.arguments import checked
from workbench.artifact import write_text
from workbench.names import file_only, without_folders
from workbench.report import provenance
from workbench.report.plots import Plot, gallery_plots, script_json
from workbench.report.summary import findings, summary
from workbench.report.tables import candidates_table, prompts_table, replies_table
from workbench.study.ledger import check_no_result
from workbench.study.results import Run

REPORT = "report.html"

_HERE = Path(__file__).parent


@checked
def write_report(run: Run, path: str | Path | None = None) -> Path:
    """Writes a run as one HTML page that opens from disk and needs no network.

    What it found on top, in words; every figure of the gallery with how to read it; prompts and
    replies in tables that can be searched; what was skipped and why; and where all of it comes
    from. Prompts and replies are shown as text, whatever they hold: the page's content security
    policy lets no script run but its own, and nothing be loaded. Equal runs give equal pages.

    Args:
        run: a finished run.
        path: of the page; by default ``report.html`` in the run's folder.

    Raises:
        StudyError: a result of the run is broken, or the path is that of one.
        ArtifactError: the page cannot be written.
    """
    page = run.folder / REPORT if path is None else Path(path)
    check_no_result(page)
    plots, undrawn = gallery_plots(run)
    return write_text(page, render(run, plots, {**undrawn, **run.skipped}))


def render(run: Run, plots: Iterable[Plot], skipped: Mapping[str, str]) -> str:
    """The page as text."""
    scripts = {
        "plotly": _one_newline(get_plotlyjs()),
        "page": _one_newline((_HERE / "page.js").read_text(encoding="utf-8")),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = [replies_table(run), candidates_table(run), prompts_table(run)]
    return environment.get_template("page.html.j2").render(
        model=file_only(run.study.model),
        version=__version__,
        summary=summary(run),
        found=findings(run),
        plots=list(plots),
        tables=tables,
        table_data={table.name: script_json(table.data) for table in tables},
        skipped=[(name, without_folders(reason)) for name, reason in sorted(skipped.items())],
        command=provenance.command(run.study),
        has_paths=provenance.has_paths(run.study),
        settings=provenance.settings(run.study),
        identity=provenance.identity(run),
        checks=provenance.checks(run),
        files=provenance.files(run),
        css=(_HERE / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        policy=_policy(scripts.values()),
    )


def _policy(scripts: Iterable[str]) -> str:
    """A content security policy: these scripts by their hash, no other, and no network.

    Styles are free because plotly sets them on what it draws; pictures from memory are what
    "save picture" makes.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    rules: dict[str, Any] = {
        "default-src": "'none'",
        "script-src": hashes,
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _one_newline(text: str) -> str:
    """Line ends as a browser reads them, or the hash of a script would differ."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
