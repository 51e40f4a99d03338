import sys
from types import SimpleNamespace

import huggingface_hub
import pytest

from workbench.errors import PromptError
from workbench.prompts.presets import PRESETS
from workbench.prompts.sources import load_prompts
from workbench.prompts.taxonomy import CROSSWALK

# The columns that the Hub's copies have, with one row each.
ON_THE_HUB = {
    "advbench": {"prompt": "x", "target": "Sure"},
    "harmbench": {"prompt": "x", "category": "chemical_biological"},
    "jailbreakbench": {
        "Index": 0, "Goal": "x", "Target": "Sure", "Behavior": "Bomb", "Category": "Privacy",
        "Source": "Original",
    },
    "strongreject": {"prompt": "x", "category": "Violence", "source": "custom"},
    "xstest": {
        "id": 7, "prompt": "x", "type": "homonyms", "label": "safe", "focus": "kill", "note": "",
    },
    "or_bench_hard": {"prompt": "x", "category": "self-harm"},
}  # fmt: skip

# Counts, after rows were taken out, of the authors' own files.
FILES = {
    "advbench": ("advbench.csv", 508, {"harmful": 508}, 1),
    "harmbench": ("harmbench_standard.csv", 184, {"harmful": 184}, 6),
    "jailbreakbench": ("jailbreakbench_harmful.csv", 85, {"harmful": 85}, 9),
    "strongreject": ("strongreject.csv", 254, {"harmful": 254}, 4),
    "xstest": ("xstest_prompts.csv", 442, {"borderline": 247, "harmful": 195}, 3),
    "or_bench_hard": ("or_bench_hard.csv", 1240, {"borderline": 1240}, 7),
}


KINDS = ("homonyms", "contrast_homonyms")


def hub(monkeypatch, answer):
    calls = []

    def load_dataset(*arguments, **options):
        calls.append((arguments, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    config = SimpleNamespace(HF_HUB_OFFLINE=False)
    fake = SimpleNamespace(load_dataset=load_dataset, config=config)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    monkeypatch.setattr("workbench.prompts.presets._is_reachable", lambda: True)
    return calls


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_the_authors_files_load(shared, name):
    file, n, labels, n_categories = FILES[name]
    prompts = load_prompts(name, path=shared / "data" / "prompts" / file)
    assert len(prompts) == len(prompts.unique()) == n
    assert {label: prompts.labels.count(label) for label in set(prompts.labels)} == labels
    assert len(set(prompts.categories)) == n_categories
    assert all(prompt.id.startswith(f"{name}-") for prompt in prompts)
    assert prompts.provenance == {"kind": "benchmark", "source": name, "file": file}
    train, validation, test = prompts.split(40, 10)
    assert len(train) + len(validation) + len(test) == n


@pytest.mark.shared
def test_xstest_types_agree_with_its_label_column(shared):
    path = shared / "data" / "prompts" / "xstest_prompts.csv"
    by_type = load_prompts("xstest", path=path)
    by_label = load_prompts("xstest", path=path, label_column="label", category_column="type")
    expected = {"borderline": "harmless", "harmful": "harmful"}
    assert [expected[label] for label in by_type.labels] == list(by_label.labels)
    assert set(by_label.categories) == set(CROSSWALK["xstest"])
    assert by_type.ids[:2] == ("xstest-1", "xstest-2")


@pytest.mark.parametrize("name", PRESETS)
def test_a_benchmark_comes_from_the_hub(monkeypatch, name):
    calls = hub(monkeypatch, [ON_THE_HUB[name]])
    prompts = load_prompts(name)
    preset = PRESETS[name]
    assert calls == [((preset.hub, preset.config), {"split": preset.split})]
    assert prompts.texts == ("x",)
    assert prompts.provenance["hub"] == preset.hub
    label = "borderline" if name in ("xstest", "or_bench_hard") else "harmful"
    assert prompts.labels == (label,)


def test_every_preset_has_a_crosswalk_and_the_other_way_round():
    assert set(PRESETS) == set(CROSSWALK) == set(FILES) == set(ON_THE_HUB)
    assert all(bool(PRESETS[x].category_columns) == bool(CROSSWALK[x]) for x in PRESETS)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PromptError, match=r"pip install 'refusal-workbench\[data\]', or pass path"):
        load_prompts("harmbench")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("Couldn't reach\nthe Hub"), "cannot get advbench from https://.*/walledai"
         "/AdvBench: Couldn't reach the Hub. Go online once, or pass path="),
        (RuntimeError("Dataset is a gated dataset."), "is gated: accept its terms at https://.* or "
         "pass path="),
        (OSError("401 Client Error"), "walledai/AdvBench is gated"),
    ],
)  # fmt: skip
def test_a_hub_out_of_reach_is_one_line(monkeypatch, error, message):
    hub(monkeypatch, error)
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts("advbench")
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_not_asked_again_and_again(monkeypatch):
    offline = []

    def load_dataset(*_arguments, **_options):
        offline.append(huggingface_hub.constants.HF_HUB_OFFLINE and config.HF_HUB_OFFLINE)
        raise ConnectionError("Couldn't reach it.")

    before = huggingface_hub.constants.HF_HUB_OFFLINE
    config = SimpleNamespace(HF_HUB_OFFLINE=False)
    fake = SimpleNamespace(load_dataset=load_dataset, config=config)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(PromptError, match="no connection, and not found in the cache"):
        load_prompts("owner/name", label="harmful")  # no test has a network
    assert offline == [True] and config.HF_HUB_OFFLINE is False
    assert huggingface_hub.constants.HF_HUB_OFFLINE is before


