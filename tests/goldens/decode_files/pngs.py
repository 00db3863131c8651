"""PNGs of every kind, with broken chunks and streams."""
import random, struct, zlib

from .common import add, exif


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


def make():
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
