"""NumPy files: the shape in a header is compared with the bytes that follow, before they are read.

NumPy itself makes room for whatever shape a header claims.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import ArtifactError
from workbench.intake.limits import check_elements
from workbench.intake.zips import check_zip

_MAGIC = b"\x93NUMPY"


def read_arrays(content: bytes, path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a ``.npy`` file, or those of a ``.npz`` by name; no pickle is opened.

    Raises:
        ArtifactError: it claims more than it holds, or holds more than is allowed.
        Exception: whatever NumPy and zipfile raise on a damaged file.
    """
    if not content.startswith(b"PK"):
        return _array(content, path)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_zip(archive, path)
        return {
            name.removesuffix(".npy"): _array(archive.read(name), path)
            for name in archive.namelist()
        }


def _array(content: bytes, path: Path) -> np.ndarray:
    if not content.startswith(_MAGIC):
        raise ValueError("it does not begin as one")  # NumPy would take it for a pickle
    stream = io.BytesIO(content)
    shape, kind = _header(stream)
    if kind.hasobject:
        raise ValueError("allow_pickle: it holds Python objects")
    numbers, found = math.prod(shape), len(content) - stream.tell()
    check_elements(path, numbers if not kind.itemsize else 0, what="numbers")
    if numbers * kind.itemsize > found:
        raise ArtifactError(
            f"{path} is broken: it claims {numbers:,} numbers of {kind.itemsize} bytes, and holds "
            f"{found:,} bytes. Fetch it again."
        )
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], Any]:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the format, which is not known here")
    shape, _, kind = readers[version](stream)
    if any(length < 0 for length in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, kind
