import gzip
import json

import numpy as np
import pandas as pd
import pytest

from workbench.errors import PromptError
from workbench.intake.limits import shortened
from workbench.prompts.files import SUFFIXES, Table, read_table
from workbench.prompts.sources import load_prompts

ROWS = [{"text": "Bake bread.", "n": "1"}, {"text": 'Say "a, b"\nand c', "n": "NA"}]


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet", ".JSON"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = tmp_path / f"prompts{suffix}"
    frame = pd.DataFrame(ROWS)
    match suffix.lower():
        case ".csv":
            frame.to_csv(path, index=False)
        case ".json":
            path.write_text(json.dumps({"data": ROWS}))
        case ".jsonl":
            path.write_text("\n\n".join(map(json.dumps, ROWS)))
        case ".parquet":
            frame.to_parquet(path)
    table = read_table(path)
    assert table.rows == ROWS
    assert table.columns == ("text", "n") and table.origin == str(path)


def test_plain_texts(tmp_path):
    for name, content in {
        "a.txt": "one\u2028line\r\n\ntwo\n",
        "a.json": '\ufeff["one\\u2028line", "two"]',
        "a.jsonl": '"one\u2028line"\n"two"\n',
    }.items():
        texts = [row["text"].strip() for row in read_table(written(tmp_path / name, content)).rows]
        assert texts == ["one\u2028line", "two"]


def test_text_is_read_by_its_mark_and_unpacked(tmp_path):
    content = "prompt,category\nBäcke Brot,Küche\n"
    for name, packed in {
        "a.csv": content.encode("utf-16"),
        "b.csv": ("\ufeff" + content).encode("utf-16-be"),
        "c.csv": content.encode("utf-32"),
        "d.csv.gz": gzip.compress(content.encode()),
    }.items():
        rows = read_table(written(tmp_path / name, packed)).rows
        assert rows == [{"prompt": "Bäcke Brot", "category": "Küche"}]
    assert load_prompts(tmp_path / "d.csv.gz", label="harmless").ids == ("d-0001",)


def test_nothing_is_converted(tmp_path):
    content = '\ufefftext,n\r\nnull,007\r\n"a\r\nb",\r\n2024-01-01,\r\n'
    rows = read_table(written(tmp_path / "a.csv", content)).rows
    assert rows == [
        {"text": "null", "n": "007"},
        {"text": "a\r\nb", "n": ""},
        {"text": "2024-01-01", "n": ""},
    ]
    content = '{"text": "2024-01-01", "date": "2024-01-01", "n": "007"}\n{"text": 5}'
    rows = read_table(written(tmp_path / "a.jsonl", content)).rows
    assert rows == [{"text": "2024-01-01", "date": "2024-01-01", "n": "007"}, {"text": 5}]


def test_what_is_missing_is_none(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["a", None], "n": [1.5, float("nan")]}).to_parquet(path)
    assert read_table(path).rows == [{"text": "a", "n": 1.5}, {"text": None, "n": None}]


