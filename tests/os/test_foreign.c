// Words planted in memory of all kinds, and which of them a walk meets.

#include "os/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/defs.h"
#include "os/mapping.h"
#include "os/memory.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define SCAN_NUMBER 0xc0606610u // of PAGEMAP_SCAN

static size_t page;

// A number that stands nowhere but where it is planted: kept as its contrary.
static volatile uintptr_t contrary = ~(uintptr_t)0x2545f4914f6cdd1d;

static int learn_page(void **state) {
    (void)state;
    page = memory_page_bytes();
    return 0;
}

static uintptr_t map(size_t pages, int flags, int file) {
    void *at = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, flags, file, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    return (uintptr_t)at;
}

static void unmap(uintptr_t at, size_t pages) {
    assert_int_equal(munmap((void *)at, pages * page), 0); // NOLINT
}

static void plant(uintptr_t at) {
    *(volatile uintptr_t *)at = ~contrary; // NOLINT
}

static int make_file(size_t pages) {
    char path[] = "/tmp/test_foreign_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0 && unlink(path) == 0);
    assert_int_equal(ftruncate(file, (off_t)(pages * page)), 0);
    return file;
}

struct tally {
    size_t found, words;
};

NO_SANITIZE static void count(const uintptr_t *start, const uintptr_t *end,
                              void *data) {
    struct tally *tally = data;
    tally->words += (size_t)(end - start);
    for (; start < end; start++) {
        tally->found += ~*start == contrary;
    }
}

// A walk that leaves out this stack as well, where compilers put copies of the
// words that are planted.
static bool each(struct foreign_hole hole, foreign_visit *visit, void *data) {
    struct mapping stack;
    assert_true(mapping_find((uintptr_t)&stack, &stack));
    const struct foreign_hole holes[] = {hole, {stack.start, stack.end}};
    return foreign_each(holes, 2, visit, data);
}

// Walks without a hole; how many planted words it met.
static size_t walk_without(uintptr_t start, uintptr_t end) {
    struct foreign_hole hole = {start, end};
    struct tally tally = {0, 0};
    errno = 93;
    assert_true(each(hole, count, &tally));
    assert_int_equal(errno, 93); // FN5
    assert_true(tally.words > 0);
    return tally.found;
}

static size_t walk(void) {
    return walk_without(0, 0);
}

// Pages in memory, as far as the system tells of anonymous ones.
static size_t resident(uintptr_t at, size_t pages) {
    size_t found = 0;
    for (size_t index = 0; index < pages; index++) {
        unsigned char in_core = 0;
        void *one = (void *)(at + index * page); // NOLINT
        assert_int_equal(mincore(one, page, &in_core), 0);
        found += in_core & 1;
    }
    return found;
}

// --- What is met -----------------------------------------------------------

