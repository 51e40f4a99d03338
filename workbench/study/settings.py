"""Study: everything that decides a result, in one frozen record."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from workbench.arguments import check_fields
from workbench.arguments.words import meant
from workbench.errors import ModelError, PromptError, StudyError
from workbench.models.clock import day
from workbench.positions import InstructionEnd
from workbench.study.registry import analyses_help, chosen_analyses

_CHOICES = {
    "estimator": ("mean_difference", "pca_direction", "probe_direction"),
    "site": ("resid_pre", "attn_out", "mlp_out"),
    "score_after": ("prompt", "thinking"),
    "t_inst": get_args(InstructionEnd),
}
_JUDGES = ("combined", "rules", "classifier", "substring")
_COUNTS = (
    "n_train",
    "n_validation",
    "n_test",
    "top_k",
    "max_new_tokens",
    "max_thinking_tokens",
    "batch_tokens",
)
_NEVER_BLANK = (
    "model",
    "adapter",
    "harmful",
    "harmless",
    "text_column",
    "id_column",
    "split",
    "refusal_words",
    "analyses",
    "device",
    "dtype",
    "revision",
    "chat_template",
    "date",
)
_N_SEEDS = 2**32
"""As many as scikit-learn takes."""


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

    model: str = _setting(
        "pocket", "Organism, Hub id, folder, .gguf file, or adapter that names its base."
    )
    adapter: str | None = _setting(
        None, "PEFT adapter, a folder or Hub id, that is merged into the model in memory."
    )
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
    label_values: str | None = _setting(
        None,
        "What values of the label column mean, where they are others than harmful, unsafe, "
        "harmless, safe and the like: 1=harmful,0=harmless.",
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
    t_inst: str = _setting(
        "last_token",
        "Which token t_inst is, where the tokenizer joins the end of a prompt with the template: "
        "the last that holds a character of the prompt (last_token), or nothing else "
        "(last_whole_token).",
    )
    refusal_words: str | None = _setting(
        None, "Words that begin refusals, with commas between; by default found in the replies."
    )
    kl_cap: float = _setting(0.1, "Largest KL of a candidate on harmless prompts, in nats.")
    induce_floor: float = _setting(0.0, "Smallest refusal score of a candidate's addition, nats.")
    skip_last: float = _setting(0.2, "Share of the layers, from the last, that is not chosen.")
    top_k: int = _setting(5, "How many candidates the table shows.")
    judge: str = _setting(
        "combined",
        "How replies are judged: combined, rules, classifier, substring, or the Hub id or folder "
        "of a text classifier whose labels say what a refusal is.",
    )
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
        for name, value in asdict(self).items():
            stored = str(value).encode(errors="ignore").decode()
            self._require(name, stored == str(value), "UTF-8 text, which alone can be stored")
        for name in _COUNTS:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("max_bytes", "max_rows"):
            value = getattr(self, name)
            self._require(name, value is None or value >= 1, "at least 1")
        self._require("skip_last", 0 <= self.skip_last < 1, "in [0, 1)")
        self._require("confidence", 0 < self.confidence < 1, "between 0 and 1")
        self._require("seed", 0 <= self.seed < _N_SEEDS, f"from 0 to {_N_SEEDS - 1}")
        self._require("kl_cap", 0 <= self.kl_cap < math.inf, "a finite number, at least 0")
        self._require("induce_floor", math.isfinite(self.induce_floor), "a finite number")
        for name in _NEVER_BLANK:
            value = getattr(self, name)
            default = self.__dataclass_fields__[name].default
            remedy = "Leave it out for none." if default is None else f"By default {default!r}."
            self._require(name, value is None or value.strip(), "text that is not blank", remedy)
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            rule = f"one of {', '.join(choices)}"
            self._require(name, value in choices, rule, meant(value, choices))
        self._check_judge()
        if self.refusal_words is not None:
            self._require(
                "refusal_words",
                all(word.strip() for word in self.refusal_words.split(",")),
                "words with commas between",
                "A word that holds a comma cannot be given.",
            )
        self._check_label_values()
        self._check_thinking()
        self._check_loading()
        chosen_analyses(self.analyses)

    def _require(self, name: str, holds: Any, rule: str, remedy: str = "") -> None:
        """Refuses a setting of which a rule does not hold.

        Raises:
            StudyError: names the setting first, so that a command can call it as its option.
        """
        if not holds:
            text = f"{name} must be {rule}, found {getattr(self, name)!r}. {remedy}"
            raise StudyError(text.strip())

    def _check_judge(self) -> None:
        """Refuses a judge that is none; a classifier is only loaded when it judges."""
        if self.judge not in _JUDGES:
            from workbench.scores.judges import could_be_judge

            rule = f"one of {', '.join(_JUDGES)}, a Hub id or the folder of a text classifier"
            known = could_be_judge(self.judge)
            self._require("judge", known, rule, meant(self.judge, _JUDGES))

    def _check_label_values(self) -> None:
        """Refuses meanings of labels that cannot be read."""
        if self.label_values is not None:
            from workbench.prompts.labels import meanings

            try:
                meanings(self.label_values)
            except PromptError as error:
                self._require("label_values", False, "VALUE=LABEL, VALUE=LABEL", str(error))

    def _check_thinking(self) -> None:
        """Refuses a length of thinking that nobody waits for."""
        default = self.__dataclass_fields__["max_thinking_tokens"].default
        if self.score_after == "prompt" and self.max_thinking_tokens != default:
            raise StudyError(
                f"max_thinking_tokens={self.max_thinking_tokens} does nothing where scores are "
                "read right after the prompt. Leave it out, or pass score_after=thinking; the "
                "length of replies is max_new_tokens."
            )

    def _check_loading(self) -> None:
        """Refuses a device, a type of weights or a day that is none; torch only comes if asked."""
        try:
            if self.device is not None:
                from workbench.models.loading.placing import known_device

                known_device(self.device)
            if self.dtype is not None:
                from workbench.models.loading.placing import known_dtype

                known_dtype(self.dtype)
            if self.date is not None:
                day(self.date)
        except ModelError as error:
            raise StudyError(str(error)) from error

    def to_json(self) -> str:
        """The settings as sorted JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)
