// count — owners come and go; the last one turns out the light.
//
// Every thread that counts has a domain: its suspects, its dead, its figures.
// The inline functions of loam/rc.h count by themselves; they come here when a
// count falls to 0, when an object is suspected for the first time, and for the
// types whose counts are not a plain number.
//
// Destruction is a list, not a recursion.  An object whose count falls to 0 is
// put on the domain's list of the dead, threaded through the heads of the dead
// themselves: it needs no memory.  One at a time they are taken off, destroyed,
// and their slots released, which may put more on the list.  The first slot's
// object is taken in hand at once, the others are pushed last first: so a tree
// is destroyed in the order in which it was probably made.
//
//     release -> count 0 -> [dead list] -> finalizer -> destructor -> slots
//                               ^                                       |
//                               +---------------- count 0 --------------+
//
// Destructors are the program's code and may call in again: they are not called
// from here.  count_advance returns when one is due, and is called again after
// it; the door (api/counting.c) is the loop around it.
//
// Objects without code of their own, which are most, are destroyed in one loop
// that is left only when a stop is due.
//
// Invariants
//   CN1  once     an object's destructor is called once, its finalizer at most
//                 once
//   CN2  order    a destructor sees its slots as they were, and what they own
//                 not yet destroyed, unless that is part of the same ring, or
//                 hangs on it alone
//   CN3  flat     stack and memory needed are constant, however much dies
//   CN4  kept     a cell is not freed while KEPT is set; nor, but by the flip,
//                 when WATCHED is or the type is quarantined
//   CN5  listed   an object on the list of the dead is DEAD, and its count 0
//   CN6  suspect  a plain object whose count fell, not to 0, is in the buffer
//                 of suspects, unless it is acyclic, or memory was short
//
// Called by the domain's thread, INSIDE; count_release and count_retain
// anywhere in it.
// Design, alternatives and measurements: docs/design/rc/count.md

#ifndef RC_COUNT_H
#define RC_COUNT_H

#include <string.h>

#include "base/defs.h"
#include "heap/counted.h"
#include "rc/bond.h"
#include "rc/gather.h"
#include "rc/kinds.h"

// Objects that are named from outside the heap: a buffer in meta memory.  A
// place is NULL when its object was found dead by the tracer meanwhile.
struct count_buffer {
    void **items;
    size_t count, capacity;
    bool wants_room; // it was full: to be grown when that is possible
};

struct count_figures {
    uint64_t made, destroyed;
    uint64_t in_rings, by_tracer;
    uint64_t resurrected;
};

// What count_advance wants done.
enum count_wish {
    COUNT_NOTHING,  // the list is empty, or the limit reached
    COUNT_FINALIZE, // call object's finalizers
    COUNT_DESTROY,  // let go what hangs on it, and call its destructor
    COUNT_REVIEW    // call reclaim_review (rc/reclaim.h)
};

struct count_call {
    enum count_wish wish;
    bool again; // to finalize: it was before, and its type's has had its turn
    void *object;
    const struct kinds_type *type;
};

// Misuse, to be said when nothing is held.
enum count_fault { COUNT_FINE, COUNT_FREED, COUNT_GONE, COUNT_TOO_OFTEN };

// What one thread counts.
struct count_domain {
    uintptr_t dead;               // the list; see heap/counted.h
    bool draining;                // somebody advances
    uint32_t owner;               // COUNTED_OWNER_BIT and its mutator's id
    size_t step;                  // most objects in one go; 0: no limit
    size_t owed_count;            // on the list
    struct gather gather;         // cells to be freed
    struct count_buffer suspects; // objects that may be parts of dead rings
    struct count_buffer zeroes;   // deferred objects whose count is 0, or was
    struct count_buffer tells;    // biased objects whose owners are to be told
    bool settles; // variables are known: what falls to 0 in a cascade is dead
    bool falls;   // and it is a cascade
    size_t deferred_bytes; // of these, made since they were settled
    struct count_figures figures;
};

// domain->gather is the caller's to fill.
void count_init(struct count_domain *domain, uint32_t owner);

// One owner less, of any object.  What is due then is for count_advance.
enum count_fault count_release(struct count_domain *domain, void *object);

// One owner more, of an object that is not counted inline.
enum count_fault count_retain(struct count_domain *domain, void *object);

// One owner more, if it is not dead; false if it is.  Its cell is not used
// again meanwhile.
MUST_USE bool count_retain_living(struct count_domain *domain, void *object);

// A biased object of this domain's thread, or of one that has ended, leaves the
// queue; true: it was destroyed before, and is to be unnamed.  Under the lock.
MUST_USE bool count_merge(struct count_domain *domain, void *object);

