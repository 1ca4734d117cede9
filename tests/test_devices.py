import pytest
import torch

from vae_mnist.devices import resolve_device, resolve_precision
from vae_mnist.errors import ConfigError

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
