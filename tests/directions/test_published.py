"""Published files: their numbers come back, and what is broken or hostile is refused in a line."""

import json
import pickle
import subprocess
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.directions.published import load_published
from workbench.errors import ArtifactError, AxisError

CHOICES = {
    # layer, position, bypass, induce, KL, norm, layers
    "gemma-2b-it": (10, -2, -14.419, 6.789, 0.0659, 10.064, 18),
    "qwen-1_8b-chat": (15, -2, -5.057, 1.651, 0.0658, 26.287, 24),
}


@pytest.fixture(scope="module")
def runs(shared):
    folder = shared / "data" / "published" / "arditi_2024"
    return {name: load_published(folder / name) for name in CHOICES}


@pytest.fixture
def make_run(tmp_path):
    """A small run in the published layout; any of its files can be replaced or left out."""

    def make(**changed):
        grid = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4)  # position layer d_model
        rows = [
            {"position": p, "layer": layer, "refusal_score": p + layer, "steering_score": 1.0,
             "kl_div_score": 0.01 * layer}
            for p in (-2, -1) for layer in range(3)
        ]  # fmt: skip
        files = {
            "direction_metadata.json": {"pos": -2, "layer": 1},
            "direction.pt": grid[0, 1],
            "generate_directions/mean_diffs.pt": grid,
            "select_direction/direction_evaluations.json": rows,
            "completions/harmless.json": {"completions": [{"prompt": "a", "response": "b"}]},
        } | changed
        for name, content in files.items():
            path = tmp_path / "run" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif name.endswith(".pt") and content is not None:
                torch.save(content, path)
            elif content is not None:
                path.write_text(json.dumps(content))
        return tmp_path / "run"

    return make


@pytest.mark.shared
@pytest.mark.parametrize("name", CHOICES)
def test_published_run_holds_its_published_choice(runs, name):
    layer, position, bypass, induce, kl, norm, n_layers = CHOICES[name]
    run = runs[name]
    assert (run.choice.layer, run.choice.position) == (layer, position)
    assert run.choice.bypass == pytest.approx(bypass, abs=1e-3)
    assert run.choice.induce == pytest.approx(induce, abs=1e-3)
    assert run.choice.kl == pytest.approx(kl, abs=1e-4)
    chosen = run.directions.at(layer=layer, position=position)
    assert chosen.vector.norm().item() == pytest.approx(norm, abs=1e-3)
    assert run.scores["norm"].sel(layer=layer, position=position).item() == chosen.norms.item()
    assert run.directions.layers == tuple(range(n_layers))
    assert run.directions.positions == (-5, -4, -3, -2, -1)
    assert run.directions.site == "resid_pre"
    assert run.scores.attrs["n_layers"] == n_layers
    assert run.scores.attrs["run"] == name
    assert "model" not in run.scores.attrs, "the folder's name is nobody's word on the model"


@pytest.mark.shared
@pytest.mark.parametrize("name", CHOICES)
def test_direction_of_a_published_run_is_its_mean_difference_at_the_choice(shared, runs, name):
    path = shared / "data" / "published" / "arditi_2024" / name / "direction.pt"
    alone = load_published(path)
    layer, position = CHOICES[name][:2]
    grid = runs[name].directions.at(layer=layer, position=position)
    assert torch.equal(alone.directions.vector, grid.vector)
    assert alone.directions.layers == (layer,)
    assert alone.directions.positions == (position,)


@pytest.mark.shared
@pytest.mark.parametrize("name", CHOICES)
def test_settings_of_the_paper_are_noted_where_they_give_the_published_filter(runs, name):
    scores = runs[name].scores
    settings = {key: scores.attrs[key] for key in ("kl_cap", "induce_floor", "skip_last")}
    assert settings == {"kl_cap": 0.1, "induce_floor": 0.0, "skip_last": 0.2}
    best = scores["bypass"].where(scores["passed_filter"])
    cell = best.where(best == best.min(), drop=True)
    assert (int(cell["layer"][0]), int(cell["position"][0])) == CHOICES[name][:2]


@pytest.mark.shared
def test_published_replies_and_losses_are_read(runs):
    run = runs["gemma-2b-it"]
    assert list(run.completions) == [
        "harmless_actadd", "harmless_baseline", "jailbreakbench_baseline",
    ]  # fmt: skip
    assert {"prompt", "response", "category"} <= set(run.completions["harmless_actadd"].columns)
    losses = run.provenance["losses"]
    assert losses["ablation_loss_eval"]["alpaca"]["ce_loss"] == pytest.approx(2.1047, abs=1e-4)


