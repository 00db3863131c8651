/* What the tests of pulls share: a hub with a small model, a runtime that may reach it, a folder, and the program. */
#ifndef CLIPC_PULL_ROOM_H
#define CLIPC_PULL_ROOM_H

#include "testing.h"

#include "hub_server.h"

#include <sys/types.h>

enum { ROOM_CONFIG = 1, ROOM_LARGE = 4, ROOM_FILES = 6, ROOM_LARGE_BYTES = 100003 };

extern struct pull_room {
  struct hub_file files[ROOM_FILES]; /* what the hub has */
  struct hub_server *server;
  clipc_runtime *runtime;
  char endpoint[64], allowed[2][32]; /* of the server */
  const char *allow[2];
  clipc_error error; /* of the last pull */
  char path[1024];   /* where it put the model */
} room;

int room_set_up(void **state);
int room_tear_down(void **state);

/* Another hub in the place of the first; NULL: the first again. */
void room_serve(const struct hub_file *files, size_t n_files);
#define ROOM_BEHAVE(...) hub_server_behave(room.server, (struct hub_manners){__VA_ARGS__})

const char *room_in(const char *name); /* a path in the test's folder; one of eight buffers, in turn */
size_t room_count(const char *folder); /* names in it, hidden ones too; 0 where there is no such folder */

/* Gets a model, and waits for it. */
clipc_status room_pull(const char *name, clipc_pull_options options);
#define assert_pulled(name, ...)                                                                                       \
  do {                                                                                                                 \
    if (room_pull(name, (clipc_pull_options){__VA_ARGS__}) != CLIPC_OK) fail_msg("%s", room.error.message);            \
  } while (0)
#define assert_refused(code, words, name, ...)                                                                         \
  do {                                                                                                                 \
    clipc_status got = room_pull(name, (clipc_pull_options){__VA_ARGS__});                                             \
    if (got != (code) || strstr(room.error.message, words) == NULL)                                                    \
      fail_msg("%s: %s", clipc_status_name(got), room.error.message);                                                  \
  } while (0)
void assert_whole(const char *folder); /* it has the room's model */

/* ---- the program */

extern char room_program[1024]; /* by main's argv[0]; skip where it is not built */
void room_find_program(const char *self);

/* Starts it with the words, the environment's hub being ours, and what else is set ("NAME=value", NULL at the end; a
 * name without "=" is unset); stdout goes to the file out and stderr to "complaints", in the test's folder. */
pid_t room_start(const char *const *words, const char *out, const char *const *environment);
int room_wait(pid_t child); /* its exit code; -1: it was ended by a signal */
int room_run(const char *const *words, const char *out);

#endif
