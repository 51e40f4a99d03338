"""The notebooks: source and notebook agree, hold no outputs, and run from first to last cell.

They run as a reader runs them, in a kernel of their own, on the shipped models, with every
connection but the kernel's own refused.
"""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbmake.nb_run import NotebookRun

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
NAMES = [path.stem for path in SOURCES]
QUICK = "01_prompts_and_positions"

OFFLINE = """
import pytest_socket
pytest_socket.socket_allow_hosts(["127.0.0.1", "localhost"], allow_unix_socket=True)
"""


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_there_are_the_notebooks_that_the_readme_names():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"notebooks/(\w+)\.ipynb", readme)) == set(NAMES)
    assert [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))] == NAMES


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_notebook_is_its_source_without_outputs(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    own = jupytext.read(source)
    assert cells(notebook) == cells(own), "run make notebooks"
    assert notebook.metadata.kernelspec == own.metadata.kernelspec
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_notebook_asks_on_top_and_answers_at_the_end(source):
    notebook = jupytext.read(source)
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert text[0].startswith("# ") and "**Question.**" in text[0]
    assert text[-1] == "## What was found"
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert re.match(r'MODEL = "[\w-]+"', code[0])
    functions = re.findall(r"^def .*(?:\n(?:    .*)?)*", "\n".join(code), re.M)
    assert all(len(each.strip().splitlines()) <= 14 for each in functions)


def changed_copy(path, folder, **changed):
    """The notebook with other values in its first cell."""
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for name, value in changed.items():
        line = f"{name} = {value!r}"
        first.source, count = re.subn(rf"^{name} = .*$", line, first.source, flags=re.M)
        assert count == 1
    nbformat.write(notebook, folder / path.name)
    return folder / path.name


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Executes a notebook where it lies, in a kernel that has this package and no network."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "offline.py").write_text(OFFLINE)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return lambda path: NotebookRun(path, default_timeout=600).execute()


def finding(result):
    """What the last cell shows."""
    assert result.error is None, result.error.trace
    outputs = result.nb.cells[-1].outputs
    return "\n".join(each.data.get("text/markdown", "") for each in outputs if "data" in each)


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem == QUICK else pytest.mark.slow)
        for path in SOURCES
    ],
)
def test_notebook_runs_and_says_what_it_found(source, kernel):
    found = finding(kernel(source.with_suffix(".ipynb")))
    model = re.search(r'MODEL = "(.*)"', source.read_text(encoding="utf-8"))[1]
    assert f"`{model}`" in found
    assert re.search(r"\d", found) and "nan" not in found


@pytest.mark.slow
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.filterwarnings("default")
def test_without_published_files_the_notebook_says_so_and_goes_on(tmp_path, kernel):
    path = ROOT / "notebooks" / "05_published_results.ipynb"
    found = finding(kernel(changed_copy(path, tmp_path, PUBLISHED=str(tmp_path / "absent"))))
    assert "Nothing published was compared" in found and "`pocket`" in found


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.filterwarnings("default")
def test_the_kernel_of_these_tests_has_no_network(tmp_path, kernel):
    call = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(call)])
    nbformat.write(notebook, tmp_path / "call.ipynb")
    assert "SocketConnectBlockedError" in kernel(tmp_path / "call.ipynb").error.trace
