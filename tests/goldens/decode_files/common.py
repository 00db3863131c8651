"""What the files of every format share: the list of them, pictures computed from a formula, EXIF."""
import io, struct

import numpy as np
from PIL import Image

FILES = []  # (name, bytes, status or None: CLIPC_OK where Pillow opens it, else CLIPC_E_FORMAT)


def add(name, data, status=None):
    assert all(name != other[0] for other in FILES), name
    FILES.append((name, bytes(data), status))


def rgb(w, h, bands=3):
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    return np.stack([(7 * x + 13 * y + 29 * c + 5 * ((x * y) % 31)) % 256 for c in range(bands)], -1).astype(np.uint8)


def picture(w, h, mode="RGB"):
    bands = {"L": 1, "RGB": 3, "CMYK": 4, "RGBA": 4, "LA": 2}[mode]
    data = rgb(w, h, bands)
    return Image.fromarray(data[..., 0] if bands == 1 else data, mode)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation, order="<", entries=1):
    ifd = b"".join(struct.pack(order + "HHIHH", 0x0100 + i, 3, 1, 7, 0) for i in range(entries - 1))
    ifd += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, entries) + ifd + b"\0\0\0\0"
