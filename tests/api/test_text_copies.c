// loam_strdup and loam_strndup: copies of a text, as leaves.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"

static void test_strdup(void **state) {
    (void)state;
    char text[3000];
    for (size_t length = 0; length < sizeof text; length++) {
        memset(text, 'x', length);
        text[length] = '\0';
        char *copy = loam_strdup(text);
        assert_ptr_not_equal(copy, text);
        assert_ptr_equal(loam_base(copy), copy);
        assert_true(loam_usable_size(copy) > length);
        assert_string_equal(copy, text);
    }
}

// A text without an end within bytes_max is read no further than that.
static void test_strndup(void **state) {
    (void)state;
    char text[64];
    memset(text, 'y', sizeof text);
    for (size_t max = 0; max <= sizeof text; max++) {
        char *copy = loam_strndup(text, max);
        assert_int_equal(strlen(copy), max);
        assert_memory_equal(copy, text, max);
    }
    text[10] = '\0';
    assert_int_equal(strlen(loam_strndup(text, 64)), 10);
    assert_int_equal(strlen(loam_strndup(text, 11)), 10);
    assert_int_equal(strlen(loam_strndup(text, 10)), 10);
    assert_int_equal(strlen(loam_strndup(text, 9)), 9);
    const volatile size_t all = SIZE_MAX;
    assert_string_equal(loam_strndup("short", all), "short");
    assert_string_equal(loam_strndup("", 0), "");
}

// A leaf: what looks like a pointer in a text keeps nothing.
NOT_INLINED static void put_address(char *text, uintptr_t *hidden) {
    char *victim = loam_alloc(64);
    *hidden = LOAM_HIDE(victim);
    memcpy(text, &victim, sizeof victim);
}

static void test_leaf(void **state) {
    (void)state;
    enum { COUNT = 100 };
    static char *texts[COUNT];
    uintptr_t hidden[COUNT];
    size_t gone = 0;
    loam_disable(); // no address twice
    for (size_t i = 0; i < COUNT; i++) {
        texts[i] = loam_strdup("a text of sixteen");
        put_address(texts[i], &hidden[i]);
    }
    loam_enable();
    scrub_collect();
    for (size_t i = 0; i < COUNT; i++) {
        gone += !loam_is_heap(LOAM_REVEAL(hidden[i]));
        assert_true(loam_is_heap(texts[i]));
    }
    assert_true(gone >= COUNT - 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strdup),
        cmocka_unit_test(test_strndup),
        cmocka_unit_test(test_leaf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
