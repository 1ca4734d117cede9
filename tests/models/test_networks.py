"""Encoder-decoder networks: sizes follow from the image's shape."""

import pytest
import torch

from vae_mnist.errors import ConfigError
from vae_mnist.models.blocks import ChannelsLast, ResidualBlock

from ..helpers.models import disturbed, noise, small


def layers(model, kind):
    return [layer for layer in model.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize("network", ["mlp", "conv", "residual", "ladder"])
@pytest.mark.parametrize(
    "image_shape", [(1, 16, 16), (1, 28, 28), (3, 17, 31), (1, 64, 20), (3, 32, 32), (3, 64, 64), (1, 128, 128)]
)
def test_any_height_and_width_of_16_or_more_and_any_channels(network, image_shape):
    model = small(image_shape, network=network)
    images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
    result = model(images, noise(model, 2, samples=3))
    assert result.outputs.shape == (3, 2, *image_shape)
    assert model.decode(torch.zeros(5, 4)).shape == (5, *image_shape)
    result.nll.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_a_residual_block_starts_as_the_identity():
    block = next(part for part in small(network="residual").modules() if isinstance(part, ResidualBlock))
    x = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x)
    assert not torch.equal(disturbed(block)(x), x)


def test_the_residual_network_has_no_batch_statistics(images):
    model = disturbed(small(network="residual"), spread=0.1)
    drawn = noise(model, 4)
    alone, batch = model(images[:1], drawn[:, :1]), model.train()(images[:4], drawn)
    torch.testing.assert_close(batch.nll[:, :1], alone.nll)
    assert not list(model.buffers())


def test_the_mlp_takes_smaller_images_as_well():
    model = small((1, 1, 1))
    assert model.decode(torch.zeros(2, 4)).shape == (2, 1, 1, 1)


def test_each_level_of_the_conv_network_halves_height_and_width():
    model = small((1, 33, 70), network="conv", conv={"channels": [3, 5, 7], "hidden_dim": 11})
    shapes = []
    for layer in layers(model.network.encoder, torch.nn.Conv2d):
        layer.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    model.encode(torch.zeros(1, 1, 33, 70))
    assert shapes == [(3, 16, 35), (5, 8, 17), (7, 4, 8)]


@pytest.mark.parametrize("image_shape", [(1, 28, 28), (1, 17, 30), (3, 19, 21)])
def test_the_conv_decoder_computes_transposed_convolutions(image_shape):
    model = small(image_shape, network="conv")
    codes, gradients = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), []
    for decode in (model.network.decoder, lambda x: in_pytorchs_form(model.network.decoder, x)):
        outputs = decode(codes)
        weights = list(model.network.decoder.parameters())
        gradients.append([outputs, *torch.autograd.grad(outputs.sin().sum(), weights)])
    assert outputs.shape == (3, *image_shape)
    torch.testing.assert_close(*gradients)


def in_pytorchs_form(decoder, x):
    for layer in decoder:
        transposed = isinstance(layer, torch.nn.ConvTranspose2d)
        x = torch.nn.ConvTranspose2d.forward(layer, x) if transposed else layer(x)
    return x


def test_gradients_are_laid_out_channels_last():
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    laid_out = ChannelsLast()(x)
    (gradient,) = torch.autograd.grad(laid_out.flatten(1).square().sum(), x)
    assert torch.equal(gradient, 2 * x)
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in (laid_out, gradient))


def test_a_pixel_of_the_conv_decoder_depends_on_its_neighbourhood_alone():
    """Convolutions, and no dense layer at full size: a change in one corner of the small map stays there."""
    model = small(network="conv")
    up = model.network.decoder[4:]
    maps = torch.zeros(2, 6, 7, 7)
    maps[1, :, 0, 0] = 1.0
    one, other = up(maps)
    assert not torch.equal(one[:, :4, :4], other[:, :4, :4])
    assert torch.equal(one[:, 12:, 12:], other[:, 12:, 12:])


@pytest.mark.parametrize(
    ("image_shape", "channels", "needed"), [((1, 15, 40), [4], 16), ((1, 28, 28), [4] * 5, 32), ((3, 64, 8), [4], 16)]
)
def test_images_too_small_for_the_levels_are_refused(image_shape, channels, needed):
    with pytest.raises(ConfigError, match=rf"model\.conv\.channels: .* at least {needed} x {needed} pixels, got "):
        small(image_shape, network="conv", conv={"channels": channels, "hidden_dim": 4})


def test_the_conv_network_can_begin_with_the_mean_of_each_channel():
    model = small((3, 16, 16), network="conv")
    model.start_at(torch.tensor([0.1, 0.5, 0.8]).view(3, 1, 1).expand(3, 16, 16))
    torch.testing.assert_close(torch.sigmoid(model.network.decoder[-1].bias), torch.tensor([0.1, 0.5, 0.8]))
