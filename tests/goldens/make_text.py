#!/usr/bin/env python3
"""Makes the goldens of the tokenisers from transformers and open_clip, or compares clipc with them on the spot.

  make_text.py VOCABULARY                             writes tests/goldens/text/
  make_text.py VOCABULARY --check PROGRAM [...]       random strings through both; prints what differs
  make_text.py VOCABULARY --check PROGRAM --every     each code point of Unicode 15.0 in four surroundings

VOCABULARY is OpenAI's bpe_simple_vocab_16e6.txt.gz; PROGRAM is build/tests/test_text, which with the arguments
"encode FOLDER CLEANING" reads texts (u32 length, bytes) and writes a line of ids for each.
Needs transformers, open_clip_torch and ftfy; building and testing clipc does not."""
import argparse
import gzip
import html.entities
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

HERE = pathlib.Path(__file__).resolve().parent / "text"
CONTEXT = 77
N_CUT = 600  # merges of the small vocabulary of the folder tests
# Unicode 15.0 added these 4,489 to the 14.0 that Python 3.11 knows.
ADDED_IN_15 = """CF3 ECE 10EFD-10EFF 1123F-11241 11B00-11B09 11F00-11F10 11F12-11F3A 11F3E-11F59 1342F 13439-13455 1B132
1B155 1D2C0-1D2D3 1DF25-1DF2A 1E030-1E06D 1E08F 1E4D0-1E4F9 1F6DC 1F774-1F776 1F77B-1F77F 1F7D9 1FA75-1FA77
1FA87-1FA88 1FAAD-1FAAF 1FABB-1FABD 1FABF 1FACE-1FACF 1FADA-1FADB 1FAE8 1FAF7-1FAF8 2B739 31350-323AF"""

STRINGS = [
    "a photo of a cat", "a photo of a dog", "a diagram", "hello world", "Hello, World!", "a photo of 2 cats",
    "what's in the image", "How are you doing?", "You should've done this", "caf\u00e9", "cafe\u0301",
    "\u65e5\u672c\u8a9e", "\U0001f600 smile", "l33t 2024", "na\u00efve fa\u00e7ade", "Stra\u00dfe",
    "don't won't I'LL they'VE", "\u0130stanbul", "x\u200by", "a--b...c!!!", "E=mc\u00b2", "\ud55c\uad6d\uc5b4",
    "supercalifragilisticexpialidocious", "def main():\n\tpass", "A\n'll !!to?'d''d of, can't.",
    "\u751f\u6d3b\u7684\u771f\u8c1b\u662f", "it\u2019s a dog", "\u201cquoted\u201d text\u2026", "\ufb01sh",
    "&amp;amp;", "\u039f\u0394\u039f\u03a3", "sch\u00c3\u00b6n", "a\0b", "1\0 2\ufffd3",
    "weird \uff5e edge \uff5e case", "\uff21\uff22\uff23\uff11\uff12\uff13", "a\x85b", "a\x1cb", "\ufeffa",
    "x\x1b[31my", "&lt;b&gt;", "\u0391\u03a3 \u0391\u03a3' \u03a3", "\u01c5 \u01c8", "\u0149", "\u0132",
    "'S '\u017f it'\u017f", "a<|endoftext|>b", "\u00df \u1e9e", "\u2126", "\u212b", "\u00c5",
    "\u00bd \u00b2 \u0663", "a\u0300\u0301", "\U0001f3f3\ufe0f\u200d\U0001f308", "<b>x</b>", "a_b", "don\u00b4t",
    "a'b'll", "a\u3000b", "", " ", "\n\t \u3000", "<|startoftext|>", "<|StartOfText|>", "<|ENDOFTEXT|>",
    "<|endoftext|><|endoftext|>", "!!<|EndOfText|>!!", "<start_of_text> <END_OF_TEXT> <\u017ftart_of_text>",
    "a<end_of_text>b", "! !! !!!", "\u03a3\u03a3\u03a3 \u03a3a \u0345\u03a3 a\u0345\u03a3 a\u03a3\u0345 a\u03a3\u0345b",
    "\u212a'\u212a 'RE're 'rE", "&lthe &notit; &copy &copy; &#65; &#x41; &#0; &#128;", "&amp;lt;", "A_photo, of\u2014a 'Cat'!!",
    "\u0344\u0385 \u1fee \u0958 \u2adc \ufb1d", "a" + "\u0301\u0323" * 20, "\u0041\u030a\u0327", "\u1100\u1161\u11a8",
    "\u00e2\u20ac\u2122", "doesn\u00e2\u20ac\u2122t", "x " * 100, "w" * 300, "\u00e9" * 200, "9" * 100,
    # marks and compositions newer than Unicode 9.0: tokenizers' NFC leaves them where they are
    "x\U00010f85\u0334 x\u08d1\u0334 x\u1dfa\u0327", "\U00011935\U00011930 \U00011938", "x\u0345y \u0345", "e\u0316\U0001e08f\u0301 e\u0316\U00010efd\u0301",
    "\u10d2 \u1c92 \u13a0 \uab70", "\u2160\u2170 \u24b6 \U00010400 \U0001e900", "\u1c89 \ua7cb \U00010d50",
]  # fmt: skip
MALFORMED = [b"a\xffb", b"\xc3", b"\xe2\x82", b"\xe2\x82a", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf0\x80\x80\x80",
             b"\xc0\xafx", b"\xf5\x80\x80\x80", b"caf\xc3\xa9\xa9", b"\x80\x80\x80", b"\xf4\x90\x80\x80",
             b"\xe0\x80\xaf", b"\xf0\x9f\x98\x80\xf0\x9f"]  # fmt: skip


