// Fibers, switched in three ways, on stacks of five kinds of memory.  A fiber
// holds the only pointer to an object in one register, or in its frame, and is
// left; then something collects: the thread on its own stack, another fiber,
// another thread.  The object must be there when the fiber is entered again.
//
// Control: a stack that is not registered keeps nothing.

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "loam.h"
#include "support/scrub.h"

// What ASan knows of the frames on a stack is not true of the memory when it is
// no stack any more.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#define STACK_BYTES ((size_t)256 * 1024)
#define OBJECT      ((size_t)96)
#define PATTERN     0x5EED5EEDu

void fibers_test_switch(void **from, void *to);
uintptr_t fibers_test_hold(uintptr_t hidden, void (*leave)(void));

enum way { WAY_CONTEXT, WAY_ASSEMBLY, WAY_JUMP, WAYS };
enum memory {
    MEMORY_MAPPED,
    MEMORY_MALLOCED,
    MEMORY_LEAF,
    MEMORY_SCANNED,
    MEMORY_STATIC,
    MEMORIES
};

struct fiber {
    enum way way;
    void (*body)(void);
    char *memory;
    struct loam_stack *stack; // NULL: it is not registered
    // How it goes on, as the way may be; in malloc'ed memory, which is not
    // scanned.
    ucontext_t context;
    void *stack_pointer;
    sigjmp_buf jump;
};

// The thread's own stack, the fiber of a test, and who runs.
static struct fiber *native, *first, *second;
static __thread struct fiber *running;
static char static_stack[STACK_BYTES] __attribute__((aligned(64)));

// --- Switching -------------------------------------------------------------

// Goes to `to`, as the two were made.
NOT_INLINED static void go(struct fiber *to) {
    struct fiber *from = running;
    running = to;
    loam_fiber_switch(to->stack);
    if (from->way == WAY_CONTEXT) {
        (void)swapcontext(&from->context, &to->context);
    } else if (from->way == WAY_ASSEMBLY) {
        fibers_test_switch(&from->stack_pointer, to->stack_pointer);
    } else if (sigsetjmp(from->jump, 0) == 0) {
        siglongjmp(to->jump, 1);
    }
}

static void start(void) {
    running->body();
    go(native); // never to be entered again
}

// A jump needs a place to go to: the handler of a signal that runs on the
// fiber's stack makes one.
static struct fiber *jump_made;

static void make_jump(int number) {
    (void)number;
    if (sigsetjmp(jump_made->jump, 0) != 0) {
        start();
    }
}

