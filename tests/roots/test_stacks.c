// Which words of a thread are read, wherever it stopped.

#include "roots/stacks.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/tracer.h"
#include "roots/mutator.h"
#include "support/crowd.h"

struct search {
    uintptr_t word; // complemented
    size_t found, words;
};

NO_SANITIZE static void search_words(const uintptr_t *start,
                                     const uintptr_t *end, void *data) {
    struct search *search = data;
    assert_int_equal((uintptr_t)start % WORD_BYTES, 0);
    assert_true(start < end);
    for (const volatile uintptr_t *at = start; at < end; at++) {
        search->found += *at == ~search->word; // Y3: or this would crash
        search->words++;
    }
}

static size_t find(const struct record *record, uintptr_t word) {
    struct search search = {.word = ~word};
    stacks_each(record, search_words, &search);
    return search.found;
}

// --- Made-up threads -------------------------------------------------------

#define PAGES ((size_t)8)

static size_t page;

// Memory with a page behind and before it that cannot be read.
static char *make_area(void) {
    char *area = mmap(NULL, (PAGES + 2) * page, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(area != MAP_FAILED);
    assert_int_equal(
        mprotect(area + page, PAGES * page, PROT_READ | PROT_WRITE), 0);
    return area + page;
}

static void put(char *at, uintptr_t word) {
    memcpy(at, &word, sizeof word);
}

// Y1: from the hot end to the far end, and no word below.
static void test_own(void **state) {
    (void)state;
    char *area = make_area();
    static struct mutator mutator;
    mutator.lowest = area - page; // its guard, as some libraries tell it
    mutator.cold_end = area + PAGES * page;
    struct record record = {.thread = 1,
                            .stop = RECORD_ANSWERED,
                            .hot_end = area + 4 * page,
                            .mutator = &mutator};
    put(area + 4 * page - 8, 11);
    put(area + 4 * page, 22);
    put(area + PAGES * page - 8, 33);
    assert_int_equal(find(&record, 11), 0);
    assert_int_equal(find(&record, 22), 1);
    assert_int_equal(find(&record, 33), 1);
    record.stop = RECORD_HELD; // Y4: what it saved, from where it entered
    mutator.stopped_at = area + 4 * page + 8;
    mutator.registers[STACK_REGISTERS - 1] = 44;
    assert_int_equal(find(&record, 22), 0);
    assert_int_equal(find(&record, 33), 1);
    assert_int_equal(find(&record, 44), 1);
    mutator.hot_end = area + PAGES * page - 16; // the door's goes first
    assert_int_equal(find(&record, 33), 1);
    mutator.hot_end = NULL;
}

// Y2: elsewhere, and all that can be read of the own stack.
static void test_foreign(void **state) {
    (void)state;
    char *area = make_area(), *other = make_area();
    static struct mutator mutator;
    mutator.lowest = area - page;
    mutator.cold_end = area + PAGES * page;
    struct record record = {.thread = 1,
                            .stop = RECORD_ANSWERED,
                            .hot_end = other + page,
                            .mutator = &mutator};
    put(area, 11);
    put(area + PAGES * page - 8, 22);
    put(other + page - 8, 33);
    put(other + page, 44);
    put(other + PAGES * page - 8, 55);
    assert_int_equal(find(&record, 11), 1);
    assert_int_equal(find(&record, 22), 1);
    assert_int_equal(find(&record, 33), 0);
    assert_int_equal(find(&record, 44), 1);
    assert_int_equal(find(&record, 55), 1);
    record.alternate_lowest = other; // a signal stack ends where it ends
    record.alternate_end = other + 4 * page;
    assert_int_equal(find(&record, 44), 1);
    assert_int_equal(find(&record, 55), 0);
    assert_int_equal(find(&record, 11), 1);
}

// What is below the place where a thread stopped, on whatever it stopped.
static void test_dead(void **state) {
    (void)state;
    char *area = make_area(), *other = make_area();
    static struct mutator mutator;
    mutator.lowest = area - page;
    mutator.cold_end = area + PAGES * page;
    struct record record = {.thread = 1,
                            .stop = RECORD_ANSWERED,
                            .hot_end = area + 4 * page,
                            .mutator = &mutator};
    assert_true(stacks_is_dead(&record, area));
    assert_true(stacks_is_dead(&record, area + 4 * page - 8));
    assert_false(stacks_is_dead(&record, area + 4 * page));
    assert_false(stacks_is_dead(&record, other));
    record.alternate_lowest = area + 3 * page; // an array in a frame
    record.alternate_end = area + 5 * page;
    assert_false(stacks_is_dead(&record, area + 3 * page - 8));
    assert_true(stacks_is_dead(&record, area + 3 * page));
    record.hot_end = other + 2 * page; // nobody told what it is on
    assert_false(stacks_is_dead(&record, other + 2 * page - 8));
    assert_false(stacks_is_dead(&record, area));
    record.alternate_lowest = other;
    record.alternate_end = other + 4 * page;
    assert_true(stacks_is_dead(&record, other));
    assert_false(stacks_is_dead(&record, other + 2 * page));
    record.mutator = NULL; // a stranger's own stack: nobody knows how far
    record.alternate_lowest = record.alternate_end = NULL;
    assert_false(stacks_is_dead(&record, other + 2 * page - 8));
}

// A stranger: what can be known of it.
static void test_stranger(void **state) {
    (void)state;
    char *area = make_area(), *other = make_area();
    struct record record = {
        .thread = 1, .stop = RECORD_ANSWERED, .hot_end = area + page};
    put(area + page, 11);
    put(area + PAGES * page - 8, 22);
    put(other, 33);
    assert_int_equal(find(&record, 11), 1);
    assert_int_equal(find(&record, 22), 1);
    record.thread_pointer = (uintptr_t)area + 7 * page; // ends it, and the rest
    assert_int_equal(find(&record, 11), 1); // is another's, who may write there
    assert_int_equal(find(&record, 22), 0);
    record.thread_pointer = (uintptr_t)area; // below: it is on another stack
    assert_int_equal(find(&record, 22), 1);
    record.thread_pointer = (uintptr_t)other + 5 * page;
    record.alternate_lowest = area; // it stopped on a signal stack: its own is
    record.alternate_end = area + 2 * page; // where its control block is
    assert_int_equal(find(&record, 11), 1);
    assert_int_equal(find(&record, 22), 0);
    assert_int_equal(find(&record, 33), 1);
    static struct tracer_file file = {.general_count = 2, .vector_count = 3};
    file.general[1] = 44;
    file.general[2] = 45;
    file.vector[2] = 55;
    record.file = &file;
    record.stop = RECORD_TRACED; // Y4
    assert_int_equal(find(&record, 44), 1);
    assert_int_equal(find(&record, 45), 0);
    assert_int_equal(find(&record, 55), 1);
    // Traced, it may have been on a signal stack, and nobody says so: its own
    // is read too, or no more of it than lies above its hot end.
    record.alternate_lowest = record.alternate_end = NULL;
    assert_int_equal(find(&record, 33), 1); // Y2
    record.hot_end = other + page;
    assert_int_equal(find(&record, 33), 0);
    record.stop = RECORD_PASSED;
    record.hot_end = NULL;
    assert_int_equal(find(&record, 11), 0); // nothing is known
    record.hot_end = (const void *)8;       // nothing is there
    assert_int_equal(find(&record, 11), 0);
}

// Y5: a stranger whose mapping goes on into the conductor's own stack: read but
// for what lies below the conductor's hot end.
static void test_cut(void **state) {
    (void)state;
    char *area = make_area();
    static struct mutator mutator;
    mutator.lowest = area + 4 * page;
    mutator.cold_end = area + PAGES * page;
    mutator.hot_end = area + 6 * page;
    struct record stranger = {
        .thread = 2, .stop = RECORD_ANSWERED, .hot_end = area + 2 * page};
    struct record own = {.thread = 1,
                         .stop = RECORD_SELF,
                         .mutator = &mutator,
                         .next = &stranger};
    put(area + 4 * page - 8, 11);
    put(area + 4 * page, 22);
    put(area + 6 * page - 8, 33);
    put(area + 6 * page, 44);
    struct search search = {.word = ~(uintptr_t)11};
    stacks_all(&own, search_words, &search);
    assert_int_equal(search.found, 1);
    search = (struct search){.word = ~(uintptr_t)22};
    stacks_all(&own, search_words, &search);
    assert_int_equal(search.found, 0);
    search = (struct search){.word = ~(uintptr_t)33};
    stacks_all(&own, search_words, &search);
    assert_int_equal(search.found, 0);
    search = (struct search){.word = ~(uintptr_t)44};
    stacks_all(&own, search_words, &search);
    assert_int_equal(search.found, 2); // its own, and the stranger's
}

// Y6: a thread on a signal stack that nobody told of, right below the own stack
// of another, which is held.
static void test_unused(void **state) {
    (void)state;
    char *area = make_area(), *other = make_area();
    static struct mutator first, second;
    first.lowest = other;
    first.cold_end = other + PAGES * page;
    first.stopped_at = area + page;
    second.lowest = area + 3 * page;
    second.cold_end = area + 6 * page;
    second.stopped_at = area + 5 * page;
    struct record held = {.thread = 2, .stop = RECORD_HELD, .mutator = &second};
    struct record foreign = {
        .thread = 1, .stop = RECORD_HELD, .mutator = &first, .next = &held};
    struct mutator conductor = {.hot_end = &conductor};
    struct record own = {.thread = 3,
                         .stop = RECORD_SELF,
                         .mutator = &conductor,
                         .next = &foreign};
    conductor.cold_end = &conductor + 1;
    static const struct {
        size_t at, found; // in half pages
    } places[] = {{2, 1}, {5, 1}, {6, 0}, {9, 0}, {10, 2}, {11, 2}, {12, 1}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        put(area + places[i].at * page / 2, 0xA00 + i);
        struct search search = {.word = ~(uintptr_t)(0xA00 + i)};
        stacks_all(&own, search_words, &search);
        assert_int_equal(search.found, places[i].found);
    }
}

// --- Real ones -------------------------------------------------------------

static char signal_stack[128 * 1024];
static atomic_bool deep; // the handler is at its place
static uintptr_t on_own = 0x5ec4e701, on_signal = 0x5ec4e702;

static void stay(int signal) {
    (void)signal;
    volatile uintptr_t kept = on_signal * 3;
    atomic_store(&deep, true);
    while (!atomic_load(&over)) {
    }
    (void)kept;
}

// A reference on the stack it was born with, another on its signal stack.
static void work_on_signal_stack(struct worker *worker) {
    volatile uintptr_t kept = on_own * 3;
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    (void)sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_handler = stay, .sa_flags = SA_ONSTACK};
    (void)sigaction(SIGUSR1, &action, NULL);
    (void)raise(SIGUSR1);
    atomic_store(&worker->before, kept);
    stack.ss_flags = SS_DISABLE;
    (void)sigaltstack(&stack, NULL);
}

