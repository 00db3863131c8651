/* One request by libcurl's multi interface, whose sockets and timer are the scheduler's.
 * In: a fetch with a place and checked addresses. Out: clipc__fetch_finish, or the queue of another origin after a
 * redirect, which libcurl is not allowed to follow by itself. The host is bound to its addresses by CURLOPT_RESOLVE, so
 * libcurl asks no name server, and the address is looked at once more when the socket is made. */
#include "async/fetch_engine.h"

#if CLIPC_CURL

#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { TRANSFER_MAX_HEADERS = 65536, TRANSFER_MAX_UNWANTED = 16384, TRANSFER_FIRST_RESERVE = 1 << 20 };

/* ---- what libcurl calls */

static int transfer_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *unused) {
  (void)easy, (void)unused;
  struct clipc__engine_of_fetches *engine = context;
  uint32_t events = what == CURL_POLL_IN      ? (uint32_t)EPOLLIN
                    : what == CURL_POLL_OUT   ? (uint32_t)EPOLLOUT
                    : what == CURL_POLL_INOUT ? (uint32_t)(EPOLLIN | EPOLLOUT)
                                              : 0;
  if (clipc__watches_set(&engine->watches, fd, events, NULL) == CLIPC_OK) return 0;
  engine->broken = true;
  return -1;
}

static int transfer_timer(CURLM *multi, long timeout_ms, void *context) {
  (void)multi;
  struct clipc__engine_of_fetches *engine = context;
  engine->timer_ns = timeout_ms < 0 ? 0 : clipc_runtime_now_ns(engine->runtime) + (int64_t)timeout_ms * 1000000;
  return 0;
}

static curl_socket_t transfer_open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *to) {
  (void)purpose;
  struct clipc__fetch *fetch = context;
  struct clipc__address address;
  clipc__address_of(&address, &to->addr);
  if (!fetch->origin->proxy && clipc__origin_check(fetch, &address, &fetch->error) != CLIPC_OK) {
    fetch->refused = CLIPC_E_DENIED;
    return CURL_SOCKET_BAD;
  }
  return socket(to->family, to->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->protocol);
}

