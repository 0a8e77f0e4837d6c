// One variable of every kind, in the program, in a library linked to it and in
// one loaded later: each must lie in a range.

#include "os/segments.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/loader.h"

// Of segments_linked.c.
uintptr_t *segments_linked_data(void);
uintptr_t *segments_linked_bss(void);
uintptr_t *segments_linked_tls(void);

static uintptr_t data_variable = 1;
static uintptr_t bss_variable;
static uintptr_t big_bss[1 << 16];
uintptr_t exported_variable = 2;
static _Thread_local uintptr_t tls_zero;
static _Thread_local uintptr_t tls_initialised = 3;

// Read-only once its address is filled in.
static uintptr_t *const relro_variable = &data_variable;

// --- Whether an address lies in a range ------------------------------------

struct question {
    const void *address;
    size_t answers; // ranges that hold it
    size_t ranges;  // ranges in all
};

static void ask(const void *start, const void *end, void *data) {
    struct question *question = data;
    uintptr_t at = (uintptr_t)question->address;
    assert_int_equal((uintptr_t)start % WORD_BYTES, 0); // G3
    assert_int_equal((uintptr_t)end % WORD_BYTES, 0);   // G3
    assert_true((uintptr_t)start < (uintptr_t)end);
    question->ranges++;
    question->answers +=
        at >= (uintptr_t)start && at + WORD_BYTES <= (uintptr_t)end;
}

static void check_static(const void *address) {
    struct question question = {address, 0, 0};
    segments_each(ask, &question);
    assert_int_equal(question.answers, 1); // G1: and none twice
}

static void check_tls(const void *address) {
    struct question question = {address, 0, 0};
    segments_each_tls(segments_thread_pointer(), ask, &question);
    assert_true(question.answers >= 1); // G2
}

// --- Whether anybody allocates ---------------------------------------------

// The program's malloc comes before the library's: this one counts.  Not where
// a sanitizer has one of its own, nor without the name that glibc gives its.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                    \
    !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTING 0
#endif
#endif
#ifndef COUNTING
#define COUNTING 1
#endif
#else
#define COUNTING 0
#endif

// Compilers know what malloc does, and that is not to count.
static volatile size_t allocations;

#if COUNTING
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *at, size_t bytes);

void *malloc(size_t bytes) {
    allocations++;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    allocations++;
    return __libc_calloc(count, bytes);
}

void *realloc(void *at, size_t bytes) {
    allocations++;
    return __libc_realloc(at, bytes);
}
#endif

// --- Loading ---------------------------------------------------------------

typedef uintptr_t *finder(void);

static void *library;

static finder *find_function(const char *name) {
    void *found = dlsym(library, name);
    assert_non_null(found);
    finder *function;
    memcpy(&function, &found, sizeof function);
    return function;
}

static int load_library(void **state) {
    (void)state;
    library = dlopen(SEGMENTS_LOADED, RTLD_NOW | RTLD_LOCAL);
    return library == NULL ? -1 : 0;
}

// --- The tests -------------------------------------------------------------

// G1
static void test_static_variables(void **state) {
    (void)state;
    static uintptr_t local;
    check_static(&data_variable);
    check_static(&bss_variable);
    check_static(&big_bss[0]);
    check_static(&big_bss[(1 << 16) - 1]);
    check_static(&exported_variable);
    check_static(&local);
    const void *relro = (const void *)&relro_variable;
#if defined(__PIC__) || defined(__PIE__)
    check_static(relro);
#else
    (void)relro; // needs no relocation, hence never was writable
#endif
    check_static(&environ);
    check_static(&stdout);
    check_static(segments_linked_data());
    check_static(segments_linked_bss());
    check_static(find_function("segments_loaded_data")());
    check_static(find_function("segments_loaded_bss")());
}

// G1: what is no variable is in no range.
static void test_others_stay_out(void **state) {
    (void)state;
    uintptr_t on_stack = 0;
    void *in_heap = malloc(16);
    const void *others[] = {&on_stack, in_heap, (const void *)"a literal",
                            NULL};
    for (size_t index = 0; index < 4; index++) {
        struct question question = {others[index], 0, 0};
        segments_each(ask, &question);
        assert_int_equal(question.answers, 0);
        assert_true(question.ranges >= 3);
    }
    free(in_heap);
}

static void add(const void *start, const void *end, void *data) {
    *(size_t *)data += (uintptr_t)end - (uintptr_t)start;
}

// What ThreadSanitizer writes down for itself, 50 MB, is not read at each walk.
static void test_books_stay_out(void **state) {
    (void)state;
    size_t bytes = 0;
    segments_each(add, &bytes);
    size_t mapped_bytes = 0;
    assert_true(segments_each_mapped(add, &mapped_bytes));
    assert_true(bytes >= sizeof big_bss);
#if defined(__SANITIZE_THREAD__)
    assert_true(bytes < (size_t)16 << 20);
    assert_true(mapped_bytes < (size_t)16 << 20);
#endif
}

