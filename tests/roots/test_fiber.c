// The registry against a universe of few words, each of which knows which area
// it is in; what is visited of stacks that run, were left, or never were; and
// children that are forked in the middle of a change.

#include "roots/fiber.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/gen.h"
#include "support/step.h"

// --- The registry ----------------------------------------------------------

#define UNIVERSE ((size_t)600)
#define START    ((uintptr_t)4096) // address of its first byte
#define AREAS    ((size_t)40)

static struct fiber *owner[UNIVERSE]; // of each byte
static struct fiber *known[AREAS];

static void check_universe(void) {
    assert_true(fiber_check());
    for (size_t i = 0; i < UNIVERSE; i++) {
        assert_ptr_equal(fiber_find(START + i), owner[i]); // F2
    }
    assert_null(fiber_find(START - 1));
    assert_null(fiber_find(START + UNIVERSE));
}

static bool is_free(size_t at, size_t count) {
    for (size_t i = at; i < at + count; i++) {
        if (owner[i] != NULL) {
            return false;
        }
    }
    return true;
}

static void add(struct gen *g, size_t slot) {
    size_t at = gen_below(g, UNIVERSE - 40);
    size_t count = 1 + gen_below(g, 40);
    struct fiber *made = NULL;
    enum fiber_answer answer = fiber_register(START + at, count, &made);
    assert_int_equal(answer, is_free(at, count) ? FIBER_TAKEN : FIBER_BAD);
    if (answer == FIBER_TAKEN) { // F1
        for (size_t i = at; i < at + count; i++) {
            owner[i] = made;
        }
        known[slot] = made;
    }
}

static void take(size_t slot) {
    for (size_t i = 0; i < UNIVERSE; i++) {
        owner[i] = owner[i] == known[slot] ? NULL : owner[i];
    }
    fiber_unregister(known[slot], NULL);
    known[slot] = NULL;
}

static void test_model(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("fiber"));
    for (size_t i = 0; i < 5000; i++) {
        size_t slot = gen_below(&g, AREAS);
        if (known[slot] == NULL) {
            add(&g, slot);
        } else {
            take(slot);
        }
        if (gen_chance(&g, 5)) {
            fiber_rebuild(); // F8
        }
        check_universe();
    }
    for (size_t slot = 0; slot < AREAS; slot++) {
        if (known[slot] != NULL) {
            take(slot);
        }
    }
    check_universe();
}

static void test_refused(void **state) {
    (void)state;
    struct fiber *fiber = NULL;
    assert_int_equal(fiber_register(0, 100, &fiber), FIBER_BAD);
    assert_int_equal(fiber_register(START, 0, &fiber), FIBER_BAD);
    assert_int_equal(fiber_register(UINTPTR_MAX - 5, 100, &fiber), FIBER_BAD);
    assert_null(fiber);
    assert_int_equal(fiber_register(START, 64, &fiber), FIBER_TAKEN);
    struct fiber *other = NULL;
    assert_int_equal(fiber_register(START, 64, &other), FIBER_BAD); // F1
    assert_int_equal(fiber_register(START - 1, 2, &other), FIBER_BAD);
    assert_int_equal(fiber_register(START + 63, 1, &other), FIBER_BAD);
    assert_int_equal(fiber_register(START - 9, 99, &other), FIBER_BAD);
    assert_null(other);
    assert_int_equal(fiber_register(START + 64, 1, &other), FIBER_TAKEN);
    assert_true(fiber_is_registered(fiber) && fiber_is_registered(other));
    fiber_unregister(fiber, NULL);
    fiber_unregister(other, NULL);
    assert_false(fiber_is_registered(fiber));
}

// --- What is visited -------------------------------------------------------

#define WORDS ((size_t)1024)
#define SLACK (FIBER_SLACK_BYTES / sizeof(uintptr_t))

static uintptr_t stack_a[WORDS], stack_b[WORDS], native[WORDS];
static uintptr_t registers[STACK_REGISTERS];

static const uintptr_t *seen_start, *seen_end; // of the stack looked at
static bool seen_registers, seen_area;
static const struct fiber *looked_at;

static void see(const uintptr_t *start, const uintptr_t *end, void *data) {
    (void)data;
    if ((uintptr_t)start >= looked_at->lowest &&
        (uintptr_t)end <= looked_at->end) {
        assert_null(seen_start);
        seen_start = start;
        seen_end = end;
    } else if (start == &looked_at->lowest) {
        seen_area = true;
    } else if (start == looked_at->left.registers) {
        assert_int_equal(end - start, STACK_REGISTERS);
        seen_registers = true;
    }
}

