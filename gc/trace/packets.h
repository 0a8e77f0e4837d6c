// packets — words that one marker leaves to another.
//
// Several threads may mark at a time, each with a worklist of its own.  Who has
// more words than it needs, while another has none, puts some of its oldest
// ones, which lead to most, into a packet that anybody may take.
//
//     EMPTY --put--> FILLING ----> FULL --take--> EMPTYING ----> EMPTY
//
// When is the work done?  `work` counts the markers that have any, and the full
// packets.  Who takes a packet while it has nothing takes over what the packet
// counted for; so `work` comes to 0 only when nobody has anything, and then
// nobody can get anything any more.
//
// Nobody waits for a packet that another is filling or emptying: it is passed
// over.  A marker without work looks about for a while.  Then a helper goes
// away, and the conductor sleeps: who keeps it waiting may need its processor.
//
// Invariants
//   P1  once     what is put is taken once, whole
//   P2  end      packets_await says that the work is done only when no packet
//                is full and no marker has anything
//   P3  woken    the conductor does not sleep while there is a packet to take
//                or when the work is done, but for a tick
//   P4  empty    who seeks has nothing: it counts as having, when it is given
//                a packet, before anybody can see that the packet is empty
//   P5  told     that a helper overflowed is seen by a conductor
//                that was told that the work is done
//
// packets_begin, packets_await and packets_end: the conductor.  packets_seek:
// helpers.  The rest: any marker at work.
// After the grey packets of Ossia et al. (2002), shared on demand.
// Design, alternatives and measurements: docs/design/trace/packets.md

#ifndef TRACE_PACKETS_H
#define TRACE_PACKETS_H

#include "base/defs.h"
#include "trace/worklist.h"

enum {
    PACKETS = LOAM_TINY ? 2 : 16,
    PACKET_WORDS = LOAM_TINY ? 2 : 254, // no more than any worklist has room
    PACKET_WORDS_LEAST = LOAM_TINY ? 2 : 8,     // a worklist shorter keeps them
    PACKETS_CALL_WORDS = 2 * PACKET_WORDS_LEAST // for these some are called
};

enum packet_state {
    PACKET_EMPTY,
    PACKET_FILLING,
    PACKET_FULL,
    PACKET_EMPTYING
};

struct packet {
    uint32_t state;     // enum packet_state; atomic
    uint32_t count;     // of words; 0: the piece instead; who fills or empties
    struct piece piece; //
    uintptr_t words[PACKET_WORDS];
};

struct packets {
    uint32_t hungry;  // markers that have nothing; atomic
    uint32_t full;    // packets that may be taken; atomic
    bool closed;      // helpers are to go; atomic
    uint32_t away;    // helpers that look for none; atomic
    uint32_t helpers; // at most so many; constant while marking
    bool overflowed;  // a helper flagged a block; atomic
    char apart[64];   // what every marker reads from what changes often
    uint32_t work;    // who has any, and full packets; atomic
    uint32_t news;    // packets put, ends of work; futex; atomic
    bool asleep;      // the conductor waits for news; atomic
    uint32_t asked;   // times that there was work for those away
    void (*call)(size_t count); // bell: they may come; may be NULL
    size_t object_count;        // marked by helpers; atomic
    char apart_too[64];
    struct packet packets[PACKETS];
};

// Marking begins, with a conductor that has work.
void packets_begin(struct packets *packets, size_t helpers);

// It has ended: helpers that look about go.  No work is left.
void packets_end(struct packets *packets);

// Whether one who has `count` words should leave some to others: a marker looks
// for work that is in no packet, or there is enough for one who is away.
static inline bool packets_are_wanted(const struct packets *packets,
                                      size_t count) {
    return __atomic_load_n(&packets->hungry, __ATOMIC_RELAXED) >
               __atomic_load_n(&packets->full, __ATOMIC_RELAXED) ||
           (count >= (size_t)PACKETS_CALL_WORDS &&
            __atomic_load_n(&packets->away, __ATOMIC_RELAXED) != 0);
}

// Leaves words to others, at most PACKET_WORDS; false when no packet is empty,
// or when they are for those who are away, and these were not called now.
MUST_USE bool packets_put(struct packets *packets, const uintptr_t *words,
                          size_t count);

// The same for a piece.
MUST_USE bool packets_put_piece(struct packets *packets, struct piece piece);

// The conductor's worklist is empty: waits for a packet, and puts what is in it
// there.  False: all the work is done; the conductor has the next.
MUST_USE bool packets_await(struct packets *packets, struct worklist *list);

// A helper's is, who has work already or, at the `first` call, none.  False: it
// is to go.
MUST_USE bool packets_seek(struct packets *packets, struct worklist *list,
                           bool first);

#endif
