import pytest
import torch

from vae_mnist.training.schedules import rate_shares

from ..helpers.training import config


def test_the_learning_rate_rises_over_the_warm_up_and_falls_as_torchs_own_cosine():
    cfg = config(epochs=4, schedule="cosine", warmup_steps=7)
    shares = [share for epoch in (1, 2, 3, 4) for share in rate_shares(cfg, epoch, 10)]
    assert shares[:7] == pytest.approx([n / 7 for n in range(1, 8)])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=33)
    for share in shares[7:]:
        assert share == pytest.approx(falling.get_last_lr()[0])
        optimizer.step()
        falling.step()
    assert shares[-1] < 0.004


def test_a_linear_schedule_ends_at_zero_and_a_constant_one_stays():
    linear = rate_shares(config(epochs=4, schedule="linear", warmup_steps=7), 4, 10)
    assert linear == pytest.approx([n / 33 for n in range(10, 0, -1)])
    assert set(rate_shares(config(), 2, 10)) == {1.0}


def test_a_warm_up_may_be_longer_than_training():
    cfg = config(epochs=2, schedule="cosine", warmup_steps=100)
    assert rate_shares(cfg, 2, 10) == pytest.approx([n / 100 for n in range(11, 21)])
