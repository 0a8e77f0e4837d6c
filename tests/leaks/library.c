// A library that loses memory, and keeps some in a variable of its own.

#include <stdlib.h>

static void *volatile library_kept;

void leaky_keep(int lost);

static __attribute__((noinline)) void lose_loaded_by(int lost) {
    for (int i = 0; i < lost; i++) {
        library_kept = malloc(70);
    }
    library_kept = malloc(70);
}

void leaky_keep(int lost) {
    lose_loaded_by(lost);
    __asm__ volatile("" : : : "memory");
}
