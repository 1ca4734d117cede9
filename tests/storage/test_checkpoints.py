"""Files of checkpoints, and what their keys may hold."""

import inspect
import math
from collections import OrderedDict

import pytest
import torch
from pydantic import ValidationError

from vae_mnist.errors import CheckpointError
from vae_mnist.storage.checkpoints import (
    Checkpoint,
    from_bytes,
    outdated,
    read_checkpoint,
    to_bytes,
    weights_digest,
    write_checkpoint,
)

from ..helpers import training
from ..helpers.checkpoints import changed, contents, make_checkpoint, sealed, torch_saved
from ..helpers.compare import same


def refusal(content):
    """The error message for a file of any content."""
    with pytest.raises(CheckpointError) as caught:
        from_bytes(sealed(torch_saved(content)))
    assert type(caught.value) is CheckpointError
    return str(caught.value)


def test_a_checkpoint_is_one_plain_dict_that_torch_reads_with_its_safe_default(tmp_path):
    assert inspect.signature(torch.load).parameters["weights_only"].default in (None, True)
    write_checkpoint(make_checkpoint(), tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt")
    assert type(content) is dict
    assert list(content) == list(contents()) == list(Checkpoint.model_fields)
    assert same(content, contents())


@pytest.mark.parametrize("epoch", [1, 30])
def test_a_checkpoint_comes_back_bit_for_bit_from_a_file_and_from_bytes(tmp_path, epoch):
    checkpoint = make_checkpoint(epoch)
    write_checkpoint(checkpoint, tmp_path / "c.pt")
    assert same(read_checkpoint(tmp_path / "c.pt"), checkpoint)
    assert same(from_bytes(to_bytes(checkpoint)), checkpoint)
    assert (tmp_path / "c.pt").read_bytes() == to_bytes(checkpoint)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(1.5), torch.zeros(0), torch.zeros(2, 0, 3), torch.zeros(1, 2, 3, 4, 5), torch.ones(2, 3).t(),
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.ones(3).bool(), torch.ones(3).half(),
        torch.ones(3).bfloat16(), torch.ones(3).double(), torch.ones(3).char(), torch.ones(3).short(),
        torch.ones(3).int(),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)} {tensor.dtype}",
)  # fmt: skip
def test_tensors_of_any_shape_layout_and_type_come_back(tensor):
    found = from_bytes(to_bytes(make_checkpoint(model_state={"x": tensor}))).model_state["x"]
    assert same(found, tensor)
    assert found.stride() == tensor.stride()


def test_a_state_dict_and_tuples_are_stored_as_plain_dicts_and_lists():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], betas=(0.8, 0.9))
    state = OrderedDict(x=torch.zeros(2))
    checkpoint = make_checkpoint(model_state=state, optimizer_state=optimizer.state_dict())
    assert type(checkpoint.model_state) is dict
    assert checkpoint.optimizer_state["param_groups"][0]["betas"] == [0.8, 0.9]
    assert same(from_bytes(to_bytes(checkpoint)), checkpoint)


