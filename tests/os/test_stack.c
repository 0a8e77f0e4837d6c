// The hot end with every register one by one (stack.S), and the cold end of
// every kind of stack.

#include "os/stack.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/resource.h>

#include "base/defs.h"

typedef void stack_body(const void *hot_end, void *data);
typedef void stack_caller(stack_body *body, void *data);
typedef void stack_stub(uint64_t hidden, stack_caller *call, stack_body *body,
                        void *data);

void stack_test_blind(stack_body *body, void *data);

// clang-format off
#if defined(__x86_64__)
#define REGISTERS(X) X(rbx) X(rbp) X(r12) X(r13) X(r14) X(r15)
#else
#define REGISTERS(X)                                                           \
    X(x19) X(x20) X(x21) X(x22) X(x23) X(x24) X(x25) X(x26) X(x27) X(x28)      \
    X(x29) X(d8) X(d9) X(d10) X(d11) X(d12) X(d13) X(d14) X(d15)
#endif
// clang-format on
#define DECLARE(name)                                                          \
    void stack_test_##name(uint64_t hidden, stack_caller *call,                \
                           stack_body *body, void *data);
REGISTERS(DECLARE)

#define ROW(name) {#name, stack_test_##name},
static const struct {
    const char *name;
    stack_stub *stub;
} registers[] = {REGISTERS(ROW)};
#define REGISTER_COUNT (sizeof registers / sizeof *registers)

// What a scan looks for and what it found.  The sought word is kept as its
// complement, so that this struct does not hold it.
struct search {
    uint64_t hidden;
    const void *cold_end;
    const void *hot_end;
    size_t found;
};

NO_SANITIZE static void search_stack(const void *hot_end, void *data) {
    struct search *search = data;
    search->hot_end = hot_end;
    search->found = 0;
    const volatile uint64_t *end = search->cold_end;
    for (const volatile uint64_t *word = hot_end; word < end; word++) {
        search->found += ~*word == search->hidden;
    }
}

// K1
static void test_every_register(void **state) {
    (void)state;
    for (size_t index = 0; index < REGISTER_COUNT; index++) {
        uint64_t hidden = 0x5eed00000000cafeu + (index << 20);
        struct search search = {hidden, stack_cold_end(), NULL, 0};
        assert_non_null(search.cold_end);
        registers[index].stub(hidden, stack_spill, search_stack, &search);
        if (search.found == 0) {
            fail_msg("%s is not in memory", registers[index].name);
        }
    }
}

// K1: and this test would notice.
static void test_blind_spill_is_noticed(void **state) {
    (void)state;
    for (size_t index = 0; index < REGISTER_COUNT; index++) {
        uint64_t hidden = 0x5eed00000001cafeu + (index << 20);
        struct search search = {hidden, stack_cold_end(), NULL, 0};
        registers[index].stub(hidden, stack_test_blind, search_stack, &search);
        if (search.found != 0) {
            fail_msg("%s is found without a spill", registers[index].name);
        }
    }
}

// --- Registers in an array --------------------------------------------------

// An address where the stubs of stack.S expect a function.
static stack_body *as_body(void *address) {
    return (stack_body *)(uintptr_t)address;
}

static size_t count_words(const uintptr_t *words, uint64_t hidden) {
    size_t found = 0;
    for (size_t index = 0; index < STACK_REGISTERS; index++) {
        found += ~words[index] == hidden;
    }
    return found;
}

// K5
static void test_save(void **state) {
    (void)state;
    assert_int_equal(REGISTER_COUNT, STACK_REGISTERS);
    for (size_t index = 0; index < REGISTER_COUNT; index++) {
        uint64_t hidden = 0x5eed00000002cafeu + (index << 20);
        uintptr_t saved[STACK_REGISTERS + 1] = {0};
        saved[STACK_REGISTERS] = 7;
        stack_caller *save = (stack_caller *)(uintptr_t)stack_save;
        registers[index].stub(hidden, save, as_body(saved), NULL);
        if (count_words(saved, hidden) != 1) {
            fail_msg("%s is not saved", registers[index].name);
        }
        assert_int_equal(saved[STACK_REGISTERS], 7); // and no further
    }
}

struct passage {
    uint64_t hidden;
    const void *hot_end;
    size_t found;
};

void stack_test_door(void *passage);
void stack_test_entered(void *passage, const uintptr_t *saved,
                        const void *hot_end);

STACK_DOOR(stack_test_door, stack_test_entered, ".globl");

void stack_test_entered(void *argument, const uintptr_t *saved,
                        const void *hot_end) {
    struct passage *passage = argument;
    passage->found = count_words(saved, passage->hidden);
    passage->hot_end = hot_end;
    assert_int_equal((uintptr_t)&passage % WORD_BYTES, 0);
#if defined(__x86_64__) // the next two leave the door as they came
    __asm__ volatile("xorl %%ebx, %%ebx\n\txorl %%r12d, %%r12d" ::
                         : "rbx", "r12", "r13", "r14", "r15");
#else
    __asm__ volatile("mov x19, xzr\n\tfmov d8, xzr" ::
                         : "x19", "x20", "x27", "x28", "d8", "d15");
#endif
}

// What the registers are before a door and behind it.
NOINLINE static void pass(uintptr_t *before, uintptr_t *after,
                          struct passage *passage) {
    stack_save(before);
    stack_test_door(passage);
    stack_save(after);
    __asm__ volatile("" ::: "memory"); // no tail call
}

