"""Comparisons: runs, files and published folders give cosines; what has none says why."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from hostile.sealing import seal_run
from typer.testing import CliRunner

import workbench as wb
from workbench.activations import Activations
from workbench.cli.app import app
from workbench.cli.tables import show_comparison
from workbench.compare.runs import compare_directions, lowest_pairs


def directions(names=("a", "b"), seed=0, **settings):
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(len(names), 3, 2, 8, generator=draw)
    return wb.Directions(values, names, (0, 1, 2), (-2, -1), **settings)


def test_a_run_gives_its_stored_maps(small_run):
    found = compare_directions(small_run.folder)
    xr.testing.assert_identical(found.cosines, small_run.results["cosines"])
    assert (found.layer, found.position) == (small_run.choice.layer, small_run.choice.position)
    assert found.no_intervals == ""
    xr.testing.assert_identical(found.angles, small_run.results["angles"])
    for over in ("layer", "position"):
        stored = small_run.results[f"cosines_between_{over}s"]
        xr.testing.assert_identical(compare_directions(small_run, over=over).cosines, stored)


def test_a_run_elsewhere_has_no_intervals_and_says_why(small_run):
    position = small_run.choice.position - 1
    found = compare_directions(small_run, position=position)
    assert found.cosines["position"].values.tolist() == [position]
    assert "cosine_interval" not in found.cosines
    assert "keeps intervals at its own place only" in found.no_intervals


def test_a_run_without_the_analysis_says_how_to_make_it(small_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    shutil.rmtree(folder / "analyses")
    (folder / "category_directions_resampled.safetensors").unlink()
    seal_run(folder)
    for arguments in ((folder,), (folder, small_run)):
        found = compare_directions(*arguments)
        assert "made without the analysis 'cosines'" in found.no_intervals
        assert "--analyses cosines" in found.no_intervals


def test_maps_of_mean_differences_do_not_pass_for_another_estimator(small_run):
    """Whatever a run's candidates are, its stored maps between layers are mean differences."""
    assert small_run.results["cosines_between_layers"].attrs["method"] == "mean_difference"
    values = torch.randn(small_run.directions.values.shape)
    probe = replace(small_run.directions, values=values)
    run = replace(
        small_run, directions=probe, study=replace(small_run.study, estimator="probe_direction")
    )
    for over in ("layer", "position"):
        found = compare_directions(run, over=over)
        xr.testing.assert_equal(
            found.cosines["cosine"], wb.geometry.cosine_similarity_map(probe, over=over)["cosine"]
        )
        assert "resamples mean differences only, and these are its probe" in found.no_intervals
    # Categories are mean differences by name, and say so.
    assert compare_directions(run).cosines.attrs["method"] == "mean_difference"


def test_two_runs_have_intervals_where_both_were_resampled(small_run):
    found = compare_directions(small_run, small_run.folder)
    choice, at = small_run.choice, found.at
    assert found.no_intervals == ""
    assert found.cosines["layer"].values.tolist() == [choice.layer]
    assert found.cosines["position"].values.tolist() == [choice.position]
    own = small_run.results["cosines"].sel(layer=choice.layer, position=choice.position)
    for name in ("cosine", "reliability", "disattenuated"):
        np.testing.assert_allclose(at[name].values, own[name].values, atol=1e-5)
    # The small run has five or six prompts a category, too few for intervals, and says so.
    assert set(found.cosines.attrs["too_few"]) == set(at["name"].values.tolist())
    resampled = wb.Directions.load(small_run.folder / "category_directions_resampled.safetensors")
    assert resampled.resampled.permuted is None
    counted = {**resampled.provenance, "n_by_name": dict.fromkeys(resampled.names, 8)}
    at = compare_directions(*[replace(resampled, provenance=counted)] * 2).at
    assert float(at["reliability"].min()) > 0
    low, high = at["cosine_interval"].transpose("bound", ...).values
    pairs = ~np.eye(len(low), dtype=bool)
    assert (low < high)[pairs].all()


