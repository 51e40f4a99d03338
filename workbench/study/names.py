"""How the files of a run are called, what each is made from, and which settings it hangs on."""

STUDY = "study.json"
LEDGER = "ledger.json"
TEXTS = "prompt_texts.jsonl"
PROMPTS = "prompts.json"
DIRECTIONS = "directions.safetensors"
SCORES = "scores.safetensors"
DIRECTION = "direction.safetensors"
CANDIDATES = "candidates.csv"
REPLIES = "replies.jsonl"
EFFECTS = "effects.safetensors"
HELD_OUT = "held_out.safetensors"
CONTROLS = "controls.safetensors"
FIGURES = "figures"
FIGURE_KINDS = ("html", "json", "png")
CATEGORY_DIRECTIONS = "category_directions.safetensors"
RESAMPLED_DIRECTIONS = "category_directions_resampled.safetensors"
ANALYSES_FOLDER = "analyses"
HEADS_FOLDER = "heads"
VERIFICATION = "verification.safetensors"

MADE_FROM = {
    VERIFICATION: (),
    TEXTS: (),
    PROMPTS: (),
    DIRECTIONS: (PROMPTS,),
    SCORES: (PROMPTS, DIRECTIONS),
    DIRECTION: (DIRECTIONS, SCORES),
    CANDIDATES: (SCORES,),
    HELD_OUT: (PROMPTS, DIRECTIONS, SCORES, DIRECTION),
    REPLIES: (PROMPTS, DIRECTION),
    EFFECTS: (PROMPTS, DIRECTION, REPLIES),
    CONTROLS: (PROMPTS, DIRECTIONS, DIRECTION, REPLIES, EFFECTS),
    CATEGORY_DIRECTIONS: (PROMPTS,),
}
"""The main results, in the order in which they are made; those of analyses say it themselves."""

FREE = frozenset({"device", "dtype", "batch_tokens", "max_bytes", "max_rows", "top_k", "analyses"})
"""Settings on which no result hangs; what dtype comes to is in the provenance, as the weights are.

By default it is another one on another device.
"""

_BEFORE_ANSWERS = frozenset({VERIFICATION, TEXTS})
_BEFORE_SELECTION = _BEFORE_ANSWERS | {PROMPTS, DIRECTIONS, SCORES, CATEGORY_DIRECTIONS}
_SOURCES = ("prompts", "harmful", "harmless", "borderline", "split", "label_values", "seed")
_COLUMNS = tuple(f"{what}_column" for what in ("text", "category", "label", "id", "context"))
_NUMBERS = ("n_train", "n_validation", "n_test")
_ANSWERS = ("refusal_words", "max_new_tokens", "max_thinking_tokens")
UNTOUCHED_BY = {
    **dict.fromkeys((*_SOURCES, *_COLUMNS, *_NUMBERS), frozenset({VERIFICATION})),
    **dict.fromkeys(_ANSWERS, _BEFORE_ANSWERS),
    "kl_cap": _BEFORE_SELECTION,
    "induce_floor": _BEFORE_SELECTION,
    "skip_last": _BEFORE_SELECTION,
    "t_inst": frozenset({VERIFICATION, *MADE_FROM}) - {CATEGORY_DIRECTIONS},
}
"""Results that do not hang on a setting or, of the provenance, the prompts; others hang on all."""

SELECTED = frozenset({TEXTS, DIRECTION, CANDIDATES, HELD_OUT})
"""Results that are made again in no time, so that they lock no setting."""


PLACE = (PROMPTS, DIRECTION)
"""What hangs on the chosen direction and its place is made from."""


def result_name(result: str) -> str:
    """The file of a result of an analysis, in the run's folder."""
    return f"{ANALYSES_FOLDER}/{result}.safetensors"
