"""Whether a run may go on: each setting that changes weights is compared, and no other."""

import re

import pytest
import torch

from vae_mnist.config.parameters import Locations
from vae_mnist.errors import ResumeError
from vae_mnist.training.machine import Precision
from vae_mnist.training.resume import check_resume, run_settings

from ..helpers.models import model_config, objective_config
from ..helpers.training import CARD, config, run, settings


@pytest.fixture(scope="module")
def checkpoint(splits):
    return run(splits, config(epochs=1))[0]


def refusal(checkpoint, asked, card=CARD):
    with pytest.raises(ResumeError) as caught:
        check_resume(checkpoint, "default", asked, card)
    return str(caught.value)


def test_more_epochs_another_device_other_threads_and_retention_are_no_difference(checkpoint):
    asked = settings(config(epochs=9, device="auto", threads=1, keep=1, compile=True))
    check_resume(checkpoint, "default", asked, CARD)


def test_a_changed_setting_is_refused_by_name_with_both_ways_on(checkpoint):
    assert refusal(checkpoint, settings(config()) | {"model.latent_dim": 16}) == (
        "model.latent_dim: the run 'default' has 4, you ask for 16. "
        "Add run=z16 to --params to train it beside 'default', or start over with --params=train.resume=false."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"mlp": {"hidden_dim": 99}}}, {"model": {"network": "conv"}}, {"model": {"prior": "flow"}},
        {"objective": {"beta": 4.0}}, {"objective": {"name": "iwae"}}, {"train": {"batch_size": 7}},
        {"train": {"seed": 3}}, {"train": {"learning_rate": 0.5}}, {"train": {"precision": "bfloat16"}},
        {"train": {"weight_decay": 0.1}}, {"train": {"clip_norm": 1.0}}, {"train": {"average": 0.99}},
        {"train": {"binarisation": "static"}},
    ],
    ids=str,
)  # fmt: skip
def test_every_setting_that_changes_the_weights_is_compared(checkpoint, changes):
    model, objective = model_config(**changes.get("model", {})), objective_config(**changes.get("objective", {}))
    asked = settings(config(**changes.get("train", {})), model, objective)
    ((group, change),) = changes.items()
    key = f"{group}.{next(iter(change))}"
    assert re.search(rf"^{key}(\.\w+)?: the run 'default' has ", refusal(checkpoint, asked), re.MULTILINE)


def test_sub_groups_that_were_not_chosen_are_no_difference(checkpoint):
    model = model_config(conv={"channels": [1], "hidden_dim": 1}, flow={"couplings": 9, "hidden_dim": 1})
    check_resume(checkpoint, "default", settings(config(), model, objective_config(iwae={"samples": 9})), CARD)


def test_a_precision_of_auto_stands_as_what_it_became():
    bfloat16 = Precision("bfloat16", torch.bfloat16)
    auto = run_settings(model_config(), objective_config(), config(precision="auto"), bfloat16)
    assert auto["train.precision"] == "bfloat16"


def test_a_run_from_a_machine_where_auto_is_another_precision_is_refused_with_the_way_on(checkpoint):
    assert refusal(checkpoint, settings(config(precision="bfloat16"))).startswith(
        "train.precision: the run 'default' has 'float32', you ask for 'bfloat16'. auto may be either, by what the "
        "processor or card is fast at. Go on with --params=train.precision=float32. Add run=precisionbfloat16 to "
    )


def test_a_setting_that_only_the_checkpoint_has_is_compared_too(checkpoint):
    old = checkpoint.model_copy(update={"settings": checkpoint.settings | {"train.momentum": 0.9}})
    assert refusal(old, settings(config())).startswith("train.momentum: the run 'default' has 0.9, you ask for none.")


def test_the_suggested_name_is_one_that_is_accepted(checkpoint):
    """However many settings differ."""
    many = config(batch_size=256, learning_rate=0.01, adam_beta1=0.85, adam_beta2=0.99, output_bias="data", seed=7)
    for asked in (
        settings(many),
        settings(config(), model_config(network="conv", conv={"channels": [2], "hidden_dim": 9})),
    ):
        (name,) = re.findall(r"Add run=(\S+) to --params", refusal(checkpoint, asked))
        assert Locations(run=name, data_root="data").run == name


def test_a_schedule_that_falls_to_the_end_cannot_go_on_beyond_it(splits):
    assert all(settings(config(schedule=fall))["train.epochs"] == 2 for fall in ("linear", "cosine"))
    assert "train.epochs" not in settings(config())
    last = run(splits, config(schedule="cosine"))[-1]
    asked = settings(config(schedule="cosine", epochs=3))
    assert refusal(last, asked).startswith("train.epochs: the run 'default' has 2, you ask for 3.")


@pytest.mark.parametrize(
    ("title", "said"), [("other images", "are other images."), ("some images", "are some images, but other ones.")]
)
def test_other_images_are_refused_by_name(checkpoint, title, said):
    card = CARD.model_copy(update={"title": title, "sha256": CARD.sha256 | {"train": "1" * 64}})
    message = refusal(checkpoint, settings(config()), card)
    assert message.startswith(f"data: the run 'default' was trained on some images; the images now {said}")
    assert "train.resume=false" in message
