// Where the system lets nobody trace: a mutator that blocks every signal makes
// the stop fail, is named within a second, and all go on (W7).  So does any
// that runs, where nobody may send a signal either.

#include "roots/world.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/crowd.h"

// As many a container does: for the calling thread and its children.
static bool forbid(unsigned call) {
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof steps / sizeof *steps, steps};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
}

static bool forbid_tracing(void) {
    errno = 0; // an emulator may have said yes and done nothing
    return forbid(SYS_ptrace) && ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 &&
           errno == EPERM;
}

static atomic_bool hears; // lets the signals in again

static void work_deaf(struct worker *worker) {
    uint64_t all = ~(uint64_t)0, none = 0;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    while (!atomic_load(&over)) {
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
        if (atomic_load(&hears)) {
            (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL,
                          sizeof none);
        }
    }
}

static struct world_stop_report report;
static uint32_t named_attempt;

static void note_named(uint32_t thread, const char *name, const char *reason) {
    named_attempt = report.attempts;
    crowd_note_named(thread, name, reason);
}

static void test_named(void **state) {
    (void)state;
    world.named = note_named;
    crowd_begin(1, true, work_deaf);
    while (atomic_load(&workers[0].before) == 0) {
        crowd_nap_ms(1);
    }
    world_lock(self);
    self->hot_end = __builtin_frame_address(0);
    assert_false(world_stop(self, &report));
    self->hot_end = NULL;
    world_unlock();
    assert_int_equal(named_thread, workers[0].id);
    assert_int_equal(report.thread, workers[0].id);
    assert_non_null(strstr(named_reason, "blocks the signal"));
    print_message("named in attempt %u, given up after %u\n", named_attempt,
                  report.attempts);
    // Half of them, not half of the time: on a busy machine some take longer.
    assert_true(named_attempt > 0 && named_attempt <= report.attempts / 2);
    uint64_t before = atomic_load(&workers[0].before); // it goes on
    while (atomic_load(&workers[0].before) == before) {
        crowd_nap_ms(1);
    }
    atomic_store(&hears, true); // and is stopped as others are, from now on
    crowd_nap_ms(5);
    for (size_t turn = 0; turn < 10; turn++) {
        (void)crowd_stop();
        crowd_see_still(1);
        crowd_go();
    }
    crowd_end(1);
}

static void work_openly(struct worker *worker) {
    while (!atomic_load(&over)) {
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
    }
}

// The last: nothing takes a filter away.  It hears, but nobody may tell it.
static void test_not_sent(void **state) {
    (void)state;
    named_thread = 0;
    crowd_begin(1, true, work_openly);
    while (atomic_load(&workers[0].before) == 0) {
        crowd_nap_ms(1);
    }
    assert_true(forbid(SYS_tgkill));
    world_lock(self);
    self->hot_end = __builtin_frame_address(0);
    assert_false(world_stop(self, &report));
    self->hot_end = NULL;
    world_unlock();
    assert_int_equal(named_thread, workers[0].id);
    assert_non_null(strstr(named_reason, "lets nobody signal it")); // D3
    crowd_end(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named),
        cmocka_unit_test(test_not_sent),
    };
    if (SUSPEND_COOPERATIVE || !forbid_tracing()) {
        return 77;
    }
    return crowd_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
