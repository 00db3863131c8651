/* What becomes of a fetch that failed: it is tried again, or the hub's refusal becomes a sentence.
 * In: the answer's status, X-Error-Code and X-Error-Message. Out: the moment of the next try, or the failure.
 * Must match: how huggingface_hub 2.4 reads the hub's answers (hf_raise_for_status). */
#include "async/pull.h"

#include <string.h>

#define PULL_MS INT64_C(1000000)
enum { PULL_FIRST_REST_MS = 200, PULL_MOST_REST_S = 300 };

static bool pull_code_is(const struct clipc__fetch_reply *reply, const char *code) {
  return strcmp(reply->error_code, code) == 0;
}

/* It exists, and its page says what must be done. */
static clipc_status pull_is_gated(const struct clipc_pull *pull, const struct clipc__fetch_reply *reply,
                                  clipc_error *error) {
  const char *what = "accept its terms on that page and give that account's token; none was sent";
  if (pull->authorization && strstr(reply->error_message, "awaiting"))
    what = "the request of the token's account still awaits its authors";
  else if (pull->authorization && strstr(reply->error_message, "fine-grained"))
    what = "the token that was sent may not read gated models; its settings on the hub can allow that";
  else if (pull->authorization)
    what = "the account of the token that was sent has not been let in; accept its terms on that page";
  return clipc__fail(error, CLIPC_E_DENIED, "%.60s/%.90s: is gated: %s", pull->endpoint, pull->name.repository, what);
}

/* The hub answers so for what is not there, and also for what this caller must not know of. */
static clipc_status pull_is_unknown(const struct clipc_pull *pull, clipc_error *error) {
  char nearest[160] = "";
  clipc__pull_nearest(nearest, sizeof nearest, pull->name.repository);
  return clipc__fail(error, CLIPC_E_NETWORK, "%.90s: the hub has no such model, or it is private and %s%s",
                     pull->name.repository, pull->authorization ? "not the token's to see" : "no token was sent",
                     nearest);
}

/* CLIPC_OK: it is no refusal. what: the file, or the repository itself. */
static clipc_status pull_refused(const struct clipc_pull *pull, const struct clipc__fetch_reply *reply,
                                 const char *what, clipc_error *error) {
  const char *repository = pull->name.repository;
  const long status = reply->status;
  bool bad_token = status == 401 && strcmp(reply->error_message, "Invalid credentials in Authorization header") == 0;
  if (status != 401 && status != 403 && status != 404) return CLIPC_OK;
  if (pull_code_is(reply, "GatedRepo")) return pull_is_gated(pull, reply, error);
  if (pull_code_is(reply, "RevisionNotFound"))
    return clipc__fail(error, CLIPC_E_NETWORK, "%.90s: the hub has no revision \"%.80s\" of it", repository,
                       pull->revision);
  if (pull_code_is(reply, "EntryNotFound") || (status == 404 && what != repository))
    return clipc__fail(error, CLIPC_E_NETWORK, "%.90s: the hub has no such file in %.90s", what, repository);
  if (bad_token)
    return clipc__fail(error, CLIPC_E_DENIED, "%.90s: the hub does not take the token that was sent (HTTP status 401)",
                       repository);
  if (strcmp(reply->error_message, "Access to this resource is disabled.") == 0)
    return clipc__fail(error, CLIPC_E_DENIED, "%.60s/%.90s: the hub has disabled access to it", pull->endpoint,
                       repository);
  if (pull_code_is(reply, "RepoNotFound") || status == 404 || (status == 401 && reply->error_message[0] == '\0'))
    return pull_is_unknown(pull, error);
  return clipc__fail(error, CLIPC_E_DENIED, "%.60s/%.60s: HTTP status %ld%s%.70s; %s token was sent", pull->endpoint,
                     repository, status, reply->error_message[0] ? ": " : "", reply->error_message,
                     pull->authorization ? "a" : "no");
}

clipc_status clipc__pull_again(struct clipc_pull *pull, const struct clipc__fetch *fetch, const char *what,
                               bool progressed, int *n_failures, int64_t *wake_ns, clipc_error *error) {
  const clipc_error *why = clipc__fetch_error(fetch);
  const struct clipc__fetch_reply *reply = clipc__fetch_reply(fetch);
  if (why == NULL || reply == NULL) return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%.90s: cannot be fetched", what);
  const long status = why->status == CLIPC_E_NETWORK ? reply->status : 0;
  clipc_status refused = why->status == CLIPC_E_NETWORK ? pull_refused(pull, reply, what, error) : CLIPC_OK;
  if (refused != CLIPC_OK) return refused;
  bool passing = status == 0 || status == 200 || status == 206 || status == 408 || status == 429 || status >= 500;
  if (progressed) *n_failures = 0;
  if ((why->status != CLIPC_E_NETWORK && why->status != CLIPC_E_TIMED_OUT) || !passing ||
      ++*n_failures > pull->n_retries || reply->retry_after_s > PULL_MOST_REST_S) {
    if (error) *error = *why;
    return why->status;
  }
  int64_t rest_ns = progressed ? 0 : (PULL_FIRST_REST_MS * PULL_MS) << (*n_failures < 8 ? *n_failures - 1 : 7);
  if ((status == 429 || status == 503) && reply->retry_after_s >= 0) rest_ns = reply->retry_after_s * 1000 * PULL_MS;
  *wake_ns = clipc_runtime_now_ns(pull->runtime) + rest_ns;
  clipc__log(pull->runtime, CLIPC_LOG_INFO, "%s: once more in %lld ms", why->message, (long long)(rest_ns / PULL_MS));
  return CLIPC_OK;
}

#undef PULL_MS
