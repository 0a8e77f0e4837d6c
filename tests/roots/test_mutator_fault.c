// A mutator without memory: no cache, and no half of one.

#include "roots/mutator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault.h"

static struct heap heap, other;

// The chain is walked from the newest: the caches are counted down.
static void count_down(struct cache *cache, void *data) {
    size_t *left = data;
    assert_int_equal(cache->order.layout, (*left)--);
}

static void test_refused(void **state) {
    (void)state;
    struct mutator *mutator = NULL;
    size_t refusals = 0;
    fault_arm_from(1);
    assert_null(mutator_make(1, &heap, false));
    fault_disarm();
    mutator = mutator_make(1, &heap, false);
    assert_non_null(mutator);
    struct cacheset *home = &mutator->home;
    fault_arm_from(1);
    bool none = mutator_add_set(mutator, &other) == NULL;
    fault_disarm();
    assert_int_equal(none, mutator_find_set(mutator, &other) == NULL);
    for (unsigned layout = 1; layout <= 3000; layout++) {
        struct order order = {KIND_DESCRIBED, 5, layout};
        fault_arm_from(1);
        struct cache *cache = mutator_add_cache(mutator, home, order);
        fault_disarm();
        if (cache == NULL) {
            refusals++;
            assert_null(mutator_find_cache(home, order));
            cache = mutator_add_cache(mutator, home, order);
        }
        assert_non_null(cache);
        size_t left = layout;
        mutator_each_cache(mutator, &heap, count_down, &left);
        assert_int_equal(left, 0); // U1
    }
    assert_int_not_equal(refusals, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
