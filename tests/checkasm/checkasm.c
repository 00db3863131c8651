/* checkasm: every kernel of every tier that this CPU has against double precision, on random data from a printed seed:
 * odd sizes, odd addresses, extremes, memory between unmapped pages. An entry of the table that an earlier tier had
 * already is not checked again. A kernel that crashes fails, and the rest goes on. --bench times the same calls. */
#include "checkasm.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char checkasm_help[] =
    "checkasm [--seed N] [--tier NAME] [--kernel PART] [--quick] [--bench] [--list]\n"
    "Compares the kernels of every tier that this CPU has with double precision.\n"
    "  --seed N       random data of that seed [by the clock]; the seed is always printed\n"
    "  --tier NAME    that tier alone: plain-c, avx2, ..., openblas\n"
    "  --kernel PART  only kernels with this in their names: bf16, int8.product, softmax, ...\n"
    "  --quick        fewer cases, for emulated CPUs\n"
    "  --bench        times the kernels instead: minima of interleaved runs, share of the measured peak\n"
    "  --list         names the tiers that this CPU has\n"
    "Exit status: 0 when all passed, 1 when a check failed, 2 when the arguments were wrong.\n";

bool checkasm_quick;

static struct {
  uint64_t seed;
  const char *tier, *part;
  size_t n_passed, n_failed; /* all groups */
  /* the group that runs */
  uint64_t random;
  size_t group_passed, group_failed;
  char about[200], first[640], note[200];
  sigjmp_buf crash;
  volatile sig_atomic_t running;
} state;

/* ---- random numbers */

uint32_t random_bits(void) {
  state.random += 0x9e3779b97f4a7c15u;
  uint64_t mixed = state.random;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
  return (uint32_t)(mixed >> 32);
}

size_t random_below(size_t n) { return (size_t)((uint64_t)random_bits() * n >> 32); }

size_t random_size(size_t n) { return 1 + random_below(n); }

float random_float(void) { return (float)((double)random_bits() / 2147483648.0 - 1.0); }

void random_floats(float *x, size_t n, float scale) {
  for (size_t i = 0; i < n; i++) x[i] = scale * random_float();
}

/* ---- checks */

void about(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(state.about, sizeof state.about, format, arguments);
  va_end(arguments);
}

void note(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(state.note, sizeof state.note, format, arguments);
  va_end(arguments);
}

