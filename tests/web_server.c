/* The servers of tests that fetch; see web_server.h. */
#include "web_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WEB_REQUEST = 4096, WEB_CHUNK = 16384, WEB_MAX_NAMES = 64 };
enum web_mode { WEB_READING, WEB_SENDING, WEB_WAITING, WEB_HANGING, WEB_TRICKLING, WEB_FLOODING, WEB_HEADERS };

struct web_connection {
  struct web_connection *next, *previous;
  int fd;
  enum web_mode mode;
  char request[WEB_REQUEST];
  size_t n_request;
  char *answer; /* what is still to be sent */
  size_t n_answer, n_sent;
  bool close_after;
  int64_t next_ms;
  size_t n_body;
  bool gone;
};

struct web_server {
  pthread_t thread;
  atomic_bool stop;
  int epoll_fd, listening[2], ports[2], name_fd;
  char name_server[32];
  atomic_int accepted[2], most_open, n_questions;
  int n_open;
  const struct web_name *names;
  size_t n_names;
  int n_asked[WEB_MAX_NAMES];
  struct web_connection *first;
};

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- answers */

static void say(struct web_connection *c, const void *data, size_t n) {
  c->answer = realloc(c->answer, c->n_answer + n + 1);
  memcpy(c->answer + c->n_answer, data, n);
  c->n_answer += n;
  c->mode = WEB_SENDING;
}

static void say_text(struct web_connection *c, const char *text) { say(c, text, strlen(text)); }

static void say_body(struct web_connection *c, size_t n) {
  uint8_t *body = malloc(n + 1);
  for (size_t i = 0; i < n; i++) body[i] = web_byte(i);
  say(c, body, n);
  free(body);
}

static void say_sized(struct web_connection *c, const char *status, size_t n_told, size_t n) {
  char head[128];
  snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n", status, n_told);
  say_text(c, head);
  say_body(c, n);
}

