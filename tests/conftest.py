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
ARCHITECTURES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "phi3",
    "gemma2",
    "gemma3",
    "olmo2",
    "gpt_neox",
    "gpt2",
)
PARTS = {
    # attn_out, mlp_out and the output projection, as attributes of a block
    "default": ("self_attn", "mlp", "self_attn.o_proj"),
    "post_norm": ("post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj"),
    "gpt_neox": ("attention", "mlp", "attention.dense"),
    "gpt2": ("attn", "mlp", "attn.c_proj"),
}
POST_NORM = ("gemma2", "gemma3", "olmo2")

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


def random_network(name: str, seed: int = 0) -> Any:
    """A tiny Hugging Face model in which no norm is trivial and no distribution flat."""
    import torch
    import transformers as hf

    size = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 48}
    size |= {"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 256}
    size |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    grouped = {**size, "num_key_value_heads": 2}
    sliding = {"sliding_window": 8, "head_dim": 12}
    sliding["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention"]
    torch.manual_seed(seed)
    network = {
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**grouped)),
        "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**grouped, sliding_window=8)),
        "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**grouped)),
        "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**grouped, head_dim=12)),
        "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**grouped)),
        "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**grouped, **sliding)),
        "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**grouped, **sliding)),
        "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**grouped)),
        "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**size)),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(
                vocab_size=264,
                n_embd=32,
                n_layer=3,
                n_head=4,
                n_positions=256,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=3,
            )
        ),
    }[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.mul_(10 if name.startswith("gpt") else 6)
    return network.eval()


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

    def read(self, ids: Any, mask: Any = None) -> tuple[Any, dict[str, list[Any]]]:
        """Logits at every position, and every site of every layer, by Hugging Face alone."""
        import torch

        sites: dict[str, list[Any]] = {"attn_out": [], "mlp_out": [], "z": []}

        def output(site):
            def hook(module, args, value):
                sites[site].append(value[0] if isinstance(value, tuple) else value)

            return hook

        handles = []
        for layer in range(len(self.blocks)):
            handles.append(
                self.part(layer, "z").register_forward_pre_hook(
                    lambda module, args: sites["z"].append(args[0])
                )
            )
            for site in ("attn_out", "mlp_out"):
                handles.append(self.part(layer, site).register_forward_hook(output(site)))
        mask = torch.ones_like(ids) if mask is None else mask.long()
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        try:
            with torch.no_grad():
                done = self.plain(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    output_hidden_states=True,
                    use_cache=False,
                )
        finally:
            for handle in handles:
                handle.remove()
        sites["resid_pre"] = list(done.hidden_states[:-1])
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


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=NO_SHARED))


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
    """Tiny random models of ten architectures, each beside a plain Hugging Face copy; read-only."""
    return Zoo()


@pytest.fixture(scope="session", params=ARCHITECTURES)
def specimen(request, zoo):
    """One architecture of the zoo after the other."""
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
def small_run(pocket, small_study, tmp_path_factory):
    """One small finished run on the shipped model; read-only."""
    import workbench as wb

    folder = tmp_path_factory.mktemp("runs") / "small"
    return wb.run_study(small_study, folder, model=pocket)


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