static void ready_jump(struct fiber *fiber) {
    stack_t stack = {.ss_sp = fiber->memory, .ss_size = STACK_BYTES};
    stack_t before;
    struct sigaction action = {.sa_handler = make_jump, .sa_flags = SA_ONSTACK};
    struct sigaction old;
    sigemptyset(&action.sa_mask);
    jump_made = fiber;
    assert_int_equal(sigaltstack(&stack, &before), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    raise(SIGUSR1);
    assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
    assert_int_equal(sigaltstack(&before, NULL), 0);
}

static void ready_assembly(struct fiber *fiber) {
    uintptr_t top = (uintptr_t)fiber->memory + STACK_BYTES;
    top -= top % 16;
#if defined(__x86_64__)
    uintptr_t *at = (uintptr_t *)top - 1; // aligned as behind a call
    *--at = (uintptr_t)start;
    at -= 6;
    memset(at, 0, 6 * sizeof *at);
#else
    uintptr_t *at = (uintptr_t *)top - 20;
    memset(at, 0, 20 * sizeof *at);
    at[1] = (uintptr_t)start; // x30
#endif
    fiber->stack_pointer = at;
}

static void ready(struct fiber *fiber) {
    if (fiber->way == WAY_ASSEMBLY) {
        ready_assembly(fiber);
    } else if (fiber->way == WAY_JUMP) {
        ready_jump(fiber);
    } else {
        assert_int_equal(getcontext(&fiber->context), 0);
        fiber->context.uc_stack.ss_sp = fiber->memory;
        fiber->context.uc_stack.ss_size = STACK_BYTES;
        fiber->context.uc_link = NULL;
        makecontext(&fiber->context, start, 0);
    }
}

static char *memory_of(enum memory memory) {
    char *at = static_stack;
    if (memory == MEMORY_MAPPED) { // with a guard below
        at = mmap(NULL, STACK_BYTES + 65536, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(at, MAP_FAILED);
        at += 65536;
        assert_int_equal(mprotect(at, STACK_BYTES, PROT_READ | PROT_WRITE), 0);
    } else if (memory == MEMORY_MALLOCED) {
        at = malloc(STACK_BYTES);
    } else if (memory != MEMORY_STATIC) {
        at = memory == MEMORY_LEAF ? loam_alloc_leaf(STACK_BYTES)
                                   : loam_alloc(STACK_BYTES);
    }
    assert_non_null(at);
    return at;
}

static void give_memory_back(enum memory memory, char *at) {
    ASAN_UNPOISON_MEMORY_REGION(at, STACK_BYTES);
    if (memory == MEMORY_MAPPED) {
        munmap(at - 65536, STACK_BYTES + 65536);
    } else if (memory == MEMORY_MALLOCED) {
        free(at);
    } else if (memory != MEMORY_STATIC) {
        loam_free(at);
    }
}

static struct fiber *make_fiber(enum way way, enum memory memory,
                                void (*body)(void)) {
    struct fiber *fiber = calloc(1, sizeof *fiber);
    assert_non_null(fiber);
    fiber->way = way;
    fiber->body = body;
    fiber->memory = memory_of(memory);
    // A guard page below may be a part of what is registered.
    size_t guard = memory == MEMORY_MAPPED ? 65536 : 0;
    fiber->stack =
        loam_stack_register(fiber->memory - guard, STACK_BYTES + guard);
    assert_non_null(fiber->stack);
    ready(fiber);
    return fiber;
}

static void drop_fiber(struct fiber *fiber, enum memory memory) {
    loam_stack_unregister(fiber->stack);
    give_memory_back(memory, fiber->memory);
    free(fiber);
}

static void begin(enum way way) {
    native = calloc(1, sizeof *native);
    assert_non_null(native);
    native->way = way;
    running = native;
}

// --- Objects ---------------------------------------------------------------

static uintptr_t hidden; // of the object that is looked after

NOT_INLINED static void make_object(void) {
    uint64_t *p = loam_alloc(OBJECT);
    assert_non_null(p);
    *p = PATTERN;
    hidden = LOAM_HIDE(p);
}

NOT_INLINED static bool is_alive(void) {
    const uint64_t *p = LOAM_REVEAL(hidden);
    return loam_base(p) == p && *p == PATTERN;
}

static void leave_for_native(void) {
    go(native);
}

static bool held_in_register, held_in_frame;

// Holds the object in one register, and then in its frame.
static void hold(void) {
    for (;;) {
        make_object();
        scrub_stack();
        uintptr_t value = fibers_test_hold(hidden, leave_for_native);
        held_in_register = value == ~hidden;
        volatile uintptr_t slot = ~hidden;
        go(native);
        held_in_frame = slot == ~hidden;
        slot = 0;
        go(native);
    }
}

static void collect_here(void) {
    scrub_stack();
    (void)loam_collect();
}

static void collect_in_second(void) {
    for (;;) {
        collect_here();
        go(native);
    }
}

static void *collect_in_thread(void *data) {
    collect_here();
    return data;
}

// Who collects.
static void collect_by_native(void) {
    collect_here();
}

static void collect_by_fiber(void) {
    go(second);
}

static void collect_by_thread(void) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, collect_in_thread, NULL), 0);
    pthread_join(thread, NULL);
}

// Where a collection takes long (an emulator's threads answer late) there are
// fewer of them.
static size_t turns(void) {
    struct loam_stats stats;
    (void)loam_collect();
    loam_stats(&stats, sizeof stats);
    return stats.pause_ns > 200000000 ? 1 : 6;
}

static uint64_t collections(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.collections;
}

static void check_one(enum way way, enum memory memory, size_t count) {
    static void (*const collect_by[])(void) = {
        collect_by_native, collect_by_fiber, collect_by_thread};
    begin(way);
    first = make_fiber(way, memory, hold);
    second = make_fiber(way, MEMORY_MAPPED, collect_in_second);
    for (size_t i = 0; i < count; i++) {
        uint64_t before = collections();
        go(first);
        collect_by[(i + (size_t)memory) % 3]();
        assert_true(is_alive());
        go(first); // it looks at its register, and puts it into its frame
        assert_true(held_in_register);
        collect_by[i % 3]();
        assert_true(is_alive());
        go(first);
        assert_true(held_in_frame);
        assert_true(collections() >= before + 2);
    }
    drop_fiber(first, memory);
    drop_fiber(second, MEMORY_MAPPED);
    free(native);
}

