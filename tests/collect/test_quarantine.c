// collect/quarantine: what is freed is held while a word leads to it (QU1 to
// QU4; SV6 of api/served.h), and when cycles come.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loam.h"

#include "api/door.h"
#include "api/init.h"
#include "api/object.h"
#include "api/served.h"
#include "collect/quarantine.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "support/gen.h"
#include "support/scrub.h"

// --- When ------------------------------------------------------------------

// QU3: between the least and half of what is read and a bit; never less for who
// frees faster, and defined for absurd numbers.
static void test_room(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("quarantine room"));
    for (size_t i = 0; i < 100000; i++) {
        struct quarantine_cycle cycle = {gen_next(&gen) >> gen_below(&gen, 64),
                                         gen_next(&gen) >> gen_below(&gen, 64),
                                         gen_below(&gen, 20000)};
        if (cycle.read_bytes > (size_t)1 << 46) {
            continue; // more than a processor can address
        }
        size_t freed = gen_next(&gen) >> gen_below(&gen, 64);
        uint64_t ns = gen_next(&gen) >> gen_below(&gen, 64);
        size_t room = quarantine_room(&cycle, freed, ns);
        assert_true(room >= 16 * KiB);
        size_t most = cycle.read_bytes / 2 + 4 * MiB + cycle.threads * 64 * KiB;
        assert_true(room <= most + 16 * MiB);
        long double missed =
            (long double)freed / (ns / 1024 + 1) * (cycle.cycle_ns / 1024 + 1);
        assert_true(room <= most || missed > most);
        assert_true(freed > SIZE_MAX / 2 ||
                    quarantine_room(&cycle, 2 * freed, ns) >= room);
    }
    // 32 MiB read in 4 ms by a program that frees 256 MiB a second: about the
    // root of 36 times 1 MiB, less the scale.
    struct quarantine_cycle cycle = {32 * MiB, 4000000, 0};
    size_t room = quarantine_room(&cycle, 256 * MiB, 1000000000);
    assert_in_range(room, 5 * MiB, 6 * MiB);
    // A thousand threads of 10 KiB: as much as they take besides.
    cycle = (struct quarantine_cycle){10 * MiB, 8000000, 1000};
    room = quarantine_room(&cycle, 64 * MiB, 8000000);
    assert_in_range(room, 32 * MiB, 80 * MiB);
    // Nothing to read, but 48 TiB to be asked about: as much as the program
    // frees meanwhile.
    cycle = (struct quarantine_cycle){2 * MiB, 2500000, 0};
    room = quarantine_room(&cycle, 10 * MiB, 1900000);
    assert_in_range(room, 13 * MiB, 14 * MiB);
}

static void test_due(void **state) {
    (void)state;
    struct quarantine quarantine = {.freed_bytes = 0};
    quarantine_begin(&quarantine);
    size_t room = quarantine.room_bytes;
    quarantine_count(&quarantine, room - 1);
    assert_false(quarantine_is_due(&quarantine));
    quarantine_count(&quarantine, 1);
    assert_true(quarantine_is_due(&quarantine)); // QU3
    assert_false(quarantine_is_overdue(&quarantine));
    quarantine_count(&quarantine, 3 * room);
    assert_true(quarantine_is_overdue(&quarantine));
    quarantine_put_off(&quarantine);
    assert_false(quarantine_is_due(&quarantine));
}

// --- Led to ----------------------------------------------------------------

#define MANY 64

static uintptr_t hidden[MANY]; // inverted

static bool is_held(uintptr_t word) {
    struct place place;
    return blockmap_find(word, &place) &&
           block_is_allocated(place.block, place.cell) &&
           block_is_freed(place.block, place.cell);
}

// How many of the objects are held still, after a few cycles.
static NOT_INLINED size_t count_held(void) {
    for (size_t i = 0; i < 3; i++) {
        assert_true(scrub_collect());
    }
    size_t held = 0;
    for (size_t i = 0; i < MANY; i++) {
        held += is_held(~hidden[i]);
    }
    return held;
}

// Objects of a size, their addresses put where `at` says, and freed.
static NOT_INLINED void hold_there(uintptr_t *at, size_t bytes, size_t inside) {
    for (size_t i = 0; i < MANY; i++) {
        char *p = served_make(bytes, NULL);
        assert_non_null(p);
        memset(p, 0xAB, bytes);
        hidden[i] = ~(uintptr_t)p;
        at[i] = (uintptr_t)p + inside;
        assert_true(served_free(p));
        assert_false(served_free(p)); // held: not in use
        for (size_t byte = 0; byte < bytes; byte++) {
            assert_int_equal(p[byte], 0); // SV6
        }
    }
}

