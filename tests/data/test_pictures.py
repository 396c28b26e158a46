"""Pictures of every mode, frame and kind become the same tensors; what cannot is named."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from dsla.coco.heads import endings, upright
from dsla.data import load_image, pictures
from dsla.data.pictures import image_tensor
from dsla.errors import DataError, DataWarning

ORIENTATION = 0x0112


def half_red(size=(64, 48)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return image


MODES = {
    "RGB": ("png", half_red),
    "L": ("png", lambda: half_red().convert("L")),
    "1": ("png", lambda: half_red().convert("1")),
    "LA": ("png", lambda: half_red().convert("LA")),
    "P": ("png", lambda: half_red().quantize(4)),
    "RGBA": ("png", lambda: half_red().convert("RGBA")),
    "CMYK": ("jpg", lambda: half_red().convert("CMYK")),
    "YCbCr": ("jpg", lambda: half_red().convert("YCbCr")),
    "I;16": ("png", lambda: Image.fromarray(np.full((48, 64), 40000, dtype=np.uint16))),
    "I": ("tif", lambda: Image.fromarray(np.full((48, 64), 40000, dtype=np.int32))),
    "F": ("tif", lambda: Image.fromarray(np.full((48, 64), 0.5, dtype=np.float32))),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_three_channels_in_0_to_1(tmp_path, mode):
    ending, build = MODES[mode]
    build().save(tmp_path / f"x.{ending}")
    image = load_image(tmp_path / f"x.{ending}")
    assert image.dtype == torch.float32
    assert image.shape == (3, 48, 64)
    red, green, blue = image[:, :, :30].mean((1, 2)) * 255
    if mode in ("RGB", "P", "RGBA", "CMYK", "YCbCr"):
        assert red - green > 100
    else:
        assert red == green == blue
    grey = {"I;16": 40000 / 65535, "I": 40000 / 65535, "F": 0.5}
    if mode in grey:
        torch.testing.assert_close(image, torch.full((3, 48, 64), grey[mode]), atol=1 / 255, rtol=0)


def grey(tmp_path, values, name="x.png"):
    Image.fromarray(np.asarray(values)).save(tmp_path / name)
    return tmp_path / name


@pytest.mark.robustness("wrong: white follows from the type of an image, never from the single image")
def test_white_follows_from_the_type_and_never_from_the_single_image(tmp_path):
    """C14: 16 bits keep their levels; frames of a data set keep their brightness."""
    ramp = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64)
    for top in (65535, 4095, 400, 255, 200):
        values = (ramp.astype(np.float64) * top / ramp.max()).round().astype(np.uint16)
        image = load_image(grey(tmp_path, values))
        assert torch.equal(image[0], torch.from_numpy((values / 65535).astype(np.float32)))
        assert len(image.unique()) == len(np.unique(values))
    image = load_image(grey(tmp_path, (ramp % 4096).astype(np.uint16)), value_range=(0, 4095))
    assert float(image.max()) == pytest.approx(ramp.max() / 4095)
    assert torch.equal(image[0], image[2])


@pytest.mark.robustness("wrong: float images outside 0…1 need a range of the data set")
def test_floats_outside_0_to_1_need_a_range_of_the_data_set(tmp_path):
    celsius = np.linspace(20, 35, 48 * 64, dtype=np.float32).reshape(48, 64)
    path = grey(tmp_path, celsius, "x.tif")
    with pytest.raises(DataError, match=r"x.tif: values from 20 to 35 in an image of floats.*value_range"):
        load_image(path)
    image = load_image(path, value_range=(20, 40))
    np.testing.assert_allclose(image[0], (celsius - 20) / 20, atol=1e-6)
    unknown = grey(tmp_path, np.where(np.eye(48, 64), np.float32("nan"), celsius), "unknown.tif")
    with pytest.warns(DataWarning, match=r"pixels of a float picture that are not numbers \(NaN\) are read black"):
        assert load_image(unknown, value_range=(20, 35))[:, 7, 7].tolist() == [0, 0, 0]
    for wrong in ((5, 5), (4095,), (0, np.nan), (0, np.inf)):
        with pytest.raises(DataError, match=r"x.tif: value_range is what is black and what is white"):
            load_image(path, value_range=wrong)
    with pytest.raises(DataError, match=r"values from 0 to 1\.2"):
        load_image(grey(tmp_path, (celsius - 20) / 12.5, "y.tif"))


def test_cases_of_many_bits_are_read_alike(shared):
    folder = shared / "cases" / "inputs" / "C14"
    day, night = (load_image(folder / f"{name}.png", value_range=(0, 4095)) for name in ("day_4095", "night_255"))
    assert float(day.max()) == 1
    assert float(night.max()) == pytest.approx(255 / 4095)
    assert float(load_image(folder / "darker_200.png").max()) < float(load_image(folder / "night_255.png").max())


def test_transparent_pixels_are_white(tmp_path):
    clear = half_red().convert("RGBA")
    clear.paste((9, 9, 9, 0), (32, 0, 64, 48))
    clear.save(tmp_path / "rgba.png")
    half_red().quantize(2).save(tmp_path / "p.png", transparency=half_red().quantize(2).getpixel((60, 5)))
    for name in ("rgba.png", "p.png"):
        image = load_image(tmp_path / name)
        assert (image[:, :, 32:] == 1).all(), name
        assert image[:, 10, 10].tolist() == [1, 0, 0], name


@pytest.mark.robustness("wrong: 12 bits in files of 16 are not read dark in silence")
def test_12_bits_in_files_of_16_are_said_once_for_a_folder(tmp_path):
    for name, top in (("dark.png", 4095), ("again.png", 300), ("bright.png", 5000)):
        Image.fromarray(np.full((8, 8), top, dtype=np.uint16)).save(tmp_path / name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_image(tmp_path / "bright.png")
        load_image(tmp_path / "dark.png", value_range=(0, 4095))
        assert caught == []
        load_image(tmp_path / "dark.png")
        load_image(tmp_path / "again.png")
    assert [str(w.message) for w in caught] == [
        f"{tmp_path}: a picture of 16 bits has no value above 4095 and is read dark; if all are of 12 bits, say "
        "value_range=(0, 4095) or --value-range 0 4095"
    ]


def deep_png(path, values):
    """A PNG of 16 bits a channel, which Pillow does not write, of [H, W, C]."""
    kind = {2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = {b"IHDR": struct.pack(">IIBBBBB", *values.shape[1::-1], 16, kind, 0, 0, 0), b"IDAT": zlib.compress(rows)}
    chunks = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts.items()]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.robustness("wrong: 16 bits a channel in colour lose no level without a word, and refuse a value_range")
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_a_channel_in_colour(tmp_path, channels):
    values = np.full((8, 8, channels), 0x40FF)
    values[..., 3 if channels > 2 else 1 :] = 0xFFFF  # opaque
    for name in ("a.png", "b.png"):
        deep_png(tmp_path / name, values)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = load_image(tmp_path / "a.png")
        load_image(tmp_path / "b.png")
    what = "colour or opacity in channels of 16 bits, of which the upper 8 are read"
    message = f"{tmp_path}: {what}; if they hold 12 bits, they are dark: convert them"
    assert [str(w.message) for w in caught] == [message]
    assert image.unique().tolist() == pytest.approx([0x40 / 255], abs=1e-6)
    with pytest.raises(DataError, match=rf"a\.png: {what}, so that a value_range has no effect"):
        load_image(tmp_path / "a.png", value_range=(0, 4095))


@pytest.mark.filterwarnings("error")
def test_16_bits_a_pixel_are_no_16_bits_a_channel(tmp_path):
    pixels, masks = struct.pack("<4H", 0xF800, 0x07E0, 0x001F, 0xFFFF), struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    start = struct.pack("<2sIHHI", b"BM", 66 + len(pixels), 0, 0, 66)
    (tmp_path / "a.bmp").write_bytes(start + header + masks + pixels)
    image = load_image(tmp_path / "a.bmp", value_range=(0, 255))
    assert image[:, 0].T.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]


@pytest.mark.robustness("wrong: a file of several pictures is said to be read in part")
def test_files_of_several_pictures_are_said(tmp_path):
    first, second = half_red(), half_red().rotate(180)
    for name in ("a.gif", "a.png", "a.webp", "a.tif", "a.mpo"):
        folder = tmp_path / name[2:]
        folder.mkdir()
        first.save(folder / name, save_all=True, append_images=[second], quality=95)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = load_image(folder / name)
        messages = [f"{folder}: of a file with several pictures the first is read"]
        assert [str(w.message) for w in caught] == ([] if name == "a.mpo" else messages)  # a phone's, with a preview
        assert image[0, :, :28].min() > 0.9
        assert image[0, :, 36:].max() < 0.1


def test_turned_tiffs_lie_in_the_upright_frame(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    half_red((60, 40)).save(tmp_path / "x.tif", exif=exif)
    seen = load_image(tmp_path / "x.tif")
    assert seen.shape == (3, 60, 40)
    assert seen[:, 2, 20].tolist() == [1, 0, 0]
    assert torch.equal(load_image(tmp_path / "x.tif", (60, 40)), seen)
    with pytest.raises(DataError, match=r"x\.tif: the image is 40x60, but the annotations say 60x40"):
        load_image(tmp_path / "x.tif", (40, 60))  # Pillow gives no other frame
    with Image.open(tmp_path / "x.tif") as picture:
        assert upright(picture) == (60, 40)


@pytest.mark.robustness("wrong: boxes lie in the frame, upright or stored, whose size the file gives")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_frames(tmp_path, orientation):
    """Upright by default and where the asked size is the upright one; as stored where only that fits."""
    stored = half_red((60, 40))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    upright = load_image(tmp_path / "x.png")
    turned = orientation > 4
    assert upright.shape == ((3, 60, 40) if turned else (3, 40, 60))
    red_side = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}[orientation]
    corner = {"left": (20, 2), "right": (20, -3), "top": (2, 20), "bottom": (-3, 20)}[red_side]
    assert upright[:, corner[0], corner[1]].tolist() == [1, 0, 0]
    assert torch.equal(load_image(tmp_path / "x.png", upright.shape[1:]), upright)
    as_stored = load_image(tmp_path / "x.png", (40, 60))
    assert as_stored[:, 20, 2].tolist() == ([1, 0, 0] if turned or red_side == "left" else [0, 0, 1])
    with pytest.raises(DataError, match=r"x.png: the image is 60x40.* 50x40") as error:
        load_image(tmp_path / "x.png", (40, 50))
    assert ("40x60" in str(error.value)) == turned


@pytest.mark.robustness("strangers: image files that are cut or none are named")
def test_broken_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    half_red((400, 400)).save(tmp_path / "whole.jpg", quality=95)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    for name in ("text.png", "cut.jpg", "empty.png", "bomb.png"):
        with pytest.raises(DataError, match="cannot be read as an image") as error:
            load_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
    with pytest.raises(DataError, match="no such image file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read"):
        load_image(tmp_path)


def test_a_picture_in_any_form_is_one_tensor(tmp_path):
    half_red().save(tmp_path / "x.png")
    path = tmp_path / "x.png"
    values = np.array(half_red())
    expected = torch.from_numpy(values).permute(2, 0, 1) / 255
    forms = [
        path, str(path), Image.open(path), values, values.tolist(), values.transpose(2, 0, 1), values / 255,
        values.astype(np.float32), values.astype(np.int64), values.astype(np.uint16) * 257,
        torch.from_numpy(values), expected, np.dstack([values, np.full((48, 64), 255, np.uint8)]),
    ]  # fmt: skip
    for form in forms:
        image = image_tensor(form)
        assert (image.dtype, image.device.type) == (torch.float32, "cpu")
        torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)
    assert image_tensor([[0, 255], [51, 102]])[:, 1, 1].tolist() == pytest.approx([0.4] * 3)
    assert image_tensor(np.array([[True, False]])).max() == 1
    assert torch.equal(image_tensor(expected.bfloat16()), expected.bfloat16().float())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4), 1.2), r"largest value is 1\.2"),
        (np.full((4, 4), 35.0) * 10, "largest value is 350"),
        (np.full((4, 4), 300), "largest value is 300"),
        (np.full((4, 4), -0.1), "not negative"),
        (np.full((4, 4), np.nan), "finite"),
        (np.zeros((5, 5, 5)), "channels"),
        (np.zeros((0, 4)), "expected a path"),
        (np.zeros((1, 2, 3, 4)), "expected a path"),
        (np.array([["a"]]), "expected a path"),
        (None, "expected a path"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_shape(values, message):
    with pytest.raises(DataError, match=message):
        image_tensor(values)


@pytest.mark.robustness("strangers: image formats that run other programs are not opened")
def test_formats_are_pillows_without_those_that_run_other_programs(tmp_path):
    assert {".jpg", ".png", ".tga", ".gif", ".webp", ".ppm"} <= endings()
    assert not {".eps", ".ps", ".wmf", ".mpg", ".h5"} & endings()
    half_red().save(tmp_path / "x.eps")
    with pytest.raises(DataError, match="cannot be read as an image"):
        load_image(tmp_path / "x.eps")


@pytest.mark.robustness("strangers: images of more pixels than a limit are refused with it")
def test_the_limit_of_pixels_is_stated(tmp_path, monkeypatch):
    half_red().save(tmp_path / "x.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 48)
    load_image(tmp_path / "x.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(DataError, match=r"x\.png: 64x48 pixels; images of up to 3,071 are read"):
        load_image(tmp_path / "x.png")
