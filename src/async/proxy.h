/* The proxies that the environment names; only where the option use_proxy asks for them. */
#ifndef CLIPC_PROXY_H
#define CLIPC_PROXY_H

#include "async/address.h"

struct clipc__proxy {
  char *text;            /* as it was given, credentials too; NULL = none */
  struct clipc__url url; /* of it, without credentials */
};

/* Zero it. */
struct clipc__proxies {
  struct clipc__proxy http, https;
  char *exceptions; /* no_proxy; NULL = none */
};

/* Reads http_proxy (in lower case alone: a CGI program's HTTP_PROXY is a header of its visitor), https_proxy, all_proxy
 * and no_proxy. Returns CLIPC_OK; _INVALID or _UNSUPPORTED naming the variable; _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__proxies_read(struct clipc__proxies *out, const clipc_allocator *allocator,
                                               clipc_error *error);
CLIPC_PRIVATE void clipc__proxies_free(struct clipc__proxies *proxies, const clipc_allocator *allocator);

/* The proxy for a host, NULL when it is reached directly. An entry of no_proxy is "*", an address, or a name that
 * stands for the names below it too. */
CLIPC_PRIVATE const struct clipc__proxy *clipc__proxy_for(const struct clipc__proxies *proxies, const char *host,
                                                          bool is_https);

#endif
