/* A URL -> host, port and, where the host is one, address; and the classes of addresses that are refused.
 * libcurl takes URLs apart, so that what is checked is what is fetched; what different readers of URLs read differently
 * (credentials, escapes in hosts, one slash, backslashes) is refused before it does. The classes are the
 * special-purpose registries of IANA (RFC 6890); of IPv6 only global unicast is reached at all. */
#include "async/address.h"
#include "async/net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct address_class {
  uint8_t prefix[16];
  uint8_t n_bits;
  const char *name;
};

static const struct address_class classes_v4[] = {
    {{0}, 8, "an unspecified address"},
    {{10}, 8, "a private address"},
    {{100, 64}, 10, "a carrier's private address"},
    {{127}, 8, "a loopback address"},
    {{169, 254}, 16, "a link-local address"},
    {{172, 16}, 12, "a private address"},
    {{192, 0, 0}, 24, "a reserved address"},
    {{192, 0, 2}, 24, "an address of documentation"},
    {{192, 88, 99}, 24, "a reserved address"},
    {{192, 168}, 16, "a private address"},
    {{198, 18}, 15, "an address of benchmarks"},
    {{198, 51, 100}, 24, "an address of documentation"},
    {{203, 0, 113}, 24, "an address of documentation"},
    {{224}, 4, "a multicast address"},
    {{255, 255, 255, 255}, 32, "the broadcast address"},
    {{240}, 4, "a reserved address"},
};

static const struct address_class classes_v6[] = {
    {{0}, 128, "the unspecified address"},
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, "the loopback address"},
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, 96, "an IPv4 address in IPv6 form"},
    {{0xFC}, 7, "a private address"},
    {{0xFE, 0x80}, 10, "a link-local address"},
    {{0xFE, 0xC0}, 10, "a site-local address"},
    {{0xFF}, 8, "a multicast address"},
    {{0x20, 0x01, 0x00, 0x00}, 32, "a Teredo address"},
    {{0x20, 0x01}, 23, "a reserved address"},
    {{0x20, 0x01, 0x0D, 0xB8}, 32, "an address of documentation"},
    {{0x3F, 0xFF}, 20, "an address of documentation"},
};

static const struct address_class global_unicast = {{0x20}, 3, ""};
static const struct address_class nat64 = {{0x00, 0x64, 0xFF, 0x9B}, 96, ""};
static const struct address_class six_to_four = {{0x20, 0x02}, 16, ""};

static bool in_class(const uint8_t *bytes, const struct address_class *class) {
  size_t n_whole = class->n_bits / 8u;
  unsigned n_rest = class->n_bits % 8u;
  if (memcmp(bytes, class->prefix, n_whole) != 0) return false;
  return n_rest == 0 || (bytes[n_whole] ^ class->prefix[n_whole]) >> (8 - n_rest) == 0;
}

static const char *v4_refusal(const uint8_t *bytes) {
  for (size_t i = 0; i < sizeof classes_v4 / sizeof *classes_v4; i++)
    if (in_class(bytes, &classes_v4[i])) return classes_v4[i].name;
  return NULL;
}

const char *clipc__address_refusal(const struct clipc__address *address) {
  const uint8_t *bytes = address->bytes;
  if (address->family == AF_INET) return v4_refusal(bytes);
  if (address->family != AF_INET6) return "an address of an unknown kind";
  if (in_class(bytes, &nat64)) return v4_refusal(bytes + 12);
  if (in_class(bytes, &six_to_four)) return v4_refusal(bytes + 2);
  for (size_t i = 0; i < sizeof classes_v6 / sizeof *classes_v6; i++)
    if (in_class(bytes, &classes_v6[i])) return classes_v6[i].name;
  return in_class(bytes, &global_unicast) ? NULL : "a reserved address";
}

