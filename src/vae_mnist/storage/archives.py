"""The file around a checkpoint: its checksum, and the checks before torch reads it.

A file is a zip archive written by torch.save, with a comment: a label and the sha256 of all bytes before those 64
digits. `head -c -64 FILE | sha256sum` computes what `tail -c 64 FILE` shows; torch.load and zipfile read it as usual.
"""

import hashlib
import pickletools
import re
import struct
import zipfile
from io import SEEK_END, BytesIO
from itertools import islice
from typing import BinaryIO

from ..errors import CheckpointError, DamagedCheckpointError

LABEL, DIGITS = b"vae_mnist sha256 ", 64
MAX_RECORDS, MAX_DIRECTORY, MAX_PICKLE = 10_000, 2**21, 2**24  # the last two in bytes
MAX_INSTRUCTIONS = 1_000_000  # of a pickle: 20,000 epochs of history; up to 150 MB once read

_SEAL = re.compile(re.escape(LABEL) + rb"([0-9a-f]{64})")
_BLOCK, _ZIP_END = 2**20, 98  # _ZIP_END: zip64 end record 56, its locator 20, end record 22
_GLOBAL = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch [A-Za-z0-9]+Storage")
# A pickle as the letters of its instructions: K any integer, X text, c a name, h text or a name once more, q memory.
_SAME = {"J": "K", "M": "K", "\x8a": "K", "j": "h", "r": "q"}
_SIZES = r"(?:\)|K\x85|KK\x86|KKK\x87|\(K{4,}t)"
_TENSOR = re.compile(rf"[ch]\(\([Xh][ch][Xh][Xh]KtQK{_SIZES}{_SIZES}\x89[ch]\)RtR")
_TREE = re.compile(r"\x80[]}(eusaTKGXhN\x88\x89]*\.")  # lists, dicts, tensors T, numbers, text, None, True, False


def seal(archive: BytesIO) -> None:
    """Write the checksum as the comment of a zip archive that has none."""
    archive.seek(-2, SEEK_END)
    archive.write((len(LABEL) + DIGITS).to_bytes(2, "little") + LABEL)
    archive.write(hashlib.sha256(archive.getbuffer()).hexdigest().encode())


def check_archive(file: BinaryIO) -> None:
    """Refuse all but an undamaged archive that torch.load reads in time and memory bounded by its size.

    Raises:
        DamagedCheckpointError: cut short, empty, or not the bytes that were written.
        CheckpointError: undamaged, but not written by this project.
    """
    size = file.seek(0, SEEK_END)
    file.seek(max(0, size - len(LABEL) - DIGITS))
    tail = file.read()
    file.seek(0)
    if sealed := _SEAL.fullmatch(tail):
        digest, end = hashlib.sha256(), size - DIGITS
        while block := file.read(min(_BLOCK, end - file.tell())):
            digest.update(block)
        if (found := digest.hexdigest()) != (expected := sealed[1].decode()):
            raise _damage(f"the checksum {expected[:12]}… (sha256) at its end, its bytes give {found[:12]}…")
        _check_pickle(_read_pickle(file, size - len(tail), size))
    elif (tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0") or file.read(1) == b"\x80":  # a zip or a bare pickle
        raise _refusal("a file without checksum, from another program or an older version")
    else:
        raise _damage(f"a zip archive that ends with its checksum, found {size:,} bytes without one")


def _read_pickle(file: BinaryIO, end: int, size: int) -> bytes:
    """The pickle of an archive whose records are uncompressed, distinct and together no larger than the file."""
    file.seek(max(0, end - _ZIP_END))
    found = file.read(_ZIP_END)
    count, length, start = struct.unpack_from("<QQQ", found, 32)
    foreign = _refusal(f"a zip archive that torch.save did not write, or of more than {MAX_RECORDS:,} records")
    if count > MAX_RECORDS or length > MAX_DIRECTORY:
        raise foreign
    # Compared as a whole: zipfile and torch must see the same archive. At 12 are versions of the format.
    expected = (
        struct.pack("<4sQ4xLLQQQQ", b"PK\6\6", 44, 0, 0, count, count, length, start)
        + struct.pack("<4sLQL", b"PK\6\7", 0, end - _ZIP_END, 1)
        + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, count, count, length, min(start, 2**32 - 1), size - end)
    )
    if found[:12] + bytes(4) + found[16:] != expected or start + length != end - _ZIP_END:
        raise foreign
    with zipfile.ZipFile(file) as archive:
        infos = {info.filename.lower(): info for info in archive.infolist()}  # torch ignores the case of names
        if any(info.compress_type for info in infos.values()):
            raise _refusal("a zip archive with compressed records")
        if len(infos) != count or sum(info.file_size for info in infos.values()) > size:
            raise _refusal("a zip archive whose records overlap or repeat")
        name = next(iter(infos), "").partition("/")[0] + "/data.pkl"
        if name not in infos or infos[name].file_size > MAX_PICKLE:
            raise _refusal(f"an archive without data.pkl of at most {MAX_PICKLE:,} bytes")
        return archive.read(infos[name])


def _check_pickle(pickled: bytes) -> None:
    """Let only a tree of dicts, lists, tensors and plain values pass.

    torch.load(weights_only=True) runs no code, but other pickles still do harm. Measured with torch 2.14, files of at
    most 8 MB: tuples that share tuples, as a key or in a storage's name, and lists that share lists take longer than
    30 s, for they are gone through 2^60 times; 400,000 tuples one in another overflow the stack; bytearray(10**10)
    takes 9.5 GB; 8,000,000 empty lists take 640 MB and 9 s, sets four times as much.
    """
    codes, before = [""], ""
    shareable: set[object] = set()  # numbers of text and names in the memory
    for opcode, value, _ in islice(pickletools.genops(pickled), MAX_INSTRUCTIONS):
        code = _SAME.get(opcode.code, opcode.code)
        if code == "c" and not _GLOBAL.fullmatch(str(value)):
            raise _refusal(f"a pickle that asks for {ascii(value).replace(' ', '.'):.80}")
        if code == "X" and re.search("[\ud800-\udfff]", str(value)):
            raise _refusal("a pickle of text that no terminal and no file takes")
        if code == "q":
            (shareable.add if before in ("X", "c") else shareable.discard)(value)
        elif code == "h" and value not in shareable:
            raise _refusal("a pickle that refers twice to a list, dict or tensor")
        else:
            codes.append(code)
        before = code
    if before != "." or not _TREE.fullmatch(_TENSOR.sub("T", "".join(codes))):
        raise _refusal(
            f"a pickle of more than {MAX_INSTRUCTIONS:,} instructions, or of other things than dicts, lists, tensors, "
            "numbers and text"
        )


def _damage(found: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(
        f"damaged: expected {found}. If it is the newest of its run, kedro run renames it and resumes from the one "
        "before; an older one can be deleted."
    )


def _refusal(found: str) -> CheckpointError:
    return CheckpointError(
        f"refused and not executed: it is {found}. Expected what vae_mnist writes: one dict of tensors, "
        "numbers and text, with a checksum at its end. Train the model again with this version."
    )
