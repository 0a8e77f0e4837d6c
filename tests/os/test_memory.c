// What memory promises, as the system tells it: access from /proc/self/maps,
// pages from /proc/self/status.

#include "os/memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/holding.h"

// Whether somebody else maps memory in this process: a sanitizer, or (with the
// cmocka of tests/cross) an emulator.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||           \
    defined(CROSS_CMOCKA_H)
#define SHARED_SPACE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SHARED_SPACE 1
#endif
#endif
#ifndef SHARED_SPACE
#define SHARED_SPACE 0
#endif

static size_t page;

static int learn_page(void **state) {
    (void)state;
    page = memory_page_bytes();
    return page == (size_t)sysconf(_SC_PAGESIZE) && page >= 4096 ? 0 : -1;
}

// --- What the system says --------------------------------------------------

// Whether all of [at, at + bytes) is mapped with this access ("rw-p").
static bool has_access(const void *at, size_t bytes, const char *access) {
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    char line[1024];
    uintptr_t next = (uintptr_t)at, end = next + bytes;
    while (next < end && fgets(line, sizeof line, maps) != NULL) {
        char *rest = NULL;
        uintptr_t from = (uintptr_t)strtoull(line, &rest, 16);
        uintptr_t to = (uintptr_t)strtoull(rest + 1, &rest, 16);
        if (from <= next && next < to) {
            if (strncmp(rest + 1, access, 4) != 0) {
                break;
            }
            next = to;
        }
    }
    (void)fclose(maps);
    return next >= end;
}

// Whether any page of the range is mapped.
static bool is_mapped(const char *at, size_t bytes) {
    unsigned char in_core;
    for (size_t offset = 0; offset < bytes; offset += page) {
        void *one = (void *)((uintptr_t)at + offset);
        if (mincore(one, page, &in_core) == 0) {
            return true;
        }
    }
    return false;
}

// A row of /proc/self/status, in KiB.
static size_t status_kib(const char *row) {
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    char line[256];
    size_t value = 0;
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, row, strlen(row)) == 0) {
            value = (size_t)strtoull(line + strlen(row), NULL, 10);
        }
    }
    (void)fclose(status);
    return value;
}

