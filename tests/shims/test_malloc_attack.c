// Attacks on a heap, as they are known of allocators that keep their lists in
// the objects: none may hand out a cell twice, cells that overlap, or an
// address of the attacker's.  And in quarantine no cell is used again while a
// word leads to it, wherever that word stands.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loam.h"
#include "support/child.h"
#include "support/scrub.h"

// What is done here on purpose.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuse-after-free"
#pragma GCC diagnostic ignored "-Wfree-nonheap-object"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wdangling-pointer="
#pragma GCC diagnostic ignored "-Warray-bounds"
#endif

#define POOL    1200
#define HARVEST 150

// What is in use, each filled with its own byte.
static struct {
    unsigned char *at;
    size_t bytes;
} pool[POOL];
static size_t pool_count;
static uintptr_t target[64]; // where an attacker wants to be let in

static void *pool_make(size_t bytes) {
    unsigned char *p = malloc(bytes);
    assert_non_null(p);
    assert_true(loam_is_heap(p));
    assert_true((uintptr_t)p % 16 == 0);
    assert_true(malloc_usable_size(p) >= bytes);
    assert_true(pool_count < POOL);
    pool[pool_count].at = p;
    pool[pool_count].bytes = bytes;
    memset(p, (int)(pool_count % 251 + 1), bytes);
    pool_count++;
    return p;
}

// A cell handed out twice, or over another, has lost its byte.
static void pool_check(void) {
    for (size_t i = 0; i < pool_count; i++) {
        for (size_t k = 0; k < pool[i].bytes; k++) {
            assert_int_equal(pool[i].at[k], i % 251 + 1);
        }
    }
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(target[i] >> 16, 0); // sizes, as forged, at most
    }
}

static void pool_harvest(size_t bytes) {
    for (size_t i = 0; i < HARVEST; i++) {
        (void)pool_make(bytes);
        (void)pool_make(bytes / 2 + i % bytes);
    }
    pool_check();
    for (size_t i = 0; i < pool_count; i++) {
        free(pool[i].at);
    }
    pool_count = 0;
}

// Words into memory that was freed, or before an object.
static void poison(void *at, const void *first, const void *second) {
    uintptr_t words[2] = {(uintptr_t)first, (uintptr_t)second};
    memcpy(at, words, sizeof words);
}

// Three of a size; words before the second belong to the first.
static void *victims[3];

static char *beside(size_t bytes) {
    for (size_t i = 0; i < 3; i++) {
        victims[i] = malloc(bytes);
        assert_non_null(victims[i]);
        memset(victims[i], 0, bytes);
    }
    uintptr_t gap = (uintptr_t)victims[1] - (uintptr_t)victims[0];
    return gap < 4 * bytes + 64 ? victims[1] : NULL;
}

static void let_go(void) {
    free(victims[0]);
    free(victims[2]);
}

// --- The attacks -------------------------------------------------------

static void attack_dup(size_t bytes) {
    char *p = beside(bytes);
    free(victims[1]);
    free(victims[0]);
    free(victims[1]);
    free(victims[1]);
    (void)p;
    pool_harvest(bytes);
    free(victims[2]);
}

// Links in what was freed lead to the attacker's place, which has a size.
static void attack_poison(size_t bytes) {
    (void)beside(bytes);
    target[0] = bytes + 16;
    target[1] = bytes + 17;
    free(victims[1]);
    poison(victims[1], target, target);
    free(victims[1]);
    poison(victims[1], target + 2, (char *)target - 16);
    pool_harvest(bytes);
    let_go();
}

// The same with links that are hidden by their own address.
static void attack_veiled(size_t bytes) {
    (void)beside(bytes);
    free(victims[1]);
    uintptr_t veil = (uintptr_t)victims[1] >> 12;
    poison(victims[1], (void *)(veil ^ (uintptr_t)target), NULL);
    pool_harvest(bytes);
    let_go();
}

// A false object is freed: on the stack, in the program's data, in a cell.
static void attack_spirit(size_t bytes) {
    uintptr_t fake[64] __attribute__((aligned(16))) = {0};
    fake[1] = bytes + 17;
    fake[(bytes / 8 + 3) % 64] = 0x1234;
    free(&fake[2]);
    target[1] = bytes + 17;
    free(&target[2]);
    char *p = malloc(4 * bytes);
    assert_non_null(p);
    memset(p, 0, 4 * bytes);
    poison(p, NULL, (void *)(bytes + 17));
    free(p + 16);
    pool_harvest(bytes);
    assert_int_equal(fake[1], bytes + 17);
    free(p);
}

// Links and sizes before an object, so that freeing it would write to `hook`.
static void *hook;

static void attack_unlink(size_t bytes) {
    char *p = beside(bytes);
    if (p != NULL) {
        poison(victims[0], (char *)&hook - 24, (char *)&hook - 16);
        poison(p - 16, (void *)bytes, (void *)(bytes + 16));
    }
    hook = victims[0];
    free(victims[1]);
    assert_ptr_equal(hook, victims[0]);
    pool_harvest(bytes);
    let_go();
}

