// Random graphs of plain objects of several threads and of shared ones, some
// of them owned from outside, some by a map's entry under another: what each
// thread takes of the garbage, against an oracle that knows what hangs
// together; and nothing is left in the end.

#include "rc/portion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rc/bond.h"
#include "support/folk_drain.h"
#include "support/gen.h"

#define NODES  ((size_t)(LOAM_TINY ? 40 : 120))
#define ROUNDS ((size_t)(LOAM_TINY ? 100 : 400))

// By their bytes, so that they are in blocks of their own.
enum { MINE, OTHERS, NOBODYS, ATOMIC, BIASED, KINDS };

#define OTHER 77u

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *types[KINDS];
static struct folk_node *nodes[NODES];
static size_t kinds[NODES];
static bool outside[NODES], lives[NODES], gone[NODES], left[NODES], bare[NODES];
static size_t group[NODES];
static void *items[NODES], *notes[NODES];
static struct folk_node *values[NODES]; // of a map's entry under it
static struct gen gen;

enum { EDGES = 3 }; // of a node: two slots, and what a map has under it

static struct folk_node *edge_of(size_t i, size_t edge) {
    return edge < 2 ? nodes[i]->slots[edge] : values[i];
}

static void destroy(void *object) {
    const struct folk_node *node = object;
    assert_false(gone[node->number] || lives[node->number]);
    gone[node->number] = true;
}

static bool is_plain(size_t i) {
    return kinds[i] < ATOMIC;
}

static uint32_t owner_of(size_t i) {
    return kinds[i] == MINE     ? ground.mutator->id
           : kinds[i] == OTHERS ? OTHER
                                : 0;
}

static bool is_own(size_t i, uint32_t thread, bool alone) {
    return owner_of(i) == thread || (owner_of(i) == 0 && alone);
}

// Of plain ones, whose cells are not freed.
static void set_owners(bool true_ones) {
    for (size_t i = 0; i < NODES; i++) {
        if (is_plain(i)) {
            uint32_t owner = true_ones ? owner_of(i) : ground.mutator->id;
            block_set_owner(ground_place(counted_of(nodes[i])).block, owner);
        }
    }
}

// --- The graph -----------------------------------------------------------

static void spread(size_t i) {
    if (!lives[i]) {
        lives[i] = true;
        for (size_t edge = 0; edge < EDGES; edge++) {
            if (edge_of(i, edge) != NULL) {
                spread(edge_of(i, edge)->number);
            }
        }
    }
}

static void let_go(size_t i) {
    if (kinds[i] == BIASED) {
        assert_int_not_equal(bias_release(nodes[i], domain.owner), BIAS_FAULT);
    } else {
        counted_of(nodes[i])->word -= COUNTED_ONE;
    }
}

// As an owning map does.
static void hang(size_t key, size_t value) {
    struct bond bond = {.object = (uintptr_t)nodes[key],
                        .cell = 1 + key,
                        .value = (uintptr_t)folk_retain(&domain, nodes[value]),
                        .thread = owner_of(key),
                        .sort = BOND_VALUE};
    assert_true(bond_add(&bond));
    counted_of(nodes[key])->word |= COUNTED_WATCHED;
    values[key] = nodes[value];
}

// Takes a key's entry down.
static struct folk_node *unhang(size_t key) {
    struct bond bond;
    bool found = bond_take((uintptr_t)nodes[key], BOND_VALUE, &bond);
    assert_int_equal(found, values[key] != NULL);
    values[key] = NULL;
    return found ? (struct folk_node *)bond.value : NULL;
}

static void clear(void) {
    for (size_t i = 0; i < NODES; i++) {
        (void)unhang(i);
    }
    ground_clear(&ground);
}

static void build(size_t edges, size_t plain, size_t hidden) {
    memset(outside, 0, sizeof outside);
    memset(lives, 0, sizeof lives);
    memset(gone, 0, sizeof gone);
    for (size_t i = 0; i < NODES; i++) {
        kinds[i] = gen_chance(&gen, (unsigned)plain)
                       ? gen_below(&gen, ATOMIC)
                       : ATOMIC + gen_below(&gen, 2);
        nodes[i] = folk_make(&ground, &domain, types[kinds[i]]);
        nodes[i]->number = i;
    }
    for (size_t i = 0; i < 2 * NODES; i++) {
        // Near, so that there are several that hang together.
        size_t from = i / 2;
        size_t to = (from + NODES + gen_below(&gen, 9) - 4) % NODES;
        if (gen_chance(&gen, (unsigned)edges)) {
            folk_own(&domain, nodes[from], i % 2, nodes[to]);
        }
        if (is_plain(from) && i % 4 == 0 && gen_chance(&gen, (unsigned)edges)) {
            hang(from, to);
        }
    }
    for (size_t i = 0; i < NODES; i++) {
        outside[i] = gen_chance(&gen, (unsigned)hidden);
        if (outside[i]) {
            spread(i);
        } else {
            let_go(i);
        }
    }
}

