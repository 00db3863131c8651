/* What every test file starts with: cmocka and the headers that it wants first. */
#ifndef CLIPC_TESTING_H
#define CLIPC_TESTING_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#endif
