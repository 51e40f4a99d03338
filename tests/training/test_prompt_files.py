"""The built-in prompt sets are what the grammar writes, and are fit for real chat models too."""

import json
from collections import Counter
from statistics import mean

import pytest

from workbench.training import grammar
from workbench.training.prompt_files import (
    DATA_FOLDER,
    PER_CATEGORY,
    file_text,
    prompt_rows,
    sentence_case,
    write_prompt_files,
)

LABELS = tuple(grammar.PATTERNS)


@pytest.mark.parametrize("label", LABELS)
def test_the_shipped_file_is_what_the_writer_writes(label, tmp_path):
    shipped = (DATA_FOLDER / f"{label}.jsonl").read_text(encoding="utf-8")
    assert shipped == file_text(label)
    paths = {path.stem: path for path in write_prompt_files(tmp_path)}
    assert paths[label].read_text(encoding="utf-8") == shipped


@pytest.mark.parametrize("label", LABELS)
def test_rows_are_complete_distinct_and_balanced(label):
    rows = prompt_rows(label)
    assert {tuple(row) for row in rows} == {("id", "text", "category", "label")}
    assert len({row["text"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    counts = Counter(row["category"] for row in rows)
    assert counts == {category: PER_CATEGORY[label] for category in grammar.PATTERNS[label]}
    assert rows[0]["id"] == f"{label}-{rows[0]['category']}-001"


@pytest.mark.parametrize("label", LABELS)
def test_prompts_are_held_out_and_properly_written(label):
    held_out = {request.text for request in grammar.requests(label, held_out=True)}
    for row in prompt_rows(label):
        assert row["text"].lower() in held_out
        assert row["text"][0].isupper() and row["text"][-1] in ".?"
        assert " i " not in row["text"]


def test_harmful_and_harmless_prompts_have_the_same_length():
    words = {
        label: mean(len(row["text"].split()) for row in prompt_rows(label)) for label in LABELS
    }
    assert words["harmless"] == pytest.approx(words["harmful"], rel=0.05)


def test_every_label_uses_the_frames_alike():
    def openings(label):
        return Counter(" ".join(row["text"].split()[:3]) for row in prompt_rows(label))

    harmful, harmless = openings("harmful"), openings("harmless")
    for opening in ("Explain how to", "How do I", "Give me a"):
        assert harmful[opening] == harmless[opening] > 0


def test_sentence_case():
    assert sentence_case("i want to kill a python process. where do i start?") == (
        "I want to kill a Python process. Where do I start?"
    )


def test_one_json_object_a_line():
    for line in file_text("borderline").splitlines():
        assert json.loads(line)["label"] == "borderline"
