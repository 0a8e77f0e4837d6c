// init: built once, whoever calls first; attached where it should be; and what
// a thread has left when it ends.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "api/init.h"
#include "heap/block.h"
#include "heap/range.h"
#include "support/child.h"
#include "support/room.h"

// I1: the second call finds what the first one built.
static void test_once(void **state) {
    (void)state;
    assert_null(init_mutator); // no constructor built it
    assert_false(init_state.built);
    struct mutator *mutator = init_ready();
    assert_non_null(mutator);
    assert_true(init_state.built);
    assert_ptr_equal(init_ready(), mutator);
    assert_true(loam_init());
    assert_ptr_equal(init_ready(), mutator);
}

static unsigned said;

static void hear(const char *sentence, void *data) {
    (void)data;
    said += strstr(sentence, "refuses") != NULL;
}

// In a fresh process that is given no memory.
static int begin_without_room(void *data) {
    (void)data;
    loam_set_warning_hook(hear, NULL);
    if (!room_end()) {
        return 77;
    }
    bool failed = init_ready() == NULL && !loam_init();
    errno = 0;
    failed = failed && loam_alloc(16) == NULL && errno == ENOMEM;
    bool harmless =
        !loam_collect() && !loam_is_heap(data) && loam_usable_size(data) == 0;
    loam_free(NULL);
    room_back();
    bool again = init_ready() != NULL && loam_alloc(16) != NULL;
    return failed && harmless && again && said == 1 ? 0 : 1;
}

// I1: a failure is said once, and the next call tries again.
static void test_failure(void **state) {
    (void)state;
    struct child child;
    child_fork(&child, begin_without_room, NULL);
    if (child.status == 77) {
        skip();
    }
    assert_int_equal(child.status, 0);
}

// I2: attached outside a cycle, and not within one.
static bool was_attached;

static void look(loam_push_fn *push, void *cycle, void *data) {
    (void)push;
    (void)cycle;
    (void)data;
    was_attached = init_mutator != NULL || loam_alloc(16) != NULL;
}

static void test_attached(void **state) {
    (void)state;
    struct mutator *mutator = init_ready();
    was_attached = true;
    assert_true(loam_roots_scanner(look, NULL));
    assert_true(loam_collect());
    assert_false(was_attached);
    assert_ptr_equal(init_mutator, mutator);
    assert_true(loam_roots_scanner_remove(look, NULL));
}

// What a thread was while it lived, to be looked at when it has ended.
struct visit {
    struct mutator *mutator;
    uint32_t id;
    uint32_t block; // that it bumped in
};

static void *come(void *data) {
    struct visit *visit = data;
    visit->mutator = init_ready();
    if (visit->mutator == NULL || visit->mutator != init_mutator) {
        return data;
    }
    visit->id = visit->mutator->id;
    if (init_ready() != visit->mutator) {
        return data;
    }
    void *p = loam_alloc(24);
    visit->block = range_block_of((uintptr_t)p);
    loam_keep(p);
    return visit->mutator->home.used == NULL ? data : NULL;
}

static void *come_twice(void *data) {
    if (come(data) != NULL) {
        return data;
    }
    init_detach();
    init_detach(); // again: nothing
    if (init_mutator != NULL) {
        return data;
    }
    return come(data);
}

static void count_block(struct cache *cache, void *data) {
    *(size_t *)data += cache->block != BLOCK_NONE;
}

