"""The checksum around a checkpoint, and what is no archive of this project."""

import hashlib
import io
import subprocess
import zipfile

import pytest
import torch

from vae_mnist.errors import CheckpointError, DamagedCheckpointError
from vae_mnist.storage.archives import MAX_INSTRUCTIONS, check_archive
from vae_mnist.storage.checkpoints import to_bytes

from ..helpers.checkpoints import make_checkpoint, sealed, torch_saved


@pytest.fixture(scope="module")
def whole():
    return to_bytes(make_checkpoint())


def check(content):
    check_archive(io.BytesIO(content))


def test_a_checkpoint_ends_with_the_sha256_of_all_bytes_before(tmp_path, whole):
    (tmp_path / "c.pt").write_bytes(whole)
    commands = 'head -c -64 "$0" | sha256sum | head -c 64; echo; tail -c 64 "$0"'
    result = subprocess.run(["/bin/sh", "-c", commands, tmp_path / "c.pt"], capture_output=True, text=True, check=True)
    computed, written = result.stdout.split()
    assert len(written) == 64
    assert computed == written
    with zipfile.ZipFile(tmp_path / "c.pt") as archive:
        assert archive.comment == b"vae_mnist sha256 " + written.encode()
        assert archive.testzip() is None


@pytest.mark.parametrize("place", [0, 100, 5000, -200, -90, -75, -40, -1])
def test_one_flipped_bit_is_noticed(whole, place):
    content = bytearray(whole)
    content[place] ^= 1
    with pytest.raises(DamagedCheckpointError, match="damaged: "):
        check(content)


def test_damage_is_told_by_both_checksums(whole):
    content = bytearray(whole)
    content[5000] ^= 1
    written, found = content[-64:-52].decode(), hashlib.sha256(content[:-64]).hexdigest()[:12]
    with pytest.raises(DamagedCheckpointError, match=f"expected the checksum {written}….* its bytes give {found}…"):
        check(content)


@pytest.mark.parametrize(
    ("content", "passes"),
    [
        ({"a": [1, 2**40, -1, 1.5, "é", None, True, {}]}, True), ({"a": "text", "b": "text"}, True), ([[], [[]]], True),
        ({"a": torch.zeros(2, 3), 5: torch.zeros(())}, True), ({"a": (1, 2)}, False), ({(1, 2): 3}, False),
        ({1, 2}, False), (b"bytes", False), (torch.float32, False), (torch.Size([1]), False), (1j, False),
        ({"a": torch.nn.Parameter(torch.zeros(2))}, False), (torch.zeros(2, requires_grad=True), False),
        (torch.zeros(2).to_sparse(), False), (torch.zeros(2, dtype=torch.uint16), False), ("\ud800", False),
    ],
)  # fmt: skip
def test_dicts_lists_tensors_and_plain_values_pass_and_nothing_else(content, passes):
    archive = sealed(torch_saved(content))
    if passes:
        check(archive)
    else:
        with pytest.raises(CheckpointError, match="refused and not executed: it is a pickle"):
            check(archive)


def test_twenty_thousand_epochs_of_history_are_few_enough_instructions():
    row = {f"column{n}": 0.5 + n for n in range(20)}
    check(sealed(torch_saved([row | {"epoch": n} for n in range(20_000)])))
    with pytest.raises(CheckpointError, match=f"more than {MAX_INSTRUCTIONS:,} instructions"):
        check(sealed(torch_saved([[]] + [[] for _ in range(MAX_INSTRUCTIONS)])))