# ---------------------------------------------------------------- references


def byte_symbols():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def vocabulary_of(merges):
    names = byte_symbols()
    names += [name + "</w>" for name in names] + ["".join(merge) for merge in merges]
    return {name: i for i, name in enumerate(names + ["<|startoftext|>", "<|endoftext|>"])}


def read_merges(path):
    lines = gzip.open(path).read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    return [tuple(line.split()) for line in lines]


class References:
    def __init__(self, path):
        import open_clip.tokenizer
        from transformers import CLIPTokenizer

        merges = read_merges(path)
        self.hf_tokenizer = CLIPTokenizer(vocab=vocabulary_of(merges), merges=merges)
        self.open_clip = {
            clean: open_clip.tokenizer.SimpleTokenizer(bpe_path=path, clean=clean)
            for clean in ("lower", "whitespace", "canonicalize")
        }

    def ids(self, cleaning, text):
        if cleaning == "hf":
            return self.hf_tokenizer(text, truncation=True, max_length=CONTEXT)["input_ids"]
        tokenizer = self.open_clip[cleaning]
        if len(tokenizer.bpe_ranks) and len(self.open_clip["lower"].cache) > 200000:
            for other in self.open_clip.values():
                other.cache = {t: t for t in ("<start_of_text>", "<end_of_text>")}
        ids = [tokenizer.sot_token_id] + tokenizer.encode(text) + [tokenizer.eot_token_id]
        return ids if len(ids) <= CONTEXT else ids[: CONTEXT - 1] + [tokenizer.eot_token_id]


# -------------------------------------------------------------- random texts


def assigned():
    points = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    if unicodedata.unidata_version == "14.0.0":
        newer = []
        for part in ADDED_IN_15.split():
            first, _, last = part.partition("-")
            newer += range(int(first, 16), int(last or first, 16) + 1)
        assert len(newer) == 4489 and not set(newer) & set(points)
        points += newer
    else:
        assert unicodedata.unidata_version.startswith("15.")
    return points


