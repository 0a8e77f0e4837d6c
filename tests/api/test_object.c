// object: made, found, resized, freed, seen from below the public door.

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
#include "collect/verify.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/layout.h"
#include "loam/typed.h"
#include "support/gen.h"
#include "support/scrub.h"
#include "support/team.h"

static const size_t sizes[] = {1,      16,     40,     128,   200,
                               1000,   4096,   8192,   20000, 100000,
                               262144, 300000, 5 << 20};
#define SIZES (sizeof sizes / sizeof sizes[0])

static const unsigned kinds[] = {KIND_LEAF, KIND_SCANNED, KIND_BASE_ONLY,
                                 KIND_PINNED, KIND_PINNED_LEAF};
#define KINDS (sizeof kinds / sizeof kinds[0])

static char *make(size_t bytes, unsigned kind) {
    return object_make(bytes, (struct order){.kind = kind});
}

// O1: every byte of the object and none beyond; its kind with it.
static void test_found(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t k = 0; k < KINDS; k++) {
            struct place place;
            char *p = make(sizes[i], kinds[k]);
            uintptr_t start = (uintptr_t)p;
            assert_true(object_is_start(p, &place));
            assert_true(place.start == start);
            assert_true(place.bytes >= sizes[i]);
            assert_true(place.kind == kinds[k]);
            size_t step = place.bytes / 1000 + 1;
            for (size_t at = 1; at < place.bytes; at += step) {
                struct place inside;
                assert_true(object_find(start + at, &inside));
                assert_true(inside.start == start);
                assert_false(object_is_start(p + at, &inside));
            }
            assert_true(object_find(start + place.bytes - 1, &place));
            size_t bytes = place.bytes;
            object_free(&place);
            for (size_t at = 0; at < bytes; at += step) {
                assert_false(object_find(start + at, &place));
            }
        }
    }
}

// O1: cells that a cache holds but has not handed out are none, though their
// bits are set.
static void test_tail(void **state) {
    (void)state;
    for (size_t bytes = 16; bytes <= 2048; bytes *= 2) {
        struct place place;
        char *p = make(bytes, KIND_SCANNED);
        assert_true(object_is_start(p, &place));
        uint32_t block = place.block;
        size_t found = 0;
        size_t set = 0;
        for (uint32_t cell = 0; cell < block_cells(block); cell++) {
            uintptr_t start = block_cell_address(block, cell);
            set += block_is_allocated(block, cell);
            found += object_find(start, &place);
        }
        // Others of earlier tests may live in the block; its tail does not.
        assert_true(found >= 1);
        assert_true(found <= set);
        for (uintptr_t at = (uintptr_t)p + bytes; set > found + 1;) {
            assert_false(object_find(at, &place));
            break;
        }
    }
}

// O2: kind, layout and contents stay; new bytes of a zeroed kind are zero.
static void test_resized(void **state) {
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        for (size_t from = 0; from < SIZES; from++) {
            for (size_t to = 0; to < SIZES; to++) {
                struct place place;
                char *p = make(sizes[from], kinds[k]);
                assert_true(object_is_start(p, &place));
                size_t old_bytes = place.bytes;
                memset(p, 0x3C, old_bytes);
                p = resize_object(&place, sizes[to]);
                assert_true(object_is_start(p, &place));
                assert_true(place.kind == kinds[k]);
                assert_true(place.bytes >= sizes[to]);
                size_t kept = old_bytes < sizes[to] ? old_bytes : sizes[to];
                for (size_t i = 0; i < kept; i += 1 + kept / 5000) {
                    assert_int_equal(p[i], 0x3C);
                }
                bool leaf = block_kind_is_leaf(kinds[k]);
                for (size_t i = old_bytes; i < place.bytes && !leaf; i++) {
                    assert_int_equal(p[i], 0);
                }
                object_free(&place);
            }
        }
    }
}

