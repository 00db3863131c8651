"""GIFs: palettes, frames, LZW streams whole and broken."""
import random, struct

from .common import add


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


def make():
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
