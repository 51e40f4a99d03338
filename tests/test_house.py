"""The house: what is exported, who imports whom, and what importing costs."""

import ast
import inspect
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import workbench
from workbench import errors

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "workbench"
# Each room may import those of earlier lines, and itself.
ORDER = (
    ("errors",),
    ("names", "screen"),
    ("arguments",),
    ("intake",),
    (
        "artifact",
        "progress",
        "few",
        "kept",
        "control_kinds",
        "labels",
        "layers",
        "positions",
        "tabled",
        "written",
    ),
    ("statistics",),
    ("prompts", "figures"),
    ("models",),
    ("activations",),
    ("directions",),
    ("interventions",),
    ("scores",),
    ("analysis",),
    ("study", "training"),
    ("compare",),
    ("report", "explorer"),
    ("gallery",),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# What is asked of a model: a folder of its own in each of these rooms. All may use the first.
QUESTIONS = ("selection", "geometry", "transfer", "meaning", "heads")
WINGS = ("analysis", "figures")
DRAWERS = ("figures", "study", "compare", "report", "explorer", "gallery", "cli", "__main__")
HEAVY = ("torch", "transformer_lens", "transformers")


def sources():
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path):
    """The room that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    """Names of all modules that a piece of code imports, at whatever depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "workbench":
                yield from (f"workbench.{alias.name}" for alias in node.names)
            else:
                yield node.module


def imported_on_import(path):
    """Modules that a file imports as soon as it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = (ast.FunctionDef, ast.AsyncFunctionDef)
    top = [node for node in ast.walk(tree) if not isinstance(node, lazy)]
    inside = {
        child for node in ast.walk(tree) if isinstance(node, lazy) for child in ast.walk(node)
    }
    guarded = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in top:
        if isinstance(node, ast.Import | ast.ImportFrom) and not {node} & (inside | guarded):
            yield from imports(node)


def imported_from(tree, modules):
    """The modules of the package that a piece of code imports, at whatever depth.

    A package is imported with each module in it: that is not meant here, nor the version.
    """
    modules = modules - {"workbench"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules or node.module in modules:
                    yield inner if inner in modules else node.module


def loaded_by(statement):
    """Which heavy modules a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", workbench.__all__)
def test_every_exported_name_resolves(name):
    value = getattr(workbench, name)
    if name in workbench._HOMES:
        assert value.__name__ == name
        assert value.__doc__


def test_exports_are_complete():
    assert sorted(set(workbench.__all__)) == workbench.__all__ == dir(workbench)
    assert errors_defined() <= set(workbench.__all__)
    with pytest.raises(AttributeError, match="module 'workbench' has no attribute 'nonsense'"):
        _ = workbench.nonsense
    with pytest.raises(AttributeError, match=r"; it is workbench\.heads\.patch_heads$"):
        _ = workbench.patch_heads


def users():
    """Everything that calls the package by its public names, but this file, which calls others."""
    texts = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
    folders = [ROOT / name for name in ("tests", "benchmarks", "notebooks")]
    code = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [*texts, *sources(), *(path for path in code if path != Path(__file__))]