// G2
static void check_thread(void) {
    tls_zero = 0;
    check_tls(&tls_zero);
    check_tls(&tls_initialised);
    check_tls(segments_linked_tls());
    check_tls(find_function("segments_loaded_tls")());
    check_tls(&errno);
}

static void test_tls_of_main(void **state) {
    (void)state;
    check_thread();
}

// The words of a range that equal the one sought, which is kept as its
// complement.
struct words {
    uintptr_t hidden;
    size_t found;
};

NO_SANITIZE static void look(const void *start, const void *end, void *data) {
    struct words *words = data;
    for (const volatile uintptr_t *word = start; word < (const uintptr_t *)end;
         word++) {
        words->found += ~*word == words->hidden;
    }
}

#define KEYS 24u // of the 32 that lie in the control block

static pthread_key_t keys[KEYS];

// G2
static void check_keys(void) {
    for (size_t index = 0; index < KEYS; index++) {
        uintptr_t hidden = 0x123400000000u + (index << 12);
        if (keys[index] >= 32) {
            continue; // somebody has taken many
        }
        struct words words = {hidden, 0};
        assert_int_equal(
            pthread_setspecific(keys[index], (const void *)~hidden), 0);
        segments_each_tls(segments_thread_pointer(), look, &words);
        segments_each(look, &words); // some libraries keep main's there
        assert_true(words.found >= 1);
        assert_int_equal(pthread_setspecific(keys[index], NULL), 0);
        words.found = 0;
        segments_each_tls(segments_thread_pointer(), look, &words);
        assert_int_equal(words.found, 0);
    }
}

static void test_keys_of_main(void **state) {
    (void)state;
    for (size_t index = 0; index < KEYS; index++) {
        assert_int_equal(pthread_key_create(&keys[index], NULL), 0);
    }
    assert_true(keys[0] < 32); // or nothing is tested
    check_keys();
}

static void *thread_body(void *data) {
    struct question question = {data, 0, 0};
    segments_each_tls(segments_thread_pointer(), ask, &question);
    assert_int_equal(question.answers, 0); // main's variable is not ours
    check_thread();
    check_keys();
    return NULL;
}