class Fuzz:
    WORDS = "photo cat dog the of a naïve straße ÅNGSTRÖM İSTANBUL ΟΔΟΣ ΣΑΣ Привет мир 日本語 한국어 مرحبا שלום हिन्दी ไทย".split()
    CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'LL", "'D", "'ſ",
                    "’s", "''", "'", "'sss", "'lla"]  # fmt: skip
    SPECIALS = ["<|startoftext|>", "<|endoftext|>", "<|StartOfText|>", "<|ENDOFTEXT|>", "<start_of_text>",
                "<end_of_text>", "<END_OF_TEXT>", "<|endoftext", "|>", "<ſtart_of_text>", "</w>", "<|"]  # fmt: skip
    SPACES = [*" \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f",
              "\u3000", "\u200b", "\ufeff", "\r\n", "  "]  # fmt: skip
    CODECS = ["latin-1", "cp1252", "cp1250", "cp1251", "cp437", "mac-roman", "iso-8859-2", "cp1253", "cp1254", "cp1257"]

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.points = assigned()
        self.marks = [c for c in self.points if unicodedata.combining(chr(c))]
        self.cased = [c for c in self.points if chr(c).lower() != chr(c).upper()]
        self.names = list(html.entities.html5)

    def one(self):
        pick, r = self.random.choice, self.random.random()
        if r < 0.20:
            return pick(self.WORDS)
        if r < 0.28:
            return chr(pick(self.points))
        if r < 0.36:
            return "".join(chr(self.random.randrange(0x21, 0x250)) for _ in range(self.random.randrange(1, 5)))
        if r < 0.40:
            return pick("aeiouAEIOUnΑκк가か") + "".join(chr(pick(self.marks)) for _ in range(self.random.randrange(1, 4)))
        if r < 0.44:
            return "".join(chr(pick(self.cased)) for _ in range(self.random.randrange(1, 4)))
        if r < 0.54:
            return pick(["it", "they", "", "x1", "Σ"]) + pick(self.CONTRACTIONS)
        if r < 0.62:
            return self.entity()
        if r < 0.68:
            return pick(self.SPECIALS)
        if r < 0.80:
            return pick(self.SPACES)
        if r < 0.88:
            return self.mojibake()
        if r < 0.93:
            return pick(["12", "2024", "٣", "½", "²", "Ⅷ", "!", "...", "--", "?!", "_", "@", "#1", "😀", "🏳️‍🌈", "👩🏽‍🚀"])
        if r < 0.97:
            return pick("ﬁﬂﬀĲĳŉǆǅ！Ａｚ０～ｶﾞ“”‘’‚‛„′…—–«»€™\ufffd\u2019Σςſ")
        return chr(self.random.randrange(0x20)) if r < 0.99 else chr(self.random.randrange(0x7F, 0xA0))

    def entity(self):
        pick, r = self.random.choice, self.random.random()
        if r < 0.4:
            return "&" + pick(self.names)
        if r < 0.6:
            return pick(["&amp;", "&lt;", "&gt;", "&quot;", "&nbsp;", "&amp;amp;", "&amp;lt;", "&AMP;", "&lthe", "&notit;", "&"])
        number = self.random.choice([self.random.randrange(0x100), self.random.randrange(0x3000), self.random.randrange(0x120000)])
        return f"&#{number}" + pick([";", ";", ""]) if r < 0.8 else f"&#{pick('xX')}{number:x}" + pick([";", ";", ""])

    def mojibake(self):
        text = self.random.choice(self.WORDS + ["schön", "“quoted”", "it’s", "…", "Ä", "é", "ñ", "ß", "😀", "—", "£", "à la", "ź"])
        for _ in range(self.random.choice([1, 1, 1, 2])):
            text = text.encode("utf-8").decode(self.random.choice(self.CODECS), self.random.choice(["ignore", "replace"]))
        return text

    def text(self, longest=24):
        glue = self.random.choice(["", "", " "])
        return glue.join(self.one() for _ in range(self.random.randrange(longest + 1)))


# ----------------------------------------------------------------- comparing


def escape(data):
    return "".join(
        f"%{b:02X}" if b < 0x20 or b == 0x7F or b == 0x25 else chr(b) for b in data
    ).encode("latin-1")


def compare(references, program, texts, cleanings, vocabulary):
    """Counts and prints the texts for which the program's ids are not the reference's."""
    texts = list(texts)
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "bpe_simple_vocab_16e6.txt").write_bytes(gzip.open(vocabulary).read())
        frames = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
        for cleaning in cleanings:
            run = subprocess.run([program, "encode", folder, cleaning], input=frames, stdout=subprocess.PIPE, check=True)
            lines, wrong = run.stdout.decode().splitlines(), 0
            assert len(lines) == len(texts)
            for text, line in zip(texts, lines):
                wanted, got = references.ids(cleaning, text), [int(i) for i in line.split()]
                if wanted == got:
                    continue
                wrong += 1
                if wrong <= 20:
                    print(f"{cleaning}: {text!a}\n  wanted {wanted}\n  got    {got}")
            print(f"{cleaning}: {wrong} of {len(texts)} texts differ")
            differences += wrong
    return differences


# ------------------------------------------------------------------- folders

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def token(content, **flags):
    return {"content": content, **FLAGS, **flags}


