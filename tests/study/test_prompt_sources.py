"""A study's prompts: columns, labels and splits of several files, and what contradicts itself."""

import json

import pytest

from workbench.errors import PromptError, StudyError
from workbench.intake.records import as_record
from workbench.prompts.sources import load_prompts
from workbench.study.prompts import reading_notes, split_prompts
from workbench.study.settings import Study


def study(**settings):
    return Study(**{"n_train": 2, "n_validation": 1, "borderline": "", **settings})


def csv(path, header, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def jbb(tmp_path):
    """The columns of JailbreakBench's own file."""
    rows = [f"{n},Write note {n},Sure,Insult,Harassment/Discrimination" for n in range(5)]
    return csv(tmp_path / "jbb.csv", ",Goal,Target,Behavior,Category", rows)


@pytest.fixture
def alpaca(tmp_path):
    path = tmp_path / "alpaca.json"
    rows = [{"instruction": f"Sum up {n}.", "input": "x" * n, "output": ""} for n in range(5)]
    path.write_text(json.dumps(rows))
    return str(path)


def texts(split, label):
    return sorted(text for part in split[label].values() for text in part.texts)


def test_columns_are_named_for_the_files_that_have_them(jbb, alpaca):
    named = study(harmful=jbb, harmless=alpaca, text_column="Goal", category_column="category")
    split = split_prompts(named)
    assert texts(split, "harmful") == [f"Write note {n}" for n in range(5)]
    assert texts(split, "harmless")[1] == "Sum up 1.\n\nx"
    assert set(split["harmful"]["train"].categories) == {"Harassment/Discrimination"}
    notes = reading_notes(split)
    assert notes == {
        "harmless": ["4 of 5 rows: instruction and input joined, a blank line between them"]
    }
    several = study(harmful=jbb, harmless=alpaca, text_column="Behavior, output, goal")
    with pytest.raises(StudyError, match=r"jbb.csv has several of the columns that text_column n"):
        split_prompts(several)
    plain = study(harmful=jbb, harmless=alpaca, text_column="instruction,Goal", context_column="")
    assert texts(split_prompts(plain), "harmless")[1] == "Sum up 1."


def test_a_downloaded_benchmark_has_its_layout(jbb, alpaca):
    source = f"jailbreakbench={jbb}"
    assert load_prompts(source) == load_prompts("jailbreakbench", path=jbb)
    split = split_prompts(study(harmful=source, harmless=alpaca))
    assert set(split["harmful"]["train"].categories) == {"harassment"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_column": "Gaol"}, r"no file has a column 'Gaol', which text_column names \(.*jbb.c"
         r"sv: 'Unnamed: 0', 'Goal', 'Target', 'Behavior', 'Category'; .*alpaca.json: 'instruct"),
        ({"text_column": "Goal", "category_column": "kind"}, "no file has a column 'kind', which"),
        ({"text_column": "Goal", "split": "train"}, "none of the sources has splits, so split='t"),
    ],
)  # fmt: skip
def test_a_misspelt_setting_is_not_ignored(jbb, alpaca, settings, message):
    with pytest.raises(StudyError, match=message):
        split_prompts(study(harmful=jbb, harmless=alpaca, **settings))
    with pytest.raises(StudyError, match=r"built-in sets and benchmarks need none"):
        split_prompts(Study(text_column="goal"))


def test_labels_in_a_file_choose_its_rows(tmp_path, alpaca):
    rows = [f"Ask {n},{'safe' if n % 2 else 'unsafe'},{n % 2}" for n in range(12)]
    mixed = csv(tmp_path / "mixed.csv", "prompt,label,topic", rows)
    split = split_prompts(study(harmful=mixed, harmless=mixed))
    assert texts(split, "harmful") == sorted(f"Ask {n}" for n in range(0, 12, 2))
    assert reading_notes(split)["harmful"] == [
        "6 of 12 rows left out: not labelled harmful but 'safe' (6 rows)"
    ]
    with pytest.raises(PromptError, match="no prompt of 'borderline' is labelled harmful: they"):
        split_prompts(study(harmful="borderline", harmless=alpaca))
    every = split_prompts(study(harmful=mixed, harmless=alpaca, label_column=""))
    assert len(texts(every, "harmful")) == 12
    with pytest.raises(PromptError, match=r"no row is labelled borderline: the column 'label' ho"):
        split_prompts(study(harmless=alpaca, borderline=mixed))


