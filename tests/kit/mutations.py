"""Damage to the files of a bundle: to their bytes, and to the structure that their parsers read.

A seeded mutator of our own instead of hypothesis: a case must be made again from its number alone in another process, because what
it is fed to may die of it, and thousands of cases must cost nothing but what is tested. Every function takes a `random.Random` and
makes the same damage for the same numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

__all__ = ["damage_bytes", "damage_json", "damage_protobuf", "damage_safetensors"]

INTEGERS = [-1, 0, 1, 2, 3, 5, 7, 127, 128, 255, 65535, 2**31 - 1, 2**31, -(2**31), 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, 10**400]
NUMBERS = [*INTEGERS, 0.5, -0.0, 1e-320, 5e-324, 1e308, -1e308, float("nan"), float("inf"), float("-inf")]
TEXTS = ["", " ", "x", "a\nb", "\0", "\ud800", "\u202e", "é" * 300, "x" * 10_000, "batch", "float16", "float32", "query", "read", "clip"]
PATHS = [
    *(
        "../x",
        "/etc/passwd",
        "//etc/passwd",
        "a/../../b",
        "..",
        ".",
        "./",
        "C:\\x",
        "\\\\host\\x",
        "~/x",
        "$HOME",
        "%2e%2e/x",
        "file:///etc/passwd",
    ),
    *("a" * 300, "a/" * 3000 + "b", "manifest.json", "manifest.json/x", "./memory.safetensors", "memory.safetensors/", "encoder.fp32.onnx"),
]
OTHERS = [None, True, False, [], {}, [[]], {"": {}}, [None] * 1000]
DTYPES = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "U8", "BOOL", "C64", "F4", "", "float32"]


def damage_bytes(content: bytes, random: Random) -> bytes:
    """One to three wounds: bits flipped, bytes overwritten, a cut, something put in, a block doubled, moved or zeroed."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(_WOUNDS)(content, random)
    return content


def damage_json(content: bytes, random: Random) -> bytes:
    """One to three changes to what a JSON document says: keys, types, sizes, order, depth."""
    values = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        values = _damage_value(values, random)
    if random.random() < 0.03:
        values = {**values, "deep": "DEPTH"} if isinstance(values, dict) else values
    depth = random.choice((100, 480, 900, 960, 980, 990, 1000, 100_000))
    return json.dumps(values).replace('"DEPTH"', "[" * depth + "]" * depth).encode()


def damage_safetensors(content: bytes, random: Random) -> bytes:
    """Damage to the length, the header or the numbers of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    part = random.choice(("length", "header", "tensor", "numbers", "numbers"))
    if part == "length":
        return _eight_bytes(length, random) + header + data
    if part == "header":
        header = damage_json(header, random)
    if part == "tensor":
        header, data = _damage_tensor(json.loads(header), data, random)
    if part == "numbers":
        data = _damage_numbers(data, random)
    return struct.pack("<Q", len(header)) + header + data


def damage_protobuf(content: bytes, random: Random) -> bytes:
    """One to three changes to the fields of a protobuf message (an ONNX file is one); lengths are made right again."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = _damage_message(_fields(content) or [], random)
    return content


# bytes


def _flip(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8)) if content else 0):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def _overwrite(content: bytes, random: Random) -> bytes:
    start, stop = _block(content, random, 16)
    return content[:start] + random.randbytes(stop - start) + content[stop:]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randint(0, len(content))]


def _insert(content: bytes, random: Random) -> bytes:
    at = random.randint(0, len(content))
    return content[:at] + random.randbytes(random.choice((1, 2, 8, 100))) + content[at:]


def _duplicate(content: bytes, random: Random) -> bytes:
    start, stop = _block(content, random, 200)
    return content[:stop] + content[start:]


def _move(content: bytes, random: Random) -> bytes:
    start, stop = _block(content, random, 200)
    rest = content[:start] + content[stop:]
    at = random.randint(0, len(rest))
    return rest[:at] + content[start:stop] + rest[at:]


