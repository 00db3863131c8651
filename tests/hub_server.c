/* The hub of tests; see hub_server.h. */
#include "hub_server.h"

#include "base/sha1.h"
#include "base/sha256.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const char hub_commit[41] = "0123456789abcdef0123456789abcdef01234567";

struct hub_server {
  const struct hub_file *files;
  size_t n_files;
  char hashes[16][65];
  pthread_mutex_t lock;
  struct hub_manners manners; /* under the lock */
  pthread_t threads[2];
  int listening[2], ports[2];
  atomic_bool stop;
  atomic_int tokens[2], ranges, n_open, n_files_asked;
  atomic_ullong sent;
};

struct hub_connection {
  struct hub_server *server;
  int fd, which;
};

static void hub_hash(char out[65], const struct hub_file *file) {
  uint8_t digest[32];
  if (file->is_large) {
    struct clipc__sha256 sha;
    clipc__sha256_begin(&sha, false);
    clipc__sha256_add(&sha, file->data, file->n_bytes);
    clipc__sha256_end(&sha, digest);
  } else {
    struct clipc__sha1 sha;
    char head[32];
    int n = sprintf(head, "blob %zu", file->n_bytes) + 1;
    clipc__sha1_begin(&sha);
    clipc__sha1_add(&sha, head, (size_t)n);
    clipc__sha1_add(&sha, file->data, file->n_bytes);
    clipc__sha1_end(&sha, digest);
  }
  for (int i = 0; i < (file->is_large ? 32 : 20); i++) sprintf(out + 2 * i, "%02x", digest[i]);
}

static bool hub_send(int fd, const void *data, size_t n) {
  for (const char *at = data; n > 0;) {
    ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += sent;
    n -= (size_t)sent;
  }
  return true;
}

static bool hub_say(int fd, const char *status, const char *headers, const char *body) {
  char text[16384];
  snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body), headers, body);
  return hub_send(fd, text, strlen(text));
}

void hub_server_behave(struct hub_server *s, struct hub_manners manners) {
  pthread_mutex_lock(&s->lock);
  s->manners = manners;
  pthread_mutex_unlock(&s->lock);
}

/* The manners of this moment; whose is one of its counters, which is counted down, or NULL. */
static struct hub_manners hub_manners_now(struct hub_server *s, int *counter) {
  pthread_mutex_lock(&s->lock);
  struct hub_manners m = s->manners;
  if (counter && *counter > 0) --*counter;
  pthread_mutex_unlock(&s->lock);
  return m;
}

/* A status, with what the hub says about it in its headers. */
static bool hub_refuse(int fd, int code, const char *error_code, const char *error_message) {
  char status[32], headers[512] = "";
  sprintf(status, "%d Something", code);
  if (error_code) sprintf(headers, "X-Error-Code: %s\r\n", error_code);
  if (error_message) sprintf(headers + strlen(headers), "X-Error-Message: %s\r\n", error_message);
  return hub_say(fd, status, headers, "no");
}

static bool hub_list(struct hub_server *s, int fd, const char *path) {
  char body[12000], hash[65];
  bool has_all = strstr(path, "refs%2Fpr%2F7") != NULL || strstr(path, "/timm/") != NULL;
  const struct hub_manners m = hub_manners_now(s, NULL);
  size_t n =
      (size_t)sprintf(body, "{\"_id\":\"x\",\"id\":\"a/b\",\"gated\":false,\"sha\":\"%s\",\"siblings\":[", hub_commit);
  for (size_t i = 0; i < s->n_files; i++) {
    const struct hub_file *file = &s->files[i];
    if (file->is_large && strstr(file->name, "safetensors") && m.no_safetensors && !has_all) continue;
    strcpy(hash, s->hashes[file - s->files]);
    n += (size_t)sprintf(body + n, "%s{\"rfilename\":\"%s\"", i ? "," : "", file->name);
    if (!m.no_blobs && file->is_large)
      n += (size_t)sprintf(
          body + n, ",\"size\":%zu,\"blobId\":\"%.40s\",\"lfs\":{\"sha256\":\"%s\",\"size\":%zu,\"pointerSize\":134}",
          file->n_bytes, hub_commit, hash, file->n_bytes);
    else if (!m.no_blobs)
      n += (size_t)sprintf(body + n, ",\"size\":%zu,\"blobId\":\"%s\"", file->n_bytes, hash);
    body[n++] = '}';
    body[n] = 0;
  }
  strcpy(body + n, "]}");
  return hub_say(fd, "200 OK", "Content-Type: application/json\r\n", body);
}

