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

/* What the server does to those who ask; all zero = it is polite. */
struct hub_manners {
  int n_refusals, refusal; /* the next so many file requests get this status */
  const char *retry_after; /* said with it; NULL = not */
  const char *rate_limit;  /* likewise */
  long cut_at;             /* bytes of a large body after which the connection is cut */
  int n_cuts;              /* so often */
  bool no_ranges, wrong_bytes, no_blobs, slow, hang;
  bool gated;                             /* files need the token "secret": 401 without one, 403 with another */
  int list_status;                        /* not 0: what the list answers */
  int file_status;                        /* not 0: what files answer */
  const char *error_code, *error_message; /* said with these two, and with 403 of gated files */
  bool no_safetensors;                    /* the main revision lists none; refs/pr/7 and timm/... always do */
  bool conversion;                        /* there is an open request of the converter */
};

struct hub_server;
struct hub_server *hub_server_start(const struct hub_file *files, size_t n_files); /* sixteen at most */
void hub_server_behave(struct hub_server *server, struct hub_manners manners);     /* from the next request on */
void hub_server_stop(struct hub_server *server);
int hub_server_port(const struct hub_server *server, int which);
int hub_server_tokens(const struct hub_server *server, int which); /* requests that had one */
int hub_server_ranges(const struct hub_server *server);            /* requests for a part */
uint64_t hub_server_sent(const struct hub_server *server);         /* bytes of bodies of files */
int hub_server_files(const struct hub_server *server);             /* requests for files on the first port */

extern const char hub_commit[41];

#endif