// O3: the object as it was, and ENOMEM.
static void test_refused(void **state) {
    (void)state;
    struct place place;
    struct place after;
    char *p = make(1000, KIND_SCANNED);
    assert_true(object_is_start(p, &place));
    memset(p, 0x3C, place.bytes);
    assert_true(loam_set_limit((size_t)64 << 20));
    const size_t absurd[] = {(size_t)65 << 20, (size_t)1 << 40, (size_t)1 << 62,
                             PTRDIFF_MAX, SIZE_MAX};
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        errno = 0;
        assert_null(resize_object(&place, absurd[i]));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(make(absurd[i], KIND_LEAF));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(loam_alloc_aligned(4096, absurd[i]));
        assert_int_equal(errno, ENOMEM);
        assert_true(object_is_start(p, &after));
        assert_true(after.start == place.start);
        assert_true(after.bytes == place.bytes);
        assert_true(after.kind == place.kind);
        assert_int_equal(p[0], 0x3C);
        assert_int_equal(p[place.bytes - 1], 0x3C);
    }
    assert_true(loam_set_limit(0));
}

static void test_aligned(void **state) {
    (void)state;
    for (size_t alignment = 1; alignment <= (size_t)4 << 20; alignment *= 2) {
        for (size_t i = 0; i < SIZES; i++) {
            struct place place;
            char *p = loam_alloc_aligned(alignment, sizes[i]);
            assert_int_equal((uintptr_t)p % alignment, 0);
            assert_true(object_is_start(p, &place));
            assert_true(place.bytes >= sizes[i]);
            object_free(&place);
        }
    }
}

// --- A walk of sizes -------------------------------------------------------

static bool is_zero(const unsigned char *at, size_t bytes) {
    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

static struct place place_of(const void *p) {
    struct place place;
    assert_true(object_is_start(p, &place));
    return place;
}

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static struct order order_of(unsigned kind) {
    static const size_t offsets[] = {8, 32};
    const struct layout *known = (const void *)loam_layout(40, offsets, 2);
    assert_non_null(known);
    return (struct order){.kind = kind,
                          .layout = kind == KIND_DESCRIBED ? known->id : 0};
}

static size_t random_bytes(struct gen *gen) {
    return gen_bytes(gen, gen_chance(gen, 80)   ? 3000
                          : gen_chance(gen, 80) ? 100 * KiB
                                                : MiB);
}

static void fill(unsigned char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        p[i] = (unsigned char)(i * 7 + i / 256 + 1);
    }
}

static void check_filled(const unsigned char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(p[i], (unsigned char)(i * 7 + i / 256 + 1));
    }
}

// O2: one object of each kind, resized over and over.
static void test_walk(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("resize"));
    for (unsigned kind = 0; kind < KIND_COUNTED; kind++) {
        size_t bytes = random_bytes(&gen);
        unsigned char *p = must(object_make(bytes, order_of(kind)));
        fill(p, bytes);
        for (size_t step = 0; step < SCALED(500, 150); step++) {
            size_t wanted = gen_chance(&gen, 50)
                                ? random_bytes(&gen)
                                : 1 + gen_below(&gen, 2 * bytes);
            size_t kept = wanted < bytes ? wanted : bytes;
            struct place place = place_of(p);
            p = must(resize_object(&place, wanted));
            place = place_of(p);
            assert_true(place.bytes >= wanted);
            assert_int_equal(place.kind, kind); // O2
            assert_int_equal(block_get(place.block)->layout,
                             order_of(kind).layout);
            check_filled(p, kept); // O2
            assert_true(block_kind_is_leaf(kind) ||
                        is_zero(p + kept, wanted - kept));
            fill(p, wanted);
            bytes = wanted;
        }
        loam_free(p);
    }
}

