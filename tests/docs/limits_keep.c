// From docs/limits.md: an object that must live without being touched.

#include <stdint.h>
#include <stdio.h>

#include <loam.h>

static uint64_t sum(const unsigned char *from, uintptr_t bytes) {
    uint64_t total = 0;
    for (uintptr_t i = 0; i < bytes; i++) {
        total += from[i];
    }
    return total;
}

int main(void) {
    // begin
    unsigned char *numbers = loam_alloc_leaf(1000);
    if (numbers == NULL) {
        return 1;
    }
    uintptr_t hidden = LOAM_HIDE(numbers); // the only word the rest uses
    for (int i = 0; i < 1000; i++) {
        numbers[i] = (unsigned char)i;
    }
    loam_collect();
    uint64_t total = sum(LOAM_REVEAL(hidden), 1000);
    loam_keep(numbers); // alive up to here
    // end
    printf("%llu\n", (unsigned long long)total);
    return total == 124716 ? 0 : 1;
}
