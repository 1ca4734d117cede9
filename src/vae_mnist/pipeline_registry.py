"""The pipelines by name. Explicit: aliases work, and a typo gets a suggestion."""

from kedro.pipeline import Pipeline

from .pipelines.compare.pipeline import create_pipeline as compare
from .pipelines.evaluate.pipeline import create_pipeline as evaluate
from .pipelines.generate.pipeline import create_pipeline as generate
from .pipelines.ingest.pipeline import create_pipeline as ingest
from .pipelines.report.pipeline import create_pipeline as report
from .pipelines.train.pipeline import create_pipeline as train


def register_pipelines() -> dict[str, Pipeline]:
    """Bare `kedro run` ingests, trains, evaluates and reports; `generate` and `compare` run only if asked for."""
    pipelines = {
        "ingest": ingest(),
        "train": train(),
        "evaluate": evaluate(),
        "report": report(),
        "generate": generate(),
        "compare": compare(),
    }
    everyday = ("ingest", "train", "evaluate", "report")
    return {"__default__": Pipeline([pipelines[name] for name in everyday]), **pipelines}
