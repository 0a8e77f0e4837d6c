// value — what a map of a test holds under a key.
//
// A number that is its own pointer where the map's values are not read; else an
// object that holds the number.

#ifndef SUPPORT_VALUE_H
#define SUPPORT_VALUE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loam.h"
#include "support/gen.h"

// A new number in *mark, and the value that says it.
static inline void *value_make(bool is_leaf, uint64_t *mark, struct gen *gen) {
    *mark = gen_next(gen) | 1;
    if (is_leaf) {
        return (void *)*mark;
    }
    uint64_t *value = loam_alloc(24);
    assert_non_null(value);
    *value = *mark;
    return value;
}

static inline void value_check(bool is_leaf, uint64_t mark, const void *value) {
    assert_non_null(value);
    assert_int_equal(
        is_leaf ? (uint64_t)(uintptr_t)value : *(const uint64_t *)value, mark);
}

#endif
