"""How wrong parameters are told, with groups of these tests' own."""

import copy
import re
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field, model_validator

from vae_mnist.config.check import parameter_problems, problems_in, unreadable
from vae_mnist.config.types import ParameterGroup

PLACES = {"data_root": "data", "run": "default"}


def even(value):
    if value % 2:
        raise ValueError("an even number")
    return value


class Mlp(ParameterGroup):
    hidden_dim: Annotated[int, Field(ge=1), AfterValidator(even)]


class Conv(ParameterGroup):
    channels: list[Annotated[int, Field(ge=1)]]


class Flow(ParameterGroup):
    couplings: int
    conv: Conv  # two levels below the model


class Model(ParameterGroup):
    network: Literal["mlp", "conv"]
    latent_dim: int
    threads: Literal["auto"] | int
    sizes: Literal["auto"] | list[int]
    mlp: Mlp
    flow: Flow

    @model_validator(mode="after")
    def _even(self):
        if self.latent_dim > self.mlp.hidden_dim:
            raise ValueError("model.latent_dim: expected at most model.mlp.hidden_dim.")
        return self


class Whole(ParameterGroup):
    model: Model


RIGHT = {
    "network": "mlp",
    "latent_dim": 8,
    "threads": "auto",
    "sizes": [1, 2],
    "mlp": {"hidden_dim": 16},
    "flow": {"couplings": 4, "conv": {"channels": [32, 64]}},
}
GONE = object()


def changed(path, value):
    """The right values but for one."""
    values = copy.deepcopy(RIGHT)
    *groups, last = path.split(".") if path else [""]
    inner = values
    for group in groups:
        inner = inner[group]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return values


def problems(model):
    return problems_in({"model": model}, Whole)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("network", "cnv", "model.network: expected 'mlp' or 'conv', got 'cnv'. Did you mean 'conv'?"),
        ("network", "x" * 500, f"model.network: expected 'mlp' or 'conv', got '{'x' * 99}…."),
        ("flow.couplings", "four", "model.flow.couplings: expected a valid integer, got 'four'."),
        ("mlp.hidden_dim", 17, "model.mlp.hidden_dim: expected an even number, got 17."),
        ("flow.conv.channels", [32, "x"], "model.flow.conv.channels.1: expected a valid integer, got 'x'."),
        ("flow.conv.channels", 32, "model.flow.conv.channels: expected a valid list, got 32."),
        ("flow.couplings", GONE, "model.flow.couplings: missing. conf/base/parameters_model.yml gives it."),
        ("flow", GONE, "model.flow: missing. conf/base/parameters_model.yml gives it."),
        ("flow.conv", 3, "model.flow.conv: expected a group of parameters (channels), got 3."),
        ("mlp", None, "model.mlp: expected a group of parameters (hidden_dim), got None."),
        ("threads", "atuo", "model.threads: expected 'auto' or a valid integer, got 'atuo'. Did you mean 'auto'?"),
        ("sizes", 3, "model.sizes: expected 'auto' or a valid list, got 3."),
        ("latnet_dim", 8, "model.latnet_dim: no such parameter. Did you mean 'model.latent_dim'?"),
        ("mlp.hiden_dim", 8, "model.mlp.hiden_dim: no such parameter. Did you mean 'model.mlp.hidden_dim'?"),
        ("flow.conv.chanels", 8, "model.flow.conv.chanels: no such parameter. "
         "Did you mean 'model.flow.conv.channels'?"),
        ("hidden_dim", 8, "model.hidden_dim: no such parameter. Did you mean 'model.mlp.hidden_dim'?"),
        ("mlp.zzz", 8, "model.mlp.zzz: no such parameter. Known are: model.mlp.hidden_dim."),
        ("mlp.5", 8, "model.mlp.5: no such parameter. Known are: model.mlp.hidden_dim."),
        ("", 8, "model.: no such parameter. Known are: model.network, model.latent_dim, model.threads, model.sizes, "
         "model.mlp, model.flow."),
        ("latent_dim", 17, "model.latent_dim: expected at most model.mlp.hidden_dim."),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named_by_its_whole_path(path, value, line):
    assert problems(changed(path, value)) == [line]


def test_a_number_too_long_to_write_out_is_described():
    (line,) = problems(changed("mlp.hidden_dim", -(10**5000)))
    assert line == "model.mlp.hidden_dim: expected greater than or equal to 1, got a number of thousands of digits."


def test_keys_that_are_no_text_are_named():
    values = changed("latent_dim", 8)
    values["mlp"] |= {5: 1, None: 1, True: 1}
    paths = [line.partition(":")[0] for line in problems(values)]
    assert paths == ["model.mlp.5", "model.mlp.None", "model.mlp.True"]


