/* Who may start: origins (host and port) take turns, each with at most max_per_host places, all together with at most
 * max_connections. Who has a place and no address yet asks for it together with the others of its origin.
 * An answer holds for its time to live, a second at least and a minute at most. All of its addresses must be let
 * through: one that mixes public and private addresses is how a name server would get behind the check. */
#include "async/fetch_engine.h"

#if CLIPC_CURL

#include <string.h>

#define ORIGIN_SECOND_NS INT64_C(1000000000)
enum { ORIGIN_LEAST_S = 1, ORIGIN_MOST_S = 60 };

/* ---- lists */

static void origin_list_push(struct clipc__fetch_list *list, struct clipc__fetch *fetch, bool first) {
  fetch->next_queued = first ? list->first : NULL;
  fetch->previous_queued = first ? NULL : list->last;
  if (fetch->next_queued)
    fetch->next_queued->previous_queued = fetch;
  else
    list->last = fetch;
  if (fetch->previous_queued)
    fetch->previous_queued->next_queued = fetch;
  else
    list->first = fetch;
}

static void origin_list_remove(struct clipc__fetch_list *list, struct clipc__fetch *fetch) {
  if (fetch->next_queued)
    fetch->next_queued->previous_queued = fetch->previous_queued;
  else
    list->last = fetch->previous_queued;
  if (fetch->previous_queued)
    fetch->previous_queued->next_queued = fetch->next_queued;
  else
    list->first = fetch->next_queued;
  fetch->next_queued = fetch->previous_queued = NULL;
}

/* ---- origins */

static uint64_t origin_hash(const char *host, int port) {
  uint64_t hash = 14695981039346656037u ^ (uint64_t)port; /* FNV-1a */
  for (; *host; host++) hash = (hash ^ (uint8_t)*host) * 1099511628211u;
  return hash;
}

static void origin_drop_unused(struct clipc__engine_of_fetches *engine, int64_t now_ns) {
  for (size_t i = 0; i < CLIPC__ORIGIN_BUCKETS; i++)
    for (struct clipc__origin **link = &engine->buckets[i]; *link;) {
      struct clipc__origin *origin = *link;
      if (origin->queue.first || origin->n_active > 0 || origin->is_asked || origin->is_ready ||
          origin->known_until_ns > now_ns) {
        link = &origin->next;
      } else {
        *link = origin->next;
        clipc__free(engine->allocator, origin);
        engine->n_origins--;
      }
    }
  engine->sweep_at = engine->n_origins * 2 + 64;
}

static struct clipc__origin *origin_of(struct clipc__engine_of_fetches *engine, const struct clipc__url *url) {
  const char *host = url->host;
  const int port = url->port;
  uint64_t hash = origin_hash(host, port);
  struct clipc__origin **bucket = &engine->buckets[hash % CLIPC__ORIGIN_BUCKETS];
  for (struct clipc__origin *origin = *bucket; origin; origin = origin->next)
    if (origin->hash == hash && origin->port == port && origin->is_https == url->is_https &&
        strcmp(origin->host, host) == 0)
      return origin;
  if (engine->n_origins >= engine->sweep_at) origin_drop_unused(engine, clipc_runtime_now_ns(engine->runtime));
  size_t n_host = strlen(host) + 1;
  struct clipc__origin *origin = clipc__alloc_zeroed(engine->allocator, 1, sizeof *origin + n_host);
  if (origin == NULL) return NULL;
  origin->engine = engine;
  origin->hash = hash;
  origin->port = port;
  origin->is_https = url->is_https;
  origin->proxy = clipc__proxy_for(&engine->proxies, host, url->is_https);
  memcpy(origin->host, host, n_host);
  origin->next = *bucket;
  *bucket = origin;
  engine->n_origins++;
  return origin;
}

static void origin_become_ready(struct clipc__origin *origin) {
  struct clipc__engine_of_fetches *engine = origin->engine;
  if (origin->is_ready || origin->queue.first == NULL || origin->n_active >= engine->options.max_per_host) return;
  origin->is_ready = true;
  origin->next_ready = NULL;
  if (engine->last_ready)
    engine->last_ready->next_ready = origin;
  else
    engine->first_ready = origin;
  engine->last_ready = origin;
}

clipc_status clipc__origin_queue(struct clipc__fetch *fetch, bool first, clipc_error *error) {
  struct clipc__origin *origin = origin_of(fetch->engine, &fetch->url);
  if (origin == NULL) return clipc__no_memory(error, "a host to fetch from");
  fetch->origin = origin;
  fetch->state = CLIPC__FETCH_QUEUED;
  origin_list_push(&origin->queue, fetch, first);
  origin_become_ready(origin);
  return CLIPC_OK;
}

void clipc__origin_leave(struct clipc__fetch *fetch) {
  struct clipc__origin *origin = fetch->origin;
  if (origin == NULL) return;
  fetch->origin = NULL;
  if (fetch->state == CLIPC__FETCH_QUEUED) {
    origin_list_remove(&origin->queue, fetch);
    return;
  }
  if (fetch->state == CLIPC__FETCH_RESOLVING) origin_list_remove(&origin->waiting, fetch);
  origin->n_active--;
  origin->engine->n_active--;
  origin_become_ready(origin);
}

/* ---- addresses */

