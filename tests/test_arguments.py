"""Natural mistakes: each is an error of the workbench that says what to do, where it was made."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
import xarray as xr

import workbench as wb
from workbench import figures
from workbench.arguments import PROMPTS, checked

VECTOR = torch.ones(4)
DIRECTION = wb.Directions.from_vector(VECTOR, layer=1)
PROMPT_SET = wb.PromptSet.from_texts(["Name a colour."], label="harmless")
ARRAY = xr.DataArray([1.0], dims="layer", name="bypass")
STUDY = wb.Study()

MISTAKES = {
    "mean_difference": (lambda: wb.mean_difference(PROMPT_SET, PROMPT_SET), wb.AxisError,
        "positive must be Activations, found a PromptSet. Run wb.collect_activations"),
    "pca_direction": (lambda: wb.pca_direction(VECTOR, VECTOR), wb.AxisError,
        "positive must be Activations, found a Tensor"),
    "select_direction": (lambda: wb.select_direction(DIRECTION), wb.StudyError,
        "scores must be a Dataset, found Directions. Run wb.sweep_directions"),
    "select_direction array": (lambda: wb.select_direction(ARRAY), wb.StudyError,
        "found a DataArray of shape .* Pass the Dataset that it was taken from"),
    "run_study": (lambda: wb.run_study("pocket"), wb.StudyError,
        r"study must be a Study, found 'pocket'. Pass wb.Study\(model="),
    "write_report": (lambda: wb.write_report("runs/demo"), wb.StudyError,
        r"run must be a Run, found 'runs/demo'. Load it first: wb.load_run"),
    "write_report study": (lambda: wb.write_report(STUDY), wb.StudyError, "wb.run_study"),
    "Ablate": (lambda: wb.Ablate(VECTOR), wb.AxisError,
        r"direction must be Directions, found a Tensor .* wb.Directions.from_vector"),
    "Ablate layers": (lambda: wb.Ablate(DIRECTION, layers=3), wb.AxisError, r"Pass layers=\[3\]"),
    "Ablate tokens": (lambda: wb.Ablate(DIRECTION, tokens="frist"), wb.AxisError,
        "no token subset 'frist': all, prompt"),
    "Ablate nan": (lambda: wb.Ablate(DIRECTION, strength=float("nan")), wb.StudyError,
        "strength must be a finite number, found nan"),
    "Add": (lambda: wb.Add(DIRECTION, layer="5"), wb.AxisError,
        "layer must be a whole number, found '5'. Pass layer=5"),
    "Add negative": (lambda: wb.Add(DIRECTION, layer=-1), wb.AxisError, "no layer -1: layers are"),
    "Add float": (lambda: wb.Add(DIRECTION, layer=5.0), wb.AxisError, "Pass layer=5"),
    "Add site": (lambda: wb.Add(DIRECTION, site="resid_post"), wb.AxisError,
        "no site 'resid_post': .*The output of block l is resid_pre of layer l . 1"),
    "SetProjection": (lambda: wb.SetProjection(DIRECTION, "1"), wb.StudyError,
        "value must be a number, found '1'"),
    "PatchHeads": (lambda: wb.heads.PatchHeads([3], torch.ones(1, 1, 4)), wb.AxisError,
        "heads must be pairs of whole numbers, found a list of int"),
    "Directions": (lambda: wb.Directions(np.ones((1, 1, 1, 4)), ("r",), (1,), (-1,)), wb.AxisError,
        r"values must be a Tensor with the axes .* found an ndarray"),
    "Directions names": (lambda: wb.Directions(VECTOR[None, None, None], "r", (1,), (-1,)),
        wb.WorkbenchError, r"names must be a list of strings, found 'r'. Pass names=\['r'\]"),
    "Directions whole": (lambda: wb.Directions(torch.ones(1, 1, 1, 4, dtype=torch.int64), ("r",),
        (1,), (-1,)), wb.AxisError, "floating"),
    "intervene": (lambda: wb.intervene("pocket", wb.Ablate(DIRECTION)), wb.ModelError,
        r"model must be a HookedModel, found 'pocket'. Load it first: wb.load_model\('pocket'\)"),
    "collect_activations": (lambda: wb.collect_activations(PROMPT_SET, "hi"), wb.ModelError,
        "found a PromptSet. The model comes first"),
    "mean_projection": (lambda: wb.mean_projection(DIRECTION, DIRECTION), wb.AxisError,
        "activations must be Activations, found Directions"),
    "judge": (lambda: wb.judge("I cannot help."), wb.StudyError, "must be a list of strings"),
    "load_run": (lambda: wb.load_run(STUDY), wb.ArtifactError, "must be a path, found a Study"),
    "load_model": (lambda: wb.load_model("pocket", trust_remote_code="no"), wb.StudyError,
        "trust_remote_code must be True or False, found 'no'"),
    "Study": (lambda: wb.Study(n_train="64"), wb.StudyError, "Pass n_train=64"),
    "refusal_rates": (lambda: wb.selection.refusal_rates(pd.DataFrame({"a": [1]})),
        wb.StudyError, "verdict"),
    "figures.sweep": (lambda: figures.sweep(DIRECTION), wb.StudyError, "scores must be a Dataset"),
    "figures.sweep kind": (lambda: figures.sweep(ARRAY.to_dataset()), wb.StudyError, "is no sweep"),
    "figures.save_figure": (lambda: figures.save_figure(ARRAY, ".", "a"), wb.StudyError,
        "figure must be a Figure, found a DataArray"),
    "figures.transfer": (lambda: figures.transfer("runs"), wb.StudyError, "wb.load_run"),
    "figures.sweep choice": (lambda: figures.sweep(ARRAY.to_dataset(), 5), wb.StudyError,
        "choice must be a Choice, found 5"),
    "confidence": (lambda: wb.geometry.cosine_similarity_map(DIRECTION, confidence=95),
        wb.StudyError, "confidence 95 is not between 0 and 1"),
    "generate": (lambda: wb.HookedModel.generate(SimpleNamespace(), "hi", "5"), wb.StudyError,
        "max_new_tokens must be a whole number, found '5'. Pass max_new_tokens=5"),
    "load_run empty": (lambda: wb.load_run(" "), wb.ArtifactError, "load_run: the path is empty"),
    "run_study empty": (lambda: wb.run_study(STUDY, ""), wb.ArtifactError, "the path is empty"),
    "compare empty": (lambda: wb.compare_directions(""), wb.ArtifactError, "the path is empty"),
    "figures.save_figure empty": (lambda: figures.save_figure(go.Figure(), "", "a"),
        wb.ArtifactError, "the path is empty"),
    "load_model empty": (lambda: wb.load_model(""), wb.StudyError, "name must be text that"),
    "Study empty": (lambda: wb.Study(model=" "), wb.StudyError, "model must be text that"),
    "Study no prompts": (lambda: wb.Study(harmful=""), wb.StudyError, "harmful must be text that"),
    "published": (lambda: wb.mean_projection(DIRECTION, SimpleNamespace()), wb.AxisError,
        "found a SimpleNamespace"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_where_it_is_made(unchecked, mistake):
    call, kind, message = MISTAKES[mistake]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", ")"))


def functions():
    """Every public function that takes something other than prompts."""
    for home, names in ((wb, wb.__all__), (figures, figures.__all__)):
        for name in names:
            value = getattr(home, name)
            if inspect.isfunction(value) and value is not wb.load_prompts:  # reads what it can
                yield value


@pytest.mark.parametrize("function", list(functions()), ids=lambda each: each.__qualname__)
def test_every_public_function_refuses_what_no_argument_is(unchecked, function):
    """Whatever is passed in the first place: no raw error, and nothing done."""
    parameters = inspect.signature(function).parameters
    name = next(iter(parameters))
    if name in PROMPTS:
        return
    others = [
        each for each, own in parameters.items()
        if own.default is own.empty and own.kind is not own.VAR_POSITIONAL and each != name
    ]  # fmt: skip
    for wrong in (object(), 3.5, b"bytes"):
        with pytest.raises(wb.WorkbenchError, match=f"{name} must be|expected a model's name"):
            function(**{name: wrong}, **dict.fromkeys(others))


@pytest.mark.parametrize("number", [np.int64(1), np.array(1), torch.tensor(1), xr.DataArray(1)])
def test_numbers_without_axes_are_numbers(unchecked, number):
    added = wb.Add(DIRECTION, layer=number, coefficient=number)
    assert type(added.layer) is int and added.coefficient == 1
    assert wb.Ablate(DIRECTION, layers=np.array([0, 1])).layers == (0, 1)
    assert wb.Study(n_train=number).n_train == 1


def test_what_is_passed_by_name_by_place_or_not_at_all_is_checked_alike():
    @checked
    def take(layers: list[int] | None = None, *rest: int, flag: bool = False) -> tuple:
        return layers, rest, flag

    assert take() == (None, (), False)
    assert take(range(2), np.int64(3), flag=np.True_) == ((0, 1), (3,), True)
    with pytest.raises(wb.StudyError, match="take: expected a whole number, found 'a'"):
        take([1], "a")
    with pytest.raises(wb.StudyError, match="flag must be True or False, found 1"):
        take(flag=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'layer'"):
        take(layer=[1])


@pytest.mark.parametrize("name", ["r.pt", "r.npy", "r.csv"])
def test_an_artifact_is_not_written_under_another_formats_name(tmp_path, name):
    with pytest.raises(wb.ArtifactError, match=r"written as safetensors. Pass .*r\.safetensors"):
        DIRECTION.save(tmp_path / name)
    with pytest.raises(wb.ArtifactError, match=r"is a folder\. Pass a file"):
        DIRECTION.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(wb.ArtifactError, match="which is a folder"):
        wb.Directions.load(Path(tmp_path))