static void test_another_thread(void **state) {
    (void)state;
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    for (size_t turn = 0; turn < 8; turn++) {
        pthread_t thread;
        assert_int_equal(
            pthread_attr_setstacksize(&attributes, (256 + 16 * turn) * KiB), 0);
        assert_int_equal(
            pthread_create(&thread, &attributes, thread_body, &tls_zero), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_int_equal(pthread_attr_destroy(&attributes), 0);
}

// G3: every word can be read.
NO_SANITIZE static void sum(const void *start, const void *end, void *data) {
    uintptr_t *total = data;
    for (const volatile uintptr_t *word = start; word < (const uintptr_t *)end;
         word++) {
        *total += *word;
    }
}

static void test_everything_can_be_read(void **state) {
    (void)state;
    uintptr_t total = 0;
    errno = 79;
    segments_each(sum, &total);
    segments_each_tls(segments_thread_pointer(), sum, &total);
    assert_int_equal(errno, 79);
}

static void count_nothing(const void *start, const void *end, void *data) {
    (void)start;
    (void)end;
    (*(size_t *)data)++;
}

// G4
static void test_quiet(void **state) {
    (void)state;
    size_t ranges = 0;
    size_t before = allocations;
    segments_each(count_nothing, &ranges);
    segments_each_tls(segments_thread_pointer(), count_nothing, &ranges);
    assert_int_equal(allocations, before);
    assert_true(ranges >= 4);
    void *volatile made = malloc(100);
    free(made);
    assert_true(!COUNTING || allocations > before); // this would be noticed
}

// --- When the loader's list is of no use -------------------------------------

// What the loader says of itself: whether it is changing its list.
static void set_changing(bool changing) {
    struct loader_module program;
    loader_of_program(&program);
    const Elf64_Phdr *dynamic = loader_find_part(&program, PT_DYNAMIC);
    assert_non_null(dynamic);
    Elf64_Dyn *entry = (Elf64_Dyn *)(program.bias + dynamic->p_vaddr);
    while (entry->d_tag != DT_DEBUG) {
        assert_int_not_equal(entry->d_tag, DT_NULL);
        entry++;
    }
    struct r_debug *debug = (struct r_debug *)entry->d_un.d_ptr;
    debug->r_state = changing ? RT_DELETE : RT_CONSISTENT;
}

#define MOST 256u

struct extents {
    size_t count;
    uintptr_t starts[MOST], ends[MOST];
};

static void gather(const void *start, const void *end, void *data) {
    struct extents *extents = data;
    assert_true(extents->count < MOST);
    extents->starts[extents->count] = (uintptr_t)start;
    extents->ends[extents->count++] = (uintptr_t)end;
}

static bool holds(const struct extents *extents, uintptr_t at) {
    for (size_t index = 0; index < extents->count; index++) {
        if (at >= extents->starts[index] && at < extents->ends[index]) {
            return true;
        }
    }
    return false;
}

// G6
static void test_mapped(void **state) {
    (void)state;
    static struct extents listed, mapped;
    segments_each(gather, &listed);
    assert_true(segments_each_mapped(gather, &mapped));
    for (size_t index = 0; index < listed.count; index++) {
        uintptr_t at = listed.starts[index];
        for (; at < listed.ends[index]; at += 64 * WORD_BYTES) {
            assert_true(holds(&mapped, at));
        }
        assert_true(holds(&mapped, listed.ends[index] - WORD_BYTES));
    }
    for (size_t index = 0; index < mapped.count; index++) { // and no more
        assert_true(holds(&listed, mapped.starts[index]));
        assert_true(holds(&listed, mapped.ends[index] - WORD_BYTES));
    }
}

// G5
static void test_changing(void **state) {
    (void)state;
    struct question question = {find_function("segments_loaded_bss")(), 0, 0};
    struct question own = {&tls_zero, 0, 0};
    struct question loaded = {find_function("segments_loaded_tls")(), 0, 0};
    uintptr_t pointer = segments_thread_pointer();
    set_changing(true);
    segments_each(ask, &question);
    segments_each_tls(pointer, ask, &own);
    segments_each_tls(pointer, ask, &loaded);
    test_static_variables(NULL);
    set_changing(false);
    assert_true(question.answers >= 1);
    assert_true(own.answers >= 1);
    assert_true(loaded.answers >= 1);
}

// Copies the library, so that the copy can be spoilt.
static void copy_library(const char *path) {
    char buffer[4096];
    int from = open(SEGMENTS_LOADED, O_RDONLY);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL, 0700);
    assert_true(from >= 0 && to >= 0);
    ssize_t got;
    while ((got = read(from, buffer, sizeof buffer)) > 0) {
        assert_int_equal(write(to, buffer, (size_t)got), got);
    }
    (void)close(from);
    (void)close(to);
}

// G3: a library whose file vanished, and one whose file was cut short.  The
// latter cannot even be unloaded any more.
static void test_spoilt(void **state) {
    (void)state;
#if defined(CROSS_CMOCKA_H)
    skip(); // the emulator reads for us, and dies of it
#endif
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/test_segments_%d.so",
                   (int)getpid());
    copy_library(path);
    pid_t child = fork();
    if (child == 0) {
        void *spoilt = dlopen(path, RTLD_NOW);
        void *symbol = dlsym(spoilt, "segments_loaded_bss");
        finder *function;
        memcpy(&function, &symbol, sizeof function);
        struct question question = {function(), 0, 0};
        int file = open(path, O_WRONLY);
        (void)unlink(path);
        set_changing(true);
        segments_each(ask, &question);
        uintptr_t total = 0;
        bool cut = ftruncate(file, 4096) == 0;
        segments_each(sum, &total);
        _exit(question.answers >= 1 && cut ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#if defined(__GLIBC__) && COUNTING
// G1: a library in a namespace of its own, with a C library of its own.
static void test_namespace(void **state) {
    (void)state;
    void *apart = dlmopen(LM_ID_NEWLM, SEGMENTS_LOADED, RTLD_NOW);
    assert_non_null(apart);
    void *symbol = dlsym(apart, "segments_loaded_data");
    finder *function;
    memcpy(&function, &symbol, sizeof function);
    assert_ptr_not_equal(function(), find_function("segments_loaded_data")());
    check_static(function());
    symbol = dlsym(apart, "segments_loaded_tls");
    memcpy(&function, &symbol, sizeof function);
    struct question question = {function(), 0, 0};
    segments_each(ask, &question);
    question.answers = 0;
    segments_each_tls(segments_thread_pointer(), ask, &question);
    assert_true(question.answers >= 1); // G2
    assert_int_equal(dlclose(apart), 0);
}
#endif

static void test_check(void **state) {
    (void)state;
    assert_true(segments_check_tls(&tls_zero));
    assert_true(segments_check_tls(&errno));
    assert_false(segments_check_tls(&bss_variable));
}

static void test_unload(void **state) {
    (void)state;
    const void *gone = find_function("segments_loaded_data")();
    struct question question = {gone, 0, 0};
    assert_int_equal(dlclose(library), 0);
    segments_each(ask, &question);
    if (dlopen(SEGMENTS_LOADED, RTLD_NOW | RTLD_NOLOAD) == NULL) {
        assert_int_equal(question.answers, 0); // it was really unloaded
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_static_variables),
        cmocka_unit_test(test_others_stay_out),
        cmocka_unit_test(test_books_stay_out),
        cmocka_unit_test(test_tls_of_main),
        cmocka_unit_test(test_keys_of_main),
        cmocka_unit_test(test_another_thread),
        cmocka_unit_test(test_everything_can_be_read),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_changing),
        cmocka_unit_test(test_spoilt),
#if defined(__GLIBC__) && COUNTING
        cmocka_unit_test(test_namespace),
#endif
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_unload),
    };
    return cmocka_run_group_tests(tests, load_library, NULL);
}
