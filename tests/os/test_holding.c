// The list of what Loam has reserved, against a map of a bit a page; and read
// while others change it.

#include "os/holding.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/gen.h"

#define BASE  ((uintptr_t)1 << 20)
#define UNIT  ((uintptr_t)4096)
#define UNITS 64

static struct holding list[HOLDING_MOST];

static uintptr_t at(size_t unit) {
    return BASE + unit * UNIT;
}

// H1, and whether unit after unit is listed.
static void expect(const bool *units, size_t count) {
    size_t extents = holding_read(list);
    uintptr_t last = 0;
    for (size_t index = 0; index < extents; index++) {
        assert_true(list[index].start < list[index].end);
        assert_true(list[index].start > last); // H1: nor do they touch
        last = list[index].end;
    }
    for (size_t unit = 0; unit < count; unit++) {
        bool listed = false;
        for (size_t index = 0; index < extents; index++) {
            listed |= list[index].start <= at(unit) &&
                      at(unit + 1) <= list[index].end;
        }
        assert_int_equal(listed, units[unit]); // H2
    }
}

static void remove_all(void) {
    holding_remove(1, UINTPTR_MAX);
    assert_int_equal(holding_read(list), 0);
}

// H1, H2
static void test_union(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("test_union"));
    bool units[UNITS] = {false};
    for (size_t step = 0; step < 20000; step++) {
        size_t from = gen_below(&gen, UNITS);
        size_t to = from + 1 + gen_below(&gen, UNITS - from);
        to = to - from > 8 ? from + 8 : to;
        if (gen_below(&gen, 2) == 0) {
            if (!holding_add(at(from), at(to))) {
                assert_int_equal(holding_read(list), HOLDING_MOST);
                continue;
            }
            memset(units + from, 1, to - from);
        } else if (holding_read(list) < HOLDING_MOST) {
            holding_remove(at(from), at(to));
            memset(units + from, 0, to - from);
        }
        expect(units, UNITS);
    }
    remove_all();
}

// H2: what does not fit is not listed, and no more than that.
static void test_full(void **state) {
    (void)state;
    for (size_t unit = 0; unit < 4 * HOLDING_MOST; unit += 4) {
        assert_true(holding_add(at(unit), at(unit + 3)));
    }
    assert_false(holding_add(BASE - 2 * UNIT, BASE - UNIT));
    assert_int_equal(holding_read(list), HOLDING_MOST);
    assert_int_equal(list[0].start, BASE);
    // One that touches its neighbour needs no room.
    assert_true(holding_add(BASE - UNIT, BASE));
    assert_int_equal(holding_read(list), HOLDING_MOST);
    assert_int_equal(list[0].start, BASE - UNIT);
    // A hole takes the smaller side with it.
    holding_remove(at(1), at(2));
    assert_int_equal(holding_read(list), HOLDING_MOST);
    assert_int_equal(list[0].start, BASE - UNIT);
    assert_int_equal(list[0].end, at(1));
    assert_int_equal(list[1].start, at(4));
    // A whole one that goes makes room.
    holding_remove(at(4), at(7));
    assert_int_equal(holding_read(list), HOLDING_MOST - 1);
    holding_remove(at(9), at(10));
    assert_int_equal(holding_read(list), HOLDING_MOST);
    remove_all();
}

extern char __bss_start[], _end[]; // NOLINT: the linker's

// Whether any word of the zeroed variables is an address of `thing`.
NO_SANITIZE static bool holds_address(uintptr_t thing) {
    uintptr_t word = ((uintptr_t)__bss_start + 7) / 8 * 8;
    for (; word + WORD_BYTES <= (uintptr_t)_end; word += WORD_BYTES) {
        if (*(volatile uintptr_t *)word == thing) { // NOLINT
            return true;
        }
    }
    return false;
}

// H4
static void test_hidden(void **state) {
    (void)state;
    size_t count = holding_read(list);
    static uintptr_t thing;
    assert_true(holding_add((uintptr_t)&thing, (uintptr_t)(&thing + 1)));
    assert_int_equal(holding_read(list), count + 1);
    assert_int_equal(list[0].start, (uintptr_t)&thing);
    memset(list, 0, sizeof list);
    assert_false(holds_address((uintptr_t)&thing));
    list[0].start = (uintptr_t)&thing;
    assert_true(holds_address((uintptr_t)&thing)); // it would be found
    remove_all();
}

// --- Others ----------------------------------------------------------------

enum { THREADS = 3, TURNS = 1000000, CHILDREN = 100 };

static uint32_t enough; // threads are to end

static void *change(void *data) {
    size_t from = 16 * (size_t)(uintptr_t)data;
    while (__atomic_load_n(&enough, __ATOMIC_ACQUIRE) == 0) {
        assert_true(holding_add(at(from), at(from + 4)));
        assert_true(holding_add(at(from + 4), at(from + 8)));
        holding_remove(at(from), at(from + 8));
    }
    return NULL;
}

// H3: a reader sees each thread's extents whole or not at all.
static void test_at_once(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    enough = 0;
    for (size_t index = 0; index < THREADS; index++) {
        void *data = (void *)(uintptr_t)index; // NOLINT: a number
        assert_int_equal(pthread_create(&threads[index], NULL, change, data),
                         0);
    }
    for (size_t turn = 0; turn < TURNS; turn++) {
        size_t count = holding_read(list);
        assert_true(count <= THREADS);
        for (size_t index = 0; index < count; index++) {
            size_t unit = (size_t)((list[index].start - BASE) / UNIT);
            size_t units =
                (size_t)((list[index].end - list[index].start) / UNIT);
            assert_int_equal(unit % 16, 0);
            assert_true(units == 4 || units == 8);
        }
    }
    __atomic_store_n(&enough, 1, __ATOMIC_RELEASE);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_join(threads[index], NULL), 0);
    }
    assert_int_equal(holding_read(list), 0);
}

// H3: children of threads that are in the middle of changes.
static void test_forked(void **state) {
    (void)state;
    pthread_t thread;
    enough = 0;
    assert_int_equal(pthread_create(&thread, NULL, change, NULL), 0);
    for (size_t turn = 0; turn < CHILDREN; turn++) {
        pid_t child = fork();
        if (child == 0) {
            holding_forked();
            size_t count = holding_read(list);
            bool good = count <= 1 && holding_add(at(100), at(101)) &&
                        holding_read(list) == count + 1;
            _exit(good ? 0 : 1);
        }
        int status = 1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    __atomic_store_n(&enough, 1, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    remove_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_union),  cmocka_unit_test(test_full),
        cmocka_unit_test(test_hidden), cmocka_unit_test(test_at_once),
        cmocka_unit_test(test_forked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
