#!/usr/bin/env python3
"""Writes the tables of facts that src/text/ftfy*.c and src/text/html.c stand on, from an installed ftfy 6.3.1 and
the Python that runs it (html.entities, and unicodedata for the meaning of \\w and \\d).

  ftfy_encoding.inc  classes of characters: the badness expression as Shift-And masks, who is in which
                     single-byte encoding, who looks like which byte of UTF-8; the encodings, sorted by code point
  ftfy_chars.inc     characters that become others (C1, ligatures, width, quotes, line breaks), decimal digits
  html_entities.inc  HTML 5's named characters with ftfy's upper-case variants

The badness expression is not retyped: its parse tree is expanded to rules (a sequence of sets of characters each),
so the masks are equivalent to it by construction. Run again only when the reference version changes.
"""
import argparse
import html
import html.entities
import pathlib
import platform
import re
import re._constants as C
import re._parser as P
import sys
import unicodedata

import ftfy
from ftfy import badness, chardata, fixes

WORD_BITS = 64
BLOCK = 64


# ---- the badness expression as rules

def expand(tree):
    """All the sequences of (kind, items) that a parse tree stands for."""
    sequences = [()]
    for op, value in tree:
        if op is C.LITERAL:
            parts = [(("set", ((op, value),)),)]
        elif op is C.IN:
            parts = [(("set", tuple(value)),)]
        elif op is C.ANY:
            parts = [(("set", ((C.NEGATE, None), (C.LITERAL, 10))),)]
        elif op is C.AT and value is C.AT_BEGINNING:
            parts = [(("start", None),)]
        elif op is C.BRANCH:
            parts = [sequence for branch in value[1] for sequence in expand(branch)]
        elif op is C.SUBPATTERN:
            parts = expand(value[3])
        elif op is C.MAX_REPEAT and value[1] <= 4:
            low, high, body = value
            parts, grown = [], [()]
            for count in range(high + 1):
                if count >= low:
                    parts += grown
                grown = [a + b for a in grown for b in expand(body)]
        else:
            sys.exit(f"unexpected {op} in the badness expression")
        sequences = [a + b for a in sequences for b in parts]
    return sequences


def contains(items, char):
    code, negate, found = ord(char), False, False
    for op, value in items:
        if op is C.NEGATE:
            negate = True
        elif op is C.LITERAL:
            found |= code == value
        elif op is C.RANGE:
            found |= value[0] <= code <= value[1]
        elif op is C.CATEGORY and value is C.CATEGORY_SPACE:
            found |= char.isspace()
        elif op is C.CATEGORY and value is C.CATEGORY_WORD:
            found |= char.isalnum() or char == "_"
        else:
            sys.exit(f"unexpected {op} in a set of the badness expression")
    return found != negate


def mentioned(items):
    for op, value in items:
        if op is C.LITERAL:
            yield value
        elif op is C.RANGE:
            yield from range(value[0], value[1] + 1)


def place_rules(rules):
    """Puts every rule on consecutive bits of one of the words: (word, first bit, anchored, sets)."""
    placed, used = [], []
    for rule in sorted(rules, key=len, reverse=True):
        anchored = rule[0][0] == "start"
        sets = [items for kind, items in rule if kind == "set"]
        for word in range(len(used) + 1):
            if word == len(used):
                used.append(0)
            if used[word] + len(sets) <= WORD_BITS:
                placed.append((word, used[word], anchored, sets))
                used[word] += len(sets)
                break
    return placed, len(used)


# ---- printing

def rows(values, width=118):
    line, out = " ", []
    for value in values:
        if len(line) + len(value) + 2 > width:
            out.append(line)
            line = " "
        line += " " + value + ","
    return "\n".join(out + [line]) + "\n"


def c_string(data):
    out = ""
    for byte in data:
        char = chr(byte)
        out += "\\" + char if char in '"\\' else char if 32 <= byte < 127 and char != "?" else f"\\{byte:03o}"
    return out


def flips(member):
    """The code points where membership changes, from outside at 0."""
    out, inside = [], False
    for code in range(0x110000):
        now = not 0xD800 <= code < 0xE000 and member(chr(code))
        if now != inside:
            out.append(code)
            inside = now
    return out


def opening(what):
    return (f"/* {what}\n * Made by tools/make_ftfy_tables.py from ftfy {ftfy.__version__} and Python "
            f"{platform.python_version()} (Unicode {unicodedata.unidata_version}); do not edit. */\n\n")


# ---- the three files