static void say_chunked(struct web_connection *c, size_t n) {
  say_text(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  uint8_t *body = malloc(n + 1);
  for (size_t i = 0; i < n; i++) body[i] = web_byte(i);
  for (size_t at = 0, step = 1; at < n; at += step, step = step * 3 + 1) {
    char size[32];
    if (step > n - at) step = n - at;
    snprintf(size, sizeof size, "%zx\r\n", step);
    say_text(c, size);
    say(c, body + at, step);
    say_text(c, "\r\n");
  }
  free(body);
  say_text(c, "0\r\n\r\n");
}

static void answer_request(struct web_connection *c) {
  char *path = strchr(c->request, ' '), *end = path ? strchr(path + 1, ' ') : NULL, *argument = NULL;
  if (end == NULL) {
    c->gone = true;
    return;
  }
  *end = 0;
  path++;
  if (strncmp(path, "http://", 7) == 0) path += 7 + strcspn(path + 7, "/"); /* to a proxy */
  argument = strchr(path, '?');
  if (argument) *argument++ = 0;
  size_t n = argument ? strtoul(argument, NULL, 10) : 2;
  c->n_answer = c->n_sent = 0;
  c->close_after = false;
  if (strcmp(path, "/ok") == 0) {
    say_sized(c, "200 OK", n, n);
  } else if (strcmp(path, "/chunked") == 0) {
    say_chunked(c, n);
  } else if (strcmp(path, "/close") == 0) {
    say_text(c, "HTTP/1.1 200 OK\r\n\r\n");
    say_body(c, n);
    c->close_after = true;
  } else if (strcmp(path, "/wait") == 0) {
    c->mode = WEB_WAITING;
    c->next_ms = now_ms() + (int64_t)n;
  } else if (strcmp(path, "/hang") == 0) {
    c->mode = WEB_HANGING;
  } else if (strcmp(path, "/trickle") == 0 || strcmp(path, "/endless") == 0) {
    say_text(c, "HTTP/1.1 200 OK\r\n\r\n");
    c->mode = path[1] == 't' ? WEB_TRICKLING : WEB_FLOODING;
  } else if (strcmp(path, "/headers") == 0) {
    say_text(c, "HTTP/1.1 200 OK\r\n");
    c->mode = WEB_HEADERS;
  } else if (strcmp(path, "/huge") == 0) {
    say_sized(c, "200 OK", 1000000000000u, 10);
  } else if (strcmp(path, "/cut") == 0) {
    say_sized(c, "200 OK", 1000, 100);
    c->close_after = true;
  } else if (strcmp(path, "/garbage") == 0) {
    say(c, "\0\377\1\2 not HTTP\r\n\r\n\0\0", 18);
    c->close_after = true;
  } else if (strcmp(path, "/status") == 0) {
    char status[32];
    snprintf(status, sizeof status, "%zu Something", n);
    say_sized(c, status, n == 204 || n == 304 ? 0 : 5, n == 204 || n == 304 ? 0 : 5);
  } else if (strcmp(path, "/to") == 0 || strcmp(path, "/circle") == 0) {
    say_text(c, "HTTP/1.1 302 Found\r\nContent-Length: 3\r\nLocation: ");
    say_text(c, path[1] == 't' && argument ? argument : "/circle");
    say_text(c, "\r\n\r\nno\n");
  } else { /* /drop, and all others */
    c->gone = true;
  }
}

/* ---- connections */

static void watch(struct web_server *s, struct web_connection *c, bool writing) {
  struct epoll_event event = {.events = EPOLLIN | (writing ? (uint32_t)EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

/* Those that the other side has not closed. */
static int count_open(const struct web_server *s) {
  int n_open = 0;
  for (const struct web_connection *c = s->first; c; c = c->next) {
    struct tcp_info info;
    socklen_t n = sizeof info;
    n_open += getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_state == TCP_ESTABLISHED;
  }
  return n_open;
}

static void take_connections(struct web_server *s, int which) {
  for (int fd; (fd = accept4(s->listening[which], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    struct web_connection *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->next = s->first;
    if (c->next) c->next->previous = c;
    s->first = c;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    atomic_fetch_add(&s->accepted[which], 1);
    if (++s->n_open > atomic_load(&s->most_open)) {
      int n_open = count_open(s);
      if (n_open > atomic_load(&s->most_open)) atomic_store(&s->most_open, n_open);
    }
  }
}

static void drop_connection(struct web_server *s, struct web_connection *c) {
  s->n_open--;
  close(c->fd);
  if (c->next) c->next->previous = c->previous;
  if (c->previous)
    c->previous->next = c->next;
  else
    s->first = c->next;
  free(c->answer);
  free(c);
}

static void read_request(struct web_connection *c) {
  ssize_t n = recv(c->fd, c->request + c->n_request, sizeof c->request - 1 - c->n_request, 0);
  if (n == 0 || (n < 0 && errno != EAGAIN)) c->gone = true;
  if (n <= 0 || c->mode != WEB_READING) return;
  c->n_request += (size_t)n;
  c->request[c->n_request] = 0;
  if (strstr(c->request, "\r\n\r\n") == NULL) return;
  c->n_request = 0;
  answer_request(c);
}

static void send_more(struct web_connection *c) {
  int64_t now = now_ms();
  if (c->mode == WEB_WAITING && now >= c->next_ms) say_sized(c, "200 OK", 2, 2);
  while (c->n_sent < c->n_answer) {
    ssize_t n = send(c->fd, c->answer + c->n_sent, c->n_answer - c->n_sent, MSG_NOSIGNAL);
    if (n < 0) {
      c->gone = errno != EAGAIN;
      return;
    }
    c->n_sent += (size_t)n;
  }
  if (c->mode == WEB_SENDING) {
    c->mode = WEB_READING;
    c->gone = c->close_after;
  } else if (c->mode == WEB_TRICKLING && now >= c->next_ms) {
    c->gone = send(c->fd, "x", 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN;
    c->next_ms = now + 10;
  } else if (c->mode == WEB_HEADERS || c->mode == WEB_FLOODING) {
    char flood[WEB_CHUNK];
    for (size_t i = 0; i < sizeof flood; i += 16) memcpy(flood + i, "X-More: 123456\r\n", 16);
    c->gone = send(c->fd, flood, sizeof flood, MSG_NOSIGNAL) < 0 && errno != EAGAIN;
  }
}

/* ---- names */

static size_t put_address(uint8_t *out, int type, const char *text, int ttl_s) {
  size_t n = type == 1 ? 4 : 16;
  uint8_t head[12] = {0xC0, 12, 0, (uint8_t)type, 0, 1, 0, 0, (uint8_t)(ttl_s >> 8), (uint8_t)ttl_s, 0, (uint8_t)n};
  memcpy(out, head, 12);
  inet_pton(type == 1 ? AF_INET : AF_INET6, text, out + 12);
  return 12 + n;
}

static void answer_question(struct web_server *s) {
  uint8_t packet[1024], *end;
  struct sockaddr_in from;
  socklen_t n_from = sizeof from;
  ssize_t n = recvfrom(s->name_fd, packet, 512, 0, (struct sockaddr *)&from, &n_from);
  if (n < 17) return;
  char name[256];
  size_t at = 12, n_name = 0;
  while (at < (size_t)n && packet[at] != 0 && n_name + packet[at] + 1u < sizeof name &&
         at + packet[at] + 5 < (size_t)n) {
    memcpy(name + n_name, packet + at + 1, packet[at]);
    n_name += packet[at];
    name[n_name++] = '.';
    at += packet[at] + 1u;
  }
  name[n_name ? n_name - 1 : 0] = 0;
  int type = packet[at + 2];
  const struct web_name *found = NULL;
  atomic_fetch_add(&s->n_questions, 1);
  size_t first = 0;
  while (first < s->n_names && strcasecmp(s->names[first].name, name) != 0) first++;
  if (first < s->n_names) {
    size_t line = first + (size_t)s->n_asked[first] / 2; /* A and AAAA are one question */
    s->n_asked[first]++;
    while (line > first && (line >= s->n_names || strcasecmp(s->names[line].name, name) != 0)) line--;
    found = &s->names[line];
    if (found->a && strcmp(found->a, "silent") == 0) return;
  }
  at += 5;
  memset(packet + 2, 0, 10);
  packet[2] = 0x81;
  packet[3] = found ? 0x80 : 0x83; /* no such name */
  packet[5] = 1;
  end = packet + at;
  if (found && found->a && strcmp(found->a, "garbage") == 0) {
    memset(end, 0xEE, 40);
    packet[7] = 9;
    end += 40;
  } else if (found && type == 1) {
    if (found->a) end += put_address(end, 1, found->a, found->ttl_s), packet[7]++;
    if (found->second_a) end += put_address(end, 1, found->second_a, found->ttl_s), packet[7]++;
  } else if (found && type == 28 && found->aaaa) {
    end += put_address(end, 28, found->aaaa, found->ttl_s), packet[7]++;
  }
  sendto(s->name_fd, packet, (size_t)(end - packet), 0, (struct sockaddr *)&from, n_from);
}

/* ---- the thread */

static void *serve(void *context) {
  struct web_server *s = context;
  while (!atomic_load(&s->stop)) {
    struct epoll_event events[64];
    int n = epoll_wait(s->epoll_fd, events, 64, 2);
    for (int i = 0; i < n; i++) {
      void *what = events[i].data.ptr;
      if (what == &s->listening[0] || what == &s->listening[1])
        take_connections(s, what == &s->listening[1]);
      else if (what == &s->name_fd)
        answer_question(s);
      else if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        read_request(what);
    }
    for (struct web_connection *c = s->first, *next; c; c = next) {
      next = c->next;
      if (!c->gone && c->mode != WEB_READING && c->mode != WEB_HANGING) {
        send_more(c);
        if (!c->gone) watch(s, c, c->n_sent < c->n_answer || c->mode == WEB_FLOODING);
      }
      if (c->gone) drop_connection(s, c);
    }
  }
  while (s->first) drop_connection(s, s->first);
  return NULL;
}

static int open_socket(int type, int *port) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof here;
  int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&here, n) == 0 && getsockname(fd, (struct sockaddr *)&here, &n) == 0 &&
      (type == SOCK_DGRAM || listen(fd, 4096) == 0)) {
    *port = ntohs(here.sin_port);
    return fd;
  }
  close(fd);
  return -1;
}

struct web_server *web_server_start(const struct web_name *names, size_t n_names) {
  struct web_server *s = calloc(1, sizeof *s);
  int name_port = 0;
  s->names = names;
  s->n_names = n_names;
  s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  s->name_fd = open_socket(SOCK_DGRAM, &name_port);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &s->name_fd};
  bool good = s->name_fd >= 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->name_fd, &event) == 0;
  for (int i = 0; i < 2; i++) {
    s->listening[i] = open_socket(SOCK_STREAM, &s->ports[i]);
    event.data.ptr = &s->listening[i];
    good = good && s->listening[i] >= 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->listening[i], &event) == 0;
  }
  snprintf(s->name_server, sizeof s->name_server, "127.0.0.1:%d", name_port);
  if (good && pthread_create(&s->thread, NULL, serve, s) == 0) return s;
  free(s);
  return NULL;
}

void web_server_stop(struct web_server *s) {
  atomic_store(&s->stop, true);
  pthread_join(s->thread, NULL);
  close(s->listening[0]), close(s->listening[1]), close(s->name_fd), close(s->epoll_fd);
  free(s);
}

int web_server_port(const struct web_server *s, int which) { return s->ports[which]; }
const char *web_server_names(const struct web_server *s) { return s->name_server; }
int web_server_accepted(const struct web_server *s, int which) { return atomic_load(&s->accepted[which]); }
int web_server_most_open(const struct web_server *s) { return atomic_load(&s->most_open); }
int web_server_questions(const struct web_server *s) { return atomic_load(&s->n_questions); }
