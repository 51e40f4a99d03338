"""Where a model is put: what torch or this machine does not have is refused by name."""

import pytest
import torch

from workbench.errors import ModelError
from workbench.models.loading import placing
from workbench.models.loading.load import load_model
from workbench.models.loading.placing import (
    check_device_map,
    device_here,
    devices_here,
    known_dtype,
)
from workbench.models.verify import verify_model

ABSENT = ("gpu", "", "meta", "cpu:x", "cuda:99", "mps:7")


@pytest.mark.parametrize("device", ABSENT)
def test_a_device_that_is_not_here_is_refused_with_those_that_are(device):
    here = ", ".join(devices_here())
    for call in (device_here, lambda device: check_device_map({"": device})):
        with pytest.raises(ModelError) as caught:
            call(device)
        assert str(caught.value) == (
            f"device must be one that torch finds on this machine ({here}), found {device!r}. "
            "Pass one of them, or leave device= out."
        )


def test_devices_that_are_here(monkeypatch):
    assert devices_here()[0] == "cpu" and device_here("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(placing, "_holds", lambda device: device.type in ("cpu", "cuda"))
    assert devices_here() == ["cpu", "cuda", "cuda:0", "cuda:1"]
    for given in ("auto", "cpu", {"a": 1, "b": "disk", "c": torch.device("cpu")}, None):
        check_device_map(given)
    with pytest.raises(ModelError, match=r"device_map must be one of auto, .*, found 3\."):
        check_device_map(3)


@pytest.mark.parametrize("dtype", ["int8", "float33", "__name__", "", torch.int32, torch.complex64])
def test_numbers_that_no_model_is_loaded_in(dtype):
    with pytest.raises(ModelError, match=r"dtype must be one of float32, bfloat16, .* found '"):
        known_dtype(dtype)


def test_numbers_by_name():
    assert known_dtype("half") == known_dtype(torch.float16) == torch.float16
    assert known_dtype(None) is None


@pytest.mark.parametrize("call", [load_model, verify_model])
@pytest.mark.parametrize("setting", [{"device": "gpu"}, {"dtype": "int8"}, {"device_map": "gpu"}])
def test_loading_and_verifying_ask_before_anything_is_read(call, setting):
    with pytest.raises(ModelError, match=r"(device|dtype) must be one"):
        call("owner/never-asked-for", **setting)
