"""The gallery: drawn again it is the same, and its page shows all that was drawn."""

import base64
import csv
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import plotly.io
import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import workbench as wb
from workbench import figures
from workbench.cli.app import app
from workbench.errors import StudyError
from workbench.gallery import draw, draw_gallery, markdown, published_results

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4//8/AAX+Av4zEpUUAAAAAElFTkSuQmCC"
)
"""One white pixel."""


@pytest.fixture(autouse=True, scope="module")
def quick_pictures():
    """A browser that draws nothing; the real one is tried in the slow test of `save_pictures`."""

    def write(drawn, files, **settings):
        assert len(drawn) == len(files) == len(settings["height"])
        for file in files:
            Path(file).write_bytes(PNG)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotly.io, "write_images", write)
        yield


@pytest.fixture(scope="module")
def said():
    """What was said while the gallery was drawn."""
    return []


@pytest.fixture(scope="module")
def gallery(small_run, tmp_path_factory, said, quick_pictures):
    """The gallery of the small run; read-only."""
    page = draw_gallery(tmp_path_factory.mktemp("gallery"), [small_run.folder], say=said.append)
    return page.parent


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_that_the_run_has_is_drawn_three_ways_and_shown(gallery, small_run, said):
    page = (gallery / "README.md").read_text()
    shown = 0
    for entry in figures.GALLERY:
        if any(f"figure {entry.name} of pocket not drawn" in line for line in said):
            continue
        shown += 1
        for kind in ("html", "png", "csv"):
            assert (gallery / "pocket" / f"{entry.name}.{kind}").is_file(), entry.name
        assert rows(gallery / "pocket" / f"{entry.name}.csv"), entry.name
        assert f"### {entry.question}" in page
        assert f'src="pocket/{entry.name}.png"' in page
        assert f"(pocket/{entry.name}.csv)" in page
        assert entry.caption in page
        assert entry.answers in page
    assert shown >= 12
    assert page.count("- Drawn: ") == shown == len(list(gallery.glob("pocket/*.csv")))
    assert page.count("- Command: `workbench run --n-train 48") == shown
    n = {kind: int(small_run.effects["n"].sel(prompt_set=kind)) for kind in ("harmful", "harmless")}
    assert f"{n['harmful']} harmful, {n['harmless']} harmless" in page


def test_what_the_page_says_of_a_figure_stands_in_the_figure(gallery, small_run):
    page = (gallery / "README.md").read_text()
    drawn = re.findall(r"- Drawn: (.*)", page)
    assert all("pocket" in line for line in drawn)
    n = [small_run.scores.attrs[f"n_{kind}"] for kind in ("harmful", "harmless")]
    assert any(f"n = {n[0]} harmful and {n[1]} harmless prompts" in line for line in drawn)
    assert any(f"judge: {wb.scores.judge_name(wb.Study.judge)}" in line for line in drawn)


def test_drawing_again_leaves_tables_and_page_as_they_are(gallery, small_run, tmp_path):
    again = draw_gallery(tmp_path / "again", [small_run.folder]).parent
    for path in [*gallery.glob("*/*.csv"), gallery / "README.md"]:
        assert path.read_bytes() == (again / path.relative_to(gallery)).read_bytes(), path.name


def test_tables_hold_the_numbers_of_the_run(gallery, small_run):
    table = rows(gallery / "pocket" / "sweep.csv")
    scores = small_run.scores
    for name in ("bypass", "induce", "kl"):
        own = [row for row in table if row["quantity"] == name]
        assert len(own) == int(np.isfinite(scores[name]).sum())
        for row in own:
            cell = scores.sel(layer=int(row["layer"]), position=int(row["position"]))
            assert float(row["value"]) == pytest.approx(float(cell[name]), rel=1e-5)
            low, high = cell[f"{name}_interval"].values
            assert [float(row[end] or "nan") for end in ("low", "high")] == pytest.approx(
                [low, high], rel=1e-5, nan_ok=True
            )
    single = {row["quantity"]: row["value"] for row in table}
    assert single["chosen_layer"] == str(small_run.choice.layer)
    assert float(single["kl_cap"]) == small_run.study.kl_cap
    table = rows(gallery / "pocket" / "effects.csv")
    rates = [row for row in table if row["quantity"] == "refusal_rate"]
    assert len(rates) == small_run.effects["refusal_rate"].size


