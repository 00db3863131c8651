"""Files of formats that clipc names and refuses, and of none."""
from .common import add, picture, saved


def make():
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
