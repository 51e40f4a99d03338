"""t_inst in every prompt, where tokenizers join the end of the user's words with the template."""

import copy

import pytest
import torch

import workbench as wb
from workbench.activations import Activations, collect_activations
from workbench.directions.direction import Directions
from workbench.errors import AxisError, ModelError, PromptError
from workbench.models.frame import PROBES
from workbench.models.loading.load import load_model
from workbench.models.tokens import ChatTemplate

CONTENT = "{{ messages[-1]['content'] }}"
SYSTEM = "{% if messages|length > 1 %}{{ messages[0]['content'] }}\n{% endif %}"
TEMPLATES = {
    "tulu": SYSTEM + "<|user|>\n" + CONTENT + "\n<|assistant|>\n",
    "alpaca": SYSTEM + "### Instruction:\n" + CONTENT + "\n\n### Response:\n",
    "human": SYSTEM + "Human: " + CONTENT + "\n\nAssistant:",
    "inst": SYSTEM + "[INST]" + CONTENT + "[/INST]",
    "trims": SYSTEM + "Q: {{ messages[-1]['content'] | trim }}\nA: <think>\n\n</think>\n",
}
TEXTS = [
    "How far is the sea?",
    "hi",
    "Größe (in cm)?",
    "Say it. ",
    "x)",
    "tell me 🙂",
    "So.\n",
    "?",
]
MERGES = [(a, b) for a in "?.)" for b in "Ċ["] + [("Ċ", "Ċ"), ("?Ċ", "Ċ"), ("Ġ", "Ċ"), ("?[", "/")]


def byte_level(make_tokenizer, template, trims=True):
    """Bytes with merges across the template's border, spaces left out of offsets or not."""
    from tokenizers import processors

    tokenizer = make_tokenizer(template, merges=MERGES)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=trims)
    return tokenizer


