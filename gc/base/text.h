// text — sentences without stdio.
//
// What the collector says, it says with the world stopped, inside somebody's
// malloc, or in a signal handler: printf may allocate and lock, so it is out.
// A text is a buffer of the caller and a few functions that append to it; a
// sentence that does not fit loses its end and shows it.
//
//     capacity 12, after adding "pause " and "1.25 ms":
//     [ p a u s e _ 1 . . . . \0 ]       eight characters, then "..."
//
// Invariants:
//   X1  closed  bytes[count] is zero, and count < capacity
//   X2  within  no byte outside bytes[0 .. capacity-1] is touched
//   X3  honest  what was cut ends in "..." (as far as the capacity holds it),
//               and nothing can be added after that
//
// The caller owns the buffer and the struct; no state, no locks, no floating
// point: safe in a signal handler.
// Design, alternatives and measurements: docs/design/base/text.md

#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/defs.h"

// A sentence under construction.  It owns nothing.
struct text {
    char *bytes;     // the caller's buffer, always zero-terminated (X1)
    size_t count;    // characters so far, the final zero not counted
    size_t capacity; // bytes of the buffer, the final zero counted; >= 1
};

// An empty text in `buffer`; capacity >= 1.
void text_init(struct text *text, char *buffer, size_t capacity);

// Appends a string.
void text_add(struct text *text, const char *string);

// Appends a number in decimal: 1234567.
void text_add_number(struct text *text, uint64_t number);

// Appends a number in hexadecimal: 0x7f00a8.
void text_add_hex(struct text *text, uintptr_t number);

// Appends an amount of memory: "640 B", "3.2 MiB"; one decimal, rounded down.
void text_add_size(struct text *text, size_t bytes);

// Appends a length of time: "870 ns", "1.25 ms"; two decimals, rounded down.
void text_add_time(struct text *text, uint64_t ns);

#endif
