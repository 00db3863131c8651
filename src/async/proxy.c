/* Environment -> proxies, and which hosts are reached without one. Only http and https proxies; an address range in
 * no_proxy is compared as a name, and so never holds. */
#include "async/proxy.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static clipc_status proxy_copy(char **out, const clipc_allocator *allocator, const char *text, clipc_error *error) {
  size_t n = strlen(text) + 1;
  *out = clipc__alloc(allocator, n, 1);
  if (*out == NULL) return clipc__no_memory(error, "a proxy");
  memcpy(*out, text, n);
  return CLIPC_OK;
}

static const char *proxy_variable(const char *const names[], size_t n, const char **name) {
  for (size_t i = 0; i < n; i++) {
    const char *value = getenv(names[i]);
    *name = names[i];
    if (value && *value) return value;
  }
  return NULL;
}

/* "[http://][user:password@]host[:port][/]" */
static clipc_status proxy_parse(struct clipc__proxy *out, const clipc_allocator *allocator, const char *text,
                                const char *name, clipc_error *error) {
  const char *scheme_end = strstr(text, "://"), *rest = scheme_end ? scheme_end + 3 : text;
  size_t n_scheme = scheme_end ? (size_t)(scheme_end - text) : 0;
  bool https = n_scheme == 5 && strncasecmp(text, "https", 5) == 0;
  if (n_scheme > 0 && !https && !(n_scheme == 4 && strncasecmp(text, "http", 4) == 0))
    return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%s: %.*s proxies are not supported", name, (int)n_scheme, text);
  size_t n_authority = strcspn(rest, "/?#");
  for (size_t i = n_authority; i > 0; i--)
    if (rest[i - 1] == '@') { /* what stands before it is libcurl's */
      rest += i, n_authority -= i;
      break;
    }
  char url[300] = "https://";
  const size_t n_head = https ? 8 : 7;
  if (!https) strcpy(url, "http://");
  if (n_authority + n_head >= sizeof url) return clipc__fail(error, CLIPC_E_INVALID, "%s: its host is too long", name);
  memcpy(url + n_head, rest, n_authority);
  clipc_error why = {CLIPC_OK, ""};
  clipc_status status = clipc__url_parse(&out->url, allocator, url, n_head + n_authority, &why);
  if (status != CLIPC_OK) return clipc__fail(error, status, "%s: %s", name, why.message);
  return proxy_copy(&out->text, allocator, text, error);
}

clipc_status clipc__proxies_read(struct clipc__proxies *out, const clipc_allocator *allocator, clipc_error *error) {
  static const char *const http[] = {"http_proxy", "all_proxy", "ALL_PROXY"},
                           *const https[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"},
                           *const none[] = {"no_proxy", "NO_PROXY"};
  struct clipc__proxies read = {.exceptions = NULL};
  const char *name, *text = proxy_variable(http, 3, &name);
  clipc_status status = text ? proxy_parse(&read.http, allocator, text, name, error) : CLIPC_OK;
  if (status == CLIPC_OK && (text = proxy_variable(https, 4, &name)) != NULL)
    status = proxy_parse(&read.https, allocator, text, name, error);
  if (status == CLIPC_OK && (text = proxy_variable(none, 2, &name)) != NULL)
    status = proxy_copy(&read.exceptions, allocator, text, error);
  if (status == CLIPC_OK)
    *out = read;
  else
    clipc__proxies_free(&read, allocator);
  return status;
}

void clipc__proxies_free(struct clipc__proxies *proxies, const clipc_allocator *allocator) {
  clipc__url_free(&proxies->http.url);
  clipc__url_free(&proxies->https.url);
  clipc__free(allocator, proxies->http.text);
  clipc__free(allocator, proxies->https.text);
  clipc__free(allocator, proxies->exceptions);
  memset(proxies, 0, sizeof *proxies);
}

static bool proxy_entry_holds(const char *entry, size_t n_entry, const char *host) {
  size_t n_host = strlen(host);
  if (n_entry == 1 && *entry == '*') return true;
  if (n_entry > 2 && *entry == '[' && entry[n_entry - 1] == ']') entry++, n_entry -= 2;
  if (*entry == '.') entry++, n_entry--;
  if (n_entry == 0 || n_entry > n_host || strncasecmp(host + n_host - n_entry, entry, n_entry) != 0) return false;
  return n_entry == n_host || host[n_host - n_entry - 1] == '.';
}

const struct clipc__proxy *clipc__proxy_for(const struct clipc__proxies *proxies, const char *host, bool is_https) {
  const struct clipc__proxy *proxy = is_https ? &proxies->https : &proxies->http;
  if (proxy->text == NULL) return NULL;
  for (const char *at = proxies->exceptions; at && *at;) {
    at += strspn(at, ", \t");
    size_t n = strcspn(at, ", \t");
    if (n > 0 && proxy_entry_holds(at, n, host)) return NULL;
    at += n;
  }
  return proxy;
}
