// init: built once, attached where it should be, and one thread only.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "api/init.h"
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

static void *enter(void *data) {
    (void)data;
    return init_ready();
}

static int second_thread(void *data) {
    (void)data;
    pthread_t thread;
    (void)init_ready();
    pthread_create(&thread, NULL, enter, NULL);
    pthread_join(thread, NULL);
    return 0;
}

// I3: a second thread stops the process with a message.
static void test_one(void **state) {
    (void)state;
    struct child child;
    child_fork(&child, second_thread, NULL);
    assert_int_equal(child.signal, SIGABRT);
    assert_true(child_says(&child, "thread"));
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
        return strcmp(mode, "hook") == 0 ? mode_hook() : mode_misuse();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure), // in a child, before it is built
        cmocka_unit_test(test_once),    cmocka_unit_test(test_attached),
        cmocka_unit_test(test_one),     cmocka_unit_test(test_hook),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