// A size before an object made larger, or cut by a zero byte.
static void attack_overlap(size_t bytes) {
    char *p = beside(bytes);
    if (p != NULL) {
        poison(p - 16, NULL, (void *)(2 * bytes + 33));
    }
    free(victims[1]);
    pool_harvest(2 * bytes);
    p = beside(bytes);
    if (p != NULL) {
        p[-8] = 0;
    }
    free(victims[1]);
    let_go();
    pool_harvest(bytes);
}

// What lies behind the last object says that all of memory is free.
static void attack_force(size_t bytes) {
    char *p = beside(bytes);
    if (p != NULL) {
        poison(p - 16, (void *)UINTPTR_MAX, (void *)UINTPTR_MAX);
    }
    volatile size_t wide = (uintptr_t)target - (uintptr_t)victims[2] - 64;
    void *wrong = malloc(wide);
    assert_true(wrong == NULL || loam_is_heap(wrong));
    pool_harvest(bytes);
    free(wrong);
    free(victims[1]);
    let_go();
}

// Objects of all sizes with links of the kinds that are kept by size.
static void attack_bins(size_t bytes) {
    char *large[8];
    for (size_t i = 0; i < 8; i++) {
        large[i] = malloc(bytes * 40 + 512 * i);
        assert_non_null(large[i]);
        memset(large[i], 0, bytes * 40);
    }
    for (size_t i = 0; i < 8; i += 2) {
        free(large[i]);
        poison(large[i], (char *)target - 16, (char *)target - 32);
        poison(large[i] + 16, (char *)target - 16, (char *)target - 32);
        free(large[i]);
        free(large[i] + 16);
    }
    pool_harvest(bytes * 40);
    for (size_t i = 1; i < 8; i += 2) {
        free(large[i]);
    }
}

// Freed while one way of caching is full, and again when it is not.
static void attack_cache(size_t bytes) {
    char *fill[20];
    for (size_t i = 0; i < 20; i++) {
        fill[i] = malloc(bytes);
        assert_non_null(fill[i]);
    }
    for (size_t i = 0; i < 20; i++) {
        free(fill[i]);
    }
    char *one = pool_make(bytes);
    free(fill[9]); // it may be in use by now, and then is not: no cell twice
    free(fill[9]);
    (void)one;
    pool_count = 0;
    pool_harvest(bytes);
}

static void *free_it(void *p) {
    free(p);
    return p;
}

static void attack_across(size_t bytes) {
    char *p = malloc(bytes);
    assert_non_null(p);
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, free_it, p), 0);
    }
    free(p);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    pool_harvest(bytes);
}

static void attack_resized(size_t bytes) {
    char *p = malloc(bytes);
    assert_non_null(p);
    free(p);
    assert_null(realloc(p, 3 * bytes));
    assert_null(realloc(p, 0));
    p = malloc(bytes);
    char *moved = realloc(p, 40 * bytes);
    assert_non_null(moved);
    if (moved != p) {
        free(p);
    }
    pool_harvest(bytes);
    free(moved);
}

static int attack_all(void) {
    static void (*const attacks[])(size_t bytes) = {
        attack_dup,   attack_poison, attack_veiled, attack_spirit,
        attack_force, attack_unlink, attack_bins,   attack_overlap,
        attack_cache, attack_across, attack_resized};
    static const size_t sizes[] = {24, 56, 128, 400, 1040, 5000};
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            memset(target, 0, sizeof target);
            attacks[i](sizes[k]);
        }
    }
    return 0;
}

// ML4
static void test_attacks(void **state) {
    (void)state;
    static const char *const modes[] = {"LOAM_MODE=quarantine",
                                        "LOAM_MODE=plain", "LOAM_MODE=reclaim",
                                        "LOAM_MODE=leakcheck"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        const char *settings[] = {modes[i], "LOAM_WARN=none",
                                  "LOAM_LEAK_STATUS=0", NULL};
        assert_true(child_passes("attacks", settings));
    }
}

// --- Where a pointer may stand -----------------------------------------

#define HELD_BYTES 72

static uintptr_t hidden;
static char **arguments;

NOT_INLINED static void *held_make(void) {
    void *p = malloc(HELD_BYTES);
    assert_non_null(p);
    hidden = LOAM_HIDE(p);
    return p;
}

NOT_INLINED static void held_free(void) {
    free(LOAM_REVEAL(hidden));
}

// Whether the cell is handed out again, and how soon.
NOT_INLINED static bool held_comes_back(void) {
    static void *taken[2000];
    bool back = false;
    for (int cycle = 0; cycle < 4 && !back; cycle++) {
        scrub_stack();
        assert_true(loam_collect());
        for (size_t i = 0; i < 2000; i++) {
            taken[i] = malloc(HELD_BYTES);
            back |= LOAM_HIDE(taken[i]) == hidden;
        }
        for (size_t i = 0; i < 2000; i++) {
            free(taken[i]);
            taken[i] = NULL;
        }
    }
    return back;
}

