// What the leaking programs share.

#ifndef LEAKS_LEAKY_H
#define LEAKS_LEAKY_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LEAKY_ALONE __attribute__((noinline, noclone))

// A case leaves what it holds in these.
extern void *volatile leaky_held[8];

// What no optimiser looks into.
static inline void *leaky_hide(void *p) {
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

struct leaky_case {
    const char *name;
    void (*run)(void);
};

// Of the other files, to one without a name.
extern const struct leaky_case leaky_more[], asked_cases[];

#endif
