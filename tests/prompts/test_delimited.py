"""Tables in text: the delimiter is read off the column names, never off prose."""

import csv

import pytest

from workbench.errors import PromptError
from workbench.prompts.sources import load_prompts

BOTH = ("Bake bread, then eat it", "food")


def read(path, content, **options):
    path.write_bytes(content.encode())
    prompts = load_prompts(path, label="harmless", **options)
    return prompts.texts[0], prompts.categories[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'prompt,category\n"Bake bread, then eat it",food\n'),
        ("a.csv", "\ufeffprompt;category\r\nBake bread, then eat it;food\r\n"),
        ("a.csv", "prompt\tcategory\nBake bread, then eat it\tfood\n"),
        ("a.csv", "category|prompt\nfood|Bake bread, then eat it\n"),
        ("a.tsv", "prompt\tcategory\r\nBake bread, then eat it\tfood\r\n"),
        ("a.tsv", 'prompt,category\n"Bake bread, then eat it",food\n'),
        ("a.csv", "sep=;\r\nprompt;category\r\nBake bread, then eat it;food\r\n"),
        ("a.csv", '"sep=,"\r\nprompt,category\r\n"Bake bread, then eat it",food\r\n'),
        ("a.csv", "SEP=\t\r\nprompt\tcategory\r\nBake bread, then eat it\tfood\r\n"),
        ("a.csv", "\n\nprompt;category\nBake bread, then eat it;food\n"),
        ("a.csv", "note, mine;prompt;category\nx;Bake bread, then eat it;food\n"),
        ("a.csv", 'id, prompt, category\n1,"Bake bread, then eat it",food\n'),
    ],
)
def test_every_dialect_gives_the_same_prompt(tmp_path, name, content):
    assert read(tmp_path / name, content) == BOTH


def test_marks_in_a_text_do_not_cut_it(tmp_path):
    for text in ("Bake; then eat", "Bake | eat", "Bake\tand eat", "a;b;c"):
        assert read(tmp_path / "a.csv", f"prompt\n{text}\n") == (text, "unspecified")
    # The name of the one column holds what could be a delimiter.
    found = read(tmp_path / "a.csv", "ask; in words\nBake bread\n", text_column="ask; in words")
    assert found[0] == "Bake bread"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Bake bread\nSew\n", r"Columns: 'Bake bread'\. Its first line was taken for .* no header; "
         r"put one before it \(such as text\)"),
        ("Bake bread,food\nSew,craft\n", r"no header; put one before it \(such as text,category\)"),
        ("prompt\nBake bread, then eat it\n", "taken to be separated by commas; a text that holds"),
        ("prompt;category\nBake; eat;food\n", "separated by semicolons; a text that holds one,"),
        ("prompt,category\nBake\nbread,food\n", "expected 2 fields in line 2, .* found 1 field."),
        ('sep=;\n\nprompt;category\n\n"a\nb";c\nd;e;f\n', "expected 2 fields in line 7, .* found"),
        ('prompt,category\na,b\n"c,d\ne,f\n', "a double quote in line 3 is never closed"),
        ("sep=ab\nprompt\nx\n", "begins with Excel's line 'sep=ab', .* Take the line out"),
        ("prompt,prompt\nx,y\n", "has two columns of one name: 'prompt'. Rename one"),
        ("a;b|c\nx;y|z\n", "cannot tell what separates the columns .* semicolons or bars"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_names_its_cause(tmp_path, content, message):
    with pytest.raises(PromptError, match=message) as caught:
        read(tmp_path / "a.csv", content)
    assert "\n" not in str(caught.value)


def test_plain_text_with_column_names_on_top_is_a_table(tmp_path):
    for header in ("prompt\tcategory", "text", "Text;Label"):
        with pytest.raises(PromptError, match=r"one prompt a line, and its first line names col"):
            read(tmp_path / "a.txt", f"{header}\nBake bread\n")
    assert read(tmp_path / "a.txt", "text me\nBake bread\n")[0] == "text me"


def test_rows_after_a_long_field_are_counted_as_well(tmp_path):
    """The reader of `csv` stops at 131,072 characters unless it is told otherwise."""
    long, before = "x" * 200_000, csv.field_size_limit()
    assert read(tmp_path / "a.csv", f"prompt,category\n{long},food\n") == (long, "food")
    with pytest.raises(PromptError, match=r"expected 2 fields in line 3, .* found 1 field"):
        read(tmp_path / "a.csv", f"prompt,category\n{long},food\nSew\n")
    assert csv.field_size_limit() == before
