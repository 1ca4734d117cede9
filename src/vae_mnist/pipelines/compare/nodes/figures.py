"""Rate against distortion, and samples of all runs."""

import logging

from PIL.Image import Image
from torch import Tensor

from ....config.parameters import CompareConfig, TrainConfig
from ....errors import CheckpointError
from ....measures.comparison import BETA, SEED
from ....measures.runs import Run
from ....models import model_from_checkpoint
from ....plots import Caption, Point, rate_distortion, side_by_side
from ....sampling import sample
from ....training.machine import resolve_machine
from .describe import Runs, chosen

logger = logging.getLogger(__name__)


# Kedro looks up the types of a node: those of figures are left out, because they would import what draws them.
def draw_rate_distortion(runs: list[Run]) -> object:
    """Rate against distortion, on binarised images where a run was measured on them.

    A curve joins runs of which all settings agree but beta and the seed.
    """
    panels: dict[tuple[str, ...], list[Point]] = {}
    for run in runs:
        rates = {each.data: each for each in run.measured if each.name == "rate"}
        # the last: pixels as they are come first
        for distortion in [each for each in run.measured if each.name == "distortion"][-1:]:
            kept = sorted(f"{key}={value}" for key, value in run.settings.items() if key not in (BETA, SEED))
            beta, rate = float(run.settings.get(BETA, 1.0)), rates[distortion.data].value
            point = Point(run.name, rate, distortion.value, repr((run.epochs, kept)), beta)
            panels.setdefault((distortion.data, *run.sha256), []).append(point)
    several = len({key[1:] for key in panels}) > 1
    titles = {f"{key[0]}{f' (training {key[1][:8]}…)' if several else ''}": each for key, each in panels.items()}
    count = sum(map(len, panels.values()))
    note = "A curve joins runs that differ in beta and seed only. Along a dashed line the negative ELBO is constant."
    return rate_distortion(titles, Caption("Rate and distortion", f"{count} runs, test images", note))


def draw_run_samples(runs: Runs, config: CompareConfig, train: TrainConfig) -> Image:
    """Samples of the newest checkpoint of each run, one row each, from the same noise where sizes agree."""
    machine, rows = resolve_machine(train), dict[str, Tensor | str]()
    for name, run in chosen(runs, config).items():
        try:
            checkpoint = run.newest()
            model = machine.place(model_from_checkpoint(checkpoint))
        except CheckpointError as error:
            logger.warning("run %s: no samples: %s", name, error)
            rows[name] = f"no samples: {error}"
            continue
        with machine.measuring():
            images = sample(model, config.samples, seed=config.seed)
        rows[f"{name}\nepoch {checkpoint.epoch}, {model.latent_dim} latents"] = images
    subtitle = f"newest checkpoint of each run  ·  seed {config.seed}"
    note = "Models of one prior and latent size decode the same codes. A conditional model is given each class in turn."
    return side_by_side(rows, Caption("Samples of all runs", subtitle, note))
