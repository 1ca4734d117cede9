import pytest
import torch

from vae_mnist.datasets.judges import JudgesDataset


def test_judges_of_other_data_are_kept(tmp_path):
    dataset = JudgesDataset(path=str(tmp_path / "judges"))
    assert dataset.load()("a") is None
    dataset.save({})
    assert not (tmp_path / "judges").exists()
    dataset.save({"a": {"weight": torch.ones(2)}})
    dataset.save({"b": {"weight": torch.zeros(3)}})
    assert torch.equal(dataset.load()("a")["weight"], torch.ones(2))
    assert torch.equal(dataset.load()("b")["weight"], torch.zeros(3))


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_a_damaged_judge_is_as_none(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert JudgesDataset(path=str(tmp_path)).load()("a") is None
