import copy

import pytest
from omegaconf import OmegaConf

from vae_mnist.config.parameters import GROUPS, parameter_problems, unreadable

from ..helpers.project import ROOT

PLACES = {"data_root": "data", "run": "default"}


@pytest.fixture
def parameters():
    """The parameters of conf/base, as Kedro reads them."""
    merged = {"run": "default"}
    for group in GROUPS:
        merged |= OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "base" / f"parameters_{group}.yml"))
    return merged


def problems(parameters, **changes):
    changed = copy.deepcopy(parameters)
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            changed[group][name] = value
        else:
            changed[group] = value
    # as the command line gives them: names and folders count wherever the catalog reads them
    typed = {key: value for key, value in changes.items() if key in ("run", "data_root", "mnist_root")}
    return parameter_problems(changed, PLACES, typed)


def test_the_shipped_parameters_are_right(parameters):
    assert parameter_problems(parameters, PLACES) == []


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_is_frozen_and_closed(parameters, group):
    config = GROUPS[group](**parameters[group])
    field = next(iter(type(config).model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, field, None)
    with pytest.raises(ValueError, match="extra_forbidden"):
        GROUPS[group](**parameters[group], surprise=1)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"train__epoch": 3}, "train.epoch: no such parameter. Did you mean 'train.epochs'?"),
        ({"trian": {"epochs": 1}}, "trian: no such parameter. Did you mean 'train'?"),
        ({"rnu": "x"}, "rnu: no such parameter. Did you mean 'run'?"),
        ({"train__epochs": "three"}, "train.epochs: expected a valid integer, got 'three'."),
        ({"train__epochs": 0}, "train.epochs: expected greater than or equal to 1, got 0."),
        ({"train__epochs": True}, "train.epochs: expected a valid integer, got True."),
        ({"train__learning_rate": float("nan")}, "train.learning_rate: expected a finite number, got nan."),
        ({"train__resume": "no"}, "train.resume: expected a valid boolean, got 'no'."),
        (
            {"train__precision": "bflot16"},
            "train.precision: expected 'auto', 'float32', 'tf32', 'bfloat16' or 'float16', got 'bflot16'. "
            "Did you mean 'bfloat16'?",
        ),
        (
            {"train__device": "gpu"},
            "train.device: expected auto, cpu, cuda, cuda:1 (or another number) or mps, got 'gpu'.",
        ),
        (
            {"ingest__source": "smaple"},
            "ingest.source: expected 'auto', 'mnist' or 'sample', got 'smaple'. Did you mean 'sample'?",
        ),
        ({"train": 3}, "train: expected a group of parameters (epochs, "),
        ({"train__epochs": 10**400}, "train.epochs: expected less than or equal to 1000000, got 1000"),
        ({"train__seed": 2**63}, "train.seed: expected less than 9223372036854775808, got 9223372036854775808."),
        ({"train__epochs": 10**5000}, "train.epochs: expected less than or equal to 1000000, got a number of th"),
        ({"train__learning_rate": 10.5}, "train.learning_rate: expected less than or equal to 10, got 10.5."),
        ({"train__device": "cuda:128"}, "train.device: expected auto, cpu, cuda, cuda:1 (or another number) or mps,"),
        ({"train__device": "cuda:007"}, "train.device: expected auto, cpu, cuda, cuda:1 (or another number) or mps,"),
        ({"generate__checkpoint": "../x"}, "generate.checkpoint: expected 'newest' or a name such as vae_epoch_005,"),
        ({"ingest__source": "x" * 500}, f"ingest.source: expected 'auto', 'mnist' or 'sample', got '{'x' * 99}…."),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_by_name(parameters, change, line):
    (found,) = problems(parameters, **change)
    assert found.startswith(line)


def test_keys_that_are_no_text_are_refused_by_name(parameters):
    parameters["train"][5] = parameters[None] = 6
    assert [line.partition(":")[0] for line in problems(parameters)] == ["None", "train.5"]


def test_unknown_names_far_from_any_known_one_list_what_is_known(parameters):
    (found,) = problems(parameters, zzz=1)
    assert found.startswith("zzz: no such parameter. Known are: ingest, model,")


def test_all_problems_are_reported_at_once(parameters):
    found = problems(parameters, train__epochs=-1, model__latent_dim=0, objective__beta=-1.0)
    assert [line.partition(":")[0] for line in found] == ["model.latent_dim", "objective.beta", "train.epochs"]