static void look(const struct fiber *fiber) {
    seen_start = seen_end = NULL;
    seen_registers = seen_area = false;
    looked_at = fiber;
    fiber_each(see, NULL);
    assert_true(seen_area); // F6
}

static struct fiber *enroll(uintptr_t *memory) {
    struct fiber *fiber = NULL;
    assert_int_equal(
        fiber_register((uintptr_t)memory, WORDS * sizeof *memory, &fiber),
        FIBER_TAKEN);
    return fiber;
}

// The thread goes from `hot_end` to the stack `to`.
static void go(struct fiber_seat *seat, const uintptr_t *hot_end,
               struct fiber *to) {
    for (size_t i = 0; i < STACK_REGISTERS; i++) {
        registers[i]++;
    }
    struct fiber_leaving leaving = {registers, hot_end, native, native + WORDS};
    if (!fiber_is_seated(seat, &leaving)) {
        fiber_reseat(seat, &leaving);
    }
    fiber_switch(seat, &leaving, to);
}

static void see_registers(const uintptr_t *start, const uintptr_t *end,
                          void *data) {
    const struct fiber_seat *seat = data;
    assert_ptr_equal(start, seat->native.registers);
    assert_int_equal(end - start, STACK_REGISTERS);
}

static uintptr_t native_start(struct fiber_seat *seat) {
    return fiber_visit_native(seat, see_registers, seat);
}

static void test_visits(void **state) {
    (void)state;
    struct fiber_seat seat;
    memset(&seat, 0, sizeof seat);
    struct fiber *a = enroll(stack_a);
    struct fiber *b = enroll(stack_b);
    look(a); // never run: all of it
    assert_ptr_equal(seen_start, stack_a);
    assert_ptr_equal(seen_end, stack_a + WORDS);
    go(&seat, native + 700, a);
    assert_int_equal(native_start(&seat), native + 700 - SLACK); // F4
    assert_int_equal(seat.native.registers[0], registers[0]);
    fiber_note(a, (uintptr_t)(stack_a + 900));
    fiber_note(a, (uintptr_t)(stack_a + 950)); // a lower one was seen
    look(a);
    assert_ptr_equal(seen_start, stack_a + 900); // F3: it runs
    assert_false(seen_registers);
    look(a); // the note is gone: nobody runs there
    assert_ptr_equal(seen_start, stack_a);
    assert_true(seen_registers);
    go(&seat, stack_a + 800, b);
    look(a);
    assert_ptr_equal(seen_start, stack_a + 800 - SLACK); // F3: it was left
    assert_ptr_equal(seen_end, stack_a + WORDS);
    assert_true(seen_registers);
    assert_memory_equal(a->left.registers, registers, sizeof registers);
    go(&seat, stack_b + 30, NULL); // the slack is cut at the lowest word
    look(b);
    assert_ptr_equal(seen_start, stack_b);
    assert_int_equal(native_start(&seat), 0);
    // Announced, but not made.
    go(&seat, native + 500, a);
    go(&seat, native + 500, NULL);
    assert_int_equal(native_start(&seat), 0);
    fiber_unregister(a, &seat);
    fiber_unregister(b, &seat);
}

// Threads that are not where their seats say.
static void test_doubt(void **state) {
    (void)state;
    struct fiber_seat seat;
    memset(&seat, 0, sizeof seat);
    struct fiber *a = enroll(stack_a);
    struct fiber *b = enroll(stack_b);
    go(&seat, native + 800, a);
    uintptr_t first = seat.native.registers[0];
    // It went on to b without a word, and from there to a.
    go(&seat, stack_b + 700, a);
    look(b);
    assert_ptr_equal(seen_start, stack_b + 700 - SLACK); // F5
    assert_int_equal(b->left.registers[0], registers[0]);
    look(a);
    assert_ptr_equal(seen_start, stack_a);
    // It is on a stack that nobody knows, and goes to b: nothing that is known
    // was left there.
    uintptr_t elsewhere[4];
    go(&seat, elsewhere, b);
    assert_int_equal(seat.native.registers[0], first);
    assert_int_equal(native_start(&seat), native + 800 - SLACK);
    look(a);
    assert_ptr_equal(seen_start, stack_a);
    // A fiber that ends on its own stack.
    fiber_unregister(b, &seat);
    go(&seat, stack_b + 700, NULL);
    assert_int_equal(seat.native.registers[0], first);
    go(&seat, native + 600, a);
    assert_int_equal(native_start(&seat), native + 600 - SLACK);
    // Back on its own stack without a word, and away again.
    go(&seat, native + 500, a);
    assert_int_equal(native_start(&seat), native + 500 - SLACK);
    fiber_unregister(a, NULL);
}

