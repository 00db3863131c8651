/* URLs in every hostile form, the classes of addresses, and the list of exceptions. */
#include "testing.h"

#include "async/address.h"
#include "async/net.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *refusal(const char *text) {
  struct clipc__address address = {strchr(text, ':') ? AF_INET6 : AF_INET, {0}};
  assert_int_equal(inet_pton(address.family, text, address.bytes), 1);
  return clipc__address_refusal(&address);
}

static void test_classes(void **state) {
  (void)state;
  static const char *const refused[][2] = {
      {"0.0.0.0", "unspecified"},
      {"0.255.1.2", "unspecified"},
      {"10.0.0.0", "private"},
      {"10.255.255.255", "private"},
      {"100.64.0.0", "private"},
      {"100.127.255.255", "private"},
      {"127.0.0.1", "loopback"},
      {"127.255.255.255", "loopback"},
      {"169.254.169.254", "link-local"},
      {"172.16.0.0", "private"},
      {"172.31.255.255", "private"},
      {"192.0.0.1", "reserved"},
      {"192.0.0.255", "reserved"},
      {"192.0.2.1", "documentation"},
      {"192.88.99.1", "reserved"},
      {"192.168.0.0", "private"},
      {"192.168.255.255", "private"},
      {"198.18.0.0", "benchmarks"},
      {"198.19.255.255", "benchmarks"},
      {"198.51.100.7", "documentation"},
      {"203.0.113.7", "documentation"},
      {"224.0.0.1", "multicast"},
      {"239.255.255.255", "multicast"},
      {"240.0.0.0", "reserved"},
      {"255.255.255.254", "reserved"},
      {"255.255.255.255", "broadcast"},
      {"::", "unspecified"},
      {"::1", "loopback"},
      {"::2", "reserved"},
      {"::127.0.0.1", "reserved"},
      {"::8.8.8.8", "reserved"},
      {"::ffff:8.8.8.8", "IPv4 address in IPv6 form"},
      {"::ffff:127.0.0.1", "IPv4 address in IPv6 form"},
      {"::ffff:0:8.8.8.8", "reserved"},
      {"64:ff9b::7f00:1", "loopback"},
      {"64:ff9b::10.1.2.3", "private"},
      {"64:ff9b:1::808:808", "reserved"},
      {"64:ff9b::1:808:808", "reserved"},
      {"100::1", "reserved"},
      {"2001::1", "Teredo"},
      {"2001:0:ffff::1", "Teredo"},
      {"2001:2::1", "reserved"},
      {"2001:10::1", "reserved"},
      {"2001:1ff:ffff::1", "reserved"},
      {"2001:db8::1", "documentation"},
      {"2002:7f00:1::1", "loopback"},
      {"2002:c0a8:101::1", "private"},
      {"3fff::1", "documentation"},
      {"4000::1", "reserved"},
      {"5f00::1", "reserved"},
      {"fc00::1", "private"},
      {"fdff:ffff::1", "private"},
      {"fe80::1", "link-local"},
      {"febf::1", "link-local"},
      {"fec0::1", "site-local"},
      {"feff::1", "site-local"},
      {"ff02::1", "multicast"},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"},
  };
  static const char *const reached[] = {
      "1.1.1.1",         "8.8.8.8",          "9.255.255.255",   "11.0.0.0",    "93.184.216.34",   "100.63.255.255",
      "100.128.0.0",     "126.255.255.255",  "128.0.0.0",       "169.253.1.1", "172.15.255.255",  "172.32.0.0",
      "192.0.1.0",       "192.0.3.0",        "192.167.255.255", "192.169.0.0", "198.17.255.255",  "198.20.0.0",
      "223.255.255.255", "2000::1",          "2001:200::1",     "2001:db7::1", "2001:4860::8888", "2606:4700::1",
      "2002:808:808::1", "64:ff9b::8.8.8.8", "3ffe::1",
  };
  for (size_t i = 0; i < COUNT(refused); i++) {
    const char *name = refusal(refused[i][0]);
    if (name == NULL || strstr(name, refused[i][1]) == NULL) fail_msg("%s: %s", refused[i][0], name ? name : "reached");
  }
  for (size_t i = 0; i < COUNT(reached); i++)
    if (refusal(reached[i])) fail_msg("%s: %s", reached[i], refusal(reached[i]));
  struct clipc__address unknown = {AF_UNIX, {0}};
  assert_non_null(clipc__address_refusal(&unknown));
}

