"""Whatever stops a run or damages it, it ends with the same bytes, and is not read meanwhile."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hostile.sealing import seal, seal_run
from safetensors import safe_open
from safetensors.numpy import save_file

import workbench as wb
from workbench import artifact
from workbench.study import controls, held_out, material, stages
from workbench.study.ledger import Ledger
from workbench.study.registry import ANALYSES
from workbench.study.steps import geometry, meaning

STUDY = wb.Study(
    n_train=32, n_validation=8, n_test=6, max_new_tokens=4, borderline="",
    analyses="cosines,vocabulary,wording,concept",
)  # fmt: skip
COMPUTED = (
    (stages, "verify_model"),
    (stages, "split_prompts"),
    (stages, "keep_prompts"),
    (stages, "collect_activations"),
    (stages, "sweep_directions"),
    (stages, "collect_completions"),
    (stages, "measure_controls"),
    (held_out, "measure_held_out"),
    (material, "collect_activations"),
    (geometry, "cosine_similarity_map"),
    (meaning, "logit_lens"),
    (meaning, "measure_concept"),
    (meaning, "cluster_refusals"),
)
EVERY_NTH = 32


class Killed(BaseException):
    """Nothing after it happens."""


class Disk:
    """Counts what is done to the disk; what comes after a number of things does not happen."""

    def __init__(self, patch, last=None):
        self.done, self.last = 0, last
        for place, name in (
            (artifact, "_write"), (artifact, "_rename"), (artifact.os, "fsync"),
        ):  # fmt: skip
            patch.setattr(place, name, self.counted(name, getattr(place, name)))
        discard = artifact._discard
        patch.setattr(artifact, "_discard", lambda path: self.dead or discard(path))

    @property
    def dead(self):
        return self.last is not None and self.done > self.last

    def counted(self, name, act):
        def counting(*arguments):
            self.done += 1
            if not self.dead:
                return act(*arguments)
            if name == "_write":
                file, data = arguments
                act(file, data[: len(data) // 2])
            raise Killed

        return counting


def contents(folder):
    """Every file of a run by its path; what holds the lock is none."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def identity(argument):
    """What a result depends on in an argument: prompts, or a run's place and replies."""
    if isinstance(argument, material.Material):
        verdicts = argument.replies["verdict"].tolist()
        return argument.layer, argument.position, *verdicts
    return getattr(argument, "ids", None)


@pytest.fixture(scope="module", autouse=True)
def remembered():
    """What a model computes is computed once for the same prompts, place and replies."""
    known = {}

    def once(name, compute):
        def computed(*arguments, **settings):
            key = name, *map(identity, arguments[:2]), repr(sorted(settings.items()))
            if key not in known:
                known[key] = compute(*arguments, **settings)
            return known[key]

        return computed

    with pytest.MonkeyPatch.context() as patch:
        for place, name in COMPUTED:
            patch.setattr(place, name, once(name, getattr(place, name)))
        patch.setattr("workbench.study.run.draw", lambda *_arguments, **_settings: [])
        patch.setattr(controls, "N_CONTROLS", 2)
        yield