def encoding_tables():
    rules = expand(P.parse(badness.BADNESS_RE.pattern, re.VERBOSE))
    placed, n_words = place_rules(rules)
    # ftfy.c folds chains of "&amp;" on the strength of this: no set before a rule's last one names '&', but
    # for the free place after the Cyrillic U+0412.
    for _, _, _, sets in placed:
        for i, items in enumerate(sets[:-1]):
            if contains(items, "&"):
                assert any(contains(sets[i - 1], chr(c)) for c in [0x412]) and len(set(mentioned(sets[i - 1]))) == 1

    clue_sets = [re.compile(f"[{chardata.UTF8_CLUES[name]}]") for name in (
        "utf8_first_of_2", "utf8_first_of_3", "utf8_first_of_4", "utf8_continuation", "utf8_continuation_strict")]
    regexes = [chardata.ENCODING_REGEXES[name] for name in chardata.CHARMAP_ENCODINGS]

    def attributes(char):
        masks = [0] * n_words
        for word, bit, _, sets in placed:
            for i, items in enumerate(sets):
                masks[word] |= contains(items, char) << (bit + i)
        encodings = sum(bool(regex.match(char)) << i for i, regex in enumerate(regexes))
        clues = sum(bool(clue.match(char)) << i for i, clue in enumerate(clue_sets))
        return (*masks, encodings, clues)

    listed = {code for code in range(0x10000) if not 0xD800 <= code < 0xE000 and
              (chr(code).isspace() or any(r.match(chr(code)) for r in regexes + clue_sets))}
    for _, _, _, sets in placed:
        listed |= {code for items in sets for code in mentioned(items)}
    assert max(listed) < 0x10000
    other, word = attributes("\U0001F600"), attributes("\u4E00")
    classes = {other: 0, word: 1}
    blocks, index = [(255,) * BLOCK], []
    for start in range(0, 0x10000, BLOCK):
        block = blocks[0]
        if any(start <= code < start + BLOCK for code in listed):
            block = tuple(classes.setdefault(attributes(chr(code)), len(classes))
                          for code in range(start, start + BLOCK))
        if block not in blocks:
            blocks.append(block)
        index.append(blocks.index(block))
    assert len(classes) < 255 and len(blocks) < 256 and n_words == 2

    start_bits, end_bits, first_bits = [0] * n_words, [0] * n_words, [0] * n_words
    for word_index, bit, anchored, sets in placed:
        first_bits[word_index] |= 1 << bit
        if not anchored:
            start_bits[word_index] |= 1 << bit
        end_bits[word_index] |= 1 << (bit + len(sets) - 1)

    out = opening("Mojibake: classes of characters and single-byte encodings.")
    out += f"#define FTFY_N_ENCODINGS {len(regexes)}\n#define FTFY_BLOCK {BLOCK}\n"
    out += "#define FTFY_UNLISTED 255 /* class 1 for a letter or digit, else class 0 */\n"
    for i, name in enumerate(("FIRST_OF_2", "FIRST_OF_3", "FIRST_OF_4", "CONTINUATION", "CONTINUATION_STRICT")):
        out += f"#define FTFY_{name} {1 << i}\n"
    words = lambda values: "{" + ", ".join(f"0x{v:016x}" for v in values) + "}"
    out += "\n/* The bits where rules begin at the start of a text and later, and where they end. */\n"
    out += f"static const uint64_t ftfy_bits_at_start[2] = {words(first_bits)};\n"
    out += f"static const uint64_t ftfy_bits_later[2] = {words(start_bits)};\n"
    out += f"static const uint64_t ftfy_bits_of_ends[2] = {words(end_bits)};\n\n"
    out += "static const struct ftfy_class {\n"
    out += "  uint64_t rules[2];  /* the places of the badness rules that the character fits */\n"
    out += "  uint16_t encodings; /* that have it */\n  uint8_t clues;\n"
    out += f"}} ftfy_classes[{len(classes)}] = {{\n"
    for *masks, encodings, clues in classes:
        out += f"  {{{words(masks)}, 0x{encodings:03x}, 0x{clues:02x}}},\n"
    out += "};\n\n"
    out += f"static const uint8_t ftfy_block_of[{len(index)}] = {{\n{rows(map(str, index))}}};\n\n"
    out += f"static const uint8_t ftfy_blocks[{len(blocks)}][FTFY_BLOCK] = {{\n"
    for block in blocks:
        out += "  {\n" + rows(map(str, block)) + "  },\n"
    out += "};\n\n"
    turns = flips(lambda char: char.isalnum() or char == "_")
    out += "/* Python's \\w: the code points where it begins and ends to hold. */\n"
    out += f"static const uint32_t ftfy_word_turns[{len(turns)}] = {{\n{rows(f'0x{c:x}' for c in turns)}}};\n\n"

    out += "/* Beyond ASCII, by code point; a sloppy encoding has U+FFFD at 0x1A. In the order ftfy tries them. */\n"
    out += "static const struct ftfy_encoding {\n  bool sloppy, restore_a0;\n  uint8_t n;\n"
    out += f"  uint8_t bytes[129];\n  uint16_t code_points[129];\n}} ftfy_encodings[FTFY_N_ENCODINGS] = {{\n"
    for name in chardata.CHARMAP_ENCODINGS:
        pairs = [(bytes([b]).decode(name), b) for b in [*range(0x80, 0x100)]]
        if name.startswith("sloppy"):
            assert bytes([0x1A]).decode(name) == "\ufffd"
            pairs.append(("\ufffd", 0x1A))
        pairs.sort()
        assert len({char for char, _ in pairs}) == len(pairs) and min(pairs)[0] >= "\x80"
        assert all(char.encode(name) == bytes([b]) for char, b in pairs)
        assert all(bytes([b]).decode(name) == chr(b) for b in range(128) if b != 0x1A)
        flag = lambda value: "true" if value else "false"
        out += f"  {{{flag(name.startswith('sloppy'))}, {flag(name != 'macroman')}, {len(pairs)}, /* {name} */\n  {{\n"
        out += rows(str(b) for _, b in pairs) + "  }, {\n" + rows(f"0x{ord(c):x}" for c, _ in pairs) + "  }},\n"
    return out + "};\n"


