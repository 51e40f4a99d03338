"""Judges that are text classifiers of the Hugging Face Hub, or of a folder.

A classifier reads a reply and names one of its labels. Which label is a refusal must be said by the
labels themselves: one that holds ``refus``, ``reject`` or ``declin`` is, unless it is denied
(``not_refused``); of two labels the other one is compliance, of more each must say what it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.artifact import file_digest
from workbench.errors import ModelError, StudyError
from workbench.scores.verdicts import Verdict, meaning_of

_BATCH = 16
_LONGEST = 512
"""Tokens of a reply, where a classifier does not say how many it reads."""


def label_meanings(labels: Mapping[Any, str], name: str) -> dict[int, Verdict]:
    """The verdict that each label of a classifier stands for.

    Args:
        labels: by their number, as ``id2label`` of a configuration has them.
        name: of the classifier, for the message.

    Raises:
        StudyError: none of the labels, or not one alone, is a refusal, or one of several does not
            say what it is.

    >>> label_meanings({0: "NORMAL", 1: "REJECTION"}, "a classifier")
    {0: 'complied', 1: 'refused'}
    """
    found: dict[int, Verdict] = {}
    for number, label in labels.items():
        if (verdict := meaning_of(str(label))) is not None:
            found[int(number)] = verdict
    if len(labels) == 2 and [*found.values()] == ["refused"]:
        found |= {int(number): "complied" for number in labels if int(number) not in found}
    if len(found) < len(labels) or "refused" not in found.values() or len(labels) < 2:
        told = ", ".join(repr(str(label)) for label in labels.values())
        raise StudyError(
            f"{name} has the labels {told:.300}, which do not say what a refusal is. Write a "
            "function that calls it and maps its labels to refused, complied, partial or other, "
            "and pass that as judge=."
        )
    return dict(sorted(found.items()))


@dataclass(frozen=True, eq=False)
class HubJudge:
    """A classifier as a judge; its name says which version of it was loaded."""

    name: str
    network: Any
    tokenizer: Any
    meanings: Mapping[int, Verdict]

    def __call__(self, answers: Sequence[str], prompts: Sequence[str]) -> list[Verdict]:
        """The likeliest label of each answer; it reads no prompts."""
        import torch

        found: list[Verdict] = []
        limit = min(
            int(self.tokenizer.model_max_length or _LONGEST),
            int(getattr(self.network.config, "max_position_embeddings", _LONGEST) or _LONGEST),
            _LONGEST,
        )
        for start in range(0, len(answers), _BATCH):
            batch = self.tokenizer(
                list(answers[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            ).to(self.network.device)
            with torch.no_grad():
                logits = self.network(**batch).logits
            found.extend(self.meanings[int(label)] for label in logits.argmax(-1))
        return found


@lru_cache(maxsize=2)
def hub_judge(name: str) -> HubJudge:
    """Loads a classifier once.

    Checkpoints never run code of their own, and are read as safetensors alone.

    Args:
        name: its Hub id or folder.

    Raises:
        ModelError: it is not there, or is no classifier of texts.
        StudyError: its labels do not say what a refusal is.
    """
    from workbench.models.loading.explained import explained, quiet
    from workbench.models.loading.load import read_tokenizer
    from workbench.models.loading.places import find_model

    source = find_model(name).source
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        with quiet():
            config = AutoConfig.from_pretrained(source)
            kinds = list(getattr(config, "architectures", None) or [])
            if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
                raise ModelError(
                    f"{name} is no classifier of texts ({', '.join(kinds) or 'no architecture'}). "
                    "A guard that writes its verdict is used by a function: pass one that calls it "
                    "and gives refused, complied, partial or other for each reply."
                )
            meanings = label_meanings(config.id2label or {}, name)
            network, told = AutoModelForSequenceClassification.from_pretrained(
                source, use_safetensors=True, output_loading_info=True
            )
    except (ModelError, StudyError):
        raise
    except Exception as error:
        raise explained(name, error) from error
    if told["missing_keys"]:
        raise ModelError(
            f"{name} lacks weights of its classifier ({sorted(told['missing_keys'])[0]}), which "
            "would be random. Pass one that was trained."
        )
    tokenizer = read_tokenizer(source, name, None, False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
        network.config.pad_token_id = tokenizer.pad_token_id
    network.eval().requires_grad_(False)
    return HubJudge(_versioned(name, source, config), network, tokenizer, meanings)


def _versioned(name: str, source: str, config: Any) -> str:
    """The name with what was loaded: a commit, or the start of a checksum of a folder's weights."""
    folder = Path(source)
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors"))
        digest = file_digest(weights[0]) if weights else ""
        return f"{folder.resolve().name} ({digest[:7]})"
    commit = getattr(config, "_commit_hash", None)
    return f"{name} ({commit[:7]})" if commit else name
