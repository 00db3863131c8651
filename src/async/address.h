/* Who a URL names, and whether that address may be reached. */
#ifndef CLIPC_ADDRESS_H
#define CLIPC_ADDRESS_H

#include "async/async.h"

#include <sys/socket.h>

struct clipc__address {
  int family; /* AF_INET, AF_INET6 */
  uint8_t bytes[16];
};

enum { CLIPC__ADDRESS_TEXT = 46 };

/* Why an address is refused ("a private address"), a static string; NULL when it is one of the public internet. Of
 * addresses that carry another inside (NAT64, 6to4) both must be public. */
CLIPC_PRIVATE const char *clipc__address_refusal(const struct clipc__address *address);
CLIPC_PRIVATE bool clipc__address_of(struct clipc__address *out, const struct sockaddr *from);
CLIPC_PRIVATE void clipc__address_format(char text[CLIPC__ADDRESS_TEXT], const struct clipc__address *address);

/* True when the list of options has this host and port. */
CLIPC_PRIVATE bool clipc__address_allowed(const clipc_fetch_options *options, const char *host, int port);
/* An entry is "name:port", "1.2.3.4:port" or "[::1]:port". CLIPC_OK or _INVALID naming the entry. */
CLIPC_PRIVATE clipc_status clipc__address_check_list(const clipc_fetch_options *options, clipc_error *error);

/* A URL in normal form. Zero it; clipc__url_free frees what it has. */
struct clipc__url {
  char *text; /* of libcurl's making, as are the others; without fragment */
  char *host; /* lower case ASCII; an IPv6 address without brackets */
  int port;
  bool is_https, is_literal;
  struct clipc__address address; /* is_literal */
};

/* Reads a URL; what is let through means one host to everybody.
 * Returns CLIPC_OK; _INVALID (malformed; a host that is neither a name nor an address); _DENIED (another scheme than
 * http and https, credentials, an IPv6 zone); _LIMIT (over 8 KiB); _UNSUPPORTED (no libcurl); _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__url_parse(struct clipc__url *out, const clipc_allocator *allocator, const char *url,
                                            size_t n, clipc_error *error);
CLIPC_PRIVATE void clipc__url_free(struct clipc__url *url);

#endif
