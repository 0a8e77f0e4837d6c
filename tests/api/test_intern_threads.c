// Several threads that intern the same texts at once, and children that are
// made meanwhile.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loam/data.h"
#include "support/scrub.h"

#define TEXTS   ((size_t)SCALED(20000, 2000))
#define THREADS ((size_t)4)

static size_t write_text(char *text, size_t room, const char *name, size_t i) {
    int count = snprintf(text, room, "%s %zu", name, i * i);
    assert_true(count > 0 && (size_t)count < room);
    return (size_t)count;
}

// --- Threads ---------------------------------------------------------------

struct worker {
    pthread_t thread;
    const char **texts; // held by an object that the test holds
};

static void *work(void *data) {
    struct worker *worker = data;
    char text[40];
    for (size_t i = 0; i < TEXTS; i++) {
        size_t count = write_text(text, sizeof text, "shared", i);
        worker->texts[i] = loam_intern_bytes(text, count);
        // Garbage, so that collections come and clear what nobody holds.
        (void)write_text(text, sizeof text, "passing", i);
        if (loam_intern(text) == NULL) {
            break;
        }
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    const char ***all = loam_calloc(THREADS, sizeof *all);
    struct worker workers[THREADS];
    assert_non_null(all);
    for (size_t turn = 0; turn < 3; turn++) {
        for (size_t i = 0; i < THREADS; i++) {
            all[i] = loam_calloc(TEXTS, sizeof **all);
            assert_non_null(all[i]);
            workers[i] = (struct worker){.texts = all[i]};
            assert_int_equal(
                pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        }
        loam_blocking_enter();
        for (size_t i = 0; i < THREADS; i++) {
            pthread_join(workers[i].thread, NULL);
        }
        loam_blocking_leave();
        for (size_t at = 0; at < TEXTS; at++) {
            assert_non_null(all[0][at]);
            for (size_t i = 1; i < THREADS; i++) {
                assert_ptr_equal(all[i][at], all[0][at]); // IN2
            }
        }
    }
}

// --- Children --------------------------------------------------------------

static bool stop_busy;

static void *be_busy(void *data) {
    char text[40];
    for (size_t i = 0; !__atomic_load_n(&stop_busy, __ATOMIC_RELAXED); i++) {
        (void)write_text(text, sizeof text, "busy", i % 5000);
        if (loam_intern(text) == NULL) {
            break;
        }
    }
    return data;
}

static int in_child(const char *kept) {
    char text[40];
    if (loam_intern("kept over a fork") != kept) {
        return 1;
    }
    for (size_t i = 0; i < 300; i++) {
        (void)write_text(text, sizeof text, "child", i);
        const char *one = loam_intern(text);
        if (one == NULL || loam_intern(text) != one) {
            return 2;
        }
    }
    return 0;
}

// While another thread is interning: IN1 and IN2 in the child.
static void test_children(void **state) {
    (void)state;
    pthread_t busy;
    const char *kept = loam_intern("kept over a fork");
    assert_non_null(kept);
    assert_int_equal(pthread_create(&busy, NULL, be_busy, NULL), 0);
    for (size_t i = 0; i < SCALED(30, 8); i++) {
        pid_t child = fork();
        if (child == 0) {
            _exit(in_child(kept));
        }
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    __atomic_store_n(&stop_busy, true, __ATOMIC_RELAXED);
    pthread_join(busy, NULL);
    assert_string_equal(kept, "kept over a fork");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_children),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
