"""What every test shares: where published data lies, and models that are loaded once."""

import copy
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from architectures import DENSE, random_network
from filelock import FileLock
from hypothesis import HealthCheck, settings

SHARED = Path(__file__).resolve().parents[2] / "shared"
# What a skipped test says: what is missing -> what to do. The run ends with these.
NO_SHARED = f"no folder {SHARED} with published data -> put that folder beside the project"
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
SHORT_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'][0] }}:{{ m['content'] }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>a:{% endif %}"
)
PARTS = {
    # attn_out, mlp_out and the output projection, as attributes of a block
    "default": ("self_attn", "mlp", "self_attn.o_proj"),
    "post_norm": ("post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj"),
    "gpt_neox": ("attention", "mlp", "attention.dense"),
    "gpt2": ("attn", "mlp", "attn.c_proj"),
    "glm4": ("post_self_attn_layernorm", "post_mlp_layernorm", "self_attn.o_proj"),
    # Its attention and MLP give back what they add together with what they add it to.
    "bloom": ("self_attention.dense", "mlp.dense_4h_to_h", "self_attention.dense"),
    "lfm2": ("self_attn", "feed_forward", "self_attn.out_proj"),
}
POST_NORM = ("gemma2", "gemma3", "olmo2")
SITES = ("resid_pre", "attn_out", "mlp_out", "z")

# On models this small, threads cost more than they bring, most of all on shared cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No wall-clock limits, and the same examples on every machine.
settings.register_profile(
    "workbench", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("workbench")


def byte_tokenizer(
    template: str | None = SHORT_CHATML,
    specials: Sequence[str] = (),
    merges: Sequence[tuple[str, str]] = (),
    adds_bos: bool = False,
) -> Any:
    """One token per byte, the template's special tokens, and any merges of two."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    known = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*known, *alphabet, *(a + b for a, b in merges), *specials]
    vocab = {token: index for index, token in enumerate(entries)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", *specials],
        chat_template=template,
    )


@dataclass(frozen=True)
class Specimen:
    """A model of the zoo: as the workbench sees it, and as plain Hugging Face does.

    ``plain`` is a separate copy with eager attention that nobody has wrapped.
    """

    name: str
    model: Any
    plain: Any

    @cached_property
    def blocks(self) -> Any:
        """The plain model's blocks."""
        base = self.plain.base_model
        return base.h if hasattr(base, "h") else base.layers

    def part(self, layer: int, site: str) -> Any:
        """The plain model's submodule whose output (for z: input) is the site."""
        kind = "post_norm" if self.name in POST_NORM else self.name
        attention, mlp, projection = PARTS.get(kind, PARTS["default"])
        paths = {"attn_out": attention, "mlp_out": mlp, "z": projection}
        return self.blocks[layer].get_submodule(paths[site])

    def sites(self, layer: int) -> tuple[str, ...]:
        """The sites of a layer: all four, or those that have nothing to do with attention."""
        types = getattr(self.plain.config, "layer_types", None)
        if types is None or types[layer] in ("full_attention", "sliding_attention"):
            return SITES
        return ("resid_pre", "mlp_out")

    def read(self, ids: Any, mask: Any = None) -> tuple[Any, dict[str, list[Any]]]:
        """Logits at every position, and every site of every layer, by Hugging Face alone.

        None stands for a site that a layer does not have.
        """
        import torch

        n_layers = len(self.blocks)
        sites: dict[str, list[Any]] = {site: [None] * n_layers for site in SITES}
        # Granite scales what it adds.
        scale = getattr(self.plain.config, "residual_multiplier", 1.0)

        def before(layer):
            return lambda module, args: sites["z"].__setitem__(layer, args[0])

        def after(site, layer):
            def hook(module, args, value):
                value = value[0] if isinstance(value, tuple) else value
                sites[site][layer] = value * scale

            return hook

        handles = []
        for layer in range(n_layers):
            present = self.sites(layer)
            if "z" in present:
                part = self.part(layer, "z")
                handles.append(part.register_forward_pre_hook(before(layer)))
            for site in ("attn_out", "mlp_out"):
                if site in present:
                    part = self.part(layer, site)
                    handles.append(part.register_forward_hook(after(site, layer)))
        mask = torch.ones_like(ids) if mask is None else mask.long()
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        settings = {"position_ids": positions, "output_hidden_states": True, "use_cache": False}
        try:
            with torch.no_grad():
                done = self.plain(input_ids=ids, attention_mask=mask, **settings)
        finally:
            for handle in handles:
                handle.remove()
        sites["resid_pre"] = list(done.hidden_states[:n_layers])
        return done.logits.float(), sites


class Zoo(dict):
    """Specimens by architecture, built when first asked for."""

    def __missing__(self, name: str) -> Specimen:
        import workbench as wb

        network = random_network(name)
        plain = copy.deepcopy(network)
        plain.set_attn_implementation("eager")
        self[name] = Specimen(name, wb.load_model(network, tokenizer=byte_tokenizer()), plain)
        return self[name]


@pytest.fixture(scope="session", autouse=True)
def no_power_cuts():
    """No waiting for the disk: a run writes a hundred files, and tests survive no power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_collection_modifyitems(items):
    _make_small_run_early(items)
    for item in items:
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=NO_SHARED))


def _make_small_run_early(items):
    """One file that reads the small run comes first, the others last.

    So one process makes it while the other has something else to do than to wait for it.
    """
    readers = list(dict.fromkeys(own.path for own in items if "small_run" in own.fixturenames))
    first = readers[-1:]
    items.sort(key=lambda own: 0 if own.path in first else 2 if own.path in readers else 1)


def skipped_by_reason(reports: Sequence[Any]) -> list[str]:
    """A line for each reason for which tests were skipped, the most frequent first."""
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in reports
        if isinstance(report.longrepr, tuple)
    )
    return [f"{count} skipped: {reason}" for reason, count in reasons.most_common()]


# The outermost of all summaries, so that its lines stand just above pytest's closing line.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    yield
    if lines := skipped_by_reason(terminalreporter.getreports("skipped")):
        terminalreporter.section("not run, and what would change it")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published data and checkpoints beside the project."""
    if not SHARED.is_dir():
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.fixture(scope="session")
def pocket():
    """The default organism; read-only."""
    import workbench as wb

    return wb.load_model("pocket")


@pytest.fixture(scope="session")
def craftgpt(shared):
    """A trained GPT-2 chat checkpoint; read-only."""
    import workbench as wb

    return wb.load_model(shared / "models" / "craftgpt")


@pytest.fixture(scope="session")
def zoo():
    """Tiny random models of many architectures, each beside a plain copy of it; read-only."""
    return Zoo()


@pytest.fixture(scope="session", params=DENSE)
def specimen(request, zoo):
    """Ten architectures of the zoo, one after the other."""
    return zoo[request.param]


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """Builds a tokenizer of bytes: template, special tokens, merges, and whether it adds a BOS."""
    return byte_tokenizer


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Any]:
    """Builds a tiny random Hugging Face model of one architecture; the caller owns it."""
    return random_network