// K6
static void test_door(void **state) {
    (void)state;
    for (size_t index = 0; index < REGISTER_COUNT; index++) {
        uint64_t hidden = 0x5eed00000003cafeu + (index << 20);
        struct passage passage = {hidden, NULL, 0};
        stack_caller *door = (stack_caller *)(uintptr_t)stack_test_door;
        registers[index].stub(hidden, door, as_body(&passage), NULL);
        if (passage.found != 1) {
            fail_msg("%s did not pass the door", registers[index].name);
        }
        assert_int_equal((uintptr_t)passage.hot_end % WORD_BYTES, 0); // K3
        assert_true((uintptr_t)passage.hot_end < (uintptr_t)&passage);
    }
    struct passage passage = {0, NULL, 0};
    uintptr_t before[STACK_REGISTERS], after[STACK_REGISTERS];
    pass(before, after, &passage);
    assert_memory_equal(before, after, sizeof before);
}

// Holds a value in a local of each of `depth` frames, and spills in the last.
NOINLINE static void dive(size_t depth, uint64_t hidden, stack_body *body,
                          void *data) {
    volatile uint64_t mine = ~hidden;
    if (depth == 1) {
        stack_spill(body, data);
    } else {
        dive(depth - 1, hidden, body, data);
    }
    mine = 0;
    (void)mine;
}

// K2, K3
static void check_cover(const void *cold_end) {
    struct search search = {0xabcdef0123456789u, cold_end, NULL, 0};
    volatile uint64_t mine = ~search.hidden;
    for (size_t depth = 1; depth <= 20; depth += 19) {
        dive(depth, search.hidden, search_stack, &search);
        assert_true(search.found >= depth + 1);                      // K2
        assert_int_equal((uintptr_t)search.hot_end % WORD_BYTES, 0); // K3
    }
    assert_int_equal((uintptr_t)cold_end % WORD_BYTES, 0); // K3
    assert_true((uintptr_t)search.hot_end < (uintptr_t)cold_end);
    mine = 0;
    (void)mine;
}

static void test_main_stack(void **state) {
    (void)state;
    assert_non_null(stack_cold_end());
    const void *lowest = state, *cold_end = NULL;
    stack_own_bounds(&lowest, &cold_end);
    assert_null(lowest);
    assert_ptr_equal(cold_end, stack_cold_end());
    check_cover(stack_cold_end());
    // What main was given lies above every frame.
    assert_true((uintptr_t)*environ >= (uintptr_t)stack_cold_end());
}

// Runs in a thread: its own end, beyond all its frames, within its stack.
static void *thread_body(void *data) {
    uint64_t marker = 1;
    errno = 77;
    const void *lowest, *cold_end;
    stack_own_bounds(&lowest, &cold_end);
    assert_int_equal(errno, 77); // K4
    assert_non_null(cold_end);
    assert_true((uintptr_t)lowest < (uintptr_t)&marker); // K7
    assert_true(data == NULL || lowest == data);         // K7
    assert_true((uintptr_t)cold_end > (uintptr_t)&marker);
    assert_true((uintptr_t)cold_end - (uintptr_t)&marker < 64 * MiB);
    check_cover(cold_end);
    return data;
}

static void run_thread(const pthread_attr_t *attributes, void *lowest) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, attributes, thread_body, lowest),
                     0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_thread_stacks(void **state) {
    (void)state;
    run_thread(NULL, NULL);
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 256 * KiB), 0);
    run_thread(&attributes, NULL);
    void *memory = mmap(NULL, MiB, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(pthread_attr_setstack(&attributes, memory, MiB), 0);
    run_thread(&attributes, memory);
    assert_int_equal(pthread_attr_destroy(&attributes), 0);
    assert_int_equal(munmap(memory, MiB), 0);
}

// A child of a thread has that thread's stack and the id of a main thread.
static void *forking_body(void *data) {
    const void *bounds[2], *again[2];
    stack_own_bounds(&bounds[0], &bounds[1]);
    pid_t child = fork();
    if (child == 0) {
        stack_own_bounds(&again[0], &again[1]);
        _exit(bounds[0] == again[0] && bounds[1] == again[1] ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return data;
}

static void test_fork_in_a_thread(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, forking_body, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void set_errno(const void *hot_end, void *data) {
    (void)hot_end;
    *(int *)data = errno;
}

// K4
static void test_errno(void **state) {
    (void)state;
    int seen = 0;
    errno = 78;
    stack_spill(set_errno, &seen);
    (void)stack_cold_end();
    const void *lowest, *cold_end;
    stack_own_bounds(&lowest, &cold_end);
    assert_int_equal(errno, 78);
    assert_int_equal(seen, 78);
    assert_true(STACK_SLOP_BYTES == 1 || STACK_SLOP_BYTES == 64);
}

// K3: the two ends of one stack, and pairs that are none.
static void test_whole(void **state) {
    (void)state;
    uintptr_t cold = (uintptr_t)stack_cold_end();
    int here;
    assert_true(stack_is_whole(&here, (const void *)cold));
    assert_false(stack_is_whole((const void *)cold, &here));
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_STACK, &limit), 0);
    if (limit.rlim_cur < cold) {
        uintptr_t far = cold - (uintptr_t)limit.rlim_cur;
        assert_true(stack_is_whole((const void *)far, (const void *)cold));
        assert_false(
            stack_is_whole((const void *)(far - 1), (const void *)cold));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_every_register),
        cmocka_unit_test(test_blind_spill_is_noticed),
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_door),
        cmocka_unit_test(test_main_stack),
        cmocka_unit_test(test_thread_stacks),
        cmocka_unit_test(test_fork_in_a_thread),
        cmocka_unit_test(test_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
