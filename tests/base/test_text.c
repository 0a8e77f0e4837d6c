// Every sentence at every capacity, beside what printf makes of it.

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WIDE 128u

// Appends one thing; `which` says what.
#define THINGS 12u

static void add_thing(struct text *text, size_t which) {
    switch (which) {
    case 0:
        text_add(text, "");
        break;
    case 1:
        text_add(text, "collected ");
        break;
    case 2:
        text_add_number(text, 0);
        break;
    case 3:
        text_add_number(text, 1234567);
        break;
    case 4:
        text_add_number(text, UINT64_MAX);
        break;
    case 5:
        text_add_hex(text, 0);
        break;
    case 6:
        text_add_hex(text, 0x7f00a8);
        break;
    case 7:
        text_add_hex(text, UINTPTR_MAX);
        break;
    case 8:
        text_add_size(text, 640);
        break;
    case 9:
        text_add_size(text, 3407872);
        break;
    case 10:
        text_add_time(text, 1259999);
        break;
    default:
        text_add(text, "x");
        break;
    }
}

static const char *const whole[THINGS] = {"",
                                          "collected ",
                                          "0",
                                          "1234567",
                                          "18446744073709551615",
                                          "0x0",
                                          "0x7f00a8",
                                          "0xffffffffffffffff",
                                          "640 B",
                                          "3.2 MiB",
                                          "1.25 ms",
                                          "x"};

// What a text of this capacity shows of a sentence.
static void cut(char *want, const char *sentence, size_t capacity) {
    size_t room = capacity - 1;
    size_t length = strlen(sentence);
    if (length <= room) {
        memcpy(want, sentence, length + 1);
        return;
    }
    memcpy(want, sentence, room);
    for (size_t back = 1; back <= 3 && back <= room; back++) {
        want[room - back] = '.';
    }
    want[room] = '\0';
}

static void check_pair(size_t first, size_t second, size_t capacity) {
    char guarded[8 + WIDE], want[WIDE], sentence[WIDE];
    char *buffer = guarded + 8;
    memset(guarded, '#', sizeof guarded);
    struct text text;
    text_init(&text, buffer, capacity);
    assert_string_equal(buffer, ""); // X1
    add_thing(&text, first);
    add_thing(&text, second);
    (void)snprintf(sentence, sizeof sentence, "%s%s", whole[first],
                   whole[second]);
    cut(want, sentence, capacity);
    assert_string_equal(buffer, want); // X3
    assert_int_equal(text.count, strlen(buffer));
    assert_true(text.count < capacity); // X1
    for (size_t index = capacity; index < WIDE; index++) {
        assert_int_equal(buffer[index], '#'); // X2
    }
    assert_memory_equal(guarded, "########", 8); // X2
    bool was_cut = strlen(sentence) > capacity - 1;
    text_add(&text, "more");
    if (was_cut) {
        assert_string_equal(buffer, want); // X3
    }
}

static void test_every_capacity(void **state) {
    (void)state;
    for (size_t first = 0; first < THINGS; first++) {
        for (size_t second = 0; second < THINGS; second++) {
            for (size_t capacity = 1; capacity < 64; capacity++) {
                check_pair(first, second, capacity);
            }
        }
    }
}

static void test_numbers(void **state) {
    (void)state;
    char buffer[WIDE], want[WIDE];
    struct text text;
    for (size_t log = 0; log < 64; log++) {
        for (uint64_t near = 0; near < 3; near++) {
            uint64_t number = ((uint64_t)1 << log) - 1 + near;
            text_init(&text, buffer, sizeof buffer);
            text_add_number(&text, number);
            text_add(&text, " ");
            text_add_hex(&text, (uintptr_t)number);
            (void)snprintf(want, sizeof want, "%llu 0x%llx",
                           (unsigned long long)number,
                           (unsigned long long)number);
            assert_string_equal(buffer, want);
        }
    }
}

static void check_size(size_t bytes, const char *want) {
    char buffer[WIDE];
    struct text text;
    text_init(&text, buffer, sizeof buffer);
    text_add_size(&text, bytes);
    assert_string_equal(buffer, want);
}

static void test_sizes(void **state) {
    (void)state;
    check_size(0, "0 B");
    check_size(1, "1 B");
    check_size(1023, "1023 B");
    check_size(KiB, "1.0 KiB");
    check_size(KiB + 102, "1.0 KiB");
    check_size(KiB + 103, "1.1 KiB");
    check_size(MiB - 1, "1023.9 KiB");
    check_size(MiB, "1.0 MiB");
    check_size(GiB - 1, "1023.9 MiB");
    check_size(5 * GiB / 2, "2.5 GiB");
    check_size((size_t)7 << 40, "7.0 TiB");
    check_size((size_t)3 << 49, "1.5 PiB");
    check_size(SIZE_MAX, "15.9 EiB");
}

static void check_time(uint64_t ns, const char *want) {
    char buffer[WIDE];
    struct text text;
    text_init(&text, buffer, sizeof buffer);
    text_add_time(&text, ns);
    assert_string_equal(buffer, want);
}

static void test_times(void **state) {
    (void)state;
    check_time(0, "0 ns");
    check_time(870, "870 ns");
    check_time(999, "999 ns");
    check_time(1000, "1.00 us");
    check_time(1009, "1.00 us");
    check_time(1010, "1.01 us");
    check_time(12345, "12.34 us");
    check_time(999999, "999.99 us");
    check_time(1000000, "1.00 ms");
    check_time(1250000, "1.25 ms");
    check_time(1000000000, "1.00 s");
    check_time(60000000000, "60.00 s");
    check_time(UINT64_MAX, "18446744073.70 s");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_capacity),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
