// Limits on address space that the program sets while it runs: the heap stays
// below them, and leaves room for the rest.

#include "loam.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/child.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 // takes more address space than any limit here
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define MIB   ((size_t)1 << 20)
#define LIMIT (512 * MIB)

static size_t space_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;
    if (file == NULL || fscanf(file, "%lu", &pages) != 1) {
        return 0;
    }
    (void)fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void *run(void *data) {
    return data;
}

// Beside the heap there is room for memory and for threads.
static int use_rest(void) {
    void *at = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    if (at == MAP_FAILED) {
        return 20;
    }
    int error = pthread_create(&thread, NULL, run, NULL);
    if (error != 0) {
        errno = error;
        perror("pthread_create");
        return 21;
    }
    return pthread_join(thread, NULL) == 0 ? 0 : 22;
}

// The heap is used up below the limit, and nothing is lost.
static int fill(void) {
    struct item {
        struct item *next;
        size_t number;
        char rest[100000];
    } *list = NULL;
    size_t count = 0;
    for (struct item *item; (item = loam_alloc(sizeof *item)) != NULL;) {
        *item = (struct item){.next = list, .number = count++};
        list = item;
        if (count * sizeof *item > LIMIT) {
            return 30;
        }
    }
    if (errno != ENOMEM || count * sizeof *list < LIMIT / 16 * 7) {
        return 31;
    }
    for (; list != NULL; list = list->next) {
        if (list->number != --count) {
            return 32;
        }
    }
    return 0;
}

static int limited(int result, int error) {
    if (result != 0 || error != 77) {
        return 10;
    }
    if (space_bytes() > LIMIT) {
        return 11;
    }
    int wrong = use_rest();
    return wrong != 0 ? wrong : fill();
}

static int by_setrlimit(void *unused) {
    (void)unused;
    void *volatile first = loam_alloc(10);
    struct rlimit limit = {LIMIT, RLIM_INFINITY};
    errno = 77;
    int result = setrlimit(RLIMIT_AS, &limit);
    return first == NULL ? 1 : limited(result, errno);
}

static int by_setrlimit64(void *unused) {
    (void)unused;
    void *volatile first = loam_alloc(10);
    struct rlimit64 limit = {LIMIT, RLIM_INFINITY};
    errno = 77;
    int result = setrlimit64(RLIMIT_AS, &limit);
    return first == NULL ? 1 : limited(result, errno);
}

static int by_prlimit(void *unused) {
    (void)unused;
    void *volatile first = loam_alloc(10);
    struct rlimit limit = {LIMIT, RLIM_INFINITY};
    struct rlimit was;
    errno = 77;
    int result = prlimit(0, RLIMIT_AS, &limit, &was);
    return first == NULL ? 1 : limited(result, errno);
}

static int by_own_number(void *unused) {
    (void)unused;
    void *volatile first = loam_alloc(10);
    struct rlimit64 limit = {LIMIT, RLIM_INFINITY};
    errno = 77;
    int result = prlimit64(getpid(), RLIMIT_AS, &limit, NULL);
    return first == NULL ? 1 : limited(result, errno);
}

// What is in use when the limit comes stays, though it is more than that.
static int below_use(void *unused) {
    (void)unused;
    char *volatile large = loam_alloc_leaf(96 * MIB);
    if (large == NULL) {
        return 1;
    }
    memset(large, 1, 96 * MIB);
    struct rlimit limit = {32 * MIB, RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return 2;
    }
    size_t count = 0;
    while (count < 100000 && loam_alloc(1000) != NULL) {
        count++; // all garbage: as many as wished
    }
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_AS, &limit) != 0 || count != 100000) {
        return 3;
    }
    for (size_t i = 0; i < 96 * MIB; i += MIB / 2) {
        if (large[i] != 1) {
            return 4;
        }
    }
    return 0;
}

// A child of a process that can map nothing more.
static int forks(void *unused) {
    (void)unused;
    int *volatile first = loam_alloc(1000);
    pthread_t thread;
    struct rlimit limit = {MIB, RLIM_INFINITY};
    if (first == NULL || pthread_create(&thread, NULL, run, NULL) != 0 ||
        setrlimit(RLIMIT_AS, &limit) != 0) {
        return 1;
    }
    first[3] = 7;
    pid_t child = fork();
    if (child == 0) {
        int done = loam_alloc(1000) != NULL;
        _exit(done + loam_collect() == 2 && first[3] == 7 ? 0 : 1);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return 2;
    }
    return status == 0 && pthread_join(thread, NULL) == 0 ? 0 : 3;
}

// Other limits, other processes and questions change nothing; nor does a child
// of vfork, which has a limit of its own in its parent's memory.
static int of_others(void *unused) {
    (void)unused;
    void *volatile first = loam_alloc(10);
    size_t before = space_bytes();
    struct rlimit was;
    struct rlimit limit = {LIMIT, RLIM_INFINITY};
    if (first == NULL || prlimit(0, RLIMIT_AS, NULL, &was) != 0 ||
        setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return 1;
    }
    if (setrlimit(RLIMIT_AS, &(struct rlimit){2, 1}) != -1 || errno != EINVAL) {
        return 2;
    }
    pid_t child = vfork();
    if (child == 0) {
        _exit(setrlimit(RLIMIT_AS, &limit) == 0 ? 0 : 1);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        return 3;
    }
    return space_bytes() == before ? 0 : 4;
}

static void passes(int (*body)(void *)) {
    if (SANITIZED) {
        skip();
    }
    struct child child;
    child_fork(&child, body, NULL);
    if (child.status != 0) {
        child_show(&child);
    }
    assert_int_equal(child.status, 0);
}

static void test_setrlimit(void **state) {
    (void)state;
    passes(by_setrlimit); // W1
    passes(by_setrlimit64);
}

static void test_prlimit(void **state) {
    (void)state;
    passes(by_prlimit);
    passes(by_own_number);
}

static void test_below_use(void **state) {
    (void)state;
    passes(below_use);
}

static void test_forks(void **state) {
    (void)state;
    passes(forks);
}

static void test_others(void **state) {
    (void)state;
    passes(of_others); // W8
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_setrlimit), cmocka_unit_test(test_prlimit),
        cmocka_unit_test(test_below_use), cmocka_unit_test(test_forks),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
