// Why a thread does not answer, and the other means.

#include "roots/deaf.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/tracer.h"
#include "support/crowd.h"

static void spin(struct worker *worker) {
    while (!atomic_load(&over)) {
        atomic_fetch_add(&worker->before, 1);
    }
}

static void block_and_spin(struct worker *worker) {
    uint64_t all = ~(uint64_t)0;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    spin(worker);
}

static void sleep_on(struct worker *worker) {
    atomic_store(&worker->before, 1);
    while (!atomic_load(&over)) {
        crowd_nap_ms(20);
    }
}

static void test_asked(void **state) {
    (void)state;
    struct task_status status;
    crowd_begin(1, false, block_and_spin);
    struct record record = {.thread = workers[0].id};
    while (atomic_load(&workers[0].before) == 0) {
        crowd_nap_ms(1);
    }
    assert_int_equal(deaf_ask(&record, &status), DEAF_BLOCKS);
    assert_true(record.deaf && !record.apart);
    assert_non_null(
        strstr(deaf_reason(&record, &status), "blocks the signal")); // D3
    crowd_end(1);
    for (size_t turn = 0; turn < 1000; turn++) { // it was joined: soon gone
        if (deaf_ask(&record, &status) == DEAF_GONE) {
            break;
        }
        crowd_nap_ms(1);
    }
    assert_int_equal(deaf_ask(&record, &status), DEAF_GONE); // D1
    assert_false(suspend_is_thread(record.thread));

    crowd_begin(1, false, sleep_on);
    record = (struct record){.thread = workers[0].id};
    crowd_nap_ms(5);
    assert_int_equal(deaf_ask(&record, &status), DEAF_LOST);
    assert_false(record.deaf);
    crowd_end(1);
}

static void expect(const struct record *record, char state, uint64_t pending,
                   const char *words) {
    struct task_status status = {.state = state, .pending = pending};
    assert_non_null(strstr(deaf_reason(record, &status), words));
}

static void test_reasons(void **state) { // D3
    (void)state;
    static struct mutator mutator;
    struct record record = {.mutator = NULL};
    uint64_t ours = (uint64_t)1 << (suspend_number() - 1);
    expect(&record, 'D', 0, "nothing interrupts it");
    expect(&record, 't', 0, "a debugger");
    expect(&record, 'T', 0, "job control");
    expect(&record, 'R', 0, "no processor");
    expect(&record, 'S', 0, "took the signal");
    expect(&record, 'S', ours, "does not take the signal");
    expect(&record, '?', 0, "took the signal");
    // A signal that finds it there is put off, and it should not sleep.
    record.mutator = &mutator;
    expect(&record, 'S', 0, "took the signal");
    mutator.busy = MUTATOR_INSIDE;
    expect(&record, 'S', 0, "in the middle");
    expect(&record, 'R', 0, "in the middle");
    mutator.state = MUTATOR_SAFE;
    expect(&record, 'S', 0, "took the signal");
}

// D2
static void test_traced(void **state) {
    (void)state;
    crowd_begin(1, true, block_and_spin);
    struct mutator *mutator = workers[0].mutator;
    struct record *record = roll_find(&world.roll, workers[0].id);
    assert_ptr_equal(record->mutator, mutator);
    crowd_nap_ms(5);
    bool may = false;
    for (size_t turn = 0; !may && turn < 20; turn++) {
        may = deaf_trace(record);
    }
    tracer_end();
    if (may) {
        assert_int_equal(record->stop, RECORD_TRACED);
        assert_true(record->hot_end >= mutator->lowest &&
                    record->hot_end < mutator->cold_end);
        assert_true(record->thread_pointer == mutator->thread_pointer);
        record->stop = RECORD_RUNS;
        mutator->busy = MUTATOR_INSIDE;
        for (size_t turn = 0; turn < 5; turn++) {
            assert_false(deaf_trace(record));
        }
        assert_int_equal(record->stop, RECORD_RUNS);
        tracer_end();
        mutator->busy = MUTATOR_OUT;
    }
    crowd_end(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asked),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_traced),
    };
    if (SUSPEND_COOPERATIVE) {
        return 77; // nobody is interrupted there
    }
    return crowd_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
