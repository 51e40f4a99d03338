"""What is done to a valid file: bytes, JSON values, entries of archives, operations of pickles."""

import io
import itertools
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**63,
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 5, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"),
    10**30, 10**400, 2**63, "", " ", "0", "-1", "five", "NaN", "é", "\ud800", "\x00", "\u2028",
    "x" * 3000, [], {}, [[]], [None], [0], [0.5], ["a"], {"a": 1}, {"": {}}, {"0": [0.5]},
    [[0.5], [0.5, 1.0]],
    [{"role": "user", "content": "Bake bread"}], [{"role": "user", "content": None}],
    "[{'role': 'user', 'content': ", "harmful", "default", "resid_pre", "layer", [1, "a", None],
)  # fmt: skip
WORDS = (
    b"\x00", b"\xff", b"\n", b"\r", b'"', b",", b";", b"\t", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\x1f\x8b",
    b"PK\x03\x04", b"PAR1", b"GGUF", b"\x93NUMPY", b"{", b"}", b"[", b"]", b"null", b"NaN", b"-1",
    b"1e999", b"\xed\xa0\x80", b"sep=;", b"text", b"label", b"{{", b"{%", b"%}", b"\x80\x02", b".",
)  # fmt: skip
GLOBALS = (
    "os system", "builtins eval", "torch FloatTensor", "torch FloatStorage", "builtins bytearray",
    "collections OrderedDict", "collections Counter", "numpy dtype", "numpy ndarray",
    "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_meta_tensor_no_storage",
    "torch._utils _rebuild_tensor_v2", "_codecs encode", "torch Size", "torch float32",
    "repeng.extract ControlVector", "torch.nn.parameter Parameter",
)  # fmt: skip