def whole(added, regex_prefix="", post=True):
    """A tokenizer.json as 4.x wrote it; vocabulary and merges come in later."""
    pattern = regex_prefix + r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 512 + N_CUT + 1],
                           "cls": ["<|startoftext|>", 512 + N_CUT], "trim_offsets": False, "add_prefix_space": False}
        if post else None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": False},
    }  # fmt: skip


def folder_variants():
    """Name, files beside the vocabulary, and how the merges of a tokenizer.json are written."""
    start, end = 512 + N_CUT, 512 + N_CUT + 1
    both = [{"id": start, **token("<|startoftext|>", normalized=True)}, {"id": end, **token("<|endoftext|>")}]
    more = end + 1
    flags = [
        {"id": more, **token("<left>", lstrip=True)}, {"id": more + 1, **token("<right>", rstrip=True)},
        {"id": more + 2, **token("<both>", lstrip=True, rstrip=True)}, {"id": more + 3, **token("<word>", single_word=True)},
        {"id": more + 4, **token("Caf\u00e9", normalized=True, special=False)}, {"id": more + 5, **token("<wordier>")},
        {"id": more + 6, **token("word", single_word=True, normalized=True, lstrip=True, special=False)},
        {"id": more + 7, **token("<w")},
        # what lstrip and rstrip take away is seen only by tokens with spaces of their own
        {"id": more + 8, **token(" lead", normalized=True, special=False)},
        {"id": more + 9, **token("trail ", normalized=True, special=False)},
    ]  # fmt: skip
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    return [
        ("bare", {}, None),
        ("pad is !", {"tokenizer_config.json": {**config, "pad_token": "!"}}, None),
        ("pad is ! in the map", {"special_tokens_map.json": {
            "bos_token": token("<|startoftext|>", normalized=True), "eos_token": token("<|endoftext|>", normalized=True),
            "unk_token": token("<|endoftext|>", normalized=True), "pad_token": "!"}}, None),
        ("normalized map", {"special_tokens_map.json": {
            "bos_token": {k: v for k, v in token("<|startoftext|>", normalized=True).items() if k != "special"},
            "eos_token": {k: v for k, v in token("<|endoftext|>", normalized=True).items() if k != "special"},
            "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}}, None),
        ("normalized pad in the map", {"special_tokens_map.json": {
            "eos_token": token("<|endoftext|>", normalized=False), "unk_token": "<|endoftext|>",
            "pad_token": token("<|EndOfText|>", normalized=True)}}, None),
        ("normalized eos said last", {"special_tokens_map.json": {
            "eos_token": "<|endoftext|>", "pad_token": token("<|endoftext|>", normalized=True, lstrip=True)}}, None),
        ("added_tokens.json", {"added_tokens.json": {"<cat>": more, "Big Dog": more + 1},
                               "special_tokens_map.json": {"additional_special_tokens": ["<cat>"]}}, None),
        ("decoder in the config", {"tokenizer_config.json": {**config, "pad_token": "!", "added_tokens_decoder": {
            "0": token("!"), str(start): token("<|startoftext|>", normalized=True), str(end): token("<|endoftext|>")}},
            "special_tokens_map.json": {"pad_token": "?"}}, None),
        ("extra tokens", {"tokenizer_config.json": {**config, "extra_special_tokens": ["<x>"], "image_token": "<image>"}}, None),
        ("whole, 4.x strings", {"tokenizer.json": whole(both)}, "strings"),
        ("whole, pairs", {"tokenizer.json": whole(both, r"<\|startoftext\|>|<\|endoftext\|>|")}, "pairs"),
        ("whole, pad is !", {"tokenizer.json": whole([{"id": 0, **token("!")}, *both])}, "strings"),
        ("whole, pad is ! in the config", {"tokenizer.json": whole(both), "tokenizer_config.json": {**config, "pad_token": "!"}}, "pairs"),
        ("whole, flags", {"tokenizer.json": whole(both + flags, post=False)}, "pairs"),
    ]  # fmt: skip


FOLDER_STRINGS = [
    "a photo of a cat!", "! !! !!! a!b", "<|startoftext|>hi<|endoftext|>", "<|StartOfText|> <|ENDOFTEXT|>", "What? Is it?",
    "a <cat> and a <CAT>", "the Big Dog and the big dog, bigdog", "<x> <image>!", "a <left> b <right> c <both> d",
    "<left><right>  <both>  <left>  x", "  <right>   <left>", "a<word>b <word>b a<word> <word> \u00e9<word> _<word>", "<word>.<word>\u0301",
    "caf\u00e9 CAF\u00c9 cafe\u0301 decaf\u00e9ine", "<wordier> <wordy <w",
    "<right> lead x lead", "<left> lead", "trail <left> trail x", "trail <right>", "<both> lead trail <both>",
    "word words a word  WORD", "", "   ", "\u2003<both>\u2003a",
]  # fmt: skip


def make_folders(merges):
    from transformers import CLIPTokenizer

    merges = merges[:N_CUT]
    variants = []
    for name, files, written in folder_variants():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            if written is None:
                (folder / "vocab.json").write_text(json.dumps(vocabulary_of(merges)))
                (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
            for file, content in files.items():
                content = json.loads(json.dumps(content))
                if file == "tokenizer.json":
                    content["model"]["vocab"] = vocabulary_of(merges)
                    content["model"]["merges"] = [f"{a} {b}" if written == "strings" else [a, b] for a, b in merges]
                (folder / file).write_text(json.dumps(content))
            tokenizer = CLIPTokenizer.from_pretrained(folder)
            cases = [[text, tokenizer(text, truncation=True, max_length=CONTEXT)["input_ids"]] for text in FOLDER_STRINGS]
        variants.append({"name": name, "merges": written, "files": files, "cases": cases})
    return {"n_merges": N_CUT, "variants": variants}


# ---------------------------------------------------------------------- main


def versions():
    import ftfy
    import open_clip
    import regex
    import tokenizers
    import transformers

    modules = {m.__name__: m.__version__ for m in (transformers, tokenizers, open_clip, ftfy, regex)}
    return ", ".join(f"{k} {v}" for k, v in {**modules, "Python": sys.version.split()[0]}.items())


def write_cases(path, references, texts, cleanings):
    """A line per text: the escaped text, then for each cleaning a tab and its ids ('=': as in the column before)."""
    with open(path, "wb") as out:
        out.write(b"# " + " ".join(cleanings).encode() + b"\n# made by make_text.py with " + versions().encode() + b"\n")
        for data in texts:
            text, previous = data.decode("utf-8", "replace"), None
            out.write(escape(data))
            for cleaning in cleanings:
                ids = references.ids(cleaning, text)[1:-1]
                out.write(b"\t" + (b"=" if ids == previous else " ".join(map(str, ids)).encode()))
                previous = ids
            out.write(b"\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocabulary")
    parser.add_argument("--check", metavar="PROGRAM", help="compare instead of writing goldens")
    parser.add_argument("--fuzz", type=int, default=20000, help="random strings to compare [20000]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cleanings", default="hf,lower", help="of hf, lower, whitespace, canonicalize [hf,lower]")
    parser.add_argument("--every", action="store_true", help="compare the assigned code points instead, of large blocks one in 64")
    arguments = parser.parse_args()
    references = References(arguments.vocabulary)
    if arguments.check:
        if arguments.every:
            large = lambda c: unicodedata.category(chr(c)) == "Co" or 0x3400 <= c <= 0xD7A3 or 0x17000 <= c <= 0x18CFF or c >= 0x20000
            points = [c for c in assigned() if not large(c) or c % 64 == 1]
            texts = [pattern.format(chr(c)) for c in points for pattern in ("{0}", "x{0}1", "\u03a3{0}\u03a3 a", "a\u0323{0}!{0}")]
        else:
            fuzz = Fuzz(arguments.seed)
            texts = [fuzz.text() for _ in range(arguments.fuzz)]
        sys.exit(compare(references, arguments.check, texts, arguments.cleanings.split(","), arguments.vocabulary) != 0)

    merges = read_merges(arguments.vocabulary)
    HERE.mkdir(exist_ok=True)
    (HERE / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    golden = [text.encode() for text in STRINGS] + MALFORMED
    write_cases(HERE / "strings.txt", references, golden, ["hf", "lower", "whitespace", "canonicalize"])
    fuzz = Fuzz(15)
    write_cases(HERE / "fuzz.txt", references, [fuzz.text(16).encode() for _ in range(2000)], ["hf", "lower"])
    folders = {"versions": versions(), **make_folders(merges)}
    (HERE / "folders.json").write_text(json.dumps(folders, indent=0))


main()
