/* What the readers of the formats share: checks, and how they refuse. */
#ifndef CLIPC_IMAGE_DECODE_H
#define CLIPC_IMAGE_DECODE_H

#include "image/image.h"

/* The readers; each makes *out, and leaves it freed or empty on failure. */
CLIPC_PRIVATE clipc_status clipc__jpeg_decode(struct clipc__picture *out, const struct clipc__source *source);
CLIPC_PRIVATE clipc_status clipc__png_decode(struct clipc__picture *out, const struct clipc__source *source);
CLIPC_PRIVATE clipc_status clipc__gif_decode(struct clipc__picture *out, const struct clipc__source *source);
CLIPC_PRIVATE clipc_status clipc__bmp_decode(struct clipc__picture *out, const struct clipc__source *source);
CLIPC_PRIVATE clipc_status clipc__pnm_decode(struct clipc__picture *out, const struct clipc__source *source);

/* Checks a size from a header: both sides at least 1 and within int, their product within the limit. Every
 * reader calls it before it allocates anything that grows with the picture. */
CLIPC_PRIVATE clipc_status clipc__source_size(const struct clipc__source *source, uint64_t width, uint64_t height);

/* "name: <format> ..." and "name: no memory to decode it". */
CLIPC_PRIVATE clipc_status clipc__source_fail(const struct clipc__source *source, clipc_status status,
                                              const char *format, ...) __attribute__((format(printf, 3, 4)));
CLIPC_PRIVATE clipc_status clipc__source_no_memory(const struct clipc__source *source);
/* clipc__picture_make with the source's name in the sentence. */
CLIPC_PRIVATE clipc_status clipc__source_picture(const struct clipc__source *source, struct clipc__picture *out,
                                                 enum clipc__mode mode, uint64_t width, uint64_t height);

/* EXIF's orientation of a TIFF structure ("II*\0" or "MM\0*" first); 0 when it says none. */
CLIPC_PRIVATE int clipc__exif_orientation(const uint8_t *tiff, size_t n_bytes);
/* tiff:Orientation of an XMP text; 0 when it says none. */
CLIPC_PRIVATE int clipc__xmp_orientation(const uint8_t *xmp, size_t n_bytes);

static inline uint32_t clipc__be16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static inline uint32_t clipc__be32(const uint8_t *p) { return clipc__be16(p) << 16 | clipc__be16(p + 2); }
static inline uint32_t clipc__le16(const uint8_t *p) { return (uint32_t)p[1] << 8 | p[0]; }
static inline uint32_t clipc__le32(const uint8_t *p) { return clipc__le16(p + 2) << 16 | clipc__le16(p); }

#endif
