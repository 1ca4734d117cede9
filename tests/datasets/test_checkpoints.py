import shutil
from functools import partial

import pytest
import torch
from kedro.io import DatasetError

from vae_mnist.datasets.checkpoints import CheckpointsDataset
from vae_mnist.errors import CheckpointError, DamagedCheckpointError
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint

from ..helpers.checkpoints import contents, make_checkpoint
from ..helpers.compare import same


def epochs(*numbers):
    return {f"vae_epoch_{number:03d}": partial(make_checkpoint, number) for number in numbers}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_checkpoints_come_back_oldest_first_and_are_read_when_asked(tmp_path):
    dataset = CheckpointsDataset(path=str(tmp_path))
    write_checkpoint(make_checkpoint(997), tmp_path / "vae_epoch_997.pt")
    dataset.save(epochs(998, 999, 1000))
    (tmp_path / "vae_epoch_997.pt").unlink()
    loaded = dataset.load()
    assert list(loaded) == ["vae_epoch_998", "vae_epoch_999", "vae_epoch_1000"]
    assert loaded["vae_epoch_1000"]().epoch == 1000


def test_starting_over_removes_the_newest_old_epoch_first(tmp_path):
    """Broken off half-way, what is left is the beginning of the old training."""
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(1, 2, 3))
    (tmp_path / "vae_epoch_002.pt").unlink()
    (tmp_path / "vae_epoch_002.pt").mkdir()  # cannot be removed as a file
    with pytest.raises(DatasetError, match=r"vae_epoch_002.pt: cannot be removed: "):
        dataset.save(epochs(1))
    assert files(tmp_path) == ["vae_epoch_001.pt", "vae_epoch_002.pt"]


def test_epochs_that_are_taken_away_during_a_run_are_missed_and_the_others_stay(tmp_path):
    dataset = CheckpointsDataset(path=str(tmp_path / "run"))
    dataset.save(epochs(1, 2))
    (tmp_path / "run" / "vae_epoch_002.pt").rename(tmp_path / "mine")
    with pytest.raises(DatasetError, match=r"found vae_epoch_001.pt: files were moved .* what is still there is whole"):
        dataset.save(epochs(3))
    assert files(tmp_path / "run") == ["vae_epoch_001.pt"]
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(DatasetError, match=r"vae_epoch_002.pt .* when writing epoch 3, found no checkpoints"):
        dataset.save(epochs(3))
    assert not (tmp_path / "run").exists()


def test_going_on_sets_damaged_checkpoints_aside_and_takes_the_newest_whole_one(tmp_path, caplog):
    CheckpointsDataset(path=str(tmp_path)).save(epochs(1, 2, 3))
    damage(tmp_path / "vae_epoch_002.pt")
    damage(tmp_path / "vae_epoch_003.pt")
    before = (tmp_path / "vae_epoch_003.pt").read_bytes()
    found = CheckpointsDataset(path=str(tmp_path), required=False).load()
    assert len(files(tmp_path)) == 3, "nothing is renamed before a checkpoint is read"
    assert found["vae_epoch_003"]().epoch == 1
    assert files(tmp_path) == ["vae_epoch_001.pt", "vae_epoch_002.pt.damaged", "vae_epoch_003.pt.damaged"]
    assert (tmp_path / "vae_epoch_003.pt.damaged").read_bytes() == before
    newest, older = (record.getMessage() for record in caplog.records)
    assert "vae_epoch_003.pt: damaged: expected the checksum" in newest
    assert newest.endswith("It is now vae_epoch_003.pt.damaged.")
    assert "vae_epoch_002.pt: damaged" in older


def test_what_was_set_aside_before_is_not_overwritten(tmp_path, caplog):
    (tmp_path / "vae_epoch_001.pt.damaged").symlink_to("nowhere")
    dataset = CheckpointsDataset(path=str(tmp_path), required=False)
    for end in (".2", ".3"):
        dataset.save(epochs(1))
        damage(tmp_path / "vae_epoch_001.pt")
        assert dataset.load()["vae_epoch_001"]() is None, "there is no whole one to go on from"
        assert f"It is now vae_epoch_001.pt.damaged{end}." in caplog.text
    assert files(tmp_path) == [f"vae_epoch_001.pt.damaged{end}" for end in ("", ".2", ".3")]
    assert (tmp_path / "vae_epoch_001.pt.damaged").is_symlink()


def test_a_refused_checkpoint_is_not_set_aside(tmp_path):
    dataset = CheckpointsDataset(path=str(tmp_path), required=False)
    dataset.save(epochs(1))
    torch.save(contents(2), tmp_path / "vae_epoch_002.pt")
    with pytest.raises(CheckpointError, match="without checksum"):
        dataset.load()["vae_epoch_002"]()
    assert files(tmp_path) == ["vae_epoch_001.pt", "vae_epoch_002.pt"]


