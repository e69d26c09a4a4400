"""Grids, PNG and GIF files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxgan import images


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def expected_grid(tiles, columns):
    """Rows of tiles, each with a white pixel above and to the left; then the right and the lower edge."""
    empty = np.full_like(tiles[0], 255)
    tiles = [*tiles, *[empty] * (-len(tiles) % columns)]
    edge = {"mode": "constant", "constant_values": 255}
    tiles = [np.pad(tile, ((1, 0), (1, 0), (0, 0)), **edge) for tile in tiles]
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.pad(np.concatenate(rows), ((0, 1), (0, 1), (0, 0)), **edge)


@given(st.integers(1, 30), st.none() | st.integers(1, 9), st.sampled_from([1, 3]))
def test_large_images_are_laid_out_as_they_are_and_about_square(count, columns, channels):
    tiles = noise(count, 5, 513, channels)
    if columns is None:
        expected_columns = next(c for c in range(1, 7) if c * c >= count)
        assert expected_columns - -(-count // expected_columns) in (0, 1)
    else:
        expected_columns = min(columns, count)
    np.testing.assert_array_equal(images.grid(tiles, columns), expected_grid(tiles, expected_columns))


@pytest.mark.parametrize("channels", [1, 3])
def test_names_stand_beside_the_rows_they_are_of_where_there_is_room(channels):
    picture = noise(90, 60, channels)
    found = images.named(picture, ["cat", "", "dog\n" * 40])
    beside, left = found[:, :-60], found.shape[1] - 60
    np.testing.assert_array_equal(found[:, left:], picture)
    assert [bool((row < 128).any()) for row in np.split(beside, 3)] == [True, False, True]
    assert left < 400
    np.testing.assert_array_equal(images.named(picture, ["cat"] * 30), picture)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("count", "side", "columns"),
    [(1, 8, None), (16, 8, None), (13, 8, None), (64, 28, None), (9, 32, 5), (1, 400, None)],
)
def test_small_images_are_enlarged_by_a_whole_factor(count, side, columns, channels):
    shades = np.arange(count, dtype=np.uint8) * 3  # no tile is white
    tiles = np.broadcast_to(shades[:, None, None, None], (count, side, side, channels))
    picture = images.grid(tiles, columns)
    columns = columns or int(np.ceil(np.sqrt(count)))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == channels
    assert picture.shape[1] <= 1.1 * images.WIDTH
    factor = images.WIDTH // (columns * side)
    assert [int((picture[..., 0] == shade).sum()) for shade in shades] == [(side * factor) ** 2] * count
    assert set(np.unique(picture)) == {*shades.tolist(), 255}


@pytest.mark.parametrize(("count", "side", "columns"), [(64, 64, None), (3, 600, 2), (80, 8, 80)])
def test_a_grid_is_no_wider_than_its_images_need(count, side, columns):
    width = images.grid(np.zeros((count, side, side, 1), np.uint8), columns).shape[1]
    columns = columns or int(np.ceil(np.sqrt(count)))
    assert columns * side <= width <= columns * (side + 1) + 1


def test_enlarged_images_keep_their_place_and_orientation():
    tiles = np.zeros((2, 8, 8, 3), np.uint8)
    tiles[0, :4, 4:, 0] = 255  # the first: upper right, in red
    tiles[1, 4:, :4, 2] = 255  # the second: lower left, in blue
    picture = images.grid(tiles).astype(int)
    red, blue = picture[..., 0] - picture[..., 1] > 200, picture[..., 2] - picture[..., 1] > 200
    height, width = red.shape
    (red_y, red_x), (blue_y, blue_x) = (np.argwhere(mask).mean(axis=0) / (height, width) for mask in (red, blue))
    np.testing.assert_allclose([red_y, red_x, blue_y, blue_x], [1 / 4, 3 / 8, 3 / 4, 5 / 8], atol=0.02)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_holds_the_image_exactly_and_one_that_cannot_be_written_leaves_it(tmp_path, channels, mode, monkeypatch):
    path, image = tmp_path / "000010.png", noise(9, 13, channels)
    path.write_text("an older file")
    images.save_png(str(path), np.zeros_like(image))
    images.save_png(path, image)
    write = Path.write_bytes

    def write_half(self, content):
        write(self, content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="no space left"):
        images.save_png(path, np.zeros((9, 13, 3), np.uint8))
    with Image.open(path) as read:
        assert (read.format, read.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize(
    ("count", "seconds", "each", "last"),
    [(1, 6.0, 0, 3000), (2, 6.0, 3000, 3000), (10, 6.0, 600, 2000), (10, 1.0, 100, 2000), (250, 6.0, 40, 2000)],
)
def test_a_gif_plays_its_frames_endlessly_and_rests_on_the_last(tmp_path, count, seconds, each, last, files, channels):
    frames = [np.full((6, 6, channels), 5 + i, np.uint8) for i in range(count)]
    if files:
        for i, frame in enumerate(frames):
            frames[i] = tmp_path / f"{i:06d}.png"
            images.save_png(frames[i], frame)
    images.save_gif(tmp_path / "all.gif", frames, seconds)
    with Image.open(tmp_path / "all.gif") as gif:
        assert (gif.format, gif.n_frames) == ("GIF", count)
        assert count == 1 or gif.info["loop"] == 0
        durations, shades = [], []
        for i in range(count):
            gif.seek(i)
            durations.append(gif.info.get("duration"))
            shades.append(int(np.asarray(gif.convert("RGB"))[3, 3, 0]))
    assert count == 1 or durations == [each] * (count - 1) + [last]
    assert shades == [5 + i for i in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_side_by_side_under_their_names(channels):
    left, right = noise(60, 90, channels), noise(60, 90, channels)[::-1]
    both = images.beside({"real": left, "generated": right})
    height, width, _ = both.shape
    assert width == 2 * 90 + 12
    np.testing.assert_array_equal(both[-60:, :90], left)
    np.testing.assert_array_equal(both[-60:, -90:], right)
    assert (both[-60:, 90:-90] == 255).all()
    names = both[: height - 60]
    assert (names[:, :90] < 100).any()
    assert (names[:, -90:] < 100).sum() > (names[:, :90] < 100).sum()  # the longer name has more ink
    assert not (names[:, 90:-90] < 100).any()