@pytest.fixture(scope="module")
def whole(pocket, tmp_path_factory, remembered):
    """A run that nothing happened to, and how much it did to the disk."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        run = wb.run_study(STUDY, folder, model=pocket)
    assert run.skipped == {} and len(run.results) == 6
    return folder, disk.done


def stopped_after(last, pocket, folder, expected):
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, last)
        with pytest.raises(Killed):
            wb.run_study(STUDY, folder, model=pocket)
    wb.run_study(STUDY, folder, model=pocket)
    assert contents(folder) == expected, f"after {last}"


def test_a_run_that_is_killed_anywhere_ends_the_same(whole, pocket, tmp_path):
    folder, n = whole
    for last in {0, 1, 2, 3, *range(4, n, EVERY_NTH + 1)}:
        stopped_after(last, pocket, tmp_path / str(last), contents(folder))


@pytest.mark.slow
def test_a_run_that_is_killed_after_every_single_step_ends_the_same(whole, pocket, tmp_path):
    folder, n = whole
    for last in range(n):
        stopped_after(last, pocket, tmp_path / str(last), contents(folder))


def flip(path):
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def lose_numbers(path):
    """All numbers of an artifact are NaN, and its own checksum fits."""
    if path.suffix != ".safetensors":
        path.write_text("NaN\n")
        return
    with safe_open(path, framework="numpy") as file:
        manifest = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    lost = {
        name: np.full_like(own, np.nan) if own.dtype.kind == "f" else own
        for name, own in tensors.items()
    }
    save_file(lost, path, metadata=manifest)
    seal(path)


def delete(path):
    path.unlink()


def swap(path):
    """Another file of the run, whole, under this name."""
    others = sorted(own for own in path.parent.glob(f"*{path.suffix}") if own != path)
    path.write_bytes(others[0].read_bytes() if others else b"{}")


DAMAGES = (flip, cut, empty, lose_numbers, delete, swap)


@pytest.fixture
def damaged(whole, tmp_path):
    """Makes a copy of the run with one file damaged."""

    def make(name, damage):
        folder = tmp_path / f"{Path(name).name}-{damage.__name__}"
        shutil.copytree(whole[0], folder)
        damage(folder / name)
        return folder

    return make


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_no_reader_takes_a_damaged_file(whole, damaged, damage):
    for name in contents(whole[0]):
        with pytest.raises(wb.WorkbenchError) as refused:
            wb.load_run(damaged(name, damage))
        assert Path(name).name in str(refused.value)


def mended(folder, name, pocket, expected):
    said = []
    wb.run_study(STUDY, folder, model=pocket, say=said.append)
    assert contents(folder) == expected, name
    assert any(Path(name).name in line for line in said), name


def test_what_is_damaged_is_made_again_and_said(whole, damaged, pocket):
    """Each file with one of the damages; all of them are slow."""
    expected = contents(whole[0])
    for row, name in enumerate(expected):
        mended(damaged(name, DAMAGES[row % len(DAMAGES)]), name, pocket, expected)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_every_damage_to_every_file_is_mended(whole, damaged, pocket, damage):
    expected = contents(whole[0])
    for name in expected:
        mended(damaged(name, damage), name, pocket, expected)


def test_what_was_made_from_something_else_is_refused_and_made_again(whole, pocket, tmp_path):
    """A file that is whole, of this study, and yet not the one that the others were made from."""
    folder = shutil.copytree(whole[0], tmp_path / "run")
    path = folder / "replies.jsonl"
    path.write_text(path.read_text().replace('"refused"', '"complied"'))
    ledger = Ledger.read(folder)
    ledger.keep("replies.jsonl", ("prompts.json", "direction.safetensors"))
    with pytest.raises(wb.StudyError, match=r"effects.* was made from another replies\.jsonl"):
        wb.load_run(folder)
    said = []
    run = wb.run_study(STUDY, folder, model=pocket, say=said.append)
    again = [line.split()[0] for line in said if "made again" in line]
    expected = ["effects.safetensors", "controls.safetensors", "analyses/wording.safetensors"]
    assert again[:3] == expected
    assert float(run.effects["refusal_rate"].sum()) == 0.0


def test_thresholds_may_change_until_replies_hang_on_them(pocket, tmp_path):
    strict = replace(STUDY, kl_cap=0.0, analyses="none")
    with pytest.raises(wb.StudyError, match="Raise kl_cap"):
        wb.run_study(strict, tmp_path, model=pocket)
    swept = (tmp_path / "scores.safetensors").read_bytes()
    wb.run_study(replace(strict, kl_cap=0.1), tmp_path, model=pocket)
    assert (tmp_path / "scores.safetensors").read_bytes() == swept
    wb.run_study(replace(strict, kl_cap=0.1, top_k=2), tmp_path, model=pocket)
    with pytest.raises(
        wb.StudyError, match=r"another study: kl_cap differs\. On that hang replies"
    ):
        wb.run_study(replace(strict, kl_cap=0.2), tmp_path, model=pocket)


def test_settings_are_locked_while_anything_hangs_on_them(whole, pocket, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    (folder / "replies.jsonl").unlink()
    strict = replace(STUDY, kl_cap=0.2)
    message = (
        r"another study: kl_cap differs\. On that hang effects\.safetensors, .* and \d+ more\. "
    )
    with pytest.raises(wb.StudyError, match=message):
        wb.run_study(strict, folder, model=pocket)
    for name in ("effects.safetensors", "controls.safetensors"):
        (folder / name).unlink()
    for each in ANALYSES:
        for name in each.made:
            (folder / name).unlink(missing_ok=True)
    (folder / "heads").mkdir()
    (folder / "heads" / "head_set.safetensors").write_bytes(b"")
    with pytest.raises(wb.StudyError, match=r"On that hangs heads/head_set\.safetensors\. "):
        wb.run_study(strict, folder, model=pocket)
    shutil.rmtree(folder / "heads")
    assert wb.run_study(strict, folder, model=pocket).study == strict


def test_a_run_without_a_ledger_is_refused_with_the_command_that_makes_it(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    (folder / "ledger.json").unlink()
    with pytest.raises(wb.StudyError, match=r"has no ledger\.json, .*workbench run --.* --out /"):
        wb.load_run(folder)
    seal_run(folder)
    assert contents(folder) == contents(whole[0])
