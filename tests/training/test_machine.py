import os
import platform
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from vae_mnist.errors import ConfigError
from vae_mnist.training import machine
from vae_mnist.training.machine import Machine, Precision, resolve_device, resolve_machine, resolve_precision

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


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="asks for a bare machine")
def test_auto_is_the_cpu_where_there_is_nothing_else():
    assert resolve_device("auto") == CPU


# No card is needed for the choice itself: only the questions to the card are answered here.
@pytest.mark.parametrize(
    ("device", "newer", "auto", "offered"),
    [
        ("cpu", False, "float32", "float32 or bfloat16 or float16"),
        ("cpu", True, "bfloat16", "float32 or bfloat16 or float16"),
        ("mps", False, "float32", "float32"),
        ("cuda", False, "float16", "float32 or float16"),
        ("cuda", True, "bfloat16", "float32 or float16 or bfloat16 or tf32"),
    ],
)
def test_a_device_takes_the_precisions_that_it_offers_and_refuses_others(monkeypatch, device, newer, auto, offered):
    monkeypatch.setattr(machine, "_bfloat16_is_faster", lambda: newer)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: newer)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "cuda")
    monkeypatch.setattr(torch.cuda, "device", lambda card: nullcontext())
    assert resolve_precision("auto", torch.device(device)).name == auto
    dtypes = {"float32": None, "tf32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    for name, dtype in dtypes.items():
        if name in offered.split(" or "):
            assert resolve_precision(name, torch.device(device)) == (name, dtype)
        else:
            message = f"train.precision: on {device} expected {offered}, got '{name}'. Use one of these, or --params=tr"
            with pytest.raises(ConfigError, match=message):
                resolve_precision(name, torch.device(device))


CHOOSE = """
import torch
from vae_mnist.training.machine import resolve_precision
print(resolve_precision("auto", torch.device("cpu")).name)
"""


def chosen(**environment):
    command = [sys.executable, "-c", CHOOSE]
    return subprocess.run(
        command, env=os.environ | environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks for instructions of these processors")
def test_auto_is_what_the_processor_is_fast_at_each_time():
    """oneDNN is told to leave instructions out, as on a processor that has none."""
    has = torch.cpu.get_capabilities()
    fast = "bfloat16" if has["avx512_bf16"] or has["amx_bf16"] else "float32"
    assert {chosen() for _ in range(5)} == {fast}
    for least in ("AVX2", "AVX512_CORE"):
        assert {chosen(ONEDNN_MAX_CPU_ISA=least) for _ in range(3)} == {"float32"}


def test_a_machine_is_what_the_parameters_mean_here():
    here = resolve_machine(config(precision="bfloat16", threads=3))
    assert here == (CPU, ("bfloat16", torch.bfloat16), 3)


def test_threads_hold_and_float32_rounds_to_tf32_only_if_asked_to_and_only_while_at_work():
    def found():
        cudnn = torch.backends.cudnn
        products = torch.get_float32_matmul_precision()
        return torch.get_num_threads(), products, cudnn.allow_tf32, cudnn.deterministic, cudnn.enabled

    threads, before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    for name, expected in (("tf32", ("high", True)), ("float32", ("highest", False))):
        torch.set_float32_matmul_precision("medium")
        try:
            with Machine(CPU, Precision(name, None), 3).at_work():
                assert found() == (3, *expected, True, True)
            assert found() == (threads, "medium", True, False, True)
        finally:
            torch.set_float32_matmul_precision(before)


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    alone = resolve_machine(config(threads="auto")).threads
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert resolve_machine(config(threads="auto")).threads == 1 <= alone
    assert resolve_machine(config(threads=5)).threads == 5


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
