"""Saving figures: what is written works offline, equal figures give equal files."""

import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
import pytest

from workbench import figures
from workbench.errors import ArtifactError, WorkbenchError


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, level, parts):
    """A white picture whose pixels are compressed little and stored in several parts."""
    raw = b"".join(b"\0" + b"\xff" * 3 * width for _ in range(height))
    data = zlib.compress(raw, level)
    step = -(-len(data) // parts)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    cut = [chunk(b"IDAT", data[at : at + step]) for at in range(0, len(data), step)]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(cut) + chunk(b"IEND", b"")


def pixels(picture):
    """Size and pixels of a PNG, every checksum checked."""
    at, data, size = 8, b"", None
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        kind, own = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        assert picture[at : at + 12 + length] == chunk(kind, own)
        size = struct.unpack(">II", own[:8]) if kind == b"IHDR" else size
        data += own if kind == b"IDAT" else b""
        at += 12 + length
    assert kind == b"IEND"
    return size, zlib.decompress(data)


SMALL_PNG = png(8, 4, 1, 1)


@pytest.fixture
def figure(rates):
    return figures.effects(rates)


def test_page_needs_nothing_from_a_network(figure, tmp_path):
    written = figures.save_figure(figure, tmp_path / "gallery", "effects")
    assert set(written) == {"html", "json"}
    page = written["html"].read_text()
    scripts = re.findall(r'<script[^>]*src="([^"]+)"', page)
    assert scripts == ["plotly.min.js"]
    assert (tmp_path / "gallery" / "plotly.min.js").stat().st_size > 1e6
    assert not re.findall(r"<link[^>]*>", page)


def test_specification_gives_the_figure_back(figure, tmp_path):
    written = figures.save_figure(figure, tmp_path, "effects")
    again = plotly.io.from_json(written["json"].read_text())
    assert json.loads(again.to_json()) == json.loads(figure.to_json())
    first = json.loads(written["json"].read_text())["data"][0]
    assert first["y"] == [100.0, 0.0]  # readable numbers, not encoded bytes


def test_equal_figures_give_equal_files(figure, rates, tmp_path):
    one = figures.save_figure(figure, tmp_path / "a", "effects")
    other = figures.save_figure(figures.effects(rates), tmp_path / "b", "effects")
    for kind in one:
        assert one[kind].read_bytes() == other[kind].read_bytes()


def test_plotly_js_is_shared_and_replaced_when_another_version_left_it(figure, tmp_path):
    script = tmp_path / "plotly.min.js"
    script.write_text("old")
    figures.save_figure(figure, tmp_path, "one")
    assert script.stat().st_size > 1e6
    stamp = script.stat().st_mtime_ns
    figures.save_figure(figure, tmp_path, "two")
    assert script.stat().st_mtime_ns == stamp
    assert {path.name for path in tmp_path.iterdir()} == {
        "one.html", "one.json", "two.html", "two.json", "plotly.min.js",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden"])
def test_a_name_that_is_a_path_is_refused_and_nothing_is_written(figure, tmp_path, name):
    with pytest.raises(WorkbenchError, match=r"is not a plain file name|text that is not blank"):
        figures.save_figure(figure, tmp_path / "gallery", name)
    assert not list(tmp_path.iterdir())


def test_a_picture_is_written_or_the_reason_is_told(figure, tmp_path, monkeypatch):
    monkeypatch.setattr(go.Figure, "to_image", lambda *args, **kwargs: b"\x89PNG")
    written = figures.save_figure(figure, tmp_path, "effects", png=True)
    assert written["png"].read_bytes() == b"\x89PNG"

    def fails(*args, **kwargs):
        raise RuntimeError("No browser found.\nInstall one.")

    monkeypatch.setattr(go.Figure, "to_image", fails)
    message = r"cannot draw other\.png: No browser found\. Pictures need kaleido .* were written"
    with pytest.raises(ArtifactError, match=message):
        figures.save_figure(figure, tmp_path, "other", png=True)
    assert (tmp_path / "other.html").is_file()
    assert not (tmp_path / "other.png").exists()


def test_many_pictures_are_written_together_or_none_is(figure, tmp_path, monkeypatch):
    paths = [tmp_path / "a" / "one.png", tmp_path / "b" / "two.png"]
    asked = {}

    def write(drawn, files, **settings):
        asked.update(settings)
        for file in files:
            Path(file).write_bytes(SMALL_PNG)

    monkeypatch.setattr(plotly.io, "write_images", write)
    assert figures.save_pictures(dict.fromkeys(paths, figure), width=600, scale=1) == paths
    assert asked == {"width": 600, "scale": 1, "height": [figure.layout.height] * 2}
    assert all(pixels(path.read_bytes()) == pixels(SMALL_PNG) for path in paths)

    def fails(drawn, files, **settings):
        Path(files[0]).write_bytes(b"half")
        raise RuntimeError("The browser died.")

    monkeypatch.setattr(plotly.io, "write_images", fails)
    with pytest.raises(ArtifactError, match=r"cannot draw pictures: The browser died\. Pictures"):
        figures.save_pictures({tmp_path / "c" / "one.png": figure})
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("chromium_path")
def test_a_browser_draws_the_picture_in_its_size(figure, tmp_path):
    (path,) = figures.save_pictures({tmp_path / "effects.png": figure}, width=600, scale=2)
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    size = struct.unpack(">II", header[16:])
    assert size == (1200, 2 * figure.layout.height)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_packed_picture_is_smaller_and_has_the_same_pixels(parts):
    picture = png(300, 200, 0, parts)
    small = figures.save.packed(picture)
    assert pixels(small) == pixels(picture)
    assert len(small) < len(picture) / 10
    assert figures.save.packed(small) == small


def test_figures_never_import_torch():
    code = "import sys, workbench.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
