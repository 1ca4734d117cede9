"""The file around a checkpoint: its checksum, and what is checked in it before torch may read it.

A file is a zip archive of torch.save with a comment: a label and the sha256 of every byte before those 64 digits. So
`head -c -64 FILE | sha256sum` gives what `tail -c 64 FILE` says, and torch.load and zipfile read it as ever.
"""

import hashlib
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from enum import Enum, auto
from io import SEEK_END, BytesIO
from itertools import islice
from math import prod
from typing import Any, BinaryIO, NamedTuple

from ..errors import CheckpointError, DamagedCheckpointError

LABEL = b"vae_mnist sha256 "
ACCEPTED = "Accepted is what vae_mnist writes: one dict of tensors, numbers and text"

MAX_RECORDS, MAX_DIRECTORY = 10_000, 2**21
MAX_PICKLE, MAX_INSTRUCTIONS = 2**24, 1_000_000  # 25,000 epochs of history; bounds time and memory
MAX_DIMENSIONS = 8

_DIGITS = 64
_BLOCK = 2**20
_SEAL = re.compile(re.escape(LABEL) + rb"([0-9a-f]{64})")
_ZIP_WITHOUT_COMMENT = re.compile(rb"PK\x05\x06.{16}\0\0", re.DOTALL)
_ZIP_END = 98  # bytes: zip64 end record 56, its locator 20, end record 22

# All that the pickle of a checkpoint names.
_REBUILD, _HOOKS = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_ITEM_SIZES = {
    f"torch {name}Storage": size
    for size, names in {1: "Byte Char Bool", 2: "Short Half BFloat16", 4: "Int Float", 8: "Long Double"}.items()
    for name in names.split()
}
_GLOBALS = frozenset({_REBUILD, _HOOKS, *_ITEM_SIZES})


def seal(archive: BytesIO) -> None:
    """Give a zip archive without comment its checksum as comment."""
    archive.seek(-2, SEEK_END)
    archive.write((len(LABEL) + _DIGITS).to_bytes(2, "little"))
    archive.write(LABEL)
    digest = hashlib.sha256(archive.getbuffer()).hexdigest()
    archive.write(digest.encode())


def check_archive(file: BinaryIO) -> None:
    """Let only a whole archive of plain tensors, numbers and text pass; it is read, nothing of it is run.

    What passes is a tree: no list, dict or tensor stands in two places, and it takes no more memory than the file plus
    some 100 MB.

    Args:
        file: open for reading, at any position.

    Raises:
        DamagedCheckpointError: cut short, empty, or other bytes than those that were written.
        CheckpointError: whole, but nothing that this project wrote.
    """
    size = file.seek(0, SEEK_END)
    file.seek(max(0, size - len(LABEL) - _DIGITS))
    tail = file.read()
    sealed = _SEAL.fullmatch(tail)
    if sealed:
        _check_digest(file, size - _DIGITS, sealed[1].decode())
    elif not _ZIP_WITHOUT_COMMENT.fullmatch(tail[-22:]):
        _refuse_pickle(file)
        raise DamagedCheckpointError(
            f"damaged: expected a zip archive that ends with its checksum, found {size:,} bytes without."
        )
    try:
        pickled, storages = _records(file, size - len(tail) if sealed else size, size)
        _check_globals(pickled)
        if sealed:
            _check_tree(pickled, storages)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # malformed bytes can fail in any way; each becomes one message
        raise CheckpointError(
            f"refused, nothing of it was run: no archive as torch.save writes it ({error!r:.200}). {ACCEPTED}."
        ) from error
    if not sealed:
        raise CheckpointError(
            "refused: it has no checksum, so another program or an older version wrote it. "
            f"{ACCEPTED}, with a checksum at its end. Train the model again with this version."
        )


def _check_digest(file: BinaryIO, length: int, expected: str) -> None:
    digest = hashlib.sha256()
    file.seek(0)
    for start in range(0, length, _BLOCK):
        digest.update(file.read(min(_BLOCK, length - start)))
    if (found := digest.hexdigest()) != expected:
        raise DamagedCheckpointError(
            f"damaged: expected the checksum {expected[:12]}… (sha256) that it ends with, its bytes give {found[:12]}…."
        )


