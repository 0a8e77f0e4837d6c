// bond — what hangs on an object beside its slots.
//
// Some of what a counted object has to do with others stands in no slot of it:
// a finalizer that was set for it alone, a guardian that waits for it, the
// value that a weak map has under it.  Each is a record here, in meta memory,
// found by the object.
//
//     FINALIZER  object -> function and data      called before it dies
//     GUARD      object -> a guardian's token     it is handed over instead
//     VALUE      key -> value, by a map's cell    one count of the value
//     HELD       object -> the token that has it  one count of the object
//     LOOSE      value                            one count, to be given back
//
// VALUE and HELD own.  The owner is no counted object, and none alone: the
// value of an entry lives as long as key and map do.  For those who look for
// rings the value is one slot more of its key.  The tracer knows of the map as
// well: to it the count is explained by an entry that it does not reach.  When
// the map's cell or a traced key is found dead in a stop, where nobody may
// count, the record becomes LOOSE, and the thread that made it releases the
// value when it is out of the stop.
//
// Invariants
//   BO1  owns    every record that is VALUE, HELD or LOOSE owns one count of
//                its value, and no other record does
//   BO2  found   what hangs on an object is found by it, and nothing else
//   BO3  loose   after bond_settle no record names a cell that was not marked,
//                nor an object, unless that is condemned: then the cell of its
//                VALUE is marked by now
//   BO4  truth   bond_forked finds every record that was whole
//   BO5  short   a refused record changes nothing
//
// bond_may_hang, bond_is_fated, bond_each_value: INSIDE, or under the heap
// lock; bond_settle: the conductor in a stop; the rest: under the heap lock.
// Design, alternatives and measurements: docs/design/rc/bond.md

#ifndef RC_BOND_H
#define RC_BOND_H

#include "base/defs.h"
#include "heap/counted.h"
#include "heap/heap.h"
#include "rc/kinds.h"

enum bond_sort {
    BOND_FREE,
    BOND_FINALIZER = 1,
    BOND_GUARD = 2,
    BOND_VALUE = 4,
    BOND_HELD = 8,
    BOND_LOOSE = 16
};

typedef void bond_function(void *object, void *data);

struct bond {
    uintptr_t object;        // what it hangs on: a start, or any word of a key
                             // that lies in no heap; constant while in use
    uintptr_t cell;          // of the map or the guardian; 0: none
    uintptr_t value;         // see BO1; of a finalizer: its data
    bond_function *function; // of a finalizer
    struct bond *next;       // in its bucket or the list of free; chains
    uint32_t thread;         // the mutator that may count the value; 0: who is
                             // left
    uint8_t sort;            // enum bond_sort; written last
    uint8_t mode;            // of a finalizer, as the program said
};

// The records in use; atomic.
extern size_t bond_count;
// Of these, FINALIZER and GUARD; atomic.
extern size_t bond_fate_count;

static inline bool bond_is_used(void) {
    return UNLIKELY(__atomic_load_n(&bond_count, __ATOMIC_RELAXED) != 0);
}

// Whether something may hang on a counted object of a type: its head says that
// it is watched, or it is biased, whose head does not say.
static inline bool bond_may_hang(const void *object,
                                 const struct kinds_type *type) {
    return bond_is_used() && ((counted_flags(object) & COUNTED_WATCHED) ||
                              (type->flags & KINDS_SHARED));
}

// Whether a finalizer or a guardian waits for it.
bool bond_is_fated(const void *object);

// Calls visit for each value that hangs on a key.
typedef void bond_visit(void *value, void *data);
void bond_each_value(const void *key, bond_visit *visit, void *data);

// A record like `bond`; false when memory is short.
MUST_USE bool bond_add(const struct bond *bond);

// The first record of one of `sorts` that hangs on an object, by `cell` (0: by
// any); NULL if there is none.
struct bond *bond_find(uintptr_t object, unsigned sorts, uintptr_t cell);

// Changes what a record owns; the caller sees to the counts.
void bond_set_value(struct bond *bond, uintptr_t value);

void bond_remove(struct bond *bond);

// Takes the first such out; false if there is none.
bool bond_take(uintptr_t object, unsigned sorts, struct bond *taken);

// Takes LOOSE ones out that `thread` may count, and if `nobodys` those that no
// thread does: at most `capacity` values; returns how many.
size_t bond_take_loose(uint32_t thread, bool nobodys, void **values,
                       size_t capacity);

// The thread ends: what it alone may count is nobody's.
void bond_disown(uint32_t thread);

// Calls look for each record of `sorts` that hangs on an object; it changes
// nothing.
typedef void bond_look(struct bond *bond, void *data);
void bond_each_of(uintptr_t object, unsigned sorts, bond_look *look,
                  void *data);

// Calls look for each record; it may remove the one that it is given.
void bond_each(bond_look *look, void *data);

// All is marked that will be, but for what is condemned: BO3.  `heap` is being
// collected.  Whether something is loose.
typedef void bond_mark(uintptr_t word, void *data);
bool bond_settle(const struct heap *heap, bond_mark *mark, void *data);

// In a forked child: `thread` is the mutator that is left, or 0.
void bond_forked(uint32_t thread);

#endif
