"""Conversations and Alpaca rows: the request is taken whole, and what is not taken is counted."""

import json

import pandas as pd
import pytest

from workbench.errors import PromptError
from workbench.prompts.sources import load_prompts

ASK = ("Bake bread", "Sew a button")
OK = {"role": "assistant", "content": "Gladly."}
SYSTEM = {"role": "system", "content": "Be brief."}


def user(content):
    return {"role": "user", "content": content}


def turns_of(speaker, text):
    return [{"from": speaker, "value": text}]


def lines(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def load(path, **options):
    return load_prompts(path, label="harmless", **options)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv"])
@pytest.mark.parametrize(
    ("column", "turns"),
    [
        ("messages", lambda text: [user(text), OK]),
        ("Messages", lambda text: [user([{"type": "text", "text": text}])]),
        ("conversations", lambda text: turns_of("human", text)),
        ("conversation", lambda text: [{"from": "gpt", "value": "Hi"}, *turns_of("user", text)]),
        ("prompt", lambda text: [user(text)]),
        ("chosen", lambda text: [user(text), OK]),
        ("dialog", lambda text: [{"role": "User", "content": text}, {**OK, "content": None}]),
    ],
)  # fmt: skip
def test_of_a_conversation_the_users_first_turn_is_the_prompt(tmp_path, suffix, column, turns):
    path = tmp_path / f"chats{suffix}"
    frame = pd.DataFrame({column: [turns(text) for text in ASK]})
    match suffix:
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".json":
            frame.to_json(path, orient="columns")
        case ".parquet":
            frame.to_parquet(path)
        case ".csv":
            frame.to_csv(path, index=False)
    prompts = load(path)
    assert prompts.texts == ASK
    assert "notes" not in prompts.provenance


def test_what_is_not_taken_is_counted(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        {"messages": [SYSTEM, user("one"), OK, user("two"), OK]},
        {"messages": [user("three"), OK]},
    )
    prompts = load(path)
    assert prompts.texts == ("one", "three")
    assert prompts.provenance["notes"] == [
        "1 of 2 rows: only the first of the user's turns kept",
        "1 of 2 rows: a system prompt left out",
    ]
    assert prompts.split(1, 0)[0].provenance["notes"] == prompts.provenance["notes"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [SYSTEM, OK]}, "row 1: the conversation has no turn of the user .found syst"),
        ({"messages": [user([{"type": "image", "url": "x"}])]}, r"a part that is not text \(image"),
        ({"messages": [user("")]}, "row 1: the text is empty"),
        ({"messages": [user(None)]}, "row 1: the text is missing"),
        ({"messages": []}, r"row 1: \[\] is not text, and no conversation either: expected turns"),
        ({"prompt": ["x"]}, r"row 1: \['x'\] is not text, and no conversation either"),
        ({"prompt": "[{'role': 'user' 'content'"}, "begins like a conversation .* Save the data a"),
        ({"text": "<user>a", "messages": [user("a")]}, "several columns that may hold the text: t"),
    ],
)  # fmt: skip
def test_a_conversation_without_a_request_is_refused(tmp_path, row, message):
    with pytest.raises(PromptError, match=message):
        load(lines(tmp_path / "a.jsonl", row))


def test_a_prompt_beside_its_own_conversation_is_no_contradiction(tmp_path):
    rows = [{"prompt": text, "messages": [user(text), OK]} for text in ASK]
    assert load(lines(tmp_path / "a.jsonl", *rows)).texts == ASK
    rows = [{"role": role, "text": "hi", "id": role} for role in ("prompter", "assistant")]
    with pytest.raises(PromptError, match=r"every row is one turn .*: role holds assistant. Keep"):
        load(lines(tmp_path / "turns.jsonl", *rows))
    assert load(lines(tmp_path / "first.jsonl", rows[0])).texts == ("hi",)
    with pytest.raises(PromptError, match="holds one conversation, 2 turns"):
        load(lines(tmp_path / "one.json", [user("a"), OK]))


@pytest.mark.parametrize(
    ("text", "context"),
    [("instruction", "input"), ("instruction", "context"), ("INSTRUCTION", "Input"),
     ("question", "context"), ("Behavior", "ContextString")],
)  # fmt: skip
def test_an_instruction_keeps_its_input(tmp_path, text, context):
    path = tmp_path / "a.json"
    rows = [{text: "Sum up.", context: " The cat sat.\n"}, {text: "Name a colour.", context: ""}]
    path.write_text(json.dumps([*rows, {text: "Count.", context: "<noinput>"}]))
    prompts = load(path)
    assert prompts.texts == ("Sum up.\n\nThe cat sat.", "Name a colour.", "Count.")
    assert prompts.provenance["notes"] == [
        f"1 of 3 rows: {text} and {context} joined, a blank line between them"
    ]
    assert load(path, text_column=text).texts == prompts.texts
    assert load(path, context_column="").texts[0] == "Sum up."


def test_what_goes_with_an_instruction_otherwise(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        {"instruction": "And now?", "history": [["a", "b"]], "system": ""},
        {"instruction": "One", "history": [], "system": "Be brief."},
    )
    prompts = load(path)
    assert prompts.texts == ("One",) and prompts.ids == ("a-0002",)
    assert prompts.provenance["notes"] == [
        "1 of 2 rows: a system prompt left out",
        "1 of 2 rows: left out, for by history they go on from earlier turns",
    ]
    both = {"instruction": "Sum", "input": "x", "context": "y", "more": 3}
    with pytest.raises(PromptError, match=r"may hold the context: input, context. Pass context_co"):
        load(lines(tmp_path / "b.jsonl", both))
    with pytest.raises(PromptError, match=r"row 1: the more is 3 \(int\), not text"):
        load(lines(tmp_path / "b.jsonl", both), context_column="more")
