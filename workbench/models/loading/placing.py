"""Where a model is put and in which numbers: settings that are held against this machine."""

from collections.abc import Mapping
from typing import Any

import torch

from workbench.errors import ModelError

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")


def devices_here() -> list[str]:
    """The devices of this machine, as torch calls them; several of a kind with their numbers."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return found + [name for name in ("mps", "xpu") if _holds(torch.device(name))]


def known_device(device: str | torch.device) -> torch.device:
    """The device, if torch knows such a one; it need not be here.

    Raises:
        ModelError: there is none.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type == "meta":  # meta holds shapes and no numbers
        raise _no_device(device)
    return found


def device_here(device: str | torch.device) -> torch.device:
    """The device, if this machine has it.

    Raises:
        ModelError: it has not.
    """
    found = known_device(device)
    if not _holds(found):
        raise _no_device(device)
    return found


def check_device_map(device_map: Any) -> None:
    """Refuses what spreads no layers over the devices of this machine.

    Raises:
        ModelError: it does not.
    """
    if isinstance(device_map, Mapping):
        for device in device_map.values():
            if isinstance(device, int):
                device = f"cuda:{device}"
            if device != "disk":
                device_here(device)
    elif isinstance(device_map, str | torch.device):
        if device_map not in _SPREADS:
            device_here(device_map)
    elif device_map is not None:
        raise ModelError(
            f"device_map must be one of {', '.join(_SPREADS)}, a device, or a dict of devices by "
            f"module, found {device_map!r}."
        )


def known_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """The numbers that weights are kept in, from themselves or their name.

    Raises:
        ModelError: a model cannot be loaded in such numbers.
    """
    if dtype is None:
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found not in _DTYPES:
        names = ", ".join(str(each).removeprefix("torch.") for each in _DTYPES)
        raise ModelError(f"dtype must be one of {names}, found {str(dtype)!r}.")
    return found


def _holds(device: torch.device) -> bool:
    try:
        torch.empty(1, device=device)
    except torch.OutOfMemoryError:
        return True
    except Exception:  # each kind of device is absent in its own way
        return False
    return True


def _no_device(device: Any) -> ModelError:
    return ModelError(
        f"device must be one that torch finds on this machine ({', '.join(devices_here())}), found "
        f"{str(device)!r}. Pass one of them, or leave device= out."
    )
