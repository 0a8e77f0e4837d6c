// malloc's family on libloam_malloc, linked before the C library: what glibc
// documents and programs rely on.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loam.h"
#include "support/child.h"
#include "support/gen.h"
#include "support/scrub.h"

// What is done here on purpose.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuse-after-free"
#pragma GCC diagnostic ignored "-Walloc-size-larger-than="
#endif

void cfree(void *p);
void free_sized(void *p, size_t bytes);
void free_aligned_sized(void *p, size_t alignment, size_t bytes);

// What the compiler knows of these must not do the work instead.
static void *volatile sink;
static size_t volatile huge = SIZE_MAX, odd = 48;

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static bool is_zero(const unsigned char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

static const size_t sizes[] = {0,    1,     8,     15,     16,     17,     24,
                               100,  128,   1000,  4096,   8000,   8192,   8193,
                               9000, 40000, 65536, 200000, 300000, 3000000};
#define SIZES (sizeof sizes / sizeof *sizes)

// It is Loam that serves, the C library's own calls as well.
static void test_ours(void **state) {
    (void)state;
    assert_true(loam_is_heap(sink = malloc(10)));
    free(sink);
    assert_true(loam_is_heap(sink = strdup("text")));
    free(sink);
    char *line = NULL;
    assert_true(asprintf(&line, "%d", 12) == 2 && loam_is_heap(line));
    free(line);
    void *(*found)(size_t);
    *(void **)&found = dlsym(RTLD_DEFAULT, "malloc");
    assert_true(found == malloc);
}

// ML2: all of it may be written to, and is aligned.
static void test_sizes(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *p = must(malloc(sizes[i]));
        size_t usable = malloc_usable_size(p);
        assert_true(usable >= sizes[i] && usable > 0);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 0xA5, usable);
        free(p);
        p = must(calloc(sizes[i], 1)); // where that stood
        assert_true(is_zero(p, sizes[i]));
        free(p);
    }
    assert_int_equal(malloc_usable_size(NULL), 0);
    void *none = must(malloc(0)), *other = must(malloc(0));
    assert_ptr_not_equal(none, other);
    free(none);
    free(other);
    free(NULL);
}

#define ABSURD(call)                                                           \
    do {                                                                       \
        errno = 0;                                                             \
        assert_null(sink = (call));                                            \
        assert_int_equal(errno, ENOMEM);                                       \
    } while (0)

// ML1, as all that follows.
static void test_absurd(void **state) {
    (void)state;
    void *p = must(malloc(100));
    for (size_t less = 0; less < 3; less++) {
        size_t bytes = huge / (less == 2 ? 2 : 1) - less + (less == 2 ? 3 : 0);
        ABSURD(malloc(bytes));
        ABSURD(calloc(1, bytes));
        ABSURD(realloc(p, bytes));
        ABSURD(memalign(64, bytes));
        ABSURD(aligned_alloc(64, bytes));
        ABSURD(valloc(bytes));
        ABSURD(pvalloc(bytes));
        void *at = &at;
        errno = 0;
        assert_int_equal(posix_memalign(&at, 64, bytes), ENOMEM);
        assert_ptr_equal(at, &at);
        assert_int_equal(errno, ENOMEM); // as glibc's, though it need not
    }
    ABSURD(calloc(huge / 2, 3));
    ABSURD(reallocarray(p, huge / 2, 3));
    ABSURD(reallocarray(NULL, huge, huge));
    ABSURD(malloc((size_t)PTRDIFF_MAX + 1));
    memset(p, 1, 100); // it is still there
    free(p);
}

static void test_resize(void **state) {
    (void)state;
    uint64_t seed = gen_seed("realloc");
    unsigned char *p = NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < 2000; i++) {
        seed = gen_mix(seed, i);
        size_t wanted = 1 + sizes[seed % SIZES] / (1 + seed % 7);
        p = must(i % 2 ? realloc(p, wanted) : reallocarray(p, wanted, 1));
        size_t kept = bytes < wanted ? bytes : wanted;
        for (size_t k = 0; k < kept; k += 1 + kept / 50) {
            assert_int_equal(p[k], (unsigned char)(k * 7));
        }
        bytes = wanted;
        for (size_t k = 0; k < bytes; k++) {
            p[k] = (unsigned char)(k * 7);
        }
    }
    errno = 77;
    assert_null(sink = realloc(p, 0)); // frees
    assert_int_equal(errno, 77);
    p = must(realloc(NULL, 0));
    free(p);
}

