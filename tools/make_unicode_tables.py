#!/usr/bin/env python3
"""Writes src/text/unicode_tables.inc: what the reference tokenisers hold for letters, numbers, words and case.

The references are asked about every code point, so the tables are theirs by construction:
  tokenizers  \\p{L}, \\p{N} of its Split pattern, Lowercase, the word characters of single_word tokens, and what its
              NFC knows: it is Unicode 9.0's, newer marks and compositions are nothing to it
  regex       \\p{L}, \\p{N}
  Python      str.lower with its cased and case-ignorable characters (final sigma)
White space is the same 25 characters in all of them; the script checks that and stores none.

Usage: tools/make_unicode_tables.py > src/text/unicode_tables.inc
Needs the packages tokenizers and regex of the versions to follow. Building clipc does not need this script."""
import argparse
import sys
import unicodedata

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
WHITE = [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def matched_by_tokenizers(pattern):
    from tokenizers import Regex, normalizers

    erase = normalizers.Replace(Regex(pattern), "")
    matched = set()
    for i in range(0, len(SCALARS), 4096):
        part = SCALARS[i : i + 4096]
        kept = set(erase.normalize_str("".join(map(chr, part))))
        matched.update(c for c in part if chr(c) not in kept)
    return matched


def words_of_tokenizers():
    """A single_word token is cut out unless a word character touches it."""
    from tokenizers import AddedToken, Tokenizer, models

    tokenizer = Tokenizer(models.BPE(vocab={"?": 0}, merges=[], unk_token="?"))
    tokenizer.add_tokens([AddedToken("<T>", single_word=True, normalized=False)])
    token = tokenizer.token_to_id("<T>")
    words = set()
    for i in range(0, len(SCALARS), 65536):
        part = SCALARS[i : i + 65536]
        for c, encoding in zip(part, tokenizer.encode_batch([chr(c) + "<T>" for c in part])):
            if token not in encoding.ids:
                words.add(c)
    return words


def lower_of_tokenizers():
    from tokenizers import normalizers

    lower = normalizers.Lowercase()
    return {c: lower.normalize_str(chr(c)) for c in SCALARS}


def case_of_python():
    """Asks lower() where it writes a final sigma: after a cased character, over case-ignorable ones."""
    cased, ignorable = set(), set()
    for c in SCALARS:
        if (chr(c) + "\u03a3").lower()[-1] == "\u03c2":
            cased.add(c)
        elif ("a" + chr(c) + "\u03a3").lower()[-1] == "\u03c2":
            ignorable.add(c)
    return cased, ignorable


def normal_forms_of_tokenizers():
    """The marks (a combining class above 0) and the characters with a canonical decomposition, Hangul aside."""
    from tokenizers import normalizers

    nfd = normalizers.NFD().normalize_str
    marks = {c for c in SCALARS if nfd(f"\u4e00{chr(c)}\u0334")[1] == "\u0334" and c != 0x334}  # above 1
    marks |= {c for c in SCALARS if nfd(f"\u4e00\u0327{chr(c)}")[1] == chr(c)}  # below 202
    composed = {c for c in SCALARS if nfd(chr(c)) != chr(c) and not 0xAC00 <= c <= 0xD7A3}
    return marks - composed, composed


def lower_runs(mapping):
    """[first, last, step, delta] of one-to-one mappings, in order; step 2 joins alternating pairs."""
    runs = []
    for c, low in sorted(mapping.items()):
        delta = low - c
        if runs and runs[-1][3] == delta:
            run = runs[-1]
            step = c - run[1]
            if step in (1, 2) and (run[0] == run[1] or step == run[2]):
                run[1], run[2] = c, step
                continue
        runs.append([c, c, 1, delta])
    return runs


def write_table(name, kind, rows, per_line):
    print(f"static const {kind} {name}[] = {{")
    for i in range(0, len(rows), per_line):
        print("  " + " ".join(row + "," for row in rows[i : i + per_line]))
    print("};")


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    import regex
    import tokenizers

    whole = "".join(map(chr, SCALARS))
    find = lambda pattern: {ord(c) for c in regex.findall(pattern, whole)}
    sets = [
        matched_by_tokenizers(r"\p{L}"),
        matched_by_tokenizers(r"\p{N}"),
        find(r"\p{L}"),
        find(r"\p{N}"),
        words_of_tokenizers(),
        *case_of_python(),
        *normal_forms_of_tokenizers(),
    ]
    assert matched_by_tokenizers(r"\s") == find(r"\s") == set(WHITE)
    assert {c for c in SCALARS if chr(c).isspace()} == set(WHITE) | {0x1C, 0x1D, 0x1E, 0x1F}

    rows, previous = [], None
    for c in range(0x110000):
        bits = sum(1 << i for i, members in enumerate(sets) if c in members)
        if bits != previous:
            rows.append(f"0x{c << 11 | bits:X}")
            previous = bits

    hf, python = lower_of_tokenizers(), {c: chr(c).lower() for c in SCALARS}
    assert {c for c in SCALARS if len(hf[c]) > 1} == {c for c in SCALARS if len(python[c]) > 1} == {0x130}
    assert hf[0x130] == python[0x130] == "i\u0307"
    changed = {c: ord(hf[c]) for c in SCALARS if c != 0x130 and hf[c] != chr(c)}
    newer = {c for c in changed if python[c] == chr(c)}
    assert all(python[c] == hf[c] for c in SCALARS if c not in newer)
    runs = [run + [0] for run in lower_runs({c: l for c, l in changed.items() if c not in newer})]
    runs += [run + [1] for run in lower_runs({c: l for c, l in changed.items() if c in newer})]

    runs.sort()
    assert all(a[1] < b[0] for a, b in zip(runs, runs[1:]))

    print("/* Made by tools/make_unicode_tables.py; do not edit.")
    print(f" * Asked: tokenizers {tokenizers.__version__}, regex {regex.__version__},", end=" ")
    print(f"Python {sys.version.split()[0]} (Unicode {unicodedata.unidata_version}).")
    print(" * Properties: code point << 11 | bits, valid up to the next row; bits from the lowest: L of tokenizers,")
    print(" * N of tokenizers, L of regex, N of regex, word of tokenizers, cased, case-ignorable and not cased,")
    print(" * marks and characters with a decomposition in tokenizers' NFC (of Unicode 9.0). */")
    write_table("unicode_properties", "uint32_t", rows, 10)
    print("\n/* Lower case: first, last, step, difference, 1 where only tokenizers has it yet. */")
    write_table("unicode_lower", "struct unicode_lower_run", [f"{{0x{a:X}, 0x{b:X}, {s}, {d}, {n}}}" for a, b, s, d, n in runs], 4)


main()
