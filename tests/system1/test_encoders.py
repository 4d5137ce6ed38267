import torch

from video2act.system1.encoders import MAP_SIZE, ImageEncoder, key_points


def encoder() -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(channels=8, width=32)


def image(size: int = 32, b: int = 2) -> torch.Tensor:
    return 2 * torch.rand(b, 3, size, size, generator=torch.Generator().manual_seed(0)) - 1


def test_a_picture_of_any_size_becomes_a_map_and_a_point():
    for size in (16, 32, 64):
        tokens = encoder()(image(size))
        assert tokens.data.shape == (2, MAP_SIZE**2 + 1, 32)
        assert tokens.mask.all()


def test_pictures_of_a_batch_are_alone():
    model, pictures = encoder(), image()
    singles = torch.cat([model(picture[None]).data for picture in pictures])
    assert torch.allclose(model(pictures).data, singles, atol=1e-5)


def test_what_stands_in_a_corner_changes_the_token_of_that_corner_most():
    model, pictures = encoder(), image(64, b=1)
    changed = pictures.clone()
    changed[:, :, 48:, :16] = 1.0
    change = (model(changed).data - model(pictures).data).norm(dim=2)[0, :-1].view(MAP_SIZE, MAP_SIZE)
    assert change.argmax() == 3 * MAP_SIZE
    assert (model(changed).data - model(pictures).data)[0, -1].norm() > 1e-4


def test_every_weight_learns():
    model = encoder()
    model(image()).data.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_a_key_point_is_where_the_channel_is_active():
    features = torch.full((1, 2, 5, 9), -50.0)
    features[0, 0, 0, 8] = 50.0
    features[0, 1, 2, 4] = 50.0
    row_1, row_2, column_1, column_2 = key_points(features)[0].tolist()
    assert (row_1, column_1) == (-1.0, 1.0)
    assert abs(row_2) < 1e-6
    assert abs(column_2) < 1e-6


def test_a_key_point_of_an_even_map_is_its_middle():
    assert torch.allclose(key_points(torch.zeros(1, 3, 4, 4)), torch.zeros(1, 6), atol=1e-6)
