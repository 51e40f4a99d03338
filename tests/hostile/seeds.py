"""Small valid files of every format that is read, as bundles: bytes of files by their names."""

import gzip
import io
import json
import struct
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import workbench as wb
from hostile.sealing import seal_run
from workbench.artifact import save_dataset
from workbench.study import names
from workbench.study.registry import ANALYSES

Bundle = dict[str, bytes]

D = 4
_VECTOR = torch.tensor([1.0, -2.0, 0.5, 3.0])
_TURNS = [{"role": "user", "content": "Bake bread"}, {"role": "assistant", "content": "Gladly."}]


def prompts() -> list[Bundle]:
    """Tables and texts of prompts, one file each."""
    rows = [
        {
            "text": f"How do I bake bread number {n}?",
            "label": "harmless",
            "category": "food",
            "n": n,
        }
        for n in range(4)
    ]
    csv = "text,label,category\n" + "".join(f"{row['text']},harmless,food\n" for row in rows)
    chats = [{"messages": _TURNS, "label": "harmless"}] * 3
    texts = {
        "a.csv": csv,
        "a.tsv": csv.replace(",", "\t"),
        "b.csv": 'sep=;\r\n"text";"label"\r\n"Bake; bread";"safe"\r\n"Two\r\nlines";"unsafe"\r\n',
        "a.json": json.dumps(rows),
        "b.json": json.dumps({"data": rows}),
        "c.json": json.dumps({"text": ["a", "b"], "label": ["harmful", "harmless"]}),
        "d.json": json.dumps({"train": rows[:2], "test": rows[2:]}),
        "e.json": json.dumps({"0": rows[0], "1": rows[1]}),
        "a.jsonl": "\n".join(map(json.dumps, rows)),
        "b.jsonl": "\n".join(map(json.dumps, chats)),
        "c.jsonl": json.dumps({"instruction": "Sum up", "input": "a text", "output": "b"}),
        "d.jsonl": json.dumps({"text": str(_TURNS), "label": "unsafe", "id": 3}),
        "a.txt": "Bake bread\nMake tea\n\nFold paper\n",
    }
    bundles = [{name: text.encode()} for name, text in texts.items()]
    bundles.append({"a.csv.gz": gzip.compress(csv.encode())})
    bundles.append({"u.csv": csv.encode("utf-16")})
    return bundles