def test_a_wrong_item_of_a_list_that_may_be_a_word_names_the_item():
    lines = problems(changed("sizes", [1, "x"]))
    assert "model.sizes.1: expected a valid integer, got 'x'." in lines


def test_all_problems_are_reported_at_once_in_order(parameters):
    parameters["train"] |= {"epochs": -1, "epoch": 3}
    parameters["objective"]["beta"] = -1.0
    del parameters["train"]["seed"], parameters["model"], parameters["run"]
    assert [line.partition(": ")[0] for line in parameter_problems(parameters, PLACES)] == [
        "model", "objective.beta", "run", "train.epoch", "train.epochs", "train.seed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "places", "line"),
    [
        ({"trian": 1}, {}, "trian: no such parameter. Did you mean 'train'?"),
        ({"rnu": 1}, {}, "rnu: no such parameter. Did you mean 'run'?"),
        ({"epochs": 1}, {}, "epochs: no such parameter. Did you mean 'train.epochs'?"),
        ({"zzz": 1}, {}, "zzz: no such parameter. Known are: run, data_root, mnist_root, ingest, model, "),
        ({None: 1}, {}, "None: no such parameter."),
        ({"model": GONE}, {}, "model: missing. conf/base/parameters_model.yml gives it."),
        ({"data_root": GONE}, {"data_root": GONE}, "data_root: missing. conf/base/globals.yml gives it."),
        ({}, {"mnist_rot": "x"}, "mnist_rot: no such parameter. Did you mean 'mnist_root'?"),
        ({}, {"train": {}}, "train: expected in a parameters file or --params, got {} in globals.yml."),
        ({"run": "other"}, {}, "run: expected in globals.yml or --params, got 'other' in a parameters file."),
        ({"data_root": "/x"}, {}, "data_root: expected in globals.yml or --params, got '/x' in a parameters file."),
        ({"mnist_root": "/x"}, {}, "mnist_root: expected in globals.yml or --params, got '/x' in a parameters file."),
    ],
)
def test_a_key_of_the_top_level_is_refused_where_nothing_reads_it_and_missed_where_it_is_needed(
    parameters, given, places, line
):
    """Kedro would pass over it."""
    files, places = (
        {key: value for key, value in values.items() if value is not GONE}
        for values in (parameters | given, PLACES | places)
    )
    (found,) = parameter_problems(files, places)
    assert found.startswith(line)


def test_names_of_the_command_line_are_checked_in_place_of_those_of_the_files(parameters):
    assert parameter_problems(parameters | {"run": "b"}, PLACES | {"run": "a"}, {"run": "b"}) == []
    (line,) = parameter_problems(parameters | {"run": "../b"}, PLACES, {"run": "../b"})
    assert line.startswith("run: expected a name of at most 64 letters")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [\n", ", line 3: did not find expected node content"),
        (b"a: 1\n\tb: 1\n", ", line 2: found a tab character that violates indentation"),
        (b"a: 1\na: 2\n", ", line 2: found duplicate key a"),
        (b"a: 1\nb: \xff\n", ": 'utf-8' codec can't decode byte 0xff"),
        (b"a: 1\nb: \0\n", ": unacceptable character #x0000"),
        (b"a: 1\nb: " + b"9" * 5000 + b"\nc: 3\n", ": Exceeds the limit (4300 digits)"),
        (b"- a\n- b\n", ": expected keys with values, got a list."),
        (b"a: 1\n5: x\n", ": expected keys that are text, got 5."),
        (b"7\n", ": Invalid loaded object type: int"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line_where_the_parser_knows_it(tmp_path, content, words):
    path = tmp_path / "parameters_train.yml"
    path.write_bytes(content)
    (tmp_path / "parameters_model.yml").write_text("model: {}\n")
    assert unreadable(ValueError("?"), [tmp_path]).startswith(f"{path}{words}")


def test_a_file_of_too_many_levels_is_named(tmp_path):
    """PyYAML stops at a limit of its own since 6.0.4, at Python's before."""
    path = tmp_path / "parameters_train.yml"
    path.write_bytes(b"a: " + b"[" * 2000 + b"]" * 2000)
    message = unreadable(ValueError("?"), [tmp_path])
    assert message.startswith(str(path))
    assert re.search("maximum (nesting|recursion) depth", message)


def test_files_that_can_be_read_leave_the_readers_own_words(tmp_path):
    (tmp_path / "globals.yml").write_text("run: ${nope}\n")
    assert unreadable(ValueError("nope:\n  not found"), [tmp_path]) == "nope: not found"
    assert unreadable(TypeError("types"), [tmp_path], {"train": [1]}) == "types (--params gives train)"