@pytest.mark.shared
def test_category_directions_of_zhao_have_the_published_cosines(shared):
    directions = load_published(shared / "data" / "published" / "zhao_2025").directions
    assert directions.values.shape == (12, 29, 1, 3584)
    assert directions.positions == (-6,)
    categories = [name for name in directions.names if name != "overall"]
    assert len(categories) == 11
    unit = directions.at(name=categories).unit().values[:, :, 0].double()
    for index, mean in {4: 0.5828, 8: 0.6067, 14: 0.6409, 22: 0.6538}.items():
        cosines = {
            (categories[i], categories[j]): float(unit[i, index] @ unit[j, index])
            for i, j in combinations(range(11), 2)
        }
        assert np.mean(list(cosines.values())) == pytest.approx(mean, abs=1e-3)
        if index == 14:
            assert min(cosines, key=cosines.get) == ("Child_Abuse", "Tailored_Financial_Advice")
            assert min(cosines.values()) == pytest.approx(0.4787, abs=1e-3)
            assert max(cosines, key=cosines.get) == ("Fraud_Deception", "Illegal_Activity")
            assert max(cosines.values()) == pytest.approx(0.8231, abs=1e-3)


@pytest.mark.shared
def test_one_file_of_zhao_is_named_and_placed_as_asked(shared):
    folder = shared / "data" / "published" / "zhao_2025"
    overall = load_published(folder / "qwen-dir-hf.pt", t_inst=-5).directions
    assert (overall.names, overall.positions) == (("overall",), (-5,))
    assert overall.values.dtype == torch.float32
    assert "t_inst" in overall.provenance["position"]
    assert "final norm" in overall.provenance["last_layer"]


def test_axes_of_mean_differences_are_turned_into_ours(make_run):
    run = load_published(make_run())
    assert run.directions.values.shape == (1, 3, 2, 4)
    assert run.directions.at(layer=2, position=-1).vector.tolist() == [20.0, 21.0, 22.0, 23.0]
    assert run.scores["bypass"].sel(layer=2, position=-1).item() == 1.0
    assert (run.choice.layer, run.choice.bypass, run.choice.kl) == (1, -1.0, 0.01)
    assert run.completions["harmless"]["response"].tolist() == ["b"]


def test_a_run_is_read_as_far_as_it_goes(make_run):
    partial = {
        "generate_directions/mean_diffs.pt": None,
        "select_direction/direction_evaluations.json": None,
        "completions/harmless.json": None,
    }
    run = load_published(make_run(**partial))
    assert (run.directions.layers, run.directions.positions) == ((1,), (-2,))
    assert run.scores is None
    assert run.completions is None
    assert run.choice.bypass is None


def test_other_settings_are_not_passed_off_as_those_of_the_paper(make_run):
    name = "select_direction/direction_evaluations_filtered.json"
    run = load_published(make_run(**{name: [{"layer": 2, "position": -1}]}))
    assert int(run.scores["passed_filter"].sum()) == 1
    assert "kl_cap" not in run.scores.attrs


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_arrays_pickled_by_either_numpy_are_read(tmp_path, dtype, module):
    array = np.arange(12, dtype=dtype).reshape(3, 4)
    path = tmp_path / "qwen-hf-dir-Fraud.pt"
    torch.save(array, path, _use_new_zipfile_serialization=False, pickle_protocol=2)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", module.encode()))
    directions = load_published(path).directions
    assert directions.names == ("Fraud",)
    assert directions.values[0, :, 0].tolist() == array.tolist()


class _Runs:
    def __reduce__(self):
        return (subprocess.check_call, (["false"],))


