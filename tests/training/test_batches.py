import pytest
import torch

from vae_mnist.data.images import ImageSet
from vae_mnist.training.batches import Batches
from vae_mnist.training.team import Team


def batches(count=10, batch_size=4, seed=0, samples=2, **options):
    images = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)
    image_set = ImageSet(images=images, labels=torch.arange(count))
    return Batches(image_set, samples, 3, batch_size, torch.Generator().manual_seed(seed), **options)


def grey(count, value, **options):
    """Batches of images of one grey value, binarised anew."""
    image_set = ImageSet(images=torch.full((count, 1, 4, 5), value, dtype=torch.uint8), labels=torch.arange(count))
    return Batches(image_set, 1, 3, 40, torch.Generator().manual_seed(0), dynamic=True, **options)


def images(epoch):
    return torch.cat([batch.images for batch in epoch])


def order(epoch):
    return [round(value * 255) for batch in epoch for value in batch.images.flatten().tolist()]


def test_every_image_comes_once_an_epoch_and_the_last_batch_is_ragged():
    epoch = list(batches())
    assert [len(batch.images) for batch in epoch] == [4, 4, 2]
    assert [batch.noise.shape for batch in epoch] == [(2, 4, 3), (2, 4, 3), (2, 2, 3)]
    assert sorted(order(epoch)) == list(range(10))
    assert len(batches()) == 3


def test_each_label_stays_with_its_image():
    epoch = list(batches())
    assert torch.cat([batch.labels for batch in epoch]).tolist() == order(epoch)


def test_each_epoch_has_another_order_and_other_noise():
    both = batches(count=200, batch_size=200)
    (first,), (second,) = list(both), list(both)
    assert not torch.equal(first.images, second.images)
    assert not torch.equal(first.noise, second.noise)


def test_one_seed_gives_one_order():
    assert order(batches(seed=3)) == order(batches(seed=3))
    assert order(batches(count=200, seed=3)) != order(batches(count=200, seed=4))


def test_the_generator_state_alone_says_where_to_go_on():
    """A resume that replays the order of the first epoch is a mistake seen in public code."""
    unbroken = batches(count=50)
    list(unbroken)
    state = unbroken.generator.get_state()
    second_epoch = order(unbroken)
    resumed = batches(count=50, seed=99)
    resumed.generator.set_state(state)
    assert order(resumed) == second_epoch


def test_extra_noise_is_drawn_after_the_models_and_belongs_to_an_image():
    plain, more = (list(batches(count=11, extra_dim=size)) for size in (0, 5))
    assert all(batch.extra_noise is None for batch in plain)
    assert torch.equal(plain[0].noise, more[0].noise)
    assert [batch.extra_noise.shape for batch in more] == [(4, 5), (4, 5), (3, 5)]
    assert not torch.equal(more[0].extra_noise, more[1].extra_noise)
    parts = [list(batches(count=11, extra_dim=5, team=Team(rank, 3))) for rank in range(3)]
    for batch, *shares in zip(more, *parts, strict=True):
        assert torch.equal(batch.extra_noise, torch.cat([share.extra_noise for share in shares]))


def test_the_parts_of_a_team_are_the_batches_of_one_process():
    whole = list(batches(count=11, batch_size=4))
    parts = [list(batches(count=11, batch_size=4, team=Team(rank, 3))) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([share.images for share in shares]))
        assert torch.equal(batch.labels, torch.cat([share.labels for share in shares]))
        assert torch.equal(batch.noise, torch.cat([share.noise for share in shares], dim=1))
        assert {share.total for share in shares} == {batch.total} == {len(batch.images)}


def test_pixels_drawn_anew_have_the_mean_of_their_grey_values():
    for value in (0, 51, 204, 255):
        drawn = images(grey(5000, value))
        assert drawn.dtype == torch.float32
        assert set(drawn.unique().tolist()) <= {0.0, 1.0}
        assert drawn.mean().item() == pytest.approx(value / 255, abs=0.005 if 0 < value < 255 else 0)


def test_each_batch_and_each_epoch_draws_its_pixels_anew():
    batches = grey(80, 128)
    one, two = [batch.images for batch in batches]
    assert not torch.equal(one, two)
    assert not torch.equal(one, next(iter(batches)).images)


def test_pixels_drawn_anew_follow_from_the_generators_state_alone():
    unbroken, resumed = grey(100, 128), grey(100, 128)
    list(unbroken)
    resumed.generator.set_state(unbroken.generator.get_state())
    assert torch.equal(images(unbroken), images(resumed))


def test_a_team_draws_the_pixels_of_one_process():
    whole = list(grey(90, 128))
    parts = [list(grey(90, 128, team=Team(rank, 2))) for rank in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([share.images for share in shares]))
        assert torch.equal(batch.noise, torch.cat([share.noise for share in shares], dim=1))
