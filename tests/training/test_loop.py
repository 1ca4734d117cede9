"""The loop: same seed, same weights; broken off and resumed, the same again, for every model and objective."""

import json
import math
import platform
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from vae_mnist.data.pixels import binarise
from vae_mnist.errors import NonFiniteLossError
from vae_mnist.measures.bounds import average_terms
from vae_mnist.models import model_from_checkpoint
from vae_mnist.objectives import Elbo
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint
from vae_mnist.training.schedules import rate_shares

from ..helpers.compare import same
from ..helpers.models import ELBO as PLAIN
from ..helpers.models import KINDS, model_config, objective_config
from ..helpers.project import LOSS_COLUMNS
from ..helpers.training import begin, config, epochs, first, run

ELBO, IWAE = objective_config(beta=2.0), objective_config(name="iwae")


def history(checkpoints):
    return checkpoints[-1].history


def test_training_lowers_the_loss(splits):
    rows = history(run(splits, config(epochs=5, learning_rate=5e-3)))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]
    assert rows[-1]["test_loss"] < rows[0]["test_loss"]


def test_history_has_the_columns_of_the_loss_table(splits):
    row = history(run(splits, config(epochs=1), objective=objective_config(beta=4.0)))[0]
    assert list(row)[:9] == LOSS_COLUMNS
    assert row["train_loss"] == pytest.approx(row["train_bce"] + 4 * row["train_kld"])
    assert row["test_loss"] == pytest.approx(row["test_bce"] + 4 * row["test_kld"], rel=1e-6)
    assert row["test_neg_elbo"] == pytest.approx(row["test_bce"] + row["test_kld"], rel=1e-6)
    assert (row["learning_rate"], row["beta"], row["skipped_steps"]) == (1e-3, 4.0, 0)


def test_the_history_shows_the_weight_of_the_rate_in_force(splits):
    """Five steps an epoch: it is two thirds of beta after two, and beta after three."""
    objective = objective_config(beta=3.0, elbo=PLAIN | {"kl_warmup_steps": 15})
    rows = history(run(splits, config(epochs=4), objective=objective))
    assert [row["beta"] for row in rows] == pytest.approx([1, 2, 3, 3])
    for row in rows:
        assert row["test_loss"] == pytest.approx(row["test_bce"] + row["beta"] * row["test_kld"], rel=1e-6)
    assert rows[0]["train_loss"] < rows[0]["train_bce"] + rows[0]["train_kld"]


def test_a_capacity_pulls_the_rate_towards_it(splits):
    elbo = PLAIN | {"capacity": 8.0, "capacity_gamma": 30.0, "capacity_steps": 20}
    rows = history(run(splits, config(epochs=20, learning_rate=5e-3), objective=objective_config(elbo=elbo)))
    assert rows[-1]["train_kld"] == pytest.approx(8.0, abs=1.0)
    assert rows[-1]["test_neg_elbo"] == pytest.approx(rows[-1]["test_bce"] + rows[-1]["test_kld"], rel=1e-6)
    assert (rows[0]["beta"], rows[-1]["beta"]) == (30.0, 30.0)


@pytest.mark.parametrize("name", ["total_correlation", "factor"])
def test_a_total_correlation_is_logged_beside_the_plain_bound(splits, name):
    row = history(run(splits, config(epochs=1), objective=objective_config(name=name)))[0]
    assert row["train_neg_elbo"] == pytest.approx(row["train_bce"] + row["train_kld"], rel=1e-6)
    for split in ("train", "test"):
        assert math.isfinite(row[f"{split}_total_correlation"])
    if name == "factor":
        assert row["train_loss"] == pytest.approx(row["train_neg_elbo"] + 5 * row["train_total_correlation"], rel=1e-6)
        assert 0 <= row["train_discriminator_accuracy"] <= 1


def test_an_objective_with_weights_of_its_own_leaves_the_models_first_weights_alone(splits):
    plain, other = (begin(splits, config(), objective=each) for each in (ELBO, objective_config(name="factor")))
    assert same(plain.step.model.state_dict(), other.step.model.state_dict())
    assert list(other.step.objective.state_dict())


def test_the_discriminator_is_trained_along(splits):
    before, after = (each.objective_state for each in run(splits, config(), objective=objective_config(name="factor")))
    assert not any(same(before[name], after[name]) for name in before)