static bool hub_body(struct hub_server *s, int fd, const struct hub_file *file, const char *request) {
  char head[512], hash[65];
  const char *range = strcasestr(request, "\r\nRange: bytes=");
  size_t from = range ? strtoul(range + 15, NULL, 10) : 0;
  if (range) atomic_fetch_add(&s->ranges, 1);
  strcpy(hash, s->hashes[file - s->files]);
  const struct hub_manners m = hub_manners_now(s, file->is_large ? &s->manners.n_cuts : NULL);
  bool cut = file->is_large && m.n_cuts > 0;
  if (m.no_ranges) from = 0, range = NULL;
  if (range && from >= file->n_bytes) return hub_say(fd, "416 Range Not Satisfiable", "", "");
  size_t n = file->n_bytes - from;
  if (range)
    sprintf(head, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %zu-%zu/%zu\r\n", from, file->n_bytes - 1,
            file->n_bytes);
  else
    strcpy(head, "HTTP/1.1 200 OK\r\n");
  sprintf(head + strlen(head), "Content-Length: %zu\r\nETag: \"%s\"\r\n\r\n", n,
          file->is_large ? "of-the-store" : hash);
  if (!hub_send(fd, head, strlen(head))) return false;
  size_t most = cut && (size_t)m.cut_at < n ? (size_t)m.cut_at : n;
  for (size_t done = 0; done < most;) {
    size_t piece = m.slow ? 1000 : 65536;
    if (piece > most - done) piece = most - done;
    uint8_t bytes[65536];
    memcpy(bytes, file->data + from + done, piece);
    if (m.wrong_bytes && file->is_large) bytes[0] ^= 1;
    atomic_fetch_add(&s->sent, piece); /* before the client can be done with it */
    if (!hub_send(fd, bytes, piece)) return false;
    done += piece;
    if (m.slow) nanosleep(&(struct timespec){0, 2000000}, NULL);
    if (atomic_load(&s->stop)) return false;
  }
  while (m.hang && !atomic_load(&s->stop)) nanosleep(&(struct timespec){0, 20000000}, NULL);
  return most == n;
}

static bool hub_discussions(int fd, bool conversion) {
  return hub_say(fd, "200 OK", "",
                 conversion ? "{\"discussions\":[{\"num\":3,\"title\":\"Hello\",\"isPullRequest\":false,"
                              "\"status\":\"open\"},{\"num\":7,\"author\":{\"name\":\"SFconvertbot\"},"
                              "\"title\":\"Adding `safetensors` variant of this model\","
                              "\"isPullRequest\":true,\"status\":\"open\"}],\"count\":2}"
                            : "{\"discussions\":[],\"count\":0}");
}

/* A file of the first port: refused, or redirected, or (false in *said) its body is to be sent. */
static bool hub_resolve(struct hub_server *s, int fd, const struct hub_file *file, const char *request, bool *said) {
  char status[32], headers[512] = "";
  const struct hub_manners m = hub_manners_now(s, &s->manners.n_refusals);
  *said = true;
  atomic_fetch_add(&s->n_files_asked, 1);
  if (m.gated && strstr(request, "Bearer secret") == NULL)
    return hub_refuse(fd, strcasestr(request, "\r\nAuthorization:") ? 403 : 401, "GatedRepo", m.error_message);
  if (m.file_status) return hub_refuse(fd, m.file_status, m.error_code, m.error_message);
  if (m.n_refusals > 0) {
    sprintf(status, "%d Something", m.refusal);
    if (m.retry_after) sprintf(headers, "Retry-After: %s\r\n", m.retry_after);
    if (m.rate_limit) sprintf(headers, "RateLimit: %s\r\n", m.rate_limit);
    return hub_say(fd, status, headers, "later");
  }
  *said = file->is_large;
  if (!file->is_large) return true;
  snprintf(headers, sizeof headers,
           "Location: http://127.0.0.1:%d/store/%s\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\n"
           "X-Repo-Commit: %s\r\n",
           s->ports[1], file->name, s->hashes[file - s->files], file->n_bytes, hub_commit);
  return hub_say(fd, "302 Found", headers, "");
}