static void test_aligned(void **state) {
    (void)state;
    for (size_t alignment = 1; alignment <= (size_t)1 << 21; alignment *= 2) {
        for (size_t i = 0; i < SIZES; i += 3) {
            char *p = must(memalign(alignment, sizes[i]));
            char *q = must(aligned_alloc(alignment, sizes[i]));
            assert_int_equal((uintptr_t)p % alignment, 0);
            assert_int_equal((uintptr_t)q % alignment, 0);
            memset(p, 1, malloc_usable_size(p));
            free(p);
            free_aligned_sized(q, alignment, sizes[i]);
            void *at = NULL;
            int error = posix_memalign(&at, alignment, sizes[i]);
            assert_int_equal(error, alignment < sizeof(void *) ? EINVAL : 0);
            assert_int_equal((uintptr_t)at % alignment, 0);
            free(at);
        }
    }
    void *at = NULL;
    assert_int_equal(posix_memalign(&at, 24, 8), EINVAL);
    assert_int_equal(posix_memalign(&at, 0, 8), EINVAL);
    void *p = must(memalign(odd, 100)); // the next power of two
    assert_int_equal((uintptr_t)p % 64, 0);
    free(p);
    errno = 0;
    assert_null(sink = memalign(huge - 8, 1));
    assert_int_equal(errno, EINVAL);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    p = must(valloc(10));
    assert_int_equal((uintptr_t)p % page, 0);
    free(p);
    p = must(pvalloc(10));
    assert_int_equal((uintptr_t)p % page, 0);
    assert_true(malloc_usable_size(p) >= page);
    free_sized(p, 10);
}

// ML3
static void test_errno(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *p = must(malloc(sizes[i]));
        errno = 4711;
        free(p);
        assert_int_equal(errno, 4711);
        p = must(malloc(sizes[i]));
        errno = 4711;
        cfree(p);
        assert_int_equal(errno, 4711);
    }
}

// --- What the allocator tells ------------------------------------------

static void test_told(void **state) {
    (void)state;
    struct mallinfo2 before = mallinfo2();
    void *p = must(malloc(5 << 20));
    struct mallinfo2 after = mallinfo2();
    assert_true(after.uordblks >= before.uordblks + (5 << 20));
    assert_true(after.arena >= after.uordblks);
    assert_true(mallinfo().uordblks > 0);
    free(p);
    assert_true(mallinfo2().uordblks < after.uordblks);
    (void)malloc_trim(0);
    assert_int_equal(malloc_trim(0), 0); // nothing is left
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, 1000), 1);
    char text[2000];
    FILE *file = fmemopen(text, sizeof text, "w");
    assert_int_equal(malloc_info(1, file), EINVAL);
    assert_int_equal(malloc_info(0, file), 0);
    fclose(file);
    assert_non_null(strstr(text, "<malloc version=\"1\">"));
    assert_non_null(strstr(text, "</malloc>"));
}

// ML7: it is given what is Loam's, and gives what is.
static void test_deep(void **state) {
    (void)state;
    void *library = dlopen(MALLOC_LOADED, RTLD_NOW | RTLD_DEEPBIND);
    assert_non_null(library);
    char *(*make)(void);
    void (*let_go)(void *p);
    *(void **)&make = dlsym(library, "loaded_make");
    *(void **)&let_go = dlsym(library, "loaded_free");
    char *text = make();
    assert_true(loam_is_heap(text));
    assert_string_equal(text, "made by a library");
    free(text);
    let_go(malloc(100));
    assert_int_equal(dlclose(library), 0);
}

// --- Misuse, in a child ------------------------------------------------

NOT_INLINED static void misuse_free(void *p) {
    free(p);
}

static int child_misuse(void) {
    char *p = malloc(100);
    static char foreign[100];
    misuse_free(foreign);
    misuse_free(p + 16);
    misuse_free(p);
    misuse_free(p);
    sink = realloc(foreign, 10);
    int error = errno;
    sink = realloc(p, 10);
    return sink == NULL && error == EINVAL && malloc_usable_size(p) == 0 ? 7
                                                                         : 1;
}

// ML4
static void test_misuse(void **state) {
    (void)state;
    struct child child;
    const char *all[] = {"LOAM_WARN=all", NULL};
    child_exec(&child, "misuse", all);
    assert_int_equal(child.status, 7);
    assert_true(child_says(&child, "inside an object"));
    assert_true(child_says(&child, "freed before"));
    assert_true(child_says(&child, "free(0x"));
    assert_true(child_says(&child, "realloc(0x"));
    assert_true(child_says(&child, "malloc_usable_size(0x"));
    assert_true(child_says(&child, "test_malloc+0x")); // the caller
    const char *ends[] = {"LOAM_ABORT=1", NULL};
    child_exec(&child, "misuse", ends);
    assert_int_equal(child.signal, SIGABRT);
}

