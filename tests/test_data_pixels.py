"""What an image file means: its orientation, its colours, what is transparent, and files that cannot be read."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from small_data import NOISE, encoded, png

from jaxgan.data import DataError, pixels

WIDE = NOISE[:6, :9]
# By the EXIF specification: which corner of the picture the first row and column of the file are.
ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 100}}


def read(file, shape=None):
    return pixels.read(io.BytesIO(file), shape)


def refusal(file):
    with pytest.raises(DataError) as caught:
        read(file)
    return str(caught.value)


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_images_are_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = LOSSLESS.get(kind, {})
    stored = np.asarray(Image.open(io.BytesIO(encoded(WIDE, kind, **options)))) if kind == "JPEG" else WIDE
    np.testing.assert_array_equal(read(encoded(WIDE, kind, exif=exif, **options)), ORIENTED[orientation](stored))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0\x2a\0\0\0\x08\0\xff\1\x12", b"Exif\0\0II*\0\xff"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_data_count_as_none(kind, exif):
    np.testing.assert_array_equal(read(encoded(WIDE, kind, exif=exif)), read(encoded(WIDE, kind)))


def on_white(colour, alpha):
    return np.round(colour * (alpha / 255) + 255 * (1 - alpha / 255))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_shows_white(kind):
    alpha = np.repeat(np.array([0, 1, 64, 128, 254, 255], np.uint8)[:, None, None], 9, axis=1)
    image = read(encoded(np.concatenate([WIDE, alpha], axis=-1), kind, **LOSSLESS.get(kind, {})))
    np.testing.assert_allclose(image, on_white(WIDE.astype(float), alpha), atol=1)
    assert (image[0] == 255).all()
    np.testing.assert_array_equal(image[-1], WIDE[-1])
    grey = Image.fromarray(np.concatenate([np.zeros_like(alpha), alpha], axis=-1), "LA")
    for file, shape in ((encoded(grey), None), (encoded(grey.convert("RGBA")), (6, 9, 1))):
        np.testing.assert_array_equal(read(file, shape), 255 - alpha)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (png([b"\x02\x0f"], 2, 8, 0, (b"tRNS", b"\0\x02")), [[255], [15]]),
        (png([b"\x2f"], 2, 4, 0, (b"tRNS", b"\0\x02")), [[255], [255]]),
        (png([b"\x2f"], 2, 4, 0, (b"tRNS", b"\0\x0f")), [[34], [255]]),
        (png([b"\x1b"], 4, 2, 0, (b"tRNS", b"\0\x01")), [[0], [255], [170], [255]]),
        (png([b"\x40"], 2, 1, 0, (b"tRNS", b"\0\x00")), [[255], [255]]),
        (png([b"\x40"], 2, 1, 0), [[0], [255]]),
        (png([b"\x02\x0f\x01\x05\x06\x07"], 2, 8, 2, (b"tRNS", b"\0\x02\0\x0f\0\x01")), [[255, 255, 255], [5, 6, 7]]),
        (
            png([b"\x01"], 2, 4, 3, (b"PLTE", b"\x0a\x0a\x0a\xff\0\0"), (b"tRNS", b"\x00\x80")),
            [[255, 255, 255], [255, 127, 127]],
        ),
    ],
    ids=["8 bits", "4 bits", "4 bits, white", "2 bits", "1 bit", "1 bit, opaque", "RGB", "palette"],
)
def test_the_transparent_colour_of_a_png_shows_white(file, expected):
    np.testing.assert_array_equal(read(file), [expected])


def wide_profile(gamma=1.8):
    """An ICC profile of sRGB's primaries with another gamma, by the ICC's specification: a matrix and a curve."""
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(srgb[128:132], "big")
    for i in range(count):
        entry = 132 + 12 * i
        if srgb[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(srgb[entry + 4 : entry + 8], "big")
            srgb[offset : offset + 16] = (
                b"curv" + bytes(4) + (1).to_bytes(4, "big") + int(gamma * 256).to_bytes(2, "big") + bytes(2)
            )
    return bytes(srgb)


def to_srgb(values, gamma):
    linear = (np.asarray(values) / 255) ** gamma
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


RAMP = np.repeat(np.arange(16, 256, 8, np.uint8)[None, :, None], 3, axis=-1).repeat(8, axis=0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_an_embedded_profile_is_brought_to_srgb(kind):
    image = read(encoded(RAMP, kind, icc_profile=wide_profile(), **LOSSLESS.get(kind, {})))
    np.testing.assert_allclose(image, to_srgb(RAMP, 1.8), atol=2)
    assert np.abs(to_srgb(RAMP, 1.8) - RAMP).max() > 15  # that it matters


def test_a_profile_counts_for_the_colours_of_a_palette_and_beside_transparency():
    palette = Image.fromarray(RAMP).quantize(64)
    exact = np.asarray(palette.convert("RGB"))
    np.testing.assert_allclose(read(encoded(palette, icc_profile=wide_profile())), to_srgb(exact, 1.8), atol=2)
    alpha = np.linspace(0, 255, 8).astype(np.uint8)[:, None, None].repeat(RAMP.shape[1], axis=1)
    image = read(encoded(np.concatenate([RAMP, alpha], axis=-1), icc_profile=wide_profile()))
    np.testing.assert_allclose(image, on_white(to_srgb(RAMP, 1.8), alpha), atol=2)


def ink_profile():
    """An ICC profile of CMYK, by the specification: a table of its 16 corners, in which cyan alone makes black."""
    same = bytes(range(256))
    matrix = b"".join((65536 if i % 4 == 0 else 0).to_bytes(4, "big") for i in range(9))
    corners = b"".join(bytes([0 if i & 8 else 255, 128, 128]) for i in range(16))  # CIELAB; cyan varies slowest
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + same * 4 + corners + same * 3
    white = b"".join(int(x * 65536).to_bytes(4, "big") for x in (0.9642, 1.0, 0.8249))
    header = bytes(4) + b"\x02\x40\0\0" + b"prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28) + white + bytes(48)
    tags = (1).to_bytes(4, "big") + b"A2B0" + (144).to_bytes(4, "big") + len(table).to_bytes(4, "big")
    return (144 + len(table)).to_bytes(4, "big") + header + tags + table


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks_become_colours_and_their_profile_is_used(kind):
    """CMYK: each ink takes its colour away from white, and black all; Photoshop's JPEG files, and Pillow's, invert."""
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]], np.uint8)
    inks = inks.repeat(16, axis=0).repeat(16, axis=1)
    picture = Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes())
    expected = [[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]
    np.testing.assert_allclose(read(encoded(picture, kind))[8, 8::16], expected, atol=8)
    image = read(encoded(picture, kind, icc_profile=ink_profile()))
    np.testing.assert_allclose(image[8, 24:56:16], [[0, 0, 0], [255, 255, 255]], atol=4)


@pytest.mark.parametrize("profile", [b"broken", wide_profile()[:200], None])
def test_srgb_and_broken_profiles_change_nothing(profile):
    profile = profile or ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(read(encoded(WIDE, icc_profile=profile)), WIDE)
    grey = encoded(WIDE[..., 0], icc_profile=profile)  # a profile of RGB in a grey image is broken too
    np.testing.assert_array_equal(read(grey)[..., 0], WIDE[..., 0])


@pytest.mark.parametrize("mode", ["YCbCr", "P", "PA", "RGBX", "RGB"])
def test_other_modes_become_rgb(mode):
    flat = np.broadcast_to(np.array([204, 51, 102], np.uint8), (8, 8, 3))
    picture = Image.fromarray(flat)
    file = encoded(
        picture.convert("RGBA" if mode == "PA" else "RGB").convert(mode), "JPEG" if mode == "YCbCr" else "TIFF"
    )
    assert Image.open(io.BytesIO(file)).mode in (mode, "RGB")
    np.testing.assert_allclose(read(file), flat, atol=3)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_stays_grey_and_becomes_colour_where_asked(mode):
    picture = Image.fromarray(WIDE).convert(mode)
    image = read(encoded(picture))
    np.testing.assert_array_equal(image[..., 0], np.asarray(picture.convert("L")))
    np.testing.assert_array_equal(read(encoded(picture), (6, 9, 3)), image.repeat(3, axis=-1))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(file)).n_frames == 3
    np.testing.assert_allclose(read(file), np.broadcast_to([255, 0, 0], (8, 8, 3)), atol=2)


DEEP = {
    "16-bit grey": encoded(WIDE[..., 0].astype(np.uint16) * 257),
    "16-bit grey TIFF": encoded(WIDE[..., 0].astype(np.uint16), "TIFF"),
    "16-bit RGB": png([bytes(12)], 2, 16, 2),
    "16-bit grey and alpha": png([bytes(8)], 2, 16, 4),
    "16-bit RGBA": png([bytes(16)], 2, 16, 6),
    "float TIFF": encoded(Image.fromarray(WIDE[..., 0].astype(np.float32)), "TIFF"),
    "32-bit TIFF": encoded(Image.fromarray(WIDE[..., 0].astype(np.int32)), "TIFF"),
    "CIELAB TIFF": encoded(Image.new("LAB", (4, 4)), "TIFF"),
}


@pytest.mark.parametrize("file", DEEP.values(), ids=DEEP)
def test_numbers_whose_black_and_white_are_not_known_are_refused(file):
    message = refusal(file)
    assert "must have 8 bits a channel" in message
    assert "convert" in message


def test_a_bmp_of_16_bits_for_all_three_channels_is_read():
    """5 bits of red, 6 of green and 5 of blue, as BMP's bit fields say; not 16 bits a channel."""
    values = np.array([0xF800, 0x07E0, 0x001F, 0xFFFF], "<u2").tobytes()
    header = (40).to_bytes(4, "little") + (4).to_bytes(4, "little") + (1).to_bytes(4, "little")
    header += b"\x01\0\x10\0" + (3).to_bytes(4, "little") + len(values).to_bytes(4, "little") + bytes(16)
    masks = b"".join(mask.to_bytes(4, "little") for mask in (0xF800, 0x07E0, 0x001F))
    start = 14 + len(header) + len(masks)
    file = b"BM" + (start + len(values)).to_bytes(4, "little") + bytes(4) + start.to_bytes(4, "little")
    image = read(file + header + masks + values)
    np.testing.assert_array_equal(image, [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]])


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert "decompression bomb" in refusal(encoded(WIDE))


FILES = [encoded(WIDE, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO")]
FILES.append(encoded(WIDE, icc_profile=wide_profile()))


@settings(max_examples=300)
@given(st.sampled_from(FILES), st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_pixels_or_one_clear_error(file, draw):
    damaged = bytearray(file[: draw.draw(st.integers(0, len(file)))])
    for _ in range(draw.draw(st.integers(0, 3))):
        if damaged:
            damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        image, said = read(bytes(damaged)), "remove or mend it"
    except DataError as error:
        image, said = WIDE, str(error)
    assert "remove or mend it" in said or "convert it" in said
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[-1] in (1, 3)


def test_an_image_of_another_aspect_ratio_is_cropped_or_has_black_beside_it():
    wide = Image.new("RGB", (8, 4), (200, 100, 50))
    assert (pixels.fit(wide, (4, 4, 3), "crop") == [200, 100, 50]).all()
    padded = pixels.fit(wide, (4, 4, 3), "pad")
    assert (padded[[0, 3]] == 0).all()
    assert (padded[1:3] == [200, 100, 50]).all()
