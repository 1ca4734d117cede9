"""Every combination of choices trains, measures and draws, or is refused with the name of one that does."""

import copy
import math
import re
from functools import partial
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
import yaml
from torch import distributed, multiprocessing
from torch.distributions import Independent, Normal
from torch.nn.functional import one_hot

from vae_mnist import encode, interpolate, load_model, reconstruct, sample, traverse
from vae_mnist.config.check import problems_in
from vae_mnist.config.parameters import Parameters
from vae_mnist.data.images import ImageSet
from vae_mnist.measures.bounds import importance_weighted
from vae_mnist.objectives import Elbo
from vae_mnist.storage.checkpoints import write_checkpoint
from vae_mnist.training.loop import train
from vae_mnist.training.machine import resolve_machine
from vae_mnist.training.resume import run_settings
from vae_mnist.training.state import restore, snapshot, start
from vae_mnist.training.team import ALONE, Team

from .helpers.models import MODEL, disturbed
from .helpers.project import ROOT
from .helpers.records import card

CHOICES = {
    "model.network": ["mlp", "conv", "residual", "ladder"],
    "model.prior": ["normal", "mixture", "vamp", "flow"],
    "model.likelihood": ["bernoulli", "continuous_bernoulli", "gaussian", "discretised_logistic", "autoregressive"],
    "model.conditional": [False, True],
    "objective.name": ["elbo", "total_correlation", "factor", "iwae", "dreg"],
    "train.binarisation": ["none", "dynamic", "static"],
}
SMALL = {
    "train.epochs": 2, "train.batch_size": 8, "train.device": "cpu", "train.precision": "float32", "train.threads": 1,
    "train.weight_decay": 0.01,
    "train.clip_norm": 50.0, "train.average": 0.9, "train.warmup_steps": 2, "train.schedule": "cosine",
    "train.output_bias": "data", "objective.iwae.samples": 2, "objective.dreg.samples": 2,
    "objective.factor.hidden_dim": 8, "objective.factor.layers": 2,
}  # fmt: skip
COUNT, CLASSES = 19, 3  # a last batch of three images
KEYS = tuple(CHOICES)


def base():
    """The parameters of conf/base, with small models."""
    whole = {"run": "default", "data_root": "data"}
    for path in sorted(Path(ROOT, "conf/base").glob("parameters_*.yml")):
        whole |= {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "run"}
    whole["model"] |= {key: value for key, value in MODEL.items() if isinstance(value, dict)} | {"latent_dim": 4}
    for key, value in SMALL.items():
        _set(whole, key, value)
    return whole


def _set(whole, key, value):
    *groups, name = key.split(".")
    for group in groups:
        whole = whole[group]
    whole[name] = value


BASE = base()


def parameters(choice):
    values = copy.deepcopy(BASE)
    for key, value in zip(KEYS, choice, strict=True):
        _set(values, key, value)
    return values


ALL = list(product(*CHOICES.values()))
REFUSED = {choice: problems for choice in ALL if (problems := problems_in(parameters(choice)))}
WORKING = [choice for choice in ALL if choice not in REFUSED]


def _pairs(choice):
    return set(combinations(enumerate(choice), 2))


def _covering():
    """Some of them, in which each choice meets each other one that it can be combined with."""
    left = set().union(*map(_pairs, WORKING))
    chosen = []
    while left:
        chosen.append(max(WORKING, key=lambda choice: len(left & _pairs(choice))))
        left -= _pairs(chosen[-1])
    return chosen


SOME = _covering()
REST = [choice for choice in WORKING if choice not in SOME]


def _name(choice):
    return "-".join(map(str, choice))