clipc_status clipc__origin_check(const struct clipc__fetch *fetch, const struct clipc__address *address,
                                 clipc_error *error) {
  const char *refusal = clipc__address_refusal(address);
  if (refusal == NULL || clipc__address_allowed(&fetch->engine->options, fetch->url.host, fetch->url.port))
    return CLIPC_OK;
  char text[CLIPC__ADDRESS_TEXT];
  clipc__address_format(text, address);
  return clipc__fail(error, CLIPC_E_DENIED, "%.*s: %s has %s, %s; %s:%d is not on the list fetch.allow",
                     CLIPC__FETCH_NAME(fetch), fetch->url.host, text, refusal, fetch->url.host, fetch->url.port);
}

static void origin_answered(void *context, const struct clipc__answer *answer) {
  struct clipc__origin *origin = context;
  int ttl_s = answer->ttl_s < ORIGIN_LEAST_S  ? ORIGIN_LEAST_S
              : answer->ttl_s > ORIGIN_MOST_S ? ORIGIN_MOST_S
                                              : answer->ttl_s;
  origin->answer = *answer;
  origin->known_until_ns =
      answer->status == CLIPC_OK ? clipc_runtime_now_ns(origin->engine->runtime) + ttl_s * ORIGIN_SECOND_NS : 0;
  origin->next_answered = origin->engine->answered; /* seen to later: this may be in the middle of asking */
  origin->engine->answered = origin;
}

/* It has a place and an answer: checks and starts it, or ends it. */
static void origin_begin(struct clipc__fetch *fetch, const struct clipc__answer *answer) {
  clipc_error error = {CLIPC_OK, ""};
  clipc_status status = answer ? answer->status : CLIPC_OK;
  if (status == CLIPC_E_NO_MEMORY)
    clipc__no_memory(&error, "a name to resolve");
  else if (status != CLIPC_OK)
    clipc__fail(&error, status, "%.*s: %s: %s", CLIPC__FETCH_NAME(fetch), fetch->url.host, answer->failure);
  else if (fetch->url.is_literal)
    status = clipc__origin_check(fetch, &fetch->url.address, &error);
  for (int i = 0; answer && !fetch->origin->proxy && i < answer->n_addresses && status == CLIPC_OK; i++)
    status = clipc__origin_check(fetch, &answer->addresses[i], &error);
  if (status == CLIPC_OK) status = clipc__transfer_start(fetch, answer, &error);
  if (status != CLIPC_OK) clipc__fetch_finish(fetch, status, &error);
}

static void origin_see_to_answers(struct clipc__engine_of_fetches *engine) {
  while (engine->answered) {
    struct clipc__origin *origin = engine->answered;
    engine->answered = origin->next_answered;
    struct clipc__fetch *fetch;
    while ((fetch = origin->waiting.first) != NULL) {
      origin_list_remove(&origin->waiting, fetch);
      fetch->state = CLIPC__FETCH_MOVING;
      origin_begin(fetch, &origin->answer); /* cannot free the origin */
    }
    origin->is_asked = false;
  }
}

void clipc__origins_free(struct clipc__engine_of_fetches *engine) {
  origin_see_to_answers(engine); /* nobody waits for them any more */
  for (struct clipc__origin *origin = engine->first_ready; origin; origin = origin->next_ready)
    origin->is_ready = false;
  engine->first_ready = engine->last_ready = NULL;
  origin_drop_unused(engine, INT64_MAX);
}

/* ---- places */

static void origin_give_place(struct clipc__origin *origin, int64_t now_ns) {
  struct clipc__engine_of_fetches *engine = origin->engine;
  struct clipc__fetch *fetch = origin->queue.first;
  origin_list_remove(&origin->queue, fetch);
  origin->n_active++;
  engine->n_active++;
  fetch->connect_ns = now_ns + engine->options.connect_timeout_ms * INT64_C(1000000);
  if (!fetch->was_started) {
    int64_t limit_ns = now_ns + engine->options.total_timeout_ms * INT64_C(1000000);
    if (fetch->wants.stall_s == 0 && limit_ns < fetch->give_up_ns) fetch->give_up_ns = limit_ns;
    fetch->was_started = true;
  }
  int64_t first_ns = fetch->connect_ns < fetch->give_up_ns ? fetch->connect_ns : fetch->give_up_ns;
  if (first_ns < engine->look_ns) engine->look_ns = first_ns;
  fetch->state = CLIPC__FETCH_MOVING;
  const struct clipc__url *asked = origin->proxy ? &origin->proxy->url : &fetch->url;
  if (asked->is_literal) {
    origin_begin(fetch, NULL);
  } else if (origin->known_until_ns > now_ns && !origin->is_asked) {
    origin_begin(fetch, &origin->answer);
  } else {
    fetch->state = CLIPC__FETCH_RESOLVING;
    origin_list_push(&origin->waiting, fetch, false);
    if (origin->is_asked) return;
    origin->is_asked = true;
    clipc__resolver_ask(engine->resolver, asked->host, origin_answered, origin);
  }
}

bool clipc__origins_turn(struct clipc__engine_of_fetches *engine, int n_most, int64_t now_ns) {
  origin_see_to_answers(engine);
  while (engine->first_ready && engine->n_active < engine->options.max_connections) {
    struct clipc__origin *origin = engine->first_ready;
    engine->first_ready = origin->next_ready;
    if (engine->first_ready == NULL) engine->last_ready = NULL;
    origin->is_ready = false;
    if (origin->queue.first == NULL || origin->n_active >= engine->options.max_per_host) continue;
    if (n_most-- == 0) {
      origin_become_ready(origin);
      return true;
    }
    origin_give_place(origin, now_ns);
    origin_become_ready(origin); /* behind the others */
  }
  origin_see_to_answers(engine); /* who is refused gives its place back */
  return engine->first_ready != NULL && engine->n_active < engine->options.max_connections;
}

#undef ORIGIN_SECOND_NS

#endif
