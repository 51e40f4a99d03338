"""Head patching, ours and TransformerLens' own: the same cells on one model in one process.

    python benchmarks/head_patching.py                      # 8 layers, 8 heads, batch 4 x 64, CPU
    python benchmarks/head_patching.py --growth             # also over layers x heads, and length
    python benchmarks/head_patching.py --shape llama-3-8b --device cuda --dtype bfloat16 --repeats 3

Random weights. Repeats of the two alternate, because a machine is seldom idle; medians are printed,
of wall-clock time and, on a CPU, of the processor time that this process got.
Both count every pass: ours the source's, the prefix's and the packed one, and in ``cold`` also the
comparison with plain forwards that a freshly loaded model gets once; TransformerLens' the source's
cache, restricted to ``hook_z``. Prompts have no padding, since its patching takes no mask.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import workbench as wb
from workbench.models.tokens import Tokens
from workbench.scores.refusal import refusal_score

SHAPES = {
    "small": {
        "vocab_size": 1000,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "llama-3-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
REFUSAL = (7, 40)


def build(shape, device, dtype):
    """A random Llama, made where it will run, with weights large enough that heads matter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=4096)
    default = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            network = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(default)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2.5)
    return wb.load_model(network, tokenizer=tokenizer())


def tokenizer():
    """Never asked to tokenise: the prompts are random ids."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), pad_token="a"
    )


def prompts(model, batch, length, seed):
    """Random prompts of one length."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, model.bridge.cfg.d_vocab, (batch, length), generator=draw)
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool), 1, 1, ("a",)).to(model.device)


def ours(model, source, target):
    """Effects by prompt, [layer head prompt]."""
    found = wb.heads.patch_heads(model, source, target, pairing="paired", refusal_tokens=REFUSAL)
    assert found.attrs["method"] == "packed"
    return found["effect_by_prompt"].isel(position=0).values


@torch.no_grad()
def theirs(model, source, target, cells=None):
    """The same by TransformerLens' own patching: one forward per cell."""
    from transformer_lens import patching

    last = target.ids.shape[1] - 1
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.n_layers)]
    _, cache = model.bridge.run_with_cache(
        source.ids, names_filter=names, return_type=None, prepend_bos=False
    )

    def metric(logits):
        return refusal_score(logits[:, -1].float(), REFUSAL)

    if cells is None:
        cells = list(np.ndindex(model.n_layers, model.n_heads))
    frame = pd.DataFrame(
        [(layer, last, head) for layer, head in cells], columns=["layer", "pos", "head"]
    )
    result = patching.generic_activation_patch(
        model.bridge,
        target.ids,
        cache,
        metric,
        patching.layer_pos_head_vector_patch_setter,
        "z",
        index_df=frame,
        reduce="none",
        baseline=True,
    )
    return result


def effects(model, result, n_cells):
    """TransformerLens' result as effects by prompt, [cell prompt]."""
    values = result.values.reshape(n_cells, -1)
    return (values - result.baseline).double().cpu().numpy()