def _refuse_pickle(file: BinaryIO) -> None:
    """Pickles of any protocol, and what torch saved before it used zip archives."""
    file.seek(0)
    content = file.read(MAX_PICKLE)
    try:
        names = _names(content)
    except Exception:  # it is none
        return
    raise _refusal(f"a bare pickle that asks for {_listed(names)}" if names else "a bare pickle")


def _records(file: BinaryIO, end: int, size: int) -> tuple[bytes, dict[str, int]]:
    """The pickle, and the size of each other record by its name below the archive's folder."""
    file.seek(max(0, end - _ZIP_END))
    found = file.read(_ZIP_END)
    count, length, start = struct.unpack("<32xQQQ", found[:56])
    # Compared whole, so that zipfile and torch see the same archive; at 12 stand versions of the format.
    expected = (
        struct.pack("<4sQ4xLLQQQQ", b"PK\6\6", 44, 0, 0, count, count, length, start)
        + struct.pack("<4sLQL", b"PK\6\7", 0, end - _ZIP_END, 1)
        + struct.pack("<4sHHHH", b"PK\5\6", 0, 0, *[min(count, 2**16 - 1)] * 2)
        + struct.pack("<LLH", min(length, 2**32 - 1), min(start, 2**32 - 1), size - end)
    )
    if found[:12] + bytes(4) + found[16:] != expected or start + length != end - _ZIP_END:
        raise _refusal("a zip archive that torch.save did not write")
    if count > MAX_RECORDS or length > MAX_DIRECTORY:
        raise _refusal(f"an archive of {count:,} records, more than {MAX_RECORDS:,}")
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        # Torch looks names up without regard to case.
        sizes = {info.filename.lower(): info.file_size for info in infos}
        if any(info.compress_type or info.flag_bits & 1 for info in infos):
            raise _refusal("a zip archive with compressed or encrypted records")
        if len(sizes) != len(infos) or len(infos) != count or sum(sizes.values()) > size:
            raise _refusal("a zip archive whose records overlap or repeat")
        folder = infos[0].filename.partition("/")[0].lower() + "/"
        storages = {name.removeprefix(folder): sizes[name] for name in sizes if name.startswith(folder)}
        if "constants.pkl" in storages:
            raise _refusal("a TorchScript archive")
        if storages.get("data.pkl", MAX_PICKLE + 1) > MAX_PICKLE:
            raise _refusal(f"an archive without data.pkl of at most {MAX_PICKLE:,} bytes")
        return archive.read(f"{infos[0].filename.partition('/')[0]}/data.pkl"), storages


def _check_globals(pickled: bytes) -> None:
    if foreign := _names(pickled) - _GLOBALS:
        raise _refusal(f"a pickle that asks for {_listed(foreign)}")


def _names(pickled: bytes) -> set[str]:
    """The objects that a pickle asks for, "module name"; approximate for protocol 4, whose names lie on its stack."""
    names, text = set(), ["?", "?"]
    for opcode, value, _ in _instructions(pickled):
        if opcode in {"GLOBAL", "INST"}:
            names.add(str(value))
        elif opcode == "STACK_GLOBAL":
            names.add(" ".join(text))
        elif isinstance(value, str):
            text = [text[1], value]
    return names


def _instructions(pickled: bytes) -> Iterator[tuple[str, Any, int | None]]:
    for opcode, value, position in islice(pickletools.genops(pickled), MAX_INSTRUCTIONS):
        yield opcode.name, value, position
    if opcode.name != "STOP":
        raise _refusal(f"a pickle of more than {MAX_INSTRUCTIONS:,} instructions")


class _Kind(Enum):
    """Stands on the stack for a value whose content is of no interest here."""

    LIST = auto()
    DICT = auto()
    TENSOR = auto()
    HOOKS = auto()
    MARK = auto()


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    length: int


