import os
import time

from vae_mnist.datasets.tensors import TensorsDataset
from vae_mnist.project.run import MIN_AGE_SECONDS


def test_what_a_killed_run_left_is_removed_by_the_next_one_of_its_name(project):
    own, image_set = ["06_models/default", "07_model_output/default"], "05_model_input"
    left = [project.path(folder, ".x.json.abcd1234.tmp") for folder in [*own, image_set]]
    kept = [project.path("06_models/other", ".x.json.abcd1234.tmp"), project.path(image_set, ".y.json.abcd1234.tmp")]
    for path in [*left, *kept]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    os.utime(left[-1], (time.time() - MIN_AGE_SECONDS - 1,) * 2)
    output = project.run("--pipelines=ingest").stdout
    assert [path for path in left if path.exists()] == []
    assert [path for path in kept if not path.exists()] == [], "another run may be writing it"
    for folder in [*own, image_set]:
        assert f"removed data/{folder}/.x.json.abcd1234.tmp, left by a run that was killed" in output


def test_images_replaced_between_ingest_and_training_end_the_run_in_one_message(project, monkeypatch):
    load, loaded = TensorsDataset.load, []

    def load_after_another_ingest(dataset):
        if dataset._filepath.name == "train_images.safetensors":
            loaded.append(dataset)
            if len(loaded) == 1:
                project.run("--pipelines=ingest", run="other", ingest__validation_size=500)
        return load(dataset)

    monkeypatch.setattr(TensorsDataset, "load", load_after_another_ingest)
    result = project.invoke("--pipelines=ingest,train")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(
        "Error: data_card: expected the images that this run began with (5,000-digit sample of MNIST: 4,000 training"
    )
    assert list(project.path("06_models", "default").glob("*.pt")) == []
    assert project.invoke("--pipelines=ingest,train").exit_code == 0
