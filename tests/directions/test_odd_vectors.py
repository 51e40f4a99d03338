"""Published files that are odd: read where they are plausible, refused in one line where not."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

import workbench as wb

VECTOR = torch.tensor([1.0, -2.0, 0.5, 3.0])
GRID = torch.arange(24.0).reshape(2, 3, 4)
ROWS = [
    {"layer": layer, "position": position, "refusal_score": 1.0, "steering_score": 1.0,
     "kl_div_score": 0.01}
    for layer in range(3) for position in (-2, -1)
]  # fmt: skip


def run_of(folder, **changed):
    """A run in the published layout, some of its files changed."""
    files = {
        "direction_metadata.json": {"pos": -2, "layer": 1},
        "direction.pt": GRID[0, 1].clone(),
        "generate_directions/mean_diffs.pt": GRID,
        "select_direction/direction_evaluations.json": ROWS,
        "completions/harmful.json": {"completions": [{"prompt": "a", "response": "b"}]},
    } | changed
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, torch.Tensor):
            torch.save(content, path)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize("change", [torch.Tensor.bfloat16, torch.Tensor.half, torch.nn.Parameter])
def test_mean_differences_in_half_precision_or_with_gradients(tmp_path, change):
    changed = {
        "generate_directions/mean_diffs.pt": change(GRID.clone()),
        "direction.pt": change(GRID[0, 1].clone()),
    }
    found = wb.load_published(run_of(tmp_path, **changed)).directions
    assert torch.equal(found.values[0].transpose(0, 1), GRID)
    assert found.values.dtype == torch.float32 and not found.values.requires_grad
    again = wb.Directions.load(found.save(tmp_path / "d.safetensors"))
    assert torch.equal(again.values, found.values)
    assert torch.isfinite(found.unit().values[:, 1:]).all()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (GRID[0].to_sparse(), "not a plain one"),
        (torch.empty(3, 4, device="meta"), "not a plain one"),
        (GRID[0].to(torch.float8_e4m3fn), "not a plain one"),
        (GRID[0].int(), "numbers of type torch.int32"),
        (torch.ones(3, 4, dtype=torch.complex64), "numbers of type torch.complex64"),
        ({1: VECTOR.int(), 2: VECTOR.int()}, "float"),
        ({1: VECTOR.tolist(), 2: ["a"]}, "vector"),
        ({1: {2: {3: VECTOR}}, 4: [[VECTOR]]}, "vector"),
        ({(1, 2): VECTOR, None: VECTOR}, "keys|layer"),
    ],
)
def test_tensors_that_are_no_vectors(tmp_path, tensor, message):
    torch.save(tensor, tmp_path / "v.pt")
    with pytest.raises(wb.ArtifactError, match=message) as caught:
        wb.load_published(tmp_path / "v.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("direction_metadata.json", {"pos": -2, "layer": "five"}),
        ("direction_metadata.json", {"pos": -2, "layer": 1.7}),
        ("direction_metadata.json", {"pos": None, "layer": 1}),
        ("select_direction/direction_evaluations.json", [5]),
        ("select_direction/direction_evaluations.json", [{**ROWS[0], "layer": "two"}]),
        ("select_direction/direction_evaluations.json", [{**ROWS[0], "kl_div_score": [1]}]),
        ("select_direction/direction_evaluations.json", "[" * 100_000),
        ("select_direction/direction_evaluations_filtered.json", [{"layer": 1}]),
        ("select_direction/direction_evaluations_filtered.json", [{"layer": 90, "position": 7}]),
        ("completions/harmful.json", {"completions": "none"}),
        ("completions/harmful.json", [1]),
    ],
)
def test_runs_with_files_of_other_types(tmp_path, name, content):
    with pytest.raises(wb.ArtifactError) as caught:
        wb.load_published(run_of(tmp_path, **{name: content}))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "path", ["x" * 5000, "x" * 5000 + ".pt", "a\0b.npy", ("y" * 200 + "/") * 40]
)
def test_paths_that_no_file_can_have(path):
    for read in (wb.load_published, wb.Directions.load, wb.Activations.load, wb.load_run):
        with pytest.raises(wb.WorkbenchError, match=r"no file|no such folder"):
            read(path)


def torch_file(path, pickled):
    """A file of ``torch.save`` with another pickle."""
    torch.save(torch.ones(1), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)


def doubled(times):
    """A list in which one number stands so many times two times over."""
    found = [0.5]
    for _ in range(times):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (pickle.dumps(doubled(40), 2), "values, and at most 16,777,216 are read"),
        (b"\x80\x02K\x01" + b"\x85" * 30_000 + b".", "a pickle of 30,000 tuples"),
        (b"\x80\x02K\x01" + b"\x85" * 5_000 + b".", "maximum recursion depth exceeded"),
        (b"\x80\x02}K\x01" + b"\x85" * 5_000 + b"K\x01s.", "maximum recursion depth exceeded"),
        (b"\x80\x02]q\x00h\x00a.", "something that holds itself"),
    ],
    ids=["doubled", "tuples", "deep", "deep key", "itself"],
)
def test_pickles_that_are_small_and_hold_much(tmp_path, pickled, message):
    torch_file(tmp_path / "v.pt", pickled)
    with pytest.raises(wb.ArtifactError, match=message):
        wb.load_published(tmp_path / "v.pt")


class _Kind:
    """Pickled as a type of NumPy whose flags are not its own."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return np.dtype, ("f8", False, True), self.state


class _Array:
    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        rebuild, arguments, _ = np.zeros(4).__reduce__()
        return rebuild, arguments, (1, (4,), self.kind, False, np.arange(4.0).tobytes())


@pytest.mark.parametrize(
    "state",
    [(3, "<", None, None, None, -1, -1, 63), (3, ">", None, None, None, -1, -1, 0), (3, "!", 5)],
)
def test_no_file_changes_the_types_of_numpy(tmp_path, state):
    before = repr(np.dtype("f8").__reduce__()), np.dtype("f8").flags, np.dtype("f8").isnative
    path = tmp_path / "v.pt"
    torch_file(path, pickle.dumps({1: _Array(_Kind(state))}, protocol=2))
    try:
        found = wb.load_published(path).directions.vector
    except wb.ArtifactError:
        assert state[1] != "<"  # in the other order they are zero but for rounding
    else:
        assert torch.equal(found, torch.arange(4.0).double()) == (state[1] == "<")
    assert before == (
        repr(np.dtype("f8").__reduce__()),
        np.dtype("f8").flags,
        np.dtype("f8").isnative,
    )
    assert torch.from_numpy(np.zeros(2)).dtype == torch.float64


def test_an_archive_with_two_entries_of_one_name(tmp_path):
    path = tmp_path / "v.pt"
    torch.save(VECTOR, path)
    with zipfile.ZipFile(path, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, pickle.dumps({1: 2}, protocol=2))
    with pytest.raises(wb.ArtifactError, match="two of its entries have one name"):
        wb.load_published(path, layer=1)


@pytest.mark.parametrize("asked", ["bytearray", "FloatTensor"])
def test_what_would_only_make_room_is_not_run_either(tmp_path, asked):
    kind = bytearray if asked == "bytearray" else torch.FloatTensor
    path = tmp_path / "v.pt"

    class Room:
        def __reduce__(self):
            return kind, (10**11,)

    torch.save(Room(), path)
    with pytest.raises(wb.ArtifactError, match=f"asks for .*{asked}, .* not run"):
        wb.load_published(path, layer=1)