// O2: what was cut off is zero when it comes back, in the same cell too.
static void test_cut(void **state) {
    (void)state;
    for (size_t i = 2; i < SIZES; i++) {
        unsigned char *p = must(loam_alloc(sizes[i]));
        struct place place = place_of(p);
        fill(p, place.bytes);
        size_t less = place.bytes / 2 + 1;
        assert_ptr_equal(resize_object(&place, less), p);
        assert_ptr_equal(resize_object(&place, place.bytes), p);
        check_filled(p, less);
        assert_true(is_zero(p + less, place.bytes - less)); // O2
        // Half of it or less: it moves, and the old one is free at once; but
        // for a run that stays one (api/resize.h).
        size_t half = place.bytes / 2;
        unsigned char *moved = must(resize_object(&place, half));
        assert_int_equal(moved == p, half > CELL_BYTES_MAX);
        assert_int_equal(object_is_start(p, &place), moved == p);
        loam_free(moved);
    }
}

// O1: words that are no addresses of anything, and the ends of everything.
static void test_nowhere(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("nowhere"));
    struct place place;
    const uintptr_t words[] = {0,
                               1,
                               UINTPTR_MAX,
                               range.base,
                               range.base - 1,
                               range.base + range.frontier_bytes,
                               range.base + range.bytes - 1,
                               range.base + range.bytes,
                               (uintptr_t)&place,
                               (uintptr_t)&init_state};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        assert_false(object_find(words[i], &place)); // O1
    }
    for (size_t i = 0; i < 100000; i++) {
        uintptr_t word = gen_next(&gen) >> gen_below(&gen, 64);
        word = i % 2 ? word : range.base + word % range.frontier_bytes;
        if (object_find(word, &place)) { // O1
            assert_true(word - place.start < place.bytes);
            assert_true(block_is_allocated(place.block, place.cell));
        }
    }
}

// --- What a collection may not lose ----------------------------------------

// A number that the collector does not know for a pointer.
static uintptr_t hide(const void *p) {
    return ~(uintptr_t)p;
}

static NOT_INLINED void put_pointer(char *at, uintptr_t *hidden) {
    void *leaf = must(loam_alloc_leaf(16));
    memcpy(at, &leaf, sizeof leaf);
    *hidden = hide(leaf);
}

static char *typed_root;

// Elements that are no number of words have their pointers at other words each:
// when there are several, the words that the layout names are not enough.
static void test_odd_elements(void **state) {
    (void)state;
    enum { COUNT = 100 };
    static const size_t offsets[] = {0};
    const struct loam_layout *odd = loam_layout(20, offsets, 1);
    assert_non_null(odd);
    for (size_t i = 0; i < 400; i++) { // past what is scanned anyway
        typed_root = must(loam_alloc_typed(odd));
    }
    assert_int_equal(place_of(typed_root).kind, KIND_DESCRIBED);
    typed_root = must(loam_realloc(typed_root, COUNT * 20));
    uintptr_t leaves[COUNT];
    for (size_t i = 0; i < COUNT; i += 2) { // every second one is aligned
        put_pointer(typed_root + i * 20, &leaves[i]);
    }
    assert_true(scrub_collect());
    for (size_t i = 0; i < COUNT; i += 2) {
        struct place place;
        assert_true(object_find(~leaves[i], &place));
    }
    typed_root = NULL;
}

enum { ENDS = 3000 };

static NOT_INLINED void make_ends(uintptr_t *hidden, size_t bytes, size_t step,
                                  char *volatile *ends) {
    for (size_t i = 0; i < ENDS; i += step) {
        char *p = must(loam_alloc_leaf(bytes));
        hidden[i] = hide(p);
        ends[i] = p + bytes;
    }
}

// Objects used to their last byte, and of each only a word one past the end.
static void check_ends(size_t bytes) {
    static uintptr_t hidden[ENDS];
    char *volatile ends[ENDS];
    make_ends(hidden, bytes, 1, ends);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < ENDS; i += 3) {
            loam_free((void *)~hidden[i]);
        }
        make_ends(hidden, bytes, 3, ends);
        assert_true(scrub_collect());
        for (size_t i = 0; i < ENDS; i++) {
            struct place place;
            if (!object_find(~hidden[i], &place)) {
                fail_msg("object %zu of %zu bytes is lost", i, bytes);
            }
        }
    }
    assert_non_null(ends[0]);
}