static uintptr_t in_data[MANY];
static __thread uintptr_t in_thread[MANY];

static void check_place(uintptr_t *at) {
    static const size_t sizes[] = {16, 100, 5000, 20000, 300000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        hold_there(at, sizes[i], i % 2 == 0 ? 0 : sizes[i] / 2);
        scrub_stack();
        assert_int_equal(count_held(), MANY); // QU2
        memset(at, 0, MANY * sizeof *at);
        scrub_stack();
        assert_true(count_held() < MANY / 4);
    }
}

static void test_led_to(void **state) {
    (void)state;
    check_place(in_data);
    check_place(in_thread);
    uintptr_t *object = served_make_zero(MANY * sizeof *object, NULL);
    check_place(object);
    assert_true(served_free(object));
    uintptr_t *large = served_make_zero(1000000, NULL);
    check_place(large + 100000);
    assert_true(served_free(large));
    uintptr_t on_stack[MANY];
    check_place(on_stack);
}

// From what is never collected, with which the marker has nothing to trace; and
// beside what is traced, where it has.
static void test_led_from(void **state) {
    (void)state;
    const bool *alone = &init_state.conductor.quarantine.alone;
    uintptr_t *pinned = loam_alloc_pinned(MANY * sizeof *pinned);
    assert_non_null(pinned);
    check_place(pinned);
    assert_true(*alone);
    uintptr_t *traced = loam_alloc(MANY * sizeof *traced);
    assert_non_null(traced);
    check_place(traced);
    assert_false(*alone);
    check_place(pinned);
    loam_free(traced);
    loam_free(pinned);
}

static size_t count_present(void *at, size_t bytes) {
    unsigned char present[64];
    assert_true(bytes / 4096 <= sizeof present);
    assert_int_equal(mincore(at, bytes, present), 0);
    size_t count = 0;
    for (size_t i = 0; i < bytes / 4096; i++) {
        count += present[i] & 1;
    }
    return count;
}

// QU5, in a block and in several; and zeros are read when it is written to.
static void test_empty(void **state) {
    (void)state;
    static const size_t sizes[] = {64 * KiB, 200 * KiB};
    for (size_t i = 0; i < 2; i++) {
        hold_there(in_data, sizes[i], 8);
        char *first = (char *)~hidden[0];
        char *last = (char *)~hidden[MANY - 1]; // no cycle has seen it
        assert_int_equal(count_present(last, sizes[i]), sizes[i] / 4096);
        assert_int_equal(count_held(), MANY);
        assert_int_equal(count_present(last, sizes[i]), 0);
        assert_int_equal(count_present(first, sizes[i]), 0);
        first[5000] = 1; // after its end: held all the same
        assert_int_equal(count_present(first, sizes[i]), 1);
        assert_int_equal(count_held(), MANY);
        memset(in_data, 0, sizeof in_data);
        scrub_stack();
        assert_true(count_held() < MANY / 4);
        for (size_t n = 0; n < MANY; n++) {
            char *again = served_make_zero(sizes[i], NULL);
            assert_non_null(again);
            for (size_t byte = 0; byte < sizes[i]; byte += 8) {
                assert_int_equal(*(uint64_t *)(again + byte), 0);
            }
            assert_true(served_free(again));
        }
    }
}

// QU2: what the program has mapped for itself is read, but not what it shares;
// QU4: and no page of it comes to be there.
static void test_mapped(void **state) {
    (void)state;
    size_t bytes = 64 * MiB;
    char *mine = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(mine != MAP_FAILED);
    check_place((uintptr_t *)(mine + 40 * MiB));
    static unsigned char there[64 * MiB / 4096];
    assert_int_equal(mincore(mine, bytes, there), 0);
    size_t pages = 0;
    for (size_t i = 0; i < bytes / 4096; i++) {
        pages += there[i] & 1;
    }
    assert_true(pages < 1024); // a huge page at most
    assert_int_equal(munmap(mine, bytes), 0);
    uintptr_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true((void *)shared != MAP_FAILED);
    hold_there(shared, 48, 0);
    scrub_stack();
    assert_true(count_held() < MANY / 4);
    assert_int_equal(munmap(shared, 4096), 0);
}

