// caches_wheel — when entries of a cache expire.
//
// A timing wheel of eleven rings with 64 places each, one ring for each six
// bits of a time in nanoseconds (Varghese and Lauck 1987).  An entry stands in
// the ring of the highest six bits in which its time differs from the wheel's,
// in the place that these bits name.  When the wheel's time comes to a place,
// its entries go down to rings below; in the lowest they are due.
//
//     wheel at 0x0...041     expires 0x0...043  ring 0, place 3
//                                    0x0...0c0  ring 1, place 3
//                                    0x0..5000  ring 2, place 5
//
// Each ring has a word that says which places are in use, so that empty ones
// cost nothing: the wheel jumps from one event to the next.
//
// Invariants
//   CW1  placed   an entry that expires at all is in exactly one place: that of
//                 its time as seen from the wheel's
//   CW2  exact    caches_wheel_due(now) gives every entry with expires <= now,
//                 once, and no other
//   CW3  constant an entry is moved at most once for each ring, whatever time
//                 passes
//   CW4  lazy     while `next` is later than now nothing is due
//
// Called by whoever is in the cache (api/caches.h).
// Design, alternatives and measurements: docs/design/api/caches_wheel.md

#ifndef API_CACHES_WHEEL_H
#define API_CACHES_WHEEL_H

#include "api/caches_table.h"
#include "base/defs.h"

#define CACHES_WHEEL_RINGS  11u
#define CACHES_WHEEL_PLACES 64u

// What an entry has more if it expires, or was charged for.  A leaf: its entry
// holds it, and is held by the cache's table.
struct caches_alarm {
    struct caches_entry *entry;
    uint64_t expires;                    // ns; 0: never, and in no place
    struct caches_alarm *later, *sooner; // beside it in its place
    size_t charge;                       // of the entry's bytes, the program's
};

// A leaf, too.
struct caches_wheel {
    uint64_t now;   // the wheel's time
    uint64_t next;  // no event before it; UINT64_MAX: none at all
    uint64_t count; // entries
    uint64_t used[CACHES_WHEEL_RINGS];
    struct caches_alarm *places[CACHES_WHEEL_RINGS][CACHES_WHEEL_PLACES];
};

// An empty wheel at that time; NULL when memory is short.
MUST_USE struct caches_wheel *caches_wheel_make(uint64_t now);

// Adds an alarm whose time is later than the wheel's.
void caches_wheel_add(struct caches_wheel *wheel, struct caches_alarm *alarm);

// Takes an alarm out that is there.
void caches_wheel_remove(struct caches_wheel *wheel,
                         struct caches_alarm *alarm);

// Takes out and returns an alarm that is due; NULL when none is any more, and
// the wheel's time is `now` then.
struct caches_alarm *caches_wheel_due(struct caches_wheel *wheel, uint64_t now);

#endif