static clipc_status parse(struct clipc__url *out, const char *url, clipc_error *error) {
  const clipc_allocator allocator = {NULL, NULL, NULL};
  memset(out, 0, sizeof *out);
  return clipc__url_parse(out, &allocator, url, strlen(url), error);
}

static void test_refused_forms(void **state) {
  (void)state;
  static const struct {
    const char *url;
    clipc_status status;
    const char *words;
  } cases[] = {
      {"", CLIPC_E_INVALID, "begins with http"},
      {"http", CLIPC_E_INVALID, "begins with http"},
      {"http:", CLIPC_E_INVALID, "two slashes"},
      {"http://", CLIPC_E_INVALID, "two slashes"},
      {"http:///etc/passwd", CLIPC_E_INVALID, "two slashes"},
      {"http:/example.com/", CLIPC_E_INVALID, "two slashes"},
      {"http:example.com", CLIPC_E_INVALID, "two slashes"},
      {"//example.com/", CLIPC_E_INVALID, "begins with http"},
      {"example.com/a.jpg", CLIPC_E_INVALID, "begins with http"},
      {"1http://example.com/", CLIPC_E_INVALID, "begins with http"},
      {"file:///etc/passwd", CLIPC_E_DENIED, "file is not fetched"},
      {"FTP://example.com/", CLIPC_E_DENIED, "FTP is not fetched"},
      {"gopher://127.0.0.1:25/_x", CLIPC_E_DENIED, "gopher"},
      {"httpx://example.com/", CLIPC_E_DENIED, "httpx"},
      {"https+unix://example.com/", CLIPC_E_DENIED, "https+unix"},
      {"data:image/png;base64,AAAA", CLIPC_E_DENIED, "data is not fetched"},
      {"javascript:alert(1)", CLIPC_E_DENIED, "javascript"},
      {"http://user:secret@example.com/", CLIPC_E_DENIED, "credentials"},
      {"http://user@example.com/", CLIPC_E_DENIED, "credentials"},
      {"http://@example.com/", CLIPC_E_DENIED, "credentials"},
      {"http://:@example.com/", CLIPC_E_DENIED, "credentials"},
      {"http://example.com:80@127.0.0.1/", CLIPC_E_DENIED, "credentials"},
      {"http://example.com\\@127.0.0.1/", CLIPC_E_INVALID, "0x5C"},
      {"http://example.com/a b", CLIPC_E_INVALID, "0x20"},
      {"http://example.com/\r\nHost: x", CLIPC_E_INVALID, "0x0D"},
      {"\thttp://example.com/", CLIPC_E_INVALID, "0x09"},
      {"http://[fe80::1%25eth0]/", CLIPC_E_DENIED, "zones"},
      {"http://[fe80::1%eth0]/", CLIPC_E_DENIED, "zones"},
      {"http://%31%32%37.0.0.1/", CLIPC_E_INVALID, "%"},
      {"http://example.com%00.evil/", CLIPC_E_INVALID, "%"},
      {"http://[::1/", CLIPC_E_INVALID, ""},
      {"http://[::g]/", CLIPC_E_INVALID, ""},
      {"http://[127.0.0.1]/", CLIPC_E_INVALID, ""},
      {"http://[]/", CLIPC_E_INVALID, ""},
      {"http://::1/", CLIPC_E_INVALID, ""},
      {"http://example.com:0/", CLIPC_E_INVALID, "port"},
      {"http://example.com:65536/", CLIPC_E_INVALID, "port"},
      {"http://example.com:-1/", CLIPC_E_INVALID, ""},
      {"http://example.com:80a/", CLIPC_E_INVALID, ""},
      {"http://256.1.1.1/", CLIPC_E_INVALID, "neither"},
      {"http://1.2.3.4.5/", CLIPC_E_INVALID, "neither"},
      {"http://127.0.0.1./", CLIPC_E_INVALID, "neither"},
      {"http://0x7f000001./", CLIPC_E_INVALID, "neither"},
      {"http://evil.0x7f/", CLIPC_E_INVALID, "neither"},
      {"http://08.0.0.1/", CLIPC_E_INVALID, "neither"},
      {"http://a..b/", CLIPC_E_INVALID, "neither"},
      {"http://./", CLIPC_E_INVALID, ""},
      {"http://.a/", CLIPC_E_INVALID, "neither"},
      {"http://a,b/", CLIPC_E_INVALID, ""},
      {"http://a'b/", CLIPC_E_INVALID, ""},
      {"http://b\xC3\xBC"
       "cher.example/",
       CLIPC_E_UNSUPPORTED, "xn--"},
      {"http://\xEF\xBC\x91\xEF\xBC\x92\xEF\xBC\x97.0.0.1/", CLIPC_E_UNSUPPORTED, "xn--"}, /* full-width digits */
      {"http://127\xE3\x80\x82\x30.0.1/", CLIPC_E_UNSUPPORTED, "xn--"},                    /* ideographic full stop */
      {"http://exa\x01mple.com/", CLIPC_E_INVALID, "0x01"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct clipc__url url;
    clipc_error error = {CLIPC_OK, ""};
    clipc_status status = parse(&url, cases[i].url, &error);
    if (CLIPC_CURL == 0 && status == CLIPC_E_UNSUPPORTED) continue;
    if (status != cases[i].status || strstr(error.message, cases[i].words) == NULL)
      fail_msg("%s: %s, %s", cases[i].url, clipc_status_name(status), error.message);
    assert_null(url.text);
    assert_null(strstr(error.message, "secret"));
  }
  char *large = malloc(9001);
  memset(large, 'a', 9000);
  memcpy(large, "http://example.com/", 19);
  large[9000] = 0;
  struct clipc__url url;
  assert_int_equal(parse(&url, large, NULL), CLIPC_E_LIMIT);
  free(large);
  const clipc_allocator allocator = {NULL, NULL, NULL};
  assert_int_equal(clipc__url_parse(&url, &allocator, "http://a\0.com/", 14, NULL), CLIPC_E_INVALID);
}

#if CLIPC_CURL

static void test_normal_forms(void **state) {
  (void)state;
  static const struct {
    const char *url, *text, *host;
    int port;
    bool https, literal;
  } cases[] = {
      {"http://example.com", "http://example.com/", "example.com", 80, false, false},
      {"HtTp://EXAMPLE.Com/A.jpg?Q=1#part", "http://example.com/A.jpg?Q=1", "example.com", 80, false, false},
      {"HTTPS://example.com:443/", "https://example.com:443/", "example.com", 443, true, false},
      {"https://example.com/", "https://example.com/", "example.com", 443, true, false},
      {"http://example.com:8080/a/../b/./c", "http://example.com:8080/b/c", "example.com", 8080, false, false},
      {"http://example.com./", "http://example.com./", "example.com.", 80, false, false},
      {"http://a_b-c.1a/", "http://a_b-c.1a/", "a_b-c.1a", 80, false, false},
      {"http://example.com/\xC3\xA4?\xC3\xB6", "http://example.com/%c3%a4?%c3%b6", "example.com", 80, false, false},
      {"http://example.com/a@b:c", "http://example.com/a@b:c", "example.com", 80, false, false},
      {"http://example.com?u=a@b", "http://example.com/?u=a@b", "example.com", 80, false, false},
      {"http://127.0.0.1/", "http://127.0.0.1/", "127.0.0.1", 80, false, true},
      {"http://2130706433/", "http://127.0.0.1/", "127.0.0.1", 80, false, true},
      {"http://0x7f000001/", "http://127.0.0.1/", "127.0.0.1", 80, false, true},
      {"http://0177.0.0.1/", "http://127.0.0.1/", "127.0.0.1", 80, false, true},
      {"http://0X7F.1/", "http://127.0.0.1/", "127.0.0.1", 80, false, true},
      {"http://127.1/", "http://127.0.0.1/", "127.0.0.1", 80, false, true},
      {"http://0/", "http://0.0.0.0/", "0.0.0.0", 80, false, true},
      {"http://[::1]:8080/", "http://[::1]:8080/", "::1", 8080, false, true},
      {"http://[0:0::0:1]/", "http://[::1]/", "::1", 80, false, true},
      {"http://[::FFFF:127.0.0.1]/", "http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1", 80, false, true},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct clipc__url url;
    clipc_error error = {CLIPC_OK, ""};
    if (parse(&url, cases[i].url, &error) != CLIPC_OK) fail_msg("%s: %s", cases[i].url, error.message);
    assert_string_equal(url.text, cases[i].text);
    assert_string_equal(url.host, cases[i].host);
    assert_int_equal(url.port, cases[i].port);
    assert_int_equal(url.is_https, cases[i].https);
    assert_int_equal(url.is_literal, cases[i].literal);
    clipc__url_free(&url);
    clipc__url_free(&url);
  }
}

/* Whatever comes in: no crash, and what goes out is read the same again. */
static void test_random_urls(void **state) {
  (void)state;
  static const char *const parts[] = {"http", "https", "://", ":",         "/",    "//",       "@",    "[",
                                      "]",    "%25",   "%00", "127.0.0.1", "0x7f", "::1",      ".",    "..",
                                      "a.b",  "?",     "#",   "\\",        ":80",  "\xC3\xBC", "\xFF", "\xEF\xBC\x91",
                                      " ",    "xn--",  "-",   "1",         "ftp"};
  random_start(0);
  int n_read = 0;
  for (int round = 0; round < 50000; round++) {
    char text[256] = "";
    if (random_below(4)) strcat(text, "http://");
    for (uint32_t n = random_below(7) + 1; n > 0; n--) strcat(text, parts[random_below(COUNT(parts))]);
    struct clipc__url url, again;
    clipc_error error = {CLIPC_OK, ""};
    if (parse(&url, text, &error) != CLIPC_OK) {
      assert_true(error.message[0] != 0);
      continue;
    }
    n_read++;
    if (parse(&again, url.text, &error) != CLIPC_OK) fail_msg("%s: %s: %s", text, url.text, error.message);
    if (strcmp(again.host, url.host) != 0 || again.port != url.port) fail_msg("%s: %s", text, url.text);
    clipc__url_free(&again);
    clipc__url_free(&url);
  }
  assert_true(n_read > 500);
}

static void test_no_memory(void **state) {
  (void)state;
  struct test_memory memory = {.fail_at = 1};
  clipc_allocator allocator = test_allocator(&memory);
  struct clipc__url url = {.text = NULL};
  assert_int_equal(clipc__url_parse(&url, &allocator, "http://a/", 9, NULL), CLIPC_E_NO_MEMORY);
  assert_null(url.text);
  assert_int_equal(memory.n_live, 0);
}

#endif

static void test_allow_list(void **state) {
  (void)state;
  static const char *const list[] = {"Images.example:8080", "127.0.0.1:9000", "[::1]:9000", "[FC00:0::1]:80"};
  clipc_fetch_options options = {.allow = list, .n_allow = COUNT(list)};
  assert_int_equal(clipc__address_check_list(&options, NULL), CLIPC_OK);
  assert_true(clipc__address_allowed(&options, "images.example", 8080));
  assert_true(clipc__address_allowed(&options, "127.0.0.1", 9000));
  assert_true(clipc__address_allowed(&options, "::1", 9000));
  assert_true(clipc__address_allowed(&options, "fc00::1", 80));
  assert_false(clipc__address_allowed(&options, "images.example", 80));
  assert_false(clipc__address_allowed(&options, "images.example.", 8080));
  assert_false(clipc__address_allowed(&options, "a.images.example", 8080));
  assert_false(clipc__address_allowed(&options, "images.exampl", 8080));
  assert_false(clipc__address_allowed(&options, "127.0.0.1", 9001));
  assert_false(clipc__address_allowed(&options, "127.0.0.2", 9000));
  assert_false(clipc__address_allowed(&options, "::ffff:127.0.0.1", 9000));
  assert_false(clipc__address_allowed(&options, "localhost", 9000));
  static const char *const wrong[] = {"",        "host",   "host:",     ":80",   "host:0",           "host:65536",
                                      "host:8x", "::1:80", "[host]:80", "[]:80", "host:99999999999", "host: 80",
                                      NULL};
  for (size_t i = 0; i < COUNT(wrong); i++) {
    clipc_error error = {CLIPC_OK, ""};
    clipc_fetch_options one = {.allow = &wrong[i], .n_allow = 1};
    if (clipc__address_check_list(&one, &error) != CLIPC_E_INVALID) fail_msg("%s was taken", wrong[i]);
    assert_non_null(strstr(error.message, "fetch.allow"));
    assert_false(clipc__address_allowed(&one, "host", 80));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_classes),
    cmocka_unit_test(test_refused_forms),
#if CLIPC_CURL
    cmocka_unit_test(test_normal_forms),
    cmocka_unit_test(test_random_urls),
    cmocka_unit_test(test_no_memory),
#endif
    cmocka_unit_test(test_allow_list),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
