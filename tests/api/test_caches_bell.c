// The bell, rung over seats that stand for caches: who gives, in which order,
// and who is left alone.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/caches_bell.h"
#include "api/init.h"
#include "loam/weak.h"
#include "roots/world.h"
#include "support/scrub.h"
#include "support/team.h"

#define LOG_MAX 1000

static struct {
    struct caches_seat *seats[LOG_MAX];
    size_t bytes[LOG_MAX];
    size_t count, told;
    bool outside; // so far all were called outside of everything
} hands;

static bool lock_try_and_release(void) {
    bool had = world_try_lock();
    if (had) {
        world_unlock();
    }
    return had;
}

static bool is_outside(void) {
    return init_mutator->busy == MUTATOR_OUT && init_mutator->hot_end == NULL &&
           lock_try_and_release();
}

static size_t give(struct caches_seat *seat, size_t bytes) {
    hands.outside = hands.outside && is_outside();
    hands.seats[hands.count % LOG_MAX] = seat;
    hands.bytes[hands.count++ % LOG_MAX] = bytes;
    assert_int_equal(seat->claim, init_mutator->id); // CB1
    seat->bytes -= bytes;
    seat->owes = seat->confined;
    return bytes;
}

static void tell(struct caches_seat *seat) {
    assert_int_equal(seat->claim, 0); // CB2
    hands.outside = hands.outside && is_outside();
    seat->owes = false;
    hands.told++;
}

static const struct caches_hands two_hands = {give, tell};

static struct caches_seat *make(size_t bytes, uint64_t cost) {
    struct caches_seat *seat = loam_alloc(sizeof *seat);
    assert_non_null(seat);
    seat->bytes = bytes;
    seat->cost = cost;
    seat->target_bytes = SIZE_MAX;
    seat->owner = init_mutator->id;
    seat->used = init_state.home.collector.figures.cycles;
    assert_true(caches_bell_enrol(seat, &two_hands));
    return seat;
}

static NOT_INLINED void make_lost(void) {
    for (size_t i = 0; i < 100; i++) {
        (void)make(1000, 1);
    }
}

static size_t given_by(const struct caches_seat *seat) {
    size_t bytes = 0;
    for (size_t i = 0; i < hands.count; i++) {
        bytes += hands.seats[i] == seat ? hands.bytes[i] : 0;
    }
    return bytes;
}

// No cache of an earlier test gives any more.
static int begin_test(void **state) {
    (void)state;
    assert_true(loam_init());
    assert_true(scrub_collect());
    (void)caches_bell_ring(SIZE_MAX);
    memset(&hands, 0, sizeof hands);
    hands.outside = true;
    return 0;
}

static void test_order(void **state) {
    (void)state;
    struct caches_seat *dear = make(4 << 20, 1000);
    struct caches_seat *small = make(1 << 20, 1);
    struct caches_seat *large = make(4 << 20, 1);
    struct caches_seat *cold = make(3 << 20, 1);
    cold->used -= 1; // 3 MiB times 2
    assert_int_equal(caches_bell_ring(1 << 20), 1 << 20);
    assert_ptr_equal(hands.seats[0], cold); // CB3
    assert_int_equal(hands.bytes[0], (3 << 20) / 4);
    assert_ptr_equal(hands.seats[1], cold); // 4.5 MiB: still
    hands.count = 0;
    assert_int_equal(caches_bell_ring(7 << 20), 7 << 20);
    assert_int_equal(given_by(large) + given_by(small) + given_by(cold),
                     7 << 20);
    assert_int_equal(caches_bell_ring(SIZE_MAX), 4 << 20);
    assert_int_equal(given_by(dear), 4 << 20);
}

static void test_minimum(void **state) {
    (void)state;
    struct caches_seat *seat = make(1 << 20, 1);
    struct caches_seat *never = make(1 << 20, 1);
    seat->min_bytes = 300000;
    never->never = true;
    assert_int_equal(caches_bell_ring(SIZE_MAX), (1 << 20) - 300000);
    assert_int_equal(seat->bytes, 300000); // CB4
    assert_int_equal(caches_bell_ring(1), 0);
    assert_int_equal(never->target_bytes, SIZE_MAX);
    assert_true(hands.outside); // CB2
}

