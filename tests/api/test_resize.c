// resize: runs that grow and shrink where they are, and those that cannot.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "api/resize.h"
#include "base/bits.h"
#include "collect/verify.h"
#include "heap/block.h"
#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define PAGE_BYTES ((size_t)4096)

static const unsigned kinds[] = {KIND_LEAF, KIND_PINNED_LEAF, KIND_SCANNED,
                                 KIND_PINNED, KIND_BASE_ONLY};
#define KINDS (sizeof kinds / sizeof *kinds)

static void check_heap(void) {
    verify_heap(&init_state.home.heap);
}

static unsigned char *make(size_t bytes, unsigned kind) {
    unsigned char *p = object_make(bytes, (struct order){.kind = kind});
    assert_non_null(p);
    return p;
}

static struct place place_of(const void *p) {
    struct place place;
    assert_true(object_is_start(p, &place));
    return place;
}

static unsigned char *resize(void *p, size_t bytes) {
    struct place place = place_of(p);
    unsigned char *moved = resize_object(&place, bytes);
    assert_non_null(moved);
    return moved;
}

static unsigned char byte_of(size_t at, unsigned seed) {
    return (unsigned char)(at * 7 + at / 4096 + seed);
}

static void fill(unsigned char *p, size_t from, size_t bytes, unsigned seed) {
    for (size_t i = from; i < bytes; i += 61) {
        p[i] = byte_of(i, seed);
    }
}

static void check_filled(const unsigned char *p, size_t bytes, unsigned seed) {
    for (size_t i = 0; i < bytes; i += 61) {
        assert_int_equal(p[i], byte_of(i, seed)); // RZ3
    }
}

static bool is_zero(const unsigned char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

// RZ1, RZ2: at the end of the heap there is always room behind.
// RZ4: see test_hold, where what is freed is held.
static void test_stays(void **state) {
    (void)state;
    loam_disable(); // the pacer allows what is asked for
    for (size_t k = 0; k < KINDS; k++) {
        unsigned char *p = make(40 * MiB, kinds[k]);
        fill(p, 0, 40 * MiB, 1);
        static const size_t sizes[] = {40 * MiB + 1,
                                       44 * MiB,
                                       20 * MiB,
                                       300 * KiB,
                                       300 * KiB + BLOCK_BYTES,
                                       41 * MiB,
                                       MiB + 1};
        size_t kept = 40 * MiB;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            assert_ptr_equal(resize(p, sizes[i]), p); // RZ1
            struct place place = place_of(p);
            assert_int_equal(place.bytes,
                             sizes[i] <= kept && sizes[i] > kept / 2
                                 ? kept
                                 : bits_round_up(sizes[i], PAGE_BYTES)); // RZ2
            kept = place.bytes;
            assert_int_equal(block_span(place.block),
                             bits_div_ceil(place.bytes, BLOCK_BYTES));
            check_filled(p, 300 * KiB, 1);
            check_heap();
        }
        // What it gave back is nobody's.
        struct place gone;
        assert_false(object_find((uintptr_t)p + 30 * MiB, &gone));
        loam_free(p);
    }
    loam_enable();
}

// RZ1: what follows is in use.
static void test_neighbour(void **state) {
    (void)state;
    loam_disable();
    unsigned char *p = make(60 * MiB, KIND_LEAF);
    fill(p, 0, 60 * MiB, 2);
    assert_ptr_equal(resize(p, 30 * MiB), p);
    unsigned char *q = make(30 * MiB, KIND_LEAF);
    fill(q, 0, 30 * MiB, 3);
    unsigned char *moved = resize(p, 61 * MiB);
    if (q == p + 30 * MiB) {
        assert_ptr_not_equal(moved, p);
    }
    check_filled(moved, 30 * MiB, 2); // RZ3
    check_filled(q, 30 * MiB, 3);
    check_heap();
    loam_free(moved);
    loam_free(q);
    loam_enable();
}

// RZ3: memory that held something is zero where the kind is.
static void test_zero(void **state) {
    (void)state;
    loam_disable();
    unsigned char *p = make(4 * MiB, KIND_SCANNED);
    for (size_t bytes = 290000; bytes < 4 * MiB; bytes += bytes / 3 + 12345) {
        struct place place = place_of(p);
        memset(p, 0xFF, place.bytes);
        p = resize(p, 290000);
        p = resize(p, bytes);
        place = place_of(p);
        assert_true(is_zero(p + 290000, place.bytes - 290000));
        assert_false(is_zero(p + 290000 - 1, 1));
    }
    loam_free(p);
    loam_enable();
}

// Two that grow by turns are moved a few times each, not each time.
static void test_turns(void **state) {
    (void)state;
    loam_disable();
    unsigned char *p[2] = {make(300 * KiB, KIND_PINNED_LEAF),
                           make(300 * KiB, KIND_PINNED_LEAF)};
    size_t moves = 0, before = 0, steps = 0;
    for (size_t bytes = 300 * KiB; bytes < 16 * MiB; bytes += 128 * KiB) {
        for (unsigned i = 0; i < 2; i++) {
            unsigned char *now = resize(p[i], bytes);
            moves += now != p[i];
            p[i] = now;
            fill(now, before / 61 * 61, bytes, i);
        }
        before = bytes;
        steps++;
    }
    for (unsigned i = 0; i < 2; i++) {
        check_filled(p[i], before, i); // RZ3
        loam_free(p[i]);
    }
    assert_true(moves < steps / 4);
    check_heap();
    loam_enable();
}

// RZ3: at a limit the run is as it was, and errno says why.
static void test_refused(void **state) {
    (void)state;
    unsigned char *p = make(2 * MiB, KIND_LEAF);
    fill(p, 0, 2 * MiB, 4);
    struct place place = place_of(p);
    (void)loam_set_limit(1); // less than is in use
    errno = 0;
    assert_null(resize_object(&place, 64 * MiB));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(place_of(p).bytes, 2 * MiB);
    check_filled(p, 2 * MiB, 4);
    errno = 0;
    assert_ptr_equal(resize(p, 500 * KiB), p);
    assert_int_equal(errno, 0);
    assert_true(loam_set_limit(0));
    check_heap();
    loam_free(p);
}

// RZ1 to RZ3: a few runs of each kind at random, cycles in between.
static void test_random(void **state) {
    (void)state;
    struct gen gen;
    unsigned char *p[12] = {NULL};
    size_t bytes[12];
    gen_init(&gen, gen_seed("resize"));
    for (size_t step = 0; step < SCALED(3000, 400); step++) {
        size_t i = gen_below(&gen, 12);
        unsigned kind = kinds[i % KINDS];
        size_t wanted =
            1 + gen_below(&gen, gen_chance(&gen, 70) ? MiB : 6 * MiB);
        if (p[i] == NULL) {
            p[i] = make(wanted, kind);
            fill(p[i], 0, wanted, (unsigned)i);
        } else if (gen_chance(&gen, 10)) {
            loam_free(p[i]);
            p[i] = NULL;
        } else {
            size_t kept = wanted < bytes[i] ? wanted : bytes[i];
            p[i] = resize(p[i], wanted);
            assert_int_equal(place_of(p[i]).kind, kind);
            check_filled(p[i], kept, (unsigned)i);
            fill(p[i], 0, wanted, (unsigned)i);
        }
        bytes[i] = wanted;
        if (step % 50 == 0) {
            (void)loam_collect();
            check_heap();
        }
    }
    for (size_t i = 0; i < 12; i++) {
        loam_free(p[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stays),   cmocka_unit_test(test_neighbour),
        cmocka_unit_test(test_zero),    cmocka_unit_test(test_turns),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
