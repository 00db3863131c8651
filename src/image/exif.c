/* The orientation tag of EXIF and XMP. In: untrusted metadata. Out: 1..8, or 0 when it says none.
 * Follows Pillow's getexif: the first directory of the TIFF structure, then "tiff:Orientation" in XMP. */
#include "image/decode.h"

#include <string.h>

#define EXIF_ORIENTATION 0x0112u

static uint32_t exif_u16(const uint8_t *p, bool big) { return big ? clipc__be16(p) : clipc__le16(p); }
static uint32_t exif_u32(const uint8_t *p, bool big) { return big ? clipc__be32(p) : clipc__le32(p); }

int clipc__exif_orientation(const uint8_t *tiff, size_t n_bytes) {
  if (n_bytes < 8) return 0;
  bool big = memcmp(tiff, "MM\0*", 4) == 0;
  if (!big && memcmp(tiff, "II*\0", 4) != 0) return 0;
  size_t at = exif_u32(tiff + 4, big);
  if (at > n_bytes || n_bytes - at < 2) return 0;
  uint32_t n_entries = exif_u16(tiff + at, big);
  at += 2;
  int orientation = 0;
  for (uint32_t i = 0; i < n_entries && n_bytes - at >= 12; i++, at += 12) {
    const uint8_t *entry = tiff + at;
    if (exif_u16(entry, big) != EXIF_ORIENTATION || exif_u32(entry + 4, big) != 1) continue;
    uint32_t type = exif_u16(entry + 2, big), value = 0;
    if (type == 3) value = exif_u16(entry + 8, big);
    if (type == 4) value = exif_u32(entry + 8, big);
    orientation = value >= 1 && value <= 8 ? (int)value : 1;
  }
  return orientation;
}

int clipc__xmp_orientation(const uint8_t *xmp, size_t n_bytes) {
  static const char key[] = "tiff:Orientation";
  const size_t n_key = sizeof key - 1;
  for (size_t i = 0; i + n_key + 2 < n_bytes; i++) {
    if (memcmp(xmp + i, key, n_key) != 0) continue;
    const uint8_t *p = xmp + i + n_key, *end = xmp + n_bytes;
    if (end - p >= 3 && p[0] == '=' && p[1] == '"')
      p += 2;
    else if (p[0] == '>')
      p += 1;
    else
      continue;
    if (*p >= '0' && *p <= '9') return *p >= '1' && *p <= '8' ? *p - '0' : 1;
  }
  return 0;
}
