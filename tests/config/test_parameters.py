"""Types and ranges of the real parameters."""

import copy
import re

import pytest
import yaml

from vae_mnist.config.check import problems_in
from vae_mnist.config.parameters import Parameters
from vae_mnist.config.types import ParameterGroup


def problems(parameters, key, value):
    group, _, name = key.rpartition(".")
    return problems_in(parameters | ({group: parameters[group] | {name: value}} if group else {name: value}))


def test_the_shipped_parameters_are_right_and_frozen(parameters):
    whole = Parameters(**parameters)
    assert all(isinstance(group, ParameterGroup) for name, group in whole if not isinstance(group, str))
    with pytest.raises(ValueError, match="frozen"):
        whole.train.epochs = 3


SOURCES = "'auto', 'mnist', 'sample', 'fashion', 'kmnist', 'qmnist', 'emnist', 'sprites', 'folder' or 'npz'"
DEVICES = "auto, cpu, cuda, cuda:1 (or another number) or mps"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.epochs", "three", "a valid integer"),
        ("train.epochs", 0, "greater than or equal to 1"),
        ("train.epochs", True, "a valid integer"),
        ("train.learning_rate", float("nan"), "a finite number"),
        ("train.learning_rate", 10.5, "less than or equal to 10"),
        ("train.weight_decay", -0.1, "greater than or equal to 0"),
        ("train.clip_norm", 0, "'none' or greater than 0"),
        ("train.clip_norm", None, "'none' or a valid number"),
        ("train.average", 1.0, "'none' or less than 1"),
        ("train.binarisation", "random", "'none', 'dynamic' or 'static'"),
        ("train.resume", "no", "a valid boolean"),
        ("train.precision", "half", "'auto', 'float32', 'tf32', 'bfloat16' or 'float16'"),
        ("train.device", "gpu", DEVICES),
        ("train.device", "cuda:128", DEVICES),
        ("train.device", "cuda:007", DEVICES),
        ("train.threads", 0, "'auto' or greater than or equal to 1"),
        ("train.seed", 2**63, "less than 9223372036854775808"),
        ("ingest.source", "x", SOURCES),
        ("ingest.image_size", 48, "28, 32, 64 or 128"),
        ("ingest.image_size", "64", "28, 32, 64 or 128"),
        ("ingest.channels", 2, "1 or 3"),
        ("ingest.channels", True, "a number"),
        ("objective.beta", -1.0, "greater than or equal to 0"),
    ],
)
def test_a_value_out_of_range_is_refused(parameters, key, value, expected):
    assert problems(parameters, key, value) == [f"{key}: expected {expected}, got {value!r}."]


@pytest.mark.parametrize("likelihood", ["continuous_bernoulli", "gaussian", "discretised_logistic"])
def test_binarised_pixels_with_a_likelihood_of_grey_values_are_refused(parameters, likelihood):
    model, evaluate = parameters["model"] | {"likelihood": likelihood}, parameters["evaluate"]
    assert problems_in(parameters | {"model": model}) == []
    assert problems_in(parameters | {"evaluate": evaluate | {"binarisation": "dynamic"}}) == []
    assert problems_in(parameters | {"model": model, "evaluate": evaluate | {"binarisation": "dynamic"}}) == [
        f"evaluate.binarisation: expected auto or none with model.likelihood={likelihood}, got dynamic. "
        "That likelihood is one of grey values. Nearest: evaluate.binarisation=auto."
    ]


def together(parameters, **changes):
    """Problems of parameters with changes; a double underscore stands for the dot."""
    values = copy.deepcopy(parameters)
    for path, value in changes.items():
        *groups, last = path.split("__")
        inner = values
        for group in groups:
            inner = inner[group]
        inner[last] = value
    return problems_in(values)