def test_files_of_a_run_are_shown_where_the_run_chose(small_run, tmp_path):
    file = small_run.folder / "category_directions.safetensors"
    for sources in ((file,), (file, file)):
        found = compare_directions(*sources)
        assert (found.layer, found.position) == (small_run.choice.layer, small_run.choice.position)
        assert f"layer {found.layer}, chosen in {file}" in found.shown[0]
    alone = compare_directions(shutil.copy(file, tmp_path))
    assert alone.layer == alone.cosines["layer"].values[alone.cosines.sizes["layer"] // 2]
    assert "the middle one: it is not known which was chosen" in alone.shown[0]
    # Two that chose differently: the first one's place, and that the other has another.
    layer = small_run.choice.layer - 1
    (tmp_path / "other").mkdir()
    for name in ("study.json", "category_directions.safetensors"):
        shutil.copy(small_run.folder / name, tmp_path / "other")
    small_run.directions.at(layer=layer, position=-1).save(tmp_path / "other/direction.safetensors")
    other = tmp_path / "other/category_directions.safetensors"
    found = compare_directions(file, other)
    assert found.layer == small_run.choice.layer
    assert found.shown[0].endswith(f"{other} chose {layer}")


def test_runs_of_other_seeds_resample_alike(small_run, tmp_path):
    own = wb.Directions.load(small_run.folder / "category_directions_resampled.safetensors")
    assert small_run.study.seed != 0 or own.resampled.seed == 0
    # One that was resampled with a seed of its own says what makes it alike.
    other = replace(own, resampled=replace(own.resampled, seed=3))
    found = compare_directions(own, other)
    assert "collect both with one n_resamples= and one seed=" in found.no_intervals
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    other.save(folder / "category_directions_resampled.safetensors")
    seal_run(folder)
    found = compare_directions(small_run, folder)
    file = folder / "analyses" / "cosines.safetensors"
    assert f"{folder}: delete {file} and run the same study again" in found.no_intervals


def test_two_runs_at_another_layer_have_none_and_say_why(small_run):
    layer = small_run.choice.layer - 1
    found = compare_directions(small_run, small_run, layer=layer)
    assert found.cosines["layer"].values.tolist() == [layer]
    assert f"resampled at layer {small_run.choice.layer}, position" in found.no_intervals


@pytest.mark.parametrize("name", [None, "refusal", "drugs"])
def test_layers_of_two_runs_are_compared_as_those_of_one(small_run, name):
    one = compare_directions(small_run, over="layer", name=name)
    two = compare_directions(small_run, small_run.folder, over="layer", name=name)
    at = one.cosines.sel(position=two.position)["cosine"]
    np.testing.assert_allclose(
        two.cosines.sel(position=two.position)["cosine"].values, at.values, atol=1e-5
    )


def test_overall_is_no_category_of_its_own(shared):
    """The means of ORACLES.md, which leave it out."""
    found = compare_directions(shared / "data" / "published" / "zhao_2025")
    assert "overall" not in found.cosines["name"].values and found.left_out == ("overall",)
    means = found.cosines["mean_cosine"].isel(position=0)
    for layer, mean in {4: 0.5828, 8: 0.6067, 14: 0.6409, 22: 0.6538}.items():
        assert float(means.sel(layer=layer)) == pytest.approx(mean, abs=1e-3)
    both = compare_directions(*[shared / "data" / "published" / "zhao_2025"] * 2)
    assert "overall" in both.cosines["name"].values


def test_one_artifact_is_compared_with_itself(tmp_path):
    dirs = directions()
    path = dirs.save(tmp_path / "own.safetensors")
    found = compare_directions(path)
    expected = wb.geometry.cosine_similarity_map(dirs)["cosine"]
    xr.testing.assert_allclose(found.cosines["cosine"], expected)
    assert "no resampled vectors" in found.no_intervals
    # Nothing was chosen: the middle layer, the last position.
    assert (found.layer, found.position) == (1, -1)


def test_two_sets_meet_where_both_are(tmp_path):
    a = directions()
    b = directions(("b", "c"), seed=1).at(layer=[1, 2], position=-1)
    found = compare_directions(a, b)
    assert found.cosines["layer"].values.tolist() == [1, 2]
    one = found.cosines.sel(name="a", name_other="c", layer=2, position=-1)
    x, y = (each.vector for each in (a.at("a", 2, -1), b.at("c", 2, -1)))
    assert float(one["cosine"]) == pytest.approx(float(x @ y / x.norm() / y.norm()), abs=1e-6)
    assert found.angles is not None and "overlap" in found.angles


def test_a_published_run_is_compared_layer_by_layer(shared):
    folder = shared / "data" / "published" / "arditi_2024" / "gemma-2b-it"
    found = compare_directions(folder, over="layer")
    assert (found.layer, found.position) == (10, -2)
    assert found.at.isel(name=0)["cosine"].sel(layer=10, layer_other=10) == pytest.approx(1)
    assert "no resampled vectors" in found.no_intervals


def test_published_and_own_directions_of_other_models_are_refused(shared, small_run):
    folder = shared / "data" / "published" / "arditi_2024" / "gemma-2b-it"
    with pytest.raises(wb.AxisError, match=r"different models, and a cosine between them means n"):
        compare_directions(small_run, folder)


def test_sets_of_the_same_width_from_other_weights_are_refused():
    one = directions(provenance={"weights": "abc", "model": "x"})
    two = directions(provenance={"weights": "abd", "model": "x"})
    with pytest.raises(wb.AxisError, match=r"different weights: abc and abd\. A cosine"):
        compare_directions(one, two)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"over": "layer"}, wb.StudyError, "there are 2: choose a name among a, b"),
        ({"over": "head"}, wb.AxisError, "no axis 'head' to compare: name, layer, position"),
        ({"layer": 7}, wb.AxisError, "no layer 7"),
        ({"name": "a"}, wb.StudyError, "name 'a' picks one direction, and it is names that"),
        (
            {"over": "layer", "name": "a", "layer": 7},
            wb.AxisError,
            "no layer 7 in this comp",
        ),
    ],
)
def test_what_cannot_be_compared_says_so(unchecked, settings, error, message):
    with pytest.raises(error, match=message):
        compare_directions(directions(), **settings)