def _zero(content: bytes, random: Random) -> bytes:
    start, stop = _block(content, random, 200)
    return content[:start] + bytes(stop - start) + content[stop:]


def _put_integer(content: bytes, random: Random) -> bytes:
    at = random.randint(0, len(content))
    width = random.choice((1, 2, 4, 8))
    return content[:at] + (random.choice(INTEGERS) % 256**width).to_bytes(width, "little") + content[at + width :]


def _block(content: bytes, random: Random, longest: int) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(start + random.randint(1, longest), len(content))


_WOUNDS: list[Callable[[bytes, Random], bytes]] = [_flip, _overwrite, _truncate, _insert, _duplicate, _move, _zero, _put_integer]


# JSON


def _damage_value(values: Any, random: Random) -> Any:
    place = random.choice(list(_places(values)) or [()])
    if not place:
        return deepcopy(random.choice(OTHERS))
    *way, key = place
    parent = values
    for step in way:
        parent = parent[step]
    _damage_entry(parent, key, values, random)
    return values


def _places(values: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a document, as keys and positions."""
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in entries:
        yield (*place, key)
        yield from _places(value, (*place, key))


def _damage_entry(parent: Any, key: Any, values: Any, random: Random) -> None:
    change = random.choice(("remove", "add", "replace", "replace", "replace", "replace", "like", "like", "like", "double"))
    if change == "remove":
        del parent[key]
    elif change == "add" and isinstance(parent, dict):
        parent[random.choice(TEXTS)] = _any_value(random)
    elif change == "double" and isinstance(parent, list):
        parent[key:key] = [deepcopy(parent[key]) for _ in range(random.choice((1, 1, 100)))]
    elif change == "like":
        parent[key] = _like(parent[key], values, random)
    else:
        parent[key] = _any_value(random)


def _any_value(random: Random) -> Any:
    return deepcopy(random.choice(random.choice((NUMBERS, TEXTS, PATHS, OTHERS))))


def _like(value: Any, values: Any, random: Random) -> Any:
    """Another value of the same type: what is wrong with it takes a second look."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return random.choice((value + 1, value - 1, -value, value * 1000, value / 7, random.choice(NUMBERS)))
    if isinstance(value, str):
        return random.choice((value + "x", value[:-1], value.upper(), random.choice(TEXTS), random.choice(PATHS)))
    *way, key = random.choice(list(_places(values)))
    for step in way:
        values = values[step]
    return deepcopy(values[key])


# safetensors


def _eight_bytes(length: int, random: Random) -> bytes:
    value = random.choice((length + 1, length - 1, length * 2, 100_000_001, *INTEGERS))
    return struct.pack("<Q", value % 2**64)


def _damage_tensor(header: dict[str, Any], data: bytes, random: Random) -> tuple[bytes, bytes]:
    """A header that is well formed and says something else about a tensor; at times with data to match."""
    tensor = header[random.choice([name for name in header if name != "__metadata__"])]
    start, stop = tensor["data_offsets"]
    change = random.choice(("dtype", "shape", "transposed", "offsets", "empty"))
    if change == "dtype":
        tensor["dtype"] = random.choice(DTYPES)
        if random.random() < 0.7 and len(header) - ("__metadata__" in header) == 1:
            size = {"F64": 8, "I64": 8, "C64": 8, "F32": 4, "F16": 2, "BF16": 2}.get(tensor["dtype"], 1) * (stop - start) // 4
            tensor["data_offsets"], data = [0, size], random.randbytes(size)
    elif change == "shape":
        count = (stop - start) // 4
        tensor["shape"] = random.choice(
            ([count], [1, count], [count, 1], [1, *tensor["shape"]], [*tensor["shape"], 1], [0, 16], [2**62, 4], [])
        )
    elif change == "transposed":
        tensor["shape"] = tensor["shape"][::-1]
    elif change == "offsets":
        tensor["data_offsets"] = random.choice(
            ([stop, start], [start + 4, stop + 4], [0, 0], [start, 2**63], [start, stop - 4], [start, 2**64 - 1])
        )
    else:
        header, data = random.choice(({}, {"__metadata__": {}}, {"other": tensor})), random.choice((data, b""))
    return json.dumps(header).encode(), data


def _damage_numbers(data: bytes, random: Random) -> bytes:
    numbers = list(struct.unpack(f"<{len(data) // 4}f", data))
    kind = random.choice(("one", "scale", "all", "swap"))
    if kind == "one":
        numbers[random.randrange(len(numbers))] = random.choice(
            (float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38, 1e-45, 0.0, 1e6, 1.001)
        )
    elif kind == "scale":
        factor = random.choice((0.0, -1.0, 1e-30, 0.9995, 1.0005, 2.0, 1e19, 3e38))
        numbers = [max(min(number * factor, 3.4e38), -3.4e38) for number in numbers]
    elif kind == "all":
        numbers = [random.choice((0.0, 1.0, float("nan"), 3.4e38))] * len(numbers)
    else:
        random.shuffle(numbers)
    return struct.pack(f"<{len(numbers)}f", *numbers)


# protobuf

_Field = tuple[int, int, Any]  # number, wire type, value: an integer, or bytes
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def _damage_message(fields: list[_Field], random: Random) -> bytes:
    if not fields:
        return random.randbytes(random.randint(0, 20))
    at = random.randrange(len(fields))
    number, wire, value = fields[at]
    inner = _fields(value) if wire == _BYTES else None
    if inner and random.random() < 0.85:
        fields[at] = (number, wire, _damage_message(inner, random))
        return _message(fields)
    change = random.choice(("value", "value", "value", "value", "remove", "double", "number", "move", "borrow"))
    if change == "value":
        fields[at] = (number, wire, _other_value(wire, value, random))
    elif change == "remove":
        del fields[at]
    elif change == "double":
        fields[at:at] = [fields[at]] * random.choice((1, 1, 1, 50))
    elif change == "number":
        fields[at] = (random.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 20, 25, 500)), wire, value)
    elif change == "move":
        fields.insert(random.randrange(len(fields)), fields.pop(at))
    else:
        fields[at] = (number, *random.choice(fields)[1:])
    return _message(fields)


