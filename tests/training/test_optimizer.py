"""AdamW and Muon, held against steps computed by hand."""

import pytest
import torch
from torch import nn

from vae_mnist.objectives import Elbo
from vae_mnist.training.machine import resolve_precision
from vae_mnist.training.muon import MOMENTUM, orthogonalised
from vae_mnist.training.optimizer import build_optimizer
from vae_mnist.training.state import TrainingState
from vae_mnist.training.step import Step

from ..helpers.models import disturbed, model_config, objective_config, small
from ..helpers.training import config

CPU = torch.device("cpu")


class Judged(Elbo):
    """An objective with weights of its own."""

    def __init__(self, settings):
        super().__init__()
        self.judge = nn.Linear(4, 2, device="meta").to_empty(device=CPU)
        self.optimizer_settings = settings
        disturbed(self.judge)


def state_with(cfg, settings=None, model=None):
    step = Step(model or small(), Elbo() if settings is None else Judged(settings), resolve_precision("float32", CPU))
    optimizer = build_optimizer(step, cfg, fused=True)
    scaler, generator = torch.amp.GradScaler("cpu", enabled=False), torch.Generator()
    return TrainingState(step, (model_config(), objective_config()), optimizer, scaler, generator)


def give_gradients(state, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for weight in state.step.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


def copies(state):
    return {name: weight.detach().double().clone() for name, weight in state.step.named_parameters()}


def by_hand(weights, gradients, rate, betas, decay):
    """Loshchilov & Hutter (2019), algorithm 2, three steps at one gradient."""
    for name, gradient in gradients.items():
        first, second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for step in range(1, 4):
            first = betas[0] * first + (1 - betas[0]) * gradient
            second = betas[1] * second + (1 - betas[1]) * gradient**2
            adam = first / (1 - betas[0] ** step) / ((second / (1 - betas[1] ** step)).sqrt() + 1e-8)
            weights[name] = weights[name] - rate * (adam + decay(weights[name]) * weights[name])
    return weights


def gradients_of(state, part):
    named = state.step.named_parameters()
    return {name: weight.grad.double() for name, weight in named if name.startswith(part)}


def test_three_steps_are_those_of_the_paper_and_biases_do_not_decay():
    cfg = config(learning_rate=0.01, adam_beta1=0.8, adam_beta2=0.9, weight_decay=2.0)
    state = state_with(cfg)
    give_gradients(state)
    gradients = gradients_of(state, "model")
    expected = by_hand(copies(state), gradients, 0.01, (0.8, 0.9), lambda weight: 2.0 if weight.ndim > 1 else 0.0)
    for number in (1, 2, 3):
        state.update(cfg, 1.0, number)
    for name, weight in copies(state).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


def denormal(state):
    """How many entries of the optimizer's moments are."""
    moments = [m for each in state.optimizer.state.values() for name, m in each.items() if name != "step"]
    return sum(int(((m != 0) & (m.abs() < torch.finfo(m.dtype).tiny)).sum()) for m in moments)


def test_moments_that_decay_become_zero_before_they_are_denormal_and_weights_stay_the_same():
    cfg, state, torchs = config(), state_with(config()), state_with(config())
    most = 0
    for number in range(1, 1001):
        for each in (state, torchs):
            give_gradients(each, number)
            for weight in each.step.parameters():
                weight.grad[::2] *= number <= 10  # afterwards as those of a pixel that is always black
        state.update(cfg, 1.0, number)
        torchs.optimizer.step()
        most = max(most, denormal(state))
    assert most == 0
    assert denormal(torchs) > 1000
    for name, weight in state.step.named_parameters():
        assert torch.equal(weight, torchs.step.get_parameter(name)), name


def test_every_hundredth_step_clears_tiny_moments_of_both_optimizers():
    cfg = config(optimizer="muon")
    state = state_with(cfg)
    for number in (99, 100):
        give_gradients(state)
        state.optimizer.step()
        moments = [m for each in state.optimizer.state.values() for name, m in each.items() if name != "step"]
        assert {name for each in state.optimizer.state.values() for name in each} == {
            "step", "exp_avg", "exp_avg_sq", "momentum",
        }  # fmt: skip
        for moment in moments:
            moment.fill_(1e-20).view(-1)[::2] = -9e-33
        state.finish_step(cfg, number)
        assert [int((moment == 0).sum()) > 0 for moment in moments] == [number == 100] * len(moments)
        assert all(bool((moment == 1e-20).any()) for moment in moments if moment.numel() > 1)


def test_weights_of_the_objective_have_settings_of_their_own_and_do_not_decay():
    cfg = config(learning_rate=0.01, weight_decay=2.0)
    state = state_with(cfg, {"lr": 0.1, "betas": (0.5, 0.6)})
    give_gradients(state)
    expected = by_hand(copies(state), gradients_of(state, "objective"), 0.05, (0.5, 0.6), lambda weight: 0.0)
    for number in (1, 2, 3):
        state.update(cfg, 0.5, number)  # half of its own learning rate
    found = copies(state)
    for name in gradients_of(state, "objective"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.005, 0.005, 0.05]


def test_an_objective_without_wishes_is_trained_as_the_model():
    group = state_with(config(learning_rate=0.01, adam_beta1=0.7), {}).optimizer.param_groups[2]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.01, (0.7, 0.999), 0.0)


