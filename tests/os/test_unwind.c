// What is said of an address in the code, whatever the address.

#include "os/unwind.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void describe(char *buffer, size_t capacity, const void *code) {
    struct text text;
    text_init(&text, buffer, capacity);
    errno = 83;
    unwind_describe(&text, code);
    assert_int_equal(errno, 83); // U3
    assert_true(text.count > 0); // U1
}

// U1
static void test_wild(void **state) {
    (void)state;
    char buffer[256], want[64];
    uintptr_t wild[] = {0, 1, 8, 0xdeadbeef, UINTPTR_MAX, (uintptr_t)buffer};
    for (size_t index = 0; index < sizeof wild / sizeof *wild; index++) {
        describe(buffer, sizeof buffer, (const void *)wild[index]);
        (void)snprintf(want, sizeof want, "0x%llx",
                       (unsigned long long)wild[index]);
        assert_string_equal(buffer, want);
    }
}

// An address inside a function of a library that exports it.
static void test_exported(void **state) {
    (void)state;
    char buffer[256], want[512];
    const char *known = dlsym(RTLD_DEFAULT, "a64l");
    assert_non_null(known);
    Dl_info found;
    assert_int_not_equal(dladdr(known + 1, &found), 0);
    describe(buffer, sizeof buffer, known + 1);
    assert_int_equal(strncmp(buffer, "a64l+0x1 (", 10), 0);
    const char *slash = strrchr(found.dli_fname, '/');
    (void)snprintf(want, sizeof want, "a64l+0x1 (%s+0x%llx)",
                   slash == NULL ? found.dli_fname : slash + 1,
                   (unsigned long long)((uintptr_t)known + 1 -
                                        (uintptr_t)found.dli_fbase));
    assert_string_equal(buffer, want); // U2
}

// The lowest address at which a file is mapped, from the system.
static uintptr_t base_of(const char *name) {
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    char line[1024];
    uintptr_t base = 0;
    while (base == 0 && fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, name) != NULL) {
            base = (uintptr_t)strtoull(line, NULL, 16);
        }
    }
    (void)fclose(maps);
    return base;
}

// U2: a static function of this program has no name, but a place.
static void test_own(void **state) {
    (void)state;
    char buffer[256];
    uintptr_t code = 0;
    void (*function)(void **) = test_own;
    memcpy(&code, &function, sizeof code);
    describe(buffer, sizeof buffer, (const void *)(code + 2));
    char *name = strstr(buffer, "test_unwind+0x");
    char *plus = name == NULL ? NULL : strchr(name, '+');
    if (plus == NULL) {
        fail_msg("\"%s\" does not name the program", buffer);
        return;
    }
    uintptr_t offset = (uintptr_t)strtoull(plus + 1, NULL, 16);
    assert_true(offset + base_of("test_unwind") == code + 2);
}

// U1: and a small text is cut, not overrun.
static void test_small(void **state) {
    (void)state;
    char buffer[16];
    struct text text;
    memset(buffer, '#', sizeof buffer);
    text_init(&text, buffer, 8);
    unwind_describe(&text, dlsym(RTLD_DEFAULT, "a64l"));
    assert_string_equal(buffer, "a64l...");
    assert_int_equal(buffer[8], '#');
}

static __attribute__((noinline)) size_t take(uintptr_t *frames, size_t most) {
    return unwind_stack(__builtin_return_address(0), frames, most);
}

// U4: nothing before it is ready; then from the caller on, and no more than is
// asked for.
static void test_stack(void **state) {
    (void)state;
    uintptr_t frames[8] = {0};
    assert_int_equal(take(frames, 8), 0);
    unwind_ready();
    size_t count = take(frames, 8);
    assert_true(count >= 1 && count <= 8);
    assert_in_range(frames[0], (uintptr_t)test_stack,
                    (uintptr_t)test_stack + 4096);
    assert_int_equal(take(frames, 1), 1);
    uintptr_t start, end;
    unwind_loader(&start, &end);
    assert_true(start < end);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wild),  cmocka_unit_test(test_exported),
        cmocka_unit_test(test_own),   cmocka_unit_test(test_small),
        cmocka_unit_test(test_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
