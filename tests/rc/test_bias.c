// Biased counts in every order in which an owner and two other threads may take
// their steps, on a model of a few words; then the code itself, one step after
// the other at random, against a plain number of owners.

#include "rc/bias.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/explore.h"
#include "support/gen.h"
#include "support/step.h"

// --- The model -------------------------------------------------------------

enum { OTHERS = 2, ACTORS = OTHERS + 1, WAYS = 3, RETAINS = 2 };

// One object; actor 0 is its owner.
struct words {
    int8_t own, number;
    uint8_t merged, queued;
    uint8_t held[ACTORS];    // owners that each actor stands for
    uint8_t retains[ACTORS]; // that it may still make
    uint8_t tells[ACTORS];   // it is about to put the object into the queue
    uint8_t in_queue;        // entries
    uint8_t lets_go;         // the owner's number fell to 0, that is all
    uint8_t merges;          // the owner has read its number, to merge
    int8_t taken;            // that number
    uint8_t deaths, after;   // and who looked at it after that
};

static bool lets_go_queued; // a mistake: merged though a queue names it

static void note(struct words *w) {
    w->after |= w->deaths != 0;
}

static void step_merged(struct words *w) {
    w->deaths = (uint8_t)(w->deaths + (w->number == 0));
}

// The owner: 0 retains, 1 releases, 2 hears.
static bool step_owner(struct words *w, size_t choice) {
    if (w->lets_go) {
        w->lets_go = 0;
        note(w);
        if (!w->queued || lets_go_queued) {
            w->merged = 1;
            step_merged(w);
        }
        return choice == 0;
    }
    if (w->merges) {
        w->merges = 0;
        note(w);
        w->queued = 0;
        if (!w->merged) {
            w->number = (int8_t)(w->number + w->taken);
            w->merged = 1;
            step_merged(w);
        }
        return choice == 0;
    }
    if (choice == 2) {
        if (w->in_queue == 0) {
            return false;
        }
        note(w);
        w->in_queue--;
        w->merges = 1;
        w->taken = w->merged ? 0 : w->own;
        w->own = w->merged ? w->own : 0;
        return true;
    }
    bool in_head = !w->merged && (choice == 0 || w->own > 0);
    if (w->held[0] == 0 || (choice == 0 && w->retains[0] == 0)) {
        return false;
    }
    note(w);
    w->held[0] = (uint8_t)(w->held[0] + (choice == 0 ? 1 : -1));
    w->retains[0] = (uint8_t)(w->retains[0] - (choice == 0));
    int8_t *at = in_head ? &w->own : &w->number;
    *at = (int8_t)(*at + (choice == 0 ? 1 : -1));
    if (choice == 1) {
        w->lets_go = in_head && w->own == 0;
        if (w->merged) {
            step_merged(w);
        } else if (!in_head && w->number < 0 && !w->queued) {
            w->queued = 1;
            w->tells[0] = 1;
        }
    }
    return true;
}

// Another: 0 retains, 1 releases or tells, 2 gives one to the owner.
static bool step_other(struct words *w, size_t who, size_t choice) {
    if (w->tells[who]) {
        w->tells[who] = 0;
        w->in_queue++;
        return choice == 0;
    }
    if (w->held[who] == 0 || (choice == 0 && w->retains[who] == 0)) {
        return false;
    }
    note(w);
    if (choice == 0) {
        w->held[who]++;
        w->retains[who]--;
        w->number++;
        return true;
    }
    w->held[who]--;
    if (choice == 2) {
        w->held[0]++;
        return true;
    }
    w->number--;
    if (w->merged) {
        step_merged(w);
    } else if (w->number < 0 && !w->queued) {
        w->queued = 1;
        w->tells[who] = 1; // BI4
    }
    return true;
}

static bool words_step(void *state, size_t who, size_t choice) {
    struct words was = *(struct words *)state;
    struct words *w = state;
    if (who == 0 && w->tells[0]) {
        w->tells[0] = 0;
        w->in_queue++;
        return choice == 0 || (*w = was, false);
    }
    bool moved = who == 0 ? step_owner(w, choice) : step_other(w, who, choice);
    if (!moved) {
        *w = was;
    }
    return moved;
}

static bool words_are_done(const void *state) {
    const struct words *w = state;
    return w->held[0] + w->held[1] + w->held[2] == 0 && w->in_queue == 0 &&
           w->tells[0] + w->tells[1] + w->tells[2] == 0 && !w->lets_go &&
           !w->merges;
}

static bool words_are_right(const void *state) {
    const struct words *w = state;
    int held = w->held[0] + w->held[1] + w->held[2];
    int sum = w->own + w->number + (w->merges ? w->taken : 0);
    return sum == held &&                           // BI1
           (w->merged == 0 || w->own == 0) &&       // BI3
           w->deaths <= 1 &&                        // BI2
           (w->deaths == 0 || held == 0) &&         // BI2
           w->in_queue <= 1 &&                      // BI5
           !(w->deaths != 0 && w->in_queue != 0) && // BI5
           (!words_are_done(w) || w->deaths == 1);
}

static void test_model(void **state) {
    (void)state;
    const struct explore_model model = {
        sizeof(struct words), ACTORS,          WAYS,
        words_step,           words_are_right, words_are_done};
    struct words start;
    memset(&start, 0, sizeof start);
    start.own = 3;
    for (size_t who = 0; who < ACTORS; who++) {
        start.held[who] = 1;
        start.retains[who] = RETAINS;
    }
    lets_go_queued = false;
    size_t states = explore(&model, &start, true);
    print_message("%zu states\n", states);
    assert_true(states > 100);
    lets_go_queued = true;
    assert_int_equal(explore(&model, &start, false), 0);
}