@pytest.mark.parametrize("key", contents())
def test_each_key_must_be_there_and_of_its_type(key):
    others = [None, 1, True, 1.5, "text", [], {}, torch.zeros(1)]
    wrong = [other for other in others if type(other) is not type(contents()[key])]
    for content in (changed(contents(), key, ...), *(changed(contents(), key, other) for other in wrong)):
        assert key in refusal(content)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("format_version", 3, "expected format_version 4, found 3: an older vae_mnist wrote it: train the model again"),
        ("format_version", 5, "expected format_version 4, found 5: a newer vae_mnist wrote it: update vae_mnist"),
        ("format_version", True, "expected a dict with format_version 4"),
        ("format_version", 4.0, "expected a dict with format_version 4"),
        ("hidden_dim", 16, "expected the keys format_version, epoch, .*, found 'hidden_dim'"),
        ("epoch", 0, "epoch: expected greater than or equal to 1, found 0"),
        ("epoch", 2, "a row of history for each of 2 epochs, found 3"),
        ("epoch", 10**15, "a row of history for each of"),
        ("latent_dim", 0, "latent_dim: expected greater than or equal to 1, found 0"),
        ("latent_dim", 10**40, "latent_dim: expected less than or equal to"),
        ("image_shape", [1, 28], "image_shape: expected at least 3 items"),
        ("image_shape", [1, 28, 28, 1], "image_shape: expected at most 3 items"),
        ("image_shape", [0, 28, 28], "image_shape.0: expected greater than or equal to 1, found 0"),
        ("image_shape", [1, 28, 65_537], "image_shape.2: expected less than or equal to 65536, found 65537"),
        ("model/mlp/hidden_dim", [[[1]]], r"model: expected finite numbers or text, found \[1\]"),
        ("model/mlp/hidden_dim", {"a": {"b": {}}}, "model: expected finite numbers or text, found {}"),
        ("model/mlp/hidden_dim", torch.zeros(2), r"model: expected .* found \(2,\) float32"),
        ("model/3", 1, "model: expected finite numbers, text, dicts or lists, found {"),
        ("model/beta", 2**63, "model: expected finite numbers"),
        ("model_state/3", torch.zeros(1), "model_state: expected a tensor as 3"),
        ("model_state/decoder.bias", [1.0] * 3, r"model_state: expected a tensor as 'decoder.bias', found \[1.0, "),
        ("model_state/decoder.bias", torch.full((8,), math.nan), "expected finite numbers in 'decoder.bias'"),
        ("model_state/decoder.bias", torch.full((8,), -math.inf).half(), "expected finite numbers in 'decoder.bias'"),
        ("model_state/decoder.bias", torch.zeros(1).expand(9), "tensors that share no memory, of at most .* bytes"),
        ("trained_state/decoder.bias", torch.full((3,), math.nan), "expected finite numbers in 'decoder.bias'"),
        ("trained_state/decoder.bias", 5.0, "trained_state: expected a tensor as 'decoder.bias', found 5.0"),
        ("objective_state/running_mean", torch.full((3,), math.inf), "expected finite numbers in 'running_mean'"),
        ("optimizer_state/state/0/exp_avg_sq", torch.full((3, 2), math.inf), "expected finite numbers in 'exp_avg_sq'"),
        ("optimizer_state/more", 1, "optimizer_state: expected the keys state and param_groups"),
        ("optimizer_state/state", [1], "optimizer_state: expected state with numbers of parameters as keys"),
        ("optimizer_state/state/x", {}, "optimizer_state: expected state with numbers of parameters as keys"),
        ("optimizer_state/state/0", 5, "optimizer_state: expected a dict of tensors, found 5"),
        ("optimizer_state/state/0/step", 5.0, "optimizer_state: expected a tensor as 'step', found 5.0"),
        ("optimizer_state/param_groups", 5, "optimizer_state: expected param_groups as a list of dicts"),
        ("optimizer_state/param_groups", [1], "optimizer_state: expected param_groups as a list of dicts"),
        ("optimizer_state/param_groups/0/lr", math.inf, "optimizer_state: expected finite numbers.*found inf"),
        ("scaler_state/scale", math.nan, "scaler_state: expected finite numbers.*found nan"),
        ("rng_state", torch.zeros(5056), r"expected rng_state as uint8, found \(5056,\) float32"),
        ("history/1/epoch", 1, "history: expected a row of epoch 2 with epoch, learning_rate, "),
        ("history/1/test_loss", math.nan, "history: expected finite numbers"),
        ("history/1/test_loss", "low", "history: expected numbers in the row of epoch 2"),
        ("history/1/test_loss", True, "history: expected numbers in the row of epoch 2"),
        ("history/2/seconds", ..., "history: expected a row of epoch 3 with .*seconds"),
        ("history/2", 5, "history: expected a row of epoch 3 with .*found 5"),
        ("settings/train.seed", torch.zeros(1), r"settings: expected finite numbers, text, dicts or lists, found "),
        ("dataset/more", 5, "dataset: expected the keys name, title, .*found 'more'"),
        ("versions/torch", torch.zeros(3), r"versions.torch: expected a valid string, found \(3,\) float32"),
        ("versions", {f"v{n}": "1" for n in range(10_001)}, "versions: expected at most 10,000 entries, found 10,001"),
    ],
)  # fmt: skip
def test_contents_that_training_does_not_write_are_refused_by_name(key, value, text):
    content = changed(contents(), key, value)
    with pytest.raises(CheckpointError, match=text):
        from_bytes(sealed(torch_saved(content)))