def test_a_missing_group_and_a_missing_value_are_named(parameters):
    del parameters["model"], parameters["train"]["seed"], parameters["run"]
    assert problems(parameters) == [
        "model: missing. conf/base/parameters_model.yml gives it.",
        "run: missing. conf/base/parameters_run.yml gives it.",
        "train.seed: missing.",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "/abs",
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        ".hidden",
        "nul\x00",
        "x" * 65,
        "x" * 300,
        "a b",
        "x\n",
        1.5,
        True,
        None,
        "end.",
        "con",
        "PRN",
        "Aux.txt",
        "nul.tar.gz",
        "com1",
        "LPT9.x",
        "\uff0e\uff0e",
    ],
)
def test_a_run_name_cannot_leave_its_folder(parameters, name):
    (found,) = problems(parameters, run=name)
    assert found.startswith("run: expected")


@pytest.mark.parametrize(
    "name", ["default", "z16", "beta-4.0_long", 16, "x" * 64, "x", "console", "com10", "con-1", "a.nul"]
)
def test_plain_run_names_pass(parameters, name):
    assert problems(parameters, run=name) == []


@pytest.mark.parametrize("value", [1, 8, "auto"])
def test_threads_are_a_number_or_auto(parameters, value):
    assert problems(parameters, train__threads=value) == []
    assert problems(parameters, train__threads=-value if value != "auto" else "atuo")


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 256, "\u20ac" * 86, "a/" * 1600, "\ud800", None, 5, ["data"]])
def test_a_folder_that_no_system_can_make_is_refused(parameters, path):
    for key in ("data_root", "mnist_root"):
        (found,) = problems(parameters, **{key: path})
        assert found.startswith(f"{key}: expected ")


@pytest.mark.parametrize("path", ["data", "/scratch/vae", "../elsewhere", "a b", "x" * 255, "\u20ac" * 85, "a/" * 1500])
def test_any_other_folder_passes(parameters, path):
    for key in ("data_root", "mnist_root"):
        assert problems(parameters, **{key: path}) == []


def test_names_and_folders_are_checked_where_the_catalog_reads_them(parameters):
    assert parameter_problems(parameters, {"run": "default"}) == ["data_root: missing."]
    assert parameter_problems(parameters, PLACES | {"mnist_rot": "x"}) == [
        "mnist_rot: no such parameter. Did you mean 'mnist_root'?"
    ]
    assert parameter_problems(parameters, PLACES | {"data_root": None}) == [
        "data_root: expected a valid string, got None."
    ]
    assert parameter_problems(parameters | {"run": "b"}, PLACES | {"run": "a"}, {"run": "b"}) == []


@pytest.mark.parametrize(("key", "value"), [("run", "other"), ("data_root", "/x"), ("mnist_root", "/x")])
def test_names_and_folders_have_no_place_in_a_parameters_file(parameters, key, value):
    assert parameter_problems(parameters | {key: value}, PLACES) == [
        f"{key}: expected in globals.yml or --params, got {value!r} in a parameters file."
    ]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"a: 1\nb: [\n", 3, "did not find expected node content"),
        (b"a: 1\n\tb: 1\n", 2, "found a tab character that violates indentation"),
        (b"a: 1\na: 2\n", 2, "found duplicate key a"),
        (b"a: 1\nb: \xff\n", 2, "'utf-8' codec can't decode byte 0xff"),
        (b"a: 1\nb: \0\n", 2, "unacceptable character #x0000"),
        (b"a: 1\nb: " + b"9" * 5000 + b"\nc: 3\n", 2, "Exceeds the limit (4300 digits)"),
        (b"- a\n- b\n", 1, "expected keys with values, got a list."),
        (b"a: 1\n5: x\n", 2, "expected keys that are text, got 5."),
        (b"7\n", 1, "Invalid loaded object type: int"),
        (b"a: " + b"[" * 2000 + b"]" * 2000, 1, "maximum recursion depth exceeded"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path, content, line, words):
    path = tmp_path / "parameters_train.yml"
    path.write_bytes(content)
    (tmp_path / "parameters_model.yml").write_text("model: {}\n")
    assert unreadable(ValueError("?"), [tmp_path]).startswith(f"{path}, line {line}: {words}")


def test_files_that_can_be_read_leave_the_readers_own_words(tmp_path):
    (tmp_path / "globals.yml").write_text("run: ${nope}\n")
    assert unreadable(ValueError("nope:\n  not found"), [tmp_path]) == "nope: not found"