def test_an_importance_weighted_loss_has_the_plain_bound_beside_it(splits):
    row = history(run(splits, config(), objective=IWAE))[-1]
    assert row["test_loss"] < row["test_neg_elbo"]
    assert row["train_neg_elbo"] == pytest.approx(row["train_bce"] + row["train_kld"], rel=1e-6)


def test_test_loss_in_the_history_is_that_of_the_saved_weights(splits):
    checkpoint = run(splits, config())[-1]
    losses = average_terms(model_from_checkpoint(checkpoint), Elbo(), splits["test"]["images"])
    assert checkpoint.history[-1]["test_loss"] == pytest.approx(losses.loss, rel=1e-6)


def test_validation_images_are_measured_beside_the_test_images(splits, sample_images):
    with_validation = splits | {"validation": first(sample_images[0], 100, start=450)}
    row = history(run(with_validation, config(epochs=1)))[0]
    assert math.isfinite(row["validation_loss"])
    assert row["validation_loss"] != row["test_loss"]
    assert not any(key.startswith("validation") for key in history(run(splits, config(epochs=1)))[0])


def test_train_loss_is_the_average_over_images_with_a_ragged_last_batch(splits):
    """450 images in batches of 100: averaging batch averages would count the last 50 images twice."""
    state, seen = begin(splits, config(epochs=1)), []
    state.step.register_forward_hook(lambda module, _, terms: module.training and seen.append(terms.loss.detach()))
    *_, state = epochs(state, splits, config(epochs=1))
    assert [len(loss) for loss in seen] == [100, 100, 100, 100, 50]
    assert state.history[0]["train_loss"] == pytest.approx(torch.cat(seen).double().mean().item(), rel=1e-6)


def test_the_callers_random_state_decides_nothing(splits):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = run(splits, config(epochs=1))
        torch.manual_seed(2)
        assert same(one, run(splits, config(epochs=1)))


WARMUP = objective_config(elbo=PLAIN | {"kl_warmup_steps": 15})
CAPACITY = objective_config(elbo=PLAIN | {"capacity": 3.0, "capacity_gamma": 2.0, "capacity_steps": 15})
OTHERS = [WARMUP, CAPACITY, *(objective_config(name=name) for name in ("total_correlation", "factor", "dreg"))]
FREE_BITS = objective_config(elbo=PLAIN | {"kl_warmup_steps": 9, "free_bits": 1.0, "free_bits_steps": 12})
LIKE_QUALITY = {  # with matrices that Muon takes
    "network": "ladder", "prior": "flow",
    "ladder": {"patch": 2, "channels": [16, 16], "blocks": [1, 1], "groups": [1, 1], "latent_channels": [1, 2]},
}  # fmt: skip
HALF = [({}, ELBO, {"precision": precision}) for precision in ("bfloat16", "float16")]
SCHEDULE = {"schedule": "cosine", "warmup_steps": 7, "adam_beta1": 0.8, "adam_beta2": 0.99, "output_bias": "data"}
OPTIONS = {"optimizer": "muon", "weight_decay": 0.1, "clip_norm": 5.0, "average": 0.9, "binarisation": "dynamic"}


@pytest.mark.parametrize(
    ("kind", "objective", "changes"),
    [
        *((kind, objective, {}) for kind in KINDS for objective in (ELBO, IWAE)),
        *(({}, each, {}) for each in OTHERS),
        ({"network": "ladder"}, CAPACITY, {}),
        ({}, objective_config(name="dreg"), OPTIONS),
        (LIKE_QUALITY, FREE_BITS, OPTIONS | {"precision": "bfloat16"}),
        ({"network": "residual", "likelihood": "autoregressive", "conditional": True}, WARMUP, OPTIONS),
        *HALF,
        ({}, ELBO, SCHEDULE),
        ({}, ELBO, OPTIONS),
        ({}, IWAE, OPTIONS | {"binarisation": "static", "precision": "float16"}),
    ],
    ids=str,
)
def test_two_and_two_epochs_are_four(splits, tmp_path, kind, objective, changes):
    """Bit for bit: weights, optimizer, generator, history."""
    model, cfg = model_config(**kind), config(epochs=4, **changes)
    unbroken = run(splits, cfg, model, objective)
    write_checkpoint(unbroken[1], tmp_path / "c.pt")
    resumed = run(splits, cfg, model, objective, checkpoint=read_checkpoint(tmp_path / "c.pt"))
    assert [checkpoint.epoch for checkpoint in resumed] == [3, 4]
    assert same(unbroken[-1], resumed[-1])


