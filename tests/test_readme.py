"""What the README shows runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_ten_lines_run(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: shown.append(figure))
    lines = re.search(
        r"## Ten lines\n\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S
    )[1]
    fewer = lines.replace("(train=128, validation=32)", "(train=24, validation=8)")
    assert fewer.count("(train=24, validation=8)") == 2
    scope = {}
    exec(compile(fewer, str(README), "exec"), scope)
    assert capsys.readouterr().out.split("\n")[-2] == str(["complied"] * 5)
    chosen = scope["choice"]
    assert chosen.position == -1 and chosen.layer >= 4
    assert len(shown) == 1 and "pocket" in shown[0].layout.title.subtitle.text
