"""Study: everything that decides a result, in one frozen record."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.arguments import check_fields
from workbench.errors import StudyError
from workbench.intake.records import as_record
from workbench.study.analyses import analyses_help, chosen_analyses

_CHOICES = {
    "estimator": ("mean_difference", "pca_direction", "probe_direction"),
    "site": ("resid_pre", "attn_out", "mlp_out"),
    "judge": ("rules", "substring"),
    "score_after": ("prompt", "thinking"),
}


def _setting(default: Any, explained: str) -> Any:
    """A field with its explanation, which the command line shows too."""
    return field(default=default, metadata={"help": explained})


@dataclass(frozen=True)
class Study:
    """Settings of one study; equal settings on equal weights give equal results.

    Every field is an option of ``workbench run`` under the same name; its ``help`` metadata, which
    ``workbench run --help`` prints, says what it means.

    Raises:
        StudyError: a setting is out of range.

    >>> Study(n_train=64).n_train
    64
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    model: str = _setting("pocket", "Organism, Hub id or folder.")
    harmful: str = _setting(
        "harmful",
        "Harmful prompts: built-in set, benchmark or NAME=FILE of it, file, folder, Hub data set.",
    )
    harmless: str = _setting("harmless", "Harmless prompts, from the same kinds of sources.")
    borderline: str = _setting(
        "borderline", "Borderline prompts, from the same kinds of sources; '' for none."
    )
    text_column: str | None = _setting(
        None, "Column of the text, in the files that have it; several with commas between."
    )
    category_column: str | None = _setting(
        None, "Column of the category, in the files that have it; several with commas between."
    )
    label_column: str | None = _setting(
        None,
        "Column of the label, in the files that have it; of a file with labels only the rows are "
        "used that are labelled as its option says. '' ignores labels: all rows are used.",
    )
    id_column: str | None = _setting(
        None, "Column of the ids, in the files that have it; several with commas between."
    )
    context_column: str | None = _setting(
        None,
        "Column of what follows the text; by default input or context, as in Alpaca's and Dolly's "
        "rows; '' for none.",
    )
    split: str | None = _setting(
        None, "Split to read, of folders, Hub data sets and JSON files that have several."
    )
    n_train: int = _setting(128, "Prompts of either kind that the direction is estimated on.")
    n_validation: int = _setting(32, "Prompts of either kind that candidates are scored on.")
    n_test: int = _setting(64, "Most prompts of each kind that are answered at the end.")
    estimator: str = _setting("mean_difference", "How the direction is estimated.")
    site: str = _setting("resid_pre", "Where activations are read: resid_pre, attn_out, mlp_out.")
    system: str | None = _setting(None, "System prompt for every request.")
    refusal_words: str | None = _setting(
        None, "Words that begin refusals, with commas between; by default found in the replies."
    )
    kl_cap: float = _setting(0.1, "Largest KL of a candidate on harmless prompts, in nats.")
    induce_floor: float = _setting(0.0, "Smallest refusal score of a candidate's addition, nats.")
    skip_last: float = _setting(0.2, "Share of the layers, from the last, that is not chosen.")
    top_k: int = _setting(5, "How many candidates the table shows.")
    judge: str = _setting("rules", "How replies are judged: rules or substring.")
    max_new_tokens: int = _setting(48, "Longest reply, in tokens.")
    analyses: str = _setting("default", analyses_help())
    confidence: float = _setting(0.95, "Confidence of every interval.")
    seed: int = _setting(0, "Seed of splits and of the bootstrap.")
    device: str | None = _setting(None, "Device; by default the GPU if there is one.")
    dtype: str | None = _setting(None, "Weight type; by default bfloat16 on a GPU, else float32.")
    revision: str | None = _setting(None, "Branch, tag or commit of a Hub id.")
    chat_template: str | None = _setting(
        None, "Jinja file, or the name of one of the tokenizer's own templates."
    )
    thinking: bool | None = _setting(
        None, "Whether the model thinks, where its template has a switch; by default as it has it."
    )
    date: str | None = _setting(
        None, "Day, such as 2026-01-31, that a template writes; by default that of the run's start."
    )
    score_after: str = _setting(
        "prompt",
        "Where first tokens are scored: after the prompt, or after the model's own closed thinking "
        "block (thinking), which it writes first.",
    )
    max_thinking_tokens: int = _setting(1024, "Longest thinking block that is waited for.")
    batch_tokens: int = _setting(8192, "Most tokens in one batch; lower it if memory runs out.")
    max_bytes: int | None = _setting(
        None, "Most bytes of a file that is read, also once unpacked; by default 512 MiB."
    )
    max_rows: int | None = _setting(None, "Most rows of a file of prompts; by default 1,000,000.")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("harmful", "harmless", "borderline"):
            if not isinstance(getattr(self, name), str):
                raise StudyError(
                    f"{name} must be the name of a source of prompts, found "
                    f"{getattr(self, name)!r:.80}. Pass a built-in set, a file or a data set."
                )
        for name in (
            "n_train",
            "n_validation",
            "n_test",
            "top_k",
            "max_new_tokens",
            "max_thinking_tokens",
        ):
            if getattr(self, name) < 1:
                raise StudyError(f"{name} must be at least 1, found {getattr(self, name)}.")
        if not 0 <= self.skip_last < 1:
            raise StudyError(f"skip_last must be in [0, 1), found {self.skip_last}.")
        if not 0 < self.confidence < 1:
            raise StudyError(f"confidence must be between 0 and 1, found {self.confidence}.")
        if self.thinking not in (None, True, False):
            raise StudyError(f"thinking must be true, false or not set, found {self.thinking!r}.")
        for name in ("kl_cap", "induce_floor"):
            if not math.isfinite(getattr(self, name)):
                raise StudyError(f"{name} must be a finite number, found {getattr(self, name)}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise StudyError(f"no {name} {getattr(self, name)!r}: {', '.join(choices)}.")
        chosen_analyses(self.analyses)

    def to_json(self) -> str:
        """The settings as sorted JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Study":
        """The settings that `to_json` wrote.

        Raises:
            StudyError: unknown or malformed settings.
        """
        return as_record(text, "the settings of a study", cls, StudyError)
