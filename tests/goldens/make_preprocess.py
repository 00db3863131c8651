#!/usr/bin/env python3
"""Makes tests/goldens/preprocess: what Pillow, torchvision, transformers and open_clip do with pictures
that C computes from formulas (tests/pictures.c), as CRC-32s.

  resize.txt   kind width height to_width to_height filter crc-of-Pillow crc-of-torchvision
               (the pixels as clipc holds them: mode 1 as 0 and 255, I16 and I little-endian;
               "-" where torchvision has no such filter)
  rgb.txt      kind width height crc-of-convert("RGB") crc-of-convert_to_rgb
  turn.txt     kind width height orientation crc-of-exif_transpose
  pixels.txt   reference alpha kind width height resize height width filter crop-height crop-width fill
               rescale factor normalize statistics to-height to-width crc-of-float32-[3,to-height,to-width]
  VERSIONS     of the libraries that were asked
"""
import argparse
import os
import warnings
import zlib

import numpy as np
import open_clip
import PIL
import torch
import torchvision
import torchvision.transforms.v2.functional as tv
import transformers
from open_clip.transform import image_transform
from PIL import Image, ImageOps
from transformers import CLIPImageProcessor
from transformers.image_transforms import convert_to_rgb
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

KINDS = ["RGB", "RGBA", "LA", "L", "P", "1", "I16", "I", "CMYK"]
KEYED = ["RGBk", "Lk", "1k", "I16k", "Pt", "Ps", "I16low", "Ilow"]
STATISTICS = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "half": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
RESIZE = {"none": 0, "shortest": 1, "exact": 2, "longest": 3}


def source(kind, width, height):
    """The same formulas as pictures_make in tests/pictures.c."""
    y, x = np.mgrid[0:height, 0:width]
    base = 7 * x + 13 * y + 5 * ((x * y) % 31)
    bands = [(base + 29 * c) % 256 for c in range(4)]
    alpha = (3 * x + 5 * y) % 256
    wide = (701 * x + 1301 * y + 1003 * ((x * y) % 31)) % 65536

    def u8(*planes):
        return np.stack(planes, -1).astype(np.uint8)

    mode = kind.rstrip("kts").removesuffix("low")
    if mode == "RGB":
        image = Image.fromarray(u8(*bands[:3]), "RGB")
    elif mode == "RGBA":
        image = Image.fromarray(u8(*bands[:3], alpha), "RGBA")
    elif mode == "LA":
        image = Image.fromarray(u8(bands[0], alpha), "LA")
    elif mode == "CMYK":
        image = Image.fromarray(u8(*bands), "CMYK")
    elif mode == "L":
        image = Image.fromarray(bands[0].astype(np.uint8), "L")
    elif mode == "1":
        image = Image.fromarray(bands[0] & 64 != 0)
    elif mode == "P":
        n = 200 if kind == "Ps" else 256
        image = Image.fromarray(bands[0].astype(np.uint8), "P")
        image.putpalette(bytes((67 * i + 91 * c + 13) % 256 for i in range(n) for c in range(3)))
    elif mode == "I16":
        image = Image.fromarray((wide % 512 if kind.endswith("low") else wide).astype(np.uint16))
    else:
        image = Image.fromarray((wide % 512 - 100 if kind.endswith("low") else wide).astype(np.int32))
    keys = {"RGBk": (25, 54, 83), "Lk": 13, "1k": 255, "I16k": 255, "Pt": bytes((29 * i + 7) % 256 for i in range(256))}
    if kind in keys:
        image.info["transparency"] = keys[kind]
    return image


def crc(data):
    return f"{zlib.crc32(data):08x}"


def raw(image):
    if image.mode == "1":
        return (np.array(image).astype(np.uint8) * 255).tobytes()
    return np.array(image).tobytes()


SHAPES = [(64, 48, 33, 20), (20, 15, 61, 50), (1, 40, 7, 9), (40, 1, 9, 5), (17, 90, 17, 30), (90, 17, 30, 17),
          (37, 200, 20, 25), (200, 37, 25, 20), (1, 1, 5, 4), (50, 40, 50, 40), (3, 700, 150, 2)]


def resizes():
    modes = {0: tv.InterpolationMode.NEAREST_EXACT, 1: tv.InterpolationMode.LANCZOS,
             2: tv.InterpolationMode.BILINEAR, 3: tv.InterpolationMode.BICUBIC}
    more = [(640, 480, 298, 224), (333, 500, 224, 336), (1000, 700, 90, 411), (28, 9, 3066, 3), (2, 9, 83, 3)]
    for kind in KINDS:
        for w, h, ow, oh in SHAPES + (more if kind == "RGB" else []):
            for f in range(6):
                image = source(kind, w, h)
                other = "-"
                if kind == "RGB" and f in modes:
                    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
                    resized = tv.resize(planes, [oh, ow], interpolation=modes[f], antialias=True)
                    other = crc(resized.permute(1, 2, 0).contiguous().numpy().tobytes())
                yield f"{kind} {w} {h} {ow} {oh} {f} {crc(raw(image.resize((ow, oh), f)))} {other}"


def conversions():
    for kind in KINDS + KEYED:
        for w, h in ((64, 48), (256, 256), (1, 3)):
            image = source(kind, w, h)
            white = convert_to_rgb(image, return_numpy=True)
            yield f"{kind} {w} {h} {crc(image.convert('RGB').tobytes())} {crc(white.tobytes())}"


def turns():
    for kind in KINDS:
        for w, h in ((70, 5), (3, 131), (1, 1)):
            for orientation in range(1, 9):
                image = source(kind, w, h)
                image.getexif()[0x0112] = orientation
                yield f"{kind} {w} {h} {orientation} {crc(raw(ImageOps.exif_transpose(image)))}"