// --- Threads, their ends, and children ---------------------------------

static void *tell_cancelled(void *unused) {
    (void)unused;
    pthread_cancel(pthread_self());
    malloc_stats();
    pthread_testcancel();
    return NULL;
}

static int child_cancelled(void *unused) {
    pthread_t thread;
    void *result = NULL;
    return pthread_create(&thread, NULL, tell_cancelled, unused) == 0 &&
                   pthread_join(thread, &result) == 0 &&
                   result == PTHREAD_CANCELED
               ? 7
               : 1;
}

// ML1: who is cancelled in malloc_stats has said all of it.
static void test_cancelled(void **state) {
    (void)state;
    struct child child;
    child_fork(&child, child_cancelled, NULL);
    assert_int_equal(child.status, 7);
    assert_true(child_says(&child, "system bytes     = "));
    assert_true(child_says(&child, "max mmap bytes   = "));
}

static pthread_key_t key;

// Runs when the collector may have seen the end of its thread already.
static void end_late(void *value) {
    void *p = malloc(1000);
    free(value);
    static __thread int rounds;
    if (++rounds < 4) {
        assert_int_equal(pthread_setspecific(key, p), 0);
    } else {
        free(p);
    }
}

static void *churn(void *given) {
    assert_int_equal(pthread_setspecific(key, malloc(10)), 0);
    unsigned char *kept[64] = {0};
    uint64_t seed = gen_mix((uintptr_t)given, 1);
    for (size_t i = 0; i < 20000; i++) {
        seed = gen_mix(seed, i);
        size_t at = seed % 64;
        if (kept[at] != NULL) {
            assert_int_equal(*kept[at], (unsigned char)at);
        }
        free(kept[at]);
        kept[at] = must(malloc(1 + sizes[seed / 64 % (SIZES - 4)]));
        *kept[at] = (unsigned char)at;
    }
    for (size_t at = 1; at < 64; at++) {
        free(kept[at]);
    }
    free(given);    // another thread's
    return kept[0]; // another thread frees it
}

// ML5
static void test_threads(void **state) {
    (void)state;
    assert_int_equal(pthread_key_create(&key, end_late), 0);
    for (size_t round = 0; round < 10; round++) {
        pthread_t threads[4];
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(
                pthread_create(&threads[i], NULL, churn, malloc(50)), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            void *left;
            assert_int_equal(pthread_join(threads[i], &left), 0);
            free(left);
        }
    }
    assert_int_equal(pthread_key_delete(key), 0);
}

static volatile int over;

static void *churn_on(void *unused) {
    (void)unused;
    while (!over) {
        free(churn(malloc(1)));
    }
    return NULL;
}

// Children of a process whose other thread is in the middle of something.
static void test_fork(void **state) {
    (void)state;
    assert_int_equal(pthread_key_create(&key, end_late), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, churn_on, NULL), 0);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            for (size_t k = 0; k < SIZES; k++) {
                free(must(malloc(sizes[k])));
            }
            fflush(stdout);
            _exit(i);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), i);
    }
    over = 1;
    assert_int_equal(pthread_join(thread, NULL), 0);
}

// SV1: no collection takes what malloc gave, nor does malloc begin one.
static void test_not_collected(void **state) {
    (void)state;
    struct loam_stats stats;
    uint64_t before = (loam_stats(&stats, sizeof stats), stats.collections);
    uintptr_t hidden[1000];
    for (size_t i = 0; i < 1000; i++) {
        size_t *p = must(malloc(i % 10 == 0 ? 100000 : 24));
        *p = i;
        hidden[i] = LOAM_HIDE(p);
    }
    for (size_t i = 0; i < 200; i++) {
        free(must(malloc(1 << 20)));
    }
    loam_stats(&stats, sizeof stats);
    assert_int_equal(stats.collections, before);
    assert_true(loam_collect());
    for (size_t i = 0; i < 1000; i++) {
        size_t *p = LOAM_REVEAL(hidden[i]);
        assert_int_equal(*p, i);
        free(p);
    }
}

int main(int argc, char **argv) {
    const char *mode = child_mode(argc, argv);
    if (mode != NULL) {
        return child_misuse();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours),      cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_absurd),    cmocka_unit_test(test_resize),
        cmocka_unit_test(test_aligned),   cmocka_unit_test(test_errno),
        cmocka_unit_test(test_told),      cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_cancelled), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_fork),      cmocka_unit_test(test_not_collected),
        cmocka_unit_test(test_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
