import copy

import pytest
from omegaconf import OmegaConf

from vae_mnist.config import GROUPS, parameter_problems

from .conftest import ROOT


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
    return parameter_problems(changed)


def test_the_shipped_parameters_are_right(parameters):
    assert parameter_problems(parameters) == []


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
            "train.precision: expected 'auto', 'float32', 'bfloat16' or 'float16', got 'bflot16'. "
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
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_by_name(parameters, change, line):
    (found,) = problems(parameters, **change)
    assert found.startswith(line)


def test_unknown_names_far_from_any_known_one_list_what_is_known(parameters):
    (found,) = problems(parameters, zzz=1)
    assert found.startswith("zzz: no such parameter. Known are: ingest, model,")


def test_all_problems_are_reported_at_once(parameters):
    found = problems(parameters, train__epochs=-1, model__latent_dim=0, objective__beta=-1.0)
    assert [line.partition(":")[0] for line in found] == ["model.latent_dim", "objective.beta", "train.epochs"]


def test_a_missing_group_and_a_missing_value_are_named(parameters):
    del parameters["model"], parameters["train"]["seed"]
    assert problems(parameters) == [
        "model: missing. conf/base/parameters_model.yml gives it.",
        "train.seed: missing.",
    ]


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b", "", ".hidden", "nul\x00", "x" * 65, "a b", "x\n", 1.5, True])
def test_a_run_name_cannot_leave_its_folder(parameters, name):
    (found,) = problems(parameters, run=name)
    assert found.startswith("run: expected")


@pytest.mark.parametrize("name", ["default", "z16", "beta-4.0_long", 16, "x" * 64])
def test_plain_run_names_pass(parameters, name):
    assert problems(parameters, run=name) == []


@pytest.mark.parametrize("value", [1, 8, "auto"])
def test_threads_are_a_number_or_auto(parameters, value):
    assert problems(parameters, train__threads=value) == []
    assert problems(parameters, train__threads=-value if value != "auto" else "atuo")