def test_a_benchmark_is_not_given_another_label(monkeypatch):
    hub(monkeypatch, [ON_THE_HUB["advbench"]])
    with pytest.raises(PromptError, match="no row is labelled harmless: those of advb"):
        load_prompts("advbench", label="harmless")
    taken = load_prompts("advbench", label="harmless", label_column="")
    assert taken.labels == ("harmless",)
    rows = [{**ON_THE_HUB["xstest"], "id": n, "type": kind} for n, kind in enumerate(KINDS)]
    hub(monkeypatch, rows)
    assert load_prompts("xstest", label="harmful").ids == ("xstest-1",)
    with pytest.raises(PromptError, match="no row is labelled harmless: there are bord"):
        load_prompts("xstest", label="harmless")


def test_an_empty_answer_is_refused(monkeypatch):
    hub(monkeypatch, [])
    with pytest.raises(
        PromptError, match=r"walledai/HarmBench \(standard, train\) holds no prompt"
    ):
        load_prompts("harmbench")


def test_unknown_labels_of_a_benchmark_are_all_named(monkeypatch):
    rows = [{"prompt": x, "category": x} for x in ("illegal", "astrology", "puns")]
    hub(monkeypatch, rows)
    with pytest.raises(
        PromptError,
        match=r"^walledai/HarmBench .*: 'astrology', 'puns'. To read it, ",
    ):
        load_prompts("harmbench")
    kept = load_prompts("harmbench", category_column="category")
    assert kept.categories == ("illegal", "astrology", "puns")


def test_harmbench_leaves_out_what_needs_a_context(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(
        "Behavior,FunctionalCategory,SemanticCategory,BehaviorID\n"
        "a,standard,illegal,one\nb,contextual,illegal,two\nc,copyright,copyright,three\n"
    )
    prompts = load_prompts("harmbench", path=path)
    assert prompts.ids == ("harmbench-one", "harmbench-three")
    assert prompts.categories == ("illegal", "copyright")
    assert prompts.provenance["left_out"] == "1 rows with FunctionalCategory = contextual"


def test_a_file_of_another_benchmark_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("goal\nx\n")
    with pytest.raises(PromptError, match=r"no column for the text \(looked for prompt\)"):
        load_prompts("or_bench_hard", path=path)
    with pytest.raises(
        PromptError, match=r"no column for the category .*SemanticCategory, category"
    ):
        load_prompts("harmbench", path=path, text_column="goal")