// FN1
static void test_anonymous(void **state) {
    (void)state;
    assert_int_equal(walk(), 0);
    uintptr_t at = map(300, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    plant(at);
    assert_int_equal(walk(), 1);
    plant(at + page - WORD_BYTES);
    plant(at + 255 * page);
    plant(at + 300 * page - WORD_BYTES);
    for (size_t index = 3; index < 200; index += 7) {
        plant(at + index * page + 8 * index); // a region each
    }
    assert_int_equal(walk(), 4 + 29);
    assert_int_equal(mprotect((void *)at, page, PROT_READ), 0); // NOLINT
    assert_int_equal(walk(), 4 + 29);
    assert_int_equal(mprotect((void *)at, page, PROT_NONE), 0); // NOLINT
    assert_int_equal(walk(), 2 + 29);
    unmap(at, 300);
    assert_int_equal(walk(), 0); // FN5: nothing stays behind
}

// FN1: on the old heap of the C library.
static void test_break(void **state) {
    (void)state;
    void *at = sbrk((intptr_t)page);
    if (at == (void *)-1) { // NOLINT: as sbrk says no
        skip();
    }
    plant((uintptr_t)at);
    assert_int_equal(walk(), 1);
    memset(at, 0, page);
}

// FN1: the copy of a page of a file; not what is the file's.
static void test_files(void **state) {
    (void)state;
    int file = make_file(4);
    uintptr_t writer = map(1, MAP_SHARED, file);
    plant(writer + 8);
    unmap(writer, 1);
    uintptr_t at = map(4, MAP_PRIVATE, file);
    volatile uintptr_t *words = (volatile uintptr_t *)at; // NOLINT
    assert_true(~words[1] == contrary); // the page is there now
    assert_int_equal(walk(), 0);
    plant(at + 2 * page + 16);
    assert_int_equal(walk(), 1);
    words[0] = 1; // a copy of what the file held
    assert_int_equal(walk(), 2);
    unmap(at, 4);
    uintptr_t shared = map(4, MAP_SHARED, file); // FN2
    plant(shared + page);
    assert_int_equal(walk(), 0);
    unmap(shared, 4);
    shared = map(1, MAP_SHARED | MAP_ANONYMOUS, -1);
    plant(shared);
    assert_int_equal(walk(), 0);
    unmap(shared, 1);
    (void)close(file);
}

// FN1: pages that the system may have put aside, and whatever it calls huge.
static void test_aside(void **state) {
    (void)state;
    size_t pages = 8 * MiB / page;
    uintptr_t at = map(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    (void)madvise((void *)at, 8 * MiB, MADV_HUGEPAGE); // NOLINT
    for (size_t index = 0; index < pages; index += 64) {
        plant(at + index * page);
    }
    assert_int_equal(walk(), pages / 64);
    (void)madvise((void *)at, 8 * MiB, MADV_PAGEOUT); // NOLINT
    assert_int_equal(walk(), pages / 64);
    unmap(at, pages);
}

// --- What is not -----------------------------------------------------------

// FN2
static void test_ours(void **state) {
    (void)state;
    size_t bytes = 16 * page;
    char *at = memory_reserve(bytes, page, 0);
    assert_non_null(at);
    assert_true(memory_commit(at, bytes));
    plant((uintptr_t)at + 5 * page);
    assert_int_equal(walk(), 0);
    // What was given back is somebody else's.
    memory_release(at + 8 * page, 4 * page);
    void *again = mmap(at + 8 * page, 4 * page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    assert_ptr_equal(again, at + 8 * page);
    plant((uintptr_t)at + 8 * page);
    plant((uintptr_t)at + 12 * page - WORD_BYTES);
    assert_int_equal(walk(), 2);
    plant((uintptr_t)at + 12 * page);
    plant((uintptr_t)at + 8 * page - WORD_BYTES);
    assert_int_equal(walk(), 2);
    unmap((uintptr_t)again, 4);
    memory_release(at, 8 * page);
    memory_release(at + 12 * page, 4 * page);
}

// FN2
static void test_holes(void **state) {
    (void)state;
    uintptr_t at = map(8, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (size_t index = 0; index < 8; index++) {
        plant(at + index * page);
        plant(at + index * page + 64);
    }
    assert_int_equal(walk(), 16);
    assert_int_equal(walk_without(at, at + 8 * page), 0);
    assert_int_equal(walk_without(at, at + page), 14);
    assert_int_equal(walk_without(at + 8, at + 64), 16);
    assert_int_equal(walk_without(at + 1, at + 65), 14); // in part
    assert_int_equal(walk_without(at + 64, at + 2 * page + 64), 12);
    assert_int_equal(walk_without(0, at + 7 * page), 2);
    assert_int_equal(walk_without(at + page, UINTPTR_MAX), 2);
    struct mapping stack;
    assert_true(mapping_find((uintptr_t)&stack, &stack));
    const struct foreign_hole holes[] = {
        {1, 2},
        {at, at + 3 * page},
        {at + page, at + 2 * page}, // within the one before
        {at + 3 * page, at + 3 * page + 8},
        {at + 3 * page + 64, at + 7 * page + 64},
        {stack.start, stack.end},
    };
    struct tally tally = {0, 0};
    assert_true(foreign_each(holes, 6, count, &tally));
    assert_int_equal(tally.found, 1);
    unmap(at, 8);
}

// FN3
static void test_absent(void **state) {
    (void)state;
    uintptr_t at = map(512, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    (void)madvise((void *)at, 512 * page, MADV_NOHUGEPAGE); // NOLINT
    plant(at + 77 * page);
    plant(at + 79 * page);
    int file = make_file(4);
    uintptr_t copy = map(4, MAP_PRIVATE, file);
    plant(copy + 2 * page);
    assert_int_equal(walk(), 3);
    struct rusage before, after;
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    assert_int_equal(walk(), 3);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    assert_int_equal(resident(at, 512), 2);
    assert_true(after.ru_minflt - before.ru_minflt < 10);
    unmap(at, 512);
    unmap(copy, 4);
    (void)close(file);
}

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Whether this kernel knows PAGEMAP_SCAN; it will not like the question.
static bool has_scan(void) {
    int file = open("/proc/self/pagemap", O_RDONLY);
    uint64_t nothing[12] = {0};
    bool known =
        file >= 0 && ioctl(file, SCAN_NUMBER, nothing) < 0 && errno != ENOTTY;
    (void)close(file);
    return known;
}

// FN3: a terabyte of addresses.
static void test_sparse(void **state) {
    (void)state;
    size_t bytes = 1024 * GiB;
    void *at = mmap(NULL, bytes, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED || mprotect(at, bytes, PROT_READ | PROT_WRITE) != 0) {
        skip();
    }
    (void)madvise(at, bytes, MADV_NOHUGEPAGE);
    plant((uintptr_t)at + 5 * GiB);
    plant((uintptr_t)at + bytes - page);
    size_t met = has_scan() ? 2 : 0;
    uint64_t best_ns = UINT64_MAX;
    for (size_t turn = 0; turn < 5; turn++) {
        uint64_t start_ns = now_ns();
        assert_int_equal(walk(), met);
        uint64_t took_ns = now_ns() - start_ns;
        best_ns = took_ns < best_ns ? took_ns : best_ns;
    }
    print_message("a terabyte with two pages: %lu us\n",
                  (unsigned long)(best_ns / 1000));
    assert_true(best_ns < 50000000u);
    assert_int_equal(munmap(at, bytes), 0);
}

// --- What goes away --------------------------------------------------------

// FN4
static void test_cut(void **state) {
    (void)state;
    int file = make_file(40);
    uintptr_t at = map(40, MAP_PRIVATE, file);
    for (size_t index = 0; index < 40; index += 2) {
        plant(at + index * page);
    }
    assert_int_equal(walk(), 20);
    assert_int_equal(ftruncate(file, (off_t)(10 * page)), 0);
    assert_int_equal(walk(), 5); // the copies go with it
    unmap(at, 40);
    (void)close(file);
}

// FN4: is called when the walk has seen that a page is there, and takes it.
struct thief {
    uintptr_t at;
    size_t pages;
    size_t found;
};

static void steal(const uintptr_t *start, const uintptr_t *end, void *data) {
    struct thief *thief = data;
    struct tally tally = {0, 0};
    count(start, end, &tally);
    thief->found += tally.found;
    if (tally.found != 0 && thief->pages != 0) {
        unmap(thief->at + page, thief->pages - 1);
        thief->pages = 0;
    }
}

static void test_stolen(void **state) {
    (void)state;
    uintptr_t at = map(64, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (size_t index = 0; index < 64; index += 2) {
        plant(at + index * page);
    }
    struct thief thief = {at, 64, 0};
    assert_true(each((struct foreign_hole){0, 0}, steal, &thief));
    assert_int_equal(thief.found, 1);
    unmap(at, 1);
}

static uint32_t ended;

static void *come_and_go(void *data) {
    int file = *(const int *)data;
    while (__atomic_load_n(&ended, __ATOMIC_ACQUIRE) == 0) {
        uintptr_t first = map(64, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        uintptr_t second = map(64, MAP_PRIVATE, file);
        for (size_t index = 0; index < 64; index += 3) {
            plant(first + index * page);
            plant(second + index * page);
        }
        unmap(first, 64);
        assert_int_equal(ftruncate(file, 0), 0);
        unmap(second, 64);
        assert_int_equal(ftruncate(file, (off_t)(64 * page)), 0);
    }
    return NULL;
}

// FN4: and nobody stands still.
static void test_come_and_go(void **state) {
    (void)state;
    int file = make_file(64);
    uintptr_t kept = map(3, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    plant(kept);
    plant(kept + 2 * page);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, come_and_go, &file), 0);
    for (size_t turn = 0; turn < 300; turn++) {
        assert_true(walk() >= 2);
    }
    __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    unmap(kept, 3);
    (void)close(file);
}

// --- Older kernels, and closed ones ----------------------------------------

// From now on in this process these calls are refused; 0: any number will do.
static bool refuse(uint32_t number, uint32_t second, uint32_t error) {
    uint32_t nr = offsetof(struct seccomp_data, nr);
    uint32_t argument = offsetof(struct seccomp_data, args[1]);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (second == 0) {
        filter[2] = filter[4];
    }
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static uintptr_t sample; // four pages: two are there, one of them planted

static void make_sample(void) {
    sample = map(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    (void)madvise((void *)sample, 4 * page, MADV_NOHUGEPAGE); // NOLINT
    plant(sample + page);
    *(volatile char *)(sample + 3 * page) = 1; // NOLINT
    int file = make_file(4);
    uintptr_t shared = map(4, MAP_SHARED, file);
    plant(shared);
    plant(shared + 8);
    uintptr_t at = map(4, MAP_PRIVATE, file);
    assert_true(*(volatile uintptr_t *)at != 0); // NOLINT: it is there now
    plant(at + 2 * page);
    int large = make_file(2 * FOREIGN_FILE_MOST / page);
    plant(map(2 * FOREIGN_FILE_MOST / page, MAP_PRIVATE, large));
}

// How many of the three are met (with those of the file's own, five), and no
// page came; or 100.
static int meet(void) {
    struct tally tally = {0, 0};
    if (!each((struct foreign_hole){0, 0}, count, &tally) ||
        resident(sample, 4) != 2) {
        return 100;
    }
    return (int)tally.found;
}

static int meet_by_scan(void) {
    return meet();
}

static int meet_by_read(void) {
    return refuse(SYS_ioctl, SCAN_NUMBER, ENOTTY) ? meet() : 101;
}

// What is too large to ask for page by page is left out, and costs nothing.
static int meet_large(void) {
    void *at = mmap(NULL, 2 * FOREIGN_BLIND_MOST, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return 3; // a system that has not so many addresses
    }
    plant((uintptr_t)at);
    return meet_by_read();
}

static int meet_by_core(void) {
    return refuse(SYS_ioctl, SCAN_NUMBER, ENOTTY) &&
                   refuse(SYS_pread64, 0, EPERM)
               ? meet()
               : 101;
}

static int meet_uncopied(void) {
    return refuse(SYS_process_vm_readv, 0, EPERM) ? meet() : 101;
}

// As nobody, and not dumpable: the file is root's then.
static int meet_closed(void) {
    if (geteuid() == 0 && setuid(65534) != 0) {
        return 101;
    }
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
        open("/proc/self/pagemap", O_RDONLY) >= 0) {
        return 101;
    }
    return meet();
}

static int meet_nothing(void) {
    struct tally tally = {0, 0};
    bool refused = refuse(SYS_openat, 0, ENOENT);
    return refused && !foreign_each(NULL, 0, count, &tally) && tally.words == 0
               ? 0
               : 100;
}

static int in_child(int (*body)(void)) {
    pid_t child = fork();
    if (child == 0) {
        make_sample();
        _exit(body());
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// FN1, FN3: whichever way the kernel is asked.
static void test_ways(void **state) {
    (void)state;
    assert_int_equal(in_child(meet_by_scan), 3);
    assert_int_equal(in_child(meet_by_read), 3);
    assert_int_equal(in_child(meet_large), 3);
    assert_int_equal(in_child(meet_uncopied), 3);
    // There a file counts in full, or not at all.
    assert_int_equal(in_child(meet_by_core), 4);
    assert_int_equal(in_child(meet_closed), 4);
    assert_int_equal(in_child(meet_nothing), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_anonymous),   cmocka_unit_test(test_break),
        cmocka_unit_test(test_files),       cmocka_unit_test(test_aside),
        cmocka_unit_test(test_ours),        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_absent),      cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_cut),         cmocka_unit_test(test_stolen),
        cmocka_unit_test(test_come_and_go), cmocka_unit_test(test_ways),
    };
    return cmocka_run_group_tests(tests, learn_page, NULL);
}
