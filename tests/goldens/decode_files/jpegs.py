"""JPEGs by libjpeg-turbo, and by a writer of our own with any sampling factors, scans and tables."""
import random, struct

import numpy as np
from PIL import Image

from .common import add, exif, picture, saved


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


def app(n, payload):
    return struct.pack(">BBH", 0xFF, 0xE0 + n, len(payload) + 2) + payload


def make():
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
