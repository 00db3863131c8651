#!/usr/bin/env python3
"""Makes tests/goldens/decode: small pictures of every kind, and what Pillow and transformers make of them.

MANIFEST.txt has one line per file, fields apart by one blank:
  file status mode width height crc_data crc_rgb crc_white orientation
status is what clipc must return. For CLIPC_OK: Pillow's mode, the size, and the CRC32 (hex) of the mode's raw
bytes (mode 1 as 0/255 per pixel, I;16 and I little-endian), of convert("RGB"), and of transformers'
convert_to_rgb (alpha composited on white); then the orientation that ImageOps.exif_transpose would turn by.
The photographs of ../photos, which must be there, are described too.
Refused files have "-" in the other fields. VERSIONS.txt records the versions of the libraries.

usage: make_decode.py [output folder]
"""
import io, os, random, struct, sys, warnings, zlib

import numpy as np
import PIL
import transformers
from PIL import ExifTags, Image, features
from transformers.image_transforms import convert_to_rgb

warnings.simplefilter("ignore")
PHOTOS = ["../photos/" + name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]
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


# ---------------------------------------------------------------- JPEG


def segments(data):
    """[(marker, payload)] of a JPEG up to and including its first scan header, and the offset behind it."""
    at, found = 2, []
    while True:
        marker, n = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        found.append((marker, data[at + 4 : at + 2 + n]))
        at += 2 + n
        if marker == 0xDA:
            return found, at


def rebuild(found, rest, junk=b""):
    out = b"\xff\xd8"
    for i, (marker, payload) in enumerate(found):
        out += (junk if i > 0 else b"") + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
    return out + rest


DC_BITS, DC_VALUES = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], list(range(12))
# A table of our own for AC: every (run, size) has a code of 8 bits, but those of a few ordinary ones.
AC_VALUES = [0x00, 0x01, 0x02, 0x11, 0x03, 0x12, 0x21, 0xF0] + [
    r * 16 + s for r in range(16) for s in range(1, 11) if (r, s) not in ((0, 1), (0, 2), (1, 1), (0, 3), (1, 2), (2, 1))
] + [r * 16 for r in range(1, 15)]
AC_BITS = [0, 0, 0, 8, 0, 0, 0, 0, 0, 168, 0, 0, 0, 0, 0, 0]
ZIGZAG = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14,
          21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60,
          61, 54, 47, 55, 62, 63]


def codes(bits, values):
    table, code, at = {}, 0, 0
    for length, n in enumerate(bits, 1):
        for _ in range(n):
            table[values[at]] = (code, length)
            code, at = code + 1, at + 1
        code <<= 1
    return table


DC_CODES, AC_CODES = codes(DC_BITS, DC_VALUES), codes(AC_BITS, AC_VALUES)


class Bits:
    def __init__(self):
        self.out, self.held, self.n = bytearray(), 0, 0

    def put(self, value, n):
        self.held, self.n = self.held << n | value, self.n + n
        while self.n >= 8:
            byte = self.held >> (self.n - 8) & 255
            self.out.append(byte)
            if byte == 255:
                self.out.append(0)
            self.n -= 8
        self.held &= (1 << self.n) - 1

    def flush(self):
        if self.n:
            self.put((1 << (8 - self.n)) - 1, 8 - self.n)


def put_value(bits, value, size):
    bits.put(value if value > 0 else value + (1 << size) - 1, size)


