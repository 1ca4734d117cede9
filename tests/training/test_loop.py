"""The loop: same seed, same weights; broken off and resumed, the same again."""

import math

import pytest
import torch

from vae_mnist.config.parameters import ObjectiveConfig
from vae_mnist.errors import CheckpointError, NonFiniteLossError, ResumeError
from vae_mnist.measures.bounds import loss_parts
from vae_mnist.objectives.elbo import negative_elbo
from vae_mnist.storage.checkpoints import model_from_checkpoint, read_checkpoint, write_checkpoint
from vae_mnist.training import loop as training
from vae_mnist.training import machine as devices
from vae_mnist.training import resume
from vae_mnist.training import step as forward
from vae_mnist.training.schedules import learning_rates

from ..helpers.compare import same
from ..helpers.project import LOSS_COLUMNS
from ..helpers.training import CARD, CPU, MODEL, config, run, settings


@pytest.fixture(scope="module")
def splits(sample_digits):
    train, test = sample_digits
    return {"train": train["images"][:450], "test": test["images"][:100]}


def test_training_lowers_the_loss(splits):
    history = run(splits, config(epochs=5, learning_rate=5e-3))[-1]["history"]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    assert history[-1]["test_loss"] < history[0]["test_loss"]


def test_history_has_the_columns_of_the_loss_table(splits):
    row = run(splits, config(epochs=1), beta=4.0)[0]["history"][0]
    assert list(row)[:9] == LOSS_COLUMNS
    assert row["train_loss"] == pytest.approx(row["train_bce"] + 4 * row["train_kld"])
    assert row["test_loss"] == pytest.approx(row["test_bce"] + 4 * row["test_kld"], rel=1e-6)
    assert row["test_neg_elbo"] == pytest.approx(row["test_bce"] + row["test_kld"], rel=1e-6)
    assert row["learning_rate"] == 1e-3
    assert row["beta"] == 4.0


def test_test_loss_in_the_history_is_that_of_the_saved_weights(splits):
    checkpoint = run(splits, config())[-1]
    parts = loss_parts(model_from_checkpoint(checkpoint), splits["test"])
    assert checkpoint["history"][-1]["test_loss"] == pytest.approx(parts.loss, rel=1e-6)


def test_validation_digits_are_measured_beside_the_test_digits(splits, sample_digits):
    with_validation = splits | {"validation": sample_digits[0]["images"][450:550]}
    row = run(with_validation, config(epochs=1))[0]["history"][0]
    assert math.isfinite(row["validation_loss"])
    assert row["validation_loss"] != row["test_loss"]
    assert not any(key.startswith("validation") for key in run(splits, config(epochs=1))[0]["history"][0])


def test_train_loss_is_the_average_over_images_with_a_ragged_last_batch(splits, monkeypatch):
    """450 images in batches of 100: averaging batch averages would count the last 50 images twice."""
    seen = []
    monkeypatch.setattr(
        forward,
        "negative_elbo",
        lambda *args, **kwargs: seen.append(negative_elbo(*args, **kwargs)) or seen[-1],
    )
    row = run(splits, config(epochs=1))[0]["history"][0]
    losses = torch.cat([terms.loss.detach() for terms in seen])
    assert [len(terms.loss) for terms in seen] == [100, 100, 100, 100, 50]
    assert row["train_loss"] == pytest.approx(losses.double().mean().item(), rel=1e-6)


def test_one_seed_gives_identical_tensors(splits):
    assert same(run(splits, config()), run(splits, config()))


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
    linear = learning_rates(config(epochs=4, learning_rate=0.5, schedule="linear", warmup_steps=7), 4, 10)
    assert linear == pytest.approx([0.5 * n / 33 for n in range(10, 0, -1)])
    assert set(learning_rates(config(), 2, 10)) == {1e-3}


def test_a_warm_up_may_be_longer_than_training():
    cfg = config(epochs=2, learning_rate=0.5, schedule="cosine", warmup_steps=100)
    assert learning_rates(cfg, 2, 10) == pytest.approx([0.5 * n / 100 for n in range(11, 21)])


def test_steps_are_taken_at_the_scheduled_rates(splits, monkeypatch):
    seen, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: seen.append(self.param_groups[0]["lr"]) or step(self))
    cfg = config(schedule="cosine", warmup_steps=2)
    checkpoints = run(splits, cfg)
    assert seen == [rate for epoch in (1, 2) for rate in learning_rates(cfg, epoch, 5)]
    assert [row["learning_rate"] for row in checkpoints[-1]["history"]] == [seen[4], seen[9]]