/* The value of a header line, where it has this name: its length, or -1. */
static int transfer_value(const char **value, const char *line, size_t n, const char *name) {
  size_t n_name = strlen(name);
  if (n <= n_name || line[n_name] != ':' || strncasecmp(line, name, n_name) != 0) return -1;
  const char *at = line + n_name + 1, *end = line + n;
  while (at < end && (*at == ' ' || *at == '\t')) at++;
  while (end > at && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t')) end--;
  *value = at;
  return (int)(end - at);
}

/* Keeps a value, once; one that is too long is none. */
static void transfer_keep(char *out, size_t n_out, const char *line, size_t n_line, const char *name) {
  const char *value;
  int n = transfer_value(&value, line, n_line, name);
  if (n > 2 && value[0] == 'W' && value[1] == '/') value += 2, n -= 2;
  if (n > 1 && value[0] == '"' && value[n - 1] == '"') value++, n -= 2;
  if (n <= 0 || (size_t)n >= n_out || *out != '\0') return;
  memcpy(out, value, (size_t)n);
  out[n] = '\0';
}

static void transfer_number(int64_t *out, const char *line, size_t n_line, const char *name) {
  const char *value;
  int n = transfer_value(&value, line, n_line, name);
  int64_t number = 0;
  for (int i = 0; i < n; i++) {
    if (value[i] < '0' || value[i] > '9' || i > 17) return;
    number = number * 10 + (value[i] - '0');
  }
  if (n > 0) *out = number;
}

/* RateLimit: "api";r=0;t=55 -- nothing remains for so many seconds */
static void transfer_rate_limit(int64_t *out, const char *line, size_t n_line) {
  const char *value;
  char text[96];
  int n = transfer_value(&value, line, n_line, "RateLimit");
  if (n <= 0 || (size_t)n >= sizeof text) return;
  memcpy(text, value, (size_t)n);
  text[n] = '\0';
  const char *rest = strstr(text, ";r=0;t=");
  int64_t seconds = 0;
  if (rest == NULL || *out >= 0) return;
  for (rest += 7; *rest >= '0' && *rest <= '9' && seconds < 1000000; rest++) seconds = seconds * 10 + (*rest - '0');
  *out = seconds;
}

static void transfer_is_alive(struct clipc__fetch *fetch) {
  if (fetch->wants.stall_s > 0) fetch->alive_ns = clipc_runtime_now_ns(fetch->engine->runtime);
}

static size_t transfer_header(char *data, size_t size, size_t n, void *context) {
  struct clipc__fetch *fetch = context;
  struct clipc__fetch_reply *reply = &fetch->reply;
  fetch->n_header_bytes += size * n;
  transfer_is_alive(fetch);
  transfer_keep(reply->etag, sizeof reply->etag, data, size * n, "ETag");
  transfer_keep(reply->linked_etag, sizeof reply->linked_etag, data, size * n, "X-Linked-Etag");
  transfer_keep(reply->commit, sizeof reply->commit, data, size * n, "X-Repo-Commit");
  transfer_keep(reply->error_code, sizeof reply->error_code, data, size * n, "X-Error-Code");
  transfer_keep(reply->error_message, sizeof reply->error_message, data, size * n, "X-Error-Message");
  transfer_number(&reply->retry_after_s, data, size * n, "Retry-After");
  transfer_rate_limit(&reply->retry_after_s, data, size * n);
  const char *value;
  if (transfer_value(&value, data, size * n, "Content-Range") > 6 && strncasecmp(value, "bytes ", 6) == 0) {
    int64_t from = 0;
    for (value += 6; *value >= '0' && *value <= '9' && from < INT64_MAX / 16; value++)
      from = from * 10 + (*value - '0');
    fetch->written_from = (uint64_t)from;
  }
  if (fetch->n_header_bytes <= TRANSFER_MAX_HEADERS) return size * n;
  fetch->refused = clipc__fail(&fetch->error, CLIPC_E_LIMIT, "%.*s: more than %d bytes of headers",
                               CLIPC__FETCH_NAME(fetch), (int)TRANSFER_MAX_HEADERS);
  return 0;
}

static uint64_t transfer_max_bytes(const struct clipc__fetch *fetch) {
  return fetch->wants.max_bytes ? fetch->wants.max_bytes : fetch->engine->options.max_bytes;
}

/* 200, or 206 where a part was asked for. */
static bool transfer_is_wanted(const struct clipc__fetch *fetch, long code) {
  return code == 200 || (code == 206 && fetch->wants.from > 0);
}

static size_t transfer_hand_on(struct clipc__fetch *fetch, const char *data, size_t n_bytes) {
  clipc_error error = {CLIPC_E_IO, ""};
  if (fetch->wants.write(fetch->wants.context, fetch->written_from + fetch->n_written, data, n_bytes, &error)) {
    fetch->n_written += n_bytes;
    return n_bytes;
  }
  fetch->refused = error.status;
  fetch->error = error;
  return 0;
}

/* Takes a piece of the body; an answer other than its size breaks the transfer off. */
static size_t transfer_write(char *data, size_t size, size_t n, void *context) {
  struct clipc__fetch *fetch = context;
  const struct clipc__net *net = fetch->engine->net;
  size_t n_bytes = size * n;
  long code = 0;
  transfer_is_alive(fetch);
  net->curl.easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &code);
  if (!transfer_is_wanted(fetch, code)) { /* a short one is read so that the connection can be used again */
    fetch->n_unwanted_bytes += n_bytes;
    return fetch->n_unwanted_bytes <= TRANSFER_MAX_UNWANTED ? n_bytes : 0;
  }
  uint64_t max_bytes = transfer_max_bytes(fetch), n_before = fetch->n_written + fetch->body.n_bytes;
  if (n_bytes > max_bytes || n_before > max_bytes - n_bytes) {
    fetch->refused = clipc__fail(&fetch->error, CLIPC_E_LIMIT, "%.*s: more than %llu bytes", CLIPC__FETCH_NAME(fetch),
                                 (unsigned long long)max_bytes);
    return 0;
  }
  if (fetch->wants.write) return transfer_hand_on(fetch, data, n_bytes);
  curl_off_t announced = -1;
  if (fetch->body.capacity == 0) net->curl.easy_getinfo(fetch->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
  if (announced > TRANSFER_FIRST_RESERVE) announced = TRANSFER_FIRST_RESERVE; /* it may not be true */
  if ((announced > 0 && !clipc__bytes_reserve(&fetch->body, (size_t)announced)) ||
      !clipc__bytes_append(&fetch->body, data, n_bytes)) {
    fetch->refused = clipc__no_memory(&fetch->error, "the body of a URL");
    return 0;
  }
  return n_bytes;
}

/* ---- start and stop */

/* "+host:port:address,address": for this transfer, and a minute in libcurl's cache. */
static bool transfer_bind(struct clipc__fetch *fetch, const struct clipc__answer *answer) {
  char text[256 + 8 + CLIPC__MAX_ADDRESSES * (CLIPC__ADDRESS_TEXT + 3)];
  const struct clipc__url *url = fetch->origin->proxy ? &fetch->origin->proxy->url : &fetch->url;
  size_t n = (size_t)snprintf(text, sizeof text, "+%s:%d:", url->host, url->port);
  for (int i = 0; i < answer->n_addresses; i++) {
    char address[CLIPC__ADDRESS_TEXT];
    clipc__address_format(address, &answer->addresses[i]);
    bool v6 = answer->addresses[i].family == AF_INET6;
    n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s%s", i ? "," : "", v6 ? "[" : "", address, v6 ? "]" : "");
  }
  fetch->addresses = fetch->engine->net->curl.slist_append(NULL, text);
  return fetch->addresses != NULL;
}

static long transfer_ms_left(int64_t until_ns, int64_t now_ns) {
  int64_t left_ms = (until_ns - now_ns) / 1000000;
  return left_ms < 1 ? 1 : left_ms > 1000000000 ? 1000000000 : (long)left_ms;
}

static bool transfer_add_header(struct clipc__fetch *fetch, const char *header) {
  struct curl_slist *longer = fetch->engine->net->curl.slist_append(fetch->headers, header);
  if (longer) fetch->headers = longer;
  return longer != NULL;
}

/* The secret goes to nobody but the host that it was given for. */
static bool transfer_add_headers(struct clipc__fetch *fetch) {
  char range[64];
  if (fetch->wants.accept && !transfer_add_header(fetch, fetch->wants.accept)) return false;
  if (fetch->wants.from > 0) {
    snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)fetch->wants.from);
    if (!transfer_add_header(fetch, range)) return false;
  }
  bool same = fetch->secret && fetch->url.port == fetch->secret_port && fetch->url.is_https == fetch->secret_https &&
              strcmp(fetch->url.host, fetch->secret_host) == 0;
  return !same || transfer_add_header(fetch, fetch->secret);
}