def test_no_table_holds_the_text_of_a_prompt(gallery, small_run):
    texts = [text for text in small_run.replies["prompt"] if len(text) > 20]
    for path in gallery.glob("*/*.csv"):
        table = path.read_text()
        assert not [text for text in texts if text in table], path.name


def test_without_a_browser_the_rest_is_written_and_old_pictures_go(
    gallery, small_run, tmp_path, monkeypatch
):
    def no_browser(*args, **settings):
        raise RuntimeError("Kaleido requires Google Chrome to be installed.\nMore.")

    monkeypatch.setattr(plotly.io, "write_images", no_browser)
    told, folder = [], tmp_path / "gallery"
    shutil.copytree(gallery, folder)
    page = draw_gallery(folder, [small_run.folder], say=told.append).read_text()
    skipped = [line for line in told if "pictures skipped" in line]
    assert len(skipped) == 1 and "requires Google Chrome" in skipped[0]
    assert list(gallery.glob("*/*.png")) and not list(folder.glob("*/*.png"))
    assert "<img" not in page and "(pocket/sweep.html)" in page
    assert (folder / "pocket" / "sweep.csv").is_file()


def test_without_runs_those_of_the_shipped_models_are_made(small_run, tmp_path, monkeypatch, said):
    asked = []

    def run_study(study, say):
        asked.append(study)
        return replace(small_run, study=replace(small_run.study, model=study.model))

    monkeypatch.setattr(draw, "run_study", run_study)
    page = draw_gallery(tmp_path / "gallery").read_text()
    assert [study.model for study in asked] == list(draw.ORGANISMS)
    for name in draw.ORGANISMS:
        assert f"## `{name}`" in page
        assert (tmp_path / "gallery" / name / "sweep.csv").is_file()


@pytest.mark.shared
def test_published_results_are_pictures_with_their_source(small_run, shared, tmp_path):
    page = draw_gallery(
        tmp_path / "gallery", [small_run.folder], shared / "data" / "published"
    ).read_text()
    names = {path.name for path in (tmp_path / "gallery" / "published").iterdir()}
    assert names == {
        "gemma-2b-it_sweep.png", "gemma-2b-it_selection_plane.png",
        "qwen-1_8b-chat_sweep.png", "qwen-1_8b-chat_selection_plane.png",
        "zhao_2025_cosine_by_layer.png", "zhao_2025_cosine_maps_by_layer.png",
    }  # fmt: skip
    section = page.split("## Published results")[1]
    assert all(f'src="published/{name}"' in section for name in names)
    assert section.count("Source: Arditi et al. 2024, github.com/") == 4
    assert section.count("Source: Zhao et al. 2025, github.com/") == 2
    assert "Qwen/Qwen2-7B-Instruct" in section


def test_runs_that_would_write_the_same_files_are_refused(small_run, tmp_path):
    with pytest.raises(StudyError, match="two of these runs are on models named 'pocket'"):
        draw_gallery(tmp_path / "gallery", [small_run.folder, small_run.folder])
    assert not (tmp_path / "gallery").exists()


# What a `study.json` of somebody else may say its model is.
FOREIGN = (
    "..", "a/..", ".", "../../x", "/", "published", "a/chat", "b/chat", "con", "C:\\me\\chat",
    "/home/me/own",
    "[x](http://y) <b>*z*</b> `` | &lt;", "x\n\n# y\n<img src=z>", "\x1b[31m\u202ez",
)  # fmt: skip


