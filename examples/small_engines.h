/* Two small real models of one's own, for clipc_registry_add: how a user's model becomes workers.
 *   a text model  learns a text by heart when it is loaded, and goes on from a prompt as that text does (TEXT_TO_TEXT)
 *   a drawer      draws what a caption says, in the manner of the bundled model's pictures (TEXT_TO_IMAGE) */
#ifndef SMALL_ENGINES_H
#define SMALL_ENGINES_H

#include <clipc.h>

/* What the text model is trained on; kept by reference as long as it may be loaded. */
struct small_text {
  const char *text;
  size_t n_bytes;
  int order; /* most characters that decide what the next one is; 0 = 8 */
};

/* Chunks are words; ends at a line's end of the text, or after max_chunks (0 = 64) words. The same seed, the same
 * words. */
clipc_loader small_text_loader(const struct small_text *text);

/* Pictures are 120 x 120; max_chunks (0 = 1) of them, each a little different. "red circle", "three green stars",
 * "yellow heart at the top"; what names no shape that it knows is CLIPC_E_UNSUPPORTED. */
clipc_loader small_drawer_loader(void);

#endif
