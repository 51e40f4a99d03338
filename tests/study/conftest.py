"""What tests of runs share: runs whose random controls are left out."""

import pytest

from workbench.study import stages


@pytest.fixture(scope="session")
def without_controls():
    """Runs measure no controls while it is active, which take a third of a small run's time."""

    def act(patch):
        patch.setattr(stages, "measure_controls", lambda *_: None)

    return act


@pytest.fixture
def no_controls(monkeypatch, without_controls):
    """No run of the test measures controls."""
    without_controls(monkeypatch)