// --- Stacks ----------------------------------------------------------------

#define STACKS     300
#define DEEP_BYTES (64 * KiB)

static pthread_barrier_t stands, ends;

// TSan puts a signal off until a wait at a barrier is over.
#if defined(__SANITIZE_THREAD__)
#define STOPS_AT_BARRIER false
#else
#define STOPS_AT_BARRIER true
#endif

static NOT_INLINED void go_deep(void) {
    char deep[DEEP_BYTES];
    memset(deep, 1, sizeof deep);
    __asm__ volatile("" : : "r"(deep) : "memory");
}

// Goes deep first, if that is what `data` says.
static void *stand(void *data) {
    loam_door_thread_begin(); // as the wrapper of pthread_create does
    if (data != NULL) {
        go_deep();
    }
    assert_true(served_free(served_make(32, NULL)));
    pthread_barrier_wait(&stands);
    pthread_barrier_wait(&ends);
    return NULL;
}

// The foreign bytes of a cycle, with so many stacks.
static size_t foreign_with_stacks(void *deep) {
    pthread_t threads[STACKS];
    assert_int_equal(pthread_barrier_init(&stands, NULL, STACKS + 1), 0);
    assert_int_equal(pthread_barrier_init(&ends, NULL, STACKS + 1), 0);
    for (size_t i = 0; i < STACKS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, stand, deep), 0);
    }
    pthread_barrier_wait(&stands);
    assert_true(scrub_collect());
    size_t bytes = init_state.conductor.quarantine.foreign_bytes;
    assert_true(init_state.conductor.quarantine.read_count >= STACKS);
    pthread_barrier_wait(&ends);
    for (size_t i = 0; i < STACKS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    return bytes;
}

// What was read as a root is not read again, nor what is dead below it, of
// however many stacks.
static void test_stacks(void **state) {
    (void)state;
    if (!STOPS_AT_BARRIER) {
        skip();
    }
    static int deep;
    size_t bytes = foreign_with_stacks(NULL);
    // A sanitizer keeps a byte beside each eight, which is foreign.
    assert_in_range(foreign_with_stacks(&deep), 0,
                    bytes + STACKS * DEEP_BYTES / 2);
}

// QU2: what lies below the stack of a thread in the same mapping is read.
static void test_beside(void **state) {
    (void)state;
    if (!STOPS_AT_BARRIER) {
        skip();
    }
    size_t bytes = 1 * MiB;
    char *mapped = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true((void *)mapped != MAP_FAILED);
    assert_int_equal(pthread_barrier_init(&stands, NULL, 2), 0);
    assert_int_equal(pthread_barrier_init(&ends, NULL, 2), 0);
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, mapped + bytes, bytes),
                     0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, &attributes, stand, NULL), 0);
    pthread_barrier_wait(&stands);
    check_place((uintptr_t *)(mapped + bytes / 2));
    pthread_barrier_wait(&ends);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_attr_destroy(&attributes), 0);
    assert_int_equal(munmap(mapped, 2 * bytes), 0);
}

// --- Reuse -----------------------------------------------------------------

// QU1: as long as no cycle was, nothing that was freed comes again; with cycles
// nothing that is led to does.
static void test_reuse(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("quarantine reuse"));
    uintptr_t *stale = served_make_zero(MANY * sizeof *stale, NULL);
    for (size_t i = 0; i < MANY; i++) {
        stale[i] = (uintptr_t)served_make(16 + gen_below(&gen, 400), NULL);
        assert_true(served_free((void *)stale[i]));
    }
    for (size_t i = 0; i < 300000; i++) {
        char *p = served_make(16 + gen_below(&gen, 400), NULL);
        assert_non_null(p);
        uintptr_t start = (uintptr_t)p;
        for (size_t k = i % 16; k < MANY; k += 16) {
            assert_true(start != stale[k]);
        }
        *p = 1;
        assert_true(served_free(p));
    }
    assert_true(served_free(stale));
}