def chars_tables():
    changes = []
    for code in [*range(0x80, 0xD800), *range(0xE000, 0x110000)]:
        char = fixes.fix_line_breaks(fixes.uncurl_quotes(fixes.fix_character_width(
            fixes.fix_latin_ligatures(fixes.fix_c1_controls(chr(code))))))
        if char != chr(code):
            changes.append((code, char.encode()))
    assert all(code < 0x10000 and 0 < len(text) < 5 for code, text in changes)
    digits = flips(lambda char: re.match(r"\d", char) is not None)
    out = opening("Characters that become others, and decimal digits.")
    out += "/* What C1 controls, ligatures, widths, quotes and line breaks become, all steps taken. */\n"
    out += "static const struct ftfy_change {\n  uint16_t code_point;\n  char text[5];\n"
    out += f"}} ftfy_changes[{len(changes)}] = {{\n"
    out += rows(f'{{0x{code:x}, "{c_string(text)}"}}' for code, text in changes) + "};\n\n"
    out += "/* Python's \\d: the code points where it begins and ends to hold. */\n"
    out += f"static const uint32_t ftfy_digit_turns[{len(digits)}] = {{\n{rows(f'0x{c:x}' for c in digits)}}};\n"
    return out


def entity_tables():
    html5 = html.entities.html5
    entries, seen = [], set()
    for key in sorted((key for key in html5 if key.endswith(";")), key=lambda key: key[:-1]):
        name, value, upper = key[:-1], html5[key], ""
        assert re.fullmatch("[0-9A-Za-z]+", name)
        flags = []
        if name in html5:
            assert html5[name] == value and len(name) <= 6
            flags.append("HTML_BARE")
        shout = f"&{name.upper()};"
        seen.add(f"&{name};")
        if key == key.lower() and shout[1:] not in html5 and shout in chardata.HTML_ENTITIES:
            flags.append("HTML_UPPER")
            seen.add(shout)
            upper = chardata.HTML_ENTITIES[shout]
            upper = "" if upper == value else upper
        entries.append((name, value.encode(), upper.encode(), "|".join(flags) or "0"))
    assert seen == set(chardata.HTML_ENTITIES)
    assert all(name in {e[0] for e in entries} for name in html5 if not name.endswith(";"))
    out = opening("HTML 5's named characters (those of WHATWG's HTML standard), by name.")
    out += "#define HTML_BARE 1  /* also read without the ';' */\n"
    out += "#define HTML_UPPER 2 /* ftfy also reads the name in capitals */\n\n"
    out += "/* Name, value and, where it is another one, value in capitals, of each entity. */\n"
    out += "static const char html_pool[] =\n"
    line, table, at = "", [], 0
    for name, value, upper, flags in entries:
        text = name.encode() + value + upper
        table.append(f"{{{at}, {len(name)}, {len(value)}, {len(upper)}, {flags}}}")
        at += len(text)
        if len(line) + len(c_string(text)) > 110:
            out += f'  "{line}"\n'
            line = ""
        line += c_string(text)
    assert at < 65536
    out += f'  "{line}";\n\n'
    out += "static const struct html_entity {\n  uint16_t at; /* in the pool */\n"
    out += "  uint8_t n_name, n_value, n_upper, flags;\n"
    out += f"}} html_entities[{len(table)}] = {{\n{rows(table)}}};\n"
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FOLDER",
                        default=pathlib.Path(__file__).resolve().parent.parent / "src" / "text")
    folder = parser.parse_args().output
    assert ftfy.__version__ == "6.3.1", "the C code follows ftfy 6.3.1"
    for name, make in [("ftfy_encoding.inc", encoding_tables), ("ftfy_chars.inc", chars_tables),
                       ("html_entities.inc", entity_tables)]:
        text = make()
        (folder / name).write_text(text)
        print(f"{folder / name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