def test_steps_are_taken_at_the_scheduled_rates(splits, monkeypatch):
    seen, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: seen.append(self.param_groups[0]["lr"]) or step(self))
    cfg = config(schedule="cosine", warmup_steps=2)
    rows = history(run(splits, cfg))
    assert seen == [share * 1e-3 for epoch in (1, 2) for share in rate_shares(cfg, epoch, 5)]
    assert [row["learning_rate"] for row in rows] == [seen[4], seen[9]]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_as_float32_does(splits, precision):
    full, mixed = (run(splits, config(epochs=3, precision=p))[-1] for p in ("float32", precision))
    assert mixed.history[-1]["test_loss"] == pytest.approx(full.history[-1]["test_loss"], rel=0.03)
    assert all(tensor.dtype == torch.float32 for tensor in mixed.model_state.values())
    assert not same(full.model_state, mixed.model_state)


def test_a_non_finite_loss_stops_the_run_with_epoch_and_step(splits):
    state = begin(splits, config(epochs=3))
    steps, runs = [], epochs(state, splits, config(epochs=3))
    next(runs)

    def spoil(module, *_):
        steps.append(module.training)
        if sum(steps) == 3:  # of this epoch
            with torch.no_grad():
                module.model.network.decoder[2].bias[0] = float("nan")

    state.step.register_forward_pre_hook(spoil)
    said = r"the loss is not finite in epoch 2, step 3 of 5: .*distortion nan.* learning rate 0\.001, float32\. .*up"
    with pytest.raises(NonFiniteLossError, match=said + r" to epoch 1 are whole.*--params=train\.learning_rate=1e-4"):
        next(runs)
    assert state.epoch == 1


def test_an_average_that_breaks_is_not_handed_out(splits):
    cfg = config(epochs=1, average=0.9)
    state = begin(splits, cfg)
    state.average.network.posterior.bias[1] = math.nan
    with pytest.raises(NonFiniteLossError, match=r"average of model\.network\.posterior\.bias is not finite"):
        next(epochs(state, splits, cfg))


def test_weights_that_break_in_the_last_step_are_not_handed_out(splits):
    # one step, whose own loss is still finite
    cfg = config(epochs=1, batch_size=1000).model_copy(update={"learning_rate": 1e38})
    message = r"weight model\.network\.\S+ is not finite in epoch 1: learning rate 1e\+38, float32"
    with pytest.raises(NonFiniteLossError, match=message):
        run(splits, cfg)


def test_a_moment_that_overflows_without_a_trace_in_the_loss_is_found(splits):
    state = begin(splits, config())
    # its square, Adam's moment, overflows; the weight itself then stands still
    state.step.model.network.posterior.bias.register_hook(lambda gradient: gradient * 0 + 1e30)
    message = r"exp_avg_sq of model\.network\.posterior\.bias is not finite in epoch 1"
    with pytest.raises(NonFiniteLossError, match=message):
        next(epochs(state, splits, config()))


def test_steps_that_float16_overflowed_are_counted(splits):
    cfg = config(epochs=2, precision="float16")
    state = begin(splits, cfg)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    *_, state = epochs(state, splits, cfg)
    skipped = round(20 - math.log2(state.scaler.get_scale()))  # each skipped step halves the scale
    assert 0 < skipped < 10
    assert sum(row["skipped_steps"] for row in state.history) == skipped
    assert math.isfinite(state.history[-1]["train_loss"])


def test_thread_count_holds_during_an_epoch_only(splits):
    before, seen, cfg = torch.get_num_threads(), [], config(epochs=1, threads=3)
    state = begin(splits, cfg)
    state.step.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    for _ in epochs(state, splits, cfg):
        assert torch.get_num_threads() == before
    assert set(seen) == {3}


