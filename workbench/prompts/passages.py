"""Passages of plain prose, on which it shows what an intervention does to ordinary text."""

import json
from functools import cache
from importlib import resources


@cache
def plain_passages() -> tuple[str, ...]:
    """Short passages about everyday things, written for this project; the same in every version."""
    file = resources.files("workbench.prompts") / "data" / "passages.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line)["text"] for line in lines)