def test_one_direction_alone_has_no_other():
    with pytest.raises(wb.StudyError, match="one direction, 'a', has no other"):
        compare_directions(directions().at(name="a"))


def test_a_name_picks_one_direction_to_follow_through_the_layers():
    found = compare_directions(directions(), over="layer", name="b")
    assert found.cosines["name"].values.tolist() == ["b"]


def test_sets_without_a_common_place_are_refused():
    with pytest.raises(wb.AxisError, match=r"share no layer: \[0\] and \[1, 2\]"):
        compare_directions(directions().at(layer=0), directions().at(layer=[1, 2]))


def test_a_file_of_another_kind_and_no_file_are_refused(small_run, tmp_path):
    with pytest.raises(wb.ArtifactError, match="of kind 'sweep', not 'directions'"):
        compare_directions(small_run.folder / "scores.safetensors")
    with pytest.raises(wb.ArtifactError, match="no file or folder"):
        compare_directions(tmp_path / "nothing")
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(wb.StudyError, match="is not finished"):
        compare_directions(tmp_path)


def test_everything_that_was_found_is_saved(small_run, tmp_path):
    found = compare_directions(small_run)
    found.save(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"cosines.safetensors", "cosines.csv", "angles.safetensors", "figures"}
    for figure in ("cosine_map", "cosine_maps_by_layer", "cosine_by_layer"):
        assert (tmp_path / "out" / "figures" / f"{figure}.html").is_file()
    stored = wb.Directions.load(small_run.folder / "category_directions.safetensors")
    n = len(stored.names)
    table = found.to_dataframe()
    # Each pair once, at every layer.
    assert len(table) == n * (n - 1) // 2 * found.cosines.sizes["layer"]
    row = table[(table.name == "drugs") & (table.name_other == "fraud")]
    row = row[row.layer == found.layer].iloc[0]
    cell = found.at.sel(name="drugs", name_other="fraud")
    assert row.cosine == float(cell["cosine"])
    np.testing.assert_array_equal([row.cosine_low, row.cosine_high], cell["cosine_interval"])


