"""The compiled forward pass: the same losses but for rounding, the same promises, real compilers."""

import re

import pandas as pd
import pytest
import torch
from torch import nn

from vae_mnist import VAE
from vae_mnist.errors import NonFiniteLossError
from vae_mnist.storage.checkpoints import read_checkpoint, write_checkpoint
from vae_mnist.training.batches import Batch
from vae_mnist.training.machine import resolve_precision
from vae_mnist.training.step import CACHE, forward_pass

from ..helpers.compare import same
from ..helpers.marks import slow_after
from ..helpers.project import as_params
from ..helpers.training import CPU, config, run


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(scope="module")
def splits(sample_digits):
    train, test = sample_digits
    return {"train": train["images"][:450], "test": test["images"][:100]}


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return VAE()


def batch(images):
    pixels = images.float() / 255
    return Batch(pixels, torch.randn(len(images), 32, generator=torch.Generator().manual_seed(0)), len(images))


@pytest.mark.parametrize("precision", slow_after(1, ["float32", "bfloat16"]))
def test_compiled_passes_give_the_same_losses_and_gradients(model, splits, precision):
    gradients = []
    for compiled in (False, True):
        forward = forward_pass(model, 4.0, resolve_precision(precision, CPU), compiled=compiled)
        terms = forward(batch(splits["train"][:100]))
        model.zero_grad()
        terms.loss.sum().backward()
        gradients.append([*(term.detach() for term in terms), *(weight.grad for weight in model.parameters())])
    tolerance = 1e-5 if precision == "float32" else 2e-2
    for plain, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, rtol=tolerance, atol=tolerance * plain.abs().max().item())


@pytest.mark.slow
def test_one_size_is_compiled_and_the_last_batch_goes_the_plain_way(model, splits):
    forward, plain = (forward_pass(model, 1.0, resolve_precision("float32", CPU), compiled=c) for c in (True, False))
    forward(batch(splits["train"][:100]))
    with torch.compiler.set_stance("fail_on_recompile"):
        assert torch.equal(forward(batch(splits["train"][:50])).loss, plain(batch(splits["train"][:50])).loss)
        forward(batch(splits["train"][:100]))


@pytest.mark.slow
def test_a_compiled_run_goes_on_with_the_same_bits_and_also_plain(splits, tmp_path):
    unbroken = run(splits, config(epochs=3, compile=True))[-1]
    write_checkpoint(run(splits, config(epochs=2, compile=True))[-1], tmp_path / "c.pt")
    goes_on = run(splits, config(epochs=3, compile=True), checkpoint=read_checkpoint(tmp_path / "c.pt"))[-1]
    assert same(unbroken, goes_on)
    plain = run(splits, config(epochs=3))[-1]
    mixed = run(splits, config(epochs=3), checkpoint=read_checkpoint(tmp_path / "c.pt"))[-1]
    assert unbroken["config_hash"] == mixed["config_hash"] == plain["config_hash"]
    for one, two, three in zip(plain["history"], mixed["history"], unbroken["history"], strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-6)
        assert one["test_loss"] == pytest.approx(three["test_loss"], rel=1e-6)


@pytest.mark.slow
def test_a_compiled_step_that_breaks_is_named(splits):
    """The epoch is trained again, and stops at the same step."""
    with pytest.raises(NonFiniteLossError, match=r"learning rate 1e\+20, float32"):
        run(splits, config(compile=True).model_copy(update={"learning_rate": 1e20}))


class Broken(nn.Module):
    """Fails for a reason that is not the compiler's."""

    @torch.compiler.disable
    def forward(self, images, noise):
        raise RuntimeError(f"can't allocate memory for {images.shape} and {noise.shape}")


def test_what_fails_beside_the_compiler_is_not_laid_at_its_door(splits):
    forward = forward_pass(Broken(), 1.0, resolve_precision("float32", CPU), compiled=True)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        forward(batch(splits["train"][:10]))


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("exit 127", r"InvalidCxxCompiler: "),
        ("trap '' XFSZ; ulimit -f 8", r"CppCompileError: C\+\+ compile error; .* error: .*File too large\. It needs "),
    ],
    ids=["missing", "without room"],
)
@pytest.mark.slow
def test_without_a_compiler_that_works_the_run_says_what_it_needs(project, tmp_path, commands, said):
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\n{commands}\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    env = {"CXX": str(compiler), CACHE: str(tmp_path / "cache")}
    result = project.kedro("run", "--pipelines=ingest,train", as_params(train__compile=True), env=env)
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert re.match(f"Error: train\\.compile: torch\\.compile failed: {said}", error), error
    assert error.endswith("Use --params=train.compile=false.")


@pytest.mark.slow
def test_two_processes_compile_too_and_keep_their_code_in_the_users_own_folder(project, tmp_path, monkeypatch):
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    monkeypatch.delenv(CACHE)
    env = {"TORCH_HOME": str(home / "torch"), "TMPDIR": str(temporary)}
    words = {"train__epochs": 2, "train__batch_size": 333}
    compiled = as_params(run="compiled", train__compile=True, train__processes=2, **words)
    assert project.kedro("run", "--pipelines=ingest,train", compiled, env=env).returncode == 0
    assert project.invoke("--pipeline=train", run="plain", **words).exit_code == 0
    one, two = (
        pd.read_csv(project.path("07_model_output", name, "history.csv"))["test_loss"] for name in ("compiled", "plain")
    )
    assert one.to_numpy() == pytest.approx(two.to_numpy(), rel=1e-4)
    assert any(path.is_file() for path in (home / "torch" / "inductor").rglob("*"))
    assert not any(path.is_file() for path in temporary.rglob("*"))