def parquet() -> list[Bundle]:
    """Tables of Parquet, of many types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 3
    columns = {
        "text": pa.array(["Bake bread", "Make tea", "Fold paper"]),
        "label": pa.array(["safe"] * n).dictionary_encode(),
        "messages": pa.array([_TURNS] * n),
        "number": pa.array([1, 2, None]),
        "day": pa.array([0, 1, None], pa.timestamp("ns")),
        "part": pa.array([b"\xff\xfe", b"a", None], pa.binary()),
        "map": pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
        "price": pa.array([None] * n, pa.decimal128(5, 2)),
    }
    broken = pa.StringArray.from_buffers(
        n, pa.py_buffer(struct.pack("<4i", 0, 2, 4, 6)), pa.py_buffer(b"\xff\xfe\xc3(ok")
    )
    tables = [
        pa.table({name: columns[name] for name in ("text", "label")}),
        pa.table({name: columns[name] for name in ("messages", "label", "number")}),
        pa.table(columns),
        pa.table({"text": broken, "label": columns["label"]}),
        pa.table([columns["text"], columns["text"]], names=["text", "text"]),
    ]
    return [
        {"a.parquet": _written(lambda path, own=own: pq.write_table(own, path))} for own in tables
    ]


def vectors() -> list[Bundle]:
    """Vectors that other projects saved, by themselves or in their own way."""
    layers = torch.stack([_VECTOR, 2 * _VECTOR, 3 * _VECTOR])
    numpy = {layer: layers[layer].numpy() for layer in range(3)}
    held: dict[str, Any] = {
        "a.pt": layers,
        "b.pt": {1: _VECTOR, 2: _VECTOR.bfloat16()},
        "c.pt": {"model.layers.1": _VECTOR, "model.layers.2": _VECTOR.requires_grad_()},
        "d.pt": numpy,
        "e.pt": {"layer_activations": {1: _VECTOR}, "layer_type": "mlp"},
        "f.pt": {"directions": numpy, "model_type": "llama"},
        "evil_response_avg_diff.pt": layers,
        "qwen-hf-dir-food.pt": layers,
        "g.pt": {"vector": layers, "note": "a"},
    }
    bundles = []
    for name, value in held.items():
        for zipped in (True, False):
            made = io.BytesIO()
            torch.save(value, made, _use_new_zipfile_serialization=zipped)
            bundles.append({name: made.getvalue()})
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    bundles.append({"a.npy": _written(lambda path: np.save(path, array), ".npy")})
    bundles.append({"a.npz": _written(lambda path: np.savez(path, **{"1": array[0]}), ".npz")})
    bundles.append({"a.json": json.dumps(array.tolist()).encode()})
    bundles.append({"b.json": json.dumps({"1": array[0].tolist(), "2": [0.5] * D}).encode()})
    steering = {"directions": {"1": [0.5] * D}, "explained_variances": {}, "model_type": "llama"}
    bundles.append({"a.svec": json.dumps(steering).encode()})
    from safetensors.torch import save

    bundles.append(
        {"a.safetensors": save({"layers.1": torch.tensor(array[0]), "layers.2": _VECTOR})}
    )
    return bundles


def gguf() -> list[Bundle]:
    """Control vectors."""
    import gguf

    def write(path: Path) -> None:
        writer = gguf.GGUFWriter(path, "controlvector")
        writer.add_string("controlvector.model_hint", "llama")
        writer.add_uint32("controlvector.layer_count", 2)
        writer.add_array("notes", ["a", "b"])
        for layer in (1, 2):
            writer.add_tensor(f"direction.{layer}", np.ones(D, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return [{"a.gguf": _written(write)}]


def published_run() -> list[Bundle]:
    """The folder of a run of Arditi et al."""
    grid = torch.arange(24.0).reshape(2, 3, 4)
    rows = [
        {"layer": layer, "position": position, "refusal_score": 0.1 * layer - position,
         "steering_score": 1.0, "kl_div_score": 0.01}
        for layer in range(3) for position in (-2, -1)
    ]  # fmt: skip
    return [
        {
            "direction_metadata.json": b'{"pos": -1, "layer": 1}',
            "direction.pt": _saved(grid[1, 1].clone()),
            "generate_directions/mean_diffs.pt": _saved(grid),
            "select_direction/direction_evaluations.json": json.dumps(rows).encode(),
            "select_direction/direction_evaluations_filtered.json": json.dumps(rows[:3]).encode(),
            "completions/harmful.json": b'{"completions": [{"prompt": "a", "response": "b"}]}',
            "loss_evals/a.json": b'{"alpaca": {"ce_loss": 2.1}}',
        }
    ]


def artifacts() -> list[Bundle]:
    """Directions and activations of the workbench."""
    acts = _activations()
    kinds = [
        {"directions.safetensors": _written(wb.mean_difference(acts, acts).save, ".safetensors")},
        {"activations.safetensors": _written(acts.save, ".safetensors")},
    ]
    return [
        *kinds,
        {"activations.safetensors": _written(acts.with_resamples(2).save, ".safetensors")},
    ]


def run() -> list[Bundle]:
    """The folder of a run, with the smallest results that are read."""
    import xarray as xr

    labels = {"layer": [0, 1, 2], "position": [-2, -1]}
    cells = np.arange(6.0).reshape(3, 2) / 100
    scores = xr.Dataset(
        {name: (tuple(labels), cells) for name in ("bypass", "induce", "kl", "norm")},
        labels,
        {"n_layers": 8, "site": "resid_pre"},
    )
    named = {"prompt_set": ["harmful", "harmless"], "condition": ["plain", "ablated"]}
    effects = xr.Dataset(
        {"refusal_rate": (tuple(named), np.eye(2)), "n": (tuple(named), np.full((2, 2), 4))}, named
    )
    directions = wb.Directions(
        torch.ones(1, 3, 2, D), ("refusal",), (0, 1, 2), (-2, -1), provenance={"model": "pocket"}
    )
    kept = {"harmful": ["harmful-0001"], "harmless": ["harmless-0001"]}
    reply = {
        "prompt_set": "harmful", "condition": "plain", "id": "a", "category": "food",
        "prompt": "Bake bread", "reply": "Gladly.", "verdict": "complied",
    }  # fmt: skip
    texts = [
        {"part": part, "label": label, "id": f"{label}-{part}", "text": f"Bake {label} {part}",
         "category": "food"}
        for label in ("harmful", "harmless") for part in ("train", "validation", "test")
    ]  # fmt: skip
    prints: dict[str, dict[str, str]] = {"harmful": {}, "harmless": {}}
    for own in texts:
        prompt = wb.Prompt(own["id"], own["text"], own["label"], own["category"])
        prints[own["label"]][own["part"]] = wb.PromptSet((prompt,), name="a").fingerprint
    recorded = {
        "settings": json.loads(wb.Study().to_json()),
        "provenance": {"weights": "0" * 16, "prompts": prints},
    }
    verified = xr.Dataset(
        {"verdict": ("check", ["exact"]), "value": ("check", [0.0])},
        attrs={"verdict": "exact", "environment": {}},
    )
    passed = {"kept": {"train": kept, "validation": kept}, "refusal_tokens": [3]}

    def dataset(own: Any, kind: str) -> bytes:
        return _written(partial(save_dataset, dataset=own, kind=kind), ".safetensors")

    return [
        _as_run(
            {
                "study.json": json.dumps(recorded).encode(),
                "prompt_texts.jsonl": "".join(json.dumps(own) + "\n" for own in texts).encode(),
                "verification.safetensors": dataset(verified, "verification"),
                "prompts.json": json.dumps(passed).encode(),
                "replies.jsonl": json.dumps(reply).encode() + b"\n",
                "scores.safetensors": dataset(scores, "sweep"),
                "effects.safetensors": dataset(effects, "effects"),
                "directions.safetensors": _written(directions.save, ".safetensors"),
                "direction.safetensors": _written(
                    directions.at(layer=0, position=-2).save, ".safetensors"
                ),
                ANALYSES[0].note: b'{"reason": "too few", "again": false}',
            }
        )
    ]


def _as_run(files: Bundle) -> Bundle:
    """The files of a run with the ledger that they would have."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        seal_run(folder)
        return {name: (folder / name).read_bytes() for name in (*files, names.LEDGER)}