static bool transfer_set_up(struct clipc__fetch *fetch) {
  const struct clipc__net *net = fetch->engine->net;
  CURL *easy = fetch->easy;
  int64_t now_ns = clipc_runtime_now_ns(fetch->engine->runtime);
  CURLcode code = CURLE_OK;
#define TRANSFER_SET(option, value)                                                                                    \
  if (code == CURLE_OK) code = net->curl.easy_setopt(easy, option, value)
  TRANSFER_SET(CURLOPT_URL, fetch->url.text);
  TRANSFER_SET(CURLOPT_RESOLVE, fetch->addresses);
#if LIBCURL_VERSION_NUM >= 0x075500
  TRANSFER_SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
  TRANSFER_SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  TRANSFER_SET(CURLOPT_FOLLOWLOCATION, 0L);
  TRANSFER_SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  TRANSFER_SET(CURLOPT_PROXY, fetch->origin->proxy ? fetch->origin->proxy->text : "");
  if (fetch->origin->proxy) TRANSFER_SET(CURLOPT_PROXYPORT, (long)fetch->origin->proxy->url.port);
  TRANSFER_SET(CURLOPT_NOPROXY, "");
  TRANSFER_SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  TRANSFER_SET(CURLOPT_NOSIGNAL, 1L);
  TRANSFER_SET(CURLOPT_USERAGENT, "clipc/" CLIPC_VERSION);
  TRANSFER_SET(CURLOPT_MAXFILESIZE_LARGE,
               (curl_off_t)(transfer_max_bytes(fetch) > INT64_MAX ? INT64_MAX : (int64_t)transfer_max_bytes(fetch)));
  TRANSFER_SET(CURLOPT_HTTPHEADER, fetch->headers);
  TRANSFER_SET(CURLOPT_CONNECTTIMEOUT_MS, transfer_ms_left(fetch->connect_ns, now_ns));
  TRANSFER_SET(CURLOPT_TIMEOUT_MS, fetch->give_up_ns == INT64_MAX ? 0L : transfer_ms_left(fetch->give_up_ns, now_ns));
  TRANSFER_SET(CURLOPT_PRIVATE, fetch);
  TRANSFER_SET(CURLOPT_OPENSOCKETFUNCTION, transfer_open_socket);
  TRANSFER_SET(CURLOPT_OPENSOCKETDATA, fetch);
  TRANSFER_SET(CURLOPT_HEADERFUNCTION, transfer_header);
  TRANSFER_SET(CURLOPT_HEADERDATA, fetch);
  TRANSFER_SET(CURLOPT_WRITEFUNCTION, transfer_write);
  TRANSFER_SET(CURLOPT_WRITEDATA, fetch);
#undef TRANSFER_SET
  return code == CURLE_OK;
}

