"""Names from data as names of files and folders, and paths as a reader may see them.

A model's name, a category or a folder of somebody else's run is text that anybody wrote. What
becomes part of a path goes through `safe_name`, `folder_name` or `distinct_names`; what leaves the
machine in a report or a figure goes through `file_only` or `without_folders`.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_LONGEST = 96
"""Bytes of a name before its mark: with that, an ending and a temporary name, any system takes it.
"""
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\.|$)", re.IGNORECASE)
_MARKED = re.compile(r"-[0-9a-f]{8}$")
_SEPARATORS = re.compile(r"[\\/]+")
_FILES = (
    ".csv", ".gguf", ".gz", ".j2", ".jinja", ".jinja2", ".json", ".jsonl", ".parquet", ".pt",
    ".safetensors", ".tsv", ".txt",
)  # fmt: skip
_PATHS = re.compile(
    r"""(?P<quote>['"])(?P<quoted>(?:~|[A-Za-z]:)?[\\/][^'"\n]*)(?P=quote) |
    (?<![\w./~\\-])(?!(?<=:)//)(?P<bare>(?:~|[A-Za-z]:)?(?:[\\/]+[^\s\\/'"<>|*?]+){2,})""",
    re.VERBOSE,
)


def safe_name(text: str) -> str:
    """A name that is one file or folder on every system, made of any text.

    Never empty, without separators, not ``.``, ``..``, hidden or reserved, and of bounded length.
    Letters, digits, ``.``, ``_``, ``+`` and ``-`` stay. A text that has to be changed gets a mark
    of eight digits, so that two texts never get one name.

    >>> safe_name("Qwen2.5-1.5B"), safe_name("..")
    ('Qwen2.5-1.5B', 'unnamed-5ec1f7e7')
    """
    known = unicodedata.normalize("NFKC", text)
    cleaned = re.sub(r"[^\w.+-]+", "-", known).strip("-.")
    cleaned = cleaned.encode()[:_LONGEST].decode(errors="ignore").strip("-.")
    if _RESERVED.match(cleaned):
        cleaned = f"_{cleaned}"
    if cleaned == text and cleaned and not _MARKED.search(cleaned):
        return cleaned
    return _marked(cleaned or "unnamed", text)


def folder_name(model: str) -> str:
    """The folder for what belongs to a model: the last part of its name, made safe.

    >>> folder_name("Qwen/Qwen2.5-1.5B"), folder_name("models/own/")
    ('Qwen2.5-1.5B', 'own')
    """
    return safe_name(_last_part(model) or model)


def distinct_names(models: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A folder for each model: different ones where models differ, also where case counts nothing.

    Args:
        models: names; equal ones get equal folders.
        taken: folders that are for something else.

    >>> distinct_names(["pocket", "a/chat", "b/chat"])
    ['pocket', 'chat-6a0102fe', 'chat-50aef4c4']
    """
    short = {model: folder_name(model) for model in models}
    used = Counter(name.casefold() for name in (*short.values(), *taken))
    return [
        short[model] if used[short[model].casefold()] == 1 else _marked(short[model], model)
        for model in models
    ]


def file_only(text: str) -> str:
    """A path without its folders; names of the Hub and of what is built in stay as they are.

    >>> [file_only(each) for each in ("/home/me/a.csv", "advbench=../a.csv", "Qwen/Qwen2.5")]
    ['a.csv', 'advbench=a.csv', 'Qwen/Qwen2.5']
    """
    known = re.fullmatch(r"(\w+=)(.+)", text, re.DOTALL)
    if known:
        return known[1] + file_only(known[2])
    is_path = (
        re.match(r"[\\/.~]|[A-Za-z]:[\\/]", text)
        or "\\" in text
        or text.count("/") > 1
        or text.lower().endswith(_FILES)
    )
    return (_last_part(text) or text) if is_path else text


def without_folders(text: str) -> str:
    r"""Words with every whole path in them cut down to the name of its file.

    >>> without_folders("no file /home/me/runs/a.csv. Check 'C:\\my files\\b.csv'.")
    "no file a.csv. Check 'b.csv'."
    """

    def cut(found: re.Match[str]) -> str:
        quote = found["quote"] or ""
        path = found["quoted"] or found["bare"]
        return f"{quote}{_last_part(path) or path}{quote}"

    return _PATHS.sub(cut, text)


def _last_part(path: str) -> str:
    """The last part of a path that names anything, of whatever system; "" where none does."""
    parts = [part for part in _SEPARATORS.split(path) if part not in ("", ".", "..")]
    return parts[-1] if parts else ""


def _marked(name: str, text: str) -> str:
    """A name with eight hex digits of the SHA-256 of the text that it stands for."""
    return f"{name}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