@pytest.mark.parametrize("fused", [True, False])
def test_without_decay_every_bit_is_adams(fused):
    cfg, one, two = config(), state_with(config()), state_with(config())
    one.optimizer = build_optimizer(one.step, cfg, fused=fused)
    adam = torch.optim.Adam(two.step.parameters(), lr=cfg.learning_rate, betas=(0.9, 0.999), fused=fused)
    for number in range(1, 20):
        give_gradients(one)
        give_gradients(two)
        one.update(cfg, 1.0, number)
        adam.step()
    for name, weight in one.step.named_parameters():
        assert torch.equal(weight, two.step.get_parameter(name)), name


def test_every_weight_is_in_one_group():
    state = state_with(config(), {})
    groups = [id(weight) for group in state.optimizer.param_groups for weight in group["params"]]
    assert len(groups) == len(set(groups))
    assert set(groups) == {id(weight) for weight in state.step.parameters()}


LARGE = {"encoder.2", "encoder.5", "posterior", "decoder.0", "decoder.2", "decoder.5"}  # at least 16 x 16


CONV = {"channels": [15, 20], "hidden_dim": 16}


def test_muon_is_torchs_for_large_matrices_and_adamw_for_the_rest():
    cfg = config(optimizer="muon", learning_rate=0.01, adam_beta1=0.8, adam_beta2=0.9, weight_decay=2.0)
    state = state_with(cfg, {"lr": 0.1}, small(network="conv", latent_dim=20, conv=CONV))
    weights = dict(state.step.named_parameters())
    large = [f"model.network.{name}.weight" for name in sorted(LARGE)]
    assert [id(weight) for weight in state.optimizer.param_groups[-1]["params"]] == [
        id(weight) for name, weight in weights.items() if name in large
    ]
    twins = {name: nn.Parameter(weights[name].detach().flatten(1).clone()) for name in large}
    muon = torch.optim.Muon(
        twins.values(), lr=0.01, weight_decay=2.0, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
    )
    give_gradients(state)
    rest = {name: weight.grad.double() for name, weight in weights.items() if name not in large}
    layers = {name for name in rest if "judge" not in name and weights[name].ndim > 1}
    expected = {}
    for name, gradient in rest.items():
        own = (0.1 if "judge" in name else 0.01), (0.8, 0.9)
        expected |= by_hand({name: copies(state)[name]}, {name: gradient}, *own, lambda w, d=2.0 * (name in layers): d)
    before = copies(state)
    for number in (1, 2, 3):
        give_gradients(state, seed=number)
        for name, gradient in rest.items():  # one for all steps, as `by_hand` has it
            weights[name].grad = gradient.float()
        for name, twin in twins.items():
            twin.grad = weights[name].grad.flatten(1).clone()
        state.update(cfg, 1.0, number)
        muon.step()
    for name, weight in copies(state).items():
        if name in large:  # both compute with the 8 bits of bfloat16
            way, wrong = weight - before[name], weight.flatten(1) - twins[name].double()
            assert wrong.norm() < 0.03 * way.norm(), name
        else:
            torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)
    assert {int(moments["step"]) for moments in state.optimizer.state.values()} == {3}


def test_a_scaler_divides_the_gradients_before_muons_momentum():
    cfg = config(optimizer="muon", learning_rate=0.01)
    plain, scaled = (state_with(cfg, model=small(network="conv", latent_dim=20, conv=CONV)) for _ in range(2))
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)  # doubles after each step
    for number in (1, 2):
        give_gradients(plain, seed=number)
        give_gradients(scaled, seed=number)
        scale = scaled.scaler.scale(torch.ones(()))
        for weight in scaled.step.parameters():
            weight.grad *= scale
        plain.update(cfg, 1.0, number)
        scaled.update(cfg, 1.0, number)
    expected = copies(plain)
    for name, weight in copies(scaled).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


def test_muon_takes_no_step_where_the_scaler_finds_an_infinite_gradient():
    cfg = config(optimizer="muon")
    state = state_with(cfg)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    state.scaler.scale(torch.ones(()))
    before = copies(state)
    give_gradients(state)
    next(state.step.parameters()).grad[0] = float("inf")
    state.update(cfg, 1.0, 1)
    assert all(torch.equal(weight, before[name]) for name, weight in copies(state).items())


@pytest.mark.parametrize("shape", [(2, 20, 70), (3, 70, 20), (1, 32, 32)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_orthogonalised_matrices_turn_every_direction_by_the_same_length(shape, scale):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(scale * matrices).double()
    left, singular, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    lengths = torch.linalg.svdvals(found)
    seen = singular / torch.linalg.matrix_norm(matrices)[:, None] > 0.02  # smaller ones do not come to 1 in five times
    assert ((lengths > 0.6) & (lengths < 1.3))[seen].all()
    inside = (left.mT @ found @ right.mT).diagonal(dim1=1, dim2=2)
    assert ((inside > 0.6) & (inside < 1.3))[seen].all()


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonalised(torch.zeros(1, 16, 20)), torch.zeros(1, 16, 20))
