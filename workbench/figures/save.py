"""Writing a figure: a page that works offline, the specification, and a picture."""

import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from workbench.arguments import checked
from workbench.artifact import write_bytes, write_text
from workbench.errors import ArtifactError

PLOTLY_JS = "plotly.min.js"


@checked
def save_figure(
    figure: go.Figure, folder: str | Path, name: str, png: bool = False, width: int = 1200
) -> dict[str, Path]:
    """Writes ``name.html`` and ``name.json``, each atomically, and ``name.png`` if asked for.

    The pages of a folder share one copy of plotly.js beside them, so they open without a network
    and a gallery carries its four megabytes once. Equal figures give equal files.

    Args:
        figure: what to write.
        folder: made if it is not there.
        name: file name without an extension.
        png: also draw a picture, which needs kaleido and Chrome or Chromium.
        width: of the picture, in pixels.

    Returns:
        The files written, by kind: ``html``, ``json`` and perhaps ``png``.

    Raises:
        ArtifactError: the name is not a plain file name, the folder cannot be written, or the
            picture cannot be drawn here. In the last case the other two files are there.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ArtifactError(f"{name!r} is not a plain file name. Pass the folder separately.")
    folder = Path(folder)
    _share_plotly_js(folder)
    page = figure.to_html(
        include_plotlyjs="directory", div_id=name, config={"responsive": True, "displaylogo": False}
    )
    written = {
        "html": write_text(folder / f"{name}.html", page),
        "json": write_text(folder / f"{name}.json", str(figure.to_json())),
    }
    if png:
        written["png"] = write_bytes(folder / f"{name}.png", _draw(figure, name, width))
    return written


@checked
def save_pictures(
    pictures: Mapping[Path, go.Figure], width: int = 1200, scale: float | int = 2
) -> list[Path]:
    """Writes many pictures with one browser: all of them, or none.

    Args:
        pictures: figures by the path of their picture, which ends in ``.png``.
        width: of the figures, in their own pixels; heights are their own.
        scale: pixels of a picture per pixel of its figure; two for screens that have them.

    Raises:
        ArtifactError: pictures cannot be drawn here, or a folder cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        drawn = {path: Path(folder) / f"{row}.png" for row, path in enumerate(pictures)}
        try:
            plotly.io.write_images(
                list(pictures.values()),
                list(drawn.values()),
                width=width,
                height=[each.to_dict()["layout"].get("height") for each in pictures.values()],
                scale=scale,
            )
        except Exception as error:  # as in `_draw`
            raise ArtifactError(f"cannot draw pictures: {_why(error)}") from error
        for path, temporary in drawn.items():
            write_bytes(path, packed(temporary.read_bytes()))
    return list(pictures)


def packed(picture: bytes) -> bytes:
    """The same PNG with its pixels compressed as far as zlib goes: browsers write for speed."""
    head, pixels, rest, at = picture[:8], b"", [], 8
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IDAT":
            pixels += data
        else:
            rest.append((kind, data))
    smaller = zlib.compress(zlib.decompress(pixels), 9)
    chunks = [*rest[:-1], (b"IDAT", min(smaller, pixels, key=len)), rest[-1]]
    return head + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _share_plotly_js(folder: Path) -> None:
    """Puts plotly.js beside the pages, replacing a copy that another version left."""
    path, script = folder / PLOTLY_JS, get_plotlyjs()
    if not path.is_file() or path.read_text(encoding="utf-8") != script:
        write_text(path, script)


def _draw(figure: go.Figure, name: str, width: int) -> bytes:
    """The picture as bytes; two pixels per pixel, for screens that have them."""
    try:
        return figure.to_image(format="png", width=width, scale=2)
    # kaleido raises its own errors when there is no browser, and others when the browser dies;
    # what it can raise changes between versions.
    except Exception as error:
        raise ArtifactError(
            f"cannot draw {name}.png: {_why(error)}; {name}.html and {name}.json were written."
        ) from error


def _why(error: Exception) -> str:
    """What the drawing library said, and what it needs."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return (
        f"{reason} Pictures need kaleido (pip install 'refusal-workbench[png]') and Chrome or "
        "Chromium"
    )
