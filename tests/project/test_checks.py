"""What is refused before the first node, and what is not."""

import pytest
import torch

from vae_mnist.training import machine


@pytest.mark.parametrize("words", [["--runner=ParallelRunner"], ["--runner-params=is_async=True"]])
def test_a_runner_that_cannot_train_is_refused_in_one_sentence(finished, words):
    result = finished.invoke(*words)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == (
        "Error: train_model saves each epoch while it trains, which ParallelRunner and --async do not support: "
        "leave them out, or use them for other pipelines only."
    )


def test_compiled_steps_are_refused_on_a_card(finished, monkeypatch):
    """No card is needed: only the answer that there is one is given here."""
    card = machine.Machine(torch.device("cuda"), machine.Precision("bfloat16", torch.bfloat16), 1)
    monkeypatch.setattr(machine, "resolve_machine", lambda config: card)
    result = finished.invoke("--pipelines=train", train__compile=True)
    assert result.exit_code == 1
    assert "Error: train.compile: expected auto or false on cuda, got true." in result.output


def test_processes_cannot_pass_on_what_is_in_memory(finished):
    result = finished.invoke("--runner=ParallelRunner", "--pipelines=ingest")
    assert result.exit_code == 1
    assert "Error: raw_images is passed on in memory, which the processes of ParallelRunner do not" in result.output


def test_the_report_can_be_drawn_by_several_processes(finished):
    latent_map = finished.path("08_reporting", "default", "latent_map.png")
    before = latent_map.read_bytes(), latent_map.stat().st_ino
    result = finished.run("--runner=ParallelRunner", "--pipelines=evaluate,report")
    assert latent_map.read_bytes() == before[0]
    assert latent_map.stat().st_ino != before[1]
    assert "data       5,000-digit sample" in result.stdout


def test_a_report_can_be_loaded_and_saved_by_threads(finished):
    assert finished.invoke("--runner-params=is_async=True", "--pipelines=report").exit_code == 0


def test_torchrun_without_training_is_refused(finished, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = finished.invoke("--pipelines=report")
    assert "Error: torchrun starts processes that train together, and none of the chosen nodes trains." in result.output


@pytest.mark.parametrize("name", ["total_correlation", "factor"])
def test_a_loss_of_whole_batches_is_not_divided_among_processes(finished, monkeypatch, name):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = finished.invoke("--pipelines=train", run="divided", objective__name=name)
    assert result.exit_code == 1
    assert f"Error: objective.name: expected elbo, iwae or dreg with torchrun, got {name}." in result.output
    assert not finished.path("06_models", "divided").exists()


def test_beginning_behind_a_dataset_in_memory_says_so(finished):
    result = finished.invoke("--from-nodes=split_images")
    assert result.exit_code == 1
    assert "Error: raw_images is passed on in memory only: begin with an earlier node" in result.output


def test_training_before_ingest_says_what_to_do(project):
    result = project.invoke("--pipelines=train")
    assert result.exit_code == 1
    assert result.output.rstrip().endswith(
        "no data_card at data/05_model_input/data_card.json: run kedro run --pipelines=ingest first"
    )


def test_a_damaged_data_card_is_named(ingested):
    ingested.path("05_model_input", "data_card.json").write_text('{"title": "x"}')
    result = ingested.invoke("--pipelines=train")
    assert result.exit_code == 1
    assert "data_card.json: name: missing." in result.output.partition("Error: ")[2]
    assert "Traceback" not in result.output


def test_images_of_a_class_are_refused_before_a_model_without_classes_is_trained(finished):
    result = finished.invoke("--pipelines=train,generate", run="unlabelled", generate__label=7)
    assert result.exit_code == 1
    assert "Error: generate.label: expected null with model.conditional=false, got 7. " in result.output
    assert not finished.path("07_model_output", "unlabelled").exists()


@pytest.mark.parametrize("pipelines", ["--pipelines=ingest,train", "--pipelines=train"])
def test_a_network_with_more_levels_than_the_images_allow_is_refused_before_anything_is_made(finished, pipelines):
    result = finished.invoke(pipelines, run="deep", model__network="residual", model__residual__patch=16)
    assert result.exit_code == 1
    assert "Error: model.residual.channels: 2 levels of cells of 16 x 16 pixels expect images of at least 33 x 33" in (
        result.output
    )
    assert not finished.path("07_model_output", "deep").exists()
