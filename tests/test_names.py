"""Any text becomes the name of one file in one folder, and paths leave without their folders."""

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.names import distinct_names, file_only, folder_name, safe_name, without_folders

HOSTILE = (
    "", ".", "..", "...", "/", "a/..", "a/.", "../../x", "a\\..\\b", "C:\\x", "~", "~/x", "-rf",
    ".hidden", "con", "CON.txt", "nul", "com1.tar.gz", "LPT9", "a" * 999, "模" * 200, "a\x00b",
    "a\nb", "a:b", "a b", "x.", "x ", "\u202egpj", "\ud800", "COM\u00b9", "a\uff0fb", "a|b?c*<d>",
)  # fmt: skip
texts = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(HOSTILE)


@given(texts)
def test_any_text_is_one_file_in_its_folder_on_every_system(text):
    for name in (safe_name(text), folder_name(text), *distinct_names([text], [text])):
        assert Path(name).parts == (name,) == PureWindowsPath(name).parts
        assert name not in (".", "..") and not name.startswith((".", "-")) and name[-1] != "."
        assert (
            name.isprintable() and not set(name) & set(' \\/:*?"<>|') and len(name.encode()) < 128
        )
        reserved = {
            "con",
            "prn",
            "aux",
            "nul",
            *(f"{x}{n}" for x in ("com", "lpt") for n in "0123"),
        }
        assert name.split(".")[0].casefold() not in reserved


@given(st.lists(texts | texts.map(safe_name), unique=True, max_size=6))
def test_different_texts_get_different_names(own):
    assert len({safe_name(each) for each in own}) == len(own)
    folders = distinct_names(own, ["published"])
    assert len({each.casefold() for each in (*folders, "published")}) == len(own) + 1


def test_ordinary_names_stay():
    for name in ("pocket-two", "Qwen2.5-1.5B-Instruct", "gemma_2b+it", "modèle"):
        assert safe_name(name) == name == folder_name(f"owner/{name}")
    assert len(set(distinct_names(["Pocket", "pocket", "x/published"], ["published"]))) == 3
    assert distinct_names(["a", "a"])[0] == distinct_names(["a", "a"])[1]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("harmful", "harmful"),
        ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B"),
        ("/home/me/chat", "chat"),
        ("~/secret/x.csv", "x.csv"),
        ("../secret/x", "x"),
        ("C:\\Users\\me\\x.txt", "x.txt"),
        ("data/x.jsonl.gz", "x.jsonl.gz"),
        ("home/me/x", "x"),
        ("advbench=/home/me/x.csv", "advbench=x.csv"),
        ("/home/me/a=b/x.csv", "x.csv"),
        ("/", "/"),
    ],
)
def test_a_path_is_shown_by_its_last_name(given, shown):
    assert file_only(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("refused/complied at 1/2, see https://host/a/b", None),
        ("no file /home/me/x.csv.", "no file x.csv."),
        ("(~/runs/a/x.csv: broken)", "(x.csv: broken)"),
        ("'/home/my name/x.csv' is", "'x.csv' is"),
        ('File "C:\\Users\\me\\x.py"', 'File "x.py"'),
    ],
)
def test_paths_in_words_lose_their_folders(given, shown):
    assert without_folders(given) == (shown or given)