def image_set(channels):
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (COUNT, channels, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageSet(images=images, labels=torch.arange(COUNT) % CLASSES)


def channels_of(choice):
    """One or three: each value of a choice meets both, whatever the other choices are."""
    places = (values.index(value) for values, value in zip(CHOICES.values(), choice, strict=True))
    return 1 + 2 * (sum(places) % 2)


def trained(choice, team=ALONE, resume_from=None, **changes):
    """The state after each epoch, and the function that makes its checkpoint."""
    whole = Parameters(**parameters(choice))
    config, data = whole.train.model_copy(update=changes), image_set(channels_of(choice))
    machine = resolve_machine(config)
    state = start(whole.model, whole.objective, config, data["images"], CLASSES, machine)
    if resume_from is not None:
        restore(state, resume_from)
    splits = {"train": data, "test": data} if team.rank == 0 else {"train": data}
    for each in train(state, splits, config, machine, team=team):
        settings = run_settings(whole.model, whole.objective, config, machine.precision)
        yield each, partial(snapshot, each, settings, card(**CARD))


CARD = {"class_counts": {"train": [7, 6, 6], "validation": [0, 0, 0], "test": [7, 6, 6]}}


def tensors_of(checkpoint):
    groups = (checkpoint.model_state, checkpoint.trained_state, checkpoint.objective_state)
    return {f"{index} {name}": tensor for index, group in enumerate(groups) for name, tensor in group.items()}


@torch.no_grad()
def check_bound(model, images, labels, samples=20):
    """The importance-weighted bound, from densities that are put together here; the rates are far from zero."""
    drawn = torch.randn(samples, COUNT, model.noise_dim, generator=torch.Generator().manual_seed(0))
    result, several = model(images, drawn, labels), labels.repeat(samples)
    torch.testing.assert_close(result.posteriors[0].mean, model.encode(images, labels).mean[:, : model.groups[0]])
    log_weights = model.prior_now().log_prob(result.z[0])
    for q, z, noise in zip(result.posteriors, result.z, drawn.split(model.groups, dim=-1), strict=True):
        torch.testing.assert_close(z, q.mean + torch.exp(0.5 * q.logvar) * noise)
        log_weights = log_weights - _log_prob(q, z)

    def choose(group, prior, posterior):
        nonlocal log_weights
        assert posterior is None
        z = result.z[group].flatten(0, 1)
        log_weights = log_weights + _log_prob(prior, z).view(samples, COUNT)
        return z

    code = result.z[0].flatten(0, 1)
    code = torch.cat([code, one_hot(several, model.classes)], dim=1) if model.classes else code
    outputs = model.network.descend(code, choose, None).unflatten(0, (samples, COUNT))
    log_weights = (log_weights - model.likelihood.nll(outputs, images)).double()

    weighted = importance_weighted(model, images, samples, labels, seed=0, chunk_size=90)  # four images at once
    expected = (math.log(samples) - log_weights.logsumexp(0)).mean().item()
    assert weighted.nll == pytest.approx(expected, rel=1e-6, abs=1e-3)
    bound = Elbo()(result, torch.tensor(0))
    assert bound.rate.mean() > 0.01  # ten times the tolerance above
    spread = log_weights.std(0).mean().item() / math.sqrt(samples * COUNT)
    assert -log_weights.mean().item() == pytest.approx(bound.loss.mean().item(), rel=1e-4, abs=5 * spread)
    assert weighted.nll < -log_weights.mean().item() - 0.01


def _log_prob(gaussian, z):
    return Independent(Normal(gaussian.mean, torch.exp(0.5 * gaussian.logvar)), 1).log_prob(z)


def check(choice, folder):
    """All that a user does with a model."""
    checkpoints = []
    for state, save in trained(choice):
        gradients = [weight.grad for weight in state.step.parameters() if weight.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        checkpoints.append(save())
    first, last = checkpoints
    assert all(math.isfinite(value) for row in last.history for value in row.values())

    ((_, save),) = trained(choice, resume_from=first)
    resumed = save()
    assert all(torch.equal(tensor, tensors_of(resumed)[name]) for name, tensor in tensors_of(last).items())
    assert [{**row, "seconds": 0} for row in resumed.history] == [{**row, "seconds": 0} for row in last.history]

    write_checkpoint(last, folder / "vae_epoch_002.pt")
    model = load_model(folder / "vae_epoch_002.pt")
    data = image_set(channels_of(choice))
    images, labels = data["images"], data["labels"]
    shape, given = tuple(images.shape[1:]), {"labels": 1} if model.classes else {}
    assert sample(model, 5, temperature=0.7, **given).shape == (5, *shape)
    codes, logvar = encode(model, images, labels)
    assert codes.shape == logvar.shape == (COUNT, model.latent_dim)
    assert reconstruct(model, images, labels).shape == images.shape
    assert interpolate(model, codes[0], codes[1], 3, **given).shape == (3, *shape)
    assert traverse(model, codes[:1], [0, 3], torch.tensor([-1.0, 1.0]), **given).shape == (4, *shape)

    check_bound(disturbed(model, spread=0.2), torch.where(images > 127, 1.0, 0.0), labels)

    for state, _ in trained(choice, epochs=1, precision="bfloat16"):
        assert all(math.isfinite(value) for row in state.history for value in row.values())
        assert {weight.dtype for weight in state.step.parameters()} == {torch.float32}
        assert state.history[0]["train_loss"] == pytest.approx(first.history[0]["train_loss"], rel=0.05, abs=20)


@pytest.mark.parametrize("choice", SOME, ids=_name)
def test_a_combination_trains_resumes_measures_and_draws(choice, tmp_path):
    check(choice, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("choice", REST, ids=_name)
def test_each_other_combination_does_too(choice, tmp_path):
    check(choice, tmp_path)


def _train_in_two(rank, folder, choices):
    """One of two processes, which train each combination together."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    team = Team(rank, 2, distributed.group.WORLD)
    for number, choice in enumerate(choices):
        for state, _ in trained(choice, team, epochs=1):
            if rank == 0:
                torch.save(_results(state), f"{folder}/{number}.pt")
    distributed.destroy_process_group()


def _results(state):
    """Weights, their average, and the history, whose norm of the gradients shows a factor that Adam would hide."""
    row = {name: torch.tensor(value) for name, value in state.history[0].items() if name != "seconds"}
    average = {f"average {name}": tensor for name, tensor in state.evaluated.state_dict().items()}
    return state.step.state_dict() | average | row


def _agree(folder, choices):
    context = multiprocessing.start_processes(_train_in_two, (str(folder), choices), nprocs=2, join=False)
    context.join()
    for number, choice in enumerate(choices):
        ((alone, _),) = trained(choice, epochs=1)
        together, expected = torch.load(folder / f"{number}.pt"), _results(alone)
        assert together.keys() == expected.keys()
        assert "train_gradient_norm" in expected
        far = [name for name in expected if not _alike(together[name], expected[name])]
        assert not far, choice


def _alike(found, expected):
    """Up to rounding, which Adam enlarges where a gradient is near zero: in one weight of a thousand, or one."""
    far = ~torch.isclose(found, expected, rtol=1e-3, atol=2e-5)
    allowed = math.ceil(found.numel() / 1000) if found.ndim > 1 else 0
    return far.sum() <= allowed and torch.allclose(found, expected, rtol=1e-2, atol=2e-4)


def _divisible(choices):
    """Those whose objective does not need the whole batch."""
    return [choice for choice in choices if choice[4] not in ("total_correlation", "factor")]


def test_two_processes_agree_with_one(tmp_path):
    assert len(_divisible(SOME)) > 10
    _agree(tmp_path, _divisible(SOME))


@pytest.mark.slow
def test_two_processes_agree_with_one_on_each_other_combination(tmp_path):
    _agree(tmp_path, _divisible(REST))


def test_a_refusal_names_a_combination_that_works():
    """Several reasons are given at once, and what they name as nearest works when all of it is done."""
    for choice, problems in REFUSED.items():
        values = dict(zip(KEYS, choice, strict=True))
        for problem in problems:
            assert re.search("expected .*, got ", problem)
            key, value = re.search(r"Nearest: ([a-z._]+)=(\w+)", problem).groups()
            values[key] = value
        assert tuple(values.values()) in WORKING, problems


def test_944_of_2400_combinations_work():
    assert (len(WORKING), len(ALL)) == (944, 2400)
    assert {value for choice in SOME for value in enumerate(choice)} == {
        each for number, values in enumerate(CHOICES.values()) for each in product([number], values)
    }
    assert len(SOME) < 60
