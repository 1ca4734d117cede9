import pytest
import torch

from vae_mnist.training.schedules import learning_rates

from ..helpers.training import config


def test_the_learning_rate_rises_over_the_warm_up_and_falls_as_torchs_own_cosine():
    cfg = config(epochs=4, learning_rate=0.5, schedule="cosine", warmup_steps=7)
    rates = [rate for epoch in (1, 2, 3, 4) for rate in learning_rates(cfg, epoch, 10)]
    assert rates[:7] == pytest.approx([0.5 * n / 7 for n in range(1, 8)])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=33)
    for rate in rates[7:]:
        assert rate == pytest.approx(falling.get_last_lr()[0])
        optimizer.step()
        falling.step()
    assert rates[-1] < 0.002


def test_a_linear_schedule_ends_at_zero_and_a_constant_one_stays():
    linear = learning_rates(config(epochs=4, learning_rate=0.5, schedule="linear", warmup_steps=7), 4, 10)
    assert linear == pytest.approx([0.5 * n / 33 for n in range(10, 0, -1)])
    assert set(learning_rates(config(), 2, 10)) == {1e-3}


def test_a_warm_up_may_be_longer_than_training():
    cfg = config(epochs=2, learning_rate=0.5, schedule="cosine", warmup_steps=100)
    assert learning_rates(cfg, 2, 10) == pytest.approx([0.5 * n / 100 for n in range(11, 21)])
