// Counted values in caches: owned while they are in, destroyed when they go.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loam/cache.h"
#include "loam/rc.h"
#include "support/scrub.h"

struct page {
    struct page *next;
    char text[48];
};

static size_t destroyed;

static void page_destroy(void *object) {
    (void)object;
    destroyed++;
}

static LOAM_TYPE(page_type, struct page, LOAM_OWNS(struct page, next),
                 .destroy = page_destroy);

static const void *word(uintptr_t number) {
    return (const void *)number;
}

static void test_owned(void **state) {
    (void)state;
    struct loam_cache *cache =
        loam_cache_make(&(struct loam_cache_settings){.keys = LOAM_CACHE_WORDS,
                                                      .max_bytes = 1 << 20},
                        sizeof(struct loam_cache_settings));
    assert_non_null(cache);
    struct page *page = loam_new(&page_type);
    assert_true(loam_cache_put(cache, word(1), page));
    assert_int_equal(loam_count(page), 2);
    loam_release(page); // the cache owns it alone
    assert_int_equal(destroyed, 0);
    assert_ptr_equal(loam_cache_get(cache, word(1)), page);
    assert_true(loam_cache_put(cache, word(1), loam_alloc(16)));
    assert_int_equal(destroyed, 1);
    page = loam_new(&page_type);
    assert_true(loam_cache_put(cache, word(2), page));
    loam_release(page);
    assert_true(loam_cache_remove(cache, word(2)));
    assert_int_equal(destroyed, 2);
    page = loam_new(&page_type);
    assert_true(loam_cache_put(cache, word(3), page));
    loam_release(page);
    loam_cache_clear(cache);
    assert_int_equal(destroyed, 3);
}

static NOT_INLINED void leave_one(size_t values) {
    struct loam_cache *cache =
        loam_cache_make(&(struct loam_cache_settings){.keys = LOAM_CACHE_WORDS,
                                                      .max_bytes = 1 << 20},
                        sizeof(struct loam_cache_settings));
    for (size_t i = 0; i < values; i++) {
        struct page *page = loam_new(&page_type);
        memcpy(page->text, &cache, sizeof cache); // and back
        assert_true(loam_cache_put(cache, word(i), page));
        assert_true(loam_cache_put(cache, word(i + 1), page));
        loam_release(page);
    }
}

// CA10: values lead to their cache, and stand in it twice.
static void test_dead(void **state) {
    (void)state;
    for (size_t round = 0; round < 2; round++) {
        destroyed = 0;
        for (size_t i = 0; i < 20; i++) {
            leave_one(10);
        }
        for (size_t i = 0; i < 3; i++) {
            assert_true(scrub_collect());
            (void)loam_settle();
        }
        assert_in_range(destroyed, 180,
                        200 + 20 * round); // a stray word or two
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_owned),
                                       cmocka_unit_test(test_dead)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
