// Meta memory from a system that refuses.

#include "heap/meta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/fault.h"

static void test_refused(void **state) {
    (void)state;
    char *piece = meta_make(1000);
    assert_non_null(piece);
    memset(piece, 7, 1000);
    size_t before = meta_bytes();
    fault_arm_from(1);
    for (size_t bytes = META_MAP_BYTES / 2 + 1; bytes < 8 * META_MAP_BYTES;
         bytes += 30000) {
        assert_null(meta_make(bytes)); // M3
    }
    char *last;
    while ((last = meta_make(5000)) != NULL) {
        assert_int_equal(last[0], 0); // the rest of the mapping
    }
    assert_int_equal(meta_bytes(), before); // M4
    fault_disarm();
    assert_non_null(meta_make(5000));
    assert_non_null(meta_make(META_MAP_BYTES));
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(piece[i], 7); // M3
    }
}

// A mapping is reserved and committed: whichever is refused, nothing is kept.
static void test_each_call(void **state) {
    (void)state;
    for (size_t n = 1;; n++) {
        size_t before = meta_bytes();
        fault_arm(n);
        void *piece = meta_make(3 * META_MAP_BYTES);
        fault_disarm();
        bool refused = fault_hits() >= n;
        if (piece == NULL) {
            assert_true(refused);
            assert_int_equal(meta_bytes(), before); // M3
            continue;
        }
        // Some refusals are got round (os/memory.h).
        assert_int_equal(meta_bytes(), before + 3 * META_MAP_BYTES);
        meta_free(piece, 3 * META_MAP_BYTES);
        if (!refused) {
            return;
        }
    }
}

static void test_absurd(void **state) {
    (void)state;
    assert_null(meta_make(SIZE_MAX)); // M3
    assert_null(meta_make(SIZE_MAX - 4095));
    assert_null(meta_make((size_t)1 << 60));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_each_call),
        cmocka_unit_test(test_absurd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
