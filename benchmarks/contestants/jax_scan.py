"""The same network in JAX: the digits on the device, one compiled scan over the whole epoch, optax's Adam."""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..digits import read
from . import BATCH, CONV_HIDDEN, HIDDEN, LATENT, PIXELS, RATE, Contestant

Weights = dict[str, tuple[jax.Array, jax.Array]]
LAYOUT = ("NHWC", "HWIO", "NHWC")


DENSE = {
    "hidden": (PIXELS, HIDDEN), "posterior": (HIDDEN, 2 * LATENT), "up": (LATENT, HIDDEN), "out": (HIDDEN, PIXELS),
}  # fmt: skip
CONV = {
    "down1": (4, 4, 1, 32), "down2": (4, 4, 32, 64), "hidden": (64 * 7 * 7, CONV_HIDDEN),
    "posterior": (CONV_HIDDEN, 2 * LATENT), "up": (LATENT, CONV_HIDDEN), "small": (CONV_HIDDEN, 64 * 7 * 7),
    "up1": (4, 4, 64, 32), "up2": (4, 4, 32, 1),
}  # fmt: skip


def weights(key: jax.Array, sizes: Mapping[str, tuple[int, ...]]) -> Weights:
    """Uniform in +-1/sqrt(inputs), as torch's layers draw them."""
    drawn = {}
    for name, shape in sizes.items():
        key, first, second = jax.random.split(key, 3)
        bound = prod(shape[:-1]) ** -0.5
        drawn[name] = (
            jax.random.uniform(first, shape, minval=-bound, maxval=bound),
            jax.random.uniform(second, shape[-1:], minval=-bound, maxval=bound),
        )
    return drawn


def loss_of(w: Weights, images: jax.Array, noise: jax.Array, dtype: Any) -> jax.Array:
    """Mean over the batch, nats per image; products and convolutions of that type."""

    def linear(name: str, inputs: jax.Array) -> jax.Array:
        weight, bias = w[name]
        return (inputs.astype(dtype) @ weight.astype(dtype)).astype(jnp.float32) + bias

    def convolution(name: str, inputs: jax.Array, how: Callable[..., jax.Array]) -> jax.Array:
        weight, bias = w[name]
        outputs = how(inputs.astype(dtype), weight.astype(dtype), (2, 2), "SAME", dimension_numbers=LAYOUT)
        return outputs.astype(jnp.float32) + bias

    features = images
    if "down1" in w:
        features = images.reshape(-1, 28, 28, 1)
        for name in ("down1", "down2"):
            features = jax.nn.relu(convolution(name, features, jax.lax.conv_general_dilated))
        features = features.reshape(len(images), -1)
    mean, logvar = jnp.split(linear("posterior", jax.nn.relu(linear("hidden", features))), 2, axis=1)
    z = mean + jnp.exp(0.5 * logvar) * noise
    up = jax.nn.relu(linear("up", z))
    if "down1" in w:
        maps = jax.nn.relu(linear("small", up)).reshape(-1, 7, 7, 64)
        maps = jax.nn.relu(convolution("up1", maps, jax.lax.conv_transpose))
        logits = convolution("up2", maps, jax.lax.conv_transpose).reshape(len(images), -1)
    else:
        logits = linear("out", up)
    bce = optax.sigmoid_binary_cross_entropy(logits, images).sum(1)
    kld = -0.5 * (1 + logvar - mean**2 - jnp.exp(logvar)).sum(1)
    return (bce + kld).mean()


@partial(jax.jit, static_argnames=("update", "dtype"), donate_argnames="carried")
def run_epoch(
    carried: tuple[Weights, Any], images: jax.Array, key: jax.Array, update: Callable[..., Any], dtype: Any
) -> tuple[tuple[Weights, Any], jax.Array]:
    """All steps of an epoch; images are (N, 784) uint8."""
    count = len(images)
    first, second = jax.random.split(key)
    order = jax.random.permutation(first, count)
    noise = jax.random.normal(second, (count, LATENT))
    whole = count // BATCH * BATCH

    def step(carried: tuple[Weights, Any], batch: tuple[jax.Array, jax.Array]) -> tuple[tuple[Weights, Any], jax.Array]:
        chosen, noise = batch
        pixels = images[chosen].astype(jnp.float32) / 255
        loss, gradients = jax.value_and_grad(loss_of)(carried[0], pixels, noise, dtype)
        changes, state = update(gradients, carried[1])
        return (optax.apply_updates(carried[0], changes), state), loss * len(chosen)

    batches = order[:whole].reshape(-1, BATCH), noise[:whole].reshape(-1, BATCH, LATENT)
    carried, losses = jax.lax.scan(step, carried, batches)
    total = losses.sum()
    if whole < count:
        carried, loss = step(carried, (order[whole:], noise[whole:]))
        total += loss
    return carried, total / count


class JaxScan(Contestant):
    """One call an epoch."""

    def __init__(self, folder: Path, device: str, *variants: str) -> None:
        self.dtype = jnp.bfloat16 if "bfloat16" in variants else jnp.float32
        jax.config.update("jax_platforms", device)
        self.images, self.test = (
            jax.device_put(digits["images"].reshape(-1, PIXELS).numpy()) for digits in read(folder)
        )
        self.key, key = jax.random.split(jax.random.key(0))
        optimizer = optax.adam(RATE)
        self.update = optimizer.update
        drawn = weights(key, CONV if "conv" in variants else DENSE)
        self.carried = drawn, optimizer.init(drawn)

    def epoch(self) -> tuple[float, float]:
        """Train on every digit once."""
        self.key, key = jax.random.split(self.key)
        started = perf_counter()
        self.carried, loss = run_epoch(self.carried, self.images, key, self.update, self.dtype)
        loss = float(loss)  # waits for it
        return perf_counter() - started, loss

    def test_loss(self) -> float:
        """Mean over the test digits."""
        noise = jax.random.normal(jax.random.key(1), (len(self.test), LATENT))
        loss = jax.jit(loss_of, static_argnames="dtype")
        return float(loss(self.carried[0], self.test.astype(jnp.float32) / 255, noise, dtype=self.dtype))


def build(folder: Path, device: str, *variants: str) -> JaxScan:
    """Ready for its first epoch, which compiles; "bfloat16" for products of that type, "conv" for convolutions."""
    return JaxScan(folder, device, *variants)
