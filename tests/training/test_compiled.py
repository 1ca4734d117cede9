"""Compiled steps: the same losses but for rounding, the same promises, real compilers."""

import os
import re

import pandas as pd
import pytest
import torch

from vae_mnist.errors import ConfigError
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint
from vae_mnist.training.compiled import CACHE, adamw_, check_compiled, is_compiled, keep_code_at_home, processor
from vae_mnist.training.machine import Machine, Precision
from vae_mnist.training.team import ALONE, Team

from ..helpers.compare import same
from ..helpers.marks import slow_after
from ..helpers.models import model_config, objective_config
from ..helpers.project import as_params
from ..helpers.training import begin, config, epochs, run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
OPTIONS = {"weight_decay": 0.1, "clip_norm": 5.0, "average": 0.9, "schedule": "cosine", "warmup_steps": 5}
# Compiling a ladder takes a minute: each network, prior, precision, objective and optimizer at least once.
KINDS = [
    ("float32", "elbo", {}, OPTIONS),
    ("bfloat16", "elbo", {}, {}),
    ("float32", "iwae", {"likelihood": "autoregressive"}, {"binarisation": "dynamic"}),
    ("float32", "dreg", {"conditional": True}, {}),
    ("float32", "total_correlation", {}, {}),
    ("float32", "factor", {}, OPTIONS),
    ("bfloat16", "elbo", {"network": "conv", "prior": "flow"}, OPTIONS),
    ("float16", "elbo", {}, {"clip_norm": 5.0}),
    ("float32", "iwae", {"network": "residual", "prior": "mixture"}, {"optimizer": "muon"}),
    ("float32", "elbo", {"network": "ladder", "prior": "vamp"}, OPTIONS),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.mark.parametrize(("precision", "name", "kind", "options"), slow_after(1, KINDS), ids=str)
def test_compiled_steps_train_as_plain_ones_do(splits, precision, name, kind, options):
    model, objective = model_config(**kind), objective_config(name=name)
    plain, fast = (
        run(splits, config(epochs=3, precision=precision, compile=each, **options), model, objective)
        for each in (False, True)
    )
    tolerance = 1e-4 if precision == "float32" else 5e-3
    for one, other in zip(plain[-1].history, fast[-1].history, strict=True):
        assert one == pytest.approx(other | {"seconds": one["seconds"]}, rel=tolerance, abs=tolerance)
    for key, weight in plain[-1].model_state.items():
        torch.testing.assert_close(fast[-1].model_state[key], weight, rtol=0.05, atol=10 * tolerance)
    steps = [
        [float(moments["step"]) for moments in each[-1].optimizer_state["state"].values()] for each in (plain, fast)
    ]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_update_is_that_of_adamw(decay):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, 30, dtype=torch.float64, generator=generator).requires_grad_()
    optimizer = torch.optim.AdamW([weight], lr=3e-3, betas=(0.8, 0.95), weight_decay=decay)
    own, moments = weight.detach().clone(), {"step": torch.tensor(0.0)}
    moments |= {name: torch.zeros_like(own) for name in ("exp_avg", "exp_avg_sq")}
    for step in range(1, 6):
        weight.grad = torch.randn(20, 30, dtype=torch.float64, generator=generator)
        numbers = torch.tensor([3e-3, 3e-3 / (1 - 0.8**step), (1 - 0.95**step) ** -0.5], dtype=torch.float64)
        adamw_(own, weight.grad, moments, optimizer.param_groups[0], numbers)
        optimizer.step()
        torch.testing.assert_close(own, weight.detach(), rtol=1e-12, atol=1e-14)
    for name, value in optimizer.state[weight].items():
        torch.testing.assert_close(moments[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_one_size_is_compiled_and_the_last_batch_goes_the_plain_way(splits):
    cfg = config(epochs=3, compile=True)
    each = epochs(begin(splits, cfg), splits, cfg)
    next(each)
    assert len(splits["train"]["labels"]) % cfg.batch_size
    with torch.compiler.set_stance("fail_on_recompile"):
        *_, state = each
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ({}, OPTIONS),
        ({"network": "conv"}, {"optimizer": "muon"}),
        ({}, {"batch_size": 300}),  # a full batch and another: which is the second step depends on where one begins
    ],
    ids=str,
)
def test_a_compiled_run_goes_on_with_the_same_bits_and_also_plain(splits, tmp_path, kind, options):
    def three(compiled, checkpoint=None):
        return run(splits, config(epochs=3, compile=compiled, **options), model_config(**kind), None, checkpoint)

    unbroken = three(compiled=True)
    write_checkpoint(unbroken[1], tmp_path / "c.pt")
    assert same(unbroken[-1], three(True, read_checkpoint(tmp_path / "c.pt"))[-1])
    plain, mixed = three(compiled=False)[-1], three(False, read_checkpoint(tmp_path / "c.pt"))[-1]
    assert unbroken[-1].settings == mixed.settings == plain.settings
    for one, two, other in zip(plain.history, mixed.history, unbroken[-1].history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-5)
        assert one["test_loss"] == pytest.approx(other["test_loss"], rel=1e-5)


