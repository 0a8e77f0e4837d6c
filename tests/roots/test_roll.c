// Who is here: records by id, mutators by id, and what is left of the dead.

#include "roots/roll.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "heap/meta.h"
#include "os/thread.h"
#include "roots/mutator.h"
#include "support/gen.h"

#define IDS 3000u

static struct roll roll;
static bool here[IDS]; // as the test believes
static size_t buried;

static void note(struct mutator *mutator) {
    assert_int_equal(mutator->thread, 0);
    buried++;
}

// Ids spread over many leaves.
static uint32_t id_of(size_t index) {
    return (uint32_t)(index * 1367 % 4000000 + 5);
}

// J1, J3
static void check(void) {
    size_t count = 0, strangers = 0, listed = 0;
    for (size_t i = 0; i < IDS; i++) {
        struct record *record = roll_find(&roll, id_of(i));
        assert_int_equal(record != NULL, here[i]);
        count += here[i];
        if (record != NULL) {
            assert_int_equal(record->thread, id_of(i));
            strangers += record->mutator == NULL;
        }
    }
    for (struct record *r = roll.records; r != NULL; r = r->next) {
        assert_ptr_equal(*r->link, r);
        assert_ptr_equal(roll_find(&roll, r->thread), r);
        listed++;
    }
    assert_int_equal(roll.count, count);
    assert_int_equal(roll.strangers, strangers);
    assert_int_equal(listed, count);
}

// J1, J2, J3
static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("test_roll"));
    assert_null(roll_find(&roll, 0));
    assert_null(roll_find(&roll, UINT32_MAX));
    assert_null(roll_meet(&roll, UINT32_MAX)); // no such id
    for (size_t turn = 0; turn < 60000; turn++) {
        size_t i = gen_below(&gen, IDS);
        struct record *record = roll_find(&roll, id_of(i));
        if (!here[i]) {
            assert_null(record);
            record = roll_meet(&roll, id_of(i));
            assert_non_null(record);
            assert_ptr_equal(roll_meet(&roll, id_of(i)), record);
            here[i] = true;
        } else if (gen_below(&gen, 3) == 0) {
            roll_bury(&roll, record);
            assert_int_equal(record->thread, 0); // J2: still a record
            here[i] = false;
        }
        if (turn % 10000 == 0) {
            check();
        }
    }
    check();
    while (roll.records != NULL) {
        roll_bury(&roll, roll.records);
    }
    assert_int_equal(roll.count, 0);
}

// J4
static void test_ids(void **state) {
    (void)state;
    enum { MANY = 100 };
    struct mutator *mutators[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        mutators[i] = roll_attach(&roll, 4190000 + i, NULL, i % 2 == 0);
        assert_non_null(mutators[i]);
        assert_int_equal(mutators[i]->thread, 4190000 + i);
        assert_int_equal(mutators[i]->single, i % 2 == 0);
        for (uint32_t j = 0; j < i; j++) {
            assert_int_not_equal(mutators[i]->id, mutators[j]->id);
        }
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ptr_equal(roll_find_id(&roll, mutators[i]->id), mutators[i]);
    }
    uint32_t id = mutators[5]->id;
    roll_bury(&roll, roll_find(&roll, 4190005));
    roll_reap(&roll);
    assert_null(roll_find_id(&roll, id));
    for (uint32_t i = 0; i < 200; i++) { // the id comes back
        struct mutator *again = roll_attach(&roll, 4191000 + i, NULL, false);
        assert_non_null(again);
        if (again->id == id) {
            id = 0;
            break;
        }
    }
    assert_int_equal(id, 0);
}

static void *idle(void *data) {
    *(uint32_t *)data = thread_id();
    return NULL;
}

// J5: the leaving are given back when their threads are gone.
static void test_leaving(void **state) {
    (void)state;
    size_t bells = buried, mutators = 0;
    for (size_t i = 0; i < 200; i++) {
        pthread_t thread;
        uint32_t id = 0;
        assert_int_equal(pthread_create(&thread, NULL, idle, &id), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        struct mutator *mutator = roll_attach(&roll, id, NULL, false);
        assert_non_null(mutator);
        roll_detach(&roll, mutator);
        assert_true(mutator->leaving);
    }
    assert_int_equal(buried, bells); // they had given up what they had
    assert_true(roll.leaving < 100);
    for (struct mutator *m = roll.mutators; m != NULL; m = m->next) {
        mutators += m->leaving;
    }
    assert_int_equal(mutators, roll.leaving);
    // A thread that left and comes back finds its own.
    struct mutator *mutator = roll_attach(&roll, thread_id(), NULL, false);
    roll_detach(&roll, mutator);
    assert_ptr_equal(roll_attach(&roll, thread_id(), NULL, false), mutator);
    assert_false(mutator->leaving);
    // Whoever has its id without its leaving is another thread.
    assert_non_null(roll_attach(&roll, thread_id(), NULL, false));
    assert_int_equal(buried, bells + 1);
}

// A forked child is alone.
static void test_forked(void **state) {
    (void)state;
    struct mutator *mutator = roll_attach(&roll, 4192000, NULL, false);
    assert_non_null(mutator);
    assert_true(roll_forked(&roll, 4192001, mutator));
    assert_int_equal(roll.count, 1);
    assert_int_equal(roll.strangers, 0);
    assert_null(roll_find(&roll, 4192000));
    assert_ptr_equal(roll_find(&roll, 4192001)->mutator, mutator);
    assert_ptr_equal(roll_find_id(&roll, mutator->id), mutator);
    assert_ptr_equal(roll.mutators, mutator);
    assert_null(mutator->next);
}

// It needs no memory that its parent did not have.
static void test_forked_bare(void **state) {
    (void)state;
    struct mutator *mutator = roll_attach(&roll, 4192001, NULL, false);
    for (uint32_t thread = 1; thread < 100 * 1024; thread += 1024) {
        assert_non_null(roll_meet(&roll, thread));
    }
    assert_non_null(mutator);
    size_t bytes = meta_bytes();
    for (uint32_t thread = 500; thread < 4000 * 1024; thread += 999) {
        assert_true(roll_forked(&roll, thread, mutator));
        assert_ptr_equal(roll_find(&roll, thread)->mutator, mutator);
        assert_int_equal(roll.count, 1);
    }
    assert_int_equal(meta_bytes(), bytes);
    assert_non_null(roll_attach(&roll, 7, NULL, false)); // there is room
    assert_true(roll_forked(&roll, 8, NULL));
    assert_int_equal(roll.strangers, 1);
    assert_non_null(roll_attach(&roll, 8, NULL, false));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),      cmocka_unit_test(test_ids),
        cmocka_unit_test(test_leaving),     cmocka_unit_test(test_forked),
        cmocka_unit_test(test_forked_bare),
    };
    roll.buried = note;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
