/* libcurl and c-ares, loaded when the first URL comes: linking libcurl and the thirty libraries behind it would cost
 * every program some milliseconds of its start, and most never fetch anything. */
#ifndef CLIPC_NET_H
#define CLIPC_NET_H

#include "async/async.h"

#ifndef CLIPC_CURL
#define CLIPC_CURL 0
#endif

#if CLIPC_CURL
#include <ares.h>
#include <curl/curl.h>

#define CLIPC__CURL_FUNCTIONS(X)                                                                                       \
  X(global_init)                                                                                                       \
  X(free)                                                                                                              \
  X(slist_append)                                                                                                      \
  X(slist_free_all) X(easy_init) X(easy_cleanup) X(easy_reset) X(easy_setopt) X(easy_getinfo) X(easy_strerror)         \
      X(multi_init) X(multi_cleanup) X(multi_setopt) X(multi_add_handle) X(multi_remove_handle) X(multi_socket_action) \
          X(multi_info_read) X(multi_timeout) X(url) X(url_cleanup) X(url_set) X(url_get)
#define CLIPC__ARES_FUNCTIONS(X)                                                                                       \
  X(library_init)                                                                                                      \
  X(init_options)                                                                                                      \
  X(destroy) X(getaddrinfo) X(freeaddrinfo) X(process_fd) X(timeout) X(strerror) X(set_servers_ports_csv)

#define CLIPC__CURL_MEMBER(name) __typeof__(curl_##name) *name;
#define CLIPC__ARES_MEMBER(name) __typeof__(ares_##name) *name;
struct clipc__net {
  struct clipc__curl_functions {
    CLIPC__CURL_FUNCTIONS(CLIPC__CURL_MEMBER)
  } curl;
  struct clipc__ares_functions {
    CLIPC__ARES_FUNCTIONS(CLIPC__ARES_MEMBER)
  } ares;
};

/* The two libraries, initialised; NULL when they cannot be had: _UNSUPPORTED names the one that is missing. */
CLIPC_PRIVATE const struct clipc__net *clipc__net(clipc_error *error);
#endif

#endif
