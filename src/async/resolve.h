/* Names to addresses, in a task. */
#ifndef CLIPC_RESOLVE_H
#define CLIPC_RESOLVE_H

#include "async/address.h"
#include "async/net.h"

#if CLIPC_CURL

enum { CLIPC__MAX_ADDRESSES = 16 };

struct clipc__answer {
  clipc_status status; /* _NETWORK (no such name, no answer that can be read), _TIMED_OUT, _NO_MEMORY, _CANCELLED */
  const char *failure; /* c-ares's words for it, static */
  struct clipc__address addresses[CLIPC__MAX_ADDRESSES]; /* best first */
  int n_addresses;                                       /* at least 1 with CLIPC_OK */
  int ttl_s;
};

struct clipc__resolver;
/* servers: NULL = those of the system's configuration. Returns CLIPC_OK, _NETWORK, _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__resolver_open(struct clipc__resolver **out, clipc_task *task, const char *servers,
                                                clipc_error *error);
/* Calls done once for everything that is still asked, with _CANCELLED. NULL is fine. */
CLIPC_PRIVATE void clipc__resolver_close(struct clipc__resolver *resolver);
/* Calls done once, now or in a later turn; what the answer points to is gone afterwards. */
CLIPC_PRIVATE void clipc__resolver_ask(struct clipc__resolver *resolver, const char *host,
                                       void (*done)(void *context, const struct clipc__answer *answer), void *context);
CLIPC_PRIVATE void clipc__resolver_turn(struct clipc__resolver *resolver);
/* There was no memory for a socket: close it. */
CLIPC_PRIVATE bool clipc__resolver_broken(const struct clipc__resolver *resolver);
/* When the next turn must be at the latest, counted from now_ns; INT64_MAX = nothing is asked. */
CLIPC_PRIVATE int64_t clipc__resolver_next_ns(const struct clipc__resolver *resolver, int64_t now_ns);

#endif
#endif