def line(reference, alpha, kind, size, resize, target, f, crop, fill, rescale, factor, normalize, statistics, values):
    _, height, width = values.shape
    return (f"{reference} {alpha} {kind} {size[0]} {size[1]} {RESIZE[resize]} {target[0]} {target[1]} {f} {crop[0]} "
            f"{crop[1]} {fill} {rescale} {factor!r} {normalize} {statistics} {height} {width} "
            f"{crc(np.ascontiguousarray(values, dtype='<f4').tobytes())}")


def of_open_clip(kind, size, mode, target, f, fill, statistics):
    mean, std = STATISTICS[statistics]
    transform = image_transform(target if target[0] != target[1] else target[0], False, mean=mean, std=std,
                                resize_mode=mode, interpolation={2: "bilinear", 3: "bicubic"}[f], fill_color=fill)
    values = transform(source(kind, *size)).numpy()
    resize = {"shortest": "shortest", "squash": "exact", "longest": "longest"}[mode]
    crop = (0, 0) if mode == "squash" else target
    return line(1, 0, kind, size, resize, target, f, crop, fill, 1, 1 / 255, 1, statistics, values)


def of_transformers(kind, size, alpha, resize, target, f, crop, rescale, factor, normalize, statistics):
    """Both backends; the torchvision one where it has the filter."""
    mean, std = STATISTICS[statistics]
    options = dict(image_mean=mean, image_std=std, resample=f, do_rescale=bool(rescale), rescale_factor=factor,
                   do_normalize=bool(normalize), do_resize=resize != "none", do_center_crop=crop != (0, 0))
    if resize == "shortest":
        options["size"] = {"shortest_edge": target[0]}
    elif resize == "exact":
        options["size"] = {"height": target[0], "width": target[1]}
    if crop != (0, 0):
        options["crop_size"] = {"height": crop[0], "width": crop[1]}
    for reference, processor in ((2, CLIPImageProcessorPil), (3, CLIPImageProcessor)):
        if reference == 3 and f in (4, 5):
            continue
        image = source(kind, *size)
        if alpha == 1:
            image = image.convert("RGB")
            image.info.pop("transparency", None)
        values = np.asarray(processor(**options)(image, return_tensors="np")["pixel_values"][0], dtype=np.float32)
        yield line(reference, alpha, kind, size, resize, target, f, crop, 0, rescale, factor, normalize, statistics,
                   values)


def pixels():
    sizes = [(64, 48), (50, 131), (131, 50), (1, 77), (200, 31), (31, 200), (90, 64)]
    for kind in KINDS + KEYED:
        for i, size in enumerate(sizes):
            yield of_open_clip(kind, size, "shortest", (48, 48), 3, 0, "clip")
            yield from of_transformers(kind, size, 0, "shortest", (48, 48), 3, (48, 48), 1, 1 / 255, 1, "clip")
            if i < 3 and kind != "RGB":
                yield from of_transformers(kind, size, 1, "shortest", (48, 48), 3, (48, 48), 1, 1 / 255, 1, "clip")
                yield of_open_clip(kind, size, "squash", (40, 40), 2, 0, "half")
                yield of_open_clip(kind, size, "longest", (40, 40), 3, (0, 127, 255)[i], "clip")
                yield of_open_clip(kind, size, "shortest", (45, 33), 2, 0, "imagenet")
    for size in sizes + [(333, 500), (1920, 1080), (455, 256), (257, 255)]:
        for f in range(6):
            yield from of_transformers("RGB", size, 0, "shortest", (56, 56), f, (56, 56), 1, 1 / 255, 1, "clip")
        for mode in ("shortest", "squash", "longest"):
            for target in ((56, 56), (56, 40), (37, 61)):
                for f in (2, 3):
                    if mode == "longest" and round(min(size) / max(size) * min(target)) < 2:
                        continue
                    yield of_open_clip("RGB", size, mode, target, f, 114, "half")
        yield from of_transformers("RGB", size, 0, "exact", (56, 49), 3, (0, 0), 1, 1 / 255, 1, "half")
        for crop in ((49, 49), (56, 61), (57, 56), (60, 59), (40, 71)):
            yield from of_transformers("RGB", size, 0, "shortest", (56, 56), 2, crop, 1, 1 / 255, 1, "imagenet")
            yield from of_transformers("RGBA", size, 0, "none", (0, 0), 3, crop, 1, 1 / 255, 1, "clip")
        for rescale, factor, normalize in ((0, 1 / 255, 1), (1, 1 / 255, 0), (0, 1.0, 0), (1, 1 / 127.5, 1),
                                           (1, 0.0123, 0), (1, 0.00777, 1)):
            yield from of_transformers("RGB", size, 0, "shortest", (32, 32), 3, (32, 32), rescale, factor, normalize,
                                       "clip")


def main():
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "preprocess")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=here, help="folder to write to [%(default)s]")
    out = parser.parse_args().out
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    os.makedirs(out, exist_ok=True)
    for name, lines in (("resize", resizes()), ("rgb", conversions()), ("turn", turns()), ("pixels", pixels())):
        lines = list(lines)
        with open(os.path.join(out, name + ".txt"), "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        print(f"{name}.txt: {len(lines)} lines")
    libraries = (("Pillow", PIL), ("torch", torch), ("torchvision", torchvision), ("transformers", transformers),
                 ("open_clip_torch", open_clip), ("numpy", np))
    with open(os.path.join(out, "VERSIONS"), "w", encoding="ascii") as file:
        file.writelines(f"{name} {module.__version__.split('+')[0]}\n" for name, module in libraries)


if __name__ == "__main__":
    main()
