"""BMPs: depths, headers, bit fields, run lengths."""
import random, struct

from .common import add


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


def make():
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
