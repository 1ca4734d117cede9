"""How wrong parameters are told, with groups of these tests' own."""

import copy
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field, model_validator

from vae_mnist.config.check import group_problems, parameter_problems, unreadable
from vae_mnist.config.parameters import ParameterGroup

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


def test_right_values_pass():
    assert group_problems("model", Model, RIGHT) == []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("network", "cnv", "model.network: expected 'mlp' or 'conv', got 'cnv'. Did you mean 'conv'?"),
        ("network", "x" * 500, f"model.network: expected 'mlp' or 'conv', got '{'x' * 99}…."),
        ("flow.couplings", "four", "model.flow.couplings: expected a valid integer, got 'four'."),
        ("mlp.hidden_dim", 17, "model.mlp.hidden_dim: expected an even number, got 17."),
        ("flow.conv.channels", [32, "x"], "model.flow.conv.channels.1: expected a valid integer, got 'x'."),
        ("flow.conv.channels", 32, "model.flow.conv.channels: expected a valid list, got 32."),
        ("flow.couplings", GONE, "model.flow.couplings: missing."),
        ("flow", GONE, "model.flow: missing."),
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
    assert group_problems("model", Model, changed(path, value)) == [line]


def test_a_number_too_long_to_write_out_is_described():
    (line,) = group_problems("model", Model, changed("mlp.hidden_dim", -(10**5000)))
    assert line == "model.mlp.hidden_dim: expected greater than or equal to 1, got a number of thousands of digits."


def test_keys_that_are_no_text_are_named():
    values = changed("latent_dim", 8)
    values["mlp"] |= {5: 1, None: 1, True: 1}
    paths = [line.partition(":")[0] for line in group_problems("model", Model, values)]
    assert paths == ["model.mlp.5", "model.mlp.None", "model.mlp.True"]


def test_a_wrong_item_of_a_list_that_may_be_a_word_names_the_item():
    lines = group_problems("model", Model, changed("sizes", [1, "x"]))
    assert "model.sizes.1: expected a valid integer, got 'x'." in lines


def test_what_is_no_group_at_all_is_named():
    (line,) = group_problems("model", Model, 3)
    assert line == ("model: expected a group of parameters (network, latent_dim, threads, sizes, mlp, flow), got 3.")


def test_all_problems_are_reported_at_once_in_order(parameters):
    parameters["train"] |= {"epochs": -1, "epoch": 3}
    parameters["objective"]["beta"] = -1.0
    del parameters["train"]["seed"], parameters["model"], parameters["run"]
    assert [line.partition(": ")[0] for line in parameter_problems(parameters, PLACES)] == [
        "model", "objective.beta", "run", "train.epoch", "train.epochs", "train.seed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("trian", "trian: no such parameter. Did you mean 'train'?"),
        ("rnu", "rnu: no such parameter. Did you mean 'run'?"),
        ("epochs", "epochs: no such parameter. Did you mean 'train.epochs'?"),
        ("zzz", "zzz: no such parameter. Known are: ingest, model, "),
        (None, "None: no such parameter."),
    ],
)
def test_an_unknown_top_level_key_is_refused(parameters, key, line):
    """Kedro would pass over it."""
    (found,) = parameter_problems(parameters | {key: 1}, PLACES)
    assert found.startswith(line)


def test_a_missing_group_names_its_file(parameters):
    del parameters["model"]
    assert parameter_problems(parameters, PLACES) == ["model: missing. conf/base/parameters_model.yml gives it."]


def test_names_and_folders_are_checked_where_the_catalog_reads_them(parameters):
    assert parameter_problems(parameters, {"run": "default"}) == ["data_root: missing."]
    assert parameter_problems(parameters, PLACES | {"mnist_rot": "x"}) == [
        "mnist_rot: no such parameter. Did you mean 'mnist_root'?"
    ]
    assert parameter_problems(parameters | {"run": "b"}, PLACES | {"run": "a"}, {"run": "b"}) == []
    assert parameter_problems(parameters | {"run": "../b"}, PLACES, {"run": "../b"})[0].startswith("run: expected")


@pytest.mark.parametrize(("key", "value"), [("run", "other"), ("data_root", "/x"), ("mnist_root", "/x")])
def test_names_and_folders_have_no_place_in_a_parameters_file(parameters, key, value):
    assert parameter_problems(parameters | {key: value}, PLACES) == [
        f"{key}: expected in globals.yml or --params, got {value!r} in a parameters file."
    ]


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
        (b"a: " + b"[" * 2000 + b"]" * 2000, ": maximum recursion depth exceeded"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line_where_the_parser_knows_it(tmp_path, content, words):
    path = tmp_path / "parameters_train.yml"
    path.write_bytes(content)
    (tmp_path / "parameters_model.yml").write_text("model: {}\n")
    assert unreadable(ValueError("?"), [tmp_path]).startswith(f"{path}{words}")


def test_files_that_can_be_read_leave_the_readers_own_words(tmp_path):
    (tmp_path / "globals.yml").write_text("run: ${nope}\n")
    assert unreadable(ValueError("nope:\n  not found"), [tmp_path]) == "nope: not found"
    assert unreadable(TypeError("types"), [tmp_path], {"train": [1]}) == "types (--params gives train)"
