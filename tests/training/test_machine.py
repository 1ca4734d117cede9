import os
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pytest
import torch
import yaml

from vae_mnist.config.parameters import TrainConfig
from vae_mnist.errors import ConfigError
from vae_mnist.training import machine as devices
from vae_mnist.training.machine import resolve_device, resolve_precision

from ..helpers.project import ROOT

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
    assert (precision.autocast, precision.scaled) == (dtype, scaled)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="asks for a bare machine")
def test_auto_is_the_cpu_where_there_is_nothing_else():
    assert resolve_device("auto") == CPU


# No card is needed for the choice itself: only the question to the card is answered here.
@pytest.fixture(params=[True, False], ids=["new card", "old card"])
def has_bfloat16(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: request.param)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
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
        assert (precision.name, precision.autocast, precision.scaled) == ("tf32", None, False)
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


@pytest.fixture
def neighbour():
    """A process that never rests, and that nobody here has started: its parent is gone."""
    start = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'while True: pass']).pid)"
    # A file, for a pipe would stay open as long as the neighbour lives.
    with tempfile.TemporaryFile("w+") as out:
        subprocess.run([sys.executable, "-c", start], stdout=out, check=True)
        out.seek(0)
        number = int(out.read())
    yield
    os.kill(number, signal.SIGKILL)


@pytest.mark.slow
def test_a_busy_neighbour_is_seen(neighbour):
    neighbours = devices.Neighbours()
    time.sleep(2)
    assert neighbours.busy() > 0.3  # of a CPU, of which tests beside this one take their part


@pytest.mark.slow
def test_ones_own_work_and_that_of_children_is_no_neighbours():
    def everybody():
        times = psutil.cpu_times(percpu=True)
        return sum(times[cpu].user + times[cpu].nice + times[cpu].system for cpu in devices._cpus())

    neighbours, before = devices.Neighbours(), everybody()
    others = neighbours._seen[1]
    end = time.process_time() + 1
    while time.process_time() < end:
        pass
    work = "import time; deadline = time.monotonic() + 2\nwhile time.monotonic() < deadline: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE) as child:
        time.sleep(2.5)
        done = psutil.Process(child.pid).cpu_times()
        neighbours.busy()
        after = everybody()
        child.communicate(b"\n")
    mine = 1 + done.user + done.system
    assert mine > 1.3
    assert (after - before) - (neighbours._seen[1] - others) == pytest.approx(mine, abs=0.3)


def settings(threads, processes):
    values = yaml.safe_load((ROOT / "conf" / "base" / "parameters_train.yml").read_text())["train"]
    return TrainConfig(**values | {"threads": threads, "processes": processes})


@pytest.mark.parametrize(("busy", "threads", "processes"), [(0.0, 2, 1), (0.4, 2, 1), (2.0, 1, 1)])
def test_threads_that_have_their_cpus_are_left_in_peace(busy, threads, processes, monkeypatch):
    monkeypatch.setattr(devices, "_cpus", lambda: [0, 1])
    assert devices.crowded(busy, settings(threads, processes)) is None


@pytest.mark.parametrize(("busy", "threads", "processes"), [(0.6, 2, 1), (1.9, 2, 1), (0.0, 2, 2)])
def test_threads_that_wait_for_cpus_are_told_of(busy, threads, processes, monkeypatch):
    monkeypatch.setattr(devices, "_cpus", lambda: [0, 1])
    assert devices.crowded(busy, settings(threads, processes)) == (
        f"other processes keep {busy} of 2 CPUs busy. 2 threads that wait for each other then take several times as "
        "long; one does not: --params=train.threads=1"
    )
