from vae_mnist.pipeline_registry import register_pipelines


def test_bare_run_is_ingest_train_evaluate_and_report_and_nothing_else():
    every = register_pipelines()
    expected = every["ingest"] + every["train"] + every["evaluate"] + every["report"]
    assert set(every["__default__"].nodes) == set(expected.nodes)
    assert set(every) == {"__default__", "ingest", "train", "evaluate", "report", "generate", "compare"}


def test_every_dataset_that_crosses_a_pipeline_is_persisted(finished):
    every = {name: pipeline for name, pipeline in register_pipelines().items() if name != "__default__"}
    crossing = set()
    for name, pipeline in every.items():
        others = set().union(*(other.datasets() for key, other in every.items() if key != name))
        crossing |= {dataset for dataset in pipeline.all_outputs() & others if not dataset.startswith("params:")}
    assert {"train_images", "checkpoints", "history"} <= crossing
    catalog = finished.catalog()
    assert not [name for name in crossing if type(catalog.get(name)).__name__ == "MemoryDataset"]