def peak(model, name, source, target):
    """Most memory, in MiB, above what was in use: of the GPU, or of this process, sampled."""
    call = {"ours": ours, "theirs": lambda *all: theirs(*all, [(0, 0), (1, 1)])}[name]
    call(model, source, target)
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        call(model, source, target)
        return (torch.cuda.max_memory_allocated() - start) / 2**20
    start, most, done = resident(), [resident()], threading.Event()

    def watch():
        while not done.wait(0.0005):
            most[0] = max(most[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(3):
        call(model, source, target)
    done.set()
    thread.join()
    return (most[0] - start) / 2**20


def peak_elsewhere(name, *size):
    """`peak` in a process of its own, which gives freed memory back at once."""
    command = [sys.executable, __file__, "--peak", name, json.dumps(size)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def seconds(model, call):
    """Wall-clock and processor time of one call, and what it returned."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter(), time.process_time()
    value = call()
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return np.array([time.perf_counter() - start[0], time.process_time() - start[1]]), value


def compare(shape, batch, length, device, dtype, repeats, cells=None):
    """Medians of alternating repeats; TransformerLens on some cells only where ``cells`` says."""
    model = build(shape, device, dtype)
    source, target = (prompts(model, batch, length, seed) for seed in (0, 1))
    all_cells = list(np.ndindex(model.n_layers, model.n_heads))
    chosen = (
        all_cells
        if cells is None
        else all_cells[:: max(1, len(all_cells) // cells)][: max(2, cells)]
    )
    cold, found = seconds(model, lambda: ours(model, source, target))
    times = {"ours": [], "theirs": []}
    for _ in range(repeats):
        spent, found = seconds(model, lambda: ours(model, source, target))
        times["ours"].append(spent)
        spent, result = seconds(model, lambda: theirs(model, source, target, chosen))
        if len(chosen) < len(all_cells):
            # The source's cache and the forward without a patch are made once, however many cells.
            once, _ = seconds(model, lambda: theirs(model, source, target, chosen[:1]))
            per_cell = (spent - once) / max(1, len(chosen) - 1)
            spent = spent + per_cell * (len(all_cells) - len(chosen))
        times["theirs"].append(spent)
    expected = effects(model, result, len(chosen))
    gap = max(abs(found[cell] - own).max() for cell, own in zip(chosen, expected, strict=True))
    size = (shape, batch, length, device, dtype)
    if model.device.type == "cuda":
        peaks = {name: peak(model, name, source, target) for name in times}
    else:
        peaks = {name: peak_elsewhere(name, *size) for name in times}
    wall, processor = (
        {name: statistics.median(each[kind] for each in own) for name, own in times.items()}
        for kind in (0, 1)
    )
    ratios = [
        statistics.median(b[kind] / a[kind] for a, b in zip(*times.values(), strict=True))
        for kind in (0, 1)
    ]
    scaled = "" if cells is None else f" (measured on {len(chosen)} cells, scaled)"
    print(
        f"| {model.n_layers} x {model.n_heads} | {batch} x {length} | {wall['ours']:.3f} | "
        f"{wall['theirs']:.3f}{scaled} | {ratios[0]:.1f}x | {processor['ours']:.3f} | "
        f"{cold[1]:.3f} | {processor['theirs']:.3f} | {ratios[1]:.1f}x | {peaks['ours']:.0f} | "
        f"{peaks['theirs']:.0f} | {abs(expected).max():.2g} | {gap:.1e} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cells",
        type=int,
        help="TransformerLens on so many cells, at least 2; their time is scaled up",
    )
    parser.add_argument("--growth", action="store_true", help="also other sizes and lengths")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak:
        shape, batch, length, device, dtype = json.loads(given.peak[1])
        model = build(shape, device, dtype)
        print(peak(model, given.peak[0], *(prompts(model, batch, length, seed) for seed in (0, 1))))
        return
    columns = ["layers x heads", "prompts x tokens"]
    columns += ["ours, s", "TransformerLens, s", "ratio"]
    columns += ["ours, CPU s", "ours cold, CPU s", "TransformerLens, CPU s", "ratio"]
    columns += ["ours, MiB", "TransformerLens, MiB", "largest effect, nats", "largest difference"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)
    shape = SHAPES[given.shape]
    common = (given.device, given.dtype, given.repeats)
    compare(shape, given.batch, given.length, *common, given.cells)
    if given.growth:
        for n_layers, n_heads in ((4, 4), (4, 8), (8, 16), (16, 16)):
            size = {"num_hidden_layers": n_layers, "num_attention_heads": n_heads}
            compare({**shape, **size}, given.batch, given.length, *common, given.cells)
        for length in (16, 32, 128, 256):
            compare(shape, given.batch, length, *common, given.cells)


if __name__ == "__main__":
    main()