// The object is freed; the word at `place` stays, and is taken away at last.
NOT_INLINED static void held_by(void *volatile *place) {
    held_free();
    scrub_stack();
    assert_false(held_comes_back());
    assert_true(*place == LOAM_REVEAL(hidden));
}

static void *volatile held_global;
static __thread void *volatile held_thread;

// What nothing leads to comes back; a word that was left behind by chance may
// lead to one of them.
NOT_INLINED static void held_drop(void) {
    (void)held_make();
    held_free();
    scrub_stack();
}

static void test_control(void **state) {
    (void)state;
    bool back = false;
    for (int i = 0; i < 10 && !back; i++) {
        held_drop();
        scrub_stack();
        back = held_comes_back();
    }
    assert_true(back);
}

// QU2
static void test_near(void **state) {
    (void)state;
    void *volatile local = held_make();
    held_by(&local);
    local = NULL;
    held_global = held_make();
    held_by(&held_global);
    held_global = NULL;
    held_thread = held_make();
    held_by(&held_thread);
    held_thread = NULL;
    void **object = malloc(1000);
    assert_non_null(object);
    object[70] = held_make();
    held_by(object + 70);
    free(object);
    void **large = malloc(3 << 20);
    assert_non_null(large);
    large[200000] = held_make();
    held_by(large + 200000);
    free(large);
}

// QU2: the words above the first frame are the program's, too.
static void test_arguments(void **state) {
    (void)state;
    char *saved = arguments[0];
    arguments[0] = held_make();
    held_by((void *volatile *)arguments);
    arguments[0] = saved;
}

// QU2
static void test_mapped(void **state) {
    (void)state;
    size_t bytes = (size_t)1 << 20;
    int file = memfd_create("held", MFD_CLOEXEC);
    assert_true(file >= 0 && ftruncate(file, 1 << 20) == 0);
    for (int kind = 0; kind < 4; kind++) {
        int flags = kind == 1 ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS;
        void **at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags,
                         kind == 1 ? file : -1, 0);
        assert_true(at != MAP_FAILED);
        at[9999] = held_make();
        if (kind == 2) {
            assert_int_equal(mprotect(at, bytes, PROT_READ), 0);
        } else if (kind == 3) {
            at = mremap(at, bytes, 4 * bytes, MREMAP_MAYMOVE);
            assert_true(at != MAP_FAILED);
        }
        held_by(at + 9999);
        assert_int_equal(munmap(at, kind == 3 ? 4 * bytes : bytes), 0);
    }
    assert_int_equal(close(file), 0);
}

static pthread_barrier_t there;

static void *hold_in_thread(void *data) {
    void *volatile local = held_make();
    if (data != NULL) {
        held_thread = local;
        local = NULL;
    }
    (void)pthread_barrier_wait(&there);
    (void)pthread_barrier_wait(&there);
    local = NULL;
    held_thread = NULL;
    return local;
}

// QU2
static void test_threads(void **state) {
    (void)state;
    assert_int_equal(pthread_barrier_init(&there, NULL, 2), 0);
    for (int kind = 0; kind < 2; kind++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, hold_in_thread,
                                        kind == 0 ? NULL : &there),
                         0);
        (void)pthread_barrier_wait(&there);
        held_free();
        assert_false(held_comes_back());
        (void)pthread_barrier_wait(&there);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_int_equal(pthread_barrier_destroy(&there), 0);
}

static void hold_in_handler(int number) {
    (void)number;
    void *volatile local = held_make();
    held_by(&local);
}

// QU2: the handler runs on a stack of its own, which lies in the heap.
static void test_handler(void **state) {
    (void)state;
    stack_t own = {.ss_sp = malloc(1 << 18), .ss_size = 1 << 18};
    stack_t before;
    assert_non_null(own.ss_sp);
    assert_int_equal(sigaltstack(&own, &before), 0);
    struct sigaction action = {.sa_handler = hold_in_handler,
                               .sa_flags = SA_ONSTACK};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(sigaltstack(&before, NULL), 0);
    free(own.ss_sp);
}

static int blind_run(void) {
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_NOFILE, &none) != 0) {
        return 1;
    }
    held_global = held_make();
    held_free();
    bool back = held_comes_back();
    free(malloc(100)); // what was noted is said
    return back ? 1 : 7;
}

// Where the system does not say what is mapped, the program is told, and what
// its own data keeps is kept.
static void test_blind(void **state) {
    (void)state;
    struct child child;
    const char *settings[] = {"LOAM_WARN=once", NULL};
    child_exec(&child, "blind", settings);
    assert_int_equal(child.status, 7);
    assert_true(child_says(&child, "no descriptor is left"));
}

int main(int argc, char **argv) {
    const char *mode = child_mode(argc, argv);
    if (mode != NULL) {
        return *mode == 'b' ? blind_run() : attack_all();
    }
    arguments = argv;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attacks), cmocka_unit_test(test_control),
        cmocka_unit_test(test_near),    cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_mapped),  cmocka_unit_test(test_threads),
        cmocka_unit_test(test_handler), cmocka_unit_test(test_blind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
