"""Packaging: imports are declared, requirements bounded and pinned, skipped tests explained."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Modules by another name than the package that brings them.
PACKAGE_OF = {"sklearn": "scikit-learn", "sae_lens": "sae-lens"}
# Loaded by other libraries in our name: pandas reads Parquet with one, plotly draws with another,
# a notebook needs a kernel and something that shows it, and transformers unpacks few bits with one.
UNSEEN = {"bitsandbytes", "pyarrow", "kaleido", "jupyterlab", "ipykernel"}
SKIPS = {"pytest.skip", "pytest.importorskip", "pytest.mark.skip", "pytest.mark.skipif"}
SEVERAL = """
import pytest

pytest.importorskip("nothing_of_this_name", reason="no nothing -> make it")
"""
SKIPPING = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_number(number):
    pytest.skip("no numbers -> count")

@pytest.mark.skip(reason="no letters -> write")
def test_letters(): ...

def test_runs(): ...
"""


def requirements(*groups):
    """Requirements of the package itself (group "dependencies") and of extras, without our own."""
    declared = {"dependencies": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    for group in groups or declared:
        for text in declared[group]:
            requirement = Requirement(text)
            if requirement.name != PROJECT["name"]:
                yield requirement


def names(*groups):
    return {canonicalize_name(each.name) for each in requirements(*groups)}


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def imported():
    """Packages that the code imports, by statement or by name, at whatever depth."""
    found = set()
    for path in (ROOT / "workbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                if isinstance(node.args[0], ast.Constant):
                    found.add(node.args[0].value)
    modules = {name.split(".")[0] for name in found} - sys.stdlib_module_names - {"workbench"}
    return {canonicalize_name(PACKAGE_OF.get(module, module)) for module in modules}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    used = [group for group in PROJECT["optional-dependencies"] if group != "test"]
    assert imported() | UNSEEN == names("dependencies", *used)


def test_every_requirement_is_bounded_and_holds_the_version_that_was_tested():
    pinned = pins()
    for requirement in requirements():
        assert {each.operator for each in requirement.specifier} == {">=", "<"}, requirement
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: pinned is {version}"


def test_whoever_skips_says_what_would_change_it():
    for path in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {
            ast.unparse(node.targets[0]): ast.unparse(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) in SKIPS:
                reasons = [each.value for each in call.keywords if each.arg == "reason"]
                reason = ast.unparse((reasons or call.args)[0])
                assert " -> " in texts.get(reason, reason), f"{path}:{call.lineno}"


def test_a_run_ends_with_what_was_skipped_and_why(tmp_path):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(SKIPPING)
    (tmp_path / "test_all.py").write_text(SEVERAL)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n2", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        },
        capture_output=True,
        text=True,
    )
    *_, title, numbers, first, second, closing = done.stdout.splitlines()
    assert title.strip("= ") == "not run, and what would change it"
    assert numbers == "3 skipped: no numbers -> count"
    assert {first, second} == {
        "1 skipped: no letters -> write",
        "1 skipped: no nothing -> make it",
    }
    assert re.fullmatch(r"1 passed, 5 skipped in [\d.]+s.*", closing.strip("= "))