/* Gives the handle back for the next transfer. */
static void transfer_detach(struct clipc__fetch *fetch) {
  struct clipc__engine_of_fetches *engine = fetch->engine;
  if (fetch->easy == NULL) return;
  engine->net->curl.easy_reset(fetch->easy);
  if (engine->n_spare < engine->options.max_connections)
    engine->spare[engine->n_spare++] = fetch->easy;
  else
    engine->net->curl.easy_cleanup(fetch->easy);
  engine->net->curl.slist_free_all(fetch->addresses);
  engine->net->curl.slist_free_all(fetch->headers);
  fetch->easy = NULL;
  fetch->addresses = fetch->headers = NULL;
}

clipc_status clipc__transfer_start(struct clipc__fetch *fetch, const struct clipc__answer *answer, clipc_error *error) {
  struct clipc__engine_of_fetches *engine = fetch->engine;
  fetch->n_header_bytes = fetch->n_unwanted_bytes = 0;
  fetch->n_written = fetch->written_from = 0;
  transfer_is_alive(fetch);
  int64_t stalled_ns = fetch->alive_ns + fetch->wants.stall_s * INT64_C(1000000000);
  if (fetch->wants.stall_s > 0 && stalled_ns < engine->look_ns) engine->look_ns = stalled_ns;
  fetch->easy = engine->n_spare > 0 ? engine->spare[--engine->n_spare] : engine->net->curl.easy_init();
  if (fetch->easy && (answer == NULL || transfer_bind(fetch, answer)) && transfer_add_headers(fetch) &&
      transfer_set_up(fetch) && engine->net->curl.multi_add_handle(engine->multi, fetch->easy) == CURLM_OK)
    return CLIPC_OK;
  transfer_detach(fetch);
  return clipc__no_memory(error, "a transfer");
}

void clipc__transfer_stop(struct clipc__fetch *fetch) {
  if (fetch->easy == NULL) return;
  fetch->engine->net->curl.multi_remove_handle(fetch->engine->multi, fetch->easy);
  transfer_detach(fetch);
}

/* ---- ends */

static clipc_status transfer_status(CURLcode code) {
  switch (code) {
  case CURLE_OK: return CLIPC_OK;
  case CURLE_OPERATION_TIMEDOUT: return CLIPC_E_TIMED_OUT;
  case CURLE_FILESIZE_EXCEEDED: return CLIPC_E_LIMIT;
  case CURLE_OUT_OF_MEMORY: return CLIPC_E_NO_MEMORY;
  default: return CLIPC_E_NETWORK;
  }
}

static clipc_status transfer_failed(struct clipc__fetch *fetch, CURLcode code, clipc_error *error) {
  clipc_status status = transfer_status(code);
  if (status == CLIPC_E_LIMIT)
    return clipc__fail(error, status, "%.*s: more than %llu bytes", CLIPC__FETCH_NAME(fetch),
                       (unsigned long long)transfer_max_bytes(fetch));
  return clipc__fail(error, status, "%.*s: %s", CLIPC__FETCH_NAME(fetch), fetch->engine->net->curl.easy_strerror(code));
}

/* Follows to another URL: from the start, with its own check, but the time and the count go on. */
static clipc_status transfer_redirect(struct clipc__fetch *fetch, const char *to, clipc_error *error) {
  struct clipc__engine_of_fetches *engine = fetch->engine;
  if (fetch->n_redirects >= engine->options.max_redirects)
    return clipc__fail(error, CLIPC_E_LIMIT, "%.*s: more than %d redirects", CLIPC__FETCH_NAME(fetch),
                       engine->options.max_redirects < 0 ? 0 : engine->options.max_redirects);
  struct clipc__url url = {.text = NULL};
  clipc_error why = {CLIPC_OK, ""};
  clipc_status status = clipc__url_parse(&url, engine->allocator, to, strlen(to), &why);
  if (status == CLIPC_OK && fetch->url.is_https && !url.is_https)
    status = clipc__fail(&why, CLIPC_E_DENIED, "http, from https");
  if (status != CLIPC_OK) {
    clipc__url_free(&url);
    return clipc__fail(error, status, "%.*s: redirected to %s", CLIPC__FETCH_NAME(fetch), why.message);
  }
  fetch->n_redirects++;
  clipc__transfer_stop(fetch);
  clipc__origin_leave(fetch);
  clipc__url_free(&fetch->url);
  fetch->url = url;
  return clipc__origin_queue(fetch, true, error);
}

