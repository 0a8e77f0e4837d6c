// Variables of other threads, which were stopped anywhere: as they compute, as
// they load and unload libraries, as they begin.
// long: 20000
// seconds: 120

#include "os/segments.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/defs.h"
#include "os/loader.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

#define THREADS 3u

static size_t turns = 400;

// --- Stopping --------------------------------------------------------------

// One thread: it loads and unloads until it is told to end, and stands still in
// its handler while it is asked to.
struct loading {
    pthread_t thread;
    uintptr_t pointer;      // its thread pointer
    _Atomic uintptr_t own;  // where its variable of the library is; 0: none
    _Atomic uintptr_t data; // and the library's static one
    _Atomic bool started;
};

static struct loading loadings[THREADS];
static _Atomic bool end;
static _Atomic size_t stopped; // threads in the handler
static _Atomic uint32_t epoch; // odd: stand still

static void stand_still(int number) {
    (void)number;
    int saved = errno;
    uint32_t now = atomic_load(&epoch);
    if (now % 2 == 1) {
        atomic_fetch_add(&stopped, 1);
        while (atomic_load(&epoch) == now) {
            (void)syscall(SYS_sched_yield);
        }
        atomic_fetch_sub(&stopped, 1);
    }
    errno = saved;
}

static void stop_all(void) {
    while (atomic_load(&stopped) != 0) { // some still leave
        (void)syscall(SYS_sched_yield);
    }
    atomic_fetch_add(&epoch, 1);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_kill(loadings[index].thread, SIGUSR1), 0);
    }
    while (atomic_load(&stopped) != THREADS) {
        (void)syscall(SYS_sched_yield);
    }
}

static void resume_all(void) {
    atomic_fetch_add(&epoch, 1);
}

// --- What the threads do ---------------------------------------------------

typedef uintptr_t *finder(void);

static finder *find_function(void *library, const char *name) {
    void *found = dlsym(library, name);
    finder *function;
    memcpy(&function, &found, sizeof function);
    return function;
}

static _Thread_local uintptr_t own_variable;

static void *load_and_unload(void *data) {
    struct loading *loading = data;
    loading->pointer = segments_thread_pointer();
    own_variable = 1;
    atomic_store(&loading->started, true);
    while (!atomic_load(&end)) {
        void *library = dlopen(SEGMENTS_THREADS_LOADED, RTLD_NOW);
        if (library == NULL) {
            abort();
        }
        atomic_store(&loading->data, (uintptr_t)find_function(
                                         library, "segments_threads_data")());
        atomic_store(&loading->own, (uintptr_t)find_function(
                                        library, "segments_threads_own")());
        atomic_store(&loading->own, 0);
        atomic_store(&loading->data, 0);
        (void)dlclose(library);
    }
    return NULL;
}

// --- What is found ---------------------------------------------------------

struct search {
    uintptr_t sought[THREADS];
    bool found[THREADS];
    uintptr_t sum;
};

// Reads every word: all must be there (G3).
NO_SANITIZE static void look(const void *start, const void *end_of_range,
                             void *data) {
    struct search *search = data;
    for (size_t index = 0; index < THREADS; index++) {
        uintptr_t at = search->sought[index];
        if (at >= (uintptr_t)start && at < (uintptr_t)end_of_range) {
            search->found[index] = true;
        }
    }
    uintptr_t total = 0;
    const volatile uintptr_t *word = start;
    for (; word < (const uintptr_t *)end_of_range; word++) {
        total += *word;
    }
    search->sum += total;
}

static uintptr_t static_variable = 1;

static size_t changing; // stops in which the list was being changed

static void see_module(const struct loader_module *module, void *data) {
    (void)module;
    (void)data;
}

// G1, G2, G5: whether everything is found.
static bool check_stopped(void) {
    static struct search search;
    bool good = true;
    memset(&search, 0, sizeof search);
    for (size_t index = 0; index < THREADS; index++) {
        search.sought[index] = atomic_load(&loadings[index].data);
    }
    changing += loader_each(see_module, NULL) == LOADER_CHANGING;
    segments_each(look, &search);
    for (size_t index = 0; index < THREADS; index++) {
        good = good && (search.sought[index] == 0 || search.found[index]);
    }
    memset(&search, 0, sizeof search);
    search.sought[0] = (uintptr_t)&static_variable;
    search.sought[1] = (uintptr_t)&stdout;
    search.sought[2] = (uintptr_t)&environ;
    segments_each(look, &search);
    good = good && search.found[0] && search.found[1] && search.found[2];
    for (size_t index = 0; index < THREADS; index++) {
        memset(&search, 0, sizeof search);
        search.sought[0] = atomic_load(&loadings[index].own);
        segments_each_tls(loadings[index].pointer, look, &search);
        good = good && (search.sought[0] == 0 || search.found[0]);
    }
    return good;
}