// What a cycle would condemn.
static void condemn(void) {
    for (size_t i = 0; i < NODES; i++) {
        if (!gone[i] && !lives[i]) {
            counted_of(nodes[i])->word |= COUNTED_CONDEMNED;
        }
    }
}

// --- The oracle ----------------------------------------------------------

static size_t top(size_t i) {
    while (group[i] != i) {
        i = group[i];
    }
    return i;
}

// Calls what is given for every slot until nothing changes.
typedef bool each_slot(size_t from, size_t to);

static void repeat(each_slot *each) {
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < EDGES * NODES; i++) {
            const struct folk_node *to = edge_of(i / EDGES, i % EDGES);
            if (!gone[i / EDGES] && !lives[i / EDGES] && to != NULL) {
                changed |= each(i / EDGES, to->number);
            }
        }
    }
}

// A live one that is shared may lead where it likes.
static bool not_bare(size_t from, size_t to) {
    bool was = bare[from];
    bare[from] = was && (bare[to] || (lives[to] && !is_plain(to)));
    return was != bare[from];
}

static bool join(size_t from, size_t to) {
    size_t a = top(from), b = top(to);
    bool joins = a != b && bare[from] == bare[to] && !lives[to];
    group[a] = joins ? b : a;
    return joins;
}

static bool pass(size_t from, size_t to) {
    bool was = left[top(to)];
    left[top(to)] |= left[top(from)] && !lives[to];
    return was != left[top(to)];
}

static bool in_set(size_t i, uint32_t thread, bool alone) {
    return !gone[i] && (counted_of(nodes[i])->word & COUNTED_CONDEMNED) &&
           (!is_plain(i) || is_own(i, thread, alone));
}

static bool leads_away(size_t i, uint32_t thread, bool alone) {
    bool away = false;
    for (size_t edge = 0; edge < EDGES; edge++) {
        const struct folk_node *to = edge_of(i, edge);
        away |= to != NULL && is_plain(to->number) &&
                !is_own(to->number, thread, alone);
    }
    return away;
}

static void judge(uint32_t thread, bool alone) {
    for (size_t i = 0; i < NODES; i++) {
        group[i] = i;
        bare[i] = !is_plain(i);
    }
    repeat(not_bare);
    repeat(join);
    memset(left, 0, sizeof left);
    for (size_t i = 0; i < NODES; i++) {
        left[top(i)] |= !gone[i] && !lives[i] &&
                        (outside[i] || !in_set(i, thread, alone) ||
                         leads_away(i, thread, alone));
    }
    repeat(pass);
}

// --- What is taken -----------------------------------------------------------

static bool is_taken(const struct trial_vector *set, size_t i) {
    for (size_t k = 0; k < set->count; k++) {
        if (set->items[k] == nodes[i]) {
            return true;
        }
    }
    return false;
}

static void check_slot(size_t from, const struct folk_node *to, uint32_t thread,
                       bool alone, const struct trial_vector *set) {
    if (gone[from] || to == NULL) {
        return;
    }
    bool taken = is_taken(set, from), to_taken = is_taken(set, to->number);
    bool is_condemned = (counted_flags(to) & COUNTED_CONDEMNED) != 0;
    assert_true(taken || !to_taken);                  // PO1
    assert_true(!taken || to_taken || !is_condemned); // PO3
    if (taken && is_plain(to->number)) {
        assert_true(is_own(to->number, thread, alone)); // PO2
    }
}

// What is taken is dead, and releases what it owned.
static void destroy_all(const struct trial_vector *set) {
    for (size_t k = 0; k < set->count; k++) {
        destroy(set->items[k]);
        counted_of(set->items[k])->word = COUNTED_DEAD;
    }
    for (size_t k = 0; k < EDGES * set->count; k++) {
        struct folk_node *node = set->items[k / EDGES];
        size_t edge = k % EDGES;
        struct folk_node *to =
            edge < 2 ? node->slots[edge] : unhang(node->number);
        if (to != NULL && !gone[to->number]) {
            assert_int_equal(count_release(&domain, to), COUNT_FINE);
        }
    }
    folk_drain(&domain, SIZE_MAX); // bare ones, that nobody owns now
}

static int compare(const void *a, const void *b) {
    uintptr_t x = (uintptr_t) * (void *const *)a,
              y = (uintptr_t) * (void *const *)b;
    return x < y ? -1 : x > y;
}

// The scratch count of what lives, in a trial of the thread it belongs to.
static void be_in_trial(uint32_t was, uint32_t scratch) {
    for (size_t i = 0; i < NODES; i++) {
        if (lives[i] && is_plain(i)) {
            uint32_t *info = &counted_of(nodes[i])->info;
            assert_int_equal(*info & COUNTED_SCRATCH_MASK, was); // PO6
            *info = (*info & ~COUNTED_SCRATCH_MASK) | scratch;
        }
    }
}

