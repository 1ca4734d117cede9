"""On a CUDA card: every precision; the same bits each time; float32 as exact as on a CPU."""

import pytest
import torch

from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint
from vae_mnist.training.machine import resolve_machine

from ..helpers.compare import same
from ..helpers.models import disturbed, model_config, small
from ..helpers.training import begin, config, epochs, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]
OPTIONS = {"optimizer": "muon", "weight_decay": 0.1, "clip_norm": 5.0, "average": 0.9, "binarisation": "dynamic"}
KINDS = [
    {"network": "conv", "prior": "vamp"},
    {"network": "residual", "likelihood": "autoregressive"},
    {"network": "ladder", "prior": "flow"},
]


@pytest.fixture(scope="module")
def on_card(splits):
    return {split: {key: value.cuda() for key, value in image_set.items()} for split, image_set in splits.items()}


@pytest.mark.parametrize("options", [{}, OPTIONS, {"binarisation": "static"}], ids=str)
@pytest.mark.parametrize("precision", ["auto", "float32", "tf32", "float16"])
def test_training_lowers_the_loss(on_card, precision, options):
    cfg = config(epochs=3, precision=precision, device="cuda", **options)
    *_, state = epochs(begin(on_card, cfg), on_card, cfg)
    assert state.history[-1]["test_loss"] < state.history[0]["test_loss"] - 1
    assert [row["skipped_steps"] for row in state.history[1:]] == [0, 0]


@pytest.mark.parametrize("precision", ["auto", "float32", "float16"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_two_and_two_epochs_are_four(on_card, tmp_path, kind, precision):
    model, cfg = model_config(**kind), config(epochs=4, device="cuda", precision=precision, **OPTIONS)
    unbroken = run(on_card, cfg, model)
    write_checkpoint(unbroken[1], tmp_path / "c.pt")
    resumed = run(on_card, cfg, model, checkpoint=read_checkpoint(tmp_path / "c.pt"))
    assert same(unbroken[-1], resumed[-1])


@pytest.mark.parametrize("kind", [{"network": "mlp"}, *KINDS], ids=str)
def test_only_tf32_rounds(splits, kind):
    model, images = disturbed(small(**kind), spread=0.1), splits["test"]["images"].float() / 255
    with torch.no_grad():
        expected = model.encode(images).mean
    for precision, least, most in (("float32", 0, 1e-5), ("tf32", 1e-4, 1e-2)):
        machine = resolve_machine(config(device="cuda", precision=precision))
        with torch.no_grad(), machine.measuring():
            found = machine.place(model).encode(images.cuda()).mean.cpu()
        assert least <= (found - expected).norm() / expected.norm() < most
