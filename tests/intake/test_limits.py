"""Bombs and odd files: refused by what they say of themselves, before they are unpacked."""

import gzip
import io
import json
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.__main__ import main as command_line
from workbench.arguments.options import in_options
from workbench.intake.limits import allowing, most_bytes, most_rows

LARGE = 10**12
SMALL = {"max_bytes": 2**20, "max_rows": 1000}
"""Limits of these tests."""
UNFOLDED = 2**21
"""More bytes than that, of files that are smaller."""


def repeated_text(path, nested):
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 900
    text = "x" * (UNFOLDED // n)
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))
    if nested:
        column = pa.ListArray.from_arrays(pa.array(np.arange(n + 1), pa.int32()), column)
    pq.write_table(pa.table({"text": column}), path)


def many_rows(path, n):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": pa.nulls(n, pa.string())}), path)


def gguf_of(path, n_fields, fields=b""):
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, n_fields) + fields)


def npy_of(path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def zeros(path, kind):
    """Deflated numbers: a file of torch, or an array, by the kind."""
    plain = io.BytesIO()
    torch.save(torch.ones(2), plain)
    with zipfile.ZipFile(plain) as own, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in own.namelist():
            made.writestr(name, own.read(name))
        with made.open(f"large.{kind}", "w", force_zip64=True) as entry:
            for _ in range(UNFOLDED // 2**20):
                entry.write(bytes(2**20))


def repeated_tensors(path):
    torch.save([torch.zeros(1).expand(2**16) for _ in range(90)], path)


def repeated_arrays(path):
    """Pickles of arrays share the bytes of one; no two of them are one object."""
    content = b"x" * 2**18
    arrays = []
    for _ in range(20):
        array = _Shared()
        array.content = content
        arrays.append(array)
    torch.save(arrays, path)


class _Shared:
    """Pickled as an array of NumPy is, around bytes that others hold as well."""

    content = b""

    def __reduce__(self):
        made, arguments, state = np.zeros(1, np.float32).__reduce__()
        return made, arguments, (1, (len(self.content) // 4,), state[2], False, self.content)


def pickled(path, content):
    """A file of torch with a pickle of that content."""
    torch.save(0, path)
    with zipfile.ZipFile(path) as own:
        entries = {name: own.read(name) for name in own.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, own in entries.items():
            made.writestr(name, content if name.endswith(".pkl") else own)


def footer(path, thrift):
    path.write_bytes(b"PAR1" + thrift + struct.pack("<I", len(thrift)) + b"PAR1")


def negative_values(path):
    """A table, one column of which says that it has less than no values, for the sum to be low."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(np.zeros(700, np.int64)) for name in ("text", "label")}
    pq.write_table(pa.table(columns), path, compression=None, use_dictionary=False)
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    rows = content.index(b"\xf8\x0a", footer)  # 700 in zigzag, of the table
    start = content.index(b"\xf8\x0a", rows + 1)  # the same, of a column
    path.write_bytes(content[:start] + b"\xf7\x0a" + content[start + 2 :])


ARRAY_OF_TEXTS = b"\x01" + b"\0" * 7 + b"a" + struct.pack("<IIQ", 9, 8, 2**40)
ARRAY_OF_BYTES = (
    struct.pack("<Q20sIQ13s", 20, b"general.architecture", 8, 13, b"controlvector")
    + struct.pack("<Q1sIIQ", 1, b"a", 9, 0, 20_000)
    + bytes(20_000)
)

BOMBS = {
    "text.parquet": (lambda path: repeated_text(path, False), "bytes of text, and at most 1,048"),
    "texts.parquet": (lambda path: repeated_text(path, True), "bytes of text, and at most 1,048"),
    "rows.parquet": (lambda path: many_rows(path, 1001), "1,001 rows or more, and at most 1,000"),
    "rows.csv": (lambda path: path.write_text("text\n" + "a\n" * 1001), "1,001 rows or more"),
    "wide.csv": (
        lambda path: path.write_text(f"{','.join(map(str, range(700)))}\n" + "a\n" * 900),
        "cells, and at most 32,768 are read",
    ),
    "line.csv": (
        lambda path: path.write_text(",".join(f"column {n}" for n in range(50_000)) + "\n1,2"),
        "its first line, which names the columns, has",
    ),
    "rows.jsonl": (lambda path: path.write_text("\n" * 99 + "{}\n" * 1001), "1,001 rows or more"),
    "rows.txt": (lambda path: path.write_text("a\n" * 1001), "1,001 rows or more"),
    "values.json": (lambda path: path.write_text("[" + "[]," * 20_000 + "[]]"), "40,002 values"),
    "a.csv.gz": (lambda path: path.write_bytes(gzip.compress(bytes(UNFOLDED))), "once unpacked"),
    "entries.gguf": (lambda path: gguf_of(path, 2**40), "it claims 1,099,511,627,776 entries in"),
    "texts.gguf": (lambda path: gguf_of(path, 1, ARRAY_OF_TEXTS), "values, and at most 32,768"),
    "numbers.gguf": (
        lambda path: gguf_of(path, 2, ARRAY_OF_BYTES),
        "arrays of 20,000 values in its",
    ),
    "tensors.pt": (repeated_tensors, "1,310,720 bytes of numbers"),
    "arrays.pt": (repeated_arrays, "1,310,720 bytes of numbers"),
    "lists.pt": (
        lambda path: pickled(path, b"\x80\x02" + b"]" * 5000 + b"."),
        "operations of a pickle, and at most 4,096",
    ),
    "structs.parquet": (
        lambda path: footer(path, b"\x29\xfc\x88\x27" + b"\0" * 5001),
        "values in a header, and at most 8,192",
    ),
    "negative.parquet": (negative_values, "it counts -[0-9,]+ of something"),
    "stride.pt": (
        lambda path: torch.save(torch.zeros(1).as_strided((LARGE,), (0,)), path),
        "4,000,000,000,000 bytes of numbers",
    ),
    "zeros.pt": (lambda path: zeros(path, "pkl"), "bytes once unpacked, and at most 1,048,576"),
    "zeros.npz": (lambda path: zeros(path, "npy"), "bytes once unpacked, and at most 1,048,576"),
    "claims.npy": (lambda path: npy_of(path, (LARGE,)), "it claims 1,000,000,000,000 numbers of 4"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unfolds_is_refused_before_it_does(tmp_path, name):
    make, message = BOMBS[name]
    path = tmp_path / name
    make(path)
    prompts = path.suffix in (".parquet", ".csv", ".jsonl", ".txt", ".gz")
    read = wb.load_prompts if prompts else wb.load_published
    assert path.stat().st_size < SMALL["max_bytes"]
    with allowing(**SMALL), pytest.raises(wb.WorkbenchError, match=message) as caught:
        read(path)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_refusing_takes_no_memory(tmp_path):
    for name in ("zeros.pt", "stride.pt", "entries.gguf", "claims.npy", "tensors.pt"):
        BOMBS[name][0](tmp_path / name)
    tracemalloc.start()
    for path in tmp_path.iterdir():
        with allowing(**SMALL), pytest.raises(wb.ArtifactError):
            wb.load_published(path)
    assert tracemalloc.get_traced_memory()[1] < UNFOLDED
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".pt", ".gguf", ".safetensors", ".json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_opened(tmp_path, suffix, kind):
    path = tmp_path / f"a{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    prompts = suffix in (".csv", ".parquet")
    with pytest.raises(wb.WorkbenchError, match=f"is a {kind} and no regular file"):
        (wb.load_prompts if prompts else wb.load_published)(path)
    if suffix == ".safetensors":
        for load in (wb.Directions.load, wb.Activations.load):
            with pytest.raises(wb.ArtifactError, match=f"is a {kind} and no regular file"):
                load(path)


def test_folders_hold_regular_files(tmp_path):
    from workbench.directions.sae.saelens import check_folder
    from workbench.models.loading.load import load_unchecked

    for name in ("dataset_dict.json", "config.json", "cfg.json"):
        (tmp_path / name).write_text("{}")
    os.mkfifo(tmp_path / "state.json")
    for read in (wb.load_prompts, load_unchecked, check_folder):
        with pytest.raises(wb.WorkbenchError, match=r"state\.json is a pipe and no regular file"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("W_enc", (8, 4), "holds no decoder W_dec"),
        ("W_dec", (8, 5), r"a decoder of shape \[8, 5\]"),
    ],
)
def test_settings_of_an_sae_have_the_size_of_its_weights(tmp_path, name, shape, message):
    from safetensors.numpy import save_file

    from workbench.directions.sae.saelens import check_folder

    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": 4, "d_sae": 8}))
    save_file({name: np.zeros(shape, np.float32)}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(wb.ArtifactError, match=message):
        check_folder(tmp_path)
    save_file({"W_dec": np.zeros((8, 4), np.float32)}, tmp_path / "sae_weights.safetensors")
    check_folder(tmp_path)


def test_limits_are_raised_and_lowered_by_arguments(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "Bake bread,safe\n" * 9)
    with pytest.raises(wb.PromptError, match=r"holds 9 rows or more.* pass max_rows=9"):
        wb.load_prompts(path, max_rows=8)
    assert len(wb.load_prompts(path, max_rows=9)) == 9
    size = path.stat().st_size
    with pytest.raises(wb.PromptError, match=rf"holds {size} bytes.* pass max_bytes={size}"):
        wb.load_prompts(path, max_bytes=size - 1)
    vectors = wb.Directions.from_vector([0.5, 1.0], layer=1).save(tmp_path / "d.safetensors")
    for load in (wb.Directions.load, wb.load_published):
        with pytest.raises(wb.ArtifactError, match="at most 10 are read"):
            load(vectors, max_bytes=10)
    with pytest.raises(wb.PromptError, match="at most 10 are read"):
        from workbench.study.prompts import split_prompts

        split_prompts(wb.Study(harmless=str(path), max_bytes=10))


def test_limits_hold_within_and_not_after():
    before = most_bytes(), most_rows()
    with allowing(max_rows=5), allowing(max_bytes=7):
        assert (most_bytes(), most_rows()) == (7, 5)
    assert (most_bytes(), most_rows()) == before
    for wrong in (0, -1, True):
        with pytest.raises(wb.WorkbenchError, match="max_rows must be a whole number from 1 on"):
            wb.load_prompts("harmful", max_rows=wrong)


def test_the_command_line_raises_a_limit_by_the_option_that_it_names(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "Bake bread,safe\n" * 9)
    call = ["workbench", "prompts", str(path)]
    monkeypatch.setattr("sys.argv", [*call, "--max-rows", "8"])
    with pytest.raises(SystemExit):
        command_line()
    assert "pass --max-rows 9." in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*call, "--max-rows", "9"])
    with pytest.raises(SystemExit) as ended:
        command_line()
    assert not ended.value.code
    assert in_options("pass max_bytes=7.", {"max_bytes": "--max-bytes"}) == "pass --max-bytes 7."


def test_a_message_fills_a_screen_at_most(tmp_path):
    path = tmp_path / "wide.csv"
    names = [f"c{n}" for n in range(999)]
    path.write_text(",".join(names) + "\n" + ",".join(names))
    with pytest.raises(wb.PromptError, match=r"has no column .* … .*'c998'") as caught:
        wb.load_prompts(path, label="harmless")
    assert len(str(caught.value)) == 2000
    with pytest.raises(wb.StudyError) as caught:
        wb.Study(analyses="x" * 10_000)
    assert len(str(caught.value)) == 2000
    assert json.dumps(str(wb.WorkbenchError())) == '""'