static void transfer_ended(struct clipc__fetch *fetch, CURLcode code) {
  const struct clipc__net *net = fetch->engine->net;
  clipc_error error = {CLIPC_OK, ""};
  clipc_status status = CLIPC_OK;
  long http_code = 0;
  char *to = NULL;
  net->curl.easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &http_code);
  fetch->reply.status = http_code;
  net->curl.easy_getinfo(fetch->easy, CURLINFO_REDIRECT_URL, &to);
  bool broken_off = code == CURLE_WRITE_ERROR && fetch->refused == CLIPC_OK; /* a body that nobody wanted */
  if (fetch->refused != CLIPC_OK) {
    status = fetch->refused;
    error = fetch->error;
  } else if (code != CURLE_OK && !broken_off) {
    status = transfer_failed(fetch, code, &error);
  } else if (to != NULL && http_code >= 301 && http_code <= 308 && http_code != 304 && http_code != 305 &&
             http_code != 306) {
    status = transfer_redirect(fetch, to, &error);
    if (status == CLIPC_OK) return;
  } else if (!transfer_is_wanted(fetch, http_code)) {
    status = clipc__fail(&error, CLIPC_E_NETWORK, "%.*s: HTTP status %ld", CLIPC__FETCH_NAME(fetch), http_code);
  }
  clipc__fetch_finish(fetch, status, &error);
}

/* ---- turns */

static void transfer_ready(void *context, int fd, uint32_t events) {
  struct clipc__engine_of_fetches *engine = context;
  int n_running, mask = (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0);
  if (engine->broken) return;
  if (engine->net->curl.multi_socket_action(engine->multi, fd, mask, &n_running) != CURLM_OK) engine->broken = true;
}

static void transfer_look_at_timer(struct clipc__engine_of_fetches *engine) {
  if (engine->timer_ns == 0 || clipc_runtime_now_ns(engine->runtime) < engine->timer_ns || engine->broken) return;
  int n_running;
  long timeout_ms = -1;
  engine->timer_ns = 0;
  if (engine->net->curl.multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &n_running) != CURLM_OK)
    engine->broken = true;
  /* libcurl says nothing when it still waits for the same moment, because its clock was a little behind. */
  if (engine->timer_ns == 0 && engine->net->curl.multi_timeout(engine->multi, &timeout_ms) == CURLM_OK &&
      timeout_ms >= 0)
    engine->timer_ns = clipc_runtime_now_ns(engine->runtime) + ((int64_t)timeout_ms + 1) * 1000000;
}

bool clipc__transfers_turn(struct clipc__engine_of_fetches *engine, int n_most) {
  if (engine->multi == NULL) return false;
  transfer_look_at_timer(engine);
  bool more = clipc__watches_turn(&engine->watches, n_most, transfer_ready, engine);
  CURLMsg *message;
  for (int n_left; !engine->broken && (message = engine->net->curl.multi_info_read(engine->multi, &n_left)) != NULL;) {
    if (message->msg != CURLMSG_DONE) continue;
    struct clipc__fetch *fetch = NULL;
    CURLcode code = message->data.result;
    engine->net->curl.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &fetch);
    transfer_ended(fetch, code);
  }
  return more;
}

clipc_status clipc__transfers_open(struct clipc__engine_of_fetches *engine, clipc_error *error) {
  const struct clipc__net *net = engine->net;
  const long most = engine->options.max_connections;
  engine->watches = (struct clipc__watches){.runtime = engine->runtime, .task = engine->task};
  engine->timer_ns = 0;
  engine->broken = false;
  engine->spare = clipc__alloc(engine->allocator, (size_t)most, sizeof *engine->spare);
  engine->multi = engine->spare ? net->curl.multi_init() : NULL;
  if (engine->multi && net->curl.multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION, transfer_socket) == CURLM_OK &&
      net->curl.multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine) == CURLM_OK &&
      net->curl.multi_setopt(engine->multi, CURLMOPT_TIMERFUNCTION, transfer_timer) == CURLM_OK &&
      net->curl.multi_setopt(engine->multi, CURLMOPT_TIMERDATA, engine) == CURLM_OK &&
      net->curl.multi_setopt(engine->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, most) == CURLM_OK && /* idle ones too */
      net->curl.multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS, most) == CURLM_OK)
    return CLIPC_OK;
  clipc__transfers_close(engine);
  return clipc__no_memory(error, "transfers");
}

void clipc__transfers_close(struct clipc__engine_of_fetches *engine) {
  while (engine->n_spare > 0) engine->net->curl.easy_cleanup(engine->spare[--engine->n_spare]);
  clipc__free(engine->allocator, engine->spare);
  engine->spare = NULL;
  if (engine->multi) engine->net->curl.multi_cleanup(engine->multi);
  engine->multi = NULL;
  clipc__watches_free(&engine->watches);
}

#endif