// A deferred object whose count is 0 is named among the zeroes, if it is not
// named anywhere.
void count_name_zero(struct count_domain *domain, void *object);

// The buffer that names an object is given up: its cell waits no longer.
void count_forget(void *object);

// The domain is given up: what is on its list of the dead is not dead, and the
// tracer will find it.  Under the lock.
void count_give_up(struct count_domain *domain);

// In a forked child, for an object of a thread that is not there, or that such
// a thread was destroying: no buffer names it, no list links it.
void count_mend(void *object);

// An object that is being destroyed, or is about to be.
static inline bool count_is_dying(const void *object) {
    return (counted_flags(object) & COUNTED_DEAD) &&
           counted_type(object) != COUNTED_ZOMBIE;
}

// A buffer names the object already.
static inline void count_set_kept(void *object) {
    counted_of(object)->word |= COUNTED_KEPT;
}

// While a child looks for what others were destroying, what its own thread is
// destroying says so, by a bit that neither a link nor a scratch count uses.
#define COUNT_OURS (COUNTED_LISTED >> 1)

static inline bool count_is_ours(const void *object) {
    return count_is_dying(object) &&
           (counted_of(object)->info & COUNT_OURS) != 0;
}

static inline void count_claim(void *object, bool ours) {
    if (count_is_dying(object)) {
        uint32_t info = counted_of(object)->info & ~COUNT_OURS;
        counted_of(object)->info = info | ours * COUNT_OURS;
    }
}

// The same for what is on the domain's list of the dead.
void count_claim_listed(struct count_domain *domain, bool ours);

// Destroys on, until something is to be done outside, at most `limit` objects.
// `call` is that of the time before, its wish fulfilled; at first all zero.
// Returns whether there is a wish.
bool count_advance(struct count_domain *domain, struct count_call *call,
                   size_t limit);

// Destroys a simple object that had one owner and is in no buffer, and what
// dies with it as long as that is like it, at most `limit`; the rest is listed.
void count_drop(struct count_domain *domain, void *object,
                const struct kinds_type *type, size_t limit);

// Whether count_drop is the way, of an object whose head says `word`.
static inline bool count_may_drop(const struct count_domain *domain,
                                  const struct kinds_type *type,
                                  uint32_t word) {
    const uint32_t asked = COUNTED_COUNT_MASK | COUNTED_OTHER | COUNTED_DEAD |
                           COUNTED_KEPT | COUNTED_WATCHED;
    return (word & asked) == COUNTED_ONE && type->is_simple &&
           domain->dead == 0 && !domain->draining && domain->step == 0;
}

// The same where it owns nothing; else false, and nothing is done.
MUST_USE static inline bool count_drop_alone(struct count_domain *domain,
                                             void *object,
                                             const struct kinds_type *type) {
    const uint32_t *slots = type->slots, *end = slots + type->slot_count;
    for (; slots != end; slots++) {
        const void *owned;
        memcpy(&owned, (const char *)object + *slots, sizeof owned);
        if (owned != NULL) {
            return false;
        }
    }
    gather_alone(&domain->gather, object);
    domain->figures.destroyed++;
    return true;
}

// Puts an object whose count is 0 on the list of the dead.
void count_bury(struct count_domain *domain, void *object);

// Names an object in a buffer; false, and it is not, when there is no room.
bool count_name(struct count_buffer *buffer, void *object);

// The object is taken out of a buffer: it may be named again, or, destroyed
// meanwhile, its cell is freed as by count_free.
void count_unname(struct count_domain *domain, void *object);

// Gathers the cell of an object that was destroyed, or makes a zombie of it.
void count_free(struct count_domain *domain, void *object);

// Releases what the slots of an object own.
void count_release_slots(struct count_domain *domain, void *object,
                         const struct kinds_type *type);

// Whether code that may bring the object back is to be called before it dies:
// its type's finalizer, or what was set for it (rc/bond.h).
static inline bool count_is_due(const void *object,
                                const struct kinds_type *type) {
    return (type->finalize != NULL &&
            !(counted_flags(object) & COUNTED_DONE)) ||
           (bond_may_hang(object, type) && bond_is_fated(object));
}

// The object is destroyed but for its cell, which is freed by count_free.
void count_finish(struct count_domain *domain, void *object);

// The number of owners that the head tells: of a biased object, those that its
// thread counts.
static inline uint32_t count_get(const void *object) {
    return (counted_flags(object) & COUNTED_COUNT_MASK) / COUNTED_ONE;
}

#endif
