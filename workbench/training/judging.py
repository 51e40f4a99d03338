"""Train the judge that is a classifier, and measure all judges against people.

    python -m workbench.training.judging FOLDER [--out FILE]

FOLDER holds the labelled replies: ``xstest_{gpt4,llama2new,mistralinstruct}.csv`` (Röttger et al.
2024, CC-BY-4.0), which are trained on beside `judge_replies.jsonl`, short replies written for this
project; and, to measure with alone, ``do_not_answer_*.csv`` (Wang et al. 2023, CC BY-NC-SA 4.0), of
which nothing but shares is kept. Without ``--out`` nothing is written.

Every number of XSTest is of replies by a model, and to prompts, that the classifier was not trained
on: both are left out at once. Training is deterministic.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from workbench import screen
from workbench.artifact import file_digest, save_artifact
from workbench.scores import classifier
from workbench.scores.agreement import judge_agreement
from workbench.scores.classifier import DECLINES, FILE, KIND, Weights, decide, probabilities
from workbench.scores.judges import judge
from workbench.scores.rules import answer_text
from workbench.scores.verdicts import Verdict
from workbench.statistics.intervals import binomial_interval

VERSION = "1"
"""Raised with every training that changes verdicts."""

MODELS = ("gpt4", "llama2new", "mistralinstruct")
OWN = Path(__file__).parent / "judge_replies.jsonl"
_HUMAN = {"1": "complied", "2": "refused", "3": "partial"}
_N_FOLDS = 5
_C = 10.0
_LENGTHS = ((0, 200), (200, 600), (600, 1200), (1200, 10**9))
"""Characters of a reply."""


def labelled(folder: Path) -> pd.DataFrame:
    """The XSTest replies: model, id, prompt, reply, human."""
    frames = []
    for model in MODELS:
        rows = pd.read_csv(folder / f"xstest_{model}.csv")
        human = [_HUMAN[label[0]] for label in rows["final_label"]]
        frames.append(
            pd.DataFrame(
                {
                    "model": model,
                    "id": rows["id"],
                    "prompt": rows["prompt"],
                    "reply": rows["completion"],
                    "human": human,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def own_replies() -> pd.DataFrame:
    """The replies written for this project: label, style, text."""
    lines = OWN.read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


def fit(texts: Sequence[str], declines: Bool[np.ndarray, " text"]) -> Weights:
    """Weights from normalised texts and whether each declines, in whole or in part.

    Both labels weigh alike, however many texts have them.
    """
    from sklearn.linear_model import LogisticRegression

    counts = classifier.counted(texts)
    n_with = counts.getnnz(axis=0)
    idf = np.log((1 + len(texts)) / (1 + n_with)) + 1
    model = LogisticRegression(C=_C, max_iter=1000, class_weight="balanced")
    model.fit(classifier.weighted(counts, idf), declines)
    return Weights(idf, np.ravel(model.coef_), np.ravel(model.intercept_).item(), VERSION)


class Texts(NamedTuple):
    """What a fold is made of: normalised texts, and whether people say that each declines."""

    texts: list[str]
    declines: Bool[np.ndarray, " text"]


def _read(replies: Sequence[str], prompts: Sequence[str], human: Sequence[str]) -> Texts:
    texts = [answer_text(reply, prompt) for reply, prompt in zip(replies, prompts, strict=True)]
    return Texts(texts, np.array([label != "complied" for label in human]))


def read_all(rows: pd.DataFrame, own: pd.DataFrame) -> tuple[Texts, Texts]:
    """XSTest and our own replies as texts."""
    theirs = _read(rows["reply"].tolist(), rows["prompt"].tolist(), rows["human"].tolist())
    return theirs, _read(own["text"].tolist(), [""] * len(own), own["label"].tolist())


def folds(ids: Sequence[str]) -> Int[np.ndarray, " row"]:
    """The fold of every row: all replies to one prompt are in the same."""
    order = np.random.default_rng(0).permutation(sorted(set(ids)))
    place = {name: index % _N_FOLDS for index, name in enumerate(order)}
    return np.array([place[name] for name in ids])


def left_out(
    rows: pd.DataFrame, own: pd.DataFrame, with_own: bool = True
) -> Float[np.ndarray, " row"]:
    """Probability for each XSTest reply by a classifier that saw neither its model nor its prompt.

    Args:
        rows: the XSTest replies.
        own: our own replies, which have neither.
        with_own: whether these are trained on.
    """
    theirs, ours = read_all(rows, own)
    model, fold = rows["model"].to_numpy(), folds(rows["id"].tolist())
    found = np.full(len(rows), np.nan)
    for name in MODELS:
        for index in range(_N_FOLDS):
            train = np.flatnonzero((model != name) & (fold != index))
            test = np.flatnonzero((model == name) & (fold == index))
            texts = [theirs.texts[row] for row in train] + (ours.texts if with_own else [])
            declines = theirs.declines[train]
            declines = np.concatenate([declines, ours.declines]) if with_own else declines
            weights = fit(texts, declines)
            found[test] = probabilities([theirs.texts[row] for row in test], weights)
    return found


def styles_left_out(rows: pd.DataFrame, own: pd.DataFrame) -> Float[np.ndarray, " row"]:
    """Probability for each of our own replies by a classifier that did not see its style."""
    theirs, ours = read_all(rows, own)
    style = own["style"].to_numpy()
    found = np.full(len(own), np.nan)
    for name in sorted(set(style)):
        rest, test = np.flatnonzero(style != name), np.flatnonzero(style == name)
        weights = fit(
            theirs.texts + [ours.texts[row] for row in rest],
            np.concatenate([theirs.declines, ours.declines[rest]]),
        )
        found[test] = probabilities([ours.texts[row] for row in test], weights)
    return found


def _share(k: int | np.integer, n: int | np.integer) -> str:
    """A share with its Wilson interval."""
    low, high = binomial_interval(int(k), int(n))
    return f"{k / n:.3f} [{low:.3f}, {high:.3f}]"


def report(folder: Path) -> Iterator[str]:
    """Lines of Markdown: every table that `benchmarks/README.md` has of the judges."""
    rows, own = labelled(folder), own_replies()
    theirs, ours = read_all(rows, own)
    p = left_out(rows, own)
    said = {
        name: np.array(judge(rows["reply"].tolist(), judge=name, prompts=rows["prompt"].tolist()))
        for name in ("substring", "rules")
    }
    said["classifier"] = np.array(decide(theirs.texts, p))
    said["combined"] = np.array(decide(theirs.texts, p, said["rules"].tolist()))
    human, length = rows["human"].to_numpy(), rows["reply"].str.len().to_numpy()
    yield from _agreements(said, rows["model"].to_numpy(), human)
    yield from _partial(said, human)
    yield from _by_length(said, human, length)
    yield from _calibration(p, theirs.declines)
    yield from _styles(rows, own, ours)
    yield from _without_own(rows, own, theirs)
    weights = fit(theirs.texts + ours.texts, np.concatenate([theirs.declines, ours.declines]))
    yield from _do_not_answer(folder, weights)


def _all_three(
    texts: Sequence[str], p: Float[np.ndarray, " text"], ruled: Sequence[Verdict]
) -> dict[str, np.ndarray]:
    """Verdicts of rules, classifier and both, by name."""
    return {
        "rules": np.array(ruled),
        "classifier": np.array(decide(texts, p)),
        "combined": np.array(decide(texts, p, ruled)),
    }


def _agreements(said: dict[str, np.ndarray], model: np.ndarray, human: np.ndarray) -> Iterator[str]:
    yield "\n| replies of | n | judge | agrees on | kappa |\n|---|---|---|---|---|"
    for name in MODELS:
        for own, verdicts in said.items():
            found = judge_agreement(verdicts[model == name].tolist(), human[model == name].tolist())
            low, high = found.accuracy_interval
            below, above = found.kappa_interval
            yield (
                f"| {name} | {found.n} | {own} | {found.accuracy:.3f} [{low:.3f}, {high:.3f}] | "
                f"{found.kappa:.2f} [{below:.2f}, {above:.2f}] |"
            )


def _partial(said: dict[str, np.ndarray], human: np.ndarray) -> Iterator[str]:
    n = int((human == "partial").sum())
    yield f"\n| of {n} partial refusals | refused | partial | complied |\n|---|---|---|---|"
    for own, verdicts in said.items():
        counts = [int((verdicts[human == "partial"] == each).sum()) for each in
                  ("refused", "partial", "complied")]  # fmt: skip
        yield f"| {own} | {' | '.join(map(str, counts))} |"


def _by_length(said: dict[str, np.ndarray], human: np.ndarray, length: np.ndarray) -> Iterator[str]:
    yield f"\n| characters | n | {' | '.join(said)} |\n|---|---|{'---|' * len(said)}"
    for low, high in _LENGTHS:
        at = (length >= low) & (length < high)
        cells = [
            _share(int(((verdicts == "complied") == (human == "complied"))[at].sum()), at.sum())
            for verdicts in said.values()
        ]
        bound = f"{low} to {high - 1}" if high < 10**9 else f"from {low} on"
        yield f"| {bound} | {at.sum()} | {' | '.join(cells)} |"


def _calibration(p: Float[np.ndarray, " row"], declines: Bool[np.ndarray, " row"]) -> Iterator[str]:
    yield f"\nBrier score {float(((p - declines) ** 2).mean()):.3f}.\n"
    yield "| classifier says | n | mean | declines |\n|---|---|---|---|"
    edges = np.array([0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
    for low, high in pairwise(edges):
        at = (p >= low) & ((p < high) | (high == 1))
        if n := int(at.sum()):
            share = _share(int(declines[at].sum()), n)
            yield f"| {low:.1f} to {high:.1f} | {n} | {p[at].mean():.2f} | {share} |"


def _styles(rows: pd.DataFrame, own: pd.DataFrame, ours: Texts) -> Iterator[str]:
    p = styles_left_out(rows, own)
    ruled = judge(own["text"].tolist(), judge="rules")
    label = own["label"].to_numpy()
    yield "\n| own replies, style left out | n | declines: rules | classifier | combined |"
    yield "|---|---|---|---|---|"
    for name in ("refused", "partial", "complied"):
        at = label == name
        cells = []
        for verdicts in _all_three(ours.texts, p, ruled).values():
            cells.append(_share(int(np.isin(verdicts[at], ("refused", "partial")).sum()), at.sum()))
        yield f"| {name} | {at.sum()} | {' | '.join(cells)} |"


def _without_own(rows: pd.DataFrame, own: pd.DataFrame, theirs: Texts) -> Iterator[str]:
    p = left_out(rows, own, with_own=False)
    yield "\n| without our own replies | classifier agrees on |\n|---|---|"
    for name in MODELS:
        at = (rows["model"] == name).to_numpy()
        yield f"| {name} | {_share(int(((p > DECLINES) == theirs.declines)[at].sum()), at.sum())} |"


def _do_not_answer(folder: Path, weights: Weights) -> Iterator[str]:
    codes = range(5)
    yield "\n| Do-Not-Answer | judge | " + " | ".join(f"code {code}" for code in codes) + " |"
    yield "|---|---|" + "---|" * len(codes)
    for path in sorted(folder.glob("do_not_answer_*.csv")):
        rows = pd.read_csv(path)
        texts, asked = rows["response"].tolist(), rows["question"].tolist()
        answers = [answer_text(reply, prompt) for reply, prompt in zip(texts, asked, strict=True)]
        p = probabilities(answers, weights)
        ruled = judge(texts, judge="rules", prompts=asked)
        for name, verdicts in _all_three(answers, p, ruled).items():
            refused = verdicts == "refused"
            cells = []
            for code in codes:
                at = (rows["action"] == code).to_numpy()
                k, n = int(refused[at].sum()), int(at.sum())
                cells.append(_share(k, n) if not code else f"{k / n:.2f} of {n}")
            source = path.stem.removeprefix("do_not_answer_")
            yield f"| {source} | {name} | {' | '.join(cells)} |"


def train(folder: Path, out: Path) -> Path:
    """Fits on all XSTest replies and our own, and writes the weights."""
    theirs, ours = read_all(labelled(folder), own_replies())
    weights = fit(theirs.texts + ours.texts, np.concatenate([theirs.declines, ours.declines]))
    return save_artifact(
        out,
        kind=KIND,
        tensors={
            "idf": weights.idf.astype(np.float32),
            "coefficients": weights.coefficients.astype(np.float32),
            "intercept": np.array([weights.intercept], dtype=np.float32),
        },
        manifest={
            "version": VERSION,
            "languages": ["en"],
            "trained_on": {
                "xstest": "replies of GPT-4, Llama 2 and Mistral with two human labels, Röttger et "
                "al. 2024, github.com/paul-rottger/exaggerated-safety, CC-BY-4.0",
                "n_xstest": len(theirs.texts),
                "own": "judge_replies.jsonl, written for this project",
                "own_sha256": file_digest(OWN),
                "n_own": len(ours.texts),
            },
        },
    )


def main() -> None:
    """Reports, or trains and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the labelled replies")
    parser.add_argument("--out", type=Path, help=f"where to write the weights, such as {FILE}")
    given = parser.parse_args()
    if given.out is not None:
        screen.tell_path("weights", train(given.folder, given.out))
        return
    for line in report(given.folder):
        for each in line.split("\n"):
            screen.tell(each)


if __name__ == "__main__":
    main()