class Jpeg:
    """Writes JPEGs of random coefficients with any sampling factors, scans, restarts and tables."""

    def __init__(self, rng, w, h, sampling, step=8, amplitude=30, progressive=False, restart=0, ids=None, blocks16=False):
        self.rng, self.w, self.h, self.sampling, self.restart = rng, w, h, sampling, restart
        self.progressive, self.ids = progressive, ids or list(range(1, len(sampling) + 1))
        self.step, self.wide = step, blocks16
        self.hmax, self.vmax = max(s[0] for s in sampling), max(s[1] for s in sampling)
        self.mcus_x, self.mcus_y = -(-w // (8 * self.hmax)), -(-h // (8 * self.vmax))
        self.coefficients = [
            [[self.block(amplitude) for _ in range(self.mcus_x * s[0])] for _ in range(self.mcus_y * s[1])] for s in sampling
        ]

    def block(self, amplitude):
        block = [0] * 64
        block[0] = self.rng.randint(-amplitude, amplitude)
        for _ in range(self.rng.choice([0, 1, 2, 4, 8])):
            at = min(63, int(self.rng.expovariate(0.15)) + 1)
            block[at] = self.rng.randint(-amplitude // 2, amplitude // 2)
        return block

    def blocks(self, components):
        """The coded blocks of a scan: lists of (component, block), one list per MCU."""
        if len(components) > 1:
            for my in range(self.mcus_y):
                for mx in range(self.mcus_x):
                    yield [(c, self.coefficients[c][my * self.sampling[c][1] + y][mx * self.sampling[c][0] + x])
                           for c in components for y in range(self.sampling[c][1]) for x in range(self.sampling[c][0])]
        else:
            c = components[0]
            across = -(-(-(-self.w * self.sampling[c][0] // self.hmax)) // 8)
            down = -(-(-(-self.h * self.sampling[c][1] // self.vmax)) // 8)
            for y in range(down):
                for x in range(across):
                    yield [(c, self.coefficients[c][y][x])]

    def scan(self, components, start=0, end=63, low=0, high=0):
        head = bytes([len(components)]) + b"".join(bytes([self.ids[c], 0]) for c in components)
        out = struct.pack(">BBH", 0xFF, 0xDA, len(head) + 5) + head + bytes([start, end, high << 4 | low])
        bits, last, n = Bits(), [0] * 4, 0
        for mcu in self.blocks(components):
            if self.restart and n and n % self.restart == 0:
                bits.flush()
                bits.out += bytes([0xFF, 0xD0 + (n // self.restart - 1) % 8])
                last = [0] * 4
            n += 1
            for c, block in mcu:
                if start == 0 and high:
                    bits.put(block[0] >> low & 1, 1)
                    continue
                if start == 0:
                    value = (block[0] >> low) - last[c]
                    last[c] = block[0] >> low
                    size = abs(value).bit_length()
                    bits.put(*DC_CODES[size])
                    if size:
                        put_value(bits, value, size)
                if end > 0:
                    run = 0
                    for k in range(max(start, 1), end + 1):
                        if block[k] == 0:
                            run += 1
                            continue
                        while run > 15:
                            bits.put(*AC_CODES[0xF0])
                            run -= 16
                        size = abs(block[k]).bit_length()
                        bits.put(*AC_CODES[run << 4 | size])
                        put_value(bits, block[k], size)
                        run = 0
                    if run:
                        bits.put(*AC_CODES[0])
        bits.flush()
        return out + bytes(bits.out)

    def tables(self):
        if self.wide:
            out = struct.pack(">BBHB", 0xFF, 0xDB, 131, 0x10) + struct.pack(">64H", *[self.step + 37 * k for k in range(64)])
        else:
            out = struct.pack(">BBHB", 0xFF, 0xDB, 67, 0) + bytes(min(255, self.step + k // 2) for k in range(64))
        dht = bytes([0x00] + DC_BITS + DC_VALUES) + bytes([0x10] + AC_BITS + AC_VALUES)
        return out + struct.pack(">BBH", 0xFF, 0xC4, len(dht) + 2) + dht

    def bytes(self, scans=None, sof=None, before=b"", precision=8):
        sof = sof or (0xC2 if self.progressive else 0xC0)
        out = b"\xff\xd8" + before + self.tables()
        frame = struct.pack(">BHHB", precision, self.h, self.w, len(self.sampling)) + b"".join(
            bytes([i, s[0] << 4 | s[1], 0]) for i, s in zip(self.ids, self.sampling))
        out += struct.pack(">BBH", 0xFF, sof, len(frame) + 2) + frame
        if self.restart:
            out += struct.pack(">BBHH", 0xFF, 0xDD, 4, self.restart)
        everything = list(range(len(self.sampling)))
        if scans is None and self.progressive:
            scans = [(everything, 0, 0, 1, 0)] + [([c], a, b) for c in everything for a, b in ((1, 5), (6, 63))]
            scans += [(everything, 0, 0, 0, 1)]
        return out + b"".join(self.scan(*s) for s in scans or [(everything,)]) + b"\xff\xd9"


def exif(orientation, order="<", entries=1):
    ifd = b"".join(struct.pack(order + "HHIHH", 0x0100 + i, 3, 1, 7, 0) for i in range(entries - 1))
    ifd += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, entries) + ifd + b"\0\0\0\0"


def app(n, payload):
    return struct.pack(">BBH", 0xFF, 0xE0 + n, len(payload) + 2) + payload


def make_jpegs():
    rng = random.Random(1)
    small = dict(quality=60, optimize=True)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        name = subsampling.replace(":", "")
        add(f"jpeg_{name}.jpg", saved(picture(21, 19), "JPEG", subsampling=subsampling, **small))
        add(f"jpeg_{name}_progressive.jpg", saved(picture(37, 35), "JPEG", subsampling=subsampling, progressive=True, **small))
        add(f"jpeg_{name}_restart.jpg", saved(picture(70, 33), "JPEG", subsampling=subsampling, restart_marker_blocks=2, **small))
        for w, h in ((1, 1), (2, 2), (3, 3), (4, 5), (5, 1), (1, 17), (16, 16), (17, 2)):
            add(f"jpeg_{name}_{w}x{h}.jpg", saved(picture(w, h), "JPEG", subsampling=subsampling, **small))
    add("jpeg_q100_noise.jpg", saved(Image.fromarray(np.random.RandomState(1).randint(0, 256, (23, 25, 3), np.uint8)), "JPEG", quality=100))
    add("jpeg_q1.jpg", saved(picture(40, 24), "JPEG", quality=1))
    add("jpeg_grey.jpg", saved(picture(21, 19, "L"), "JPEG", **small))
    add("jpeg_grey_progressive.jpg", saved(picture(21, 19, "L"), "JPEG", progressive=True, **small))
    add("jpeg_cmyk.jpg", saved(picture(21, 19, "CMYK"), "JPEG", **small))
    add("jpeg_cmyk_progressive.jpg", saved(picture(21, 19, "CMYK"), "JPEG", progressive=True, **small))
    add("jpeg_rgb_adobe.jpg", saved(picture(21, 19), "JPEG", keep_rgb=True, **small))

    adobe = lambda transform: app(14, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))
    jfif = app(0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    one = (1, 1)
    samplings = {
        "440": [(1, 2), one, one], "411": [(4, 1), one, one], "410": [(4, 2), one, one], "441": [(1, 4), one, one],
        "420": [(2, 2), one, one], "chroma_large": [one, (2, 2), one], "mixed": [(2, 2), (2, 1), (1, 2)],
        "mixed2": [(2, 1), (1, 1), (2, 1)], "3x1": [(3, 1), one, one], "1x3": [(1, 3), one, one], "222": [(2, 2)] * 3,
        "grey22": [(2, 2)], "grey31": [(3, 1)], "4442": [(2, 2), (1, 2), (2, 1)], "424": [(2, 4), (1, 2), (2, 2)],
    }
    for name, sampling in samplings.items():
        add(f"jpeg_made_{name}.jpg", Jpeg(rng, 43, 37, sampling).bytes())
        add(f"jpeg_made_{name}_progressive.jpg", Jpeg(rng, 29, 41, sampling, progressive=True).bytes())
    for w in range(1, 7):
        add(f"jpeg_made_440_{w}.jpg", Jpeg(rng, w, 9 - w, samplings["440"]).bytes())
    add("jpeg_made_fraction.jpg", Jpeg(rng, 30, 30, [(3, 2), (2, 1), one]).bytes(), "CLIPC_E_UNSUPPORTED")
    separate = [([0],), ([1],), ([2],)]
    add("jpeg_made_separate_scans.jpg", Jpeg(rng, 43, 37, samplings["420"]).bytes(separate))
    add("jpeg_made_separate_restart.jpg", Jpeg(rng, 43, 37, samplings["420"], restart=3).bytes(separate))
    add("jpeg_made_two_scans.jpg", Jpeg(rng, 43, 37, samplings["420"]).bytes([([0],), ([1, 2],)]))
    add("jpeg_made_missing_scan.jpg", Jpeg(rng, 43, 37, samplings["420"]).bytes([([0],)]))
    add("jpeg_made_cmyk.jpg", Jpeg(rng, 43, 37, [one] * 4).bytes(before=adobe(0)))
    add("jpeg_made_cmyk_420.jpg", Jpeg(rng, 43, 37, [(2, 2), one, one, (2, 2)]).bytes(before=adobe(0)))
    add("jpeg_made_cmyk_plain.jpg", Jpeg(rng, 43, 37, [one] * 4).bytes())
    add("jpeg_made_ycck.jpg", Jpeg(rng, 43, 37, [(2, 2), one, one, (2, 2)]).bytes(before=adobe(2)))
    add("jpeg_made_ycck_unknown.jpg", Jpeg(rng, 43, 37, [one] * 4).bytes(before=adobe(9)))
    add("jpeg_made_adobe0.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(before=adobe(0)))
    add("jpeg_made_adobe1.jpg", Jpeg(rng, 20, 20, [one] * 3, ids=[82, 71, 66]).bytes(before=adobe(1)))
    add("jpeg_made_adobe7.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(before=adobe(7)))
    add("jpeg_made_adobe_jfif.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(before=jfif + adobe(0)))
    add("jpeg_made_adobe_short.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(before=app(14, b"Adobe\0\0")))
    add("jpeg_made_jfif_short.jpg", Jpeg(rng, 20, 20, [one] * 3, ids=[82, 71, 66]).bytes(before=app(0, b"JFIF\0\1\1")))
    add("jpeg_made_ids_rgb.jpg", Jpeg(rng, 20, 20, [one] * 3, ids=[82, 71, 66]).bytes())
    add("jpeg_made_ids_rgb_jfif.jpg", Jpeg(rng, 20, 20, [one] * 3, ids=[82, 71, 66]).bytes(before=jfif))
    add("jpeg_made_ids_odd.jpg", Jpeg(rng, 20, 20, [one] * 3, ids=[0, 5, 200]).bytes())
    add("jpeg_made_two_components.jpg", Jpeg(rng, 20, 20, [one] * 2).bytes(), "CLIPC_E_UNSUPPORTED")
    add("jpeg_made_dqt16.jpg", Jpeg(rng, 33, 20, [one] * 3, blocks16=True, amplitude=6).bytes(sof=0xC1))
    add("jpeg_made_saturated.jpg", Jpeg(rng, 40, 40, samplings["420"], step=60, amplitude=60).bytes())
    add("jpeg_made_sof1.jpg", Jpeg(rng, 20, 20, samplings["420"]).bytes(sof=0xC1))
    add("jpeg_made_12bit.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(sof=0xC1, precision=12), "CLIPC_E_UNSUPPORTED")
    add("jpeg_made_arithmetic.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(sof=0xC9), "CLIPC_E_UNSUPPORTED")
    add("jpeg_made_lossless.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(sof=0xC3), "CLIPC_E_UNSUPPORTED")
    add("jpeg_made_hierarchical.jpg", Jpeg(rng, 20, 20, [one] * 3).bytes(sof=0xC5), "CLIPC_E_UNSUPPORTED")
    add("jpeg_made_zero_height.jpg", Jpeg(rng, 20, 0, [one] * 3).bytes())
    add("jpeg_made_progressive_restart.jpg", Jpeg(rng, 43, 37, samplings["420"], progressive=True, restart=2).bytes())
    incomplete = Jpeg(rng, 43, 37, samplings["420"], progressive=True)
    add("jpeg_made_progressive_incomplete.jpg", incomplete.bytes([([0, 1, 2], 0, 0, 0, 0)]), "CLIPC_E_UNSUPPORTED")

    whole = saved(picture(50, 40), "JPEG", **small)
    found, at = segments(whole)
    rest = whole[at:]
    add("jpeg_junk.jpg", rebuild(found, rest, junk=b"\x00\x12\xff\x00\x34"))
    add("jpeg_fill_bytes.jpg", rebuild(found, rest, junk=b"\xff\xff\xff"))
    add("jpeg_after_eoi.jpg", whole + b"rubbish" * 9)
    # Without a marker behind the data Pillow refuses most files, and takes some, by chance of libjpeg's bit buffer.
    add("jpeg_no_eoi.jpg", whole[:-2], "CLIPC_E_FORMAT")
    add("jpeg_truncated_half.jpg", whole[: at + len(rest) // 2])
    add("jpeg_truncated_half_eoi.jpg", whole[: at + len(rest) // 2] + b"\xff\xd9")
    add("jpeg_truncated_last.jpg", whole[:-1], "CLIPC_E_FORMAT")
    add("jpeg_truncated_header.jpg", whole[:40])
    add("jpeg_soi_only.jpg", b"\xff\xd8\xff")
    add("jpeg_no_tables.jpg", rebuild([s for s in segments(saved(picture(50, 40), "JPEG"))[0] if s[0] != 0xC4],
                                      (lambda d: d[segments(d)[1]:])(saved(picture(50, 40), "JPEG"))))
    add("jpeg_no_dqt.jpg", rebuild([s for s in found if s[0] != 0xDB], rest))
    progressive = saved(picture(50, 40), "JPEG", progressive=True, **small)
    add("jpeg_progressive_truncated.jpg", progressive[: len(progressive) * 2 // 3])
    restarts = saved(picture(70, 33), "JPEG", restart_marker_blocks=1, **small)
    at = restarts.index(b"\xff\xd2")
    add("jpeg_restart_missing.jpg", restarts[:at] + restarts[at + 2 :])
    add("jpeg_restart_extra_bytes.jpg", restarts[:at] + b"\x12\x34" + restarts[at:])
    add("jpeg_restart_two_missing.jpg", (lambda d, a: d[:a] + d[a + 2 :])(restarts.replace(b"\xff\xd3", b"", 1), restarts.index(b"\xff\xd2")))
    add("jpeg_restart_swapped.jpg", restarts.replace(b"\xff\xd2", b"\xff\xd1", 1))
    add("jpeg_restart_far.jpg", restarts.replace(b"\xff\xd2", b"\xff\xd6", 1))
    add("jpeg_restart_other.jpg", restarts.replace(b"\xff\xd2", b"\xff\x02", 1))
    add("jpeg_restart_eoi.jpg", restarts.replace(b"\xff\xd2", b"\xff\xd9", 1))
    for orientation in range(1, 9):
        add(f"jpeg_exif{orientation}.jpg", saved(picture(11, 7), "JPEG", exif=b"Exif\0\0" + exif(orientation, "<>"[orientation % 2]), **small))
    add("jpeg_exif_entries.jpg", saved(picture(11, 7), "JPEG", exif=b"Exif\0\0" + exif(6, ">", 5), **small))
    add("jpeg_exif_9.jpg", saved(picture(11, 7), "JPEG", exif=b"Exif\0\0" + exif(9), **small))
    add("jpeg_exif_broken.jpg", saved(picture(11, 7), "JPEG", exif=b"Exif\0\0" + exif(6)[:15], **small))
    add("jpeg_xmp.jpg", saved(picture(11, 7), "JPEG", xmp=b'<x tiff:Orientation="8"/>', **small))


# ---------------------------------------------------------------- PNG

MAGIC = b"\x89PNG\r\n\x1a\n"


def chunk(kind, data, crc=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ crc)


def png_rows(rng, w, h, bits, passes):
    """Filtered rows of random samples, every filter type used."""
    out = bytearray()
    for x0, y0, dx, dy in passes:
        pw, ph = -(-(w - x0) // dx) if w > x0 else 0, -(-(h - y0) // dy) if h > y0 else 0
        if pw:
            for y in range(ph):
                out.append(rng.randrange(5))
                out += rng.randbytes((pw * bits + 7) // 8)
    return bytes(out)


WHOLE = [(0, 0, 1, 1)]
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(rng, w, h, depth, colour, interlace=0, plte=None, trns=None, rows=None, stream=None, idat=None, extra=b"",
        header=None, crc=0, end=chunk(b"IEND", b"")):
    ihdr = header or struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)
    out = MAGIC + chunk(b"IHDR", ihdr, crc) + extra
    if plte is not None:
        out += chunk(b"PLTE", plte)
    if trns is not None:
        out += chunk(b"tRNS", trns)
    if rows is None:
        rows = png_rows(rng, w, h, depth * BANDS.get(colour, 1), ADAM7 if interlace else WHOLE)
    stream = zlib.compress(rows, 9) if stream is None else stream
    return out + (chunk(b"IDAT", stream) if idat is None else idat(stream)) + end


def make_pngs():
    rng = random.Random(2)
    kinds = [(d, 0) for d in (1, 2, 4, 8, 16)] + [(d, 3) for d in (1, 2, 4, 8)] + [(d, c) for c in (2, 4, 6) for d in (8, 16)]
    for depth, colour in kinds:
        for interlace in (0, 1):
            plte = rng.randbytes(3 << depth) if colour == 3 else None
            name = f"png_{colour}_{depth}{'_adam7' if interlace else ''}"
            add(name + ".png", png(rng, 13, 11, depth, colour, interlace, plte))
            for w, h in ((1, 1), (3, 2), (9, 5)):
                add(f"{name}_{w}x{h}.png", png(rng, w, h, depth, colour, interlace, plte))
    # transparency keys and palette alphas
    for depth in (1, 2, 4):
        for key in sorted({0, 1, (1 << depth) - 1}):
            add(f"png_key_0_{depth}_{key}.png", png(rng, 16, 9, depth, 0, trns=struct.pack(">H", key)))
    add("png_key_0_2_85.png", png(rng, 16, 9, 2, 0, trns=struct.pack(">H", 85)))
    zeros = lambda n: (b"\0" + bytes(rng.choice((0, 7, 255)) for _ in range(n))) * 9
    add("png_key_0_8.png", png(rng, 16, 9, 8, 0, trns=b"\0\7", rows=zeros(16)))
    add("png_key_0_8_263.png", png(rng, 16, 9, 8, 0, trns=b"\1\7", rows=zeros(16)))
    add("png_key_0_1_300.png", png(rng, 16, 9, 1, 0, trns=b"\1\x2c"))
    add("png_key_0_16.png", png(rng, 16, 9, 16, 0, trns=b"\0\7", rows=(b"\0" + b"\0\7\0\x08\7\0\xff\xff" * 4) * 9))
    add("png_key_0_16_1792.png", png(rng, 16, 9, 16, 0, trns=b"\7\0", rows=(b"\0" + b"\0\7\0\x08\7\0\xff\xff" * 4) * 9))
    add("png_key_2_8.png", png(rng, 16, 9, 8, 2, trns=b"\0\7\0\7\0\7", rows=(b"\0" + b"\7\7\7\7\7\x08" * 8) * 9))
    add("png_key_2_8_high.png", png(rng, 16, 9, 8, 2, trns=b"\1\7\0\7\0\7", rows=(b"\0" + b"\7\7\7\7\7\x08" * 8) * 9))
    add("png_key_2_16.png", png(rng, 16, 9, 16, 2, trns=b"\7\7\7\7\7\7", rows=(b"\0" + b"\7\7\7\7\7\7\7\7\7\7\7\x08" * 8) * 9))
    add("png_key_2_16_low.png", png(rng, 16, 9, 16, 2, trns=b"\0\7\0\7\0\7", rows=(b"\0" + b"\7\7\7\7\7\7\7\7\7\7\7\x08" * 8) * 9))
    add("png_key_short.png", png(rng, 16, 9, 8, 0, trns=b"\7"))
    add("png_key_rgb_short.png", png(rng, 16, 9, 8, 2, trns=b"\0\7\0\7"))
    add("png_trns_rgba.png", png(rng, 16, 9, 8, 6, trns=b"\0\7\0\7\0\7"))
    for depth in (1, 2, 4, 8):
        plte = rng.randbytes(3 << depth)
        add(f"png_palette_alpha_{depth}.png", png(rng, 16, 9, depth, 3, plte=plte, trns=rng.randbytes(1 << depth)))
        add(f"png_palette_one_{depth}.png", png(rng, 16, 9, depth, 3, plte=plte, trns=b"\xff\0"))
    plte = rng.randbytes(768)
    add("png_palette_alpha_short.png", png(rng, 16, 9, 4, 3, plte=plte[:48], trns=b"\x10\x80\xff"))
    add("png_palette_alpha_opaque.png", png(rng, 16, 9, 4, 3, plte=plte[:48], trns=b"\xff\xff\xff"))
    add("png_palette_alpha_two.png", png(rng, 16, 9, 4, 3, plte=plte[:48], trns=b"\xff\0\xff\0"))
    add("png_palette_one_then_opaque.png", png(rng, 16, 9, 4, 3, plte=plte[:48], trns=b"\0\xff\xff"))
    add("png_palette_alpha_long.png", png(rng, 16, 9, 2, 3, plte=plte[:12], trns=rng.randbytes(16)))
    add("png_palette_alpha_257.png", png(rng, 16, 9, 8, 3, plte=plte, trns=rng.randbytes(257)))
    add("png_palette_trns_first.png", png(rng, 16, 9, 4, 3, extra=chunk(b"tRNS", b"\x10\x80"), plte=plte[:48]))
    add("png_palette_short.png", png(rng, 16, 9, 8, 3, plte=plte[:30]))
    add("png_palette_uneven.png", png(rng, 16, 9, 8, 3, plte=plte[:31]))
    add("png_palette_long.png", png(rng, 16, 9, 4, 3, plte=plte))
    add("png_palette_too_long.png", png(rng, 16, 9, 8, 3, plte=plte + b"\1\2\3"))
    add("png_palette_none.png", png(rng, 16, 9, 8, 3))
    add("png_palette_none_trns.png", png(rng, 16, 9, 8, 3, trns=rng.randbytes(200)))
    add("png_palette_empty.png", png(rng, 16, 9, 8, 3, plte=b""))
    add("png_palette_twice.png", png(rng, 16, 9, 4, 3, plte=plte[:48], extra=chunk(b"PLTE", plte[48:96])))
    add("png_palette_of_rgb.png", png(rng, 16, 9, 8, 2, plte=plte[:48]))
    add("png_transparency_empty.png", png(rng, 16, 9, 4, 3, plte=plte[:48], trns=b""))
    add("png_trns_after_idat.png", png(rng, 16, 9, 8, 3, plte=plte, end=chunk(b"tRNS", b"\0\x10") + chunk(b"IEND", b"")))
    add("png_key_after_idat.png", png(rng, 16, 9, 8, 0, rows=zeros(16), end=chunk(b"tRNS", b"\0\7") + chunk(b"IEND", b"")))
    add("png_plte_after_idat.png", png(rng, 16, 9, 8, 3, end=chunk(b"PLTE", plte) + chunk(b"IEND", b"")))
    # streams
    rows = png_rows(rng, 13, 11, 24, WHOLE)
    stream = zlib.compress(rows, 9)
    pieces = lambda s: b"".join(chunk(b"IDAT", s[i : i + 7]) for i in range(0, len(s), 7)) + chunk(b"IDAT", b"")
    add("png_idat_pieces.png", png(rng, 13, 11, 8, 2, rows=rows, idat=pieces))
    add("png_idat_interrupted.png", png(rng, 13, 11, 8, 2, rows=rows, idat=lambda s: chunk(b"IDAT", s[:50]) + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", s[50:])))
    add("png_idat_bad_crc.png", png(rng, 13, 11, 8, 2, idat=lambda s: chunk(b"IDAT", s, 1)))
    add("png_idat_first_bad_crc.png", png(rng, 13, 11, 8, 2, idat=lambda s: chunk(b"IDAT", s[:50], 1) + chunk(b"IDAT", s[50:], 1)))
    add("png_ihdr_bad_crc.png", png(rng, 13, 11, 8, 2, crc=1))
    add("png_text_bad_crc.png", png(rng, 13, 11, 8, 2, extra=chunk(b"tEXt", b"a\0b", 1)))
    add("png_text_after_bad_crc.png", png(rng, 13, 11, 8, 2, end=chunk(b"tEXt", b"a\0b", 1) + chunk(b"IEND", b"", 1)))
    add("png_no_iend.png", png(rng, 13, 11, 8, 2, end=b""))
    add("png_rubbish_after.png", png(rng, 13, 11, 8, 2) + b"rubbish" * 5)
    add("png_rubbish_for_iend.png", png(rng, 13, 11, 8, 2, end=b"rubbish" * 5))
    add("png_short_rows.png", png(rng, 13, 11, 8, 2, rows=rows[: 40 * 6]))
    add("png_short_mid_row.png", png(rng, 13, 11, 8, 2, rows=rows[: 40 * 6 + 17]))
    add("png_short_adam7.png", png(rng, 13, 11, 8, 2, 1, rows=png_rows(rng, 13, 11, 24, ADAM7)[:300]))
    add("png_short_empty.png", png(rng, 13, 11, 8, 2, rows=b""))
    add("png_long_rows.png", png(rng, 13, 11, 8, 2, rows=rows + bytes(100000)))
    add("png_stream_cut.png", png(rng, 13, 11, 8, 2, stream=stream[: len(stream) // 2]))
    add("png_stream_cut_no_iend.png", png(rng, 13, 11, 8, 2, stream=stream[: len(stream) // 2], end=b""))
    add("png_stream_cut_compressed.png", png(rng, 40, 40, 8, 0, stream=zlib.compress(b"".join(b"\1" + bytes(40) for _ in range(20)) + png_rows(rng, 40, 20, 8, WHOLE))[:300]))
    add("png_stream_cut_adler.png", png(rng, 13, 11, 8, 2, stream=stream[:-2]))
    add("png_stream_no_adler.png", png(rng, 13, 11, 8, 2, stream=stream[:-4]))
    add("png_stream_bad_adler.png", png(rng, 13, 11, 8, 2, stream=stream[:-1] + bytes([stream[-1] ^ 1])))
    add("png_stream_bad_adler_short.png", png(rng, 13, 11, 8, 2, stream=(lambda s: s[:-1] + bytes([s[-1] ^ 1]))(zlib.compress(rows[:240]))))
    add("png_stream_broken.png", png(rng, 13, 11, 8, 2, stream=stream[:60] + bytes(40) + stream[100:]))
    add("png_stream_no_header.png", png(rng, 13, 11, 8, 2, stream=stream[2:]))
    add("png_stream_empty.png", png(rng, 13, 11, 8, 2, stream=b""))
    add("png_stream_stored.png", png(rng, 13, 11, 8, 2, stream=zlib.compress(rows, 0)))
    add("png_stream_fixed.png", png(rng, 13, 11, 8, 2, stream=(lambda c: c.compress(rows) + c.flush())(zlib.compressobj(9, 8, 15, 9, zlib.Z_FIXED))))
    add("png_stream_dictionary.png", png(rng, 13, 11, 8, 2, stream=(lambda c: c.compress(rows) + c.flush())(zlib.compressobj(zdict=b"0123456789"))))
    add("png_filter_5.png", png(rng, 13, 11, 8, 2, rows=rows[:80] + b"\5" + rows[81:]))
    add("png_cut_in_idat.png", png(rng, 13, 11, 8, 2, rows=rows)[:200])
    add("png_cut_in_crc.png", png(rng, 13, 11, 8, 2, end=b"")[:-2])
    add("png_no_idat.png", png(rng, 13, 11, 8, 2, idat=lambda s: b""))
    add("png_no_idat_iend.png", png(rng, 13, 11, 8, 2, idat=lambda s: b"", end=b""))
    add("png_bad_chunk_name.png", png(rng, 13, 11, 8, 2, extra=chunk(b"a\0bc", b"1")))
    add("png_unknown_critical.png", png(rng, 13, 11, 8, 2, extra=chunk(b"ABCD", b"1")))
    add("png_ihdr_late.png", MAGIC + chunk(b"tEXt", b"a\0b") + png(rng, 13, 11, 8, 2)[8:])
    add("png_ihdr_long.png", png(rng, 13, 11, 8, 2, header=struct.pack(">IIBBBBB", 13, 11, 8, 2, 0, 0, 0) + b"xyz"))
    add("png_ihdr_short.png", png(rng, 13, 11, 8, 2, header=struct.pack(">IIBBBB", 13, 11, 8, 2, 0, 0)))
    add("png_depth_3.png", png(rng, 13, 11, 3, 0))
    add("png_colour_5.png", png(rng, 13, 11, 8, 5))
    add("png_palette_16.png", png(rng, 13, 11, 16, 3, plte=plte))
    add("png_rgb_4.png", png(rng, 13, 11, 4, 2))
    add("png_zero_width.png", png(rng, 0, 11, 8, 2, rows=b""))
    add("png_huge.png", png(rng, 60000, 60000, 8, 2, rows=b"1"), "CLIPC_E_LIMIT")
    add("png_huger.png", png(rng, 0x7FFFFFFF, 0x7FFFFFFF, 8, 2, rows=b"1"), "CLIPC_E_LIMIT")
    add("png_too_wide.png", png(rng, 0x80000000, 1, 8, 2, rows=b"1"), "CLIPC_E_LIMIT")
    add("png_compression_1.png", png(rng, 13, 11, 8, 2, header=struct.pack(">IIBBBBB", 13, 11, 8, 2, 1, 0, 0)))
    add("png_filter_method_1.png", png(rng, 13, 11, 8, 2, header=struct.pack(">IIBBBBB", 13, 11, 8, 2, 0, 1, 0)))
    add("png_interlace_2.png", png(rng, 13, 11, 8, 2, rows=png_rows(rng, 13, 11, 24, ADAM7), header=struct.pack(">IIBBBBB", 13, 11, 8, 2, 0, 0, 2)))
    add("png_gamma.png", png(rng, 13, 11, 8, 2, extra=chunk(b"gAMA", struct.pack(">I", 90000)) + chunk(b"cHRM", bytes(range(32)))))
    add("png_exif.png", png(rng, 13, 11, 8, 2, extra=chunk(b"eXIf", exif(6))))
    add("png_apng.png", png(rng, 13, 11, 8, 2, extra=chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 13, 11, 0, 0, 1, 1, 0, 0))))
    add("png_truncated_magic.png", MAGIC[:6])
    add("png_magic.png", MAGIC)


# ---------------------------------------------------------------- GIF


def lzw(indices, bits, clear_every=0, end=True, first_clear=True, late=False):
    """Code stream of GIF's LZW as sub-blocks."""
    clear, out, held, n, size = 1 << bits, bytearray(), 0, 0, bits + 1
    table = {bytes([i]): i for i in range(clear)}
    stream = []
    word = b""

    def put(code):
        nonlocal held, n
        held |= code << n
        n += size
        while n >= 8:
            out.append(held & 255)
            held >>= 8
            n -= 8

    if first_clear:
        put(clear)
    count = 0
    following = clear + 2
    for i in indices:
        longer = word + bytes([i])
        if longer in table:
            word = longer
            continue
        put(table[word])
        count += 1
        if following < 4096:
            table[longer] = following
            if following == 1 << size and size < 12:
                size += 1
            following += 1
        elif not late or (clear_every and count % clear_every == 0):
            put(clear)
            table = {bytes([j]): j for j in range(clear)}
            following, size = clear + 2, bits + 1
        word = bytes([i])
    if word:
        put(table[word])
        if following == 1 << size and size < 12:
            size += 1
    if end:
        put(clear + 1)
    if n:
        out.append(held & 255)
    return bytes(out)


def blocks(data, n=255):
    return b"".join(bytes([len(data[i : i + n])]) + data[i : i + n] for i in range(0, len(data), n)) + b"\0"


def gif(w, h, indices, bits=4, palette=None, local=None, at=(0, 0), size=None, interlace=False, transparent=None, min_bits=None,
        background=0, data=None, trailer=b";", disposal=0, before=b""):
    flags = 0x80 | (len(palette) // 3).bit_length() - 2 if palette is not None else 0
    out = b"GIF89a" + struct.pack("<HHBBB", w, h, flags, background, 0) + (palette or b"") + before
    if transparent is not None or disposal:
        out += b"!\xf9\4" + struct.pack("<BHB", disposal << 2 | (transparent is not None), 0, transparent or 0) + b"\0"
    fw, fh = size or (w, h)
    flags = (0x40 if interlace else 0) | (0x80 | (len(local) // 3).bit_length() - 2 if local is not None else 0)
    out += b"," + struct.pack("<HHHHB", at[0], at[1], fw, fh, flags) + (local or b"")
    min_bits = min_bits or max(2, bits)
    return out + bytes([min_bits]) + blocks(lzw(indices, min_bits) if data is None else data) + trailer


def make_gifs():
    rng = random.Random(3)
    noise = lambda n, bits: bytes(rng.randrange(1 << bits) for _ in range(n))
    for bits in range(1, 9):
        palette = rng.randbytes(3 << bits)
        add(f"gif_{bits}.gif", gif(19, 17, noise(19 * 17, bits), bits, palette))
        add(f"gif_{bits}_interlaced.gif", gif(19, 17, noise(19 * 17, bits), bits, palette, interlace=True))
    p16, p4 = rng.randbytes(48), rng.randbytes(12)
    grey = bytes(i for i in range(16) for _ in range(3))
    n = noise(19 * 17, 4)
    add("gif_flat.gif", gif(300, 200, bytes(60000), 2, p4))
    add("gif_table_full.gif", gif(120, 120, noise(14400, 8), 8, rng.randbytes(768)))
    add("gif_table_full_late.gif", gif(120, 120, None, 8, rng.randbytes(768), data=lzw(noise(14400, 8), 8, late=True)))
    for h in (1, 2, 3, 4, 5, 7, 8):
        add(f"gif_interlaced_{h}.gif", gif(3, h, noise(3 * h, 4), 4, p16, interlace=True))
    add("gif_grey.gif", gif(19, 17, n, 4, grey))
    add("gif_grey_transparent.gif", gif(19, 17, n, 4, grey, transparent=3))
    add("gif_grey_ramp255.gif", gif(19, 17, n, 4, bytes(i * 17 for i in range(16) for _ in range(3))))
    add("gif_no_palette.gif", gif(19, 17, n))
    add("gif_no_palette_transparent.gif", gif(19, 17, n, transparent=5))
    add("gif_local.gif", gif(19, 17, n, 4, None, local=p16))
    add("gif_local_over_global.gif", gif(19, 17, n, 4, rng.randbytes(48), local=p16))
    add("gif_local_grey_over_global.gif", gif(19, 17, n, 4, p16, local=grey))
    add("gif_local_over_grey.gif", gif(19, 17, n, 4, grey, local=p16))
    add("gif_transparent.gif", gif(19, 17, n, 4, p16, transparent=3))
    add("gif_transparent_beyond.gif", gif(19, 17, n, 4, p16, transparent=200))
    add("gif_index_beyond.gif", gif(19, 17, n, 4, p4, min_bits=4))
    part = noise(70, 4)
    for name, more in (("", {}), ("_transparent", dict(transparent=3)), ("_background", dict(background=5)), ("_dispose2", dict(disposal=2)),
                       ("_dispose2_transparent", dict(disposal=2, transparent=3)), ("_grey", dict(palette=grey)), ("_no_palette", dict(palette=None)),
                       ("_no_palette_transparent", dict(palette=None, transparent=9)), ("_interlaced", dict(interlace=True))):
        add(f"gif_part{name}.gif", gif(19, 17, part, 4, **{"palette": p16, "at": (4, 5), "size": (10, 7), **more}))
    add("gif_larger_than_screen.gif", gif(9, 8, n, 4, p16, size=(19, 17)))
    add("gif_beyond_screen.gif", gif(15, 12, part, 4, p16, at=(11, 10), size=(10, 7)))
    add("gif_beyond_screen_transparent.gif", gif(15, 12, part, 4, p16, at=(11, 10), size=(10, 7), transparent=2))
    add("gif_zero_screen.gif", gif(0, 0, n, 4, p16, size=(19, 17)))
    add("gif_zero_frame.gif", gif(19, 17, b"", 4, p16, size=(0, 17)))
    add("gif_two_frames.gif", gif(19, 17, n, 4, p16, trailer=gif(19, 17, noise(19 * 17, 4), 4, p16)[13 + 48 :]))
    add("gif_comment.gif", gif(19, 17, n, 4, p16, before=b"!\xfe" + blocks(b"a comment") + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"))
    add("gif_two_controls.gif", gif(19, 17, n, 4, p16, transparent=3, before=b"!\xf9\4\1\0\0\7\0"))
    add("gif_control_reset.gif", gif(19, 17, n, 4, p16, disposal=1, before=b"!\xf9\4\1\0\0\7\0"))
    add("gif_rubbish_before.gif", gif(19, 17, n, 4, p16, before=b"xyz"))
    code = lzw(n, 4)
    add("gif_no_trailer.gif", gif(19, 17, n, 4, p16, trailer=b""))
    add("gif_no_end_code.gif", gif(19, 17, n, 4, p16, data=lzw(n, 4, end=False)))
    add("gif_no_clear_code.gif", gif(19, 17, n, 4, p16, data=lzw(n, 4, first_clear=False)))
    add("gif_small_blocks.gif", gif(19, 17, n, 4, p16, data=code)[: -len(blocks(code)) - 1] + blocks(code, 3) + b";")
    add("gif_cut_blocks.gif", gif(19, 17, n, 4, p16, data=code[: len(code) // 2]))
    add("gif_cut_end.gif", gif(19, 17, n, 4, p16, data=lzw(n[:200], 4)))
    add("gif_cut_file.gif", gif(19, 17, n, 4, p16)[:150])
    add("gif_cut_last.gif", gif(19, 17, n, 4, p16)[:-2])
    add("gif_cut_header.gif", gif(19, 17, n, 4, p16)[:30])
    add("gif_no_image.gif", gif(19, 17, n, 4, p16)[: 13 + 48] + b";")
    add("gif_no_image_cut.gif", gif(19, 17, n, 4, p16)[: 13 + 48])
    add("gif_too_much.gif", gif(19, 17, n, 4, p16, data=lzw(n + noise(500, 4), 4)))
    add("gif_bad_code.gif", gif(19, 17, n, 4, p16, data=code[:20] + b"\xff\xff\xff" + code[23:]))
    add("gif_min_bits_1.gif", gif(19, 17, noise(323, 1), 1, p16, min_bits=1))
    add("gif_min_bits_8.gif", gif(19, 17, n, 4, p16, min_bits=8))
    add("gif_min_bits_12.gif", gif(19, 17, n, 4, p16, min_bits=8, data=code).replace(b"\x08" + bytes([len(code)]), b"\x0c" + bytes([len(code)])))
    add("gif_min_bits_13.gif", gif(19, 17, n, 4, p16, min_bits=8, data=code).replace(b"\x08" + bytes([len(code)]), b"\x0d" + bytes([len(code)])))
    add("gif_87a.gif", gif(19, 17, n, 4, p16).replace(b"GIF89a", b"GIF87a"))
    add("gif_88a.gif", gif(19, 17, n, 4, p16).replace(b"GIF89a", b"GIF88a"))
    add("gif_huge.gif", gif(65535, 65535, b"", 4, p16, data=b"\1"), "CLIPC_E_LIMIT")


# ---------------------------------------------------------------- BMP


def bmp(w, h, bits, pixels, palette=b"", compression=0, header=40, masks=(), colours=0, top_down=False, offset=None, extra=b""):
    """masks go into the header where it has room, else behind it."""
    if header == 12:
        head = struct.pack("<IHHHH", 12, w, h, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, w, -h if top_down else h, 1, bits, compression, len(pixels), 0, 0, colours, 0)
        body = b"".join(struct.pack("<I", m) for m in masks)
        head += body if header == 40 else (body + bytes(header))[: header - 40]
    at = 14 + len(head) + len(palette) + len(extra) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(palette) + len(pixels), 0, 0, at) + head + palette + extra + pixels


def make_bmps():
    rng = random.Random(4)
    stride = lambda w, bits: (w * bits + 31) // 32 * 4
    body = lambda w, h, bits: rng.randbytes(stride(w, bits) * h)
    grey = lambda n, step=1: b"".join(bytes([i * step] * 3 + [0]) for i in range(n))
    for bits in (1, 4, 8):
        palette = rng.randbytes(4 << bits)
        for w, h in ((13, 9), (1, 1), (32, 3)):
            add(f"bmp_{bits}_{w}x{h}.bmp", bmp(w, h, bits, body(w, h, bits), palette))
        add(f"bmp_{bits}_top_down.bmp", bmp(13, 9, bits, body(13, 9, bits), palette, top_down=True))
        add(f"bmp_{bits}_os2.bmp", bmp(13, 9, bits, body(13, 9, bits), rng.randbytes(3 << bits), header=12))
        add(f"bmp_{bits}_grey.bmp", bmp(13, 9, bits, body(13, 9, bits), grey(2, 255) if bits == 1 else grey(1 << bits)))
        for header in (52, 56, 64, 108, 124):
            add(f"bmp_{bits}_header{header}.bmp", bmp(13, 9, bits, body(13, 9, bits), palette, header=header))
    p5, p3 = rng.randbytes(20), rng.randbytes(12)
    add("bmp_8_five_colours.bmp", bmp(13, 9, 8, body(13, 9, 8), p5, colours=5))
    add("bmp_4_three_colours.bmp", bmp(13, 9, 4, body(13, 9, 4), p3, colours=3))
    add("bmp_1_one_colour.bmp", bmp(13, 9, 1, body(13, 9, 1), b"\1\2\3\0", colours=1))
    add("bmp_1_one_black.bmp", bmp(13, 9, 1, body(13, 9, 1), bytes(4), colours=1))
    add("bmp_1_white_black.bmp", bmp(13, 9, 1, body(13, 9, 1), b"\xff\xff\xff\0\0\0\0\0"))
    add("bmp_8_two_grey.bmp", bmp(13, 9, 8, body(13, 9, 8), grey(2, 255), colours=2))
    add("bmp_4_two_grey.bmp", bmp(13, 9, 4, body(13, 9, 4), grey(2, 255), colours=2))
    add("bmp_8_three_grey.bmp", bmp(13, 9, 8, body(13, 9, 8), grey(3), colours=3))
    add("bmp_4_grey_ramp.bmp", bmp(13, 9, 4, body(13, 9, 4), grey(16, 17)))
    add("bmp_4_many_colours.bmp", bmp(13, 9, 4, body(13, 9, 4), rng.randbytes(400), colours=100))
    add("bmp_8_300_colours.bmp", bmp(13, 9, 8, body(13, 9, 8), rng.randbytes(1200), colours=300))
    add("bmp_8_too_many_colours.bmp", bmp(13, 9, 8, body(13, 9, 8), rng.randbytes(1024), colours=70000))
    add("bmp_8_300_grey.bmp", bmp(13, 9, 8, body(13, 9, 8), grey(256) + bytes(176), colours=300))
    add("bmp_8_short_palette.bmp", bmp(13, 9, 8, body(13, 9, 8), rng.randbytes(40)))
    for bits in (16, 24, 32):
        for w, h in ((13, 9), (1, 1), (4, 3)):
            add(f"bmp_{bits}_{w}x{h}.bmp", bmp(w, h, bits, body(w, h, bits)))
        add(f"bmp_{bits}_top_down.bmp", bmp(13, 9, bits, body(13, 9, bits), top_down=True))
        add(f"bmp_{bits}_header124.bmp", bmp(13, 9, bits, body(13, 9, bits), header=124))
    add("bmp_24_os2.bmp", bmp(13, 9, 24, body(13, 9, 24), header=12))
    add("bmp_24_palette.bmp", bmp(13, 9, 24, body(13, 9, 24), palette=p5, colours=5))
    add("bmp_24_offset.bmp", bmp(13, 9, 24, body(13, 9, 24), extra=b"extra"))
    add("bmp_24_offset_zero.bmp", bmp(13, 9, 24, body(13, 9, 24), offset=0))
    add("bmp_8_offset_zero.bmp", bmp(13, 9, 8, body(13, 9, 8), rng.randbytes(1024), offset=0))
    add("bmp_8_offset_54.bmp", bmp(13, 9, 8, body(13, 9, 8), rng.randbytes(1024), offset=54))
    add("bmp_8_offset_beyond.bmp", bmp(13, 9, 8, body(13, 9, 8), rng.randbytes(1024), offset=99999))
    masks = {
        "16_565": (16, 0xF800, 0x7E0, 0x1F), "16_555": (16, 0x7C00, 0x3E0, 0x1F), "16_444": (16, 0xF00, 0xF0, 0xF),
        "24": (24, 0xFF0000, 0xFF00, 0xFF), "32_bgrx": (32, 0xFF0000, 0xFF00, 0xFF, 0), "32_xbgr": (32, 0xFF000000, 0xFF0000, 0xFF00, 0),
        "32_bgxr": (32, 0xFF000000, 0xFF00, 0xFF, 0), "32_abgr": (32, 0xFF000000, 0xFF0000, 0xFF00, 0xFF), "32_rgba": (32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        "32_bgra": (32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000), "32_bgar": (32, 0xFF000000, 0xFF00, 0xFF, 0xFF0000), "32_zero": (32, 0, 0, 0, 0),
        "32_rgbx": (32, 0xFF, 0xFF00, 0xFF0000, 0),
    }
    for name, (bits, *mask) in masks.items():
        for header in (40, 52, 56, 108, 124):
            known = name not in ("16_444", "32_rgbx") and not (name == "32_rgba" and header < 56)
            data = bmp(13, 9, bits, body(13, 9, bits), compression=3, masks=mask[:3] if header == 40 else mask, header=header)
            add(f"bmp_fields_{name}_{header}.bmp", data, None if known else "CLIPC_E_UNSUPPORTED")
    add("bmp_fields_8.bmp", bmp(13, 9, 8, body(13, 9, 8), rng.randbytes(1024), compression=3, masks=(1, 2, 3)), "CLIPC_E_UNSUPPORTED")
    add("bmp_compression_4.bmp", bmp(13, 9, 24, body(13, 9, 24), compression=4), "CLIPC_E_UNSUPPORTED")
    add("bmp_compression_5.bmp", bmp(13, 9, 24, body(13, 9, 24), compression=5), "CLIPC_E_UNSUPPORTED")
    add("bmp_compression_6.bmp", bmp(13, 9, 32, body(13, 9, 32), compression=6), "CLIPC_E_UNSUPPORTED")
    add("bmp_2_bits.bmp", bmp(13, 9, 2, body(13, 9, 2), rng.randbytes(16)), "CLIPC_E_UNSUPPORTED")
    add("bmp_0_bits.bmp", bmp(13, 9, 0, b""), "CLIPC_E_UNSUPPORTED")
    add("bmp_header_16.bmp", bmp(13, 9, 24, body(13, 9, 24), header=16), "CLIPC_E_UNSUPPORTED")
    palette = rng.randbytes(1024)
    rle8 = b"".join(bytes([0, 13]) + rng.randbytes(13) + b"\0\0\0" if y % 2 else b"\5\x11\4\x22\3\x33\1\x44\0\0" for y in range(9)) + b"\0\1"
    rle4 = b"".join(bytes([0, 13]) + rng.randbytes(7) + b"\0\0\0" if y % 2 else b"\5\x12\4\x23\3\x34\1\x45\0\0" for y in range(9)) + b"\0\1"
    for name, data in (
        ("", rle8), ("_no_end", rle8[:-2]), ("_cut", rle8[:60]), ("_cut_absolute", rle8[:16]), ("_cut_odd", rle8[:11]), ("_delta", b"\5\x11\0\2\3\2\4\x22\0\0\2\x33\0\1"),
        ("_delta_far", b"\5\x11\0\2\xff\xff\4\x22"), ("_delta_cut", b"\5\x11\0\2\3"), ("_too_long", b"\x20\x11\x20\x22\0\0" * 9), ("_early_lines", b"\3\x11\0\0" * 9 + b"\0\1"),
        ("_many_lines", b"\3\x11\0\0" * 99), ("_absolute_long", b"\0\x14" + rng.randbytes(20) + b"\0\0\3\x55\0\1"), ("_end_at_once", b"\0\1"), ("_empty", b""),
        ("_absolute_all", b"\0\xff" + rng.randbytes(255) + b"\0"),
        ("_lines_at_start", b"\0\0\0\0\3\x11\0\0\0\1"), ("_odd_absolute", b"\0\3abc\0\5\x11\0\0\0\1"),
    ):
        add(f"bmp_rle8{name}.bmp", bmp(13, 9, 8, data, palette, compression=1))
        if name in ("_odd_absolute",):
            add(f"bmp_rle8{name}_odd_offset.bmp", bmp(13, 9, 8, data, palette, compression=1, extra=b"x"))
    for name, data in (("", rle4), ("_cut", rle4[:40]), ("_delta", b"\5\x12\0\2\3\2\4\x23\0\0\2\x34\0\1"), ("_absolute_long", b"\0\x14" + rng.randbytes(10) + b"\0\0\3\x56\0\1"),
                       ("_too_long", b"\x20\x12\x20\x23\0\0" * 9), ("_odd", b"\0\5\x12\x34\x50\0\4\x67\0\1")):
        add(f"bmp_rle4{name}.bmp", bmp(13, 9, 4, data, palette[:64], compression=2))
    add("bmp_rle8_grey.bmp", bmp(13, 9, 8, rle8, grey(256), compression=1))
    add("bmp_rle8_two_grey.bmp", bmp(13, 9, 8, rle8, grey(2, 255), compression=1, colours=2))
    add("bmp_rle8_top_down.bmp", bmp(13, 9, 8, rle8, palette, compression=1, top_down=True))
    add("bmp_rle8_in_24.bmp", bmp(13, 9, 24, rle8, compression=1), "CLIPC_E_UNSUPPORTED")
    add("bmp_rle4_in_8.bmp", bmp(13, 9, 8, rle4, palette, compression=2))
    add("bmp_rle8_in_4.bmp", bmp(13, 9, 4, rle8, palette[:64], compression=1))
    add("bmp_rle8_in_1.bmp", bmp(13, 9, 1, rle8, grey(2, 255), compression=1))
    whole = bmp(13, 9, 24, body(13, 9, 24))
    add("bmp_cut.bmp", whole[:-40])
    add("bmp_cut_padding.bmp", whole[:-1])
    add("bmp_cut_padding_all.bmp", bmp(13, 9, 8, body(13, 9, 8), palette)[:-3])
    add("bmp_cut_header.bmp", whole[:30])
    add("bmp_cut_magic.bmp", b"BM")
    add("bmp_zero_width.bmp", bmp(0, 9, 24, b""))
    add("bmp_zero_height.bmp", bmp(13, 0, 24, b""))
    add("bmp_negative_width.bmp", bmp(-13, 9, 24, body(13, 9, 24)), "CLIPC_E_LIMIT")
    add("bmp_huge.bmp", bmp(60000, 60000, 24, b"123"), "CLIPC_E_LIMIT")


# ---------------------------------------------------------------- PNM


def make_pnms():
    rng = random.Random(5)
    w, h = 13, 7
    n = w * h
    plain = lambda count, top, per=9: b"".join(b"%d%s" % (rng.randint(0, top), b"\n" if i % per == per - 1 else b" ") for i in range(count))
    head = lambda kind, *values: b"P%d\n" % kind + b" ".join(b"%d" % v for v in values[:2]) + b"".join(b"\n%d" % v for v in values[2:]) + b"\n"
    add("pnm_1.pbm", head(1, w, h) + plain(n, 1))
    add("pnm_1_dense.pbm", head(1, w, h) + bytes(rng.choice(b"01") for _ in range(n)))
    add("pnm_1_comment.pbm", head(1, w, h) + b"#one 1 0\n" + plain(n // 2, 1) + b"# two\r" + plain(n - n // 2, 1))
    add("pnm_1_comment_in_token.pbm", head(1, w, h) + b"01#0\n" + plain(n - 2, 1))
    add("pnm_1_bad.pbm", head(1, w, h) + b"012" + plain(n, 1))
    add("pnm_1_bad_after.pbm", head(1, w, h) + plain(n, 1) + b" 2")
    add("pnm_1_short.pbm", head(1, w, h) + plain(n - 5, 1))
    add("pnm_4.pbm", head(4, w, h) + rng.randbytes(2 * h))
    add("pnm_4_short.pbm", head(4, w, h) + rng.randbytes(2 * h - 1))
    for top in (1, 2, 15, 100, 254, 255, 256, 1000, 65534, 65535):
        byte = rng.randbytes
        wide = 1 if top < 256 else 2
        add(f"pnm_2_{top}.pgm", head(2, w, h, top) + plain(n, top))
        add(f"pnm_3_{top}.ppm", head(3, w, h, top) + plain(3 * n, top))
        add(f"pnm_5_{top}.pgm", head(5, w, h, top) + byte(n * wide))
        add(f"pnm_6_{top}.ppm", head(6, w, h, top) + byte(3 * n * wide))
    add("pnm_5_rounding.pgm", head(5, 101, 1, 100) + bytes(range(101)))
    add("pnm_5_rounding_510.pgm", head(5, 250, 1, 510) + b"".join(struct.pack(">H", 2 * i + 1) for i in range(250)))
    add("pnm_6_rounding_510.ppm", head(6, 85, 2, 510) + b"".join(struct.pack(">H", i) for i in range(510)))
    add("pnm_5_rounding_34.pgm", head(5, 35, 1, 34) + bytes(range(35)))
    add("pnm_5_above.pgm", head(5, 4, 1, 3) + bytes([0, 3, 4, 255]))
    add("pnm_5_above_16.pgm", head(5, 4, 1, 300) + b"\0\0\1\x2c\1\x2d\xff\xff")
    add("pnm_2_above.pgm", head(2, 2, 1, 100) + b"3 101\n")
    add("pnm_2_negative.pgm", head(2, 2, 1, 100) + b"3 -1\n")
    add("pnm_2_plus.pgm", head(2, 2, 1, 100) + b"3 +1\n")
    add("pnm_2_underscore.pgm", head(2, 2, 1, 100) + b"3 1_0\n")
    add("pnm_2_minus_zero.pgm", head(2, 2, 1, 100) + b"3 -0\n")
    add("pnm_2_leading_zeros.pgm", head(2, 2, 1, 100) + b"3 0000000042\n")
    add("pnm_2_long_token.pgm", head(2, 2, 1, 100) + b"3 00000000042\n")
    add("pnm_2_letters.pgm", head(2, 2, 1, 100) + b"3 x\n")
    add("pnm_2_letters_after.pgm", head(2, 2, 1, 100) + b"3 4 x\n")
    add("pnm_2_no_newline.pgm", head(2, 2, 1, 100) + b"3 4")
    add("pnm_2_short.pgm", head(2, 3, 1, 100) + b"3 4")
    add("pnm_2_comment.pgm", head(2, 3, 1, 100) + b"3 # 9\n4#\r5\n")
    add("pnm_2_comment_joins.pgm", head(2, 2, 1, 100) + b"3#x\n4 5\n")
    add("pnm_2_comment_end.pgm", head(2, 2, 1, 100) + b"3 4 # end")
    add("pnm_2_other_space.pgm", head(2, 3, 1, 100) + b"3\x0b4\x0c5\n")
    add("pnm_2_nul.pgm", head(2, 2, 1, 100) + b"3\x004 5\n")
    add("pnm_5_comments.pgm", b"P5 # comment\n#another\n13#x\n 7\n#maxval\n255\n" + rng.randbytes(n))
    add("pnm_5_comment_in_token.pgm", b"P5\n1#x\n3 7 255\n" + rng.randbytes(n))
    add("pnm_5_comment_at_end.pgm", b"P5\n13 7\n255#x\n" + rng.randbytes(n + 2))
    add("pnm_5_tabs.pgm", b"P5\t13\r\n7\x0b255\x0c" + rng.randbytes(n))
    add("pnm_5_crlf.pgm", b"P5\r\n13 7\r\n255\r\n" + rng.randbytes(n))
    add("pnm_5_no_space.pgm", b"P513 7 255\n" + rng.randbytes(n))
    add("pnm_5_short.pgm", head(5, w, h, 255) + rng.randbytes(n - 1))
    add("pnm_5_short_100.pgm", head(5, w, h, 100) + rng.randbytes(n - 1))
    add("pnm_5_short_16.pgm", head(5, w, h, 65535) + rng.randbytes(2 * n - 1))
    add("pnm_6_short.ppm", head(6, w, h, 255) + rng.randbytes(3 * n - 1))
    add("pnm_6_empty.ppm", head(6, w, h, 255))
    add("pnm_6_more.ppm", head(6, w, h, 255) + rng.randbytes(3 * n + 20))
    add("pnm_6_maxval_0.ppm", head(6, w, h, 0) + rng.randbytes(3 * n))
    add("pnm_6_maxval_65536.ppm", head(6, w, h, 65536) + rng.randbytes(6 * n))
    add("pnm_6_zero_width.ppm", head(6, 0, h, 255))
    add("pnm_6_negative.ppm", b"P6\n-3 7\n255\n" + rng.randbytes(n))
    add("pnm_6_plus.ppm", b"P6\n+13 7\n255\n" + rng.randbytes(3 * n))
    add("pnm_6_letters.ppm", b"P6\nab 7\n255\n" + rng.randbytes(n))
    add("pnm_6_token_10.ppm", b"P6\n0000000013 7\n255\n" + rng.randbytes(3 * n))
    add("pnm_6_token_11.ppm", b"P6\n00000000013 7\n255\n" + rng.randbytes(3 * n))
    add("pnm_6_huge.ppm", head(6, 60000, 60000, 255), "CLIPC_E_LIMIT")
    add("pnm_6_huger.ppm", head(6, 9999999999, 9999999999, 255), "CLIPC_E_LIMIT")
    add("pnm_6_cut_header.ppm", b"P6\n13 7\n")
    add("pnm_7.pam", b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n123456", "CLIPC_E_UNSUPPORTED")
    add("pnm_f.pfm", b"Pf\n1 1\n-1.0\n\0\0\0\0", "CLIPC_E_UNSUPPORTED")


# ---------------------------------------------------------------- others


def make_others():
    unsupported = "CLIPC_E_UNSUPPORTED"
    image = picture(9, 7)
    add("other.webp", saved(image, "WEBP", quality=20), unsupported)
    add("other.avif", saved(image, "AVIF", quality=20), unsupported)
    add("other.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), unsupported)
    add("other.tiff", saved(image, "TIFF"), unsupported)
    add("other_mm.tiff", b"MM\0*" + bytes(40), unsupported)
    add("other.ico", saved(image, "ICO"), unsupported)
    add("other.jp2", saved(image, "JPEG2000"), unsupported)
    add("other.psd", b"8BPS\0\1" + bytes(40), unsupported)
    add("other.jxl", b"\xff\x0a" + bytes(40), unsupported)
    add("other_box.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), unsupported)
    add("other.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", unsupported)
    add("other_xml.svg", b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", unsupported)
    add("other.pdf", b"%PDF-1.4\n", unsupported)
    add("other_empty", b"")
    add("other_text", b"This is no picture.\n")
    add("other_one_byte", b"\xff")


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
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "decode")
    os.makedirs(folder, exist_ok=True)
    for make in (make_jpegs, make_pngs, make_gifs, make_bmps, make_pnms, make_others):
        make()
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
            with open(os.path.join(folder, name), "rb") as file:
                manifest.write(f"{name} CLIPC_OK {describe(file.read())[0]}\n")
    with open(os.path.join(folder, "VERSIONS.txt"), "w") as versions:
        versions.write(f"Pillow {PIL.__version__}\nlibjpeg-turbo {features.version('libjpeg_turbo')}\n"
                       f"zlib {features.version('zlib')}\ntransformers {transformers.__version__}\n")


if __name__ == "__main__":
    main()