def test_gradients_are_scaled_down_to_the_norm_and_never_up(splits):
    """By the first moment, which after one step is a tenth of the gradient."""
    moments = {}
    for clip_norm in ("none", 1e9, 0.5):
        cfg = config(epochs=1, batch_size=450, clip_norm=clip_norm)
        *_, state = epochs(begin(splits, cfg), splits, cfg)
        moments[clip_norm] = torch.cat([each["exp_avg"].flatten() for each in state.optimizer.state.values()])
    assert torch.equal(moments["none"], moments[1e9])
    norm = 10 * moments["none"].norm()
    assert norm > 10
    torch.testing.assert_close(moments[0.5], moments["none"] * 0.5 / norm, rtol=1e-4, atol=0)
    assert state.history[0]["train_gradient_norm"] == pytest.approx(norm.item(), rel=1e-5)


def test_clipping_does_not_see_the_scale_that_float16_gives_gradients(splits):
    free, loose, tight = (
        run(splits, config(precision="float16", clip_norm=clip_norm))[-1] for clip_norm in ("none", 1e6, 1.0)
    )
    assert same(free.model_state, loose.model_state)
    assert not same(free.model_state, tight.model_state)
    exact = run(splits, config(clip_norm=1e6))[-1]
    assert [row["train_gradient_norm"] for row in loose.history] == pytest.approx(
        [row["train_gradient_norm"] for row in exact.history],
        rel=0.2,  # steps that overflowed are left out
    )


def test_steps_that_float16_overflowed_are_not_in_the_mean_norm(splits):
    cfg = config(precision="float16", clip_norm=1.0)
    state = begin(splits, cfg)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    *_, state = epochs(state, splits, cfg)
    assert sum(row["skipped_steps"] for row in state.history) > 0
    assert all(math.isfinite(row["train_gradient_norm"]) for row in state.history)
    assert state.history[-1]["train_gradient_norm"] > 10


def images_of(splits, cfg):
    """The training images of each epoch, in the order of their sums."""
    state, seen = begin(splits, cfg), []
    state.step.register_forward_hook(lambda module, given, _: module.training and seen.append(given[0].images))
    for _ in epochs(state, splits, cfg):
        pass
    return [torch.cat(seen[first : first + 5]) for first in range(0, len(seen), 5)]


def rows(images):
    return sorted(map(tuple, images.flatten(1).tolist()))


def test_static_pixels_are_those_of_the_seed_in_each_epoch_and_dynamic_ones_are_drawn_anew(splits):
    one, two = images_of(splits, config(binarisation="static", seed=3))
    drawn, _ = binarise(splits["train"]["images"], seed=3)
    assert rows(one) == rows(two) == rows(drawn.float() / 255)
    one, two = images_of(splits, config(binarisation="dynamic", seed=3))
    assert set(one.unique().tolist()) == {0, 1}
    assert not set(rows(one)) & set(rows(two))


@pytest.mark.parametrize("binarisation", ["dynamic", "static"])
def test_after_training_on_binary_images_losses_are_of_images_binarised_once_from_seed_0(
    splits, sample_images, binarisation
):
    every = splits | {"validation": first(sample_images[0], 100, start=450)}
    checkpoint = run(every, config(epochs=1, binarisation=binarisation, seed=3))[-1]
    for split in ("test", "validation"):
        drawn, _ = binarise(every[split]["images"], seed=0)
        losses = average_terms(model_from_checkpoint(checkpoint), Elbo(), drawn)
        assert checkpoint.history[-1][f"{split}_loss"] == pytest.approx(losses.loss, rel=1e-6)


PAGE_FAULTS = """
import json, resource, torch
from tests.helpers.models import MODEL, model_config
from tests.helpers.training import begin, config, epochs
images = {"images": torch.zeros(200, 1, 28, 28, dtype=torch.uint8), "labels": torch.zeros(200, dtype=torch.int64)}
model = model_config(network="residual", residual=MODEL["residual"] | {"channels": [16, 32]})
splits, settings = {"train": images, "test": images}, config(epochs=8, batch_size=200)
passed = [
    resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in epochs(begin(splits, settings, model), splits, settings)
]
print(json.dumps(passed))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the memory that glibc keeps")
def test_steps_use_the_memory_of_the_steps_before():
    """Otherwise each step of this model has 14,000 page faults."""
    command = [sys.executable, "-c", PAGE_FAULTS]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    _, *passed = json.loads(result.stdout)
    each = [after - before for before, after in pairwise(passed)]
    assert max(each) < 5000, each  # up to 2,500 were seen: two blocks that were mapped anew