def test_training_resumed_in_the_middle_of_a_schedule_ends_with_the_same_bits(splits):
    cfg = config(epochs=4, schedule="cosine", warmup_steps=7, adam_beta1=0.8, adam_beta2=0.99, output_bias="data")
    unbroken = run(splits, cfg)
    for epoch in (1, 3):
        assert same(run(splits, cfg, checkpoint=unbroken[epoch - 1])[-1], unbroken[-1])


def test_a_schedule_that_falls_to_the_end_cannot_go_on_beyond_it(splits):
    assert all(settings(config(schedule=fall))["train.epochs"] == 2 for fall in ("linear", "cosine"))
    assert "train.epochs" not in settings(config())
    last = run(splits, config(schedule="cosine"))[-1]
    with pytest.raises(ResumeError, match=r"train\.epochs: the run 'r' has 2, you ask for 3\."):
        resume.check_resume(last, "r", settings(config(schedule="cosine", epochs=3)), CARD)


def test_adams_numbers_are_those_of_the_parameters(splits):
    state = training.start(
        MODEL, config(adam_beta1=0.7, adam_beta2=0.98), splits["train"], CPU, devices.resolve_precision("float32", CPU)
    )
    assert state.optimizer.param_groups[0]["betas"] == (0.7, 0.98)


def test_the_decoder_can_begin_with_the_mean_picture(splits):
    precision = devices.resolve_precision("float32", CPU)
    state = training.start(MODEL, config(output_bias="data"), splits["train"], CPU, precision)
    mean = splits["train"].double().mean(0) / 255
    begin = torch.sigmoid(state.model.decoder[2].bias).view(1, 28, 28)
    torch.testing.assert_close(begin.double(), mean.clamp(1e-3, 1 - 1e-3), rtol=1e-5, atol=1e-6)
    plain = training.start(MODEL, config(), splits["train"], CPU, precision).model.state_dict()
    others = {name: value for name, value in state.model.state_dict().items() if name != "decoder.2.bias"}
    assert all(torch.equal(value, plain[name]) for name, value in others.items())


def test_another_seed_gives_other_weights_from_the_start(splits):
    precision = devices.resolve_precision("float32", CPU)
    first, again, second = (
        training.start(MODEL, config(seed=seed), splits["train"], CPU, precision).model.state_dict()
        for seed in (1, 1, 2)
    )
    assert same(dict(first), dict(again))
    assert not same(dict(first), dict(second))


def test_the_callers_random_state_decides_nothing(splits):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = run(splits, config(epochs=1))
        torch.manual_seed(2)
        assert same(first, run(splits, config(epochs=1)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_resumed_run_equals_uninterrupted_run(splits, tmp_path, precision):
    """2 + 2 epochs are 4, bit for bit: weights, optimizer, scaler, generator, history."""
    unbroken = run(splits, config(epochs=4, precision=precision))[-1]
    write_checkpoint(run(splits, config(epochs=2, precision=precision))[-1], tmp_path / "c.pt")
    resumed = run(splits, config(epochs=4, precision=precision), checkpoint=read_checkpoint(tmp_path / "c.pt"))
    assert [checkpoint["epoch"] for checkpoint in resumed] == [3, 4]
    assert same(unbroken, resumed[-1])


def test_a_changed_state_is_noticed_by_the_comparison_above(splits):
    checkpoint = run(splits, config(epochs=1))[0]
    other = run(splits, config(epochs=1))[0]
    other["optimizer_state"]["state"][0]["exp_avg"][0, 0] += 1e-9
    assert not same(checkpoint, other)


def test_a_snapshot_does_not_change_as_training_goes_on(splits):
    first, second = run(splits, config())
    assert not same(first["model_state"], second["model_state"])
    assert len(first["history"]) == 1


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_as_float32_does(splits, precision):
    full, mixed = (run(splits, config(epochs=3, precision=p))[-1] for p in ("float32", precision))
    assert mixed["history"][-1]["test_loss"] == pytest.approx(full["history"][-1]["test_loss"], rel=0.03)
    assert all(tensor.dtype == torch.float32 for tensor in mixed["model_state"].values())
    assert not same(full["model_state"], mixed["model_state"])


def test_float16_keeps_the_state_of_its_gradient_scaler(splits):
    assert run(splits, config(epochs=1, precision="float16"))[0]["scaler_state"]["scale"] > 0
    assert run(splits, config(epochs=1))[0]["scaler_state"] == {}


def test_a_non_finite_loss_stops_the_run_with_epoch_and_step(splits):
    states = []
    cfg = config(epochs=3)
    precision = devices.resolve_precision("float32", CPU)
    state = training.start(MODEL, cfg, splits["train"], CPU, precision)
    runs = training.train(state, splits, ObjectiveConfig(beta=1.0), cfg, precision)
    states.append(training.snapshot(next(runs), settings(cfg), CARD))
    with torch.no_grad():
        state.model.decoder[2].bias[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"epoch 2, step 1 of 5: reconstruction nan.*up to epoch 1 are whole"):
        next(runs)
    assert all(tensor.isfinite().all() for tensor in states[0]["model_state"].values())


def test_a_learning_rate_that_is_too_large_is_named_as_a_cause(splits):
    with pytest.raises(NonFiniteLossError, match=r"learning rate 1e\+20, float32.*train.learning_rate"):
        run(splits, config().model_copy(update={"learning_rate": 1e20}))


def test_weights_that_break_in_the_last_step_are_not_handed_out(splits):
    # one step, whose own loss is still finite
    cfg = config(epochs=1, batch_size=1000).model_copy(update={"learning_rate": 1e38})
    message = r"weight encoder.1.weight is not finite in epoch 1, step 1 of 1: reconstruction 5\d\d.*1e\+38, float32"
    with pytest.raises(NonFiniteLossError, match=message):
        run(splits, cfg)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e30])  # 1e30: its square, Adam's moment, overflows
