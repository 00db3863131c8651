/* Loads libcurl and c-ares once per process. They are never unloaded: libcurl's TLS library leaves handlers behind that
 * run at exit. Their memory is malloc's: libcurl's allocator is one per process, and a host may use libcurl itself. */
#include "async/net.h"

#if CLIPC_CURL
#include <dlfcn.h>
#include <pthread.h>

static struct {
  pthread_once_t once;
  struct clipc__net net;
  const char *missing; /* NULL: all is there */
} net_libraries = {.once = PTHREAD_ONCE_INIT};

static void *net_open(const char *const names[2]) {
  void *library = dlopen(names[0], RTLD_NOW | RTLD_LOCAL);
  return library ? library : dlopen(names[1], RTLD_NOW | RTLD_LOCAL);
}

static void net_load(void) {
  static const char *const curl_names[] = {"libcurl.so.4", "libcurl.so"}, *const ares_names[] = {"libcares.so.2",
                                                                                                 "libcares.so"};
  struct clipc__net *net = &net_libraries.net;
  void *library = net_open(ares_names);
  net_libraries.missing = "c-ares";
  if (library == NULL) return;
#define NET_FIND(name)                                                                                                 \
  if ((*(void **)&net->ares.name = dlsym(library, "ares_" #name)) == NULL) return;
  CLIPC__ARES_FUNCTIONS(NET_FIND)
#undef NET_FIND
  if (net->ares.library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) return;
  net_libraries.missing = "libcurl";
  library = net_open(curl_names);
  if (library == NULL) return;
#define NET_FIND(name)                                                                                                 \
  if ((*(void **)&net->curl.name = dlsym(library, "curl_" #name)) == NULL) return;
  CLIPC__CURL_FUNCTIONS(NET_FIND)
#undef NET_FIND
  if (net->curl.global_init(CURL_GLOBAL_ALL) != CURLE_OK) return;
  net_libraries.missing = NULL;
}

const struct clipc__net *clipc__net(clipc_error *error) {
  pthread_once(&net_libraries.once, net_load);
  if (net_libraries.missing == NULL) return &net_libraries.net;
  clipc__fail(error, CLIPC_E_UNSUPPORTED, "URL: %s cannot be loaded", net_libraries.missing);
  return NULL;
}
#endif
