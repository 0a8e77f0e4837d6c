// Records made, found, released, taken and removed at random, against an array;
// the same after a rebuild; guardians and their tokens.

#include "heap/fate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/gen.h"

#define OBJECTS ((size_t)(LOAM_TINY ? 60 : 900))
#define STEPS   ((size_t)(LOAM_TINY ? 5000 : 60000))

static struct fates fates;

static struct model {
    struct fate *fate;   // the finalizer that waits, or NULL
    uintptr_t data;      // of that
    size_t guarded;      // records of guardians
    uintptr_t guards[4]; // their tokens, as numbers
} models[OBJECTS + 1];

static struct fate *queue[STEPS]; // what should be taken, in order
static uintptr_t queue_data[STEPS];
static size_t queue_first, queue_end, waiting;

static uintptr_t object_of(size_t i) {
    return (uintptr_t)i * 48;
}

static void nothing(void *object, void *data) {
    (void)object;
    (void)data;
}

static void add_finalizer(struct gen *gen, size_t i) {
    struct fate fate = {.object = object_of(i),
                        .function = nothing,
                        .data = gen_next(gen),
                        .block = (uint32_t)i,
                        .mode = (uint8_t)gen_below(gen, FATE_GUARDED)};
    struct fate *added = fate_add(&fates, &fate);
    assert_non_null(added);
    assert_int_equal(added->state, FATE_WAITS);
    models[i].fate = added;
    models[i].data = fate.data;
    waiting++;
}

static void add_guarded(struct gen *gen, struct model *model, size_t i) {
    if (model->guarded < 4) {
        struct fate fate = {.object = object_of(i),
                            .data = gen_next(gen),
                            .mode = FATE_GUARDED};
        assert_non_null(fate_add(&fates, &fate));
        model->guards[model->guarded++] = fate.data;
        waiting++;
    }
}

static void step(struct gen *gen) {
    size_t i = 1 + gen_below(gen, OBJECTS);
    struct model *model = &models[i];
    struct fate *fate = fate_find(&fates, object_of(i));
    assert_ptr_equal(fate, model->fate); // FA1
    size_t what = gen_below(gen, 6);
    struct fate taken;
    if (what == 0) {
        add_guarded(gen, model, i);
    } else if (what == 1) {
        bool some = queue_first != queue_end;
        assert_int_equal(fate_take(&fates, &taken), some);
        if (some) { // FA3
            assert_int_equal(taken.data, queue_data[queue_first]);
            queue_first++;
        }
    } else if (fate == NULL) {
        add_finalizer(gen, i);
    } else if (what == 2) {
        queue_data[queue_end] = fate->data;
        queue[queue_end++] = fate;
        fate_release(&fates, fate);
        model->fate = NULL;
        waiting--;
    } else if (what == 3) {
        fate_remove(&fates, fate);
        model->fate = NULL;
        waiting--;
    }
    assert_int_equal(fates.waiting_count, waiting); // FA2
    assert_int_equal(fates.ready_count, queue_end - queue_first);
}

struct seen {
    size_t waiting, ready;
};

static void count_one(struct fates *all, struct fate *fate, void *data) {
    struct seen *seen = data;
    assert_ptr_equal(all, &fates);
    if (fate->state == FATE_READY) {
        seen->ready++;
        return;
    }
    seen->waiting++;
    const struct model *model = &models[fate->object / 48];
    if (fate->mode != FATE_GUARDED) {
        assert_ptr_equal(fate, model->fate);
        assert_int_equal(fate->data, model->data);
        return;
    }
    bool found = false;
    for (size_t i = 0; i < model->guarded; i++) {
        found |= model->guards[i] == fate->data;
    }
    assert_true(found);
}

static void check_records(void) {
    struct seen seen = {0, 0};
    fate_each(&fates, count_one, &seen);
    assert_int_equal(seen.waiting, waiting); // FA2, FA5
    assert_int_equal(seen.ready, queue_end - queue_first);
}

// What a child finds after fork: only the records are sure.
static void scramble(void) {
    fates.free = (struct fate *)8;
    fates.first = NULL;
    fates.last = (struct fate *)16;
    fates.waiting_count = 7;
    fates.ready_count = 12345;
}

// After a rebuild the queue holds the same, in whatever order.
static void rebuild(void) {
    scramble();
    fate_rebuild(&fates);
    assert_int_equal(fates.waiting_count, waiting); // FA5
    assert_int_equal(fates.ready_count, queue_end - queue_first);
    struct fate taken;
    while (fate_take(&fates, &taken)) {
        size_t i = queue_first;
        while (i < queue_end && queue_data[i] != taken.data) {
            i++;
        }
        assert_true(i < queue_end);
        queue_data[i] = queue_data[queue_first];
        queue_first++;
    }
    assert_int_equal(queue_first, queue_end);
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("fates"));
    for (size_t i = 0; i < STEPS; i++) {
        step(&gen);
        if (i % (STEPS / 10) == 0) {
            check_records();
            rebuild();
            check_records();
        }
    }
}

static void remove_guarded(struct fates *all, struct fate *fate, void *data) {
    (void)data;
    if (fate->mode == FATE_GUARDED) {
        fate_remove(all, fate);
        models[fate->object / 48].guarded--;
        waiting--;
    }
}

// The visitor may remove what it is given.
static void test_remove_in_visit(void **state) {
    (void)state;
    fate_each(&fates, remove_guarded, NULL);
    for (size_t i = 1; i <= OBJECTS; i++) {
        assert_int_equal(models[i].guarded, 0);
        assert_ptr_equal(fate_find(&fates, object_of(i)), models[i].fate);
    }
    check_records();
}

// FA6: delivered in any order, taken in the order of delivery.
static void test_tokens(void **state) {
    (void)state;
    struct fate_guard guard = {NULL, NULL, NULL};
    struct fate_token tokens[5];
    memset(tokens, 0, sizeof tokens);
    static const size_t order[] = {2, 0, 4, 3, 1};
    assert_int_equal(fate_guard_take(&guard), 0);
    for (size_t i = 0; i < 5; i++) {
        fate_token_wait(&tokens[i], &guard);
    }
    for (size_t round = 0; round < 5; round++) {
        size_t chosen = order[round];
        fate_token_deliver(&tokens[chosen], 16 * (chosen + 1));
        size_t left = 0;
        const struct fate_token *token = guard.waiting;
        const struct fate_token *before = NULL;
        for (; token != NULL; token = token->next) {
            assert_ptr_equal(token->prev, before);
            assert_int_equal(token->object, 0);
            before = token;
            left++;
        }
        assert_int_equal(left, 4 - round); // FA6
    }
    for (size_t round = 0; round < 5; round++) {
        assert_int_equal(fate_guard_take(&guard), 16 * (order[round] + 1));
        assert_int_equal(tokens[order[round]].object, 0);
    }
    assert_int_equal(fate_guard_take(&guard), 0);
    assert_null(guard.ready_last);
    for (size_t i = 0; i < 3; i++) {
        fate_token_wait(&tokens[i], &guard);
    }
    fate_token_cancel(&tokens[1]);
    fate_token_cancel(&tokens[2]);
    assert_ptr_equal(guard.waiting, &tokens[0]); // FA6
    fate_token_cancel(&tokens[0]);
    assert_null(guard.waiting);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_remove_in_visit),
        cmocka_unit_test(test_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
