import pytest
import torch
from torch.nn.functional import avg_pool2d

from vae_mnist.errors import InputError
from vae_mnist.measures import judge
from vae_mnist.measures.judge import judged, shrunk, train_judge
from vae_mnist.measures.samples import measure_samples


@pytest.fixture(scope="module")
def trained(sample_images):
    train = sample_images[0]
    return train_judge(train["images"], train["labels"], 10, seed=0)


def test_the_judge_learns_to_say_the_class(trained, sample_images):
    said = judged(trained, sample_images[1]["images"])
    assert (said.probabilities.argmax(1) == sample_images[1]["labels"]).float().mean() > 0.95
    assert said.features.shape == (1000, judge.FEATURES)
    assert said.features.min() >= 0
    assert torch.allclose(said.probabilities.sum(1), torch.ones(1000))


def test_what_it_says_of_an_image_depends_on_no_other_image(trained, sample_images, monkeypatch):
    images = sample_images[1]["images"][:30]
    whole = judged(trained, images)
    monkeypatch.setattr(judge, "PART", 7)
    for one, other in zip(whole, judged(trained, images), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.equal(judged(trained, images.float() / 255).features, judged(trained, images).features)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_seed_gives_one_judge(sample_images, bfloat16):
    images, labels = (sample_images[0][key][:300] for key in ("images", "labels"))
    one, again, other = (train_judge(images, labels, 10, seed=seed, bfloat16=bfloat16) for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True)]
    assert all(same)
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
    assert all(weight.dtype in (torch.float32, torch.int64) for weight in one.state_dict().values())


def test_bfloat16_learns_as_well(sample_images):
    train, test = sample_images
    found = judged(train_judge(train["images"], train["labels"], 10, seed=0, bfloat16=True), test["images"])
    assert (found.probabilities.argmax(1) == test["labels"]).float().mean() > 0.95


def test_a_last_batch_of_one_image_is_left_out(sample_images):
    images, labels = (sample_images[0][key][: judge.BATCH + 1] for key in ("images", "labels"))
    assert judged(train_judge(images, labels, 10, seed=0), images).features.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 64, 64), (3, 20, 128)])
def test_images_of_any_size_and_colour_are_judged(shape):
    images = torch.randint(256, (200, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 2
    images[labels == 0] //= 4
    found = judged(train_judge(images, labels, 2, seed=0), images)
    assert (found.probabilities.argmax(1) == labels).float().mean() > 0.9


def test_large_images_are_averaged_down():
    images = torch.arange(64 * 128, dtype=torch.float32).view(1, 1, 64, 128) / (64 * 128)
    expected = images.view(32, 2, 32, 4).mean((1, 3))
    assert torch.allclose(shrunk(images)[0, 0], expected)
    assert shrunk(images[..., :20, :30]).shape == (1, 1, 20, 30)


def test_one_class_is_refused():
    with pytest.raises(InputError, match="judge: expected images of at least two classes, got 1"):
        train_judge(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64), 1, seed=0)


def test_worse_images_rank_lower(trained, sample_images):
    """Real images, blurred ones, more blurred ones and noise, each against other real images."""
    real, others = sample_images[1]["images"], sample_images[0]["images"][:1000].float() / 255
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(others.shape, generator=generator)
    made = [others, avg_pool2d(others, 3, 1, 1), avg_pool2d(others, 7, 1, 3), noise]
    measured = []
    for each in made:
        said = judged(trained, each)
        found = measure_samples(judged(trained, real).features, said.features, said.probabilities, seed=0)
        measured.append({each.name: each.value for each in found})
    for name in ("frechet_distance", "kernel_distance"):
        values = [each[name] for each in measured]
        assert values == sorted(values), name
    for name in ("coverage", "recall", "density"):
        values = [each[name] for each in measured]
        assert values == sorted(values, reverse=True), name
    assert measured[0]["confident_share"] > measured[2]["confident_share"]
    assert measured[0]["precision"] > 0.8
    assert measured[3]["precision"] < 0.1
    assert measured[3]["class_entropy"] < 1 < measured[0]["class_entropy"]