def bytewise(content: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, cut, doubled or put in."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(made) + 1)
        end = min(len(made), at + draw.choice((1, 2, 4, 8, 16, 64)))
        kind = draw.randrange(8)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(made):
            made[at] = draw.randrange(256)
        elif kind == 2:
            del made[at:end]
        elif kind == 3:
            made[at:at] = made[at:end]
        elif kind == 4:
            made[at:at] = draw.choice(WORDS)
        elif kind == 5:
            form = draw.choice(("<I", "<Q", ">I", "<H"))
            number = draw.choice(NUMBERS) % 2 ** (8 * struct.calcsize(form))
            made[at : at + struct.calcsize(form)] = struct.pack(form, number)
        elif kind == 6:
            made[at:end] = draw.randbytes(end - at)
        elif draw.random() < 0.3:
            del made[at:]
    return bytes(made)


def of_json(content: bytes, draw: random.Random) -> bytes:
    """One value, or a few, of a JSON document changed for another, taken out or renamed."""
    try:
        found = json.loads(content)
    except ValueError:
        return bytewise(content, draw)
    for _ in range(draw.choice((1, 1, 2, 3))):
        found = _changed(found, draw)
    return json.dumps(found, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")


def of_lines(content: bytes, draw: random.Random) -> bytes:
    """A line of JSON changed."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    lines[at] = of_json(lines[at], draw)
    return b"\n".join(lines)


def of_zip(inner: Mutator) -> Mutator:
    """An entry of an archive changed, renamed, doubled, left out or compressed."""

    def mutate(content: bytes, draw: random.Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
        at, kind = draw.randrange(len(entries)), draw.randrange(10)
        name, own = entries[at]
        if kind == 0:
            del entries[at]
        elif kind == 1:
            entries[at] = (bytewise(name.encode(), draw).decode("latin1").replace("\0", ""), own)
        elif kind == 2:
            entries.append((f"{name}x", own))
        else:
            change = inner if name.endswith((".pkl", ".npy")) else bytewise
            entries[at] = (name, change(own, draw))
        made = io.BytesIO()
        packing = zipfile.ZIP_DEFLATED if draw.random() < 0.1 else zipfile.ZIP_STORED
        with zipfile.ZipFile(made, "w", packing) as archive:
            for name, own in entries:
                archive.writestr(name, own)
        return made.getvalue()

    return mutate


def of_pickle(content: bytes, draw: random.Random) -> bytes:
    """Operations of a pickle changed, doubled, left out, or of another argument."""
    places = [place for _, _, place in pickletools.genops(content)]
    parts = [content[a:b] for a, b in itertools.pairwise([*places, len(content)])]
    for _ in range(draw.choice((1, 1, 2, 3))):
        at, kind = draw.randrange(len(parts)), draw.randrange(7)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(at, draw.choice(parts))
        elif kind == 2:
            parts[at] = draw.choice(parts)
        elif kind == 3 and parts[at][:1] == b"c":
            parts[at] = b"c" + draw.choice(GLOBALS).replace(" ", "\n").encode() + b"\n"
        elif kind <= 5:
            parts[at] = _operation(draw)
        else:
            parts[at] = bytewise(parts[at], draw)
        parts = parts or [b"."]
    return b"".join(parts)


def of_torch(content: bytes, draw: random.Random) -> bytes:
    """A file of ``torch.save``, as an archive or in the layout that came before it."""
    if content.startswith(b"PK"):
        return of_zip(either(of_pickle, bytewise))(content, draw)
    stream, ends = io.BytesIO(content), []
    while len(ends) < 5:  # number, version, machine, the values, the names of their storages
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    at = draw.choice((0, 1, 2, 3, 3, 3, 3, 4))
    start, end = ([0, *ends])[at], ends[at]
    return content[:start] + of_pickle(content[start:end], draw) + content[end:]


def of_safetensors(content: bytes, draw: random.Random) -> bytes:
    """The header changed, and within it the manifest, with the length that goes with it."""
    (length,) = struct.unpack("<Q", content[:8])
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    own = header.get("__metadata__", {})
    if "manifest" in own and draw.random() < 0.8:
        own["manifest"] = of_json(own["manifest"].encode(), draw).decode("utf-8", "replace")
        made = json.dumps(header).encode()
    else:
        made = of_json(json.dumps(header).encode(), draw)
    made += b" " * (-len(made) % 8)
    return struct.pack("<Q", len(made)) + made + rest


def of_npy(content: bytes, draw: random.Random) -> bytes:
    """The header changed, with the length that goes with it."""
    (length,) = struct.unpack("<H", content[8:10])
    header, rest = content[10 : 10 + length], content[10 + length :]
    if draw.random() < 0.5:
        for old, new in ((b"4", str(draw.choice(NUMBERS)).encode()), (b"<f4", _kind(draw))):
            if draw.random() < 0.5:
                header = header.replace(old, new, 1)
    else:
        header = bytewise(header, draw)
    header = header[: 2**16 - 1]
    return content[:8] + struct.pack("<H", len(header)) + header + rest


def either(*mutators: Mutator) -> Mutator:
    """One of several."""
    return lambda content, draw: draw.choice(mutators)(content, draw)


def _kind(draw: random.Random) -> bytes:
    return draw.choice(
        (b"<f8", b">f4", b"<f2", b"<i8", b"<c8", b"|O", b"<U4", b"|V4", b"|S0", b"?")
    )


def _operation(draw: random.Random) -> bytes:
    number = draw.choice(NUMBERS)
    return draw.choice(
        (
            *(b"K" + bytes([number % 256]), b"J" + struct.pack("<i", number % 2**31), b"N"),
            *(b"\x8a\x06" + struct.pack("<q", number % 2**47)[:6], b"\x88", b"]", b"}", b")"),
            *(b"(", b"t", b"\x85", b"\x86", b"R", b"b", b"\x81", b"a", b"e", b"s", b"u", b"Q"),
            *(b"X\x03\x00\x00\x00abc", b"G\x7f\xf0\x00\x00\x00\x00\x00\x00", b"h\x00", b"q\x00"),
            b"c" + draw.choice(GLOBALS).replace(" ", "\n").encode() + b"\n",
        )
    )


def _changed(found: Any, draw: random.Random) -> Any:
    """A document with one of its values changed."""
    places: list[tuple[Any, Any]] = []
    waiting = [found]
    while waiting and len(places) < 3000:
        own = waiting.pop()
        keys = (
            list(own) if isinstance(own, dict) else range(len(own)) if isinstance(own, list) else ()
        )
        places += [(own, key) for key in keys]
        waiting += [own[key] for key in keys]
    if not places or draw.random() < 0.02:
        return _value(found, draw)
    # The outermost places decide most.
    own, key = draw.choice(places[: draw.choice((3, 8, len(places)))])
    kind = draw.randrange(8)
    if kind == 0:
        del own[key]
    elif kind == 1 and isinstance(own, dict):
        own[draw.choice(("layer", "0", "", "text", "a.b", key + "x", "directions"))] = own.pop(key)
    elif kind == 2:
        own[key] = json.loads(json.dumps(draw.choice(places)[0]))
    else:
        own[key] = _value(own[key], draw)
    return found


def _value(found: Any, draw: random.Random) -> Any:
    kind = draw.randrange(12)
    if kind == 0:
        return [found]
    if kind == 1:
        return {"a": found}
    if kind == 2 and isinstance(found, str):
        return found + draw.choice(("\x00", "\n", " ", "\ud800", "'", '"', "=", "x" * 500))
    if kind == 3 and isinstance(found, int | float):
        return found + draw.choice((-1, 0.5, 1, 2**31, 2**64))
    if kind == 4 and isinstance(found, list):
        return found * draw.choice((0, 2, 3))
    if kind == 5:
        return _deep(found, draw.choice((3, 100, 400)))
    return draw.choice(VALUES)


def _deep(found: Any, depth: int) -> Any:
    for _ in range(depth):
        found = [found]
    return found


_BY_SUFFIX: dict[str, Mutator] = {
    ".pt": either(of_torch, of_torch, bytewise),
    ".npy": either(of_npy, bytewise),
    ".npz": either(of_zip(of_npy), bytewise),
    ".safetensors": either(of_safetensors, of_safetensors, bytewise),
    ".json": either(of_json, of_json, of_json, bytewise),
    ".svec": either(of_json, bytewise),
    ".jsonl": either(of_lines, of_lines, bytewise),
}


def mutated(name: str, content: bytes, draw: random.Random) -> bytes:
    """A file changed in ways that fit its format."""
    suffix = name[name.rfind(".") :]
    return _BY_SUFFIX.get(suffix, bytewise)(content, draw)