static void test_ends(void **state) {
    (void)state;
    check_ends(48);
    check_ends(320);
    check_ends(1024);
}

// The block of such an object knows, however the cache came to the cell.
static void test_first_end(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    static void *old[COUNT];
    const struct cache *cache =
        &init_ready()->home.caches[KIND_LEAF][sizeclass_of(208)];
    for (size_t i = 0; i < COUNT; i++) {
        old[i] = must(loam_alloc_leaf(200)); // eight bytes are over
    }
    for (size_t i = 0; i < COUNT; i += 97) {
        while (cache->bump != cache->limit) {
            (void)must(loam_alloc_leaf(200));
        }
        if (i % 2 == 0) { // a freed cell; else what comes next
            loam_free(old[i]);
            old[i] = NULL;
        }
        char *p = must(loam_alloc_leaf(208));
        uint32_t block = place_of(p).block;
        assert_true((block_get(block)->flags & BLOCK_EXACT) != 0 ||
                    (cache->block == block && cache->exact));
    }
}

static void *resized; // frees itself in the hook

static bool free_resized(size_t bytes, void *data) {
    (void)bytes;
    (void)data;
    loam_free(resized);
    return loam_set_limit(0);
}

// A hook that frees what is being resized is wrong, and breaks nothing.
static void test_freed_meanwhile(void **state) {
    (void)state;
    static const size_t few[] = {100, 20000, MiB};
    loam_set_shortage_hook(free_resized, NULL);
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        resized = must(loam_alloc(few[i]));
        struct place place = place_of(resized);
        (void)loam_set_limit(1);
        void *moved = must(resize_object(&place, 40 * MiB));
        assert_true(moved == resized || !object_is_start(resized, &place));
        assert_true(place_of(moved).bytes >= 40 * MiB);
        verify_heap(&init_state.home.heap);
        loam_free(moved);
    }
    loam_set_shortage_hook(NULL, NULL);
}

// Alignments up to a gigabyte, and those that no range can serve.
static void test_far_apart(void **state) {
    (void)state;
    static const size_t few[] = {0, 24, 70000, 300 * KiB};
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        for (size_t shift = 23; shift <= 30; shift++) {
            unsigned char *p = loam_alloc_aligned((size_t)1 << shift, few[i]);
            if (p == NULL) { // a small machine
                assert_true(shift > 28);
                continue;
            }
            assert_int_equal((uintptr_t)p % ((size_t)1 << shift), 0);
            struct place place = place_of(p);
            assert_true(place.bytes >= few[i]);
            assert_true(is_zero(p, place.bytes));
            memset(p, 0xAA, place.bytes);
            loam_free(p);
        }
        for (size_t shift = 48; shift < 64; shift++) {
            errno = 0;
            assert_null(loam_alloc_aligned((size_t)1 << shift, few[i]));
            assert_int_equal(errno, ENOMEM); // O3
        }
    }
}

// --- Counted kinds ---------------------------------------------------------

static unsigned refusals;
static void refused(const char *sentence, void *data) {
    (void)data;
    refusals += strstr(sentence, "counted: release it") != NULL;
}

// O5: what is in front is the heap's, not the program's.
static void check_counted(unsigned char *p, size_t bytes, unsigned kind) {
    size_t front = block_kind_front(kind);
    struct place place = place_of(p);
    assert_int_equal((uintptr_t)p % GRANULE_BYTES, 0);
    assert_true(is_zero(p - front, bytes + front));
    assert_int_equal(place.start + front, p);
    assert_true(object_bytes(&place) >= bytes);
    assert_int_equal(block_owner(place.block), init_mutator->id);
    assert_ptr_equal(loam_base(p - front), p);
    assert_int_equal(loam_usable_size(p), object_bytes(&place));
    refusals = 0;
    loam_free(p);
    assert_null(loam_realloc(p, 0));
    assert_int_equal(refusals, 2);
    assert_int_equal(place_of(p).start, place.start);
    memset(p, 0x5A, bytes);
}