@pytest.mark.parametrize("path", users(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_called_by_a_public_name_is_exported(path):
    named = set(re.findall(r"\bwb\.([a-zA-Z]\w*)", path.read_text(encoding="utf-8")))
    assert named <= set(workbench.__all__)
    for room in workbench._ROOMS:
        inner = set(re.findall(rf"\bwb\.{room}\.([a-z_A-Z]+)", path.read_text(encoding="utf-8")))
        assert inner <= set(getattr(workbench, room).__all__)


def test_type_checkers_see_the_names_that_are_loaded_lazily():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    guarded = [
        node
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
    ]
    assert all(alias.asname == alias.name for node in guarded for alias in node.names)
    seen = {alias.name: node.module for node in guarded for alias in node.names}
    homes = {name: f"workbench.{home}" for name, home in workbench._HOMES.items()}
    rooms = {
        name: f"workbench.{home}".removesuffix(f".{name}")
        for name, home in workbench._ROOMS.items()
    }
    assert seen == homes | rooms
    assert (PACKAGE / "py.typed").is_file()


_RIGHT = """
import workbench as wb

model = wb.load_model("pocket", dtype="float32")
acts = wb.collect_activations(model, wb.load_prompts("harmful"), layers=[1])
with wb.intervene(model, wb.Ablate(wb.mean_difference(acts, acts), strength=0.5)):
    replies: list[str] = model.generate(["hi"], max_new_tokens=4)
wb.Directions.from_vector([0.0], layer=1)
"""
_WRONG = """
import workbench as wb

wb.load_model("pocket", dtyp="float32")
wb.mean_differance(1, 2)
wb.mean_difference(wb.load_prompts("harmful"), wb.load_prompts("harmless"))
"""


def test_pyright_finds_a_misspelt_name_and_keyword(tmp_path):
    pytest.importorskip("pyright", reason="no pyright -> pip install -e '.[test]'")
    (tmp_path / "right.py").write_text(_RIGHT)
    (tmp_path / "wrong.py").write_text(_WRONG)
    settings = {"include": ["."], "extraPaths": [str(ROOT)], "useLibraryCodeForTypes": True}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run([*command, "-p", str(tmp_path)], capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        pytest.skip(f"no pyright that runs -> pip install -e '.[test]' ({done.stderr[-200:]})")
    found = [
        (Path(each["file"]).name, each["range"]["start"]["line"], each["rule"])
        for each in json.loads(done.stdout)["generalDiagnostics"]
    ]
    assert set(found) == {
        ("wrong.py", 3, "reportCallIssue"),
        ("wrong.py", 4, "reportAttributeAccessIssue"),
        ("wrong.py", 5, "reportArgumentType"),
    }


def test_figures_export_what_they_name():
    from workbench import figures

    for name in figures.__all__:
        # The list of figures is the one name that draws nothing itself.
        assert callable(getattr(figures, name)) or name == "GALLERY"


def errors_defined():
    return {name for name, value in vars(errors).items() if inspect.isclass(value)}


def test_the_exception_tree_is_drawn_in_the_docstring():
    for name in errors_defined():
        assert issubclass(getattr(errors, name), errors.WorkbenchError)
        assert re.search(rf"\b{name}\b", errors.__doc__)


def test_every_room_has_its_place():
    assert {room_of(path) for path in sources()} <= set(RANK)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path):
    room = room_of(path)
    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] != "workbench" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = room_of(PACKAGE / Path(*parts[1:]).with_suffix(".py"))
        assert other == room or RANK[other] < RANK[room], f"{room} imports {name}"
        assert other == room or other != "training", f"{room} imports how organisms are made"
        if other == "figures":
            assert room in DRAWERS, f"{room} draws"


@pytest.mark.parametrize("wing", WINGS)
def test_a_question_uses_the_main_job_and_no_other_question(wing):
    for question in QUESTIONS:
        for path in (PACKAGE / wing / question).glob("*.py"):
            for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
                parts = name.split(".")
                other = parts[2] if parts[:2] == ["workbench", wing] and len(parts) > 2 else ""
                used = other not in QUESTIONS or other in (question, "selection")
                assert used, f"{path} imports {name}"


def test_no_files_import_each_other_in_a_circle():
    names = {path: path.relative_to(ROOT).with_suffix("").as_posix() for path in sources()}
    modules = {name.replace("/", ".").removesuffix(".__init__") for name in names.values()}
    before = {}
    for path, name in names.items():
        if path == PACKAGE / "__init__.py":
            continue  # the face: its names are loaded on first use
        own = name.replace("/", ".").removesuffix(".__init__")
        used = set(imported_from(ast.parse(path.read_text(encoding="utf-8")), modules))
        before[own] = used - {own}
    list(TopologicalSorter(before).static_order())  # names the circle


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_model_libraries_stay_inside_functions(path):
    top = {name.split(".")[0] for name in imported_on_import(path)}
    if room_of(path) not in ("models", "training", "cli"):
        assert not top & {"transformer_lens", "transformers"}
    if room_of(path) == "figures":
        drawing = {"numpy", "pandas", "xarray", "plotly", "workbench"}
        assert top - sys.stdlib_module_names <= drawing


# What writes to a terminal, as it is called and as it is imported.
PRINTERS = {"print", "echo", "secho", "warn", "warn_explicit", "input", "pprint", "print_exc"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
# Parts that draw nothing by themselves.
RICH = {"rich.box", "rich.table", "rich.text", "rich.progress"}


def printing(tree):
    """What in a piece of code prints by itself, or could."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in PRINTERS | {"Console"}:
            yield node.id
        elif isinstance(node, ast.Attribute):
            whose = ast.unparse(node.value)
            if (node.attr in PRINTERS and whose != "screen") or (
                node.attr in STREAMS and whose == "sys"
            ):
                yield f"{whose}.{node.attr}"
    for name in imports(tree):
        root = name.split(".")[0]
        if root in ("logging", "click") or (root == "rich" and name not in RICH):
            yield f"import {name}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_screen_prints(path):
    found = list(printing(ast.parse(path.read_text(encoding="utf-8"))))
    assert path == PACKAGE / "screen.py" or not found


def test_what_prints_is_found():
    for code in ("print(1)", "say = print", "typer.echo(1)", "from rich import print", "Console()",
                 "import logging", "sys.stderr.write('')", "warnings.warn('')"):  # fmt: skip
        assert list(printing(ast.parse(code))), code
    assert not list(printing(ast.parse("screen.warn('')\nfrom rich.table import Table")))


def test_importing_the_package_is_cheap():
    assert loaded_by("import workbench") == []
    assert loaded_by("import workbench as wb; wb.__all__; dir(wb); wb.PromptError") == []


def test_prompts_and_figures_need_no_torch():
    assert loaded_by("import workbench as wb; wb.load_prompts; wb.PromptSet") == []
    assert loaded_by("import workbench.figures") == []


def test_directions_and_scores_need_no_model_library():
    names = [
        name
        for name, home in workbench._HOMES.items()
        if home.split(".")[0] in ("activations", "directions", "interventions", "scores")
    ]
    assert loaded_by(f"from workbench import {', '.join(names)}") == ["torch"]


def test_the_command_line_starts_without_a_model_library():
    assert loaded_by("import workbench.cli.app") == []


def tracked():
    """Every text file that git knows or would take."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout -> clone the repository")
    for name in done.stdout.splitlines():
        path = ROOT / name
        if path.is_file():
            yield path, path.read_bytes().decode("utf-8", "ignore")


def test_no_file_names_a_package_registry():
    hosts = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com"]
    hosts += ["anaconda" + ".org", "crates" + ".io", "download.py" + "torch.org"]
    for path, text in tracked():
        assert not [host for host in hosts if host in text], path


def test_the_package_does_not_reach_outside_itself():
    for path, text in tracked():
        if PACKAGE in path.parents:
            assert "../" + "shared" not in text, path