// A main thread's stack has no known lowest address: what is far from its end
// is doubted.
static void test_main_thread(void **state) {
    (void)state;
    struct fiber_seat seat;
    memset(&seat, 0, sizeof seat);
    struct fiber_leaving leaving = {registers, (const void *)(3 * GiB), NULL,
                                    (const void *)(3 * GiB + 64 * MiB)};
    assert_true(fiber_is_seated(&seat, &leaving));
    leaving.hot_end = (const void *)(3 * GiB - 8);
    assert_false(fiber_is_seated(&seat, &leaving));
    struct fiber *a = enroll(stack_a);
    fiber_reseat(&seat, &leaving);
    registers[0]++;
    fiber_switch(&seat, &leaving, a);
    assert_int_equal(native_start(&seat), 0); // F5, with its registers
    assert_int_equal(seat.native.registers[0], registers[0]);
    fiber_unregister(a, &seat);
}

// Guard pages below a stack are not touched, nor ends that are not aligned.
static void test_guard(void **state) {
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory =
        mmap(NULL, 8 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(
        mprotect(memory + 3 * page, 5 * page, PROT_READ | PROT_WRITE), 0);
    struct fiber *fiber = NULL;
    assert_int_equal(
        fiber_register((uintptr_t)memory + 5, 8 * page - 7, &fiber),
        FIBER_TAKEN);
    look(fiber); // F3
    assert_ptr_equal(seen_start, memory + 3 * page);
    assert_ptr_equal(seen_end, memory + 8 * page - 8);
    fiber->left.at = (uintptr_t)memory + 3 * page + 64;
    look(fiber);
    assert_ptr_equal(seen_start, memory + 3 * page);
    fiber_unregister(fiber, NULL);
    // All of it is gone: nothing to read.
    assert_int_equal(fiber_register((uintptr_t)memory, 2 * page, &fiber),
                     FIBER_TAKEN);
    look(fiber);
    assert_null(seen_start);
    fiber_unregister(fiber, NULL);
    munmap(memory, 8 * page);
}

// --- Many, and children in the middle --------------------------------------

#define MANY ((size_t)10000)

static void test_many(void **state) {
    (void)state;
    static struct fiber *many[MANY];
    for (size_t i = 0; i < MANY; i++) {
        uintptr_t at = (uintptr_t)1 << 30;
        at += (i * 7919 % MANY) * 65536;
        assert_int_equal(fiber_register(at, 65536, &many[i]), FIBER_TAKEN);
    }
    assert_true(fiber_check());
    for (size_t i = 0; i < MANY; i += 2) {
        fiber_unregister(many[i], NULL);
    }
    assert_true(fiber_check());
    for (size_t i = 1; i < MANY; i += 2) {
        fiber_unregister(many[i], NULL);
    }
    assert_true(fiber_check());
}

struct change {
    struct fiber *a, *b, *c;
};

static void change(void *data) {
    struct change *c = data;
    struct fiber *d = NULL;
    fiber_unregister(c->b, NULL);
    (void)!fiber_register(START + 300, 50, &c->b);
    for (uintptr_t i = 0; i < 4; i++) {
        (void)!fiber_register(START + 10 * i, 10, &d);
        fiber_unregister(d, NULL);
    }
}

// A child that finds the registry in this state.
static bool live_on(size_t instructions, void *data) {
    struct change *c = data;
    struct fiber *d = NULL;
    (void)instructions;
    fiber_rebuild();
    return fiber_check() && fiber_find(START + 100) == c->a &&
           fiber_find(START + 500) == c->c &&
           fiber_register(START + 400, 50, &d) == FIBER_TAKEN &&
           fiber_find(START + 449) == d;
}

static void test_forked(void **state) {
    (void)state;
    struct change c = {0};
    assert_int_equal(fiber_register(START + 100, 50, &c.a), FIBER_TAKEN);
    assert_int_equal(fiber_register(START + 200, 50, &c.b), FIBER_TAKEN);
    assert_int_equal(fiber_register(START + 500, 50, &c.c), FIBER_TAKEN);
    struct step_forks forks = {change, live_on, &c, 1, 0, 0};
    if (!step_fork(&forks)) {
        skip();
    }
    print_message("%zu children\n", forks.children);
    assert_true(forks.children > 100);
    assert_int_equal(forks.failed, 0); // F8
    fiber_unregister(c.a, NULL);
    fiber_unregister(c.b, NULL);
    fiber_unregister(c.c, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_visits),      cmocka_unit_test(test_doubt),
        cmocka_unit_test(test_main_thread), cmocka_unit_test(test_guard),
        cmocka_unit_test(test_many),        cmocka_unit_test(test_forked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