def test_a_broken_gradient_is_found_with_its_step(splits, value):
    cfg = config(epochs=3)
    precision = devices.resolve_precision("float32", CPU)
    state = training.start(MODEL, cfg, splits["train"], CPU, precision)
    weight = state.model.posterior.bias
    # the 5 steps of epoch 1 and 2 of epoch 2 are behind; the bias is not used by the loss of that step itself
    weight.register_hook(lambda gradient: gradient * 0 + value if int(adam(state, weight)) == 7 else gradient)
    runs = training.train(state, splits, ObjectiveConfig(beta=1.0), cfg, precision)
    first = training.snapshot(next(runs), settings(cfg), CARD)
    what = "exp_avg_sq of posterior.bias" if value == 1e30 else "gradient of posterior.bias"
    message = rf"the {what} is not finite in epoch 2, step 3 of 5: reconstruction 5\d\d.* learning rate 0.001, float32"
    with pytest.raises(NonFiniteLossError, match=message):
        next(runs)
    assert all(tensor.isfinite().all() for tensor in first["model_state"].values())


def adam(state, weight):
    return state.optimizer.state[weight]["step"] if weight in state.optimizer.state else 0


@pytest.mark.parametrize(("name", "expected"), [("tf32", "high"), ("float32", "highest")])
def test_products_round_to_tf32_in_steps_alone_and_only_if_asked_to(splits, name, expected):
    precision, seen = devices.Precision(name, None), []
    state = training.start(MODEL, config(), splits["train"], CPU, precision)

    def look(step):
        seen.append((step, torch.get_float32_matmul_precision()))

    state.model.register_forward_hook(lambda *_: look(torch.is_grad_enabled()))
    state.model.posterior.weight.register_hook(lambda _: look("backward"))
    torch.set_float32_matmul_precision("medium")
    try:
        next(training.train(state, splits, ObjectiveConfig(beta=1.0), config(), precision))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {(True, expected), ("backward", expected), (False, "medium")}  # False: the test loss


def test_steps_that_float16_overflowed_are_counted(splits):
    cfg = config(epochs=2, precision="float16")
    precision = devices.resolve_precision("float16", CPU)
    state = training.start(MODEL, cfg, splits["train"], CPU, precision)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    states = training.train(state, splits, ObjectiveConfig(beta=1.0), cfg, precision)
    rows = [dict(state.history[-1]) for state in states]
    skipped = round(20 - math.log2(state.scaler.get_scale()))  # each skipped step halves the scale
    assert 0 < skipped < 10
    assert sum(row["skipped_steps"] for row in rows) == skipped
    assert math.isfinite(rows[-1]["train_loss"])


def test_no_step_is_skipped_in_float32(splits):
    assert [row["skipped_steps"] for row in run(splits, config())[-1]["history"]] == [0, 0]