def test_a_very_long_prompt_and_a_nul_are_text(tmp_path):
    long = "word " * 400_000 + "\0end"
    for name, content in {"a.csv": f"text\n{long}\n", "a.json": json.dumps([long])}.items():
        assert read_table(written(tmp_path / name, content)).rows == [{"text": long}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty."),
        ("a.json", b" \n ", "a.json is empty."),
        ("a.csv", b"text,label\n", "a.csv holds no prompts."),
        ("a.json", b"[]", "a.json holds no prompts."),
        ("a.csv", b"text\n\xe9t\xe9\n", r"not UTF-8 text \(byte 0xe9 at offset 5\). Save it as"),
        ("a.csv", "text\nx\n".encode("utf-16-le"), "looks like UTF-16 without its mark. Save it"),
        ("a.csv", "text\nx\n".encode("utf-16-be"), "looks like UTF-16 without its mark. Save it"),
        ("a.csv", "text\nx\n".encode("utf-16")[:-1], "not UTF-8 text"),
        ("a.csv", np.random.default_rng(0).bytes(400), "not UTF-8 text"),
        ("a.csv", b'text\n"never closed\n', "not a proper CSV file: .*EOF inside string"),
        ("a.csv", b"text,n\na,b\nc,d,e\n", "not a proper CSV file: expected 2 fields in line 3"),
        ("a.csv", b"text,n\na,b,c\nd,e,f\n", "not a proper CSV file: expected 2 fields in line 2"),
        ("a.json", b'[{"text": "a"}', "not proper JSON: Expecting"),
        ("a.json", b"[" * 100_000, "a.json nests its values too deep"),
        ("a.json", b"[" + b"9" * 5000 + b"]", "not proper JSON: Exceeds the limit"),
        ("a.json", b'{"text": "a"}\n{"text": "b"}', "For one object a line, name the file .jsonl"),
        ("a.json", b'{"a": "b"}', "JSON of another shape. Expected a list of objects"),
        ("a.json", b'["a", {"text": "b"}]', "JSON of another shape."),
        ("a.json", b"[1, 2]", "JSON of another shape."),
        ("a.jsonl", b'{"text": "a"}\n\n{"text"\n', "a.jsonl line 3 is not proper JSON"),
        ("a.parquet", b"PAR1 and then nothing", "broken or not a Parquet file: .*Download it aga"),
        ("a.jsonl", b'["a", "b"]', "a.jsonl is one list and not one object a line. Name the file"),
        ("a.jsonl", b'[{"text":\n"a"}]', "For one document over several lines, name the file .jso"),
        ("a.doc", b"x", r"not a known kind of file: .csv, .json, .jsonl, .parquet, .txt"),
        ("a.xlsx", b"x", r"a spreadsheet and not a known .* Save the sheet as 'CSV UTF-8'"),
        ("a.zip", b"x", r"is packed and not a known kind of file: .* Unpack it first"),
        ("a.csv.zst", b"x", r"is packed and not a known kind of file"),
        ("a.csv.gz", b"text\nx\n", r"a.csv.gz cannot be unpacked: Not a gzipped file"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "Run: git lfs pull"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, message):
    path = written(tmp_path / name, content)
    with pytest.raises(PromptError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_parquet_file_is_refused(tmp_path, damage):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["a", "b"] * 50}).to_parquet(path)
    whole = path.read_bytes()
    for place in range(8, len(whole) - 1, 97):
        flipped = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        path.write_bytes(whole[:place] if damage == "cut" else flipped)
        try:
            assert read_table(path).columns
            assert damage == "flip"
        except PromptError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(PromptError, match=r"is a folder. Pass a file in it"):
        read_table(tmp_path)
    for name in ("none.csv", "none", "none/none.json"):
        with pytest.raises(PromptError, match=f"no file .*{name}. Check the path."):
            read_table(tmp_path / name)
    with pytest.raises(PromptError, match=r"cannot read .* embedded null"):
        read_table("a\0b.csv")
    with pytest.raises(PromptError, match=r"cannot read .*File name too long"):
        read_table("a" * 400 + ".csv")


def test_columns_are_found_by_name():
    table = Table.of("the file", [{"Goal": "x", "Behavior": "y"}, {"Category": "z"}])
    assert table.columns == ("Goal", "Behavior", "Category")
    assert table.find("category", None, ["category"]) == "Category"
    assert table.find("id", None, ["id"]) is None
    assert table.find("text", "goal", []) == "Goal"
    assert table.find("text", None, ["behavior", "goal"], prefer_first=True) == "Behavior"
    with pytest.raises(PromptError, match=r"the file has several columns .* the text: Goal, Behav"):
        table.find("text", None, ["goal", "behavior"])
    message = r"no column 'goals': 'Goal', 'Behavior', 'Category'. Did you mean 'Goal'\?"
    with pytest.raises(PromptError, match=message):
        table.find("text", "goals", ["goal"])
    with pytest.raises(PromptError, match=r"no column for the text \(looked for text, prompt\)"):
        table.require("text", None, ["text", "prompt"])


def test_two_spellings_of_one_name_are_ambiguous_unless_given_exactly():
    table = Table.of("the file", [{"Text": "x", "text": "y"}])
    assert table.find("text", "Text", []) == "Text"
    with pytest.raises(PromptError, match="several columns"):
        table.find("text", None, ["text"])


def test_somebody_elses_message_becomes_one_sentence():
    assert shortened("a\n  b.") == "a b."
    assert shortened("\x1b]0;title\x07\u2028a") == "]0;title a."
    assert shortened(ValueError()) == "ValueError."
    assert len(shortened("x" * 1000)) < 210
    assert set(SUFFIXES) == {".csv", ".json", ".jsonl", ".parquet", ".txt", ".tsv"}


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n", "\r\r\n"])
def test_lines_end_as_those_of_any_system(tmp_path, end):
    path = written(tmp_path / "a.txt", end.join(["Bake", "Sew", "", "Sing"]))
    assert load_prompts(path, label="harmless").texts == ("Bake", "Sew", "Sing")
    bad = written(tmp_path / "b.jsonl", end.join(['{"text": "Bake"}', "", "{"]))
    line = 5 if end == "\r\r\n" else 3
    with pytest.raises(PromptError, match=rf"b.jsonl line {line} is not proper JSON"):
        load_prompts(bad, label="harmless")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_key_that_stands_twice_is_refused(tmp_path, name):
    path = written(tmp_path / name, '{"text": "Bake", "text": "Sew"}')
    with pytest.raises(PromptError, match=r"one object has two values under the key 'text'"):
        load_prompts(path, label="harmless")