// How often a word is on the stacks of this moment.
static size_t count_words(uintptr_t word) {
    struct search search = {.word = ~word};
    (void)crowd_stop();
    world_each_stack(search_words, &search);
    crowd_go();
    return search.found;
}

static void test_signal_stack(void **state) {
    (void)state;
    if (SUSPEND_COOPERATIVE) {
        return;
    }
    for (size_t attached = 0; attached < 2; attached++) {
        atomic_store(&deep, false);
        crowd_begin(1, attached == 1, work_on_signal_stack);
        while (!atomic_load(&deep)) {
            crowd_nap_ms(1);
        }
        for (size_t turn = 0; turn < 10; turn++) {
            assert_true(count_words(on_own * 3) > 0); // Y2
            assert_true(count_words(on_signal * 3) > 0);
        }
        crowd_end(1);
        assert_int_equal(count_words(on_own * 3), 0); // it was not our own
        assert_int_equal(count_words(on_signal * 3), 0);
    }
}

// A coroutine that nobody registered.
static ucontext_t outside, inside;
static struct worker *switched;
static uintptr_t on_fiber = 0x5ec4e703;

static void run_fiber(void) {
    volatile uintptr_t kept = on_fiber * 3;
    atomic_store(&deep, true);
    while (!atomic_load(&over)) {
        world_leave(switched->mutator);
    }
    (void)kept;
    (void)swapcontext(&inside, &outside);
}