bool clipc__address_of(struct clipc__address *out, const struct sockaddr *from) {
  memset(out, 0, sizeof *out);
  out->family = from->sa_family;
  if (from->sa_family == AF_INET)
    memcpy(out->bytes, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
  else if (from->sa_family == AF_INET6)
    memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
  else
    return false;
  return true;
}

void clipc__address_format(char text[CLIPC__ADDRESS_TEXT], const struct clipc__address *address) {
  if (inet_ntop(address->family, address->bytes, text, CLIPC__ADDRESS_TEXT) == NULL) strcpy(text, "?");
}

static bool read_literal(struct clipc__address *out, const char *host) {
  memset(out, 0, sizeof *out);
  out->family = strchr(host, ':') ? AF_INET6 : AF_INET;
  return inet_pton(out->family, host, out->bytes) == 1;
}

/* ---- the list of exceptions */

enum { ADDRESS_MAX_HOST = 253, ADDRESS_MAX_URL = 8192 };

static bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static void lower_case(char *text) {
  for (; *text; text++)
    if (*text >= 'A' && *text <= 'Z') *text = (char)(*text + 32);
}

/* Splits an entry; host is in lower case and without brackets. */
static bool read_entry(char host[ADDRESS_MAX_HOST + 1], int *port, const char *entry) {
  const char *colon = entry ? strrchr(entry, ':') : NULL;
  if (colon == NULL) return false;
  size_t n = (size_t)(colon - entry);
  bool bracketed = n >= 2 && entry[0] == '[' && entry[n - 1] == ']';
  if (bracketed) entry++, n -= 2;
  if (n == 0 || n > ADDRESS_MAX_HOST || (memchr(entry, ':', n) != NULL) != bracketed) return false;
  memcpy(host, entry, n);
  host[n] = 0;
  lower_case(host);
  *port = 0;
  for (const char *digit = colon + 1; *digit; digit++) {
    if (*digit < '0' || *digit > '9' || (*port = *port * 10 + *digit - '0') > 65535) return false;
  }
  return *port > 0;
}

clipc_status clipc__address_check_list(const clipc_fetch_options *options, clipc_error *error) {
  char host[ADDRESS_MAX_HOST + 1];
  int port;
  for (size_t i = 0; i < options->n_allow; i++)
    if (!read_entry(host, &port, options->allow[i]))
      return clipc__fail(error, CLIPC_E_INVALID, "fetch.allow: %s is not host:port",
                         options->allow[i] ? options->allow[i] : "NULL");
  return CLIPC_OK;
}

bool clipc__address_allowed(const clipc_fetch_options *options, const char *host, int port) {
  char entry_host[ADDRESS_MAX_HOST + 1];
  struct clipc__address wanted, entry;
  bool literal = read_literal(&wanted, host);
  for (size_t i = 0; i < options->n_allow; i++) {
    int entry_port;
    if (!read_entry(entry_host, &entry_port, options->allow[i]) || entry_port != port) continue;
    if (strcmp(entry_host, host) == 0) return true;
    if (literal && read_literal(&entry, entry_host) && memcmp(&entry, &wanted, sizeof wanted) == 0) return true;
  }
  return false;
}

/* ---- URLs */

/* What must hold before anybody takes it apart: a scheme, two slashes, a host without '@', '%' or backslash. */
static clipc_status check_form(const char *url, size_t n, clipc_error *error) {
  if (n > ADDRESS_MAX_URL) return clipc__fail(error, CLIPC_E_LIMIT, "URL: more than %d bytes", ADDRESS_MAX_URL);
  for (size_t i = 0; i < n; i++)
    if ((uint8_t)url[i] <= 0x20 || url[i] == 0x7F || url[i] == '\\')
      return clipc__fail(error, CLIPC_E_INVALID, "URL: byte %zu may not stand there (0x%02X)", i,
                         (unsigned)(uint8_t)url[i]);
  size_t n_scheme = 0;
  while (n_scheme < n && (is_alphanumeric(url[n_scheme]) || (n_scheme > 0 && strchr("+-.", url[n_scheme])))) n_scheme++;
  if (n_scheme == 0 || n_scheme >= n || url[n_scheme] != ':' || (url[0] >= '0' && url[0] <= '9'))
    return clipc__fail(error, CLIPC_E_INVALID, "%.*s: a URL begins with http:// or https://", (int)n, url);
  if (!((n_scheme == 4 && strncasecmp(url, "http", 4) == 0) || (n_scheme == 5 && strncasecmp(url, "https", 5) == 0)))
    return clipc__fail(error, CLIPC_E_DENIED, "%.*s: %.*s is not fetched, only http and https are", (int)n, url,
                       (int)n_scheme, url);
  size_t host = n_scheme + 3, end = host;
  if (n <= host || url[n_scheme + 1] != '/' || url[n_scheme + 2] != '/' || url[host] == '/')
    return clipc__fail(error, CLIPC_E_INVALID, "%.*s: a host must stand behind two slashes", (int)n, url);
  while (end < n && !strchr("/?#", url[end])) end++;
  if (memchr(url + host, '@', end - host)) /* not in the sentence: it may be a password */
    return clipc__fail(error, CLIPC_E_DENIED, "URL: credentials in a URL are refused");
  if (memchr(url + host, '%', end - host)) {
    bool is_zone = url[host] == '[';
    return clipc__fail(error, is_zone ? CLIPC_E_DENIED : CLIPC_E_INVALID, "%.*s: %s", (int)n, url,
                       is_zone ? "IPv6 zones are refused" : "there is a %% in its host");
  }
  for (size_t i = host; i < end; i++)
    if ((uint8_t)url[i] >= 0x80) /* libcurl would read it by the locale */
      return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%.*s: its host must be in ASCII (xn--)", (int)n, url);
  return CLIPC_OK;
}

#if CLIPC_CURL

/* The last label of a host that is no address must not look like a number: old resolvers would make an address of it.
 */
static bool is_host_name(const char *host) {
  size_t n = strlen(host), start = 0;
  if (n > 0 && host[n - 1] == '.') n--;
  if (n == 0 || n > ADDRESS_MAX_HOST) return false;
  for (size_t i = 0; i <= n; i++) {
    if (i == n || host[i] == '.') {
      if (i == start || i - start > 63) return false;
      if (i < n) start = i + 1;
    } else if (!is_alphanumeric(host[i]) && host[i] != '-' && host[i] != '_') {
      return false;
    }
  }
  if (host[start] < '0' || host[start] > '9') return true;
  if (host[start + 1] == 'x') return false;
  for (size_t i = start; i < n; i++)
    if (host[i] < '0' || host[i] > '9') return true;
  return false;
}

static clipc_status url_fail(CURLUcode code, const char *url, size_t n, clipc_error *error) {
  if (code == CURLUE_OUT_OF_MEMORY) return clipc__no_memory(error, "a URL");
  const char *what = code == CURLUE_BAD_PORT_NUMBER ? "its port is wrong"
                     : code == CURLUE_BAD_IPV6      ? "its IPv6 address is wrong"
                                                    : "it is malformed";
  return clipc__fail(error, CLIPC_E_INVALID, "%.*s: %s", (int)n, url, what);
}

/* The host in lower case, without brackets: a name, or an address in normal form. */
static clipc_status read_host(struct clipc__url *out, const struct clipc__net *net, CURLU *parts, clipc_error *error) {
  CURLUcode code = net->curl.url_get(parts, CURLUPART_HOST, &out->host, 0);
  if (code != CURLUE_OK) return url_fail(code, "URL", 3, error);
  char *host = out->host;
  size_t n = strlen(host);
  lower_case(host);
  if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
    memmove(host, host + 1, n - 2);
    host[n - 2] = 0;
    out->is_literal = read_literal(&out->address, host);
    if (!out->is_literal) return clipc__fail(error, CLIPC_E_INVALID, "%s: it is no IPv6 address", host);
    return CLIPC_OK;
  }
  out->is_literal = strchr(host, ':') == NULL && read_literal(&out->address, host);
  if (!out->is_literal && !is_host_name(host))
    return clipc__fail(error, CLIPC_E_INVALID, "%s: it is neither a host's name nor an address", host);
  return CLIPC_OK;
}

