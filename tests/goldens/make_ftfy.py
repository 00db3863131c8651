#!/usr/bin/env python3
"""Makes tests/goldens/ftfy/: what ftfy 6.3.1's fix_text and Python 3.11's html.unescape make of a few hundred texts.

Each line of fix_text.tsv and html_unescape.tsv is the input, a tab and the output. Characters that are not printable
are written as \\uXXXX or \\UXXXXXXXX and the backslash doubled. A line that begins with '#' is a comment.
Needs ftfy; building and testing clipc does not."""
import argparse
import html
import pathlib
import platform
import unicodedata

import ftfy
from ftfy import chardata

HERE = pathlib.Path(__file__).resolve().parent / "ftfy"

LANGUAGES = [
    "crème brûlée à la carte", "Größe übel, heiß", "¿El niño soñó? ¡Sí!", "às vezes, coração", "žluťoučký kůň",
    "gęś, żółw i źdźbło", "ünlü şair, iğne", "ķīlis ūdenī", "őrült űrhajó", "smørrebrød på Å", "îți dă țara",
    "чёрный кофе", "Україна й ґанок", "Ψωμί και ελιές", "العربية", "שלום עולם", "สวัสดี", "こんにちはカタカナ",
    "漢字和中文", "한국어 힣", "हिन्दी", "தமிழ்", "đường phố Việt", "“double” and ‘single’", "dash – long — … •",
    "™ © ® ° § ¶ €5 £3 ¥2", "😀 👍🏽", "½ × 2² ± µ", "ŒUVRE œuf", "│ ═ ╬ █", "non\u00a0breaking",
]

ENTITIES = [
    "&amp;", "&lt;b&gt;", "&eacute;", "&EACUTE;", "&eAcute;", "&NTILDE; &ntilde; &Ntilde; &nTILDE;", "STRA&SZLIG;E",
    "&FFILIG;", "&fjlig;", "&#233;", "&#xE9;", "&#XE9;", "&#0233;", "&#128;", "&#x80;&#x9f;&#x81;", "&#150;", "&#59;",
    "&#x3B;", "&#38;", "&#1;x&#x7f;", "&#0;", "&#11;", "&#12;", "&#13;", "&#13;&#10;", "&#xD800;", "&#xD83D;&#xDE00;",
    "&#x10FFFF;", "&#x110000;", "&#99999999999999999999;", "&#xfffffffffffffffffffff;", "&#xFDD0;", "&#xFFFE;",
    "&#x1F600;", "&#12ab;", "&#x;", "&#;", "&;", "&", "&&amp;", "& amp;", "&amp", "&ampx", "&amp;amp;", "&lthe",
    "&notit;", "&notin;", "&not", "&CounterClockwiseContourIntegral;", "&ClockwiseContourIntegral;",
    "&DoubleLongLeftRightArrow;", "&NotEqualTilde; &acE; &bne;", "&frac12; &FRAC12; &frac12",
    "&hellip;&rsquo;&ldquo;",
    "&nbsp;&NBSP;", "&Jscr;", "&copy2024", "&copy;2024", "&sup1;&sup;&sub1;", "&ouml", "&ouml;&OUML;", "&there4;",
    "&aé;", "&ampé;", "&#xE9", "&#233 x", "&#65x;", "&amp;#233;", "&amp;amp;amp;eacute;", "&AMP;LT;",
    "&#38;#38;amp;lt;",
    "&Atilde;&copy;", "&acirc;&euro;&trade;", "&amp;Atilde;&amp;copy;", "&Atilde;&amp;copy;", "&amp;lt;tag&amp;gt;",
    "<b>&amp;</b>", "&amp;\n<\n&amp;\n", "&amp; <", "&lt; &amp;eacute;", "&xn--;", "&abcdefghijklmnopqrstuvwxyz;",
    "&GTCC;", "&#4294967361;", "&#x100000041;", "&#0000000000000000000000065;", "&#000000000000000000000065;",
    "&lambda;&LAMBDA;&Lambda;", "&micro;&MICRO;", "&ccaron;&CCARON;", "&#x41;&#x1b;[0m", "&Zfr;&zfr;&ZFR;",
    "&" + "amp;" * 40 + "lt;", "&" + "amp;" * 9 + "x &" + "amp;" * 30 + "copy;",
    "ГўВЂВ&amp;#38;#38;amp;amp;amp;amp;lt;",
    "".join("&" + "amp;" * k + "gt;" for k in range(12)), "&" + "#38;amp;AMP;#x26;" * 4 + "eacute;",
    "&" + "amp;" * 20 + "Atilde;\u00a9 na\u00efve", "&abcdefghijklmnopqrstuvwxyzabcdef;", "&amp;" + "a" * 40 + ";",
]