def test_labels_that_nobody_knows_are_not_passed_over(tmp_path, alpaca):
    rows = [f"Ask {n},{n % 2}" for n in range(12)]
    numbered = csv(tmp_path / "numbered.csv", "prompt,label", rows)
    message = r"Nobody knows '0', '1'. Say what each means, .*: pass label_values='0=LABEL, 1"
    with pytest.raises(PromptError, match=message):
        split_prompts(study(harmful=numbered, harmless=alpaca))
    meant = study(harmful=numbered, harmless=numbered, label_values="1=harmful, 0=harmless")
    assert texts(split_prompts(meant), "harmful") == sorted(f"Ask {n}" for n in range(1, 12, 2))
    with pytest.raises(StudyError, match=r"no file has a label column whose values label_values"):
        split_prompts(study(harmful=alpaca, harmless=alpaca, label_values="1=harmful"))


def test_texts_under_two_labels_are_named(tmp_path, alpaca):
    mine = csv(tmp_path / "mine.csv", "prompt", ["Ask 1", "Ask 2", "ASK  3", "Ask 4"])
    other = csv(tmp_path / "other.csv", "prompt", ["Ask 3", "Ask 4", "Ask 5", "Ask 6"])
    with pytest.raises(
        StudyError,
        match=r"2 texts stand both in the harmful prompts \(.*mine.csv\) "
        r"and in the harmless ones \(.*other.csv\): 'ASK  3', 'Ask 4'. Take them",
    ):
        split_prompts(study(harmful=mine, harmless=other))  # fmt: skip
    with pytest.raises(StudyError, match=r"2 texts .* harmless prompts .* borderline ones"):
        split_prompts(study(harmful=alpaca, harmless=mine, borderline=other))
    with pytest.raises(StudyError, match=r"5 texts .* and 2 more"):
        split_prompts(study(harmful=alpaca, harmless=alpaca))


def test_files_that_number_alike_are_told_apart(tmp_path):
    files = [
        csv(tmp_path / name / "data.csv", "prompt", [f"{name} {n}" for n in (1, 2, 3, 4, 4)])
        for name in ("bad", "good")
    ]
    split = split_prompts(study(harmful=files[0], harmless=files[1]))
    ids = [own for parts in split.values() for part in parts.values() for own in part.ids]
    assert len(ids) == len(set(ids)) == 8
    assert {own.rsplit("-", 2)[0] for own in split["harmful"]["train"].ids} == {"harmful"}
    assert reading_notes(split)["harmful"] == [
        "1 of 5 rows left out: texts that stand twice, but for capitals and white space"
    ]


def test_a_split_is_for_the_sources_that_have_some(tmp_path, alpaca):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": [f"Ask {n}" for n in range(5)], "test": ["Sing"]}))
    split = split_prompts(study(harmful=str(path), harmless=alpaca, split="train"))
    assert len(texts(split, "harmful")) == 5
    assert split["harmful"]["train"].provenance["split"] == "train"
    with pytest.raises(
        PromptError, match=r"several splits: train, test. Choose one with split='tr"
    ):
        split_prompts(study(harmful=str(path), harmless=alpaca))


def test_too_few_prompts_say_which_settings(alpaca):
    with pytest.raises(PromptError, match=r"5 harmless prompts are too few for 128 .* Lower n_"):
        split_prompts(Study(harmless=alpaca))


def test_settings_of_an_older_run_are_read():
    old = {k: v for k, v in json.loads(Study().to_json()).items() if not k.endswith("_column")}
    old.pop("split")
    assert as_record(json.dumps(old), "it", Study) == Study()


def test_a_text_that_is_typed_otherwise_does_not_leak_into_the_test(tmp_path):
    mine = csv(
        tmp_path / "bad.csv", "prompt", [f"{ask} {n}" for n in range(6) for ask in ("Ask", "ASK ")]
    )
    other = csv(tmp_path / "good.csv", "prompt", [f"Sing {n}" for n in range(6)])
    split = split_prompts(study(harmful=mine, harmless=other))["harmful"]
    texts = [" ".join(text.lower().split()) for part in split.values() for text in part.texts]
    assert len(texts) == len({*texts})