def test_tensors_that_share_memory_are_refused_and_copies_of_them_are_not():
    weight = torch.ones(10)
    with pytest.raises(ValidationError, match=r"tensors that share no memory, of at most .* bytes, found"):
        make_checkpoint(model_state={"encoder.weight": weight, "decoder.weight": weight})
    tied = make_checkpoint(model_state={"encoder.weight": weight, "decoder.weight": weight.clone()})
    assert same(from_bytes(to_bytes(tied)), tied)


def test_integers_of_history_stay_integers():
    (row,) = from_bytes(to_bytes(make_checkpoint(1))).history
    assert {key: type(value) for key, value in row.items()} == dict.fromkeys(row, float) | {"epoch": int}


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {}])
def test_what_is_no_checkpoint_is_called_so(content):
    assert "expected a dict with format_version 4, found " in refusal(content)


def test_an_error_names_the_file(tmp_path):
    (tmp_path / "c.pt").write_bytes(sealed(torch_saved(changed(contents(), "epoch", 0))))
    with pytest.raises(
        CheckpointError, match=r"c\.pt: epoch: expected .* was not written by this project: train again"
    ):
        read_checkpoint(tmp_path / "c.pt")


def test_an_epoch_under_another_epochs_name_is_refused_and_under_a_name_of_ones_own_read(tmp_path):
    write_checkpoint(make_checkpoint(2), tmp_path / "vae_epoch_007.pt")
    with pytest.raises(CheckpointError, match=r"expected epoch 7 as its name says, found epoch 2: it was renamed"):
        read_checkpoint(tmp_path / "vae_epoch_007.pt")
    (tmp_path / "vae_epoch_007.pt").rename(tmp_path / "best.pt")
    assert read_checkpoint(tmp_path / "best.pt").epoch == 2


@pytest.mark.parametrize(
    ("epochs", "keep", "expected"),
    [
        ([1, 2, 3], "all", []), ([], "all", []),
        ([1, 2, 3], 1, [1, 2]), ([3, 1, 2], 2, [1]), ([1, 2, 3], 3, []), ([1, 2, 3], 9, []), ([], 1, []),
        (range(1, 24), "every-10", [*range(1, 10), *range(11, 20), 21, 22]),
        ([5, 10, 12], "every-5", []), ([5, 10, 12, 13], "every-5", [12]), ([7], "every-2", []), ([], "every-2", []),
        ([1, 2, 3], "every-1", []),
    ],
)  # fmt: skip
def test_outdated_epochs_never_include_the_newest(epochs, keep, expected):
    assert outdated(epochs, keep) == expected


@pytest.mark.parametrize("keep", [0, -1, True, 1.5, "some", "every-0", "every-", "every-1.5", None])
def test_another_word_for_what_to_keep_is_no_parameter(keep):
    with pytest.raises(ValidationError, match="keep"):
        training.config(keep=keep)


def test_a_digest_of_weights_changes_with_name_type_shape_and_bits_and_not_with_layout_or_order():
    state = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.tensor(1.0),
        "c": torch.ones(2).bfloat16(),
        "d": torch.zeros(0),
    }
    digest = weights_digest(state)
    assert digest.shape == (32,)
    assert digest.dtype == torch.uint8
    equal = [dict(reversed(state.items())), state | {"a": state["a"].t().contiguous().t()}, OrderedDict(state)]
    assert all(torch.equal(weights_digest(other), digest) for other in equal)
    minus_zero = torch.tensor([[-0.0, 1, 2], [3, 4, 5]])
    different = [
        {("e" if name == "b" else name): tensor for name, tensor in state.items()},
        state | {"a": state["a"].view(3, 2)},
        state | {"a": state["a"].view(torch.int32)},
        state | {"a": minus_zero},
        state | {"d": torch.zeros(0, 1)},
    ]
    digests = {tuple(weights_digest(other).tolist()) for other in different}
    assert len(digests | {tuple(digest.tolist())}) == 1 + len(different)
