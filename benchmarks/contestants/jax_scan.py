"""The same network in JAX: the digits on the device, one compiled scan over the whole epoch, optax's Adam."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..digits import read
from . import BATCH, HIDDEN, LATENT, PIXELS, RATE, Contestant

Weights = dict[str, tuple[jax.Array, jax.Array]]


def weights(key: jax.Array) -> Weights:
    """Uniform in +-1/sqrt(inputs), as torch's Linear draws them."""
    sizes = {
        "hidden": (PIXELS, HIDDEN),
        "posterior": (HIDDEN, 2 * LATENT),
        "up": (LATENT, HIDDEN),
        "out": (HIDDEN, PIXELS),
    }
    drawn = {}
    for name, (inputs, outputs) in sizes.items():
        key, first, second = jax.random.split(key, 3)
        bound = inputs**-0.5
        drawn[name] = (
            jax.random.uniform(first, (inputs, outputs), minval=-bound, maxval=bound),
            jax.random.uniform(second, (outputs,), minval=-bound, maxval=bound),
        )
    return drawn


def loss_of(w: Weights, images: jax.Array, noise: jax.Array) -> jax.Array:
    """Mean over the batch, nats per image."""

    def linear(name: str, inputs: jax.Array) -> jax.Array:
        return inputs @ w[name][0] + w[name][1]

    mean, logvar = jnp.split(linear("posterior", jax.nn.relu(linear("hidden", images))), 2, axis=1)
    z = mean + jnp.exp(0.5 * logvar) * noise
    logits = linear("out", jax.nn.relu(linear("up", z)))
    bce = optax.sigmoid_binary_cross_entropy(logits, images).sum(1)
    kld = -0.5 * (1 + logvar - mean**2 - jnp.exp(logvar)).sum(1)
    return (bce + kld).mean()


@partial(jax.jit, static_argnames="update", donate_argnames="carried")
def run_epoch(
    carried: tuple[Weights, Any], images: jax.Array, key: jax.Array, update: Callable[..., Any]
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
        loss, gradients = jax.value_and_grad(loss_of)(carried[0], pixels, noise)
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

    def __init__(self, folder: Path, device: str) -> None:
        jax.config.update("jax_platforms", device)
        self.images, self.test = (
            jax.device_put(digits["images"].reshape(-1, PIXELS).numpy()) for digits in read(folder)
        )
        self.key, key = jax.random.split(jax.random.key(0))
        optimizer = optax.adam(RATE)
        self.update = optimizer.update
        drawn = weights(key)
        self.carried = drawn, optimizer.init(drawn)

    def epoch(self) -> tuple[float, float]:
        """Train on every digit once."""
        self.key, key = jax.random.split(self.key)
        started = perf_counter()
        self.carried, loss = run_epoch(self.carried, self.images, key, self.update)
        loss = float(loss)  # waits for it
        return perf_counter() - started, loss

    def test_loss(self) -> float:
        """Mean over the test digits."""
        noise = jax.random.normal(jax.random.key(1), (len(self.test), LATENT))
        return float(jax.jit(loss_of)(self.carried[0], self.test.astype(jnp.float32) / 255, noise))


def build(folder: Path, device: str) -> JaxScan:
    """Ready for its first epoch, which compiles."""
    return JaxScan(folder, device)
