import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vae_mnist.config.parameters import IngestConfig
from vae_mnist.data.images import ImageSet, RawImages, images_sha256
from vae_mnist.datasets import published
from vae_mnist.datasets.sources import SourcesDataset
from vae_mnist.datasets.sprites import SHAPES, make_sprites
from vae_mnist.errors import DataError
from vae_mnist.pipelines.ingest.nodes import read_images, split_images

from ..helpers.idx import four_files, lay_out

BASE = {
    "validation_size": 0, "image_size": 28, "channels": 1, "emnist": {"split": "balanced"},
    "folder": {"path": None, "test_share": 0.1, "seed": 0, "damaged": "refuse"}, "npz": {"path": None},
}  # fmt: skip


def config(source="sample", **changes):
    return IngestConfig(**BASE | {"source": source} | changes)


@pytest.fixture
def unreachable(monkeypatch):
    """No mirror serves: an address on this machine where nobody listens."""
    monkeypatch.setattr(published, "MIRRORS", ["http://127.0.0.1:9/mnist/"])
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def readers(tmp_path):
    return SourcesDataset(path=str(tmp_path)).load()


@pytest.fixture
def small_files(tmp_path, contents):
    return lay_out(tmp_path, contents)


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_files_come_first_and_a_foreign_checksum_is_a_warning_that_names_it(small_files, readers, caplog, source):
    raw = read_images(readers, config(source))
    assert len(raw.train["labels"]) == 60
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4
    assert raw.files["train-images-idx3-ubyte"]["sha256"] in warnings[0]
    assert "train-images-idx3-ubyte is a valid file, but not the published one" in warnings[0]


def test_auto_falls_back_on_the_sample_with_a_warning_that_says_all(readers, unreachable, caplog):
    raw = read_images(readers, config("auto"))
    assert raw.name == "5,000-digit sample of MNIST"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "5,000-digit sample" in warning
    assert "not all four are under" in warning
    assert "http://127.0.0.1:9/mnist/ ([Errno 111] Connection refused)" in warning
    assert "--params=mnist_root=" in warning


def test_mnist_refuses_the_sample(readers, unreachable):
    with pytest.raises(DataError, match=r"^MNIST is not available. Tried files: .*Connection refused"):
        read_images(readers, config("mnist"))


def test_sample_goes_straight_to_the_sample(small_files, readers, caplog):
    assert len(read_images(readers, config("sample")).train["labels"]) == 4000
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


SAID = "these images were made before, from the same source and with the same checksums"
CHANGES = {"ingest__image_size": 32, "ingest__channels": 3}


def ingest(project, **more):
    """Whether images were not made again, and the content of the files."""
    output = project.run("--pipelines=ingest", **(CHANGES | more)).stdout
    return SAID in output, {path.name: path.read_bytes() for path in project.path("05_model_input").iterdir()}


def test_images_that_were_made_before_are_not_made_again(project):
    made, files = ingest(project)
    assert not made
    tensors = project.path("05_model_input", "train_images.safetensors")
    before = tensors.stat().st_ino
    assert ingest(project) == (True, files)
    assert tensors.stat().st_ino == before


@pytest.mark.slow
def test_images_that_others_replaced_or_that_are_damaged_are_made_again(project):
    _, files = ingest(project)
    for more in ({"ingest__channels": 1}, {"ingest__image_size": 28}, {"ingest__validation_size": 100}):
        assert not ingest(project, **more)[0]
        assert ingest(project) == (False, files)
    folder = project.path("05_model_input")
    for damaged in ("test_images.safetensors", "data_card.json"):
        (folder / damaged).write_bytes(files[damaged][:-1] + b"x")
        assert ingest(project) == (False, files)
    (folder / "train_images.safetensors").unlink()
    assert ingest(project) == (False, files)