def test_the_least_alike_pairs_come_first(small_run):
    at = compare_directions(small_run).at
    pairs = lowest_pairs(at, 5)
    values = [float(at["cosine"][pair]) for pair in pairs]
    everything = at["cosine"].values[np.triu_indices(at.sizes["name"], k=1)]
    assert values == sorted(everything)[:5]


def test_a_folder_that_is_neither_is_told_what_was_looked_for(tmp_path):
    with pytest.raises(wb.ArtifactError, match=r"holds no run \(no study\.json\), and .* Known: "):
        compare_directions(tmp_path)


def test_vectors_whose_file_says_no_place_take_the_one_that_is_asked_for(small_run, tmp_path):
    layer, position = small_run.choice.layer, small_run.choice.position
    rows = small_run.directions.values[0, :, 0]
    np.save(tmp_path / "v.npy", small_run.direction.vector.numpy())
    np.save(tmp_path / "rows.npy", rows.numpy())
    torch.save(dict(enumerate(rows)), tmp_path / "keys.pt")
    with pytest.raises(wb.ArtifactError, match=r"one vector and not its layer.* Pass layer=l"):
        compare_directions(small_run, tmp_path / "v.npy")
    for file, told in (
        ("v.npy", {"layer": layer}),
        ("rows.npy", {"layer": layer, "axes": "layer"}),
        ("keys.pt", {"layer": layer}),
        ("keys.pt", {"layer": layer, "read_at": "output"}),
    ):
        found = compare_directions(small_run.direction, tmp_path / file, **told)
        assert (found.layer, found.position) == (layer, position)
        expected = rows[layer - (told.get("read_at") == "output")]
        if file == "v.npy":
            expected = small_run.direction.vector
        cosine = torch.cosine_similarity(expected, small_run.direction.vector, dim=0)
        assert found.at["cosine"].item() == pytest.approx(float(cosine), abs=1e-5)
        assert len(found.read) == 1 and found.read[0].startswith(f"{tmp_path / file}: layer ")
    with pytest.raises(wb.ArtifactError, match="can be read three ways"):
        compare_directions(small_run, tmp_path / "rows.npy", layer=layer)
    both = (tmp_path / "rows.npy", tmp_path / "v.npy")  # what one file needs, the other does not
    found = compare_directions(*both, layer=layer, axes="layer", read_at="output")
    assert found.cosines["layer"].values.tolist() == [layer] and len(found.read) == 2


def test_what_a_file_says_needs_no_argument_and_a_place_it_lacks_names_it(tmp_path):
    own, path = directions(("a",)), tmp_path / "said.pt"
    vector = own.at(layer=1, position=-2).vector
    torch.save({"layer": 1, "position": -2, "direction": vector, "model": "m"}, path)
    for place in ({}, {"layer": 1}, {"layer": 1, "position": -2}):
        found = compare_directions(own, path, **place)
        assert (found.layer, found.position) == (1, -2)
        assert found.at["cosine"].item() == pytest.approx(1)
        assert "position as the file says; the file says model 'm'" in found.read[0]
    lacks = r"no {} in .*said\.pt: .* the output of block l .* Both have {}\."
    with pytest.raises(wb.AxisError, match=lacks.format("layer 2", 1)):
        compare_directions(own, path, layer=2)
    with pytest.raises(wb.AxisError, match=lacks.format("position -1", -2)):
        compare_directions(own, path, position=-1)
    with pytest.raises(
        wb.AxisError, match=r"no layer 7 in directions: layers 0\.\.2.* Both have 1"
    ):
        compare_directions(own, path, layer=7)
    torch.save({"layer": 1, "pos": 3, "direction": vector}, path)
    assert compare_directions(own, path, position=-2).position == -2


