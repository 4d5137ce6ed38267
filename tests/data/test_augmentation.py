import torch

from video2act.data.augmentation import jitter, shift, vary_clips, vary_images
from video2act.types import Video


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(b: int = 6) -> torch.Tensor:
    return 2 * torch.rand(b, 3, 12, 12, generator=generator()) - 1


def test_a_draw_can_be_repeated():
    for augment in (
        lambda seed: shift(images(), 3, generator=generator(seed)),
        lambda seed: jitter(images(), 0.2, generator=generator(seed)),
    ):
        assert torch.equal(augment(1), augment(1))
        assert not torch.equal(augment(1), augment(2))


def test_nothing_asked_for_changes_nothing_and_draws_nothing():
    rng = generator()
    before = rng.get_state()
    assert torch.equal(shift(images(), 0, generator=rng), images())
    assert torch.equal(jitter(images(), 0.0, generator=rng), images())
    assert torch.equal(rng.get_state(), before)


def test_each_image_moves_by_its_own_whole_number_of_pixels():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    places = torch.stack([y, x, torch.zeros(12, 12)]).expand(64, 3, 12, 12) / 20
    moved = shift(places.contiguous(), 3, generator=generator())
    inner = (20 * moved[:, :2, 4:8, 4:8]).round()
    offsets = inner - torch.stack([y, x])[:, 4:8, 4:8]
    assert (offsets == offsets[:, :, :1, :1]).all()
    assert offsets.min() == -3
    assert offsets.max() == 3
    assert len(offsets[:, :, 0, 0].unique(dim=0)) > 20


def test_the_border_is_repeated_not_black():
    white = torch.ones(4, 3, 12, 12)
    assert torch.equal(shift(white, 4, generator=generator()), white)


def test_colours_stay_in_range_and_near_what_they_were():
    changed = jitter(images(), 0.1, generator=generator())
    assert changed.abs().max() <= 1
    assert 0 < (changed - images()).abs().mean() < 0.2


def test_black_stays_black_and_grey_stays_grey():
    black = -torch.ones(4, 3, 8, 8)
    assert torch.allclose(jitter(black, 0.5, generator=generator()), black, atol=1e-6)
    grey = jitter(images()[:, :1].expand(-1, 3, -1, -1).contiguous(), 0.3, generator=generator())
    assert torch.allclose(grey[:, 0], grey[:, 1], atol=1e-6)


class TestVaryClips:
    def vary(self, grid: torch.Tensor, shift_px: int = 2, amount: float = 0.3) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return vary_clips(Video(grid, 20.0), shift_px=shift_px, amount=amount, generator=generator).grid

    def test_what_stands_still_goes_on_standing_still(self):
        still = (2 * torch.rand(3, 3, 1, 8, 10) - 1).expand(-1, -1, 5, -1, -1)
        varied = self.vary(still)
        assert varied.shape == still.shape
        assert torch.allclose(varied, varied[:, :, :1].expand_as(varied))
        assert not torch.allclose(varied, still, atol=0.05)

    def test_a_background_does_not_flicker_when_an_object_leaves(self):
        """Contrast was scaled around each frame's own mean."""
        clip = torch.full((1, 3, 3, 16, 16), -0.5)
        clip[:, :, 0, :8, :8] = 1.0
        background = self.vary(clip, shift_px=0)[0, :, :, 15, 15]
        assert torch.allclose(background, background[:, :1].expand_as(background), atol=1e-6)

    def test_what_moves_moves_by_as_much(self):
        clip = torch.full((1, 3, 4, 12, 12), -1.0)
        for frame in range(4):
            clip[0, :, frame, 6, 4 + frame] = 1.0
        place = self.vary(clip, amount=0.0)[0, 0].flatten(1).argmax(dim=1)
        assert torch.equal(place.diff(), torch.ones(3, dtype=place.dtype))

    def test_clips_differ_from_each_other(self):
        varied = self.vary((2 * torch.rand(1, 3, 2, 8, 8) - 1).expand(6, -1, -1, -1, -1), amount=0.0)
        assert any(not torch.equal(varied[0], other) for other in varied[1:])

    def test_nothing_happens_at_zero(self):
        clips = 2 * torch.rand(2, 3, 2, 8, 8) - 1
        assert torch.equal(self.vary(clips, 0, 0.0), clips)


class TestVaryImages:
    def vary(self, images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return vary_images(images, shift_px=3, amount=0.2, generator=generator())

    def test_a_past_image_does_not_move_against_the_present_one(self):
        same = images()
        varied = self.vary({"front": same, "side": same, "front@8": same, "front@16": same})
        assert torch.equal(varied["front"], varied["front@8"])
        assert torch.equal(varied["front"], varied["front@16"])
        assert not torch.equal(varied["front"], varied["side"])

    def test_past_images_change_nothing_for_the_others(self):
        alone = self.vary({"front": images(), "side": images(3)})
        beside = self.vary({"front": images(), "front@8": images(), "side": images(3)})
        assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_a_large_shift_needs_no_more_memory_than_the_images():
    """Padding by 8192 px on each side made an image of 12 px one of 16396 px."""
    white = torch.ones(2, 3, 12, 12)
    assert torch.equal(shift(white, 8192, generator=generator()), white)
    small = images()
    assert shift(small, 8192, generator=generator()).shape == small.shape
    assert torch.equal(shift(small, 5, generator=generator(1)), padded(small, 5, generator=generator(1)))


def padded(image: torch.Tensor, max_px: int, *, generator: torch.Generator) -> torch.Tensor:
    offsets = torch.randint(0, 2 * max_px + 1, (len(image), 2), generator=generator).tolist()
    whole = torch.nn.functional.pad(image, (max_px,) * 4, mode="replicate")
    return torch.stack([each[:, y : y + 12, x : x + 12] for each, (y, x) in zip(whole, offsets, strict=True)])