def test_thread_count_holds_during_an_epoch_only(splits):
    before = torch.get_num_threads()
    seen = []
    cfg = config(epochs=1, threads=3)
    precision = devices.resolve_precision("float32", CPU)
    state = training.start(MODEL, cfg, splits["train"], CPU, precision)

    def watch(batches, epoch):
        seen.append((epoch, torch.get_num_threads()))
        return batches

    for _ in training.train(state, splits, ObjectiveConfig(beta=1.0), cfg, precision, watch):
        assert torch.get_num_threads() == before
    assert seen == [(1, 3)]


def test_more_epochs_are_no_difference(splits):
    checkpoint = run(splits, config(epochs=1))[0]
    resume.check_resume(checkpoint, "default", settings(config(epochs=9, device="auto", threads=1)), CARD)


def test_a_changed_setting_is_refused_by_name_with_both_ways_on(splits):
    checkpoint = run(splits, config(epochs=1))[0]
    changed = settings(config()) | {"model.latent_dim": 16}
    with pytest.raises(ResumeError) as caught:
        resume.check_resume(checkpoint, "default", changed, CARD)
    assert str(caught.value) == (
        "model.latent_dim: the run 'default' has 4, you ask for 16. "
        "Choose another run name: --params=run=z16,model.latent_dim=16 - or start over: --params=train.resume=false"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.hidden_dim", 99), ("objective.beta", 4.0), ("train.batch_size", 7), ("train.seed", 3),
        ("train.learning_rate", 0.5), ("train.precision", "auto"),
    ],
)  # fmt: skip
def test_every_setting_that_changes_the_weights_is_compared(splits, key, value):
    checkpoint = run(splits, config(epochs=1))[0]
    groups = {"model": MODEL, "objective": ObjectiveConfig(beta=1.0), "train": config()}
    group, _, name = key.partition(".")
    groups[group] = groups[group].model_copy(update={name: value})
    with pytest.raises(ResumeError, match=f"^{key}: the run 'r' has"):
        resume.check_resume(checkpoint, "r", resume.run_settings(**groups), CARD)


def test_a_setting_that_only_the_checkpoint_has_is_compared_too(splits):
    checkpoint = run(splits, config(epochs=1))[0]
    checkpoint["settings"]["train.momentum"] = 0.9
    with pytest.raises(ResumeError, match=r"^train.momentum: the run 'r' has 0.9, you ask for None\."):
        resume.check_resume(checkpoint, "r", settings(config()), CARD)


def test_other_digits_are_refused_by_name(splits):
    checkpoint = run(splits, config(epochs=1))[0]
    other = {"title": "other digits", "sha256": CARD["sha256"] | {"train": "x"}}
    with pytest.raises(ResumeError, match="data: the run 'r' was trained on some digits; the digits now are other"):
        resume.check_resume(checkpoint, "r", settings(config()), other)


def test_other_digits_of_the_same_title_are_refused_with_both_ways_on(splits):
    checkpoint = run(splits, config(epochs=1))[0]
    with pytest.raises(ResumeError) as caught:
        resume.check_resume(checkpoint, "r", settings(config()), CARD | {"sha256": CARD["sha256"] | {"train": "x"}})
    assert str(caught.value) == (
        "data: the run 'r' was trained on some digits; the digits now are some digits, but other ones. "
        "Choose another run name: --params=run=other - or start over: --params=train.resume=false"
    )


def test_weights_that_do_not_fit_cannot_be_resumed(splits):
    checkpoint = run(splits, config(epochs=1))[0]
    del checkpoint["model_state"]["encoder.1.weight"]
    with pytest.raises(CheckpointError, match="epoch 1 cannot be resumed"):
        run(splits, config(), checkpoint=checkpoint)


def test_settings_hash_changes_with_any_setting():
    base = settings(config())
    assert resume.settings_hash(base) == resume.settings_hash(dict(reversed(base.items())))
    assert resume.settings_hash(base) != resume.settings_hash(base | {"train.seed": 1})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["auto", "float32", "tf32", "float16"])
def test_training_runs_on_a_card(splits, precision, compiled):
    device = devices.resolve_device("cuda")
    chosen = devices.resolve_precision(precision, device)
    cfg = config(epochs=3, precision=precision, device="cuda", compile=compiled)
    state = training.start(MODEL, cfg, splits["train"], device, chosen)
    on_card = {split: images.to(device) for split, images in splits.items()}
    *_, state = training.train(state, on_card, ObjectiveConfig(beta=1.0), cfg, chosen)
    assert state.history[-1]["test_loss"] < state.history[0]["test_loss"]