static char *fiber_area;

static void work_on_fiber(struct worker *worker) {
    volatile uintptr_t kept = on_own * 3;
    switched = worker;
    (void)getcontext(&inside);
    inside.uc_stack.ss_sp = fiber_area;
    inside.uc_stack.ss_size = PAGES * page;
    inside.uc_link = NULL;
    makecontext(&inside, run_fiber, 0);
    (void)swapcontext(&outside, &inside);
    atomic_store(&worker->before, kept);
}

static void test_coroutine(void **state) {
    (void)state;
    if (CROWD_SANITIZED) {
        return; // they want to be told of a switch
    }
    fiber_area = make_area();
    atomic_store(&deep, false);
    crowd_begin(1, true, work_on_fiber);
    while (!atomic_load(&deep)) {
        crowd_nap_ms(1);
    }
    for (size_t turn = 0; turn < 20; turn++) {
        assert_true(count_words(on_own * 3) > 0); // Y2
        assert_true(count_words(on_fiber * 3) > 0);
    }
    crowd_end(1);
    assert_int_equal(count_words(on_own * 3), 0);
    assert_int_equal(count_words(on_fiber * 3), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own),          cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_stranger),     cmocka_unit_test(test_cut),
        cmocka_unit_test(test_signal_stack), cmocka_unit_test(test_coroutine),
        cmocka_unit_test(test_unused),       cmocka_unit_test(test_dead),
    };
    page = (size_t)sysconf(_SC_PAGESIZE);
    return crowd_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