OTHERS = [
    "", " ", "plain text", "tab\tand\fform feed", "\n\n\n", "naïve", "voilÃ le travail", "Ã la carte", "Ã quele",
    "Ã s",
    "Ã squid", "Ã", "Ã ", "Ã  x", "fÃ cil", "NÃ£o Ã ", "Å umava", "Å is a letter", "Ã\u00a0 la", "Â£5", "Â ", "a Â «",
    "Â°C", "à²\u0080", "â€œ quoted â€\u009d", "â€œ quoted â€\ufffd", "â€œ quoted â€?", "Ã?", "Ã\ufffd", "Ð\ufffd",
    "ð\u009f\u0098?", "ð\u009f?\u0080", "ð?\u0098\u0080", "â\ufffd¬ Ã©", "\ufffd Ã©", "í\u00a0½í¸\u0080",
    "í\u00a0½\ufffdí¸\u0080", "í\u00a0\u0080 Ã©", "Ã© í\u00a0½í¸\n", "í\u00a0½í¸\nx", "À\u0080 Ã©", "Ã© À\n", "Ã© À",
    "Ã© \u001a", "é Ã©", "日本 Ã© 語", "Ð“Ã© x", "Ã©Ð“Ñ\u0080", "\u0085", "a\u0085b", "\u0080", "\u0080\u0081",
    "\u0093hi\u0094",
    "пр\u0093ивет\u0094", "\u0081\u008d\u008f\u0090\u009d", "x\u0081 Ã©", "вЂ™", "ГўВЂВ™s", "РїСЂРёРІРµС‚", "√©t√©",
    "‚Äúhi‚Äù",
    "β€™", "ā€œ", "ΓƒΒ©", "Ã\u0083Â©", "Ã\u0083Æ\u0092Ã\u0082Â©", "Ä‘Æ°á»\u009dng", "â€ž", "â†’", "â ", "ã \u0081",
    "ð \u0098\u0080",
    "Ø§Ù„Ø¹Ø±Ø¨ÙŠØ©", "ØªÙ", "Œ x", "œuf", "×²", "L’été", "HÃƒÂ©llo", "\u00c3\u00a9\u00c3", "sch√∂n",
    "«\u00a0oui\u00a0»",
    "¯\\_(ツ)_/¯", "(ง'⌣')ง", "(à¸‡'âŒ£')à¸‡", "ಠ_ಠ", "╯°□°)╯︵ ┻━┻", "Ô ö", "80×²", "price: ¤5", "¬¬", "§¶", "€ 5",
    "a€b", "ﬁ¹",
    "ﬁ ﬂ ﬀ ﬃ ﬄ ﬅ ﬆ", "Ĳ ĳ ŉ", "Ǆ ǅ ǆ Ǉ ǈ ǉ Ǌ ǋ ǌ Ǳ ǲ ǳ", "æ œ ß", "ＡＢＣ　ａｂｃ　１２３", "！＂＃＆＇～", "ｱｲｳ ｶﾞ ﾊﾟ ｰ ･｡｢｣",
    "￠￡￢￣￤￥￦ ￨￩￪￫￬￭￮", "ﾡﾢﾾￂￇ ﾠ", "＆amp；", "＆ａｍｐ；", "＜ &amp;", "‘a’ ‚b‛ “c” „d‟ ʼn `e´ ′f″",
    "a\r\nb\rc\u2028d\u2029e\n",
    "\r\u2028\r\n", "\r\r\n\n", "\x1b[36;44mblue\x1b[0m", "\x1b[", "\x1b[0", "\x1b[;;;H", "\x1b[12",
    "\x1b\x1b[1m[0m", "\x1b[１;\u0661m", "\x1b\ufeff[0m",
    "\x1b［0m", "\x1b[0\u0300m", "\x1b]0;title\x07", "\x00\x01\x08\x0b\x0e\x1f\x7f", "\u206a\u206f\u2070",
    "\ufeffstart", "\ufff8\ufff9\ufffb\ufffc\ufffd",
    "\u200b\u200c\u200e\u202a", "cafe\u0301", "A\u030a \u212b \u2126", "a\u0316\u0301 a\u0301\u0316",
    "\u1100\u1161\u11a8", "\u0344 \u0958 \ufb1d", "²³¹ ½ ﷺ",
    "𝒥ohn", "\U0001d173", "🏴\U000e0067\U000e0062\U000e007f", "x\u0000y", "Ã©\nÃ©\n", "Ã©\nplain\nâ€™", "é\x85\nÃ©",
    "\u1680Ã \u3000Â ", "aÂ\u00a0b",
    "ÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢", "Ãƒ\u0083Ã\u0082Â¢", "ï»¿start", "ï¿½", "ï¿½ Ã©", "Ã© ﬁ &amp; “x”\r\n", "&eacute;Ã©",
    "\u00adÃ\u00ad", "Ãš Ã\u0161", "Ù\u00a0Ù¡", "Î Î±",
    "\f\u0091", "ã \u0085щ ı", "£Ù ", "Â£Ù ", "£Å ", "Â£Å ", "âœ ", "ð\u0090 \u00a0", "ðŸš ", "гÂ?", "Ð³Â?",
    "í\u00a0?íº\u00a0", "í\u00a0½í·?",
]

