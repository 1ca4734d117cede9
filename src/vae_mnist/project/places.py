"""Where the datasets of a catalog have their files."""

from pathlib import Path

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

# What all runs read; every other dataset belongs to one run.
SHARED = frozenset({"train_images", "validation_images", "test_images", "data_card", "judges"})
# The tag of nodes that read what all runs have left, and work on none.
OF_ALL_RUNS = "compare"


def of_all_runs(pipeline: Pipeline) -> bool:
    """Whether a pipeline works on no run: it takes no lock and writes no record."""
    return all(OF_ALL_RUNS in node.tags for node in pipeline.nodes)


def location(catalog: DataCatalog, name: str) -> Path:
    """The file or folder of a dataset that has one."""
    dataset = catalog.get(name)
    return Path(str(getattr(dataset, "_filepath", None) or getattr(dataset, "_path")))  # noqa: B009 private to Kedro


def folder(catalog: DataCatalog, name: str) -> Path | None:
    """The folder that a dataset writes into; None for one in memory."""
    dataset = catalog.get(name)
    if hasattr(dataset, "_filepath"):
        return location(catalog, name).parent
    return location(catalog, name) if hasattr(dataset, "_path") else None


def shown(path: Path | None) -> str:
    """A path for a message: relative if it is inside the working folder."""
    return str(path.relative_to(Path.cwd()) if path and path.is_relative_to(Path.cwd()) else path)