def _other_value(wire: int, value: Any, random: Random) -> Any:
    if wire == _BYTES:
        text = random.choice((*TEXTS, *PATHS)).encode("utf-8", "surrogatepass")
        return random.choice((text, b"", value + b"x", value[:-1], damage_bytes(value, random), damage_bytes(value, random)))
    near = random.choice((value + 1, value - 1, value * 2, value ^ 1, value ^ 2, value ^ 4, value ^ 8))
    return random.choice((near, random.choice(INTEGERS), random.randrange(20))) % 2**64


def _fields(content: bytes) -> list[_Field] | None:
    """The fields of a message; None where these bytes are not one."""
    fields: list[_Field] = []
    at = 0
    try:
        while at < len(content):
            tag, at = _read_varint(content, at)
            number, wire = tag >> 3, tag & 7
            if not 1 <= number <= 1000:
                return None
            if wire == _VARINT:
                value: Any
                value, at = _read_varint(content, at)
            elif wire in (_FIXED_64, _FIXED_32):
                width = 8 if wire == _FIXED_64 else 4
                value, at = int.from_bytes(content[at : at + width], "little"), at + width
            elif wire == _BYTES:
                length, at = _read_varint(content, at)
                value, at = content[at : at + length], at + length
            else:
                return None
            fields.append((number, wire, value))
    except IndexError:
        return None
    return fields if at == len(content) else None


def _message(fields: list[_Field]) -> bytes:
    parts = []
    for number, wire, value in fields:
        parts.append(_varint(number << 3 | wire))
        if wire == _VARINT:
            parts.append(_varint(value))
        elif wire == _BYTES:
            parts.append(_varint(len(value)) + value)
        else:
            width = 8 if wire == _FIXED_64 else 4
            parts.append((value % 256**width).to_bytes(width, "little"))
    return b"".join(parts)


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
