// seconds: 300
// api/leak: what is lost is told, with who made it (LK1 to LK5).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "api/leak.h"
#include "api/object.h"
#include "api/served.h"
#include "support/scrub.h"

#define CALLER ((const void *)(uintptr_t)0x4000)

static void *kept[64];

// LK1, LK2: zero, with all that it says may be used; in every size.
static void test_ready(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 8, 9, 24, 4000, 8192, 70000, 3000000};
    assert_true(leak_is_on() || served_make(1, NULL) != NULL);
    assert_true(leak_is_on());
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t turn = 0; turn < 20; turn++) {
            unsigned char *p = turn % 2 == 0
                                   ? served_make(sizes[i], CALLER)
                                   : served_make_aligned(64, sizes[i], CALLER);
            size_t bytes = served_bytes(p);
            assert_true(bytes >= sizes[i]);
            for (size_t at = 0; at < bytes; at++) {
                assert_int_equal(p[at], 0);
            }
            struct place place;
            assert_true(object_is_start(p, &place));
            memset(p, 0xEE, bytes);
            size_t asked;
            uint32_t id;
            assert_true(origin_read(&place, &asked, &id));
            assert_int_equal(asked, sizes[i] == 0 ? 1 : sizes[i]);
            assert_ptr_equal((void *)origin_code(id), CALLER);
            assert_true(served_free(p));
        }
    }
}

static size_t found(const void *caller, struct origin_sum *indirect) {
    for (size_t i = 0; leak_get(i) != NULL; i++) {
        const struct origin *origin = leak_get(i);
        if (origin->frames[0] == (uintptr_t)caller) {
            *indirect = origin->indirect;
            return origin->direct.bytes;
        }
    }
    *indirect = (struct origin_sum){0, 0};
    return 0;
}

static NOT_INLINED void lose(void) {
    for (size_t i = 0; i < 10; i++) {
        void **p = served_make(100, (const void *)(uintptr_t)0x5000);
        *p = served_make(200, (const void *)(uintptr_t)0x6000);
        kept[i] = (char *)served_make(300, CALLER) + 123;
    }
    bool known;
    void *q = served_make(10, CALLER);
    q = served_resize(q, 9000, (const void *)(uintptr_t)0x7000, &known);
    assert_non_null(q);
    assert_true(known);
}

// LK3: the sums are of what was lost and of nothing else.  What a stale word
// seems to keep is at most an object or two.
static void test_known(void **state) {
    (void)state;
    struct origin_sum lost[2], indirect;
    lose();
    scrub_stack();
    assert_true(leak_look(lost));
    size_t direct = found((const void *)(uintptr_t)0x5000, &indirect);
    assert_true(direct >= 800 && direct <= 1000);
    (void)found((const void *)(uintptr_t)0x6000, &indirect);
    assert_true(indirect.bytes >= 1600 && indirect.bytes <= 2000);
    assert_int_equal(found(CALLER, &indirect), 0);
    size_t before = found((const void *)(uintptr_t)0x7000, &indirect);
    assert_true(before == 9000 || before == 0);
    assert_true(lost[0].bytes >= direct);
    memset(kept, 0, sizeof kept); // and what is lost later is found later
    assert_true(leak_look(lost));
    assert_true(found(CALLER, &indirect) >= 2400);
}

// LK4: unwinding is for places that are known; in the middle of it none is.
static void test_calm(void **state) {
    (void)state;
    for (size_t i = 0; i < 10000; i++) {
        void *p = served_make(16, CALLER);
        assert_non_null(p);
        assert_true(served_free(p));
    }
}

static NOT_INLINED void lose_spared(void **region) {
    const void *caller = (const void *)(uintptr_t)0x8000;
    leak_spare(true);
    leak_spare(true);
    leak_spare(false);
    void **p = served_make(1000, caller);
    bool known;
    p = served_resize(p, 2000, caller, &known);
    leak_spare(false);
    leak_spare(false); // one too many
    *p = served_make(100, caller);
    p = served_make(100, caller);
    leak_ignore((char *)p + 50);
    *p = served_make(100, caller);
    leak_ignore(NULL);
    leak_ignore(&known);
    region[3] = served_make(100, caller);
    region[4] = served_make(100, (const void *)(uintptr_t)0x9000);
    for (size_t i = 0; i < 10; i++) {
        p = served_make(300, (const void *)(uintptr_t)0xA000);
    }
}

// LK5: neither what is spared nor what that or a region leads to is told.
static void test_spared(void **state) {
    (void)state;
    struct origin_sum lost[2], indirect;
    size_t bytes = 3 * 4096;
    void **region = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(region != MAP_FAILED);
    lose_spared(region);
    assert_int_equal(mprotect((char *)region + 4096, 4096, PROT_NONE), 0);
    assert_true(leak_add_region((char *)region + 3, bytes - 3));
    assert_true(leak_add_region(region, 2 * bytes));
    for (size_t i = 0; i < 20; i++) {
        assert_true(leak_add_region(&region[4], 8));
    }
    for (size_t i = 0; i < 20; i++) {
        leak_remove_region(&region[4], 8);
    }
    leak_remove_region(&region[4], 16);
    leak_remove_region(region, 2 * bytes);
    scrub_stack();
    assert_true(leak_look(lost));
    assert_int_equal(found((const void *)(uintptr_t)0x8000, &indirect), 0);
    assert_int_equal(indirect.bytes, 0);
    assert_int_equal(found((const void *)(uintptr_t)0x9000, &indirect), 0);
    assert_true(found((const void *)(uintptr_t)0xA000, &indirect) >= 2400);
    leak_remove_region((char *)region + 3, bytes - 3);
    assert_true(leak_look(lost));
    assert_int_equal(found((const void *)(uintptr_t)0x8000, &indirect), 100);
    assert_int_equal(found((const void *)(uintptr_t)0x9000, &indirect), 100);
    assert_int_equal(munmap(region, bytes), 0);
}

int main(void) {
    (void)setenv("LOAM_MODE", "leakcheck", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_calm),
        cmocka_unit_test(test_spared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