def test_where_checkpoints_are_required_damage_is_an_error_and_nothing_is_renamed(tmp_path):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(1))
    damage(tmp_path / "vae_epoch_001.pt")
    with pytest.raises(DamagedCheckpointError, match="kedro run renames it and resumes from the one before"):
        dataset.load()["vae_epoch_001"]()
    assert files(tmp_path) == ["vae_epoch_001.pt"]


def test_no_checkpoints_are_an_error_only_where_they_are_required(tmp_path):
    required = CheckpointsDataset(path=str(tmp_path / "z16"))
    assert not required.exists()
    with pytest.raises(DatasetError, match=r"no checkpoints of run 'z16' under .*z16: run kedro run first"):
        required.load()
    optional = CheckpointsDataset(path=str(tmp_path / "z16"), required=False)
    assert optional.exists()
    assert optional.load() == {}
    assert "z16" in str(optional)


def test_a_checkpoint_under_another_epochs_name_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="expected the name vae_epoch_002 for epoch 2, got 'vae_epoch_007'"):
        CheckpointsDataset(path=str(tmp_path)).save({"vae_epoch_007": partial(make_checkpoint, 2)})


def test_a_checkpoint_that_is_none_is_removed_after_the_new_one_is_written(tmp_path):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(1, 2))
    seen = []

    def take():
        seen.append(files(tmp_path))
        return make_checkpoint(3)

    dataset.save({"vae_epoch_001": None, "vae_epoch_002": None, "vae_epoch_003": take})
    assert seen == [["vae_epoch_001.pt", "vae_epoch_002.pt"]]
    assert files(tmp_path) == ["vae_epoch_003.pt"]
    dataset.save(epochs(4))
    assert list(dataset.load()) == ["vae_epoch_003", "vae_epoch_004"]


def test_a_checkpoint_that_could_not_be_read_is_not_written_and_nothing_is_removed_for_it(tmp_path):
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save(epochs(1, 2))
    wrong = partial(make_checkpoint, 2, objective_state={"x": torch.ones(1, requires_grad=True)})
    with pytest.raises(DatasetError, match="refused and not executed"):
        dataset.save({"vae_epoch_001": None, "vae_epoch_002": wrong})
    assert files(tmp_path) == ["vae_epoch_001.pt", "vae_epoch_002.pt"]
    assert same(read_checkpoint(tmp_path / "vae_epoch_002.pt"), make_checkpoint(2))


def test_removing_what_is_not_there_or_no_checkpoint_of_this_folder_does_nothing(tmp_path):
    dataset = CheckpointsDataset(path=str(tmp_path / "run"))
    dataset.save(epochs(1, 2))
    for name in ("other.pt", "run/vae_epoch_best.pt"):
        (tmp_path / name).write_text("mine")
    dataset.save(dict.fromkeys(("vae_epoch_007", "../other", "vae_epoch_best")))
    assert files(tmp_path / "run") == ["vae_epoch_001.pt", "vae_epoch_002.pt", "vae_epoch_best.pt"]
    assert (tmp_path / "other.pt").exists()


def test_a_folder_with_gaps_loads_oldest_first_and_is_resumed_from_its_newest(tmp_path, caplog):
    dataset = CheckpointsDataset(path=str(tmp_path), required=False)
    for epoch in range(1, 8):
        kept = {10, 3, 5, 7}
        dataset.save(epochs(epoch) | {f"vae_epoch_{old:03d}": None for old in range(1, epoch) if old not in kept})
    assert list(dataset.load()) == ["vae_epoch_003", "vae_epoch_005", "vae_epoch_007"]
    damage(tmp_path / "vae_epoch_007.pt")
    assert list(dataset.load().values())[-1]().epoch == 5
    dataset.save(epochs(6))
    assert list(dataset.load()) == ["vae_epoch_003", "vae_epoch_005", "vae_epoch_006"]


def test_starting_over_never_mixes_old_epochs_with_new_ones(tmp_path):
    for epoch in (1, 10, 23):
        write_checkpoint(make_checkpoint(epoch), tmp_path / f"vae_epoch_{epoch:03d}.pt")
    dataset = CheckpointsDataset(path=str(tmp_path))
    dataset.save({"vae_epoch_001": partial(make_checkpoint, 1, settings={"train.seed": 7}), "vae_epoch_010": None})
    assert files(tmp_path) == ["vae_epoch_001.pt"]
    assert dataset.load()["vae_epoch_001"]().settings == {"train.seed": 7}