TC, FACTOR, DREG = ({"objective__name": name} for name in ("total_correlation", "factor", "dreg"))
FLOW = {"model__prior": "flow"}
CAPACITY = {"objective__elbo__capacity_gamma": 9.0}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (DREG | {"objective__beta": 2.0}, "objective.beta: expected 1.0 with objective.name=dreg, got 2. "),
        (FACTOR | {"objective__beta": 2.0}, "objective.beta: expected 1.0 with objective.name=factor, got 2. "),
        (CAPACITY | {"objective__beta": 2.0}, "objective: expected beta=1.0, elbo.kl_warmup_steps=0 and elbo.free_bits="
         "0.0 with elbo.capacity_gamma=9, got 2, 0 and 0. "),
        (CAPACITY | {"objective__elbo__free_bits": 0.5}, "objective: expected beta=1.0, "),
        (CAPACITY | {"objective__elbo__kl_warmup_steps": 5}, "objective: expected beta=1.0, "),
        (CAPACITY | FLOW, "objective.elbo.capacity_gamma: expected 0 with model.prior=flow, got 9. "),
        (FLOW | {"objective__elbo__free_bits": 0.5}, "objective.elbo.free_bits: expected 0 with model.prior=flow"),
        (TC | FLOW, "model.prior: expected normal with objective.name=total_correlation, got flow. "),
        (FLOW | {"evaluate__kinds__decomposition": True}, "evaluate.kinds.decomposition: expected false with model."
         "network=mlp and model.prior=flow, got true. "),
        (FLOW | {"model__latent_dim": 1}, "model.latent_dim: expected at least 2 with model.prior=flow, got 1. "),
        (TC | {"train__batch_size": 1}, "train.batch_size: expected at least 2 with objective.name=total_correlation"),
        ({"model__likelihood": "autoregressive"}, "train.binarisation: expected dynamic or static with model.likeli"
         "hood=autoregressive, got none. "),
        ({"model__likelihood": "autoregressive", "train__binarisation": "static", "evaluate__binarisation": "none"},
         "evaluate.binarisation: expected auto or dynamic with model.likelihood=autoregressive, got none. "),
    ],
    ids=str,
)  # fmt: skip
def test_choices_that_do_not_go_together_are_refused_with_the_nearest_that_do(parameters, changes, line):
    (found,) = together(parameters, **changes)
    assert found.startswith(line)
    key, value = re.search(r"Nearest: ([a-z._]+)=([\w.]*\w)", found).groups()
    assert together(parameters, **(changes | {key.replace(".", "__"): yaml.safe_load(value)})) == []


def test_rules_about_different_choices_are_checked_at_once(parameters):
    changes = FACTOR | {"model__network": "ladder", "model__likelihood": "gaussian", "train__binarisation": "dynamic"}
    assert [line.partition(":")[0] for line in together(parameters, **changes)] == [
        "train.binarisation", "objective.name",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        CAPACITY, DREG | FLOW, FACTOR | FLOW, TC | {"objective__beta": 6.0}, {"objective__elbo__free_bits": 0.5},
        FLOW | {"objective__elbo__kl_warmup_steps": 5}, DREG | {"train__compile": True},
        # what is not chosen is not looked at
        CAPACITY | {"objective__name": "iwae"} | FLOW,
        FLOW | {"objective__name": "iwae", "objective__elbo__free_bits": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_choices_that_go_together_pass(parameters, changes):
    assert together(parameters, **changes) == []


@pytest.mark.parametrize(("name", "nearest"), [("total_correlation", "elbo"), ("factor", "elbo"), ("dreg", "iwae")])
def test_an_objective_for_one_group_of_latents_is_refused_with_several(parameters, monkeypatch, name, nearest):
    monkeypatch.setattr("vae_mnist.config.parameters.SEVERAL_GROUPS", frozenset({"conv"}))
    several = {"model__network": "conv"}
    (found,) = together(parameters, **several, objective__name=name)
    assert found.startswith(f"objective.name: expected elbo or iwae with model.network=conv, got {name}, ")
    assert f"Nearest: objective.name={nearest}" in found
    assert together(parameters, **several, objective__name="iwae") == []
    (found,) = together(parameters, **several, evaluate__kinds__decomposition=True)
    assert found.startswith("evaluate.kinds.decomposition: expected false with model.network=conv and model.prior=nor")


RUNS = ["default", "z16", "beta-4.0_long", 16, "x" * 64, "x", "console", "com10", "con-1", "a.nul", "comparison2"]
NO_RUNS = [
    "../up", "/abs", "a/b", "a\\b", "..", ".", "", ".hidden", "nul\x00", "x" * 65, "x" * 300, "a b", "x\n", "\n", 1.5,
    True, None, "end.", "con", "PRN", "Aux.txt", "nul.tar.gz", "NUL.txt", "com1", "LPT9.x", "\uff0e\uff0e",
    "comparison", "Comparison",
]  # fmt: skip
FOLDERS = ["data", "/scratch/vae", "../elsewhere", "a b", "x" * 255, "\u20ac" * 85, "a/" * 1500]
NO_FOLDERS = ["", "a\0b", "x" * 256, "\u20ac" * 86, "a/" * 1600, "\ud800", None, 5, ["data"]]
CHECKPOINTS = ["newest", "vae_epoch_005"]
NO_CHECKPOINTS = [
    "../default/vae_epoch_001", "/etc/passwd", "a\0b", "x" * 300, "vae_epoch_001.pt", "con", "",
    "vae_epoch_\u0661\u0661\u0661",
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("run", RUNS, NO_RUNS),
        ("data_root", FOLDERS, NO_FOLDERS),
        ("mnist_root", FOLDERS, NO_FOLDERS),
        ("generate.checkpoint", CHECKPOINTS, NO_CHECKPOINTS),
    ],
)
def test_a_name_that_could_leave_its_folder_is_refused_and_any_other_passes(parameters, key, right, wrong):
    for name in right:
        assert problems(parameters, key, name) == [], name
    for name in wrong:
        (found,) = problems(parameters, key, name)
        assert found.startswith(f"{key}: expected "), name