def test_ingest_writes_checked_tensors_and_a_data_card(project, sample_images):
    assert project.invoke("--pipelines=ingest", ingest__validation_size=100).exit_code == 0
    folder = project.path("05_model_input")
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    assert card["title"] == "5,000-digit sample of MNIST: 3,900 training + 100 validation + 1,000 test images"
    for split in ("train", "validation", "test"):
        image_set = load_file(folder / f"{split}_images.safetensors")
        assert image_set["images"].shape == (card["counts"][split], 1, 28, 28)
        assert images_sha256(image_set) == card["sha256"][split]
    assert images_sha256(sample_images[1]) == card["sha256"]["test"]


def test_data_root_and_mnist_root_move_files(project, small_files, tmp_path):
    result = project.invoke(
        "--pipelines=ingest", ingest__source="mnist", mnist_root=small_files, data_root=tmp_path / "elsewhere"
    )
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "elsewhere" / "05_model_input" / "data_card.json").read_text(encoding="utf-8"))
    assert card["name"] == "MNIST-shaped images"
    assert card["files"]["t10k-labels-idx1-ubyte"]["known"] is False
    assert not project.path("05_model_input").exists()


def test_mnist_root_is_data_root_01_raw_if_not_given(project, contents, tmp_path):
    lay_out(tmp_path / "moved" / "01_raw", contents)
    result = project.invoke("--pipelines=ingest", ingest__source="mnist", data_root=tmp_path / "moved")
    assert result.exit_code == 0, result.output
    assert "60 training + 20 test images" in result.output


def test_a_damaged_file_ends_the_run_with_one_message(project, small_files):
    (small_files / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    result = project.invoke("--pipelines=ingest", ingest__source="auto", mnist_root=small_files)
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert "t10k-images-idx3-ubyte: expected a header of 16 bytes, found 4: cut short. Delete it" in result.output
    assert "Traceback" not in result.output


def test_the_data_card_says_name_counts_source_and_checksums():
    def image_set(count):
        images = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
        return ImageSet(images=images, labels=torch.arange(count) % 10)

    facts = {"bytes": 1, "sha256": "0" * 64, "known": True}
    raw = RawImages("MNIST", "files under x", {"a": facts}, image_set(10), image_set(5))
    train, validation, test, card = split_images(raw, config(validation_size=2))
    assert card.title == "MNIST 2 x 2: 8 training + 2 validation + 5 test images"
    assert card.source == "files under x"
    assert card.counts == {"train": 8, "validation": 2, "test": 5}
    assert card.class_counts["validation"] == [0] * 8 + [1, 1]
    assert card.class_counts["test"] == [1] * 5 + [0] * 5
    assert card.image_shape == [1, 2, 2]
    assert card.train_pixel_mean == round(sum(range(32)) / 32 / 255, 6)
    splits = {"train": train, "validation": validation, "test": test}
    assert card.sha256 == {split: images_sha256(image_set) for split, image_set in splits.items()}
    assert card.files["a"].model_dump() == facts


@pytest.fixture
def raw(sample_images):
    train, test = ({key: value[:60] for key, value in image_set.items()} for image_set in sample_images)
    return RawImages("MNIST", "a test", {}, train, test)


def test_by_default_not_a_byte_changes(raw):
    train, _, test, card = split_images(raw, config())
    assert torch.equal(train["images"], raw.train["images"])
    assert test["images"] is raw.test["images"]
    assert card.title == "MNIST: 60 training + 60 test images"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"image_size": 32}, "MNIST 32 x 32"),
        ({"channels": 3}, "MNIST 28 x 28 in colour"),
        ({"image_size": 64, "channels": 3}, "MNIST 64 x 64 in colour"),
    ],
    ids=str,
)
def test_the_data_card_says_size_and_colour_and_is_the_same_each_time(raw, changes, name):
    before = images_sha256(raw.train), images_sha256(raw.test)
    *splits, card = split_images(raw, config(**changes))
    side, channels = changes.get("image_size", 28), changes.get("channels", 1)
    assert (card.name, card.title) == (name, f"{name}: 60 training + 60 test images")
    assert card.image_shape == [channels, side, side]
    for split, image_set in zip(card.counts, splits, strict=True):
        assert image_set["images"].shape == (card.counts[split], channels, side, side)
        assert image_set["images"].dtype == torch.uint8
        assert images_sha256(image_set) == card.sha256[split]
    assert card == split_images(raw, config(**changes))[-1]
    assert before == (images_sha256(raw.train), images_sha256(raw.test))


