from contextlib import nullcontext

import pytest
import torch

from vae_mnist.errors import ConfigError
from vae_mnist.training.machine import resolve_device, resolve_machine, resolve_precision, thread_count

from ..helpers.training import config

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a card that must not be there")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_missing_card_is_refused(name):
    with pytest.raises(ConfigError, match=f"train.device: expected one of the 0 CUDA cards.*got '{name}'"):
        resolve_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="asks for a device that must not be there")
def test_a_missing_apple_gpu_is_refused():
    with pytest.raises(ConfigError, match="'mps' needs an Apple GPU"):
        resolve_device("mps")


def test_auto_is_float32_on_a_cpu():
    assert resolve_precision("auto", CPU) == ("float32", None)


def test_half_precision_is_refused_on_mps():
    with pytest.raises(ConfigError, match="on mps expected float32, got 'float16'"):
        resolve_precision("float16", torch.device("mps"))


@pytest.mark.parametrize(
    ("name", "dtype", "scaled"),
    [("float32", None, False), ("bfloat16", torch.bfloat16, False), ("float16", torch.float16, True)],
)
def test_only_float16_needs_its_gradients_scaled(name, dtype, scaled):
    precision = resolve_precision(name, CPU)
    assert (precision.dtype, precision.scaled) == (dtype, scaled)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="asks for a bare machine")
def test_auto_is_the_cpu_where_there_is_nothing_else():
    assert resolve_device("auto") == CPU


# No card is needed for the choice itself: only the question to the card is answered here.
@pytest.fixture(params=[True, False], ids=["new card", "old card"])
def has_bfloat16(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: request.param)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
    monkeypatch.setattr(torch.cuda, "device", lambda card: nullcontext())
    return request.param


def test_auto_on_cuda_is_bfloat16_where_the_card_has_it_and_else_float16_with_a_scaler(has_bfloat16):
    precision = resolve_precision("auto", torch.device("cuda"))
    expected = ("bfloat16", torch.bfloat16) if has_bfloat16 else ("float16", torch.float16)
    assert precision == expected
    assert precision.scaled is not has_bfloat16


def test_bfloat16_is_refused_where_the_card_has_none(has_bfloat16):
    if has_bfloat16:
        assert resolve_precision("bfloat16", torch.device("cuda")).name == "bfloat16"
    else:
        with pytest.raises(
            ConfigError, match=r"train.precision: Old Card has no bfloat16. Use --params=train.precision=f"
        ):
            resolve_precision("bfloat16", torch.device("cuda"))


def test_tf32_is_refused_where_the_card_has_none(has_bfloat16):
    if has_bfloat16:
        precision = resolve_precision("tf32", torch.device("cuda"))
        assert (precision.name, precision.dtype, precision.scaled) == ("tf32", None, False)
    else:
        with pytest.raises(
            ConfigError, match=r"tf32 needs a CUDA card of Ampere's .* and Old Card has none of it. Use"
        ):
            resolve_precision("tf32", torch.device("cuda"))


def test_tf32_is_refused_on_cpus_and_on_mps():
    with pytest.raises(ConfigError, match=r"tf32 needs a CUDA card .* a CPU has none of it. Use --params=train.prec"):
        resolve_precision("tf32", CPU)
    with pytest.raises(ConfigError, match="on mps expected float32, got 'tf32'"):
        resolve_precision("tf32", torch.device("mps"))


def test_a_machine_is_what_the_parameters_mean_here():
    machine = resolve_machine(config(precision="bfloat16", threads=3))
    assert machine == (CPU, ("bfloat16", torch.bfloat16), 3)


def test_threads_hold_while_at_work_only():
    before = torch.get_num_threads()
    with resolve_machine(config(threads=3)).at_work():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    alone = thread_count("auto")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert thread_count("auto") == 1 <= alone
    assert thread_count(5) == 5


# No card is needed for the choice itself: only the number of cards is answered here.
def test_each_of_several_processes_has_a_card_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for rank in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert resolve_device("cuda") == torch.device("cuda", rank)
    with pytest.raises(ConfigError, match="expected cuda, for 3 processes with a card each, got 'cuda:0'"):
        resolve_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"expected one of the 2 CUDA cards .* got 'cuda:2'. Use fewer processes"):
        resolve_device("cuda")