// Returns how many.
static size_t take(uint32_t thread, bool alone) {
    struct trial_vector set = {items, 0, NODES};
    for (size_t i = 0; i < NODES; i++) {
        if (in_set(i, thread, alone)) {
            set.items[set.count++] = nodes[i];
        }
    }
    qsort(set.items, set.count, sizeof *set.items, compare);
    judge(thread, alone);
    bool expected[NODES];
    for (size_t i = 0; i < NODES; i++) {
        expected[i] = in_set(i, thread, alone) && !left[top(i)];
    }
    struct portion portion = {&set, notes, thread, alone};
    uint32_t scratch = (uint32_t)gen_below(&gen, 40) + 1;
    be_in_trial(0, scratch);
    portion_take(&portion);
    be_in_trial(scratch, 0);
    for (size_t i = 0; i < NODES; i++) {
        for (size_t edge = 0; edge < EDGES; edge++) {
            check_slot(i, edge_of(i, edge), thread, alone, &set);
        }
        assert_int_equal(is_taken(&set, i), expected[i]);
        assert_true(gone[i] || (counted_of(nodes[i])->info &
                                COUNTED_SCRATCH_MASK) == 0); // PO5
    }
    destroy_all(&set);
    return set.count;
}

static size_t count_garbage(void) {
    size_t count = 0;
    for (size_t i = 0; i < NODES; i++) {
        count += !gone[i] && !lives[i];
    }
    return count;
}

static void test_threads(void **state) {
    (void)state;
    size_t mine = 0, others = 0, shared = 0;
    for (size_t round = 0; round < ROUNDS; round++) {
        build(20 + round % 60, 10 + round % 71, round % 2 * 5);
        set_owners(true);
        condemn();
        shared += round % 3 == 0 ? take(OTHER + 1, false) : 0;
        condemn();
        mine += take(ground.mutator->id, false);
        condemn();
        others += take(OTHER, false);
        // The others have ended.
        for (size_t i = 0; i < NODES; i++) {
            kinds[i] = kinds[i] == OTHERS ? NOBODYS : kinds[i];
        }
        set_owners(true);
        for (int cycle = 0; cycle < 8 && count_garbage() != 0; cycle++) {
            condemn();
            size_t garbage = count_garbage();
            assert_int_equal(take(ground.mutator->id, true), garbage); // PO4
        }
        assert_int_equal(count_garbage(), 0);
        set_owners(false);
        clear();
    }
    assert_true(mine > ROUNDS && others > ROUNDS / 4 && shared > ROUNDS / 4);
}

// A finalizer of others brought some back since.
static void test_back(void **state) {
    (void)state;
    size_t taken = 0, back = 0;
    for (size_t round = 0; round < ROUNDS; round++) {
        build(20 + round % 60, 10 + round % 71, 0);
        set_owners(true);
        condemn();
        for (size_t i = 0; i < NODES; i++) {
            outside[i] = gen_chance(&gen, 2);
            if (outside[i]) {
                folk_retain(&domain, nodes[i]);
                back++;
            }
        }
        taken += take(ground.mutator->id, round % 2 == 0);
        set_owners(false);
        clear();
    }
    assert_true(taken > ROUNDS && back > ROUNDS / 4);
}

// A list of shared objects that ends at one of another thread's, and one that
// does not, in both directions, longer than there are passes.
static void test_lists(void **state) {
    (void)state;
    for (size_t round = 0; round < 8; round++) {
        build(0, 0, 0);
        for (size_t i = 0; i + 1 < NODES; i++) {
            size_t from = round & 1 ? i : i + 1, to = round & 1 ? i + 1 : i;
            folk_own(&domain, nodes[from], 0, nodes[to]);
        }
        size_t end = round & 1 ? NODES - 1 : 0;
        struct folk_node *last = folk_make(&ground, &domain, types[OTHERS]);
        uint32_t block = ground_place(counted_of(last)).block;
        if (round & 2) {
            nodes[end]->slots[0] = last;
        }
        block_set_owner(block, OTHER);
        condemn();
        struct trial_vector set = {items, NODES, NODES};
        memcpy(items, nodes, sizeof items);
        qsort(set.items, set.count, sizeof *set.items, compare);
        struct portion portion = {&set, notes, ground.mutator->id, true};
        portion_take(&portion);
        assert_int_equal(set.count, round & 2 ? 0 : NODES);
        block_set_owner(block, ground.mutator->id);
        clear();
    }
}

static const struct kinds_type *type_of(size_t bytes, uint32_t flags) {
    struct kinds_type type = {.name = "node",
                              .bytes = bytes,
                              .slots = folk_slots,
                              .slot_count = 2,
                              .flags = flags,
                              .destroy = destroy};
    const struct kinds_type *added = kinds_add(&type);
    assert_non_null(added);
    return added;
}

static int set_up(void **state) {
    (void)state;
    gen_init(&gen, gen_seed("portion"));
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    types[MINE] = type_of(sizeof(struct folk_node), 0);
    types[OTHERS] = type_of(sizeof(struct folk_node) + 16, 0);
    types[NOBODYS] = type_of(sizeof(struct folk_node) + 32, 0);
    types[ATOMIC] = type_of(sizeof(struct folk_node) + 64, KINDS_ATOMIC);
    types[BIASED] = type_of(sizeof(struct folk_node), KINDS_SHARED);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_back),
                                       cmocka_unit_test(test_lists)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