static void test_counted(void **state) {
    (void)state;
    loam_set_warning_hook(refused, NULL);
    for (unsigned kind = KIND_COUNTED; kind < KIND_COUNT; kind++) {
        for (size_t i = 0; i < SIZES; i++) {
            for (size_t bytes = sizes[i]; bytes < sizes[i] + 17; bytes += 8) {
                unsigned char *p = must(object_make_counted(bytes, kind));
                check_counted(p, bytes, kind);
                struct place place = place_of(p);
                assert_true(object_free_counted(&place));
                assert_false(object_find((uintptr_t)p, &place));
            }
        }
        assert_null(object_make_counted(SIZE_MAX - 7, kind)); // O3
    }
    loam_set_warning_hook(NULL, NULL);
}

#define KEPT ((size_t)3000)

static uintptr_t counted[KEPT]; // hidden
static uint32_t owner_id;
// What a thread makes stays its own over a cycle, and is nobody's afterwards.
static void *make_counted(void *keep) {
    void **kept = keep;
    for (size_t i = 0; i < KEPT; i++) {
        void *p = object_make_counted(i % 100 == 0 ? 9000 : 40, KIND_COUNTED);
        counted[i] = ~(uintptr_t)must(p);
        kept[i] = i % 100 < 2 || i < 20 ? p : NULL;
    }
    owner_id = init_mutator->id;
    MUST(loam_collect());
    size_t left = 0;
    for (size_t i = 0; i < KEPT; i++) {
        struct place place;
        bool is_there = object_find(~counted[i], &place);
        MUST(kept[i] == NULL ||
             (is_there && block_owner(place.block) == owner_id));
        left += is_there;
    }
    MUST(left < KEPT / 2);
    return NULL;
}

static void test_counted_kept(void **state) {
    (void)state;
    void **kept = must(loam_alloc(KEPT * sizeof *kept));
    join(begin(make_counted, kept));
    assert_true(loam_collect()); // by now the thread has been missed
    for (size_t i = 0; i < KEPT; i++) {
        assert_true(kept[i] == NULL || owner_id == init_mutator->id ||
                    block_owner(place_of(kept[i]).block) != owner_id);
    }
    loam_keep(kept);
}

static void *free_counted(void *p) {
    struct place place = place_of(p);
    MUST(object_free_counted(&place));
    return NULL;
}

static void test_counted_afar(void **state) {
    (void)state;
    static const size_t few[] = {40, 9000, 300000};
    for (unsigned kind = KIND_COUNTED; kind < KIND_COUNT; kind++) {
        for (size_t i = 0; i < 3; i++) {
            void *p = must(object_make_counted(few[i], kind));
            join(begin(free_counted, p));
            assert_null(loam_base(p));
        }
    }
    assert_true(loam_collect());
}

static atomic_bool made;

static void *collect_meanwhile(void *unused) {
    (void)unused;
    while (!atomic_load(&made)) {
        (void)loam_collect();
    }
    return NULL;
}

// O4: whenever another thread's cycle comes, what was just made is held.
static void test_held(void **state) {
    (void)state;
    pthread_t thread = begin(collect_meanwhile, NULL);
    for (size_t i = 0; i < SCALED(60000, 6000); i++) {
        struct place place;
        size_t bytes = sizes[i % (i % 50 == 0 ? SIZES : 8)];
        char *p = make(bytes, KIND_SCANNED);
        assert_non_null(p);
        assert_true(object_is_start(p, &place));
        assert_true(place.bytes >= bytes);
    }
    atomic_store(&made, true);
    join(thread);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_resized),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_counted),
        cmocka_unit_test(test_counted_kept),
        cmocka_unit_test(test_counted_afar),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_nowhere),
        cmocka_unit_test(test_odd_elements),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_first_end),
        cmocka_unit_test(test_freed_meanwhile),
        cmocka_unit_test(test_far_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