// I3: a thread is attached when it calls, has its caches until it ends, and has
// given them up afterwards.
static void test_ended(void **state) {
    (void)state;
    void *(*const ways[])(void *) = {come, come_twice};
    for (size_t i = 0; i < 20; i++) {
        struct visit visit = {NULL, 0, 0};
        pthread_t thread;
        void *failed;
        assert_int_equal(pthread_create(&thread, NULL, ways[i % 2], &visit), 0);
        assert_int_equal(pthread_join(thread, &failed), 0);
        assert_null(failed);
        assert_ptr_not_equal(visit.mutator, init_mutator);
        assert_int_equal(block_owner(visit.block), 0);
        struct mutator *mine = init_lock();
        assert_non_null(mine);
        struct mutator *gone = world_find(visit.id);
        size_t blocks = 0;
        if (gone != NULL) {
            assert_true(gone->leaving);
            mutator_each_cache(gone, NULL, count_block, &blocks);
        }
        init_unlock(mine);
        assert_int_equal(blocks, 0);
    }
    assert_true(loam_collect());
}

// I1: threads that all call first: one builds, and all are served.
static atomic_uint waiting;

static void *call_first(void *data) {
    atomic_fetch_add(&waiting, 1);
    while (atomic_load(&waiting) < 4) {
    }
    return loam_alloc(100) == NULL ? data : NULL;
}

static int mode_together(void) {
    pthread_t threads[4];
    int failed = 0;
    for (size_t i = 0; i < 4; i++) {
        failed |= pthread_create(&threads[i], NULL, call_first, &failed);
    }
    for (size_t i = 0; i < 4; i++) {
        void *answer;
        failed |= pthread_join(threads[i], &answer) != 0 || answer != NULL;
    }
    return failed || !loam_collect();
}

// Modes of a fresh process.

static size_t allocated; // by the hook

static void allocate_in_hook(const char *sentence, void *data) {
    (void)data;
    said += strstr(sentence, "LOAM_NONSENSE") != NULL;
    allocated += loam_alloc(16) != NULL;
    (void)loam_init();
}

// A hook that may not allocate and does, while the house is being built.
static int mode_hook(void) {
    loam_set_warning_hook(allocate_in_hook, NULL);
    bool ready = loam_init();
    bool works = loam_alloc(16) != NULL && loam_collect();
    return ready && works && said == 1 && allocated == 0 ? 0 : 1;
}

// The first that Loam hears of is a wrong pointer.
static int mode_misuse(void) {
    static long foreign;
    loam_free(&foreign);
    loam_free(&foreign);
    return 0;
}

static int run(struct child *child, const char *mode, const char *setting,
               const char *other) {
    const char *const settings[] = {setting, other, NULL};
    child_exec(child, mode, settings);
    return child->status;
}

static void test_together(void **state) {
    (void)state;
    static struct child child;
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(run(&child, "together", "LOAM_CHECK=all", NULL), 0);
        assert_int_equal(child.count, 0);
    }
}

// I1: what is said while building cannot build a second time.
static void test_hook(void **state) {
    (void)state;
    static struct child child;
    assert_int_equal(run(&child, "hook", "LOAM_NONSENSE=1", NULL), 0);
    assert_int_equal(child.count, 0);
}

// The options are in force from the first word on, in whatever order the
// environment lists them.
static void test_words(void **state) {
    (void)state;
    static struct child child;
    run(&child, "misuse", "LOAM_WARN=all", NULL);
    const char *first = strstr(child.text, "loam_free(");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "loam_free("));
    run(&child, "misuse", "LOAM_WARN=none", "LOAM_NONSENSE=1");
    assert_int_equal(child.count, 0);
    run(&child, "misuse", "LOAM_NONSENSE=1", "LOAM_WARN=none");
    assert_int_equal(child.count, 0);
}

int main(int argc, char **argv) {
    const char *mode = child_mode(argc, argv);
    if (mode != NULL) {
        return strcmp(mode, "hook") == 0       ? mode_hook()
               : strcmp(mode, "together") == 0 ? mode_together()
                                               : mode_misuse();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure), // in a child, before it is built
        cmocka_unit_test(test_once),    cmocka_unit_test(test_attached),
        cmocka_unit_test(test_ended),   cmocka_unit_test(test_hook),
        cmocka_unit_test(test_words),   cmocka_unit_test(test_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