def test_a_image_keeps_its_colour_when_it_is_held_out_and_each_split_has_its_own(raw):
    whole, _, test, _ = split_images(raw, config(channels=3))
    train, validation, same, _ = split_images(raw, config(channels=3, validation_size=20))
    assert torch.equal(torch.cat([train["images"], validation["images"]]), whole["images"])
    assert torch.equal(same["images"], test["images"])
    colours = [image_set["images"].amax((2, 3)) for image_set in (whole, test)]
    assert (colours[0] != colours[1]).any(1).float().mean() > 0.9


def test_colours_do_not_depend_on_the_class(raw):
    relabelled = raw._replace(train=raw.train | {"labels": raw.train["labels"].flip(0)})
    coloured, others = (split_images(each, config(channels=3))[0] for each in (raw, relabelled))
    assert torch.equal(coloured["images"], others["images"])


def test_small_colour_images_go_through_all_pipelines(project):
    """And a run of theirs is not resumed with the images of another size."""
    colour = {"ingest__image_size": 32, "ingest__channels": 3, "train__epochs": 1}
    for words in ([], ["--pipelines=generate"]):
        result = project.invoke(*words, **colour, model__network="conv", generate__count=2)
        assert result.exit_code == 0, result.output
    folder = project.path("08_reporting", "default")
    for name in ("samples", "recons", "interpolations", "traversal", "generated/grid", "generated/images/image_0002"):
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.mode == "RGB", name
    assert picture.size == (32, 32)
    with Image.open(folder / "samples.gif") as animation:
        red, green, _ = animation.convert("RGB").split()
    assert red.tobytes() != green.tobytes()
    assert load_file(folder / "generated" / "images.safetensors")["images"].shape == (2, 3, 32, 32)
    result = project.invoke("--pipelines=ingest,train", ingest__image_size=64, model__network="conv")
    assert result.exit_code == 1
    assert (
        "data: the run 'default' was trained on 5,000-digit sample of MNIST 32 x 32 in colour: 4,000 training + 1,000 "
        "test images; the images now are 5,000-digit sample of MNIST 64 x 64: 4,000 training + 1,000 test images."
    ) in result.output
    result = project.invoke("--pipelines=report", model__network="conv")
    assert "test_images: expected those of the run" in result.output


def test_sets_in_the_format_of_mnist_keep_the_names_of_their_classes(project, sample_images, tmp_path):
    pair = [{key: tensor[:200] for key, tensor in each.items()} for each in sample_images]
    folder = lay_out(tmp_path, four_files(*pair)) / "MNIST"
    folder.rename(tmp_path / "FashionMNIST")
    result = project.invoke(
        "--pipelines=ingest,train,evaluate,report", ingest__source="fashion", mnist_root=tmp_path, train__epochs=1
    )
    assert result.exit_code == 0, result.output
    card = json.loads(project.path("05_model_input", "data_card.json").read_text(encoding="utf-8"))
    assert card["name"] == "Fashion-MNIST"
    assert card["class_names"][9] == "Ankle boot"
    assert "digit" not in result.output
    assert "200 training + 200 test images" in result.output


def test_images_in_colour_keep_their_colours_or_become_grey():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 3, 28, 28), generator=generator, dtype=torch.uint8)
    raw = RawImages(
        "squares", "a test", {}, *[ImageSet(images=images, labels=torch.arange(12) % 3)] * 2, ("a", "b", "c")
    )
    train, _, test, card = split_images(raw, config(channels=3, validation_size=2))
    assert torch.equal(train["images"], images[:10])
    assert torch.equal(test["images"], images)
    assert card.image_shape == [3, 28, 28]
    assert (card.name, card.classes, card.class_names) == ("squares 28 x 28 in colour", 3, ["a", "b", "c"])
    train, *_, card = split_images(raw, config())
    assert train["images"].shape == (12, 1, 28, 28)
    assert card.image_shape == [1, 28, 28]