def test_a_foreign_model_name_stays_in_the_folder_and_is_text(small_run, tmp_path, monkeypatch):
    system = "one\n\n# two ``` <b>"
    study = replace(small_run.study, system=system)
    runs = {name: replace(small_run, study=replace(study, model=name)) for name in FOREIGN}
    monkeypatch.setattr(draw, "load_run", lambda name: runs[name])
    monkeypatch.setattr(figures, "GALLERY", figures.GALLERY[:1])
    page = draw_gallery(tmp_path / "in" / "gallery", list(FOREIGN))
    assert [each.name for each in tmp_path.iterdir()] == ["in"]
    assert [each.name for each in (tmp_path / "in").iterdir()] == ["gallery"]
    folders = [each for each in page.parent.iterdir() if each.is_dir()]
    assert len(folders) == len(FOREIGN) and not (page.parent / "published").exists()
    name = figures.GALLERY[0].name
    assert all((each / f"{name}.{kind}").is_file() for each in folders for kind in ("png", "csv"))
    text = page.read_text(encoding="utf-8")
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert html.count("<h2>") == html.count("<h3>") == html.count("<img ") == len(FOREIGN)
    assert html.count("<h1>") == 1 and not {"<b>", "<em>", "<strong>", "<table>"} & set(
        re.findall(r"<\w+>", html)
    )
    links = re.findall(r'(?:href|src)="(.*?)"', html)
    assert len(links) == 2 * len(FOREIGN)
    assert all((page.parent / unquote(link)).is_file() for link in links)
    assert "/home/me" not in text and "C:\\me" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)
    commands = re.findall(r"<li>Command: <code>(.*?)</code>", html)
    assert len(commands) == len(FOREIGN)
    assert all(r"$'one\n\n# two" in unescape(each) for each in commands)


@pytest.mark.parametrize("words", ["*a*", "[a](b)", "<b>", "a|b", "# a", "- a", "+ a", "1. a",
    "> a", "`a`", "``", "&lt;", "a\n\nb", "http://a", "www.a.org", "~~a~~", "![a](b)", "\\*a*",
    "=", "a  ", " a", "a`b``c`", "\\", "<http://a>", "_a_", "---", "$a$", "1) a"])  # fmt: skip
def test_words_in_markdown_are_shown_as_they_are(words):
    parser = MarkdownIt("gfm-like", {"linkify": False})
    line = words.replace("\n", " ")
    shown = parser.render(markdown.text(words)).strip().removeprefix("<p>").removesuffix("</p>")
    assert unescape(shown).strip() == line.strip()
    shown = parser.render(f"x {markdown.code(words)} y").strip()
    assert unescape(shown) == f"<p>x <code>{line or ' '}</code> y</p>"
    [link] = [own for own in parser.parse(markdown.link(words, f"{words}.csv")) if own.children]
    ends = [own for own in link.children if "link" in own.type]
    assert len(ends) == 2 and unquote(str(ends[0].attrs["href"])) == f"{line}.csv"


def test_published_results_of_one_name_are_kept_apart(tmp_path, monkeypatch, unchecked):
    for place in ("a/same", "b/same", "other"):
        (tmp_path / place).mkdir(parents=True)
    known = SimpleNamespace(recognises=lambda place: not any(place.iterdir()), what="empty")
    monkeypatch.setattr("workbench.gallery.published.READERS", [known])
    monkeypatch.setattr("workbench.gallery.published.load_published", lambda place: place)
    names = [name for name, _ in published_results(tmp_path)]
    assert len(set(names)) == 3 and names[2] == "other" and names[0].startswith("same-")


def test_a_folder_without_results_is_refused(small_run, tmp_path):
    with pytest.raises(StudyError, match=r"holds no run: there is no study\.json"):
        draw_gallery(tmp_path / "gallery", [tmp_path])
    with pytest.raises(StudyError, match=r"nothing published under .*the folder of a run of"):
        published_results(tmp_path)
    assert not (tmp_path / "gallery").exists()


def test_the_command_draws_the_same(gallery, small_run, tmp_path):
    arguments = ["figures", "--out", str(tmp_path / "two"), "--run", str(small_run.folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "drawing pocket" in result.output and "README.md" in result.output
    for path in gallery.glob("*/*.csv"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(gallery)).read_bytes()