_CONSTANTS: dict[str, object] = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (),
    "EMPTY_LIST": _Kind.LIST, "EMPTY_DICT": _Kind.DICT, "MARK": _Kind.MARK,
}  # fmt: skip
_INTEGERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _check_tree(pickled: bytes, storages: dict[str, int]) -> None:
    """Walk through a pickle as its reader would, without making what it describes."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, value, position in _instructions(pickled):
        if opcode in {"PROTO", "STOP"}:
            continue
        if not (_push(opcode, value, stack, memo) or _combine(opcode, stack, storages)):
            raise _refusal(f"a pickle with the instruction {opcode} at byte {position} that a checkpoint has no use of")


def _push(opcode: str, value: Any, stack: list[Any], memo: dict[int, Any]) -> bool:  # noqa: ANN401
    """Do an instruction that puts something on the stack; False: it is none, or a wrong one."""
    if opcode in _CONSTANTS:
        stack.append(_CONSTANTS[opcode])
    elif opcode == "BINFLOAT" or (opcode in _INTEGERS and abs(value) < 2**63):
        stack.append(value)
    elif opcode == "BINUNICODE":
        value.encode()  # refuses halves of characters, which no terminal and no file takes
        stack.append(value)
    elif opcode == "GLOBAL":
        stack.append(_Global(value))
    elif opcode in {"BINPUT", "LONG_BINPUT"}:
        memo[value] = stack[-1]
    # Text and names alone may come again: lists within lists, each ten times the one before, cannot be told.
    elif opcode in {"BINGET", "LONG_BINGET"} and type(memo[value]) in {str, _Global}:
        stack.append(memo[value])
    else:
        return False
    return True


def _combine(opcode: str, stack: list[Any], storages: dict[str, int]) -> bool:
    """Do an instruction that takes something from the stack; False: it is none, or a wrong one."""
    if opcode == "TUPLE" or opcode in _TUPLES:
        items = _to_mark(stack) if opcode == "TUPLE" else [stack.pop() for _ in range(_TUPLES[opcode])][::-1]
        stack.append(tuple(items))
        return True
    if opcode in {"APPEND", "APPENDS"}:
        items = _to_mark(stack) if opcode == "APPENDS" else [stack.pop()]
        return stack[-1] is _Kind.LIST and all(map(_is_value, items))
    if opcode in {"SETITEM", "SETITEMS"}:
        items = _to_mark(stack) if opcode == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
        keys = all(type(key) in {str, int} for key in items[::2])
        return stack[-1] is _Kind.DICT and len(items) % 2 == 0 and keys and all(map(_is_value, items[1::2]))
    made: object = None
    if opcode == "BINPERSID":
        made = _storage(stack.pop(), storages)
    elif opcode == "REDUCE":
        arguments = stack.pop()
        match stack.pop():
            case _Global(name) if name == _HOOKS and arguments == ():
                made = _Kind.HOOKS
            case _Global(name) if name == _REBUILD and _is_tensor(arguments):
                made = _Kind.TENSOR
    stack.append(made)
    return made is not None


def _storage(described: object, storages: dict[str, int]) -> _Storage | None:
    match described:
        case ("storage", _Global(name), str(key), "cpu", int(count)) if name in _ITEM_SIZES:
            # pop: numbers that two tensors share would change in both
            if storages.pop(f"data/{key}", None) == count * _ITEM_SIZES[name]:
                return _Storage(count)
    return None


def _is_tensor(arguments: object) -> bool:
    """Whether a tensor shows each number of its storage once, in any order of dimensions."""
    match arguments:
        case (_Storage(count), 0, tuple(size), tuple(stride), False, _Kind.HOOKS):
            if not len(size) == len(stride) <= MAX_DIMENSIONS or any(
                type(n) is not int or n < 0 for n in (*size, *stride)
            ):
                return False
            steps = sorted((step, length) for step, length in zip(stride, size, strict=True) if length != 1)
            dense = all(step == prod(length for _, length in steps[:place]) for place, (step, _) in enumerate(steps))
            return prod(size) == count and (dense or count == 0)
    return False


def _is_value(item: object) -> bool:
    # by identity: comparing what a stranger nested may take for ever
    return type(item) in {str, int, float, bool, type(None)} or any(
        item is kind for kind in (_Kind.LIST, _Kind.DICT, _Kind.TENSOR)
    )


def _to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _Kind.MARK:
        items.append(item)
    return items[::-1]


def _refusal(found: str) -> CheckpointError:
    return CheckpointError(f"refused, nothing of it was run: it is {found}. {ACCEPTED}.")


def _listed(names: set[str]) -> str:
    shown = [ascii(name.replace(" ", "."))[1:-1][:80] for name in sorted(names)[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")  # noqa: PLR2004