def compiler(folder, commands):
    """A compiler that fails."""
    path = folder / "g++"
    path.write_text(f'#!/bin/sh\n{commands}\nexec g++ "$@"\n')
    path.chmod(0o755)
    return {"CXX": str(path), CACHE: str(folder / "cache")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("exit 127", r"InvalidCxxCompiler: "),
        ("trap '' XFSZ; ulimit -f 8", r"CppCompileError: C\+\+ compile error; .* error: .*File too large\. It needs "),
    ],
    ids=["missing", "without room"],
)
def test_without_a_compiler_that_works_the_run_says_what_it_needs(project, tmp_path, commands, said):
    env = compiler(tmp_path, commands)
    result = project.kedro("run", "--pipelines=ingest,train", as_params(train__compile=True), env=env, cold=True)
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert re.match(f"Error: train\\.compile: torch\\.compile failed: {said}", error), error
    assert error.endswith("Use --params=train.compile=false.")


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="needs a CPU with AVX512 and AVX2")
def test_code_compiled_for_one_processor_is_not_used_on_another(project, tmp_path):
    """PyTorch's cache alone would: half of the numbers stayed as they were in memory, and losses were infinite."""
    losses = []
    for capability in ("avx512", "avx2"):
        env = {CACHE: str(tmp_path), "ATEN_CPU_CAPABILITY": capability}
        changes = {"train__compile": True, "run": capability, "model__mlp__hidden_dim": 64}
        result = project.kedro("run", "--pipelines=ingest,train", as_params(**changes), env=env, cold=True)
        assert result.returncode == 0, result.stderr
        losses.append(pd.read_csv(project.path("07_model_output", capability, "history.csv"))["train_loss"].tolist())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_auto_goes_on_with_plain_steps_where_the_compiler_fails_and_says_so(project, tmp_path):
    many = {"train__epochs": 2, "train__batch_size": 1, "train__compile": "auto", "model__mlp__hidden_dim": 8}
    env = compiler(tmp_path, "exit 127")
    result = project.kedro("run", "--pipelines=ingest,train", as_params(**many), env=env, cold=True)
    assert result.returncode == 0
    assert "WARNING train.compile: torch.compile failed: InvalidCxxCompiler" in result.stdout
    assert "It needs a C++ compiler. Going on with steps that are not compiled." in result.stdout
    assert " epoch 2/2" in result.stdout


def test_auto_compiles_where_it_repays(splits, monkeypatch):
    here = Machine(CPU, Precision("bfloat16", torch.bfloat16), 2)
    usual = {
        "config": config(compile="auto", epochs=20),
        "state": begin(splits, config()),
        "images": 60_000,
        "machine": here,
        "team": ALONE,
    }
    monkeypatch.setenv("CXX", "cc")  # any program that is there

    def found(**changes):
        return is_compiled(**(usual | changes))

    assert found()
    assert found(state=begin(splits, config(), model_config(network="conv")))
    assert not found(state=begin(splits, config(), model_config(network="ladder")))
    assert not found(images=5_000)
    assert not found(config=config(compile="auto", epochs=20, optimizer="muon"))
    assert not found(machine=here._replace(precision=Precision("float16", torch.float16)))
    assert not found(machine=here._replace(device=CUDA))
    assert not found(team=Team(0, 2))
    assert found(config=config(compile=True), team=Team(0, 2))
    monkeypatch.setenv("CXX", "no-such-program")
    assert not found()


def test_only_steps_of_a_cpu_are_compiled(splits):
    """No card is needed for the refusal itself."""
    card = Machine(CUDA, Precision("bfloat16", torch.bfloat16), 1)
    for choice in ("auto", False):
        check_compiled(config(compile=choice), card)
    with pytest.raises(
        ConfigError, match=r"train\.compile: expected auto or false on cuda, got true.* Use --params=train.com"
    ):
        is_compiled(begin(splits, config()), config(compile=True), 100, card, ALONE)


def test_compiled_code_is_kept_in_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(CACHE)
    keep_code_at_home()
    assert os.environ[CACHE] == str(tmp_path / "torch" / "inductor" / processor())
    monkeypatch.setenv(CACHE, str(tmp_path / "elsewhere"))
    keep_code_at_home()
    assert os.environ[CACHE] == str(tmp_path / "elsewhere")