static void test_weak(void **state) {
    (void)state;
    make_lost();
    assert_true(scrub_collect());
    (void)caches_bell_ring(SIZE_MAX);
    assert_true(hands.count < 10); // CB5: but for a stale word
    struct caches_seat *seat = make(1000, 1);
    assert_int_equal(caches_bell_ring(SIZE_MAX), 1000);
    loam_keep(seat);
}

static void test_asked(void **state) {
    (void)state;
    struct caches_seat *asks = make(1000000, 1);
    struct caches_seat *busy = make(1000000, 1);
    struct caches_seat *other = make(1000000, 1);
    asks->asks = true;
    busy->busy = busy->owner;
    other->confined = true;
    other->owner = busy->owner + 1;
    assert_int_equal(caches_bell_ring(200000), 0);
    assert_int_equal(hands.count, 0); // CB6
    assert_int_equal(asks->target_bytes, 800000);
    assert_int_equal(busy->target_bytes, 800000);
    assert_int_equal(other->target_bytes, 800000);
    busy->busy = 0;
    other->owner = busy->owner;
    assert_int_equal(caches_bell_ring(200000), 200000);
    assert_int_equal(hands.told, other->bytes != 1000000);
    other->bytes = asks->bytes = busy->bytes = 0;
}

// --- Others ----------------------------------------------------------------

static struct caches_seat *shared;
static atomic_uint turn;

// Enters, works on the words of the cache, and leaves, again and again.
static void *enter_often(void *data) {
    size_t *entries = data;
    MUST(loam_init());
    uint32_t id = init_mutator->id;
    while (atomic_load(&turn) == 0) {
        if (!caches_bell_enter(shared, id)) {
            MUST(caches_bell_wait(shared) == CACHES_ENTERED);
        }
        // Nobody changes it meanwhile: CB1.
        size_t was = shared->bytes;
        for (size_t i = 0; i < 50; i++) {
            MUST(__atomic_load_n(&shared->bytes, __ATOMIC_RELAXED) == was + i);
            __atomic_store_n(&shared->bytes, was + i + 1, __ATOMIC_RELAXED);
        }
        *entries += 50;
        caches_bell_leave(shared);
        if (*entries % 100000 == 0) {
            rest();
        }
    }
    return NULL;
}

static void test_alone(void **state) {
    (void)state;
    static size_t entries;
    shared = make(0, 1);
    pthread_t thread = begin(enter_often, &entries);
    size_t given = 0;
    for (size_t i = 0; i < SCALED(3000, 200); i++) {
        given += caches_bell_ring(1000);
        rest();
    }
    atomic_store(&turn, 1);
    join(thread);
    assert_int_equal(shared->bytes + given, entries); // CB1
    assert_true(given > 0);
}

static void test_nested(void **state) {
    (void)state;
    shared = make(0, 1);
    assert_true(caches_bell_enter(shared, init_mutator->id));
    assert_false(caches_bell_enter(shared, init_mutator->id));
    assert_int_equal(caches_bell_wait(shared), CACHES_REFUSED); // CB8
    caches_bell_leave(shared);
    assert_true(caches_bell_enter(shared, init_mutator->id));
    caches_bell_leave(shared);
}

static void *stay(void *data) {
    MUST(caches_bell_wait(shared) == CACHES_ENTERED);
    atomic_store(&turn, 2);
    wait_for(&turn, 3);
    caches_bell_leave(shared);
    return data;
}

static int enter_in_child(void) {
    return caches_bell_wait(shared) == CACHES_ORPHANED && shared->busy != 0 &&
                   shared->owner == init_mutator->id
               ? 0
               : 1;
}

static void test_gone(void **state) {
    (void)state;
    shared = make(0, 1);
    pthread_t thread = begin(stay, NULL);
    wait_for(&turn, 2);
    pid_t child = fork();
    if (child == 0) {
        _exit(enter_in_child()); // CB7
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    atomic_store(&turn, 3);
    join(thread);
    assert_int_equal(caches_bell_wait(shared), CACHES_ENTERED);
    caches_bell_leave(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_order, begin_test),
        cmocka_unit_test_setup(test_minimum, begin_test),
        cmocka_unit_test_setup(test_weak, begin_test),
        cmocka_unit_test_setup(test_asked, begin_test),
        cmocka_unit_test_setup(test_alone, begin_test),
        cmocka_unit_test_setup(test_nested, begin_test),
        cmocka_unit_test_setup(test_gone, begin_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