bool check(bool ok, const char *format, ...) {
  if (ok) {
    state.group_passed++;
    return true;
  }
  if (state.group_failed++ == 0) {
    char what[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    snprintf(state.first, sizeof state.first, "%s: %s", state.about, what);
  }
  return false;
}

static void crashed(int number) {
  if (!state.running) {
    signal(number, SIG_DFL);
    raise(number);
    return;
  }
  siglongjmp(state.crash, number);
}

static const char *signal_name(int number) {
  return number == SIGILL                        ? "an instruction that this CPU lacks (SIGILL)"
         : number == SIGSEGV || number == SIGBUS ? "read or wrote where it may not (SIGSEGV)"
                                                 : "died of an arithmetic trap (SIGFPE)";
}

static uint64_t hash_of(const char *text, uint64_t hash) {
  for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
  return hash;
}

void run_group(const char *tier, const char *kernel, check_group *group, const struct clipc__kernels *kernels,
               int which) {
  if (state.part && !strstr(kernel, state.part)) return;
  state.random = hash_of(kernel, hash_of(tier, state.seed));
  state.group_passed = state.group_failed = 0;
  state.about[0] = state.first[0] = state.note[0] = '\0';
  bool denormals_off = random_bits() & 1; /* the drivers call kernels with it, tests without */
  unsigned mode = denormals_off ? clipc__denormals_off() : 0;
  int number = sigsetjmp(state.crash, 1);
  if (number == 0) {
    state.running = 1;
    group(kernels, which);
    state.running = 0;
  } else {
    state.running = 0;
    check(false, "%s", signal_name(number));
  }
  pens_check();
  if (denormals_off) clipc__denormals_restore(mode);
  printf(" - %-32s [%s]", kernel, state.group_failed ? "FAILED" : "OK");
  printf(state.note[0] ? "  %s\n" : "%s\n", state.note);
  if (state.group_failed)
    printf("   %zu of %zu failed; the first: %s\n   again: checkasm --seed %llu --tier %s --kernel %s%s\n",
           state.group_failed, state.group_failed + state.group_passed, state.first, (unsigned long long)state.seed,
           tier, kernel, checkasm_quick ? " --quick" : "");
  fflush(stdout);
  state.n_passed += state.group_passed;
  state.n_failed += state.group_failed;
}

/* ---- references */

double exact_activation(enum clipc__activation activation, double x) {
  if (activation == CLIPC__QUICK_GELU) return x / (1.0 + exp(-1.702 * x));
  if (activation == CLIPC__GELU_ERF) return 0.5 * x * erfc(-x * 0.70710678118654752440);
  if (activation == CLIPC__GELU_TANH) {
    double z = 0.79788456080286535588 * (x + 0.044715 * x * x * x); /* 0.5 (1 + tanh z) = 1 / (1 + exp(-2z)) */
    return x / (1.0 + exp(-2.0 * z));
  }
  return x;
}

/* In half ulps of x, not of the result: the tail on the left is a difference of nearly equal numbers by definition. */
double activation_bound(double x) { return 8 * HALF_ULP * fabs(x) + 0x1p-125; }

/* Any order of summation, with or without fused products, is off by at most k/2 ulp of the sum of magnitudes; roundings
 * being independent, by at most 8 sqrt(k) half ulps but for one sum in 10^13 (Higham and Mary, 2019). */
double sum_bound(size_t k) {
  double probable = 8 * sqrt((double)k);
  return (probable < (double)k ? probable : (double)k) * HALF_ULP;
}

/* ---- tiers */

struct entry {
  const char *kernel;
  check_group *group;
  int which;
};

static bool same_gemm(const struct clipc__gemm *a, const struct clipc__gemm *b) {
  return a->product == b->product && a->prepare == b->prepare && a->weights == b->weights && a->input == b->input &&
         a->n_levels == b->n_levels && a->tile_rows == b->tile_rows && a->panel_cols == b->panel_cols &&
         a->group == b->group;
}

bool is_new_gemm(const struct tier_table *tiers, size_t n, int which) {
  for (size_t t = 0; t < n; t++)
    if (same_gemm(gemm_of(&tiers[t].kernels, which), gemm_of(&tiers[n].kernels, which))) return false;
  return true;
}

static void check_gemm_of_tier(const struct tier_table *tier, int which) {
  static const char *const gemms[] = {"f32", "bf16", "int8", "small"};
  static const struct entry parts[] = {{"shape", check_shape, 0},
                                       {"pack", check_pack, 0},
                                       {"prepare", check_prepare, 0},
                                       {"product", check_product, 0},
                                       {"chain", check_chain, 0}};
  for (size_t i = 0; i < COUNT(parts); i++) {
    char kernel[40];
    snprintf(kernel, sizeof kernel, "%s.%s", gemms[which], parts[i].kernel);
    if (parts[i].group == check_prepare && gemm_of(&tier->kernels, which)->prepare == NULL) continue;
    run_group(tier->name, kernel, parts[i].group, &tier->kernels, which);
  }
}

/* Tier n of the list, but what an earlier one has too. */
static void check_tier(const struct tier_table *tiers, size_t n) {
  const struct clipc__kernels *own = &tiers[n].kernels;
  bool finish = true, norm = true, softmax = true, transpose = true, peak = true,
       activations[CLIPC__N_ACTIVATIONS] = {false, true, true, true};
  for (size_t t = 0; t < n; t++) {
    const struct clipc__kernels *other = &tiers[t].kernels;
    finish = finish && own->finish != other->finish;
    norm = norm && own->layer_norm_f32 != other->layer_norm_f32;
    softmax = softmax && own->softmax_f32 != other->softmax_f32;
    transpose = transpose && own->transpose_f32 != other->transpose_f32;
    peak = peak && memcmp(own->peak, other->peak, sizeof own->peak) != 0;
    for (int a = 1; a < CLIPC__N_ACTIVATIONS; a++)
      activations[a] = activations[a] && own->activation_f32[a] != other->activation_f32[a];
  }
  printf("%s:\n", tiers[n].name);
  for (int which = 0; which < 4; which++)
    if (is_new_gemm(tiers, n, which)) check_gemm_of_tier(&tiers[n], which);
  static const char *const names[] = {"", "activation.quick_gelu", "activation.gelu_erf", "activation.gelu_tanh"};
  for (int a = 1; a < CLIPC__N_ACTIVATIONS; a++)
    if (activations[a]) run_group(tiers[n].name, names[a], check_activation, own, a);
  if (finish) run_group(tiers[n].name, "finish", check_finish, own, 0);
  if (norm) run_group(tiers[n].name, "layer_norm", check_layer_norm, own, 0);
  if (softmax) run_group(tiers[n].name, "softmax", check_softmax, own, 0);
  if (transpose) run_group(tiers[n].name, "transpose", check_transpose, own, 0);
  if (peak) run_group(tiers[n].name, "peak", check_peak, own, 0);
}

/* The tables of this CPU from plain C upwards, and plain C with OpenBLAS. */
static size_t find_tiers(struct tier_table *tiers, size_t most) {
  unsigned cpu = clipc__cpu_mask();
  size_t n = 0;
  for (int tier = CLIPC_TIER_PLAIN_C; tier < 32 && n + 1 < most; tier++) {
    unsigned mask = clipc__tier_mask((clipc_tier)tier) & cpu;
    if (clipc__tier_of(mask) != (clipc_tier)tier) continue;
    tiers[n].name = clipc_tier_name((clipc_tier)tier);
    clipc__kernels_init(&tiers[n++].kernels, mask, false);
  }
  if (clipc__has_blas()) {
    tiers[n].name = "openblas";
    clipc__kernels_init(&tiers[n++].kernels, 0, true);
  }
  return n;
}

static int wrong_arguments(const char *what) {
  fprintf(stderr, "checkasm: %s; see --help\n", what);
  return 2;
}

static void catch_crashes(void) {
  static const int numbers[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = crashed;
  for (size_t i = 0; i < COUNT(numbers); i++) sigaction(numbers[i], &action, NULL);
}

int main(int argc, char **argv) {
  bool time_them = false, list = false;
  state.seed = (uint64_t)time(NULL);
  for (int i = 1; i < argc; i++) {
    const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(option, "--help") == 0) return fputs(checkasm_help, stdout), 0;
    if (strcmp(option, "--quick") == 0)
      checkasm_quick = true;
    else if (strcmp(option, "--bench") == 0)
      time_them = true;
    else if (strcmp(option, "--list") == 0)
      list = true;
    else if (strcmp(option, "--seed") == 0 && value)
      state.seed = strtoull(argv[++i], NULL, 0);
    else if (strcmp(option, "--tier") == 0 && value)
      state.tier = argv[++i];
    else if (strcmp(option, "--kernel") == 0 && value)
      state.part = argv[++i];
    else
      return wrong_arguments(option);
  }
  static struct tier_table tiers[16];
  size_t n_tiers = find_tiers(tiers, COUNT(tiers));
  if (list) {
    for (size_t t = 0; t < n_tiers; t++) puts(tiers[t].name);
    return 0;
  }
  if (state.tier) {
    size_t t = 0;
    while (t < n_tiers && strcmp(tiers[t].name, state.tier) != 0) t++;
    if (t == n_tiers) return wrong_arguments("this CPU has no such tier");
    tiers[0] = tiers[t];
    n_tiers = 1;
  }
  if (time_them) return bench(tiers, n_tiers, state.part), 0;
  printf("checkasm: --seed %llu, best tier %s\n", (unsigned long long)state.seed,
         clipc_tier_name(clipc__tier_of(clipc__cpu_mask())));
  catch_crashes();
  for (size_t t = 0; t < n_tiers; t++) check_tier(tiers, t);
  printf("checkasm: %zu checks passed, %zu failed\n", state.n_passed, state.n_failed);
  return state.n_failed ? 1 : state.n_passed == 0 ? wrong_arguments("no kernel has such a name") : 0;
}
