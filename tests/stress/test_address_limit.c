// ulimit -v: the address space is short.  The program starts itself again,
// limits itself before the collector starts, and works: a smaller range, NULL
// where there is no more, and nothing lost.
//
// seconds: 240

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "loam.h"
#include "support/child.h"
#include "support/churn.h"
#include "support/scrub.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW 1 // shadow memory is far larger than any such limit
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SHADOW 1
#endif
#endif

#define MIB   ((size_t)1 << 20)
#define SLOTS 30

static void *global_slots[SLOTS];

struct link {
    struct link *next;
};

static struct link *chain;

NOT_INLINED static size_t fill(size_t bytes, size_t most) {
    size_t count = 0;
    while (count * bytes < most) {
        struct link *link = loam_alloc(bytes);
        if (!link) {
            break;
        }
        link->next = chain;
        chain = link;
        count++;
    }
    return count;
}

NOT_INLINED static void run_random(uint64_t seed) {
    struct oracle o;
    struct churn c;
    oracle_init(&o, &subject_loam, 1000, SLOTS, seed);
    oracle_add_slots(&o, global_slots, SLOTS);
    churn_init(&c, &o, seed);
    c.bytes_max = 1 << 20;
    c.total_max = 30 * MIB;
    churn_run(&c, 3000);
    oracle_fini(&o);
}

static int run_child(size_t limit) {
    struct rlimit space = {limit, limit};
    if (setrlimit(RLIMIT_AS, &space)) {
        return 2;
    }
    if (!loam_init()) {
        return 3;
    }
    run_random(4711);
    for (size_t round = 0; round < 4; round++) {
        size_t bytes = limit / 20000;
        size_t count = fill(bytes, 2 * limit);
        // Not all of the space can be heap; a fifth of it must.
        if (count * bytes < limit / 5 || count * bytes > limit) {
            fprintf(stderr, "%zu MiB of %zu\n", count * bytes / MIB,
                    limit / MIB);
            return 4;
        }
        chain = NULL;
        scrub_stack();
        if (!loam_alloc(100000)) {
            return 5;
        }
    }
    run_random(4712);
    return 0;
}

static void test_limits(void **state) {
    (void)state;
    const char *const settings[] = {NULL};
    assert_true(child_passes("64", settings));
    assert_true(child_passes("256", settings));
    assert_true(child_passes("1024", settings));
}

int main(int argc, char **argv) {
    const char *mode = child_mode(argc, argv);
    if (mode) {
        return run_child(strtoul(mode, NULL, 10) * MIB);
    }
#if defined(HAS_SHADOW)
    return 77; // skipped
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