static void test_ways(void **state) {
    (void)state;
    size_t count = turns();
    for (enum way way = 0; way < WAYS; way++) {
        for (enum memory memory = 0; memory < MEMORIES; memory++) {
            check_one(way, memory, count);
        }
    }
}

// The same fiber, its stack unregistered: the object is gone.
static void test_control(void **state) {
    (void)state;
    size_t alive = 0;
    for (size_t i = 0; i < 10; i++) {
        begin(WAY_ASSEMBLY);
        first = make_fiber(WAY_ASSEMBLY, MEMORY_MALLOCED, hold);
        go(first);
        loam_stack_unregister(first->stack);
        first->stack = NULL;
        collect_here();
        collect_here();
        alive += is_alive();
        give_memory_back(MEMORY_MALLOCED, first->memory);
        free(first);
        free(native);
    }
    assert_true(alive <= 3);
}

// --- The thread's own stack, while it runs on a fiber ----------------------

static void collect_and_return(void) {
    for (size_t i = 0; i < 3; i++) {
        collect_here();
        go(native);
    }
}

static void leave_for_first(void) {
    go(first);
}

static void test_native(void **state) {
    (void)state;
    for (enum way way = 0; way < WAYS; way++) {
        begin(way);
        first = make_fiber(way, MEMORY_MALLOCED, collect_and_return);
        make_object();
        scrub_stack();
        uintptr_t value = fibers_test_hold(hidden, leave_for_first);
        assert_true(value == ~hidden && is_alive());
        volatile uintptr_t slot = ~hidden;
        value = 0;
        go(first);
        assert_true(is_alive());
        assert_true(slot == ~hidden);
        drop_fiber(first, MEMORY_MALLOCED);
        free(native);
    }
}

// --- A stack within the thread's own ---------------------------------------

static void *run_within(void *data) {
    char memory[STACK_BYTES] __attribute__((aligned(64)));
    begin(WAY_ASSEMBLY);
    struct fiber fiber = {.way = WAY_ASSEMBLY, .body = collect_and_return};
    fiber.memory = memory;
    fiber.stack = loam_stack_register(memory, sizeof memory);
    assert_non_null(fiber.stack);
    ready(&fiber);
    first = &fiber;
    make_object();
    scrub_stack();
    uintptr_t value = fibers_test_hold(hidden, leave_for_first);
    bool right = value == ~hidden && is_alive();
    loam_stack_unregister(fiber.stack);
    free(native);
    *(bool *)data = right;
    return NULL;
}

static void test_within(void **state) {
    (void)state;
    bool right = false;
    (void)run_within(&right);
    assert_true(right);
    right = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_within, &right), 0);
    pthread_join(thread, NULL);
    assert_true(right);
}

// --- Fibers that go from thread to thread ----------------------------------

static void *carry(void *data) {
    begin(WAY_ASSEMBLY);
    go(data);
    collect_here();
    free(native);
    return NULL;
}

static void test_carried(void **state) {
    (void)state;
    begin(WAY_ASSEMBLY);
    struct fiber *fiber = make_fiber(WAY_ASSEMBLY, MEMORY_MAPPED, hold);
    struct fiber *ours = native;
    for (size_t i = 0; i < 9; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, carry, fiber), 0);
        pthread_join(thread, NULL);
        assert_true(i % 3 == 2 || is_alive());
        assert_true(i % 3 != 1 || held_in_register);
        assert_true(i % 3 != 2 || held_in_frame);
    }
    native = ours;
    drop_fiber(fiber, MEMORY_MAPPED);
    free(native);
}

// --- Unknown stacks --------------------------------------------------------

static bool unknown_right;

static void hold_and_collect(void) {
    make_object();
    scrub_stack();
    uintptr_t value = fibers_test_hold(hidden, collect_here);
    unknown_right = value == ~hidden && is_alive();
    leave_for_native();
}

// Nothing is said: the stack that runs is found by its stack pointer, and the
// thread's own is read whole.
static void check_unknown(enum memory memory) {
    begin(WAY_ASSEMBLY);
    native->way = WAY_ASSEMBLY;
    struct fiber fiber = {.way = WAY_ASSEMBLY, .body = hold_and_collect};
    fiber.memory = memory_of(memory);
    ready(&fiber);
    uint64_t *own = loam_alloc(OBJECT);
    *own = PATTERN;
    running = &fiber;
    fibers_test_switch(&native->stack_pointer, fiber.stack_pointer);
    assert_true(unknown_right);
    assert_true(*own == PATTERN && loam_base(own) == own);
    (void)loam_collect();
    assert_true(*own == PATTERN && loam_base(own) == own);
    give_memory_back(memory, fiber.memory);
    free(native);
}

