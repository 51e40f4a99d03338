"""Folders and data sets of the Hub: one split, or an error that lists them."""

import gzip
import json
import sys

import datasets
import pandas as pd
import pyarrow as pa
import pytest

from workbench.errors import PromptError
from workbench.prompts.sources import load_prompts

ASK = ("Bake bread", "Sew")


def data_set(texts=ASK, **columns):
    return datasets.Dataset.from_dict({"text": list(texts), **columns})


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


def load(source, **options):
    return load_prompts(source, label="harmless", **options)


def hub(monkeypatch, answer):
    """Stands in for the Hub; returns what it is asked."""
    calls = []

    def load_dataset(*arguments, **options):
        calls.append((arguments, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_what_datasets_saves_to_disk(tmp_path):
    data_set().save_to_disk(tmp_path / "one")
    prompts = load(tmp_path / "one")
    assert prompts.texts == ASK and prompts.name == "one"
    assert prompts.provenance == {"kind": "file", "source": "one"}
    assert load(str(tmp_path / "one")) == prompts
    both = datasets.DatasetDict(train=data_set(), test=data_set(["Sing"]))
    both.save_to_disk(tmp_path / "two")
    test = load(tmp_path / "two", split="test")
    assert test.texts == ("Sing",) and test.provenance["split"] == "test"
    with pytest.raises(PromptError, match=r"two holds several splits: train, test. Choose one wit"):
        load(tmp_path / "two")
    with pytest.raises(PromptError, match=r"two has no split 'dev': train, test"):
        load(tmp_path / "two", split="dev")
    with pytest.raises(PromptError, match=r"one has no splits. Leave split='dev' out"):
        load(tmp_path / "one", split="dev")


def folded(kind, n=400):
    """A table of two columns that holds a hundred times what its file does, and how it is kept."""
    text = "x" * 1000
    column = pa.array([text] * n)
    if kind == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([text]))
    elif kind == "nulls":
        column = pa.array([[None] * 5000] * n, pa.list_(pa.null()))
    return pa.table({"text": column})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("zstd", "is a packed Arrow file, of which nothing says how much .* Save the data set ag"),
        ("lz4", "is a packed Arrow file"),
        ("dictionary", "[0-9,]+ bytes of text and numbers, and at most 100,000 are read"),
        ("nulls", "[0-9,]+ cells, and at most 3,125"),
        ("", "at most 100,000 are read"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_a_saved_data_set_that_unfolds_is_refused(tmp_path, kind, message, split):
    one = data_set()
    (datasets.DatasetDict(train=one) if split else one).save_to_disk(tmp_path)
    (file,) = tmp_path.rglob("*.arrow")
    table = folded(kind)
    options = pa.ipc.IpcWriteOptions(compression=kind if kind in ("zstd", "lz4") else None)
    with pa.ipc.new_stream(str(file), table.schema, options=options) as stream:
        stream.write_table(table)
    with pytest.raises(PromptError, match=message):
        load(tmp_path, max_bytes=100_000)


def test_a_file_that_is_listed_often_is_counted_as_often(tmp_path):
    data_set(["x" * 1000]).save_to_disk(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    state["_data_files"] *= 200
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(PromptError, match="bytes of text and numbers, and at most 100,000"):
        load(tmp_path, max_bytes=100_000)


def test_a_broken_data_set_on_disk_is_one_line(tmp_path, monkeypatch):
    data_set().save_to_disk(tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(PromptError, match=r"is a broken data set: .* Save it again") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PromptError, match=r"saved with the package 'datasets', .* pip install"):
        load(tmp_path)


def test_a_clone_of_a_data_set(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("LICENSE.txt", "README.md", "dataset_infos.json", ".git/x.json"):
        (tmp_path / name).write_text("{}")
    for shard, text in enumerate(ASK):
        path = tmp_path / "data" / f"train-0000{shard}-of-00002.parquet"
        pd.DataFrame({"text": [text]}).to_parquet(path)
    assert load(tmp_path).texts == ASK
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "test.csv").write_text("text\nSing\n")
    assert load(tmp_path, split="small/test").texts == ("Sing",)
    assert load(tmp_path, split="train").provenance["split"] == "train"
    with pytest.raises(PromptError, match=r"several splits: train, small/test. Choose one"):
        load(tmp_path)


def shard(folder, index, n, text, suffix=".csv"):
    path = folder / f"train-{index:05d}-of-{n:05d}{suffix}"
    content = f"text\n{text}\n".encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)


def test_shards_of_a_split_are_all_read_or_it_is_refused(tmp_path):
    shard(tmp_path, 0, 3, "Bake")
    shard(tmp_path, 2, 3, "Sew")
    with pytest.raises(PromptError, match=r"2 of 3 shards of the split 'train'; number 1 is mis"):
        load(tmp_path)
    shard(tmp_path, 1, 3, "Sing")
    assert load(tmp_path).texts == ("Bake", "Sing", "Sew")


def test_shards_may_count_from_one_and_their_split_may_have_dots(tmp_path):
    for index, text in enumerate(ASK, start=1):
        (tmp_path / f"train.en-{index:05d}-of-00002.jsonl").write_text(f'{{"text": "{text}"}}')
    assert load(tmp_path, split="train.en").texts == ASK
    (tmp_path / "train.en-00001-of-00002.jsonl").unlink()
    with pytest.raises(PromptError, match=r"1 of 2 shards of the split 'train.en'; number 1 is"):
        load(tmp_path)


def test_shards_that_are_compressed_are_read_too(tmp_path):
    for index, text in enumerate(ASK):
        shard(tmp_path, index, 2, text, ".csv.gz")
    assert load(tmp_path).texts == ASK


@pytest.mark.parametrize("other", ["train.jsonl", "data/train.csv", "train-00000-of-00001.csv"])
def test_one_split_in_two_files_that_are_no_shards_is_refused(tmp_path, other):
    (tmp_path / "data").mkdir()
    (tmp_path / "train.csv").write_text("text\nBake\n")
    (tmp_path / other).write_text('{"text": "Bake"}\n' if "jsonl" in other else "text\nBake\n")
    (tmp_path / "test.csv").write_text("text\nSing\n")
    with pytest.raises(PromptError, match=r"the split 'train' more than once: .*train\.csv"):
        load(tmp_path, split="train")
    assert load(tmp_path, split="test").texts == ("Sing",)


def test_a_data_set_comes_from_the_hub_by_its_id(monkeypatch):
    calls = hub(monkeypatch, data_set())
    prompts = load("owner/name", split="train")
    assert calls == [(("owner/name",), {"split": "train"})]
    assert prompts.texts == ASK
    assert prompts.provenance == {"kind": "hub", "source": "owner/name", "split": "train"}
    calls = hub(monkeypatch, datasets.DatasetDict(only=data_set()))
    assert load("owner/na-me_1.0").provenance["split"] == "only"
    assert calls == [(("owner/na-me_1.0",), {"split": None})]
    hub(monkeypatch, datasets.DatasetDict(train=data_set(), test=data_set()))
    with pytest.raises(PromptError, match=r"owner/name holds several splits: train, test. Choose"):
        load("owner/name")


def test_labels_that_a_data_set_stores_as_numbers_have_their_names(monkeypatch):
    names = datasets.ClassLabel(names=["safe", "unsafe"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    found = datasets.Dataset.from_dict({"text": list(ASK), "label": [1, 0]}, features=features)
    hub(monkeypatch, found)
    assert load_prompts("owner/name").labels == ("harmful", "harmless")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ConnectionError("Couldn't reach\nit"), "cannot get the data set 'owner/name' from https://.*"
         "/owner/name: no connection, .* Couldn't reach it. Go online once, or pass the path of"),
        (RuntimeError("a gated dataset"), "owner/name is gated: accept its terms .* or pass the p"),
        (ValueError('Unknown split "x".'), "cannot be had so: Unknown split .* or pass the path"),
        (ValueError("Config name is missing."), "cannot be had so: Config name is missing"),
    ],
)  # fmt: skip
def test_a_data_set_out_of_reach_is_one_line(monkeypatch, answer, message):
    hub(monkeypatch, answer)
    with pytest.raises(PromptError, match=message) as caught:
        load("owner/name", split="x")
    assert "\n" not in str(caught.value) and "path=" not in str(caught.value)


def test_what_is_no_id_is_not_looked_for_on_the_hub(monkeypatch, tmp_path):
    calls = hub(monkeypatch, AssertionError("asked"))
    monkeypatch.chdir(tmp_path)
    for name in ("data/none.csv", "./none/none", "a/b/c", "~/none", "owner/name.jsonl.gz"):
        with pytest.raises(PromptError, match="no file"):
            load(name)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").mkdir()
    with pytest.raises(PromptError, match=r"owner/name is a folder. Pass a file in it"):
        load("owner/name")
    assert not calls