// --- The code --------------------------------------------------------------

static struct {
    struct counted_bias bias;
    struct counted head;
    uint64_t body[2];
} cell;

#define OWNER (COUNTED_OWNER_BIT | 7)
#define OTHER (COUNTED_OWNER_BIT | 9)

static void *make(void) {
    memset(&cell, 0, sizeof cell);
    cell.bias.owner = OWNER;
    cell.head.word = COUNTED_OTHER | COUNTED_ONE;
    return cell.body;
}

// BI1, BI2: whoever counts, and whenever the owner hears what it was told.
static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("bias"));
    for (size_t round = 0; round < 20000; round++) {
        void *object = make();
        size_t count = 1;
        bool queued = false, dead = false;
        while (!dead) {
            uint32_t who = gen_chance(&g, 50) ? OWNER : OTHER;
            enum bias_end end = BIAS_COUNTED;
            if (queued && gen_chance(&g, 20)) {
                end = bias_merge(object);
                queued = false;
            } else if (count != 0 && gen_chance(&g, 40)) {
                bias_retain(object, who);
                count++;
            } else if (count != 0) {
                end = bias_release(object, who);
                count--;
            }
            assert_int_not_equal(end, BIAS_FAULT);
            assert_int_not_equal(end, BIAS_GONE);
            assert_false(queued && end == BIAS_TELL); // BI4
            queued |= end == BIAS_TELL;
            dead = end == BIAS_LAST;
            assert_true(!dead || (count == 0 && !queued));
            assert_int_equal(bias_count(object), count);
            assert_int_equal(bias_is_queued(object), queued);
            assert_true(dead || queued || count != 0);
        }
        assert_false(bias_retain_living(object, OTHER));
        assert_int_equal(bias_release(object, OTHER), BIAS_FAULT);
        assert_true(bias_leave(object));
    }
}

// BI5: destroyed by the tracer while a queue names it.
static void test_taken(void **state) {
    (void)state;
    void *object = make();
    assert_int_equal(bias_release(object, OTHER), BIAS_TELL);
    assert_int_equal(bias_take(object), 0);
    assert_false(bias_leave(object));
    assert_int_equal(bias_merge(object), BIAS_GONE);
    object = make();
    bias_retain(object, OTHER);
    assert_int_equal(bias_take(object), 2);
    cell.head.word &= ~COUNTED_COUNT_MASK;
    bias_give(object, 2);
    assert_int_equal(bias_release(object, OWNER), BIAS_COUNTED);
    assert_int_equal(bias_release(object, OWNER), BIAS_LAST);
}

// No room in the queue: the next release tells again.
static void test_untold(void **state) {
    (void)state;
    void *object = make();
    bias_retain(object, OWNER);
    assert_int_equal(bias_release(object, OTHER), BIAS_TELL);
    bias_untell(object);
    assert_int_equal(bias_release(object, OTHER), BIAS_TELL);
    assert_int_equal(bias_merge(object), BIAS_LAST);
}

// What is weak counts where there is an owner, or may be.
static void test_living(void **state) {
    (void)state;
    void *object = make();
    assert_true(bias_retain_living(object, OTHER));
    assert_true(bias_retain_living(object, OWNER));
    assert_int_equal(bias_count(object), 3);
    assert_int_equal(bias_release(object, OWNER), BIAS_COUNTED);
    assert_int_equal(bias_release(object, OWNER), BIAS_COUNTED);
    assert_true(bias_retain_living(object, OTHER));
    assert_int_equal(bias_release(object, OTHER), BIAS_COUNTED);
    assert_int_equal(bias_release(object, OTHER), BIAS_LAST);
    assert_false(bias_retain_living(object, OWNER));
}

// A child whose queues are gone.
static void test_forked(void **state) {
    (void)state;
    void *object = make();
    bias_retain(object, OWNER);
    assert_int_equal(bias_release(object, OTHER), BIAS_TELL);
    assert_int_equal(bias_forked(object, true), BIAS_COUNTED);
    assert_false(bias_is_queued(object));
    assert_int_equal(bias_release(object, OWNER), BIAS_LAST);
    object = make();
    assert_int_equal(bias_forked(object, false), BIAS_COUNTED);
    assert_int_equal(bias_release(object, OTHER), BIAS_TELL);
}

// BI1, asked by somebody else behind every instruction of a merge.
static size_t asked, unsure, wrong;
static enum bias_end merged;

static void merge_it(void *object) {
    merged = bias_merge(object);
}

static void ask(size_t instructions, void *object) {
    size_t count;
    (void)instructions;
    asked++;
    bool is_sure = bias_try_count(object, &count);
    unsure += !is_sure;
    wrong += is_sure && count != 3;
}

static void test_count_within_merge(void **state) {
    (void)state;
    void *object = make();
    bias_retain(object, OWNER);
    bias_retain(object, OWNER);
    assert_int_equal(bias_release(object, OTHER), BIAS_TELL);
    bias_retain(object, OTHER);
    assert_int_equal(bias_count(object), 3);
    if (!step_run(merge_it, ask, object)) {
        merge_it(object);
    }
    assert_int_equal(merged, BIAS_COUNTED);
    ask(0, object);
    assert_int_equal(wrong, 0);
    assert_true(asked == 1 || unsure != 0);
    assert_true(asked - unsure >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_untold),
        cmocka_unit_test(test_living),
        cmocka_unit_test(test_forked),
        cmocka_unit_test(test_count_within_merge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
