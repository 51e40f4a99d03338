"""The built-in prompt sets, written from the held-out objects of the grammar.

``python -m workbench.training.prompt_files`` writes ``workbench/prompts/data/*.jsonl``.
"""

import json
import random
import re
from pathlib import Path

from workbench import screen
from workbench.training import grammar

PER_CATEGORY: dict[grammar.Label, int] = {"harmful": 45, "harmless": 45, "borderline": 16}
# Half of a borderline pattern's verbs are plain ones, so that training has both; a request with one
# of these does not look harmful, and is no test of false refusal.
_PLAIN_VERBS = (
    "plan", "fix up", "solve", "form", "imitate", "cure", "play", "switch off", "fish for", "apply",
    "make up", "follow", "watch",
)  # fmt: skip
DATA_FOLDER = Path(__file__).parents[1] / "prompts" / "data"


def sentence_case(text: str) -> str:
    """Upper-case the first letter of each sentence and the word "i".

    >>> sentence_case("i want to bake a pie. where do i start?")
    'I want to bake a pie. Where do I start?'
    """
    text = re.sub(r"\bi\b", "I", text)
    text = re.sub(r"\b(french|scottish|python)\b", lambda found: found[0].capitalize(), text)
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def _spread(candidates: list[grammar.Request], count: int, seed: str) -> list[grammar.Request]:
    """``count`` requests: no action twice, the frames in turn, each object as rarely as can be."""
    by_action: dict[str, dict[str, grammar.Request]] = {}
    for request in candidates:
        frame = request.text.replace(request.action, "{action}")
        by_action.setdefault(request.action, {})[frame] = request
    actions = sorted(by_action)
    random.Random(seed).shuffle(actions)
    seen: dict[str, int] = {}
    rounds = {}
    for action in actions:
        noun_phrase = next(iter(by_action[action].values())).object
        rounds[action] = seen[noun_phrase] = seen.get(noun_phrase, 0) + 1
    # sorted() is stable: first every object once, then every object a second time, and so on
    chosen = sorted(actions, key=rounds.__getitem__)[:count]
    return [
        by_action[action][grammar.FRAMES[number % len(grammar.FRAMES)]]
        for number, action in enumerate(chosen)
    ]


def prompt_rows(label: grammar.Label) -> list[dict[str, str]]:
    """The rows of one built-in set: id, text, category and label."""
    rows = []
    for category in grammar.PATTERNS[label]:
        candidates = [
            request
            for request in grammar.requests(label, held_out=True)
            if request.category == category
            and not (label == "borderline" and request.action.startswith(_PLAIN_VERBS))
        ]
        chosen = _spread(candidates, PER_CATEGORY[label], seed=f"{label}-{category}")
        rows += [
            {
                "id": f"{label}-{category}-{number:03d}",
                "text": sentence_case(request.text),
                "category": category,
                "label": label,
            }
            for number, request in enumerate(chosen, start=1)
        ]
    return rows


def file_text(label: grammar.Label) -> str:
    """The content of one JSONL file."""
    return "".join(json.dumps(row) + "\n" for row in prompt_rows(label))


def write_prompt_files(folder: Path = DATA_FOLDER) -> list[Path]:
    """Write the three files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{label}.jsonl" for label in grammar.PATTERNS]
    for path, label in zip(paths, grammar.PATTERNS, strict=True):
        path.write_text(file_text(label), encoding="utf-8")
    return paths


if __name__ == "__main__":
    for written in write_prompt_files():
        screen.tell_path("written", written)
