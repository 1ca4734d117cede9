"""The compiled step: the same losses but for rounding, the same promises, real compilers."""

import os
import re

import pytest
import torch
from torch import nn

from vae_mnist.errors import ConfigError
from vae_mnist.objectives import build_objective
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint
from vae_mnist.training.batches import Batch
from vae_mnist.training.machine import Machine, Precision, resolve_precision
from vae_mnist.training.state import start
from vae_mnist.training.step import CACHE, Compiled, Step, check_compiled, keep_code_at_home

from ..helpers.compare import same
from ..helpers.marks import slow_after
from ..helpers.models import model_config, objective_config, small
from ..helpers.project import as_params
from ..helpers.training import config, run

CPU, NOW = torch.device("cpu"), torch.tensor(0)
# Compiling a ladder takes a minute and a half: each network, prior, precision and objective at least once.
COMPILED = [
    ("float32", "elbo", {}),
    ("bfloat16", "elbo", {}),
    ("float32", "iwae", {}),
    ("bfloat16", "elbo", {"network": "conv", "prior": "flow"}),
    ("float32", "iwae", {"network": "residual", "prior": "mixture"}),
    ("float32", "elbo", {"network": "ladder", "prior": "vamp"}),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path_factory.mktemp("inductor")))
        yield


def batch(digits, count, samples=1, noise_dim=4):
    noise = torch.randn(samples, count, noise_dim, generator=torch.Generator().manual_seed(0))
    extra = torch.randn(count, 4, generator=torch.Generator().manual_seed(1))
    return Batch(digits["images"][:count].float() / 255, digits["labels"][:count], noise, count, extra)


def step(precision="float32", objective=None, **kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build_objective(objective or objective_config(beta=4.0), 450, 4)
    return Step(small(**kind), made, resolve_precision(precision, CPU))


def test_a_step_gives_the_terms_of_its_model_and_objective(splits):
    plain, given = step(), batch(splits["train"], 100)
    expected = plain.objective(plain.model(given.images, given.noise), NOW)
    assert same(list(plain(given, NOW)), list(expected))


@pytest.mark.parametrize(("precision", "name", "kind"), slow_after(1, COMPILED), ids=str)
def test_compiled_steps_give_the_same_losses_and_gradients(splits, precision, name, kind):
    compare_compiled(splits, precision, name, **kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["total_correlation", "factor"])
def test_losses_that_compare_the_images_of_a_batch_can_be_compiled(splits, name):
    compare_compiled(splits, "float32", name)


def compare_compiled(splits, precision, name, **kind):
    found = []
    for compiled in (False, True):
        plain = step(precision, objective_config(name=name), **kind)
        forward = Compiled(plain) if compiled else plain
        terms = forward(batch(splits["train"], 100, plain.objective.samples, plain.model.noise_dim), NOW)
        terms.minimised.sum().backward()
        found.append([*(term.detach() for term in terms[:3]), *(weight.grad for weight in plain.parameters())])
    tolerance = 3e-2 if precision != "float32" else 1e-5 if name == "elbo" else 1e-4  # weights are exponentials
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance * one.abs().max().item())


@pytest.mark.slow
def test_one_size_is_compiled_and_the_last_batch_goes_the_plain_way(splits):
    plain = step()
    forward = Compiled(plain)
    forward(batch(splits["train"], 100), NOW)
    with torch.compiler.set_stance("fail_on_recompile"):
        last = batch(splits["train"], 50)
        assert torch.equal(forward(last, NOW).loss, plain(last, NOW).loss)
        forward(batch(splits["train"], 100), torch.tensor(7))


@pytest.mark.slow
def test_a_compiled_run_goes_on_with_the_same_bits_and_also_plain(splits, tmp_path):
    unbroken = run(splits, config(epochs=3, compile=True))
    write_checkpoint(unbroken[1], tmp_path / "c.pt")
    goes_on = run(splits, config(epochs=3, compile=True), checkpoint=read_checkpoint(tmp_path / "c.pt"))[-1]
    assert same(unbroken[-1], goes_on)
    plain = run(splits, config(epochs=3))[-1]
    mixed = run(splits, config(epochs=3), checkpoint=read_checkpoint(tmp_path / "c.pt"))[-1]
    assert unbroken[-1].settings == mixed.settings == plain.settings
    for one, two, three in zip(plain.history, mixed.history, unbroken[-1].history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-6)
        assert one["test_loss"] == pytest.approx(three["test_loss"], rel=1e-6)


class Broken(nn.Module):
    """Fails for a reason that is not the compiler's."""

    @torch.compiler.disable
    def forward(self, batch, now):
        raise RuntimeError(f"can't allocate memory for {batch.images.shape} at {now}")


@pytest.mark.slow
def test_what_fails_beside_the_compiler_is_not_laid_at_its_door(splits):
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        Compiled(Broken())(batch(splits["train"], 10), NOW)


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
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\n{commands}\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    env = {"CXX": str(compiler), CACHE: str(tmp_path / "cache")}
    result = project.kedro("run", "--pipelines=ingest,train", as_params(train__compile=True), env=env, cold=True)
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert re.match(f"Error: train\\.compile: torch\\.compile failed: {said}", error), error
    assert error.endswith("Use --params=train.compile=false.")


@pytest.mark.parametrize(
    ("precision", "network", "setting"),
    [("float16", "mlp", "train.precision=float16"), ("bfloat16", "conv", "model.network=conv")],
)
def test_steps_that_are_compiled_wrongly_for_a_card_are_refused(precision, network, setting):
    """No card is needed for the refusal itself."""
    machines = [Machine(torch.device(device), Precision(precision, None), 1) for device in ("cpu", "cuda")]
    for machine in machines:
        check_compiled(config(compile=False), network, machine)
    check_compiled(config(compile=True), network, machines[0])
    check_compiled(config(compile=True), "ladder", Machine(torch.device("cuda"), Precision("bfloat16", None), 1))
    message = f"train.compile: expected false with {setting} on a CUDA card, got true.* Use --params=train.compile=fals"
    with pytest.raises(ConfigError, match=message):
        start(model_config(network=network), objective_config(), config(compile=True), torch.zeros(0), 10, machines[1])


def test_compiled_code_is_kept_in_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(CACHE)
    keep_code_at_home()
    assert os.environ[CACHE] == str(tmp_path / "torch" / "inductor")
    monkeypatch.setenv(CACHE, str(tmp_path / "elsewhere"))
    keep_code_at_home()
    assert os.environ[CACHE] == str(tmp_path / "elsewhere")
