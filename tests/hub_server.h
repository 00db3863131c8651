/* A small Hugging Face hub on 127.0.0.1, a thread for each connection, on two ports: what is large is redirected from
 * the first to the second, which stands for another host and counts the tokens that it is sent. */
#ifndef CLIPC_HUB_SERVER_H
#define CLIPC_HUB_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hub_file {
  const char *name;
  const uint8_t *data;
  size_t n_bytes;
  bool is_large; /* named by its SHA-256, and redirected */
};

/* What the server does to those who ask; change it between pulls. */
struct hub_manners {
  int n_refusals, refusal; /* the next so many file requests get this status */
  int retry_after_s;       /* said with it; -1 = not */
  long cut_at;             /* bytes of a large body after which the connection is cut, once each n_cuts; -1 = never */
  int n_cuts;
  bool no_ranges, wrong_bytes, no_blobs, slow, hang;
  bool gated;             /* 401 without the token "secret" */
  const char *error_code; /* said with list_status; NULL = none */
  int list_status;        /* not 0: what the list answers */
  bool safetensors;       /* the main revision lists them; refs/pr/7 always does */
  bool conversion;        /* there is an open request of the converter */
};

struct hub_server;
struct hub_server *hub_server_start(const struct hub_file *files, size_t n_files, struct hub_manners *manners);
void hub_server_stop(struct hub_server *server);
int hub_server_port(const struct hub_server *server, int which);
int hub_server_tokens(const struct hub_server *server, int which); /* requests that had one */
int hub_server_ranges(const struct hub_server *server);            /* requests for a part */
uint64_t hub_server_sent(const struct hub_server *server);         /* bytes of bodies of files */
int hub_server_files(const struct hub_server *server);             /* requests for files on the first port */

extern const char hub_commit[41];

#endif
