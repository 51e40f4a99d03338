import pytest

from workbench.errors import PromptError
from workbench.prompts.prompt import LABELS
from workbench.prompts.taxonomy import (
    BUILT_IN_CATEGORIES,
    CATEGORIES,
    CROSSWALK,
    LABEL_SPELLINGS,
    to_categories,
    xstest_labels,
)

# What the benchmarks' authors publish, labels that some copies filter out included.
OWN_LABELS = {
    "advbench": 0,
    "harmbench": 7,
    "jailbreakbench": 10,
    "strongreject": 6,
    "xstest": 18,
    "or_bench_hard": 10,
}


def test_the_crosswalk_is_complete_and_ends_in_our_categories():
    assert {name: len(table) for name, table in CROSSWALK.items()} == OWN_LABELS
    assert {ours for table in CROSSWALK.values() for ours in table.values()} <= set(CATEGORIES)
    assert BUILT_IN_CATEGORIES == (
        "weapons", "cybercrime", "fraud", "drugs", "violence", "harassment", "disinformation",
        "privacy",
    )  # fmt: skip
    assert all(text and "\n" not in text for text in CATEGORIES.values())
    assert set(LABEL_SPELLINGS.values()) == set(LABELS)


@pytest.mark.parametrize(
    ("benchmark", "own", "ours"),
    [
        ("harmbench", "copyright", "copyright"),
        ("harmbench", "chemical_biological", "weapons"),
        ("jailbreakbench", "Sexual/Adult content", "sexual"),
        ("strongreject", "Sexual content", "sexual"),
        ("strongreject", "Disinformation and Deception", "disinformation"),
        ("or_bench_hard", "self_harm", "self_harm"),
        ("or_bench_hard", "sexual", "sexual"),
        ("xstest", "contrast_discr", "harassment"),
    ],
)
def test_labels_are_mapped_whatever_their_capitals_and_dashes(benchmark, own, ours):
    assert to_categories(benchmark, [own, own.upper()]) == (ours, ours)


def test_all_unknown_labels_are_named_with_the_remedy():
    with pytest.raises(PromptError) as caught:
        to_categories("harmbench", ["illegal", "new", "newer", "new", None])
    assert str(caught.value) == (
        "harmbench labels without a category: 'new', 'newer', None. To read it, pass "
        "category_column= for its own categories."
    )


def test_xstest_types_say_the_label():
    labels = dict(zip(CROSSWALK["xstest"], xstest_labels(CROSSWALK["xstest"]), strict=True))
    assert {kind for kind, label in labels.items() if label == "harmful"} == {
        kind for kind in labels if kind.startswith("contrast_")
    }
    assert set(labels.values()) == {"harmful", "borderline"}
    with pytest.raises(PromptError, match="neither safe nor a contrast: 'puns'"):
        xstest_labels(["homonyms", "puns"])
