// Failure of the Nth system call, N = 1, 2, ... until a run makes fewer.  The
// same work is done in a fresh process for each N, once with one call refused
// and once with all from the Nth on: every object must stay whole, allocations
// may say NULL, and when the system gives again, all goes on.
//
//   O1 whole, O2 edges, O5 fresh: judged by the oracle
//
// seconds: 300

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/child.h"
#include "support/churn.h"
#include "support/fault.h"
#include "support/scrub.h"

#define SLOTS 30

static void *global_slots[SLOTS];

struct order {
    size_t n;    // which call is refused
    bool onward; // and all that follow
    bool early;  // from the very first call of the collector on
};

// Exit status of a child: it made fewer than n calls; or it saw the refusal.
enum { PASSED = 10, REFUSED = 11 };

static void work(struct churn *c, size_t steps) {
    churn_run(c, steps);
}

// After the storm every sort of allocation must work.
static int recover(void) {
    static const size_t sizes[] = {16, 500, 5000, 40000, 300000, 5000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *p = loam_alloc(sizes[i]);
        if (!p) {
            fprintf(stderr, "no %zu bytes after recovery\n", sizes[i]);
            return 1;
        }
        for (size_t k = 0; k < sizes[i]; k++) {
            if (p[k]) {
                fprintf(stderr, "%zu bytes not zero\n", sizes[i]);
                return 1;
            }
        }
    }
    return loam_collect() ? 0 : 1;
}

static void arm(const struct order *order) {
    if (order->onward) {
        fault_arm_from(order->n);
    } else {
        fault_arm(order->n);
    }
}

NOT_INLINED static int run(void *data) {
    const struct order *order = data;
    struct oracle o;
    struct churn c;
    if (order->early) {
        arm(order);
        bool ready = loam_init();
        size_t hits = fault_hits();
        fault_disarm();
        if (!ready) {
            return recover() ? 3 : REFUSED;
        }
        return recover() ? 4 : hits < order->n ? PASSED : REFUSED;
    }
    oracle_init(&o, &subject_loam, 1000, SLOTS, order->n);
    oracle_add_slots(&o, global_slots, SLOTS);
    churn_init(&c, &o, 4711);
    c.bytes_max = 3 << 20;
    c.total_max = 40 << 20;
    work(&c, 200);
    arm(order);
    work(&c, 1200);
    size_t hits = fault_hits();
    fault_disarm();
    work(&c, 200);
    oracle_fini(&o);
    if (recover()) {
        return 2;
    }
    return hits < order->n ? PASSED : REFUSED;
}

static void sweep(bool onward, bool early, size_t most) {
    static struct child child;
    size_t n = 1;
    for (; n <= most; n += 1 + (n > 60 ? n / 20 : 0)) {
        struct order order = {n, onward, early};
        child_fork(&child, run, &order);
        if (child.status != PASSED && child.status != REFUSED) {
            printf("call %zu refused%s\n", n, onward ? ", and all after" : "");
            child_show(&child);
        }
        assert_in_range(child.status, PASSED, REFUSED);
        if (child.status == PASSED) {
            break;
        }
    }
    printf("%zu calls\n", n - 1);
    assert_true(n > 1); // it makes some: the wrapping works
}

static void test_at_start(void **state) {
    (void)state;
    sweep(false, true, 1000);
    sweep(true, true, 1000);
}

static void test_one_refused(void **state) {
    (void)state;
    sweep(false, false, SCALED(100000, 2000));
}

static void test_all_refused(void **state) {
    (void)state;
    sweep(true, false, SCALED(100000, 2000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_start),
        cmocka_unit_test(test_one_refused),
        cmocka_unit_test(test_all_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
