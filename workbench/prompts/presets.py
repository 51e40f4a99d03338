"""The benchmarks that the workbench knows by name, each a small frozen record."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import PromptError
from workbench.intake.limits import shortened
from workbench.prompts.folders import of_data_set
from workbench.prompts.table import Table
from workbench.prompts.taxonomy import xstest_labels


@dataclass(frozen=True)
class Preset:
    """How one benchmark is laid out, on the Hugging Face Hub and in its authors' own file.

    Columns are names in order of preference: the authors' files and the Hub's copies differ.
    ``label`` is that of every prompt, unless ``to_labels`` reads it from the benchmark's own
    categories. ``leave_out`` is a column and a value: rows that cannot stand alone.
    """

    name: str
    hub: str
    split: str
    source: str
    text_columns: tuple[str, ...]
    category_columns: tuple[str, ...] = ()
    id_columns: tuple[str, ...] = ()
    config: str | None = None
    label: str = "harmful"
    to_labels: Callable[[Iterable[object]], tuple[str, ...]] | None = None
    leave_out: tuple[str, str] | None = None

    @property
    def origin(self) -> str:
        """Where on the Hub it lies, in words."""
        return f"{self.hub} ({', '.join(filter(None, (self.config, self.split)))})"


_ALL = (
    Preset(
        name="advbench",
        hub="walledai/AdvBench",
        split="train",
        source="Zou et al. 2023, arXiv:2307.15043",
        text_columns=("goal", "prompt"),
    ),
    Preset(
        name="harmbench",
        hub="walledai/HarmBench",
        config="standard",
        split="train",
        source="Mazeika et al. 2024, arXiv:2402.04249",
        text_columns=("Behavior", "prompt"),
        category_columns=("SemanticCategory", "category"),
        id_columns=("BehaviorID",),
        # A contextual behavior means nothing without its context string.
        leave_out=("FunctionalCategory", "contextual"),
    ),
    Preset(
        name="jailbreakbench",
        hub="JailbreakBench/JBB-Behaviors",
        config="behaviors",
        split="harmful",
        source="Chao et al. 2024, arXiv:2404.01318",
        text_columns=("Goal",),
        category_columns=("Category",),
    ),
    Preset(
        name="strongreject",
        hub="walledai/StrongREJECT",
        split="train",
        source="Souly et al. 2024, arXiv:2402.10260",
        text_columns=("forbidden_prompt", "prompt"),
        category_columns=("category",),
    ),
    Preset(
        name="xstest",
        hub="Paul/XSTest",
        split="train",
        source="Röttger et al. 2024, arXiv:2308.01263",
        text_columns=("prompt",),
        category_columns=("type",),
        id_columns=("id",),
        to_labels=xstest_labels,
    ),
    Preset(
        name="or_bench_hard",
        hub="bench-llms/or-bench",
        config="or-bench-hard-1k",
        split="train",
        source="Cui et al. 2024, arXiv:2405.20947",
        text_columns=("prompt",),
        category_columns=("category",),
        label="borderline",
    ),
)
_PATIENCE = 5.0
"""Seconds for the Hub to answer before it is taken to be out of reach."""
BY_PATH = "path= or "
"""A way to give a benchmark's file that there is in `load_prompts` only."""

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}


def fetch(preset: Preset) -> Table:
    """Downloads a benchmark from the Hugging Face Hub, or takes it from the local cache.

    Raises:
        PromptError: the package ``datasets`` is not installed; the data set is gated, gone, or out
            of reach.
    """
    remedy = f"pass {BY_PATH}'{preset.name}=FILE' as the source, for a downloaded file"
    loaded = _downloaded(preset.hub, (preset.config,), preset.split, preset.name, remedy)
    return Table.of(preset.origin, [dict(row) for row in loaded])


def fetch_data_set(hub: str, split: str | None, *, optional: bool = False) -> Table:
    """Downloads a data set by its Hub id, or takes it from the local cache.

    Raises:
        PromptError: as for `fetch`, or it holds several splits and none was chosen.
    """
    remedy = "pass the path of a downloaded file of it"
    # A study names one split for all of its sources; which ones this one has shows when it is here.
    asked = None if optional else split
    loaded = _downloaded(hub, (), asked, f"the data set {hub!r}", remedy)
    if asked is not None and not isinstance(loaded, dict):
        return of_data_set(loaded, hub, None, limited=True)._replace(split=asked)
    return of_data_set(loaded, hub, split, optional, limited=True)


def _downloaded(
    hub: str, config: tuple[Any, ...], split: str | None, what: str, remedy: str
) -> Any:
    """What `datasets.load_dataset` gives, or one line about why it does not.

    Where the Hub does not answer, the cache alone is asked.
    """
    try:
        import datasets
    except ImportError as error:
        raise PromptError(
            f"{what} comes from the Hugging Face Hub, which needs the package 'datasets'. "
            f"Run: pip install 'refusal-workbench[data]', or {remedy}."
        ) from error
    import huggingface_hub as hub_client

    online = _is_reachable()
    library: Any = datasets  # its types forget its settings, and that no split is all of them
    caches = () if online else (hub_client.constants, library.config)
    try:
        with _offline(*caches):
            return library.load_dataset(hub, *config, split=split)
    # What goes wrong here is the network's, the Hub's or its client's, each with its own classes.
    except Exception as error:
        reason = shortened(error)
        page = f"https://huggingface.co/datasets/{hub}"
        if any(word in reason.lower() for word in ("gated", "401", "403", "authenticated")):
            raise PromptError(
                f"{hub} is gated: accept its terms at {page} and log in with "
                f"'hf auth login', or {remedy}. ({reason})"
            ) from error
        if any(word in reason.lower() for word in ("unknown split", "config name is missing")):
            raise PromptError(
                f"{what} cannot be had so: {reason} See {page}, or {remedy}."
            ) from error
        if not online:
            reason = f"no connection, and not found in the cache. {reason}"
        raise PromptError(
            f"cannot get {what} from {page}: {reason} Go online once, or {remedy}."
        ) from error


def _is_reachable() -> bool:
    """Whether the Hub answers at all: its client tries again and again before it says that not."""
    import huggingface_hub as hub

    try:
        hub.utils.get_session().head(hub.constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:  # the network's, a proxy's or a certificate's, each with its own classes
        return False
    return True


@contextlib.contextmanager
def _offline(*modules: Any) -> Iterator[None]:
    """Lets the Hub's client and `datasets` look into their caches only, inside the block."""
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = own