@pytest.mark.parametrize("layout", ["zip", "legacy", "plain pickle"])
def test_a_pickle_that_asks_for_more_is_named_and_not_run(tmp_path, layout):
    path = tmp_path / "direction.pt"
    if layout == "plain pickle":
        path.write_bytes(pickle.dumps(_Runs(), protocol=2))
    else:
        torch.save(_Runs(), path, _use_new_zipfile_serialization=layout == "zip")
    with pytest.raises(ArtifactError, match=r"asks for \S+\.check_call, .* not run"):
        load_published(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"direction.pt": b"PK\x03\x04 and no more"}, "direction.pt is broken or not a torch file"),
        ({"direction.pt": b""}, "direction.pt is broken or not a torch file"),
        ({"direction.pt": b"<html>not found</html>"}, "direction.pt is broken or not a torch file"),
        ({"direction.pt": {"a": torch.ones(2)}}, "no floating tensor but a OrderedDict|a dict"),
        ({"direction.pt": torch.ones(4)}, "direction.pt is not the candidate that was chosen"),
        ({"direction.pt": torch.ones(4, dtype=torch.int64)}, "holds no floating tensor"),
        ({"direction.pt": torch.ones(2, 2)}, r"expected one direction \(d_model\)"),
        ({"generate_directions/mean_diffs.pt": torch.ones(3, 4)}, r"found shape \(3, 4\)"),
        (
            {"generate_directions/mean_diffs.pt": torch.full((2, 3, 4), torch.nan)},
            r"mean_diffs.pt is not finite: 24 of its 24 numbers are NaN or infinite",
        ),
        ({"direction.pt": torch.tensor([1, 2, 3, torch.inf])}, "direction.pt is not finite: 1 of"),
        ({"direction_metadata.json": {"pos": -9, "layer": 1}}, "is none of the candidates"),
        ({"direction_metadata.json": {"layer": 1}}, "it has no pos"),
        ({"direction_metadata.json": [1]}, "should be an object, found a list"),
        ({"direction_metadata.json": b"{"}, "direction_metadata.json is broken"),
        ({"select_direction/direction_evaluations.json": [{"layer": 1}]}, "has no 0.position"),
        ({"select_direction/direction_evaluations.json": []}, "has no column"),
    ],
)
def test_what_is_broken_is_refused_in_one_line(make_run, changed, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        load_published(make_run(**changed))
    assert "\n" not in str(caught.value)


def test_a_direction_file_that_is_not_finite_is_refused_alone_and_in_its_folder(tmp_path):
    path = tmp_path / "qwen-hf-dir-Fraud.pt"
    torch.save(torch.tensor([[1.0, 2.0], [torch.nan, 3.0]]), path)
    for place in (path, tmp_path):
        with pytest.raises(ArtifactError, match=r"Fraud\.pt is not finite: 1 of its 4 numbers"):
            load_published(place)


def test_direction_files_of_two_models_in_one_folder_are_refused(tmp_path):
    for index, model in enumerate(("llama", "qwen")):
        torch.save(torch.full((3, 4), index + 1.0), tmp_path / f"{model}-hf-dir-Fraud.pt")
    with pytest.raises(ArtifactError, match="of one model, found those of llama, qwen") as caught:
        load_published(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "llama-hf-dir-Fraud.pt").unlink()
    assert load_published(tmp_path).directions.values.flatten().tolist() == [2.0] * 12


def test_a_published_run_compares_with_ones_own_of_that_model_and_not_of_another_width(make_run):
    published = load_published(make_run()).directions
    own = replace(published, provenance={"model": "google/gemma-2b-it", "weights": "ab"})
    found = wb.geometry.cosine_similarity_map(published, own)
    np.testing.assert_allclose(found["cosine"], 1)
    wider = replace(own, values=torch.ones(1, 3, 2, 5))
    with pytest.raises(AxisError, match="widths differ: 4 and 5"):
        wb.geometry.cosine_similarity_map(published, wider)


def test_a_truncated_tensor_is_refused(make_run):
    path = make_run() / "generate_directions" / "mean_diffs.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"mean_diffs\.pt is broken"):
        load_published(path.parents[1])


def test_scores_that_are_given_twice_are_refused(make_run):
    row = {"layer": 0, "position": -1, "refusal_score": 1, "steering_score": 1, "kl_div_score": 1}
    run = make_run(**{"select_direction/direction_evaluations.json": [row, row]})
    with pytest.raises(ArtifactError, match="scores a candidate twice"):
        load_published(run)


def test_unknown_things_are_refused_with_what_is_known(tmp_path):
    with pytest.raises(ArtifactError, match="no file or folder"):
        load_published(tmp_path / "absent")
    with pytest.raises(ArtifactError, match=r"no published format .* Known: .*Arditi.*Zhao"):
        load_published(tmp_path)
    (tmp_path / "notes.txt").write_text("r")
    with pytest.raises(ArtifactError, match="no published format"):
        load_published(tmp_path / "notes.txt")
    torch.save(torch.ones(4), tmp_path / "lonely.pt")
    with pytest.raises(ArtifactError, match="holds one vector and not its layer or position"):
        load_published(tmp_path / "lonely.pt")
    torch.save(torch.ones(3, 4), tmp_path / "qwen-hf-dir-A.pt")
    torch.save(torch.ones(3, 5), tmp_path / "qwen-hf-dir-B.pt")
    with pytest.raises(ArtifactError, match=r"found shapes \(3, 4\), \(3, 5\)"):
        load_published(tmp_path)