// QU3: where memory is refused all is let go, rather than the program.
static void test_gives_way(void **state) {
    (void)state;
    enum { PIECES = 512 };
    size_t bytes = 64 * KiB;
    void **stale = served_make_zero(PIECES * sizeof *stale, NULL);
    for (size_t i = 0; i < PIECES; i++) {
        stale[i] = served_make(bytes, NULL);
        assert_non_null(stale[i]);
        memset(stale[i], 1, bytes);
    }
    for (size_t i = 0; i < PIECES; i++) {
        assert_true(served_free(stale[i]));
    }
    struct region *ground = &init_state.home.heap.region;
    ground->limit_bytes = ground->committed_bytes + 4 * MiB;
    void **again = served_make_zero(PIECES * sizeof *again, NULL);
    for (size_t i = 0; i < PIECES; i++) {
        again[i] = served_make(bytes, NULL);
        assert_non_null(again[i]);
    }
    ground->limit_bytes = 0;
    for (size_t i = 0; i < PIECES; i++) {
        assert_true(served_free(again[i]));
    }
    assert_true(served_free(stale));
    assert_true(served_free(again));
}

// QU3 of objects that are not malloc's: the record of a new thread, for one.
static void test_gives_way_to_all(void **state) {
    (void)state;
    enum { PIECES = 8192 };
    size_t bytes = 64 * KiB, count = 0;
    void **stale = served_make_zero(PIECES * sizeof *stale, NULL);
    struct region *ground = &init_state.home.heap.region;
    ground->limit_bytes = 1; // no growth from here on
    while (count < PIECES &&
           (stale[count] = served_make(bytes, NULL)) != NULL) {
        count++;
    }
    assert_in_range(count, 1, PIECES - 1);
    for (size_t i = 0; i < count; i++) {
        assert_true(served_free(stale[i]));
    }
    void *pinned = loam_alloc_pinned(bytes);
    assert_non_null(pinned);
    loam_free(pinned);
    ground->limit_bytes = 0;
    assert_true(served_free(stale));
}

// --- Threads ---------------------------------------------------------------

#define SLOTS 512

static uint64_t *slots[SLOTS]; // atomic
static uint64_t wrong;         // atomic

// What is in an object is its own address; an object that two have would be
// written by both.
static void *play(void *data) {
    struct gen gen;
    gen_init(&gen, *(uint64_t *)data);
    for (size_t i = 0; i < SCALED(400000, 60000); i++) {
        size_t words = 2 + gen_below(&gen, gen_chance(&gen, 2) ? 4000 : 40);
        uint64_t *made = served_make(words * sizeof *made, NULL);
        for (size_t k = 1; k < words; k++) {
            made[k] = (uint64_t)(uintptr_t)made;
        }
        made[0] = words;
        uint64_t *old = __atomic_exchange_n(&slots[gen_below(&gen, SLOTS)],
                                            made, __ATOMIC_ACQ_REL);
        for (size_t k = 1; old != NULL && k < old[0]; k++) {
            if (old[k] != (uint64_t)(uintptr_t)old) {
                __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
            }
        }
        if (old != NULL && !served_free(old)) {
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    uint64_t seed = gen_seed("quarantine threads");
    uint64_t seeds[4];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        seeds[i] = seed + i;
        assert_int_equal(pthread_create(&threads[i], NULL, play, &seeds[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(wrong, 0);
    for (size_t i = 0; i < SLOTS; i++) {
        assert_true(slots[i] == NULL || served_free(slots[i]));
        slots[i] = NULL;
    }
}

// A child goes on holding what it was left, and its own.
static void test_forked(void **state) {
    (void)state;
    hold_there(in_data, 64, 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool good = count_held() == MANY;
        for (size_t i = 0; good && i < 100000; i++) {
            char *p = served_make(64, NULL);
            good = p != NULL && served_free(p);
            for (size_t k = 0; good && k < MANY; k++) {
                good = (uintptr_t)p != in_data[k];
            }
        }
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    memset(in_data, 0, sizeof in_data);
}

int main(int count, char **words) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_led_to),
        cmocka_unit_test(test_led_from),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_forked),
        cmocka_unit_test(test_gives_way),
        cmocka_unit_test(test_gives_way_to_all),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_stacks),
        cmocka_unit_test(test_beside),
    };
    setenv("LOAM_MODE", "quarantine", 1);
    // Where huge pages are asked for, the kernel fills what was given back up
    // again, in its own time (khugepaged); QU5 is not about that.
    setenv("LOAM_HUGE", "off", 1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    // Once more, with everything checked at each cycle.
    if (failed == 0 && count == 1 && getenv("LOAM_CHECK") == NULL) {
        setenv("LOAM_CHECK", "mark,verify", 1);
        execl(words[0], words[0], "again", (char *)NULL);
        failed = 1;
    }
    return failed;
}