static bool hub_answer(struct hub_server *s, int fd, int which, char *request) {
  char path[1024] = "";
  const struct hub_manners m = hub_manners_now(s, NULL);
  sscanf(request, "GET %1000s", path);
  if (strcasestr(request, "\r\nAuthorization:")) atomic_fetch_add(&s->tokens[which], 1);
  if (strncmp(path, "/api/models/", 12) == 0) {
    if (m.list_status) return hub_refuse(fd, m.list_status, m.error_code, m.error_message);
    return strstr(path, "/discussions") ? hub_discussions(fd, m.conversion) : hub_list(s, fd, path);
  }
  const struct hub_file *file = NULL;
  const char *name = strrchr(path, '/');
  for (size_t i = 0; name && i < s->n_files; i++)
    if (strcmp(s->files[i].name, name + 1) == 0) file = &s->files[i];
  if (file == NULL) return hub_refuse(fd, 404, "EntryNotFound", NULL);
  bool said = false;
  bool good = which != 0 || hub_resolve(s, fd, file, request, &said);
  return said ? good : hub_body(s, fd, file, request);
}

static void *hub_serve(void *context) {
  struct hub_connection c = *(struct hub_connection *)context;
  free(context);
  char request[8192];
  size_t n = 0;
  struct pollfd look = {c.fd, POLLIN, 0};
  while (!atomic_load(&c.server->stop)) {
    if (poll(&look, 1, 20) <= 0) continue;
    ssize_t got = recv(c.fd, request + n, sizeof request - 1 - n, 0);
    if (got <= 0) break;
    n += (size_t)got;
    request[n] = 0;
    if (strstr(request, "\r\n\r\n") == NULL) continue;
    n = 0;
    if (!hub_answer(c.server, c.fd, c.which, request)) break;
  }
  close(c.fd);
  atomic_fetch_sub(&c.server->n_open, 1);
  return NULL;
}

static void *hub_listen(void *context) {
  struct hub_connection *from = context;
  struct hub_server *s = from->server;
  struct pollfd look = {s->listening[from->which], POLLIN, 0};
  while (!atomic_load(&s->stop)) {
    if (poll(&look, 1, 20) <= 0) continue;
    int fd = accept(s->listening[from->which], NULL, NULL);
    if (fd < 0) continue;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct hub_connection *c = malloc(sizeof *c);
    *c = (struct hub_connection){s, fd, from->which};
    pthread_t thread;
    atomic_fetch_add(&s->n_open, 1);
    pthread_create(&thread, NULL, hub_serve, c);
    pthread_detach(thread);
  }
  free(from);
  return NULL;
}

struct hub_server *hub_server_start(const struct hub_file *files, size_t n_files) {
  struct hub_server *s = calloc(1, sizeof *s);
  s->files = files, s->n_files = n_files;
  for (size_t i = 0; i < n_files; i++) hub_hash(s->hashes[i], &files[i]);
  pthread_mutex_init(&s->lock, NULL);
  for (int i = 0; i < 2; i++) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof here;
    s->listening[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(s->listening[i], (struct sockaddr *)&here, n) != 0 || listen(s->listening[i], 64) != 0 ||
        getsockname(s->listening[i], (struct sockaddr *)&here, &n) != 0)
      return NULL;
    s->ports[i] = ntohs(here.sin_port);
    struct hub_connection *c = malloc(sizeof *c);
    *c = (struct hub_connection){s, 0, i};
    pthread_create(&s->threads[i], NULL, hub_listen, c);
  }
  return s;
}

void hub_server_stop(struct hub_server *s) {
  atomic_store(&s->stop, true);
  for (int i = 0; i < 2; i++) {
    pthread_join(s->threads[i], NULL);
    close(s->listening[i]);
  }
  while (atomic_load(&s->n_open) > 0) nanosleep(&(struct timespec){0, 1000000}, NULL);
  nanosleep(&(struct timespec){0, 20000000}, NULL);
  pthread_mutex_destroy(&s->lock);
  free(s);
}

int hub_server_port(const struct hub_server *s, int which) { return s->ports[which]; }
int hub_server_tokens(const struct hub_server *s, int which) { return atomic_load(&s->tokens[which]); }
int hub_server_ranges(const struct hub_server *s) { return atomic_load(&s->ranges); }
uint64_t hub_server_sent(const struct hub_server *s) { return atomic_load(&s->sent); }
int hub_server_files(const struct hub_server *s) { return atomic_load(&s->n_files_asked); }
