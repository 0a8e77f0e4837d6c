// The wheel beside a list of times.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/caches_wheel.h"
#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define COUNT 300
#define STEPS ((size_t)SCALED(100000, 10000))

static struct caches_alarm *alarms[COUNT];
static unsigned rings[COUNT]; // where it was when it was last seen
static bool there[COUNT];
static uint64_t seed;

static size_t index_of(const struct caches_alarm *alarm) {
    return (size_t)(uintptr_t)alarm->entry;
}

// CW1: each is in the ring of the highest six bits in which its time differs.
static void check(const struct caches_wheel *wheel) {
    size_t seen = 0;
    for (unsigned ring = 0; ring < CACHES_WHEEL_RINGS; ring++) {
        for (unsigned place = 0; place < CACHES_WHEEL_PLACES; place++) {
            if ((wheel->used[ring] >> place & 1) == 0) {
                continue;
            }
            const struct caches_alarm *alarm = wheel->places[ring][place];
            const struct caches_alarm *sooner = NULL;
            assert_non_null(alarm);
            for (; alarm != NULL; alarm = alarm->later) {
                size_t i = index_of(alarm);
                assert_true(there[i] && alarm == alarms[i]);
                assert_ptr_equal(alarm->sooner, sooner);
                uint64_t apart = alarm->expires ^ wheel->now;
                assert_true(ring == 10 || apart >> (ring + 1) * 6 == 0);
                assert_true(ring == 0 || apart >> ring * 6 != 0);
                assert_int_equal(alarm->expires >> ring * 6 & 63, place);
                assert_true(ring <= rings[i]); // CW3: only ever down
                rings[i] = ring;
                sooner = alarm;
                seen++;
            }
        }
    }
    assert_int_equal(seen, wheel->count);
}

static void add(struct caches_wheel *wheel, size_t i, uint64_t expires) {
    *alarms[i] = (struct caches_alarm){
        .entry = (struct caches_entry *)(uintptr_t)i, .expires = expires};
    there[i] = true;
    rings[i] = CACHES_WHEEL_RINGS;
    caches_wheel_add(wheel, alarms[i]);
}

// CW2: all that are due, each once, in order of time, and no other.
static void pass(struct caches_wheel *wheel, uint64_t now) {
    struct caches_alarm *alarm;
    uint64_t last = 0;
    bool lazy = now < wheel->next;
    while ((alarm = caches_wheel_due(wheel, now)) != NULL) {
        size_t i = index_of(alarm);
        assert_false(lazy); // CW4
        assert_true(there[i] && alarm->expires <= now);
        assert_true(alarm->expires >= last);
        last = alarm->expires;
        there[i] = false;
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(!there[i] || alarms[i]->expires > now);
    }
    assert_int_equal(wheel->now, now);
}

// Times from now to far away; many the same.
static uint64_t some_time(struct gen *gen, uint64_t now) {
    uint64_t away = (gen_next(gen) >> gen_below(gen, 64)) + 1;
    away = away == 0 ? 1 : away;
    away = gen_chance(gen, 20) ? 1000 : away;
    return away >= UINT64_MAX - now ? UINT64_MAX - 1 : now + away;
}

static void run(uint64_t start, unsigned bits) {
    struct gen gen;
    gen_init(&gen, seed + bits);
    memset(there, 0, sizeof there);
    struct caches_wheel *wheel = caches_wheel_make(start);
    assert_non_null(wheel);
    uint64_t now = start;
    for (size_t step = 0; step < STEPS && now < UINT64_MAX / 2; step++) {
        size_t i = gen_below(&gen, COUNT);
        if (!there[i]) {
            add(wheel, i, some_time(&gen, now));
        } else if (gen_chance(&gen, 50)) {
            caches_wheel_remove(wheel, alarms[i]);
            there[i] = false;
        }
        if (gen_chance(&gen, 30)) {
            now += gen_next(&gen) >> (64 - gen_below(&gen, bits + 1) - 1);
            pass(wheel, now);
        }
        if (step % 16 == 0) {
            check(wheel);
        }
    }
    pass(wheel, UINT64_MAX - 1);
    check(wheel);
    assert_int_equal(wheel->count, 0);
}

static void test_random(void **state) {
    (void)state;
    run(0, 20);
    run(1234567890123456789, 4);
    run((uint64_t)1 << 62, 40);
    run(63, 62);
}

// A time at which all rings turn at once.
static void test_turn(void **state) {
    (void)state;
    memset(there, 0, sizeof there);
    uint64_t edge = (uint64_t)1 << 60;
    struct caches_wheel *wheel = caches_wheel_make(edge - 1);
    assert_non_null(wheel);
    add(wheel, 0, edge);
    add(wheel, 1, edge + 1);
    add(wheel, 2, edge + 64);
    assert_int_equal(wheel->next, edge);
    pass(wheel, edge);
    assert_true(!there[0] && there[1] && there[2]);
    pass(wheel, edge + 63);
    assert_true(!there[1] && there[2]);
    check(wheel);
    pass(wheel, edge + 64);
    assert_false(there[2]);
}

static int setup(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        alarms[i] = loam_alloc(sizeof *alarms[i]);
        assert_non_null(alarms[i]);
    }
    return 0;
}

int main(void) {
    seed = gen_seed("test_caches_wheel");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_turn),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
