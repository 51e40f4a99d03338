"""JSON of many shapes: the same prompts, or an error that names what was found."""

import json

import pytest

from workbench.errors import PromptError
from workbench.prompts.sources import load_prompts

ASK = ["Bake bread", "Sew"]
ROWS = [{"prompt": text, "category": kind} for text, kind in zip(ASK, "ab", strict=True)]


def load(path, content, **options):
    path.write_text(json.dumps(content), encoding="utf-8")
    return load_prompts(path, label="harmless", **options)


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        {"data": ROWS, "text": "what this file is", "sizes": [1, 2]},
        {"prompts": ROWS, "version": 1},
        {"anything": ROWS},
        {"prompt": ASK, "category": ["a", "b"]},
        {"Prompt": {"0": ASK[0], "1": ASK[1]}, "Category": {"0": "a", "1": "b"}},
        {"0": ROWS[0], "1": ROWS[1]},
        {"columns": [*ROWS[0]], "index": [0, 1], "data": [[*row.values()] for row in ROWS]},
        {"features": [], "rows": [{"row_idx": n, "row": row} for n, row in enumerate(ROWS)]},
    ],
)  # fmt: skip
def test_every_shape_gives_the_same_prompts(tmp_path, content):
    prompts = load(tmp_path / "a.json", content)
    assert list(prompts.texts) == ASK and prompts.categories == ("a", "b")


@pytest.mark.parametrize(
    "content",
    [
        {"train": ROWS, "test": [{"prompt": "Sing"}]},
        {"train": ASK, "test": ["Sing"]},
        {"train": {"prompt": ASK}, "test": {"prompt": ["Sing"]}},
    ],
)
def test_splits_are_chosen_by_name(tmp_path, content):
    path = tmp_path / "a.json"
    assert list(load(path, content, split="train").texts) == ASK
    test = load(path, content, split="test")
    assert test.texts == ("Sing",) and test.provenance["split"] == "test"
    with pytest.raises(PromptError, match=r"several splits: train, test. Choose one with split='t"):
        load(path, content)
    with pytest.raises(PromptError, match=r"a.json has no split 'dev': train, test"):
        load(path, content, split="dev")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({"prompt": ASK, "category": ["a"]}, {}, "columns, and they are not of one length: prompt"),
        ({"prompt": ASK, "n": 1}, {}, "not of one length: prompt 2, n no list"),
        ({"prompts": ASK, "labels": [0, 1]}, {}, "If they are columns, call the one of the prompt"),
        (ROWS, {"split": "train"}, "a.json has no splits. Leave split='train' out"),
        ({}, {}, "another shape"),
        ({"data": []}, {}, "holds no prompts"),
        ({"columns": ["prompt"], "data": [["a", "b"]]}, {}, "another shape"),
    ],
)
def test_shapes_that_say_too_little_are_refused(tmp_path, content, options, message):
    with pytest.raises(PromptError, match=message):
        load(tmp_path / "a.json", content, **options)