static clipc_status take_apart(struct clipc__url *out, const struct clipc__net *net, CURLU *parts, const char *url,
                               clipc_error *error) {
  size_t n = strlen(url);
  CURLUcode code = net->curl.url_set(parts, CURLUPART_URL, url, CURLU_URLENCODE);
  if (code != CURLUE_OK) return url_fail(code, url, n, error);
  clipc_status status = read_host(out, net, parts, error);
  if (status != CLIPC_OK) return status;
  char *user = NULL, *port = NULL, bracketed[CLIPC__ADDRESS_TEXT + 2] = "[";
  code = net->curl.url_get(parts, CURLUPART_USER, &user, 0);
  net->curl.free(user);
  if (code != CURLUE_NO_USER) return clipc__fail(error, CLIPC_E_DENIED, "URL: credentials in a URL are refused");
  code = net->curl.url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
  if (code != CURLUE_OK) return url_fail(code, url, n, error);
  out->port = (int)strtol(port, NULL, 10);
  net->curl.free(port);
  if (out->port < 1 || out->port > 65535) return url_fail(CURLUE_BAD_PORT_NUMBER, url, n, error);
  out->is_https = (url[4] | 0x20) == 's';
  if (out->is_literal && out->address.family == AF_INET6) {
    clipc__address_format(bracketed + 1, &out->address);
    strcat(bracketed, "]");
  }
  /* The text is made anew from the parts that were checked. */
  code = net->curl.url_set(parts, CURLUPART_HOST, bracketed[1] ? bracketed : out->host, 0);
  if (code == CURLUE_OK) code = net->curl.url_set(parts, CURLUPART_FRAGMENT, NULL, 0);
  if (code == CURLUE_OK) code = net->curl.url_get(parts, CURLUPART_URL, &out->text, 0);
  return code == CURLUE_OK ? CLIPC_OK : url_fail(code, url, n, error);
}

