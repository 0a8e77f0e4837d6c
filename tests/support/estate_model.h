// estate_model — what support/estate.c and support/estate_play.c share.
//
// The model is one record; the first file knows what follows from it and what
// dying objects must see, the second what a program may do.

#ifndef SUPPORT_ESTATE_MODEL_H
#define SUPPORT_ESTATE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"
#include "support/estate.h"
#include "support/gen.h"

#define MAGIC 0x6b696e7366 // of the living
#define GONE  0x676f6e65   // of the destroyed

struct kin {
    uint64_t magic;
    uint32_t id, program; // which estate_begin it comes after
    uint32_t slot_count;
    uint64_t *blob; // traced memory: two words, both the id
    void *slots[4];
    void *more[]; // of those with a visit function
};

struct leaf {
    uint64_t magic;
    uint32_t id, program;
};

struct member {
    enum kind kind;
    size_t outside; // owners that are no slots, pools included
    size_t pinned;  // of these, pools and functions under way
    uintptr_t hidden;
    size_t count; // when all were counted last
    uint32_t slot_count;
    uint32_t slots[ESTATE_SLOTS]; // ids, 0: none
    bool is_destroyed, is_finalized, is_reached;
    bool was_owned; // when it was destroyed: part of a dead ring
};

// A reference, and whether it may have been cleared while its object lives.
struct weak {
    struct loam_weak *ref;
    uint32_t id;
    bool is_long, is_loose;
};

struct pool {
    struct loam_pool pool;
    uint32_t ids[ESTATE_POOLED];
    size_t count;
};

struct estate {
    struct estate_mode mode;
    struct gen gen;
    struct member members[ESTATE_IDS]; // by id, from 1
    uint32_t last_id;
    uint32_t alive[ESTATE_IDS];
    size_t alive_count;
    uint32_t reached[ESTATE_IDS];
    size_t reached_count;
    struct weak weaks[ESTATE_WEAKS];
    struct pool pools[ESTATE_POOLS];
    size_t pool_count;
    void **traced; // in the heap, read by the tracer
    uint32_t traced_ids[ESTATE_TRACED];
    size_t depth; // of destructors and finalizers
    size_t step, steps;
    uint32_t program;  // counts estate_begin
    bool finalizes;    // a finalizer has run in this step
    bool in_collector; // one of the collectors may destroy now
    bool has_traced;   // the tracer may have condemned what is still there
    struct estate_figures figures;
};

extern struct estate es;

extern struct loam_type *const es_types[KINDS];

struct member *es_of(uint32_t id);
void *es_object(uint32_t id);
void es_mark(void);
void es_mark_waiting(void);
void es_count_all(void);
size_t es_count(uint32_t id);
void **es_slot(uint32_t id, uint32_t k);
bool es_has_more(enum kind kind);
void es_check(void);
void es_check_counts(void);
void es_check_all_gone(void);

// One thing that a destructor may do as well as anybody.
void es_act(void);

#endif
