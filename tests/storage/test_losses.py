from vae_mnist.storage.losses import beside, is_bound


def test_a_loss_that_differs_by_rounding_is_the_bound():
    assert is_bound(103.46, 103.465)
    assert not is_bound(103.46, 103.6)
    assert not is_bound(-103.46, 103.46)
    assert beside(1.0, 1.0, " ({:.2f})") == ""
    assert beside(1.0, 2.0, " ({:.2f})") == " (2.00)"
