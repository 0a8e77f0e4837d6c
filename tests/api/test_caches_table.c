// The table of a cache beside an array that is searched from end to end.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "api/caches_table.h"
#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define MANY ((size_t)SCALED(20000, 3000))

static struct caches_table table;
static uintptr_t all[200000]; // entries, hidden: the table alone keeps them
static size_t count;
static uint64_t number;
static uint64_t seed;

static struct caches_entry *at(size_t i) {
    return LOAM_REVEAL(all[i]);
}

static bool put(uint32_t hash) {
    struct caches_entry *entry = loam_alloc(sizeof *entry);
    assert_non_null(entry);
    entry->hash = hash;
    entry->number = ++number;
    entry->bytes = ~(size_t)number; // to know it by
    if (!caches_table_reserve(&table, hash)) {
        return false;
    }
    caches_table_insert(&table, entry);
    all[count++] = LOAM_HIDE(entry);
    return true;
}

static void drop(size_t i) {
    caches_table_remove(&table, at(i));
    all[i] = all[--count];
}

// CT1, CT2, CT3, and that those are there who should be.
static void check(void) {
    size_t seen = 0;
    uint64_t mark = 0;
    uint64_t last = 0;
    size_t run = 0; // where the slots in use before this one begin
    for (size_t i = 0; i < table.slot_count; i++) {
        const struct caches_slot *slot = &table.slots[i];
        assert_int_equal(slot->mark != 0, slot->entry != NULL);
        if (slot->entry == NULL) {
            run = i + 1;
            continue;
        }
        assert_int_equal(slot->mark, (uint64_t)slot->entry->hash + 1);
        assert_true(slot->mark > mark ||
                    (slot->mark == mark && slot->entry->number > last)); // CT1
        size_t home = caches_table_home(&table, slot->mark - 1);
        assert_true(home <= i && home >= run); // CT2
        assert_int_equal(slot->entry->bytes, ~slot->entry->number);
        mark = slot->mark;
        last = slot->entry->number;
        seen++;
    }
    assert_int_equal(seen, count);
    assert_int_equal(table.count, count);
    assert_true(table.slot_count == 0 ||
                table.slots[table.slot_count - 1].entry == NULL); // CT3
    assert_true(count <= table.home_count / 4 * 3);               // CT6
}

static void check_found(void) {
    for (size_t i = 0; i < count; i++) {
        const struct caches_entry *entry = at(i);
        size_t slot = caches_table_seek(&table, entry->hash);
        while (table.slots[slot].entry != entry) {
            assert_int_equal(table.slots[slot].mark, (uint64_t)entry->hash + 1);
            slot++;
        }
    }
}

static int begin(void **state) {
    (void)state;
    count = 0;
    number = 0;
    caches_table_init(&table);
    return 0;
}

// Hashes of `bits` bits from the top, so that many are the same.
static void run(unsigned bits) {
    struct gen gen;
    gen_init(&gen, seed + bits);
    begin(NULL);
    for (size_t i = 0; i < MANY; i++) {
        bool grows = i / 2000 % 2 == 0;
        if (count == 0 || gen_chance(&gen, grows ? 70 : 35)) {
            uint32_t hash = (uint32_t)(gen_next(&gen) >> 32);
            assert_true(
                put(bits == 0 ? UINT32_MAX : hash & ~0u << (32 - bits)));
            assert_true(table.home_count == CACHES_HOMES_MIN ||
                        count >= table.home_count / 8 - 1); // CT6
        } else {
            drop(gen_below(&gen, count));
        }
        if (i % 97 == 0) {
            check();
        }
    }
    check();
    check_found();
    while (count != 0) {
        drop(count - 1);
    }
    check();
}

static void test_random(void **state) {
    (void)state;
    run(32);
    run(10);
}

// Every hash is the greatest: all stand behind the last home.
static void test_same(void **state) {
    (void)state;
    for (size_t i = 0; i < 700; i++) {
        assert_true(put(UINT32_MAX));
    }
    check();
    assert_int_equal(table.home_count, 1024);
    run(0);
}

// Steps through while half is removed and twice as much is put.
static void test_next(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, seed);
    for (size_t i = 0; i < 1000; i++) {
        assert_true(put((uint32_t)gen_next(&gen) & 0xff0000ff));
    }
    size_t seen = 0;
    uint64_t hash = 0;
    uint64_t last = 0;
    const struct caches_entry *entry;
    while ((entry = caches_table_next(&table, hash, last)) != NULL) {
        hash = entry->hash;
        last = entry->number;
        seen += last <= 500; // these stay
        for (size_t i = count; i-- != 0;) {
            if (at(i)->number > 500 && gen_chance(&gen, 1)) {
                drop(i);
            }
        }
        if (number < 3000) {
            assert_true(put((uint32_t)gen_next(&gen) & 0xff0000ff));
        }
    }
    assert_int_equal(seen, 500);
    assert_null(caches_table_next(&table, UINT32_MAX, UINT64_MAX));
    check();
}

static void test_pick(void **state) {
    (void)state;
    uint64_t random = seed;
    size_t picked[16] = {0};
    for (uint32_t i = 0; i < 16; i++) {
        assert_true(put(i << 28 | i));
    }
    uint64_t first = number - 15;
    for (size_t i = 0; i < 16000; i++) {
        picked[caches_table_pick(&table, &random)->number - first]++;
    }
    for (size_t i = 0; i < 16; i++) {
        assert_in_range(picked[i], 700, 1300);
    }
    // One among very many free slots is found, too.
    for (uint32_t i = 0; i < 5000; i++) {
        assert_true(put(i << 19));
    }
    while (count > 1) {
        drop(count - 1);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_ptr_equal(caches_table_pick(&table, &random), at(0));
    }
}

static void test_refused(void **state) {
    (void)state;
    while (table.home_count < 65536 || count != 65536 / 4 * 3) {
        assert_true(put((uint32_t)gen_mix(seed, count)));
    }
    struct caches_table was = table;
    assert_false(loam_set_limit(1));
    assert_false(put(12345)); // CT5
    assert_memory_equal(&was, &table, sizeof table);
    check();
    assert_true(loam_set_limit(0));
    assert_true(put(12345));
    check();
}

static bool stop;

static void *collect(void *data) {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        (void)loam_collect();
    }
    return data;
}

// Another thread collects all the time: nothing that the table has is lost,
// whatever it is just doing.
static void test_instant(void **state) {
    (void)state;
    pthread_t thread;
    struct gen gen;
    gen_init(&gen, seed);
    assert_int_equal(pthread_create(&thread, NULL, collect, NULL), 0);
    for (size_t i = 0; i < MANY; i++) {
        if (count < 300 || gen_chance(&gen, 50)) {
            // Few homes: long rows to move.
            assert_true(put((uint32_t)gen_next(&gen) & 0xf000ffff));
        } else {
            drop(gen_below(&gen, count));
        }
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    check(); // CT4
}

int main(void) {
    seed = gen_seed("test_caches_table");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_random, begin),
        cmocka_unit_test_setup(test_same, begin),
        cmocka_unit_test_setup(test_next, begin),
        cmocka_unit_test_setup(test_pick, begin),
        cmocka_unit_test_setup(test_refused, begin),
        cmocka_unit_test_setup(test_instant, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
