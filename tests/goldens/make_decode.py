#!/usr/bin/env python3
"""Makes tests/goldens/decode: small pictures of every kind, and what Pillow and transformers make of them.

The pictures are made by decode_files/, a module for each format.
MANIFEST.txt has one line per file, fields apart by one blank:
  file status mode width height crc_data crc_rgb crc_white orientation
status is what clipc must return. For CLIPC_OK: Pillow's mode, the size, and the CRC32 (hex) of the mode's raw
bytes (mode 1 as 0/255 per pixel, I;16 and I little-endian), of convert("RGB"), and of transformers'
convert_to_rgb (alpha composited on white); then the orientation that ImageOps.exif_transpose would turn by.
The photographs of photos/ are described too.
Refused files have "-" in the other fields. VERSIONS.txt records the versions of the libraries.

usage: make_decode.py [output folder]
"""
import io, os, struct, sys, warnings, zlib

import PIL
import transformers
from PIL import ExifTags, Image, features
from transformers.image_transforms import convert_to_rgb

from decode_files import bmps, gifs, jpegs, others, pngs, pnms
from decode_files.common import FILES

warnings.simplefilter("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
PHOTOS = ["../photos/" + name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]


def describe(data):
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, MemoryError, OverflowError, TypeError) as e:
        return None, e
    raw = image.convert("L").tobytes() if image.mode == "1" else image.tobytes()
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    crc = ["%08x" % zlib.crc32(b) for b in (raw, image.convert("RGB").tobytes())]
    try:
        crc.append("%08x" % zlib.crc32(convert_to_rgb(image, return_numpy=True).tobytes()))
    except ValueError:  # a tRNS chunk longer than any palette
        crc.append("-")
    orientation = orientation if orientation in range(1, 9) else 1
    mode = image.im.mode  # image.mode says L where a GIF's local grey ramp stands over a global palette of colours
    return f"{mode} {image.width} {image.height} {' '.join(crc)} {orientation}", None


def main():
    if len(sys.argv) > 2 or "--help" in sys.argv:
        sys.exit(__doc__)
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "decode")
    os.makedirs(folder, exist_ok=True)
    for kind in (jpegs, pngs, gifs, bmps, pnms, others):
        kind.make()
    Image.MAX_IMAGE_PIXELS = 178956970 // 2  # Pillow refuses at twice this
    with open(os.path.join(folder, "MANIFEST.txt"), "w") as manifest:
        for name, data, status in FILES:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
            fields, trouble = (None, None) if status else describe(data)
            if status is None:
                status = "CLIPC_OK" if fields else "CLIPC_E_FORMAT"
            manifest.write(f"{name} {status} {fields or '- - - - - - -'}\n")
            if "VERBOSE" in os.environ and trouble:
                print(f"{name}: {trouble!r}")
        for name in PHOTOS:
            with open(os.path.join(HERE, "decode", name), "rb") as file:
                manifest.write(f"{name} CLIPC_OK {describe(file.read())[0]}\n")
    with open(os.path.join(folder, "VERSIONS.txt"), "w") as versions:
        versions.write(f"Pillow {PIL.__version__}\nlibjpeg-turbo {features.version('libjpeg_turbo')}\n"
                       f"zlib {features.version('zlib')}\ntransformers {transformers.__version__}\n")


if __name__ == "__main__":
    main()