def sentence_piece(template):
    """Characters and pairs of them as of SentencePiece; what it does not know is bytes."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    letters = sorted({*"".join([*TEMPLATES.values(), *TEXTS, *PROBES])} - {"🙂", "ö", " "} | {"▁"})
    merges = [(a, b) for a in "?.)e" for b in "\n["] + [("\n", "\n"), ("▁", "\n"), ("▁", "[")]
    entries = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocab = {piece: index for index, piece in enumerate([*entries, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", chat_template=template
    )


def n_bytes(piece):
    """Bytes of the text that a piece stands for, counted without offsets."""
    if piece.startswith("<0x"):
        return 1
    return len(piece.replace("▁", " ").encode()) if "▁" in piece or len(piece) < 2 else len(piece)


def held_bytes(chat, ids, kind):
    """From which byte to which each token of a rendered prompt reaches."""
    pieces = chat.tokenizer.convert_ids_to_tokens(ids)
    sizes = [len(piece) if kind == "byte-level" else n_bytes(piece) for piece in pieces]
    at = -1 if kind != "byte-level" else 0  # SentencePiece puts a space before the text
    spans = []
    for size in sizes:
        spans.append((at, at + size))
        at += size
    return spans


@pytest.fixture(params=["byte-level", "SentencePiece"])
def kind(request):
    return request.param


@pytest.fixture(params=TEMPLATES)
def chat(request, kind, make_tokenizer):
    text = TEMPLATES[request.param]
    made = byte_level(make_tokenizer, text) if kind == "byte-level" else sentence_piece(text)
    return ChatTemplate(made)


@pytest.mark.parametrize("system", [None, "Be kind."])
def test_t_inst_is_the_last_token_that_holds_a_character_of_the_instruction(chat, kind, system):
    tokens = chat.tokens(TEXTS, system)
    frame = chat.frame(system)
    shared = 0
    for row, text in enumerate(TEXTS):
        rendered = chat.render(text, system)
        first = len(frame.before.encode())
        end = len(rendered.encode()) - len(frame.after.encode())
        spans = held_bytes(chat, tokens.ids[row, tokens.mask[row]].tolist(), kind)
        assert spans[-1][1] == len(rendered.encode())
        last = max(at for at, (start, _) in enumerate(spans) if start < end)
        whole = [at for at, (low, high) in enumerate(spans) if first <= low and high <= end]
        assert tokens.t_insts[row] == last - len(spans)
        assert bool(tokens.shared[row]) == (spans[last][1] > end)
        shared += spans[last][1] > end
        if whole:
            alone = chat.tokens([text], system, t_inst="last_whole_token")
            assert alone.t_insts.tolist() == [whole[-1] - len(spans)]
        held = tokens.ids[row, tokens.subset("instruction")[row]]
        assert tokens.subset("t_inst")[row].sum() == 1
        assert held[-1] == tokens.ids[row, tokens.subset("t_inst")[row]].item()
    assert sum(chat.shared_tokens(tokens).values()) == shared
    assert shared, "this tokenizer joins nothing, so nothing was tested"
    assert tokens.t_inst_label == "t_inst"


def test_t_inst_stands_before_the_template_where_nothing_is_shared(make_tokenizer):
    tokens = ChatTemplate(make_tokenizer(TEMPLATES["tulu"])).tokens(TEXTS)
    assert tokens.t_inst == tokens.t_inst_label == -tokens.n_post - 1
    assert tokens.t_insts.tolist() == [tokens.t_inst] * len(TEXTS)
    assert tokens.ending_at("last_whole_token").t_inst == tokens.t_inst
    assert not tokens.shared.any()


def test_a_tokenizer_that_joins_every_end_shares_all_of_them(make_tokenizer):
    # All probes end in a shared token: their ids alone do not show it.
    merges = [(chr(own), "[") for own in range(33, 127)]
    chat = ChatTemplate(make_tokenizer(TEMPLATES["inst"], merges=merges))
    tokens = chat.tokens(["Why?", "hi"])
    assert tokens.shared.all() and chat.shared_tokens(tokens) == {"?[": 1, "i[": 1}
    whole = tokens.ending_at("last_whole_token")
    assert [chat.tokenizer.decode(row[whole.t_inst]) for row in tokens.ids] == ["y", "h"]


def test_an_instruction_without_a_token_of_its_own(make_tokenizer, unchecked):
    chat = ChatTemplate(byte_level(make_tokenizer, TEMPLATES["tulu"]))
    tokens = chat.tokens(["hi", "?"], t_inst="last_whole_token")
    with pytest.raises(PromptError, match=r"in 1 of 2 prompts \(first in prompt 1\) holds"):
        _ = tokens.t_insts
    assert tokens.ending_at("last_token").t_insts.tolist()[1] == tokens.ends[1]
    with pytest.raises(AxisError, match="no t_inst 'first': last_token, last_whole_token"):
        tokens.ending_at("first")


def test_a_tokenizer_without_offsets_is_refused_only_where_tokens_are_shared(make_tokenizer):
    def slow(tokenizer):
        class Slow(type(tokenizer)):
            is_fast = False

            def __call__(self, *args, return_offsets_mapping=False, **settings):
                assert not return_offsets_mapping
                return super().__call__(*args, **settings)

        made = copy.copy(tokenizer)
        made.__class__ = Slow
        return made

    plain = make_tokenizer(TEMPLATES["tulu"])
    found = ChatTemplate(slow(plain)).tokens(TEXTS)
    assert found.t_insts.tolist() == ChatTemplate(plain).tokens(TEXTS).t_insts.tolist()
    with pytest.raises(ModelError, match="does not say which characters a token holds, so t_inst"):
        ChatTemplate(slow(byte_level(make_tokenizer, TEMPLATES["tulu"]))).tokens(["hi"])


@pytest.fixture(scope="module")
def sharing(make_network, make_tokenizer):
    """A model whose tokenizer joins question marks with its template; read-only."""
    return load_model(
        make_network("llama"), tokenizer=byte_level(make_tokenizer, TEMPLATES["tulu"])
    )


PROMPTS = {"harmful": ["How far?", "no", "So."], "harmless": ["Why is it so?", "Name a tea", "hi"]}


@pytest.mark.parametrize("t_inst", ["last_token", "last_whole_token"])
def test_activations_are_read_at_t_inst_of_each_prompt(sharing, tmp_path, t_inst):
    texts = PROMPTS["harmful"]
    acts = collect_activations(
        sharing, texts, positions=("t_inst", -1), per_prompt=True, t_inst=t_inst
    )
    tokens = sharing.tokens(texts, t_inst=t_inst)
    if t_inst == "last_token":
        assert len({*tokens.t_insts.tolist()}) > 1
    for row, text in enumerate(texts):
        position = int(tokens.t_insts[row])
        alone = collect_activations(sharing, [text], positions=[position], per_prompt=True)
        torch.testing.assert_close(
            acts.at(2, "t_inst")[row], alone.at(2, position)[0], rtol=1e-4, atol=1e-5
        )
    assert acts.provenance["t_inst"] == {
        "token": t_inst, "n_shared": 2, "shared_tokens": {".\n": 1, "?\n": 1}
    }  # fmt: skip
    found = Activations.load(acts.save(tmp_path / "acts.safetensors"))
    assert found.positions == ("t_inst", -1) and torch.equal(found.values, acts.values)


def test_directions_at_t_inst_go_through_everything(sharing, tmp_path):
    acts = {label: collect_activations(sharing, texts) for label, texts in PROMPTS.items()}
    assert acts["harmful"].positions[0] == "t_inst"
    directions = wb.mean_difference(acts["harmful"], acts["harmless"])
    saved = Directions.load(directions.save(tmp_path / "directions.safetensors"))
    assert saved.positions == directions.positions
    r = saved.at(layer=1, position="t_inst")
    with pytest.raises(AxisError, match="no position -99 in these directions: positions t_inst, "):
        saved.at(position=-99)
    scores = wb.sweep_directions(sharing, saved, refusal_tokens=[5], **PROMPTS)
    at = scores.sel(position="t_inst", layer=1)
    assert at["position_label"].item() == "t_inst" and float(at["bypass"]) == float(at["bypass"])
    choice = wb.select_direction(
        scores.sel(position=["t_inst"]), kl_cap=9e9, induce_floor=-9e9, skip_last=0.0
    )
    assert choice.position == "t_inst"
    shown = wb.figures.sweep(scores, choice)
    assert "t_inst" in {trace.name for trace in shown.data}
    between = wb.geometry.cosine_similarity_map(saved.at(layer=1), over="position")
    assert between["position"].values.tolist()[0] == "t_inst"
    assert between.sel(position="t_inst", position_other=-1)["cosine"].size == 1
    wb.figures.cosine_map(between)
    last = sharing.logits(PROMPTS["harmful"])
    with wb.intervene(sharing, wb.Add(r, coefficient=5.0, tokens="t_inst")):
        moved = collect_activations(sharing, PROMPTS["harmful"], positions=("t_inst", -1))
        assert not torch.allclose(sharing.logits(PROMPTS["harmful"]), last)
    change = moved.mean()[1] - acts["harmful"].mean()[1][[0, -1]]
    torch.testing.assert_close(change[0], 5 * r.vector.double(), rtol=1e-4, atol=1e-4)
    assert change[1].norm() < 1e-5


def test_differences_between_other_ends_are_refused(sharing):
    acts = [
        collect_activations(sharing, texts, positions=["t_inst"], t_inst=t_inst)
        for texts, t_inst in zip(PROMPTS.values(), ("last_token", "last_whole_token"), strict=True)
    ]
    with pytest.raises(AxisError, match="t_inst is the last_token of the positive prompts and"):
        wb.mean_difference(*acts)


def test_datasets_keep_names_beside_numbers(tmp_path):
    import xarray as xr

    from workbench.artifact import load_dataset, save_dataset
    from workbench.positions import position_axis

    made = xr.Dataset({"x": ("position", [1.0, 2.0])}, {"position": position_axis(["t_inst", -1])})
    save_dataset(tmp_path / "made.safetensors", made, kind="cosines")
    found = load_dataset(tmp_path / "made.safetensors", kind="cosines")
    assert found["position"].values.tolist() == ["t_inst", -1]
    assert float(found["x"].sel(position=-1)) == 2.0


def test_verification_says_how_often_t_inst_is_shared(sharing):
    found = wb.verify_model(sharing)
    note = found["note"].sel(check="template").item()
    assert note.endswith(
        r"t_inst holds characters of the template, too: '.\n' in 1, '?\n' in 1 of 3"
    )
    parts = found["token_part"].values.tolist()
    assert found["token_text"].values[parts.index("t_inst")] == "?\n"
