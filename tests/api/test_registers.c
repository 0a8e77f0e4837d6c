// Registers, one by one.  An assembly stub loads the only pointer to an object
// into one callee-saved register, wipes all the others, and calls; the callee
// collects.  The object must be there when the stub returns.  The stub is given
// the pointer complemented, so that the stack holds no copy.
//
// Control: with the pointer in no register the object is gone.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loam.h"
#include "support/scrub.h"

typedef void stub_fn(uintptr_t hidden, void (*callee)(void));

// STUB(name, load) defines `name`: everything callee-saved is put away and
// wiped, `load` reveals the pointer into one register, then callee is called.
#if defined(__x86_64__)

#define WIPE                                                                   \
    "xorl %ebx, %ebx\n xorl %ebp, %ebp\n xorl %r12d, %r12d\n"                  \
    "xorl %r13d, %r13d\n xorl %r14d, %r14d\n xorl %r15d, %r15d\n"              \
    "xorl %eax, %eax\n xorl %ecx, %ecx\n xorl %edx, %edx\n"                    \
    "xorl %r8d, %r8d\n xorl %r9d, %r9d\n xorl %r10d, %r10d\n"                  \
    "xorl %r11d, %r11d\n"
#define STUB(name, load)                                                       \
    stub_fn name;                                                              \
    __asm__(".text\n .p2align 4\n .globl " #name "\n .type " #name             \
            ", @function\n" #name ":\n"                                        \
            "pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n"              \
            "pushq %r14\n pushq %r15\n subq $8, %rsp\n" WIPE load              \
            "xorl %edi, %edi\n call *%rsi\n"                                   \
            "addq $8, %rsp\n popq %r15\n popq %r14\n popq %r13\n"              \
            "popq %r12\n popq %rbp\n popq %rbx\n ret\n"                        \
            ".size " #name ", . - " #name "\n")
#define REVEAL(reg) "movq %rdi, %" reg "\n notq %" reg "\n"

STUB(stub_none, "");
STUB(stub_rbx, REVEAL("rbx"));
STUB(stub_rbp, REVEAL("rbp"));
STUB(stub_r12, REVEAL("r12"));
STUB(stub_r13, REVEAL("r13"));
STUB(stub_r14, REVEAL("r14"));
STUB(stub_r15, REVEAL("r15"));
// On the stack itself, in the last word above the callee's frame.
STUB(stub_stack, "notq %rdi\n movq %rdi, (%rsp)\n");

#define STUBS                                                                  \
    { stub_rbx, stub_rbp, stub_r12, stub_r13, stub_r14, stub_r15, stub_stack }

#elif defined(__aarch64__)

#define PAIRS(op, post)                                                        \
    op " x19, x20, [sp, #0]\n" op " x21, x22, [sp, #16]\n" op                  \
       " x23, x24, [sp, #32]\n" op " x25, x26, [sp, #48]\n" op                 \
       " x27, x28, [sp, #64]\n" op " x29, x30, [sp, #80]\n" op                 \
       " d8, d9, [sp, #96]\n" op " d10, d11, [sp, #112]\n" op                  \
       " d12, d13, [sp, #128]\n" op " d14, d15, [sp, #144]\n" post
#define WIPE                                                                   \
    "mov x19, xzr\n mov x20, xzr\n mov x21, xzr\n mov x22, xzr\n"              \
    "mov x23, xzr\n mov x24, xzr\n mov x25, xzr\n mov x26, xzr\n"              \
    "mov x27, xzr\n mov x28, xzr\n mov x29, xzr\n fmov d8, xzr\n"              \
    "fmov d9, xzr\n fmov d10, xzr\n fmov d11, xzr\n fmov d12, xzr\n"           \
    "fmov d13, xzr\n fmov d14, xzr\n fmov d15, xzr\n"
#define STUB(name, load)                                                       \
    stub_fn name;                                                              \
    __asm__(".text\n .p2align 4\n .globl " #name "\n .type " #name             \
            ", %function\n" #name ":\n"                                        \
            "sub sp, sp, #176\n str xzr, [sp, #160]\n" PAIRS("stp", WIPE) load \
            "mov x0, xzr\n blr x1\n" PAIRS(                                    \
                "ldp", "add sp, sp, #176\n") "ret\n .size " #name              \
                                             ", . - " #name "\n")
#define REVEAL(reg)  "mvn " reg ", x0\n"
#define REVEALD(reg) "mvn x2, x0\n fmov " reg ", x2\n mov x2, xzr\n"

STUB(stub_none, "");
STUB(stub_x19, REVEAL("x19"));
STUB(stub_x20, REVEAL("x20"));
STUB(stub_x21, REVEAL("x21"));
STUB(stub_x22, REVEAL("x22"));
STUB(stub_x23, REVEAL("x23"));
STUB(stub_x24, REVEAL("x24"));
STUB(stub_x25, REVEAL("x25"));
STUB(stub_x26, REVEAL("x26"));
STUB(stub_x27, REVEAL("x27"));
STUB(stub_x28, REVEAL("x28"));
STUB(stub_x29, REVEAL("x29"));
STUB(stub_d8, REVEALD("d8"));
STUB(stub_d9, REVEALD("d9"));
STUB(stub_d10, REVEALD("d10"));
STUB(stub_d11, REVEALD("d11"));
STUB(stub_d12, REVEALD("d12"));
STUB(stub_d13, REVEALD("d13"));
STUB(stub_d14, REVEALD("d14"));
STUB(stub_d15, REVEALD("d15"));
STUB(stub_stack, "mvn x2, x0\n str x2, [sp, #160]\n mov x2, xzr\n");

#define STUBS                                                                  \
    {                                                                          \
        stub_x19, stub_x20, stub_x21, stub_x22, stub_x23, stub_x24, stub_x25,  \
            stub_x26, stub_x27, stub_x28, stub_x29, stub_d8, stub_d9,          \
            stub_d10, stub_d11, stub_d12, stub_d13, stub_d14, stub_d15,        \
            stub_stack                                                         \
    }

#endif

#define TRIES 20

static uintptr_t hidden;

NOT_INLINED static void make(void) {
    size_t *p = loam_alloc(96);
    *p = 4711;
    hidden = LOAM_HIDE(p);
}

static void collect(void) {
    (void)loam_collect();
}

// By way of an allocation that the limit turns into a collection, the other
// way into the collector.
static uint64_t before;

static uint64_t count_collections(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.collections;
}

static void allocate_until_collected(void) {
    while (count_collections() == before) {
        (void)!loam_alloc(4000);
    }
}

// In a frame of its own: the next object may well have the same address.
NOT_INLINED static size_t is_alive(void) {
    const size_t *p = LOAM_REVEAL(hidden);
    return loam_base(p) == p && *p == 4711;
}

static size_t count_alive(stub_fn *stub, void (*callee)(void)) {
    size_t alive = 0;
    for (size_t i = 0; i < TRIES; i++) {
        make();
        before = count_collections();
        scrub_stack();
        stub(hidden, callee);
        alive += is_alive();
    }
    return alive;
}

static void test_control(void **state) {
    (void)state;
    assert_true(count_alive(stub_none, collect) <= TRIES / 4);
}

static void test_each(void **state) {
    (void)state;
    stub_fn *const stubs[] = STUBS;
    for (size_t i = 0; i < sizeof stubs / sizeof stubs[0]; i++) {
        assert_int_equal(count_alive(stubs[i], collect), TRIES);
        assert_int_equal(count_alive(stubs[i], allocate_until_collected),
                         TRIES);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
