/* Host names -> addresses by c-ares: the hosts file, then DNS, as the system is configured. Its sockets are sources of
 * the scheduler and its time-outs the task's, so that nothing blocks and no thread is made. */
#include "async/resolve.h"
#include "async/watch.h"

#if CLIPC_CURL

#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>

struct clipc__resolver {
  const struct clipc__net *net;
  clipc_runtime *runtime;
  struct clipc__watches watches;
  ares_channel channel;
  int n_asked;
  bool broken; /* a socket is not watched */
};

struct resolve_question {
  struct clipc__resolver *resolver;
  void (*done)(void *context, const struct clipc__answer *answer);
  void *context;
};

static void resolve_socket(void *context, ares_socket_t fd, int readable, int writable) {
  struct clipc__resolver *resolver = context;
  uint32_t events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0);
  if (clipc__watches_set(&resolver->watches, fd, events, NULL) != CLIPC_OK) resolver->broken = true;
}

clipc_status clipc__resolver_open(struct clipc__resolver **out, clipc_task *task, const char *servers,
                                  clipc_error *error) {
  const struct clipc__net *net = clipc__net(error);
  if (net == NULL) return CLIPC_E_UNSUPPORTED;
  clipc_runtime *runtime = clipc_task_runtime(task);
  struct clipc__resolver *resolver = clipc__alloc_zeroed(clipc__runtime_allocator(runtime), 1, sizeof *resolver);
  if (resolver == NULL) return clipc__no_memory(error, "a resolver");
  resolver->net = net;
  resolver->runtime = runtime;
  resolver->watches = (struct clipc__watches){.runtime = runtime, .task = task};
  struct ares_options options = {.sock_state_cb = resolve_socket, .sock_state_cb_data = resolver};
  int code = net->ares.init_options(&resolver->channel, &options, ARES_OPT_SOCK_STATE_CB);
  if (code == ARES_SUCCESS && servers &&
      (code = net->ares.set_servers_ports_csv(resolver->channel, servers)) != ARES_SUCCESS)
    net->ares.destroy(resolver->channel);
  if (code != ARES_SUCCESS) {
    clipc__free(clipc__runtime_allocator(runtime), resolver);
    if (code == ARES_ENOMEM) return clipc__no_memory(error, "a resolver");
    return clipc__fail(error, CLIPC_E_NETWORK, "names cannot be resolved: %s", net->ares.strerror(code));
  }
  *out = resolver;
  return CLIPC_OK;
}

void clipc__resolver_close(struct clipc__resolver *resolver) {
  if (resolver == NULL) return;
  resolver->net->ares.destroy(resolver->channel);
  clipc__watches_free(&resolver->watches);
  clipc__free(clipc__runtime_allocator(resolver->runtime), resolver);
}

static clipc_status resolve_status(int code) {
  switch (code) {
  case ARES_SUCCESS: return CLIPC_OK;
  case ARES_ENOMEM: return CLIPC_E_NO_MEMORY;
  case ARES_ETIMEOUT: return CLIPC_E_TIMED_OUT;
  case ARES_ECANCELLED:
  case ARES_EDESTRUCTION: return CLIPC_E_CANCELLED;
  default: return CLIPC_E_NETWORK;
  }
}

static void resolve_answered(void *argument, int code, int timeouts, struct ares_addrinfo *found) {
  (void)timeouts;
  struct resolve_question question = *(struct resolve_question *)argument;
  struct clipc__resolver *resolver = question.resolver;
  clipc__free(clipc__runtime_allocator(resolver->runtime), argument);
  resolver->n_asked--;
  struct clipc__answer answer = {.status = resolve_status(code), .failure = resolver->net->ares.strerror(code)};
  answer.ttl_s = INT32_MAX;
  for (struct ares_addrinfo_node *node = found ? found->nodes : NULL; node; node = node->ai_next) {
    if (answer.n_addresses == CLIPC__MAX_ADDRESSES) break;
    if (!clipc__address_of(&answer.addresses[answer.n_addresses], node->ai_addr)) continue;
    answer.n_addresses++;
    if (node->ai_ttl < answer.ttl_s) answer.ttl_s = node->ai_ttl;
  }
  if (found) resolver->net->ares.freeaddrinfo(found);
  if (answer.status == CLIPC_OK && answer.n_addresses == 0) {
    answer.status = CLIPC_E_NETWORK;
    answer.failure = "the name has no address";
  }
  question.done(question.context, &answer);
}

void clipc__resolver_ask(struct clipc__resolver *resolver, const char *host,
                         void (*done)(void *context, const struct clipc__answer *answer), void *context) {
  struct resolve_question *question = clipc__alloc(clipc__runtime_allocator(resolver->runtime), 1, sizeof *question);
  if (question == NULL) {
    struct clipc__answer answer = {.status = CLIPC_E_NO_MEMORY, .failure = "out of memory"};
    done(context, &answer);
    return;
  }
  *question = (struct resolve_question){resolver, done, context};
  resolver->n_asked++;
  const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  resolver->net->ares.getaddrinfo(resolver->channel, host, NULL, &hints, resolve_answered, question);
}

static void resolve_ready(void *context, int fd, uint32_t events) {
  struct clipc__resolver *resolver = context;
  resolver->net->ares.process_fd(resolver->channel, events & EPOLLIN ? fd : ARES_SOCKET_BAD,
                                 events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
}

bool clipc__resolver_broken(const struct clipc__resolver *resolver) { return resolver->broken; }

void clipc__resolver_turn(struct clipc__resolver *resolver) {
  if (resolver->n_asked == 0 && resolver->watches.n == 0) return;
  clipc__watches_turn(&resolver->watches, INT32_MAX, resolve_ready, resolver);
  resolver->net->ares.process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* its time-outs */
}

int64_t clipc__resolver_next_ns(const struct clipc__resolver *resolver, int64_t now_ns) {
  if (resolver->n_asked == 0) return INT64_MAX;
  struct timeval left, most = {.tv_sec = 60};
  const struct timeval *next = resolver->net->ares.timeout(resolver->channel, &most, &left);
  return now_ns + (int64_t)next->tv_sec * 1000000000 + ((int64_t)next->tv_usec + 1000) * 1000;
}

#endif
