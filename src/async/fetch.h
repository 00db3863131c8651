/* Bodies of URLs, fetched by one task per runtime that libcurl and c-ares run in; no thread is made.
 *   fetch.c     who may start when; limits of time; the task     transfer.c  one request by libcurl
 *   resolve.c   names to addresses, by c-ares                    watch.c     their sockets, as sources of the scheduler
 *   address.c   URLs and addresses that are let through          net.c       loads the two libraries
 *   origins.c   limits per host, checks of addresses             proxy.c     proxies of the environment
 *   pull*.c     models from the hub, on all that
 * A host's addresses must all be public, or the host and its port be on the list fetch.allow; the connection goes to an
 * address that was checked, and every redirect begins anew. From https a redirect to http is refused. HTTP/1.1 alone is
 * spoken. Connections stay open for a minute after the last transfer, and count against max_connections. The first
 * https transfer after that reads the system's certificates, some 20 ms in one turn of the task. */
#ifndef CLIPC_FETCH_H
#define CLIPC_FETCH_H

#include "async/async.h"

struct clipc__fetch;

/* Starts to fetch a URL: one reference, which clipc__fetch_close gives back. Call it in a task of the runtime.
 *   url          [n] copied
 *   deadline_ns  of the runtime's clock, waiting for a connection included; 0 = none. The limits of the options count
 *                from the moment when it has a connection's place: connect_timeout_ms for each hop, total_timeout_ms
 * for all Returns CLIPC_OK; _INVALID (a malformed URL, or an entry of fetch.allow); _DENIED (scheme, credentials,
 * zone); _LIMIT (a URL over 8 KiB); _UNSUPPORTED (CURL=0, or libcurl or c-ares cannot be loaded); _SHUTTING_DOWN;
 * _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__fetch_start(struct clipc__fetch **out, clipc_runtime *runtime, const char *url,
                                              size_t n, int64_t deadline_ns, clipc_error *error);

/* What a fetch may want beyond that. */
struct clipc__fetch_wants {
  const char *secret; /* a header for the scheme, host and port of the first URL alone; copied, wiped; NULL = none */
  const char *accept; /* another header, for everybody; a static string or NULL */
  uint64_t from;      /* the first byte that is wanted; a server may send all the same */
  uint64_t max_bytes; /* of the body; 0 = as the options say */
  int stall_s;        /* not 0: it may take any time, but not so long without a byte */
  /* Takes the body in pieces, in place of memory: offset is where a piece belongs, and begins anew at 0 where the
   * server does not go on at `from`. In the engine's task. false breaks the transfer off, with *error. */
  bool (*write)(void *context, uint64_t offset, const void *data, size_t n_bytes, clipc_error *error);
  void (*release)(void *context); /* once, when nothing is written any more, also when it could not be started */
  void *context;
};
CLIPC_PRIVATE clipc_status clipc__fetch_start_with(struct clipc__fetch **out, clipc_runtime *runtime, const char *url,
                                                   size_t n, const struct clipc__fetch_wants *wants,
                                                   int64_t deadline_ns, clipc_error *error);

/* What the headers said, of one that is over: the status is the last answer's, the others are the first that came. */
struct clipc__fetch_reply {
  long status;                    /* 0 = there was no answer */
  int64_t retry_after_s;          /* -1 = not said */
  char etag[80], linked_etag[80]; /* without quotes and W/; "" = not said */
  char commit[64];
  char error_code[32]; /* of the hub: "RepoNotFound", "GatedRepo" */
  char error_message[192];
};
CLIPC_PRIVATE const struct clipc__fetch_reply *clipc__fetch_reply(const struct clipc__fetch *fetch);

/* In a task: CLIPC_WAITING until it is over, then its status: CLIPC_OK; _NETWORK (no such host, no connection, a status
 * other than 200, a body cut off); _TIMED_OUT; _LIMIT (bytes, redirects); _DENIED (an address, scheme, credentials or
 * downgrade on the way); _INVALID (a malformed redirect); _CANCELLED; _SHUTTING_DOWN; _NO_MEMORY. _CANCELLED and
 * _TIMED_OUT are also the waiting task's own; clipc__fetch_done tells them apart. One task at a time. */
CLIPC_PRIVATE int clipc__fetch_await(clipc_task *task, struct clipc__fetch *fetch);
CLIPC_PRIVATE bool clipc__fetch_done(const struct clipc__fetch *fetch);

/* Of one that is over: its status and sentence (NULL: it went well), and its body (empty where it did not), until it is
 * closed. */
CLIPC_PRIVATE const clipc_error *clipc__fetch_error(const struct clipc__fetch *fetch);
CLIPC_PRIVATE const struct clipc__bytes *clipc__fetch_body(const struct clipc__fetch *fetch);

/* Asks it to end; it is over soon, with _CANCELLED unless it was over before. */
CLIPC_PRIVATE void clipc__fetch_cancel(struct clipc__fetch *fetch);
CLIPC_PRIVATE void clipc__fetch_close(struct clipc__fetch *fetch); /* cancels it first; NULL is fine */

/* For tests: from now on names are asked of these servers ("127.0.0.1:5353") instead of the system's. Before the first
 * fetch of the runtime; the string is kept by reference. */
CLIPC_PRIVATE clipc_status clipc__fetch_name_servers(clipc_runtime *runtime, const char *servers, clipc_error *error);

#endif
