/* The insides of fetching, for fetch.c, origins.c and transfer.c.
 *
 *   clipc__fetch_start --> news --> task: an origin's queue --> a place --> its address, checked --> transfer --> over
 *                                              ^------------------- a redirect --------------------'
 * All but the news is the task's alone. */
#ifndef CLIPC_FETCH_ENGINE_H
#define CLIPC_FETCH_ENGINE_H

#include "async/fetch.h"
#include "async/net.h"
#include "async/proxy.h"
#include "async/resolve.h"
#include "async/watch.h"

#if CLIPC_CURL

enum clipc__fetch_state {
  CLIPC__FETCH_NEW,
  CLIPC__FETCH_QUEUED,    /* in its origin's queue */
  CLIPC__FETCH_RESOLVING, /* has a place, and is in its origin's list of those who wait for the address */
  CLIPC__FETCH_MOVING,    /* has a place, and a handle of libcurl */
  CLIPC__FETCH_OVER
};

struct clipc__fetch {
  atomic_uint references; /* the caller's, the engine's until it is over, and one while it is in the news */
  atomic_bool over, cancelled;
  struct clipc__waiter waiter;
  clipc_error error; /* written before over is set */
  struct clipc__bytes body;
  struct clipc__engine_of_fetches *engine;
  struct clipc__fetch *next_news; /* under the engine's lock */
  bool in_news;

  enum clipc__fetch_state state;
  struct clipc__url url;
  struct clipc__fetch *next, *previous;               /* of all that are not over */
  struct clipc__fetch *next_queued, *previous_queued; /* in the origin's queue, or its list of waiting ones */
  struct clipc__origin *origin;
  int64_t deadline_ns; /* 0 = none */
  int64_t give_up_ns;  /* the deadline, or the total limit where that is earlier; INT64_MAX = none */
  int64_t connect_ns;  /* until when it must be connected */
  int64_t alive_ns;    /* when the last byte came, or the transfer began; for wants.stall_s */
  bool was_started;
  int n_redirects;
  CURL *easy;
  struct curl_slist *addresses; /* for CURLOPT_RESOLVE */
  size_t n_header_bytes, n_unwanted_bytes;
  struct clipc__fetch_wants wants;
  char *secret;      /* the copy */
  char *secret_host; /* whose it is */
  int secret_port;
  bool secret_https;
  struct curl_slist *headers; /* of this hop */
  uint64_t n_written, written_from;
  struct clipc__fetch_reply reply;
  clipc_status refused; /* what a callback broke the transfer off with; its sentence is in error */
};

struct clipc__fetch_list {
  struct clipc__fetch *first, *last; /* by next_queued */
};

/* A host and port: what limits per host hold for, and whose address, or whose proxy's, is asked for. */
struct clipc__origin {
  struct clipc__origin *next;       /* in its bucket */
  struct clipc__origin *next_ready; /* among those who have something to start and a place for it */
  struct clipc__origin *next_answered;
  bool is_ready, is_asked;
  struct clipc__fetch_list queue, waiting;
  int n_active;           /* that have a place */
  int64_t known_until_ns; /* answer holds */
  struct clipc__answer answer;
  struct clipc__engine_of_fetches *engine;
  const struct clipc__proxy *proxy; /* NULL = none */
  uint64_t hash;
  int port;
  bool is_https;
  char host[];
};

enum { CLIPC__ORIGIN_BUCKETS = 256 };

struct clipc__engine_of_fetches {
  atomic_uint references; /* the runtime's slot, the task, every fetch */
  clipc_runtime *runtime;
  const clipc_allocator *allocator;
  const struct clipc__net *net;
  clipc_fetch_options options;   /* defaults filled in */
  struct clipc__proxies proxies; /* none without the option use_proxy */
  const char *name_servers;      /* NULL = the system's */
  struct clipc__waiter waiter;   /* the task */
  struct clipc__lock lock;       /* of the news, has_task and closed */
  struct clipc__fetch *first_news, *last_news;
  bool has_task, closed;
  atomic_bool stopping;

  clipc_task *task;
  struct clipc__resolver *resolver;
  CURLM *multi;
  struct clipc__watches watches;
  bool broken;      /* a socket is lost: everything is made anew */
  int64_t timer_ns; /* libcurl's; 0 = none */
  int64_t look_ns;  /* nobody's time is up before; INT64_MAX */
  int64_t idle_ns;  /* since when nothing is fetched; 0 = something is */
  struct clipc__fetch *first;
  struct clipc__origin *buckets[CLIPC__ORIGIN_BUCKETS];
  struct clipc__origin *first_ready, *last_ready, *answered;
  size_t n_origins, sweep_at;
  int n_active;
  CURL **spare; /* [max_connections] handles that were used before */
  int n_spare;
};

/* ---- fetch.c */
/* It is over. error may be NULL where status is CLIPC_OK. The fetch may be gone when it returns. */
CLIPC_PRIVATE void clipc__fetch_finish(struct clipc__fetch *fetch, clipc_status status, const clipc_error *error);

/* ---- origins.c */
/* Puts a fetch into the queue of its URL's origin. CLIPC_OK or _NO_MEMORY. */
CLIPC_PRIVATE clipc_status clipc__origin_queue(struct clipc__fetch *fetch, bool first, clipc_error *error);
/* Takes it out of its origin, whatever its state is: queue, list and place. */
CLIPC_PRIVATE void clipc__origin_leave(struct clipc__fetch *fetch);
/* Gives places to those who wait, at most n_most; true when there are more. */
CLIPC_PRIVATE bool clipc__origins_turn(struct clipc__engine_of_fetches *engine, int n_most, int64_t now_ns);
CLIPC_PRIVATE void clipc__origins_free(struct clipc__engine_of_fetches *engine); /* none is in use */
/* Unless the URL's own host and port are on the list: the sentence why this address is refused. */
CLIPC_PRIVATE clipc_status clipc__origin_check(const struct clipc__fetch *fetch, const struct clipc__address *address,
                                               clipc_error *error);

/* ---- transfer.c */
CLIPC_PRIVATE clipc_status clipc__transfers_open(struct clipc__engine_of_fetches *engine, clipc_error *error);
CLIPC_PRIVATE void clipc__transfers_close(struct clipc__engine_of_fetches *engine); /* no transfer is left */
CLIPC_PRIVATE clipc_status clipc__transfer_start(struct clipc__fetch *fetch, const struct clipc__answer *answer,
                                                 clipc_error *error); /* NULL: the URL has the address */
CLIPC_PRIVATE void clipc__transfer_stop(struct clipc__fetch *fetch);  /* of a MOVING one */
CLIPC_PRIVATE bool clipc__transfers_turn(struct clipc__engine_of_fetches *engine, int n_most); /* true: there is more */

#define CLIPC__FETCH_NAME(fetch)                                                                                       \
  (int)strcspn((fetch)->url.text, "?"), (fetch)->url.text /* for %.*s: no secrets of the query */

#endif
#endif