def _activations() -> Any:
    return wb.Activations(
        values=torch.arange(32.0).reshape(4, 2, 1, D),
        counts=(1,) * 4,
        categories=("food", "food", "tea", "tea"),
        labels=("harmful",) * 4,
        ids=tuple("abcd"),
        layers=(1, 2),
        positions=(-1,),
        site="resid_pre",
        texts=tuple("abcd"),
    )


def _saved(value: Any) -> bytes:
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()


def _written(write: Callable[[Path], Any], suffix: str = "") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed{suffix}"
        write(path)
        return path.read_bytes()


def templates() -> list[Bundle]:
    """Chat templates."""
    short = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    dated = "{{ strftime_now('%d %B %Y') }}" + short
    switched = short + "{% if enable_thinking is false %}<think></think>{% endif %}"
    return [{"a.jinja": text.encode()} for text in (short, dated, switched)]


def tokenizers() -> list[Bundle]:
    """The tokenizer of a model's folder: one token per letter, and a template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:120]
    vocab = {token: at for at, token in enumerate(["<pad>", "<s>", "</s>", *letters])}
    own = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<pad>"))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    own.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": 512,
        "chat_template": templates()[0]["a.jinja"].decode(),
    }
    return [
        {
            "tokenizer.json": own.to_str().encode(),
            "tokenizer_config.json": json.dumps(config).encode(),
            "config.json": json.dumps({"model_type": "llama"}).encode(),
        }
    ]


def models() -> list[Bundle]:
    """The folder of a model, as small as one can be."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return [{**tokenizers()[0], **written}]


def saes() -> list[Bundle]:
    """The folder of a sparse autoencoder."""
    from workbench.directions.sae.saelens import import_sae_lens

    sae_lens = import_sae_lens()
    kind, config = sae_lens.registry.get_sae_class("standard")
    metadata = sae_lens.saes.sae.SAEMetadata(hook_name="blocks.1.hook_resid_pre", model_name="tiny")
    sae = kind(config(d_in=D, d_sae=6, metadata=metadata))
    with tempfile.TemporaryDirectory() as folder:
        sae.save_model(folder)
        return [{path.name: path.read_bytes() for path in Path(folder).iterdir()}]


def ggufs() -> list[Bundle]:
    """A language model as one file."""
    from conftest import byte_tokenizer
    from ggufs import write_gguf
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=264, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    network, tokenizer = LlamaForCausalLM(config), byte_tokenizer(merges=[("t", "h")])
    return [{"a.gguf": _written(lambda path: write_gguf(path, network, tokenizer))}]


def adapters() -> list[Bundle]:
    """The folder of an adapter on the shipped model."""
    import warnings

    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from workbench.models.organisms import organism_path

    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_pretrained(organism_path("pocket-two"))
    config = LoraConfig(r=1, target_modules=["q_proj"], init_lora_weights=False)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        get_peft_model(network, config).save_pretrained(folder)
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    written.pop("README.md", None)
    return [written]