HTML_ONLY = ["&abcdefghijklmnopqrstuvwxyz123456;", "&gt", "&GT", "&gtx", "&g", "&lt&gt&amp", "&#233", "&#xe9z",
             "&#00000000000000000000000000233;", "&middot &middotx &centerdot;", "&&#65;&", "&a b;", "&a<b;",
             "&a&amp;b;",
             "&日本;", "&amp日本;", "&" + "é" * 33 + ";", "&#128;&#133;&#159;", "&#13;&#10;&#9;", "&#xD7FF;&#xE000;",
             "&CounterClockwiseContourIntegralx;", "&thetasym;&thetasym", "&Aacutex;&Aacute",
             "&#xFDCF;&#xFDF0;&#xFDEF;"]


def mojibake():
    for text in LANGUAGES:
        yield text
        for encoding in chardata.CHARMAP_ENCODINGS:
            yield text.encode().decode(encoding)
        twice = text.encode().decode("sloppy-windows-1252").encode().decode("sloppy-windows-1252")
        yield twice
        yield text.encode().decode("latin-1").encode().decode("sloppy-windows-1251")
        yield text.encode().decode("cp1252", "replace")
        yield text.encode().replace(b"\xa0", b" ").decode("sloppy-windows-1252")
        yield "été: " + text.encode().decode("sloppy-windows-1252") + " 日本"
        yield text.encode()[:-1].decode("sloppy-windows-1252")


def escape(text):
    out = ""
    for char in text:
        if char == "\\":
            out += "\\\\"
        elif char == " " or (char.isprintable() and not unicodedata.category(char).startswith("M")):
            out += char
        else:
            out += f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
    return out


def write(name, function, inputs):
    seen = list(dict.fromkeys(inputs))
    lines = [f"# ftfy {ftfy.__version__}, Python {platform.python_version()}, Unicode {unicodedata.unidata_version}"]
    lines += [f"{escape(text)}\t{escape(function(text))}" for text in seen]
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{name}: {len(seen)} texts, {sum(function(text) != text for text in seen)} of them changed")


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    assert ftfy.__version__ == "6.3.1"
    HERE.mkdir(exist_ok=True)
    write("fix_text.tsv", ftfy.fix_text, [*mojibake(), *ENTITIES, *OTHERS])
    write("html_unescape.tsv", html.unescape, [*ENTITIES, *HTML_ONLY])
    # What tests/test_ftfy.c builds for itself, too long to be stored.
    line = "a" * 999998
    assert ftfy.fix_text(line + "Ã©\n") == line + "é\n"
    assert ftfy.fix_text("a" + line + "Ã©\n") == "a" + line + "Ã©\n"
    assert ftfy.fix_text("é" * 1000000 + "&amp;<") == "é" * 1000000 + "&amp;<"
    assert ftfy.fix_text("é" * 1000000 + "a&amp;") == "é" * 1000000 + "a&"


if __name__ == "__main__":
    main()