def test_factors_follow_their_images():
    images = torch.arange(40, dtype=torch.uint8).view(10, 1, 2, 2)
    part = ImageSet(images=images, labels=torch.zeros(10, dtype=torch.int64), factors=torch.arange(20).view(10, 2))
    raw = RawImages("sprites", "a test", {}, part, part, factors={"shape": 10, "scale": 11})
    train, validation, test, card = split_images(raw, config(validation_size=3))
    assert [len(each["factors"]) for each in (train, validation, test)] == [7, 3, 10]
    assert torch.equal(validation["factors"], part["factors"][7:])
    assert card.factors == {"shape": 10, "scale": 11}
    other = part | {"factors": part["factors"].flip(0)}
    assert images_sha256(other) != images_sha256(part), "they identify the data as well"


def test_a_folder_of_pictures_in_colour_is_trained_on_under_its_own_name(project, tmp_path):
    train, _ = make_sprites(32, 3)
    folder = tmp_path / "toys"
    for label, shape in enumerate(SHAPES):
        (folder / shape).mkdir(parents=True)
        for index, image in enumerate(train["images"][train["labels"] == label][:40]):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / shape / f"{index}.png")
    asked = {
        "ingest__source": "folder", "ingest__folder__path": folder, "ingest__folder__test_share": 0.25,
        "ingest__image_size": 32, "ingest__channels": 3, "model__likelihood": "discretised_logistic",
    }  # fmt: skip
    result = project.run("--pipelines=ingest,train,evaluate,report", train__epochs=1, **asked)
    assert "digit" not in result.stdout
    card = json.loads(project.path("05_model_input", "data_card.json").read_text(encoding="utf-8"))
    assert card["title"] == "toys 32 x 32 in colour: 90 training + 30 test images"
    assert sorted(card["class_names"]) == sorted(SHAPES)
    assert (card["image_shape"], sum(card["class_counts"]["test"])) == ([3, 32, 32], 30)
    images = load_file(project.path("05_model_input", "train_images.safetensors"))["images"]
    assert all((train["images"] == image).flatten(1).all(1).any() for image in images[:5])
    assert "these images were made before" in project.run("--pipelines=ingest", **asked).stdout
    asked["ingest__folder__seed"] = 1
    assert "these images were made before" not in project.run("--pipelines=ingest", **asked).stdout


def test_arrays_of_an_npz_file_are_ingested_without_classes(project, tmp_path):
    images = np.arange(30 * 28 * 28, dtype=np.uint32).reshape(30, 28, 28).astype(np.uint8)
    path = tmp_path / "cells.npz"
    np.savez(
        path, train_images=images, train_labels=np.zeros(30, int), test_images=images, test_labels=np.zeros(30, int)
    )
    result = project.invoke("--pipelines=ingest,train", ingest__source="npz", ingest__npz__path=path, train__epochs=1)
    assert result.exit_code == 0, result.output
    card = json.loads(project.path("05_model_input", "data_card.json").read_text(encoding="utf-8"))
    assert (card["name"], card["class_names"], card["class_counts"]["train"]) == ("cells", [], [30])
    assert torch.equal(
        load_file(project.path("05_model_input", "test_images.safetensors"))["images"],
        torch.from_numpy(images)[:, None],
    )


@pytest.mark.parametrize("source", ["folder", "npz"])
def test_a_source_without_its_path_is_refused_before_anything_runs(project, source):
    result = project.invoke("--pipelines=ingest", ingest__source=source)
    assert result.exit_code == 1
    assert f"ingest.{source}.path: expected a path with ingest.source={source}, got null" in result.output