// Runs `body` in a child, whose limits are its own; true if it returns true.
static bool in_child(bool (*body)(void)) {
    pid_t child = fork();
    if (child == 0) {
        _exit(body() ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool all_are(const unsigned char *at, size_t bytes, int value) {
    for (size_t index = 0; index < bytes; index++) {
        if (at[index] != value) {
            return false;
        }
    }
    return true;
}

// --- Reserve ---------------------------------------------------------------

// M1
static void test_reserve_aligned(void **state) {
    (void)state;
    for (size_t alignment = page; alignment <= 4 * GiB; alignment *= 2) {
        for (size_t pages = 1; pages <= 33; pages += 16) {
            size_t before = status_kib("VmSize:");
            errno = 87;
            char *at = memory_reserve(pages * page, alignment, 0);
            assert_int_equal(errno, 87); // M5
            assert_non_null(at);
            assert_int_equal((uintptr_t)at % alignment, 0);
            assert_true(has_access(at, pages * page, "---p"));
            if (!SHARED_SPACE) { // what was taken to align it has gone back
                size_t taken = (status_kib("VmSize:") - before) * KiB;
                assert_true(taken <= pages * page + 256 * KiB);
            }
            errno = 87;
            memory_release(at, pages * page);
            assert_int_equal(errno, 87); // M5
            assert_false(is_mapped(at, pages * page));
        }
    }
}

// M1: a free hint is taken; a taken one is passed by.
static void test_reserve_hint(void **state) {
    (void)state;
    uintptr_t hint = (uintptr_t)0x100 << 32;
    char *at = memory_reserve(16 * MiB, 2 * MiB, hint);
    assert_non_null(at);
    if (!SHARED_SPACE && !is_mapped((char *)hint - page, page)) {
        assert_true((uintptr_t)at == hint);
    }
    char *other = memory_reserve(16 * MiB, 2 * MiB, (uintptr_t)at);
    assert_non_null(other);
    assert_int_equal((uintptr_t)other % (2 * MiB), 0);
    assert_true(other >= at + 16 * MiB || at >= other + 16 * MiB);
    char *odd = memory_reserve(2 * MiB, 2 * MiB, (uintptr_t)at + 12345);
    assert_non_null(odd);
    assert_int_equal((uintptr_t)odd % (2 * MiB), 0);
    memory_release(odd, 2 * MiB);
    memory_release(other, 16 * MiB);
    memory_release(at, 16 * MiB);
}

// The absurd is refused, without a word and without harm.
static void test_reserve_too_much(void **state) {
    (void)state;
    errno = 88;
    size_t huge = SIZE_MAX - page + 1;
    assert_null(memory_reserve(huge, page, 0));
    assert_null(memory_reserve(huge, 2 * MiB, 0));
    assert_null(memory_reserve(huge, 2 * MiB, (uintptr_t)1 << 40));
    assert_null(memory_reserve((size_t)1 << 60, page, 0));
    assert_null(memory_reserve(page, (size_t)1 << 63, 0));
    assert_int_equal(errno, 88); // M5
}

// --- Pages -----------------------------------------------------------------

// M2, M4: round and round, each time with other contents.
static void test_round(void **state) {
    (void)state;
    size_t bytes = 64 * page;
    unsigned char *at = memory_reserve(bytes, page, 0);
    assert_non_null(at);
    errno = 89;
    for (int turn = 1; turn < 6; turn++) {
        assert_true(memory_commit(at, bytes));
        assert_true(has_access(at, bytes, "rw-p"));
        assert_true(all_are(at, bytes, 0)); // M2
        memset(at, turn, bytes);
        assert_true(memory_commit(at, bytes)); // again: keeps what is there
        assert_true(all_are(at, bytes, turn));
        assert_true(memory_drop(at + page, bytes - 2 * page));
        assert_true(has_access(at, bytes, "rw-p"));
        assert_true(all_are(at, page, turn));
        assert_true(all_are(at + page, bytes - 2 * page, 0)); // M2
        assert_true(all_are(at + bytes - page, page, turn));
        memset(at, turn, bytes);
        assert_true(memory_uncommit(at + page, bytes - 2 * page));
        assert_true(has_access(at + page, bytes - 2 * page, "---p"));
        assert_true(all_are(at, page, turn));
        assert_true(all_are(at + bytes - page, page, turn));
        assert_true(memory_uncommit(at, bytes));
        assert_true(has_access(at, bytes, "---p"));
    }
    assert_int_equal(errno, 89); // M5
    memory_release(at, bytes);
}

// M4: resident memory and writable mappings shrink again.
static void test_returned(void **state) {
    (void)state;
    if (SHARED_SPACE) {
        skip();
    }
    size_t bytes = 64 * MiB;
    unsigned char *at = memory_reserve(bytes, page, 0);
    assert_non_null(at);
    size_t data = status_kib("VmData:"), resident = status_kib("VmRSS:");
    assert_true(memory_commit(at, bytes));
    memset(at, 1, bytes);
    assert_true(status_kib("VmData:") >= data + bytes / KiB);
    assert_true(status_kib("VmRSS:") >= resident + bytes / KiB / 2);
    assert_true(memory_drop(at, bytes));
    assert_true(status_kib("VmRSS:") < resident + bytes / KiB / 2);
    memset(at, 1, bytes);
    assert_true(memory_uncommit(at, bytes));
    assert_true(status_kib("VmRSS:") < resident + bytes / KiB / 2);
    assert_true(status_kib("VmData:") < data + bytes / KiB / 2);
    memory_release(at, bytes);
}

static void test_release_a_part(void **state) {
    (void)state;
    char *at = memory_reserve(3 * page, page, 0);
    assert_non_null(at);
    assert_true(memory_commit(at, 3 * page));
    at[0] = at[2 * page] = 7;
    memory_release(at + page, page);
    assert_false(is_mapped(at + page, page));
    assert_int_equal(at[0] + at[2 * page], 14);
    memory_release(at, page);
    memory_release(at + 2 * page, page);
}

static void test_huge_and_name(void **state) {
    (void)state;
    unsigned char *at = memory_reserve(4 * MiB, 2 * MiB, 0);
    assert_non_null(at);
    errno = 90;
    assert_true(memory_commit(at, 4 * MiB));
    memset(at, 5, 4 * MiB);
    (void)memory_huge(at, 4 * MiB, true); // a wish: either answer is allowed
    (void)memory_huge(at, 4 * MiB, false);
    memory_name(at, 4 * MiB, "loam test");
    assert_int_equal(errno, 90); // M5
    assert_true(all_are(at, 4 * MiB, 5));
    assert_true(has_access(at, 4 * MiB, "rw-p"));
    memory_release(at, 4 * MiB);
}

static void test_readable(void **state) {
    (void)state;
    uintptr_t word = 0;
    static uintptr_t variable;
    char *at = memory_reserve(3 * page, page, 0);
    assert_non_null(at);
    assert_true(memory_commit(at + page, page));
    errno = 91;
    assert_true(memory_is_readable(&word));
    assert_true(memory_is_readable(&variable));
    assert_false(memory_is_readable(at));
    assert_true(memory_is_readable(at + page));
    assert_true(memory_is_readable(at + 2 * page - WORD_BYTES));
    assert_false(memory_is_readable(at + 2 * page));
    assert_false(memory_is_readable((const void *)(page / 2)));
    assert_false(memory_is_readable(NULL));
    assert_false(memory_is_readable((const void *)(UINTPTR_MAX - 4095)));
    assert_int_equal(errno, 91); // M5
    memory_release(at, 3 * page);
    assert_false(memory_is_readable(at + page));
}

// --- Limits ----------------------------------------------------------------

static bool limit_address_space(void) {
    size_t used = status_kib("VmSize:") * KiB;
    struct rlimit limit = {used + 64 * MiB, RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return false;
    }
    errno = 92;
    size_t left = memory_limit_bytes(0);
    char *too_much = memory_reserve(128 * MiB, 2 * MiB, 0);
    char *fits = memory_reserve(32 * MiB, 2 * MiB, 0);
    size_t then = memory_limit_bytes(0);
    bool right = left <= 64 * MiB && left >= 63 * MiB && too_much == NULL &&
                 fits != NULL && then <= left - 32 * MiB && errno == 92;
    limit.rlim_cur = used / 2; // less than is in use already
    return right && setrlimit(RLIMIT_AS, &limit) == 0 &&
           memory_limit_bytes(0) == 0;
}

static bool limit_nothing(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) {
        return true; // somebody has limited this test
    }
    return memory_limit_bytes(0) == SIZE_MAX;
}

static void test_limit(void **state) {
    (void)state;
    assert_true(in_child(limit_nothing));
    if (!SHARED_SPACE) { // their shadow is larger than any limit
        assert_true(in_child(limit_address_space));
    }
}

// M3: a refusal by the system itself, in the middle of a life.
static bool refuse_commit(void) {
    size_t bytes = 64 * MiB;
    unsigned char *at = memory_reserve(bytes, page, 0);
    if (at == NULL || !memory_commit(at, page)) {
        return false;
    }
    memset(at, 9, page);
    size_t data = status_kib("VmData:") * KiB;
    struct rlimit limit = {data + 16 * MiB, RLIM_INFINITY};
    if (setrlimit(RLIMIT_DATA, &limit) != 0) {
        return false;
    }
    errno = 93;
    bool refused = !memory_commit(at + page, bytes - page);
    bool again = !memory_commit(at, bytes);
    return refused && again && errno == 93 && all_are(at, page, 9) &&
           has_access(at, page, "rw-p") &&
           has_access(at + page, bytes - page, "---p") &&
           memory_commit(at + page, page) && all_are(at + page, page, 0) &&
           all_are(at, page, 9);
}

static void test_commit_refused(void **state) {
    (void)state;
    if (!SHARED_SPACE) {
        assert_true(in_child(refuse_commit));
    }
}

// The number at the start of a file, SIZE_MAX for none.
static size_t read_number(const char *path) {
    FILE *file = fopen(path, "r");
    unsigned long long number = 0;
    bool got = file != NULL && fscanf(file, "%llu", &number) == 1;
    if (file != NULL) {
        (void)fclose(file);
    }
    return got ? (size_t)number : SIZE_MAX;
}

// Against the machine, and against the limits of the topmost group that can
// be seen, which hold for every group below.
static void test_physical(void **state) {
    (void)state;
    struct sysinfo machine;
    errno = 94;
    size_t bytes = memory_physical_bytes();
    assert_int_equal(errno, 94);
    assert_int_equal(sysinfo(&machine), 0);
    assert_true(bytes >= 16 * MiB);
    assert_true(bytes <= machine.totalram * machine.mem_unit);
    assert_true(bytes <= read_number("/sys/fs/cgroup/memory.max"));
    assert_true(bytes <= read_number("/sys/fs/cgroup/memory.high"));
    assert_true(bytes <=
                read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}

// --- The list --------------------------------------------------------------

// Whether all of the range is listed.
static bool is_listed(const void *at, size_t bytes) {
    static struct holding list[HOLDING_MOST];
    size_t count = holding_read(list);
    uintptr_t start = (uintptr_t)at;
    for (size_t index = 0; index < count; index++) {
        if (list[index].start <= start && start + bytes <= list[index].end) {
            return true;
        }
    }
    return false;
}

// M6
static void test_listed(void **state) {
    (void)state;
    for (size_t alignment = page; alignment <= GiB; alignment *= 8) {
        char *at = memory_reserve(8 * page, alignment, 0);
        assert_non_null(at);
        assert_true(is_listed(at, 8 * page));
        assert_true(memory_commit(at, 8 * page));
        assert_true(memory_uncommit(at, 8 * page));
        assert_true(is_listed(at, 8 * page));
        memory_release(at + 2 * page, page);
        assert_true(is_listed(at, 2 * page));
        assert_false(is_listed(at + 2 * page, page));
        assert_true(is_listed(at + 3 * page, 5 * page));
        memory_release(at, 2 * page);
        memory_release(at + 3 * page, 5 * page);
        assert_false(is_listed(at, page));
        assert_false(is_listed(at + 7 * page, page));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve_aligned),
        cmocka_unit_test(test_reserve_hint),
        cmocka_unit_test(test_reserve_too_much),
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_returned),
        cmocka_unit_test(test_release_a_part),
        cmocka_unit_test(test_huge_and_name),
        cmocka_unit_test(test_readable),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_commit_refused),
        cmocka_unit_test(test_physical),
        cmocka_unit_test(test_listed),
    };
    return cmocka_run_group_tests(tests, learn_page, NULL);
}