static void test_unknown(void **state) {
    (void)state;
    check_unknown(MEMORY_MAPPED);
    check_unknown(MEMORY_SCANNED);
    check_unknown(MEMORY_MALLOCED);
}

// --- Registration ----------------------------------------------------------

static void test_refused(void **state) {
    (void)state;
    char *memory = malloc(STACK_BYTES);
    assert_non_null(memory);
    errno = 0;
    assert_null(loam_stack_register(memory, 0));
    assert_int_equal(errno, EINVAL);
    assert_null(loam_stack_register(NULL, 100));
    assert_null(loam_stack_register(memory, SIZE_MAX));
    struct loam_stack *stack = loam_stack_register(memory, STACK_BYTES);
    assert_non_null(stack);
    errno = 0;
    assert_null(loam_stack_register(memory, STACK_BYTES));
    assert_int_equal(errno, EINVAL);
    assert_null(loam_stack_register(memory + 100, 100));
    loam_stack_unregister(stack);
    stack = loam_stack_register(memory + 100, 100);
    assert_non_null(stack);
    loam_stack_unregister(stack);
    loam_stack_unregister(NULL);
    free(memory);
}

// A stack in an object is kept with all that its fiber holds, though the
// program has forgotten it.
static struct loam_stack *forgotten;

NOT_INLINED static void register_forgotten(void) {
    uintptr_t *memory = loam_alloc_leaf(STACK_BYTES);
    make_object();
    memset(memory, 0, STACK_BYTES);
    memory[100] = ~hidden;
    forgotten = loam_stack_register(memory, STACK_BYTES);
}

static void test_kept(void **state) {
    (void)state;
    register_forgotten();
    assert_non_null(forgotten);
    for (size_t i = 0; i < 3; i++) {
        collect_here();
        assert_true(is_alive());
    }
    loam_stack_unregister(forgotten);
}

// --- Many ------------------------------------------------------------------

#define MANY ((size_t)10000)

static size_t entered;

static void hold_for_long(void) {
    uint64_t *volatile p = loam_alloc(OBJECT);
    *p = entered++;
    for (;;) {
        go(native);
        if (*p % 7 != 0) {
            *p += MANY;
        }
    }
}

// Ten thousand fibers, each with an object of its own.
static void test_many(void **state) {
    (void)state;
    size_t bytes = 16384;
    char *memory = mmap(NULL, MANY * bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    struct fiber *fibers = calloc(MANY, sizeof *fibers);
    assert_non_null(fibers);
    begin(WAY_ASSEMBLY);
    for (size_t i = 0; i < MANY; i++) {
        char *lowest = memory + i * bytes;
        fibers[i].way = WAY_ASSEMBLY;
        fibers[i].body = hold_for_long;
        fibers[i].stack = loam_stack_register(lowest, bytes);
        assert_non_null(fibers[i].stack);
        fibers[i].memory = lowest + bytes - STACK_BYTES; // its end
        ready_assembly(&fibers[i]);
    }
    for (size_t i = 0; i < MANY; i++) {
        go(&fibers[i]);
    }
    struct loam_stats stats;
    scrub_stack();
    assert_true(loam_collect());
    loam_stats(&stats, sizeof stats);
    assert_true(stats.live_objects >= MANY);
    for (size_t i = 0; i < MANY; i++) {
        go(&fibers[i]);
    }
    print_message("10,000 fibers: %.1f ms, %zu KiB of roots\n",
                  (double)stats.pause_ns / 1e6,
                  (size_t)stats.root_bytes / 1024);
    for (size_t i = 0; i < MANY; i++) {
        loam_stack_unregister(fibers[i].stack);
    }
    collect_here();
    loam_stats(&stats, sizeof stats);
    assert_true(stats.live_objects < MANY / 2);
    munmap(memory, MANY * bytes);
    free(fibers);
    free(native);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways),    cmocka_unit_test(test_control),
        cmocka_unit_test(test_native),  cmocka_unit_test(test_within),
        cmocka_unit_test(test_carried), cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_kept),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