// --- The tests -------------------------------------------------------------

static void test_stopped_anywhere(void **state) {
    (void)state;
#if defined(UNDER_TSAN)
    skip(); // signals are held back there
#endif
    struct sigaction action = {.sa_handler = stand_still,
                               .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_create(&loadings[index].thread, NULL,
                                        load_and_unload, &loadings[index]),
                         0);
        while (!atomic_load(&loadings[index].started)) {
            (void)syscall(SYS_sched_yield);
        }
    }
    for (size_t turn = 0; turn < turns; turn++) {
        struct timespec nap = {.tv_nsec = (long)(turn * 7919 % 200) * 1000};
        (void)nanosleep(&nap, NULL);
        stop_all();
        bool good = check_stopped();
        resume_all();
        assert_true(good);
    }
    atomic_store(&end, true);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_join(loadings[index].thread, NULL), 0);
    }
    print_message("%zu of %zu stops came while the list was being changed\n",
                  changing, turns);
}

// G2: of threads that wait, all that they have of a library loaded since.
struct waiting {
    pthread_t thread;
    uintptr_t pointer;
    uintptr_t own;
    const void *variable;
};

static pthread_barrier_t begun, loaded, ended;
static finder *find_own;

static void *wait_and_touch(void *data) {
    struct waiting *waiting = data;
    waiting->pointer = segments_thread_pointer();
    waiting->variable = &own_variable;
    (void)pthread_barrier_wait(&begun);
    (void)pthread_barrier_wait(&loaded);
    waiting->own = (uintptr_t)find_own();
    (void)pthread_barrier_wait(&loaded);
    (void)pthread_barrier_wait(&ended);
    return NULL;
}

static void test_loaded_since(void **state) {
    (void)state;
    struct waiting waiting[THREADS];
    assert_int_equal(pthread_barrier_init(&begun, NULL, THREADS + 1), 0);
    assert_int_equal(pthread_barrier_init(&loaded, NULL, THREADS + 1), 0);
    assert_int_equal(pthread_barrier_init(&ended, NULL, THREADS + 1), 0);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_create(&waiting[index].thread, NULL,
                                        wait_and_touch, &waiting[index]),
                         0);
    }
    (void)pthread_barrier_wait(&begun);
    void *library = dlopen(SEGMENTS_THREADS_LOADED, RTLD_NOW);
    assert_non_null(library);
    find_own = find_function(library, "segments_threads_own");
    (void)pthread_barrier_wait(&loaded);
    (void)pthread_barrier_wait(&loaded);
    static struct search search;
    segments_each(look, &search);
    for (size_t index = 0; index < THREADS; index++) {
        memset(&search, 0, sizeof search);
        search.sought[0] = waiting[index].own;
        search.sought[1] = (uintptr_t)waiting[index].variable;
        search.sought[2] = (uintptr_t)&own_variable; // this thread's
        segments_each_tls(waiting[index].pointer, look, &search);
        assert_true(search.found[0] && search.found[1]);
        assert_false(search.found[2]);
    }
    (void)pthread_barrier_wait(&ended);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_join(waiting[index].thread, NULL), 0);
    }
    (void)dlclose(library);
}

// G6: where the first page of a file is both its header and its data.
static void test_mapped_twice(void **state) {
    (void)state;
    void *library = dlopen(SEGMENTS_THREADS_LOADED, RTLD_NOW);
    assert_non_null(library);
    static struct search search;
    memset(&search, 0, sizeof search);
    uintptr_t data =
        (uintptr_t)find_function(library, "segments_threads_data")();
    search.sought[0] = data;
    search.sought[1] = data - 999 * WORD_BYTES; // in the first page
    search.sought[2] = (uintptr_t)&static_variable;
    assert_true(segments_each_mapped(look, &search));
    assert_true(search.found[0] && search.found[1] && search.found[2]);
    (void)dlclose(library);
}

// G2: nonsense in place of a thread pointer.
static void test_no_thread(void **state) {
    (void)state;
    static struct search search;
    segments_each_tls(0, look, &search);
    segments_each_tls(3, look, &search);
    segments_each_tls(8, look, &search);
    void *gone =
        mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(gone, MAP_FAILED);
    segments_each_tls((uintptr_t)gone + 2048, look, &search);
    assert_int_equal(munmap(gone, 4096), 0);
    assert_int_equal(search.sum, 0);
}

int main(int count, char **words) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_anywhere),
        cmocka_unit_test(test_loaded_since),
        cmocka_unit_test(test_mapped_twice),
        cmocka_unit_test(test_no_thread),
    };
    turns = count > 1 ? (size_t)strtoul(words[1], NULL, 10) : turns;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