clipc_status clipc__url_parse(struct clipc__url *out, const clipc_allocator *allocator, const char *url, size_t n,
                              clipc_error *error) {
  clipc_status status = check_form(url, n, error);
  if (status != CLIPC_OK) return status;
  const struct clipc__net *net = clipc__net(error);
  if (net == NULL) return CLIPC_E_UNSUPPORTED;
  char *copy = clipc__alloc(allocator, n + 1, 1);
  CURLU *parts = net->curl.url();
  struct clipc__url read = {.text = NULL};
  if (copy && parts) {
    memcpy(copy, url, n);
    copy[n] = 0;
    status = take_apart(&read, net, parts, copy, error);
  } else {
    status = clipc__no_memory(error, "a URL");
  }
  if (status == CLIPC_OK)
    *out = read;
  else
    clipc__url_free(&read);
  net->curl.url_cleanup(parts);
  clipc__free(allocator, copy);
  return status;
}

void clipc__url_free(struct clipc__url *url) {
  if (url->text == NULL && url->host == NULL) return;
  const struct clipc__net *net = clipc__net(NULL);
  net->curl.free(url->text);
  net->curl.free(url->host);
  memset(url, 0, sizeof *url);
}

#else

clipc_status clipc__url_parse(struct clipc__url *out, const clipc_allocator *allocator, const char *url, size_t n,
                              clipc_error *error) {
  (void)out, (void)allocator;
  clipc_status status = check_form(url, n, error);
  if (status != CLIPC_OK) return status;
  return clipc__fail(error, CLIPC_E_UNSUPPORTED, "%.*s: this build has no libcurl (CURL=0)", (int)n, url);
}

void clipc__url_free(struct clipc__url *url) { (void)url; }

#endif
