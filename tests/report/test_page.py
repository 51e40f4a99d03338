"""The report: what it says comes from the run, and nothing in it acts but its own scripts."""

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import workbench as wb
from workbench import figures
from workbench.cli.app import app
from workbench.explorer.jobs import Reading
from workbench.gallery import draw_gallery
from workbench.report.page import render
from workbench.report.plots import gallery_plots, script_json
from workbench.report.provenance import command
from workbench.report.summary import findings, summary
from workbench.report.tables import candidates_table, prompts_table, replies_table
from workbench.screen import plain
from workbench.study.prompts import split_prompts


class Page(HTMLParser):
    """Elements, headings and inline scripts of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.ids = [], [], []
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.elements.append((tag, own))
        if "id" in own:
            self.ids.append(own["id"])
        if tag == "script":
            self._script = (own.get("type"), [])

    def handle_data(self, data):
        if self._script is not None:
            self._script[1].append(data)

    def handle_endtag(self, tag):
        if tag == "script":
            self.scripts.append((self._script[0], "".join(self._script[1])))
            self._script = None

    def of(self, tag):
        return [own for name, own in self.elements if name == tag]


@pytest.fixture(scope="module")
def report(small_run, tmp_path_factory):
    return wb.write_report(small_run, tmp_path_factory.mktemp("report") / "page.html")


@pytest.fixture(scope="module")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_outside_itself(report, page):
    assert report.stat().st_size < 8_000_000
    for tag, own in page.elements:
        assert not {"src", "srcset", "data"} & set(own), tag
        assert tag not in ("link", "iframe", "object", "img")
        if tag == "a":
            assert own["href"].startswith("#") and own["href"][1:] in page.ids
        assert not [name for name in own if name.startswith("on")]
    code = [text for kind, text in page.scripts if kind is None]
    assert len(code) == 2 and sum("plotly.js v" in text for text in code) == 1


def test_only_the_scripts_of_the_page_may_run(page):
    (policy,) = (own["content"] for own in page.of("meta") if "http-equiv" in own)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and "connect-src" not in rules
    allowed = rules["script-src"].split()
    code = [text for kind, text in page.scripts if kind is None]
    for text in code:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in allowed
    assert len(allowed) == len(code)


def test_headings_are_in_order_and_anchors_are_single(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(set(page.ids)) == len(page.ids)
    assert page.of("html") == [{"lang": "en"}]
    first_link = page.of("a")[0]
    assert first_link["class"] == "skip" and first_link["href"] == "#main"


def test_every_figure_says_what_it_shows(small_run, page):
    plots, undrawn = gallery_plots(small_run)
    assert {"sweep", "selection_plane", "effects"} <= {plot.name for plot in plots}
    drawn = {own["id"]: own for own in page.of("div") if own.get("role") == "img"}
    assert set(drawn) == {f"plot-{plot.name}" for plot in plots}
    for plot in plots:
        label = drawn[f"plot-{plot.name}"]["aria-label"]
        assert plot.figure.title in label and plot.caption in label and "pocket" in label
        assert not re.search(r"</?\w+>", plot.figure.title + plot.figure.subtitle)
        assert "title" not in plot.figure.spec["layout"]
    assert all(reason for reason in undrawn.values())


def test_equal_runs_give_equal_pages(small_run, report, tmp_path):
    again = wb.write_report(wb.load_run(small_run.folder), tmp_path / "again.html")
    assert again.read_bytes() == report.read_bytes()


def test_tables_hold_every_prompt_reply_and_candidate(small_run, page):
    stored = {
        name: json.loads(text)
        for name, (kind, text) in zip(
            [own["id"] for own in page.of("script") if "id" in own],
            [script for script in page.scripts if script[0]],
            strict=True,
        )
    }
    replies = replies_table(small_run)
    assert stored["data-replies"]["rows"] == replies.rows
    for row in small_run.replies.to_dict("records"):
        column = replies.columns.index(row["condition"])
        (own,) = (
            each for each in replies.rows if each[-1] == row["id"] and each[0] == row["prompt_set"]
        )
        assert own[column] == [row["verdict"], row["reply"]] and own[1] == row["prompt"]
    candidates = candidates_table(small_run)
    assert len(candidates.rows) == len(small_run.directions)
    assert [row[-1] for row in candidates.rows].count("chosen") == 1
    prompts = prompts_table(small_run)
    study = small_run.study
    assert len(prompts.rows) == 2 * (study.n_train + study.n_validation + study.n_test)
    kept = json.loads((small_run.folder / "prompts.json").read_text())["kept"]
    used = {row[-1] for row in prompts.rows if row[3] == "used"}
    assert used == {own for part in kept.values() for ids in part.values() for own in ids}


@pytest.fixture
def copied(small_run, tmp_path):
    """The small run in a folder that may be written to."""
    folder = tmp_path / "copied"
    shutil.copytree(small_run.folder, folder, ignore=shutil.ignore_patterns("figures"))
    return replace(small_run, folder=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.unlink(), "the run in .* has no prompt_texts.jsonl. Run the same study"),
        (lambda file: file.write_text("{"), "prompt_texts.jsonl is damaged: .* read it again"),
        (lambda file: file.write_text(""), "prompt_texts.jsonl is damaged: .* read it again"),
        (lambda file: file.write_text(file.read_text().replace('"text": "', '"text": "x', 1)),
         "prompt_texts.jsonl is damaged: .* read it again"),
    ],
)  # fmt: skip
def test_prompts_whose_texts_are_gone_or_changed_stand_by_their_ids(copied, change, message):
    change(copied.folder / "prompt_texts.jsonl")
    table = prompts_table(copied)
    assert re.search(f"Texts are not shown: .*{message}", table.about)
    assert str(copied.folder.parent) not in table.about
    assert table.rows and all(row[2] == "" and row[-1] for row in table.rows)
    with pytest.raises(wb.StudyError, match=message):
        Reading(copied)._prompts()


def test_looking_at_a_run_reads_no_source_of_prompts(copied, small_run, monkeypatch):
    def asked(*_args, **_kwargs):
        raise AssertionError("a source of prompts was asked")

    split = {label: own["test"] for label, own in split_prompts(small_run.study).items()}
    for name in ("sources.open_source", "sources.fetch", "sources.fetch_data_set"):
        monkeypatch.setattr(f"workbench.prompts.{name}", asked)
    monkeypatch.setattr("workbench.study.prompts.open_source", asked)
    assert Reading(copied)._prompts() == split
    study = replace(small_run.study, harmful="owner/gone", harmless="advbench")
    table = prompts_table(replace(copied, study=study))
    assert len(table.rows) > 100 and all(row[2] for row in table.rows)
    monkeypatch.setattr(figures, "GALLERY", figures.GALLERY[:1])
    draw_gallery(copied.folder.parent / "gallery", [copied.folder])


def test_folders_of_this_machine_do_not_stand_in_a_report(copied, small_run):
    study = replace(
        small_run.study,
        model="/home/someone/models/chat",
        harmful="/home/someone/my prompts/harmful.csv",
        harmless="advbench=/home/someone/harmless.csv",
        borderline="C:\\Users\\someone\\b.csv",
        chat_template="~/someone/chat.jinja",
    )
    skipped = {"pca": "failed with ArtifactError: no file /home/someone/runs/pca.safetensors."}
    effects = small_run.effects.assign_attrs(model=study.model)
    run = replace(copied, study=study, effects=effects, skipped=skipped)
    plots, undrawn = gallery_plots(run)
    page = render(run, plots, {**undrawn, **skipped})
    assert "someone" not in page
    for shown in (
        "harmful.csv",
        "advbench=harmless.csv",
        "b.csv",
        "chat.jinja",
        "no file pca.safe",
    ):
        assert shown in page
    assert "files stand by their names" in page
    assert "files stand by their names" not in render(small_run, [], {})


@pytest.mark.parametrize("value", ["a\nb", "it's\ta\\n", "\x1b[31m", "\u202ex 'y'", "é漢", "a  b"])
def test_a_command_is_one_line_that_a_shell_reads_back(value):
    if shutil.which("bash") is None:
        pytest.skip("no bash on this machine -> apt-get install bash")
    words = command(wb.Study(system=value))
    assert plain(words).replace("\n", "") == words
    done = subprocess.run(
        ["bash", "-c", f"export LC_ALL=C.UTF-8; printf %s {words.split('--system ')[1]}"],
        capture_output=True,
    )
    assert done.stdout.decode() == value


def test_the_summary_is_computed_from_the_run(small_run):
    text = " ".join(summary(small_run))
    rate = float(small_run.effects["refusal_rate"].sel(prompt_set="harmful", condition="plain"))
    low, high = (
        small_run.effects["refusal_rate_interval"]
        .sel(prompt_set="harmful", condition="plain")
        .values
    )
    assert f"{rate:.0%} [{low:.0%}, {high:.0%}] of 12 harmful" in text
    assert f"layer {small_run.choice.layer}" in text
    assert f"falls from {rate:.0%} to 0%" in text and "rises from 0% to" in text
    assert "model organism" in text
    assert [name for name, _, _ in findings(small_run)] == list(small_run.found)


def compared(run, before, after):
    """The run, had its harmful prompts been answered so, plainly and with the direction ablated."""
    rows = [
        {"prompt_set": "harmful", "condition": condition, "id": str(index), "verdict": verdict}
        for condition, verdicts in (("plain", before), ("ablated", after))
        for index, verdict in enumerate(verdicts)
    ]
    return replace(run, effects=wb.selection.refusal_rates(pd.DataFrame(rows)))


def test_what_is_not_told_apart_is_not_called_unchanged(small_run):
    few = compared(small_run, ["refused"] * 4 + ["complied"] * 4, ["refused"] * 8)
    text = " ".join(summary(few))
    assert "is not told apart from the plain one (50% plain, 100% [68%, 100%] now" in text
    assert "+50 points" in text and "p = 0.12" in text
    assert not re.search("falls|rises|does not change", text)


def test_a_change_that_all_prompts_agree_on_is_one_though_intervals_overlap(small_run):
    before = ["refused"] * 59 + ["complied"] * 5
    text = " ".join(summary(compared(small_run, before, ["complied"] * 9 + before[9:])))
    assert re.search(
        r"falls from 92% to 78% \[67%, 86%\] \(-14 points \[-25, -8\], p = 0.0039", text
    )
    assert "corrected for 1 comparison after Holm" in text


def test_what_was_not_compared_prompt_by_prompt_is_said_without_a_verdict(small_run):
    names = ["difference", "difference_interval", "gained", "lost", "p_value", "p_holm"]
    text = " ".join(summary(replace(small_run, effects=small_run.effects.drop_vars(names))))
    assert "not compared prompt by prompt" in text
    assert not re.search("falls|rises|does not change", text)


def test_a_model_of_somebody_else_is_not_called_an_organism(small_run):
    study = replace(small_run.study, model="org/chat")
    text = " ".join(summary(replace(small_run, study=study, planted_cosine=None)))
    assert "organism" not in text and "planted" not in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_test": 8, "system": "Be 'brief' and $kind.", "borderline": ""},
        {"kl_cap": 0.25, "refusal_words": "I, Sorry", "model": "my models/x"},
    ],
)
def test_the_command_runs_the_same_study_again(settings):
    study = wb.Study(**settings)
    words = shlex.split(command(study))
    assert words[:2] == ["workbench", "run"]
    context = get_command(app).commands["run"].make_context("run", words[2:])
    given = {name: value for name, value in context.params.items() if name not in ("out", "png")}
    assert wb.Study(**given) == study


def test_provenance_names_weights_template_prompts_and_versions(small_run, report, pocket):
    text = report.read_text(encoding="utf-8")
    recorded = json.loads((small_run.folder / "study.json").read_text())["provenance"]
    for value in (
        pocket.weights_fingerprint,
        recorded["template"],
        recorded["prompts"]["harmful"]["train"],
        recorded["environment"]["torch"],
        hashlib.sha256((small_run.folder / "scores.safetensors").read_bytes()).hexdigest(),
    ):
        assert value in text


def test_json_in_a_script_cannot_end_it():
    hostile = ["</script><script>alert(1)</script>", "<!--", "\u2028 & \ud800", '"']
    text = script_json(hostile)
    assert text.isascii() and not set("<>&") & set(text)
    assert json.loads(text) == hostile


def test_the_command_line_writes_the_page_of_the_api(small_run, report, tmp_path):
    out = tmp_path / "own.html"
    result = CliRunner().invoke(app, ["report", str(small_run.folder), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == report.read_bytes()


def test_a_page_that_cannot_be_written_is_our_error(small_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(wb.ArtifactError, match="cannot make the folder"):
        wb.write_report(small_run, tmp_path / "file" / "page.html")
