"""No node and no public function changes what it is given."""

import copy

import pytest
import torch

import vae_mnist
from vae_mnist.config.parameters import EvaluateConfig, GenerateConfig, IngestConfig, ReportConfig
from vae_mnist.data.images import RawDigits, as_pixels, binarise, digits_sha256, hold_out, mean_image
from vae_mnist.measures.bounds import average_terms, importance_weighted
from vae_mnist.measures.latents import active_units, posterior_statistics
from vae_mnist.objectives import Elbo
from vae_mnist.pipelines.evaluate import nodes as evaluate
from vae_mnist.pipelines.generate import nodes as generate
from vae_mnist.pipelines.ingest import nodes as ingest
from vae_mnist.pipelines.report import nodes as report
from vae_mnist.pipelines.train import nodes as train
from vae_mnist.training.state import snapshot

from .helpers.compare import same
from .helpers.models import model_config, objective_config, small
from .helpers.training import CARD, begin, config, epochs, first, settings

EVALUATE = EvaluateConfig(importance_samples=2, binarisation="dynamic", seed=0, chunk_size=100)
GENERATE = GenerateConfig(count=3, seed=0, checkpoint="newest")
REPORT = ReportConfig(
    seed=0, sample_side=2, reconstructions=4, interpolation_pairs=2, interpolation_steps=3, traversal_dims=2,
    traversal_steps=3, traversal_range=2.0, animation_frames=2, animation_frame_ms=100,
)  # fmt: skip


def used_up(result):
    """Call what is only made when it is written."""
    for part in result if isinstance(result, tuple | list) else [result]:
        for value in part.values() if isinstance(part, dict) else ():
            if callable(value):
                value()


@pytest.fixture(scope="module")
def things(sample_digits):
    """Arguments for everything, by name."""
    training, test = first(sample_digits[0], 60), first(sample_digits[1], 20)
    sha256 = {"train": digits_sha256(training), "validation": "0" * 64, "test": digits_sha256(test)}
    none = first(training, 0)
    sha256["validation"] = digits_sha256(none)
    card = CARD.model_copy(update={"sha256": sha256})
    cfg = config(epochs=1, batch_size=20)
    splits = {"train": training, "test": test}
    *_, state = epochs(begin(splits, cfg), splits, cfg)
    checkpoint = snapshot(state, settings(cfg), card)
    partitions = {"vae_epoch_001": lambda: checkpoint}
    codes = evaluate.encode_test_digits(partitions, test, cfg)
    return {
        "training": training, "test": test, "none": none, "card": card, "cfg": cfg, "checkpoint": checkpoint,
        "partitions": partitions, "codes": codes, "raw": RawDigits("digits", "a test", {}, training, test),
        "images": test["images"][:5], "pixels": test["images"][:5].float() / 255, "model": small(),
        "z": torch.zeros(1, 4), "values": torch.tensor([-1.0, 1.0]), "elbo": Elbo(),
        "ingest": IngestConfig(source="sample", validation_size=5), "model_config": model_config(),
        "objective_config": objective_config(), "evaluate": EVALUATE, "generate": GENERATE, "report": REPORT,
    }  # fmt: skip


CALLS = {
    "decode": (vae_mnist.decode, "model", "z"),
    "encode": (vae_mnist.encode, "model", "images"),
    "interpolate": (vae_mnist.interpolate, "model", "z", "z"),
    "reconstruct": (vae_mnist.reconstruct, "model", "pixels"),
    "sample": (lambda model: vae_mnist.sample(model, 3), "model"),
    "traverse": (lambda model, z, values: vae_mnist.traverse(model, z, [0, 1], values), "model", "z", "values"),
    "as_pixels": (as_pixels, "images"),
    "binarise": (lambda images: binarise(images, 0), "images"),
    "hold_out": (lambda digits: hold_out(digits, 3), "training"),
    "mean_image": (mean_image, "images"),
    "average_terms": (average_terms, "model", "elbo", "test"),
    "importance_weighted": (lambda m, x: importance_weighted(m, x, 3, seed=0, chunk_size=7), "model", "images"),
    "posterior_statistics": (posterior_statistics, "model", "images"),
    "active_units": (active_units, "z"),
    "split_digits": (ingest.split_digits, "raw", "ingest"),
    "measure_bounds": (evaluate.measure_bounds, "partitions", "test", "evaluate", "cfg"),
    "encode_test_digits": (evaluate.encode_test_digits, "partitions", "test", "cfg"),
    "measure_latents": (evaluate.measure_latents, "codes"),
    "draw_samples": (lambda p, c, t: report.draw_samples(p, "r", c, t), "partitions", "report", "cfg"),
    "draw_reconstructions": (
        lambda p, d, c, t: report.draw_reconstructions(p, d, "r", c, t), "partitions", "test", "report", "cfg",
    ),
    "draw_interpolations": (
        lambda p, d, c, t: report.draw_interpolations(p, d, "r", c, t), "partitions", "test", "report", "cfg",
    ),
    "draw_latent_map": (lambda p, d, z: report.draw_latent_map(p, d, z, "r"), "partitions", "test", "codes"),
    "draw_traversal": (
        lambda p, z, c, t: report.draw_traversal(p, z, "r", c, t), "partitions", "codes", "report", "cfg",
    ),
    "generate_digits": (generate.generate_digits, "partitions", "generate", "cfg"),
    "train_model": (
        lambda *given: list(train.train_model(*given[:4], {}, "r", *given[4:])),
        "training", "none", "test", "card", "model_config", "objective_config", "cfg",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_arguments_stay_as_they_were(things, name):
    function, *names = CALLS[name]
    arguments = [things[each] for each in names]
    weights = {key: value.clone() for key, value in things["model"].state_dict().items()}
    before = [copy.deepcopy(each) for each in arguments if not callable(each) and each is not things["partitions"]]
    checkpoint = copy.deepcopy(things["checkpoint"])
    used_up(function(*arguments))
    after = [each for each in arguments if not callable(each) and each is not things["partitions"]]
    assert all(same(*pair, ignore=()) for pair in zip(before, after, strict=True))
    assert same(checkpoint, things["checkpoint"], ignore=())
    assert same(weights, dict(things["model"].state_dict()))
