// Every request and every offset of every span: the domain is small enough.

#include "heap/sizeclass.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_requests(void **state) {
    (void)state;
    unsigned last = CLASS_FIRST;
    for (size_t n = 1; n <= CELL_BYTES_MAX; n++) {
        unsigned cls = sizeclass_of(n);
        size_t bytes = sizeclass_bytes(cls);
        size_t waste = n / 8 + 1 > GRANULE_BYTES ? n / 8 + 1 : GRANULE_BYTES;
        assert_true(cls >= CLASS_FIRST && cls <= CLASS_PLAIN_LAST);
        assert_true(bytes >= n);                                         // S1
        assert_true(cls == CLASS_FIRST || sizeclass_bytes(cls - 1) < n); // S2
        assert_int_equal(bytes % GRANULE_BYTES, 0);                      // S3
        assert_true(bytes - n < waste);                                  // S4
        assert_true(cls == last || cls == last + 1);
        last = cls;
    }
    assert_int_equal(last, CLASS_PLAIN_LAST);
    assert_int_equal(sizeclass_of(SMALL_BYTES_MAX), CLASS_SMALL_LAST);
}

static void test_spans(void **state) {
    (void)state;
    for (unsigned cls = CLASS_FIRST; cls <= CLASS_PLAIN_LAST; cls++) {
        const struct sizeclass *c = &sizeclass_table[cls];
        size_t span_bytes = c->blocks * BLOCK_BYTES;
        size_t used_bytes = (size_t)c->cells * c->bytes;
        assert_true(used_bytes <= span_bytes);
        assert_true(span_bytes - used_bytes < c->bytes); // S5
        assert_true((span_bytes - used_bytes) * 100 <= span_bytes * 9);
        assert_true(c->blocks >= 1 && c->blocks <= 8); // three bits of an entry
        assert_true(cls > CLASS_SMALL_LAST || c->blocks == 1);
        for (size_t blocks = 1; blocks < c->blocks; blocks++) {
            size_t bytes = blocks * BLOCK_BYTES; // a shorter span wastes more
            assert_true(bytes < c->bytes ||
                        bytes % c->bytes * 1000 > bytes * 85);
        }
        assert_int_equal(c->words, (c->cells + 63) / 64);
        assert_true(c->words <= 64);
    }
}

// Cells of a shifted block are those of a plain one, but for the last where it
// would not fit; each trimmed class is the answer for its own size.
static void test_shifted(void **state) {
    (void)state;
    bool met[CLASS_COUNT] = {false};
    for (size_t n = 1; n <= SMALL_BYTES_MAX; n++) {
        unsigned cls = sizeclass_of_shifted(n);
        const struct sizeclass *c = &sizeclass_table[cls];
        const struct sizeclass *plain = &sizeclass_table[sizeclass_of(n)];
        assert_int_equal(c->bytes, plain->bytes); // S8
        assert_int_equal(c->reciprocal, plain->reciprocal);
        assert_int_equal(c->blocks, 1);
        assert_int_equal(c->words, (c->cells + 63) / 64);
        size_t room = BLOCK_BYTES - SHIFT_BYTES;
        assert_int_equal(c->cells, room / c->bytes); // S8
        bool fills = BLOCK_BYTES % c->bytes == 0;
        assert_int_equal(cls > CLASS_PLAIN_LAST, fills);
        met[cls] = true;
    }
    for (unsigned cls = CLASS_TRIMMED_FIRST; cls <= CLASS_LAST; cls++) {
        assert_true(met[cls]);
    }
}

static void test_offsets(void **state) {
    (void)state;
    for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
        const struct sizeclass *c = &sizeclass_table[cls];
        uint64_t cell = 0;
        uint64_t next = c->bytes; // where cell + 1 begins
        for (uint64_t offset = 0; offset < c->blocks * BLOCK_BYTES; offset++) {
            if (offset == next) {
                cell++;
                next += c->bytes;
            }
            if (offset * c->reciprocal >> 40 != cell) { // S6
                fail_msg("class %u, offset %llu", cls,
                         (unsigned long long)offset);
            }
        }
    }
}

// Rows that are no sizes, and numbers that no block can have, turn every offset
// away by themselves.
static void test_no_cells(void **state) {
    (void)state;
    for (unsigned cls = 0; cls < 128; cls++) {
        if (cls < CLASS_FIRST || cls > CLASS_LAST) {
            assert_int_equal(sizeclass_table[cls].cells, 0); // S7
            assert_int_equal(sizeclass_table[cls].reciprocal, 0);
        }
    }
}

static void check_aligned(size_t bytes, size_t alignment) {
    unsigned cls = sizeclass_find_aligned(bytes, alignment);
    if (alignment > BLOCK_BYTES || bytes > CELL_BYTES_MAX) {
        assert_int_equal(cls, CLASS_FREE);
        return;
    }
    assert_true(cls >= CLASS_FIRST && cls <= CLASS_PLAIN_LAST);
    assert_true(sizeclass_bytes(cls) >= bytes);
    assert_int_equal(sizeclass_bytes(cls) % alignment, 0);
    for (unsigned less = sizeclass_of(bytes); less < cls; less++) {
        assert_int_not_equal(sizeclass_bytes(less) % alignment, 0);
    }
}

static void test_aligned(void **state) {
    (void)state;
    for (size_t alignment = 1; alignment <= 2 * BLOCK_BYTES; alignment *= 2) {
        for (size_t bytes = 1; bytes <= CELL_BYTES_MAX + 1; bytes += 13) {
            check_aligned(bytes, alignment);
        }
        check_aligned(CELL_BYTES_MAX, alignment);
        check_aligned(CELL_BYTES_MAX + 1, alignment);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_spans),
        cmocka_unit_test(test_offsets),  cmocka_unit_test(test_shifted),
        cmocka_unit_test(test_no_cells), cmocka_unit_test(test_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
