/* Where results go. A file is written under a temporary name in its own folder, brought to the disk, and
 * renamed once all of it is there; when anything fails or a signal ends the program, it is removed.
 * stdout, devices and pipes are written in place. Every write is checked, those to stdout too. */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The one temporary file; a signal handler and an exit out of the middle have to find it. */
static char *volatile temporary_name;

void cli_output_abandon(void) {
  if (temporary_name != NULL) unlink(temporary_name);
}

static void forget_temporary(bool remove_it) {
  char *name = temporary_name;
  if (remove_it) cli_output_abandon();
  temporary_name = NULL;
  free(name);
}

static void end_by_signal(int number) {
  cli_output_abandon();
  signal(number, SIG_DFL);
  raise(number);
}

static void watch_signals(void) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    struct sigaction action;
    if (sigaction(numbers[i], NULL, &action) != 0 || action.sa_handler != SIG_DFL) continue; /* nohup stays */
    action.sa_handler = end_by_signal;
    action.sa_flags = 0;
    sigemptyset(&action.sa_mask);
    sigaction(numbers[i], &action, NULL);
  }
}

/* Opens a new file beside target, with the permissions of a file that is made the ordinary way. */
static int open_beside(const char *target) {
  const char *slash = strrchr(target, '/');
  int n_folder = slash == NULL ? 0 : (int)(slash + 1 - target);
  size_t n_bytes = (size_t)n_folder + 64;
  char *name = cli_allocate(n_bytes, 1);
  int descriptor = -1;
  for (unsigned attempt = 0; attempt < 1000 && descriptor < 0; attempt++) {
    snprintf(name, n_bytes, "%.*s.clipc-%ld-%u.tmp", n_folder, target, (long)getpid(), attempt);
    descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0 && errno != EEXIST) break;
  }
  if (descriptor < 0) {
    int error = errno;
    free(name);
    errno = error;
    return -1;
  }
  temporary_name = name;
  watch_signals();
  return descriptor;
}

static bool cannot_write(const char *name, int error) {
  if (error != EPIPE) cli_complain("%s: cannot be written: %s", name, strerror(error)); /* a reader may just leave */
  return false;
}

bool cli_output_open(struct cli_output *output, const char *path) {
  memset(output, 0, sizeof *output);
  if (path == NULL || strcmp(path, "-") == 0) {
    output->stream = stdout;
    output->name = "standard output";
    output->terminal = cli_is_terminal(STDOUT_FILENO);
    return true;
  }
  output->name = path;
  struct stat status;
  bool exists = stat(path, &status) == 0;
  int descriptor;
  if (*path == '\0' || (exists && S_ISDIR(status.st_mode))) {
    return cannot_write(path, *path == '\0' ? ENOENT : EISDIR);
  } else if (exists && !S_ISREG(status.st_mode)) {
    descriptor = open(path, O_WRONLY | O_CLOEXEC);
  } else if (exists && access(path, W_OK) != 0) {
    return cannot_write(path, errno);
  } else {
    output->target = exists ? realpath(path, NULL) : cli_copy(path, strlen(path)); /* a link keeps pointing there */
    descriptor = output->target == NULL ? -1 : open_beside(output->target);
    if (descriptor >= 0 && exists) (void)fchmod(descriptor, status.st_mode & 0777); /* as far as that is allowed */
  }
  output->stream = descriptor < 0 ? NULL : fdopen(descriptor, "wb");
  if (output->stream != NULL) return true;
  int error = errno;
  if (descriptor >= 0) close(descriptor);
  forget_temporary(true);
  free(output->target);
  output->target = NULL;
  return cannot_write(path, error);
}

static void note_failure(struct cli_output *output) {
  if (output->error == 0) output->error = errno != 0 ? errno : EIO;
}

void cli_write(struct cli_output *output, const void *data, size_t n_bytes) {
  if (output->error != 0 || n_bytes == 0) return;
  errno = 0;
  if (fwrite(data, 1, n_bytes, output->stream) != n_bytes) note_failure(output);
}

void cli_print(struct cli_output *output, const char *format, ...) {
  if (output->error != 0) return;
  va_list arguments;
  va_start(arguments, format);
  errno = 0;
  if (vfprintf(output->stream, format, arguments) < 0) note_failure(output);
  va_end(arguments);
}

bool cli_flush(struct cli_output *output) {
  if (output->error == 0) {
    errno = 0;
    if (fflush(output->stream) != 0) note_failure(output);
  }
  return output->error == 0;
}

bool cli_output_close(struct cli_output *output, bool keep) {
  if (output->stream == NULL) return false;
  cli_flush(output);
  if (output->target != NULL && keep && output->error == 0 && fsync(fileno(output->stream)) != 0) note_failure(output);
  errno = 0;
  if (output->stream != stdout && fclose(output->stream) != 0) note_failure(output);
  output->stream = NULL;
  if (output->target != NULL) {
    keep = keep && output->error == 0;
    if (keep && rename(temporary_name, output->target) != 0) {
      note_failure(output);
      keep = false;
    }
    forget_temporary(!keep);
    free(output->target);
    output->target = NULL;
  }
  return output->error == 0 || cannot_write(output->name, output->error);
}