ROWS = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
SAID = {
    "a dict": (dict(enumerate(ROWS)), {"site": "attn_out"}, "attn_out", [0, 1, 2, 3, 4], [-1]),
    "a dot": ({f"layers.{n}": row for n, row in enumerate(ROWS)}, {"read_at": "output"},
              "resid_pre", [1, 2, 3, 4, 5], [-1]),
    "blocks": (
        {f"model.layers.{n}": row for n, row in enumerate(ROWS)},
        {"site": "mlp_out"}, "mlp_out", [0, 1, 2, 3, 4], [-1],
    ),
    "positions": (ROWS[None], {"axes": "layer position", "layer": 3}, "resid_pre", [3],
                  [-5, -4, -3, -2, -1]),
    "layers": (ROWS[None], {"axes": "position layer"}, "resid_pre", [0, 1, 2, 3, 4], [-1]),
    "names": (ROWS, {"axes": "name", "layer": 2, "site": "attn_out"}, "attn_out", [2], [-1]),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_is_said_of_a_file_is_used(tmp_path, case):
    content, said, site, layers, positions = SAID[case]
    torch.save(content, tmp_path / "d.pt")
    over = "name" if case == "names" else "position" if case == "positions" else "layer"
    found = compare_directions(tmp_path / "d.pt", over=over, **said)
    assert found.cosines.attrs["site"] == site
    assert found.cosines["layer"].values.tolist() == layers
    assert found.cosines["position"].values.tolist() == positions


@pytest.mark.parametrize(
    "said", [{"site": "attn_out"}, {"axes": "layer position"}, {"read_at": "output"}]
)
def test_what_all_sources_say_themselves_is_refused_by_name(small_run, tmp_path, said):
    (label,) = said
    keys = {f"blocks.{n}.hook_resid_pre": row for n, row in enumerate(ROWS)}
    torch.save(keys, tmp_path / "keys.pt")
    own = directions().save(tmp_path / "own.safetensors")
    torch.save({"directions": dict(enumerate(ROWS)), "model_type": "a"}, tmp_path / "control.pt")
    (label,) = said
    for source in (tmp_path / "keys.pt", own, directions(), small_run, tmp_path / "control.pt"):
        with pytest.raises(wb.ArtifactError, match=f"says by itself .* Leave {label}= away"):
            compare_directions(source, over="layer", **said)


def test_what_one_file_says_itself_and_the_other_does_not_is_told(tmp_path):
    torch.save({"directions": dict(enumerate(ROWS)), "model_type": "a"}, tmp_path / "control.pt")
    np.save(tmp_path / "rows.npy", ROWS.numpy())
    found = compare_directions(tmp_path / "rows.npy", tmp_path / "control.pt", axes="layer")
    assert found.cosines["layer"].values.tolist() == [1, 2, 3, 4]
    assert "not used" not in found.read[0]
    assert "axes= is not used, since the file says by itself what its axes are" in found.read[1]


def test_a_fault_of_ours_is_not_said_to_be_the_run_s(small_run, monkeypatch):
    def broken(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("workbench.study.results.choose", broken)
    with pytest.raises(KeyError, match="a bug"):
        wb.load_run(small_run.folder)


def test_a_run_says_what_makes_a_result_that_it_lacks(small_run):
    with pytest.raises(wb.StudyError, match=r"no analysis gives 'missing'\. It has pca, "):
        small_run.results["missing"]
    assert small_run.results.get("missing") is None and "missing" not in small_run.results
    with pytest.raises(wb.StudyError, match="'transfer_rates': run the same study again with anal"):
        small_run.results["transfer_rates"]
    with pytest.raises(
        wb.ArtifactError, match=r"is a run of the workbench\. Read it with wb\.load_r"
    ):
        wb.load_published(small_run.folder)


def printed(capsys, found):
    show_comparison(found)
    return " ".join(capsys.readouterr().out.split())


def test_t_inst_is_a_position_like_others(capsys, tmp_path):
    dirs = replace(directions(), positions=("t_inst", -1))
    for over, told in (("name", {}), ("layer", {"name": "a"}), ("position", {"name": "a"})):
        found = compare_directions(dirs, over=over, position="t_inst", **told)
        assert found.position == "t_inst"
        assert "position t_inst" in printed(capsys, found)
        assert found.save(tmp_path / over)
    both = compare_directions(dirs, dirs.at(position="t_inst"))
    assert both.position == "t_inst" and "position t_inst" in printed(capsys, both)
    with pytest.raises(wb.AxisError, match="no position 't_inst' in directions: positions -2, -1"):
        compare_directions(directions(), position="t_inst")


def test_the_command_line_takes_t_inst_and_refuses_what_is_no_position(tmp_path):
    dirs = replace(directions(), positions=("t_inst", -1))
    path = dirs.save(tmp_path / "own.safetensors")
    for position in ("t_inst", "-1"):
        done = CliRunner().invoke(app, ["compare", str(path), "--position", position])
        assert done.exit_code == 0, done.output
        assert f"position {position}" in done.output
    for position in ("last", "0", "3", "-1.5", ""):
        done = CliRunner().invoke(app, ["compare", str(path), "--position", position])
        assert isinstance(done.exception, wb.StudyError)
        message = str(done.exception)
        assert message.startswith(f"{position!r} is no position. Pass --position with a negative")
        assert message.endswith("or with t_inst.")


def test_a_set_and_its_copy_are_said_to_be_the_same(small_run, capsys):
    said = "the two hold the same vectors"
    for own, other in (
        (small_run, small_run.folder),
        (directions(), directions()),
        (directions(), directions(("c", "d"))),  # by other names
        (directions(), directions().at(name="b")),
    ):
        assert said in printed(capsys, compare_directions(own, other))
    for other in (None, directions(seed=1), directions(seed=1, names=("c", "d"))):
        assert said not in printed(capsys, compare_directions(directions(), other))


def test_one_pair_is_not_called_all(capsys):
    assert "The one pair, layer 1, position -1" in printed(capsys, compare_directions(directions()))
    three = compare_directions(directions(("a", "b", "c")))
    assert "All 3 pairs" in printed(capsys, three)


def noisy(sizes, shift):
    """Categories of so many prompts; layer 0 is the same in every prompt."""

    def acts(label, categories, towards):
        draw = torch.Generator().manual_seed(len(categories))
        values = torch.randn(len(categories), 3, 1, 64, generator=draw)
        values[..., 0] += towards
        values[:, 0] = 1.5
        ids = tuple(f"{label}-{row}" for row in range(len(categories)))
        return Activations(
            values, (1,) * len(ids), tuple(categories), (label,) * len(ids), ids, (0, 3, 4),
            (-1,), "resid_pre", {"model": "m", "weights": "w"},
        ).with_resamples(100)  # fmt: skip

    categories = "".join(name * size for name, size in sizes.items())
    return wb.mean_difference(
        acts("harmful", categories, shift), acts("harmless", "x" * 30, 0), by="category"
    )


ZERO, NOISE, FEW = "zero but for rounding", "not above its noise", "too few prompts"


@pytest.mark.parametrize(
    ("sizes", "shift", "layers", "reasons"),
    [
        ({"a": 20, "b": 20}, 6.0, [3, 4], set()),
        ({"a": 20, "b": 20}, 6.0, [0, 3, 4], {ZERO}),
        ({"a": 20, "b": 20, "c": 20, "d": 20}, 0.0, [3, 4], {NOISE}),
        ({"a": 20, "b": 20, "c": 3}, 6.0, [3, 4], {FEW}),
        ({"a": 20, "b": 20, "c": 3}, 6.0, [0, 3], {ZERO, FEW}),
        ({"a": 3, "b": 4}, 6.0, [3, 4], {FEW}),
    ],
)
def test_what_is_not_measured_says_why(capsys, sizes, shift, layers, reasons):
    found = compare_directions(noisy(sizes, shift).at(layer=layers))
    shown = printed(capsys, found)
    assert ("not measured: " in shown) == bool(reasons)
    told = shown[shown.find("not measured: ") :].split("fewer than")[0] if reasons else ""
    assert {reason for reason in (ZERO, NOISE, FEW) if reason in told} == reasons
    # Without the reason there is no such cell.
    assert shown.replace("not measured: ", "").count("not measured") > 0 or not reasons
