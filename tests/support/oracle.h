// oracle — an exact model beside the heap.
//
// The oracle knows every object that the test made: what it is, what it should
// contain to the last usable byte, and where it points.  It computes by itself
// what is reachable, and after a collection it asks the collector about every
// object it knows:
//
//     reachable      must be there, every byte as it was written, every edge
//                    leading where it led; one word off is a lost object
//     unreachable    should be gone; what is kept by chance is counted, and
//                    must stay within a budget
//     kept by chance must be whole too: what it points to is also still there
//
// The oracle holds addresses only complemented, in malloc'ed memory, so that it
// keeps nothing alive itself.  Nodes are named by their index.
//
// Invariants
//   O1  whole   every usable byte of every reachable node is as written
//   O2  edges   every edge of a reachable node leads to its target's bytes
//   O3  gone    at most oracle_budget() unreachable nodes survive for reasons
//               that no other survivor explains
//   O4  closed  what a survivor points to survives
//   O5  fresh   a new object is zero, or a leaf, and overlaps no reachable one
//   O6  count   live_objects lies between what must and what may be alive
//
// One thread.  A violation prints seed, step and node, and aborts.

#ifndef SUPPORT_ORACLE_H
#define SUPPORT_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/subject.h"

#define ORACLE_NONE  ((size_t)-1)
#define ORACLE_EDGES 8u

enum oracle_kind {
    ORACLE_SCANNED,
    ORACLE_LEAF,
    ORACLE_PINNED,
    ORACLE_LEAF_PINNED,
    ORACLE_BASE_ONLY,
    ORACLE_TYPED,
    ORACLE_KINDS,
};

struct oracle_edge {
    size_t target;      // node, or ORACLE_NONE
    uint64_t target_id; // the edge is void when the node bears another
    size_t word;        // where in the node it stands, in words
    size_t offset;      // how far into the target it points, in bytes
};

struct oracle_node {
    uint64_t id;           // never given twice; 0 = this node is unused
    uintptr_t hidden;      // LOAM_HIDE of its start
    size_t asked, usable;  // bytes
    enum oracle_kind kind; //
    size_t edge_count;     // places for edges: at most ORACLE_EDGES
    bool reachable;        // as of the last oracle_trace
    bool dead;             // was found unreachable: stays so
    bool kept;             // dead, and yet there after the last collection
    bool visited, first;   // for oracle_chance
    struct oracle_edge edges[ORACLE_EDGES];
};

struct oracle {
    const struct subject *subject;
    uint64_t seed;             // printed with a violation
    uint64_t step;             // of the program, printed too
    uint64_t next_id;          //
    struct oracle_node *nodes; // `capacity` of them
    size_t capacity;           //
    size_t *table;             // hash of starts: node index + 1, or 0
    size_t table_mask;         //
    size_t *stack;             // for oracle_trace
    void ***slots;             // the root slots: places the collector scans
    struct oracle_edge *roots; // what each holds
    size_t slot_count;         //
    size_t used;               // nodes in use
    size_t foreign;            // objects alive that are not the oracle's
    const void *layout;        // of typed nodes
    // Figures of the last oracle_collect, and the largest of all.
    size_t reachable_count, kept_count, chance_count, chance_max;
};

// Room for `capacity` nodes and `slot_count_max` root slots.
// `seed` is only printed.
void oracle_init(struct oracle *o, const struct subject *subject,
                 size_t capacity, size_t slot_count_max, uint64_t seed);

// Clears the roots, frees what is pinned, and gives the model back.
void oracle_fini(struct oracle *o);

// `count` pointers at `slots` are places that the collector scans.
void oracle_add_slots(struct oracle *o, void **slots, size_t count);

// A new node, stored in root slot `slot`.  ORACLE_NONE when memory is short or
// the model is full; then nothing changed.  `alignment` 0: as it comes.
size_t oracle_alloc(struct oracle *o, enum oracle_kind kind, size_t bytes,
                    size_t alignment, size_t slot);

// False when memory is short; the node is then as it was.
bool oracle_realloc(struct oracle *o, size_t node, size_t bytes);

// Frees a node; whatever pointed to it is cleared first.
void oracle_free(struct oracle *o, size_t node);

// Root slot `slot` points `offset` bytes into `node`, or nowhere.
void oracle_root(struct oracle *o, size_t slot, size_t node, size_t offset);

// Place `edge` of the reachable node `from` does the same.
void oracle_link(struct oracle *o, size_t from, size_t edge, size_t to,
                 size_t offset);

// What is reachable, by the model.
void oracle_trace(struct oracle *o);

// O1 and O2 for every reachable node.
void oracle_check(struct oracle *o);

// Scrubs the stack, collects, then checks everything.
void oracle_collect(struct oracle *o);

// How many unreachable nodes may survive by chance: 20, one in a hundred, and
// those that the collector says begin where a pointer ends another.
size_t oracle_budget(const struct oracle *o);

#endif
