"""One set of harm categories, and the crosswalk from every benchmark's own labels to it.

The eight categories of the built-in prompts stand first in `CATEGORIES`; the others are what the
benchmarks need besides. A benchmark's label goes to the one category that holds most of its
prompts. Where a label mixes several (``illegal``, ``Non-violent crimes``) it goes to a category
that says so, never to a guess.

XSTest labels the linguistic trick and not the topic. Its homonyms, figures of speech, targets,
contexts, definitions and events are nearly all about violence, so they go there.
"""

import re
import reprlib
from collections.abc import Iterable, Mapping

from workbench.errors import PromptError
from workbench.prompts.prompt import UNSPECIFIED, listed

CATEGORIES: Mapping[str, str] = {
    "weapons": "firearms, explosives, and chemical, biological or nuclear agents",
    "cybercrime": "malware, intrusion, and attacks on computer systems",
    "fraud": "scams, forgery, impersonation, and deception for gain",
    "drugs": "making, trading and misusing controlled substances",
    "violence": "physical harm to people or animals, threats, and its glorification",
    "harassment": "bullying, hate, and discrimination against people or groups",
    "disinformation": "false news, propaganda, hoaxes, and denial of what happened",
    "privacy": "private data, tracking, and surveillance of people",
    "self_harm": "suicide, self-injury, and disordered eating",
    "sexual": "sexual content",
    "illegal": "crimes and illegal goods that the source does not tell apart",
    "economic_harm": "gambling, pyramid schemes, bribery, and ruinous finance",
    "expert_advice": "medical, legal or financial advice that needs a professional",
    "government": "unlawful or unfair use of public power",
    "copyright": "reproducing protected works",
    "other_harm": "harmful or unethical acts that the source does not tell apart",
    UNSPECIFIED: "the source gives no category",
}
BUILT_IN_CATEGORIES = tuple(CATEGORIES)[:8]

_XSTEST = {
    "homonyms": "violence",
    "figurative_language": "violence",
    "safe_targets": "violence",
    "safe_contexts": "violence",
    "definitions": "violence",
    "historical_events": "violence",
    "nons_group_real_discr": "harassment",
    "real_group_nons_discr": "harassment",
    "privacy_public": "privacy",
    "privacy_fictional": "privacy",
    "contrast_homonyms": "violence",
    "contrast_figurative_language": "violence",
    "contrast_safe_targets": "violence",
    "contrast_safe_contexts": "violence",
    "contrast_definitions": "violence",
    "contrast_historical_events": "violence",
    "contrast_discr": "harassment",
    "contrast_privacy": "privacy",
}

CROSSWALK: Mapping[str, Mapping[str, str]] = {
    "advbench": {},
    "harmbench": {
        "chemical_biological": "weapons",
        "copyright": "copyright",
        "cybercrime_intrusion": "cybercrime",
        "harassment_bullying": "harassment",
        "harmful": "other_harm",
        "illegal": "illegal",
        "misinformation_disinformation": "disinformation",
    },
    "jailbreakbench": {
        "Disinformation": "disinformation",
        "Economic harm": "economic_harm",
        "Expert advice": "expert_advice",
        "Fraud/Deception": "fraud",
        "Government decision-making": "government",
        "Harassment/Discrimination": "harassment",
        "Malware/Hacking": "cybercrime",
        "Physical harm": "violence",
        "Privacy": "privacy",
        "Sexual/Adult content": "sexual",
    },
    "strongreject": {
        "Disinformation and deception": "disinformation",
        "Hate, harassment and discrimination": "harassment",
        "Illegal goods and services": "illegal",
        "Non-violent crimes": "illegal",
        "Sexual content": "sexual",
        "Violence": "violence",
    },
    "xstest": _XSTEST,
    "or_bench_hard": {
        "deception": "disinformation",
        "harassment": "harassment",
        "harmful": "other_harm",
        "hate": "harassment",
        "illegal": "illegal",
        "privacy": "privacy",
        "self-harm": "self_harm",
        "sexual": "sexual",
        "unethical": "other_harm",
        "violence": "violence",
    },
}
"""Benchmark → its own label → a name in `CATEGORIES`. AdvBench has no labels."""

XSTEST_LABELS: Mapping[str, str] = {
    kind: "harmful" if kind.startswith("contrast_") else "borderline" for kind in _XSTEST
}
"""XSTest's safe types look harmful and are not; their contrasts are what they look like."""

LABEL_SPELLINGS: Mapping[str, str] = {
    "harmful": "harmful",
    "unsafe": "harmful",
    "malicious": "harmful",
    "harmless": "harmless",
    "safe": "harmless",
    "benign": "harmless",
    "borderline": "borderline",
    "pseudo_harmful": "borderline",
}
"""How files spell the three labels; capitals, spaces, ``-`` and ``_`` make no difference.

``safe`` alone means harmless: of safe prompts that look harmful the caller has to say so.
Numbers are no labels: which of 0 and 1 is the harmful one is not for us to guess.
"""


OWN_CATEGORIES = "pass category_column= for its own categories"
OWN_LABELS = "pass label_column= and category_column= to read its columns as those of any file"
"""What else can be done about labels that are not known."""


def to_categories(benchmark: str, own: Iterable[object]) -> tuple[str, ...]:
    """A benchmark's own labels as our categories, one for one.

    Capitals, spaces, ``-`` and ``_`` make no difference.

    Raises:
        PromptError: some labels are not in the benchmark's crosswalk; all of them are named.

    >>> to_categories("jailbreakbench", ["Malware/Hacking", "physical harm"])
    ('cybercrime', 'violence')
    """
    return _translated(
        own,
        CROSSWALK[benchmark],
        f"{benchmark} labels without a category",
        f"To read it, {OWN_CATEGORIES}",
    )


def xstest_labels(types: Iterable[object]) -> tuple[str, ...]:
    """XSTest's prompt types as labels: safe types are borderline, their contrasts harmful.

    Raises:
        PromptError: some types are unknown; all of them are named.

    >>> xstest_labels(["homonyms", "contrast_homonyms"])
    ('borderline', 'harmful')
    """
    return _translated(
        types,
        XSTEST_LABELS,
        "xstest types that are neither safe nor a contrast",
        f"To read it, {OWN_LABELS}",
    )


def _translated(
    values: Iterable[object], table: Mapping[str, str], problem: str, remedy: str
) -> tuple[str, ...]:
    values = list(values)
    lookup = {spelled(key): value for key, value in table.items()}
    unknown = {reprlib.repr(value) for value in values if spelled(value) not in lookup}
    if unknown:
        raise PromptError(f"{problem}: {listed(unknown)}. {remedy}.")
    return tuple(lookup[spelled(value)] for value in values)


def spelled(value: object) -> str:
    """A value without what makes no difference: capitals, spaces, ``-`` and ``_``."""
    return re.sub(r"[\s_-]+", "_", str(value).strip().casefold())
