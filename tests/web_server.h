/* A web server and a name server for tests, on 127.0.0.1 in one thread: slow, rude and endless by what is asked.
 *   /ok?n         n bytes with their length         /chunked?n  /close?n  the same, told otherwise
 *   /wait?ms      "ok" after that time              /hang       nothing at all
 *   /trickle      a byte now and then, for ever     /endless    without a pause
 *   /huge         announces 10^12 bytes             /headers    headers without end
 *   /drop  /cut  /garbage  /status?code             /to?URL     a redirect      /circle  a redirect to itself
 * Asked as a proxy, it answers for every host. Byte i of a body is web_byte(i). */
#ifndef CLIPC_WEB_SERVER_H
#define CLIPC_WEB_SERVER_H

#include <stddef.h>
#include <stdint.h>

struct web_server;

/* One line of the name server: addresses of a name, NULL where it has none of that kind. The n-th question for a name
 * takes its n-th line, the last one again and again. */
struct web_name {
  const char *name, *a, *second_a, *aaaa;
  int ttl_s;
};

struct web_server *web_server_start(const struct web_name *names, size_t n_names); /* NULL when it cannot be */
void web_server_stop(struct web_server *server);

int web_server_port(const struct web_server *server, int which); /* 0, 1: it listens on two */
const char *web_server_names(const struct web_server *server);   /* "127.0.0.1:port" */
int web_server_accepted(const struct web_server *server, int which);
int web_server_most_open(const struct web_server *server); /* connections at once */
int web_server_questions(const struct web_server *server); /* that the name server was asked */

static inline uint8_t web_byte(size_t i) { return (uint8_t)(i * 7 + i / 251 + 3); }

#endif