@pytest.fixture
def unchecked(monkeypatch):
    """Turns run-time type checks off, so that the workbench's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def small_study():
    """Settings of a run that takes seconds."""
    import workbench as wb

    return wb.Study(n_train=48, n_validation=16, n_test=12, max_new_tokens=16)


@pytest.fixture(scope="session")
def small_run_and_what_it_printed(small_study, tmp_path_factory, worker_id):
    """One small finished run on the shipped model, by the command, and the command's output."""
    from typer.testing import CliRunner

    import workbench as wb
    from workbench.cli.app import app
    from workbench.study.command import command

    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    printed = base / "small.txt"
    with FileLock(base / "small.lock"):
        if not printed.exists():
            options = [*command(small_study).split()[1:], "--out", str(base / "small")]
            result = CliRunner().invoke(app, options)
            assert result.exit_code == 0, result.output
            printed.write_text(result.output, encoding="utf-8")
        return wb.load_run(base / "small"), printed.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def small_run(small_run_and_what_it_printed):
    """The small run; read-only. All processes read the same."""
    return small_run_and_what_it_printed[0]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """A Chromium or Chrome of this machine."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip(
        "no Chromium or Chrome on this machine -> apt-get install chromium, "
        "or brew install --cask chromium"
    )


# One per module: while it is open, its event loop would be in the way of others.
@pytest.fixture(scope="module")
def chromium(chromium_path):
    """A headless browser."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed -> make test installs it"
    )
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield browser
        browser.close()
