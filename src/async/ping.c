/* A ping: a small request of the pool's capability, sent to one worker by its health channel. */
#include "async/pool.h"

/* What is asked; input is room for the one item. */
static clipc_request ping_request(clipc_capability capability, const clipc_request *more, clipc_input *input) {
  static const char picture[] = "P6\n2 2\n255\n012345678901"; /* a PNM of four pixels */
  static const char *const labels[] = {"a"};
  const bool picture_wanted = capability == CLIPC_IMAGE_EMBEDDING || capability == CLIPC_VISION;
  const bool generates = capability >= CLIPC_TEXT_TO_TEXT;
  clipc_request request = more ? *more : (clipc_request){0};
  *input = picture_wanted ? (clipc_input){CLIPC_INPUT_BYTES, picture, sizeof picture - 1}
                          : (clipc_input){CLIPC_INPUT_TEXT, "a", 1};
  request.capability = capability;
  request.inputs = input;
  request.n_inputs = generates ? 0 : 1;
  if (!generates)
    request.prompt = NULL;
  else if (request.prompt == NULL)
    request.prompt = "a red circle";
  request.labels = labels;
  request.n_labels = capability == CLIPC_VISION ? 1 : 0;
  request.is_batch = 0;
  request.max_chunks = 1;
  request.stream_capacity = 0;
  return request;
}

static void send_ping(struct clipc__seat *seat, clipc_pending *pending) {
  pending->seat = seat;
  atomic_fetch_add(&seat->load, 1);
  if (clipc_channel_try_send(seat->channels[CLIPC__SEAT_HEALTH], &pending) == CLIPC_OK) {
    clipc__seat_posted(seat);
    return;
  }
  atomic_fetch_sub(&seat->load, 1);
  clipc__pending_fail(pending, CLIPC_E_QUEUE_FULL, "the worker has too many pings to answer");
  clipc__pending_release(pending);
}

clipc_pending *clipc_pool_ping(clipc_pool *pool, size_t worker, const clipc_request *more) {
  if (pool == NULL) return NULL;
  clipc_runtime *runtime = pool->registry->runtime;
  clipc_input input;
  clipc_request request = ping_request(pool->capability, more, &input);
  const char *fault = clipc__request_fault(&request);
  if (fault) return clipc__request_refuse(runtime, more, CLIPC_E_INVALID, fault);
  struct clipc__seat *seat = worker < (size_t)atomic_load(&pool->n_seats) ? atomic_load(&pool->seats[worker]) : NULL;
  if (seat == NULL || clipc__seat_is_empty(seat))
    return clipc__request_refuse(runtime, more, CLIPC_E_NO_WORKERS, "there is no worker of that number");
  clipc_pending *pending;
  if (clipc__pending_make(&pending, runtime, &request, atomic_load(&pool->entry->dimension), NULL) != CLIPC_OK)
    return clipc__request_refuse(runtime, more, CLIPC_E_NO_MEMORY, "there is no memory for the ping");
  clipc__request_time(pending, pool->registry);
  clipc_pending *answer = pending; /* its other reference may be used up before this returns */
  if (clipc__pool_enter(pool, pending)) {
    send_ping(seat, pending);
  } else {
    clipc__pending_fail(pending, CLIPC_E_SHUTTING_DOWN, "the registry is being closed");
    clipc__pending_release(pending);
  }
  return answer;
}
