// gmp — numbers of thousands of digits.
//
// --size hundred digits of pi by Gibbons' unbounded spigot, where every step
// makes and drops numbers that grow; then five times e by binary splitting and
// a table of factorials.  What GMP allocates for a number's limbs is a leaf.
//
// Temporary blocks are not: GMP chains them, a link in the first word of each,
// and walks the chain when it is done with them, at a time when nothing else
// may point to a block.  They come from one function of the library, and the
// hook knows them by the place they are asked from.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "hooks.h"

#include <dlfcn.h>
#include <elf.h>
#include <gmp.h>
#include <link.h>

static uintptr_t gmp_temporary_start, gmp_temporary_bytes;

static void gmp_find_temporary(void) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    void *found = dlsym(RTLD_DEFAULT, "__gmp_tmp_reentrant_alloc");
    if (found == NULL ||
        dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 ||
        symbol == NULL) {
        fprintf(stderr, "gmp: no function for temporary blocks\n");
        exit(1);
    }
    gmp_temporary_start = (uintptr_t)found;
    gmp_temporary_bytes = symbol->st_size;
}

static void *gmp_alloc(size_t bytes) {
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    if (caller - gmp_temporary_start <= gmp_temporary_bytes) {
        return mem_raw(bytes);
    }
    return mem_leaf(bytes);
}

static void *gmp_resize(void *p, size_t old_bytes, size_t bytes) {
    (void)old_bytes;
    return mem_resize(p, bytes);
}

static void gmp_drop(void *p, size_t bytes) {
    (void)bytes;
    shim_dead(p);
}

static void gmp_clear(mpz_t number) {
    if (SHIM_MANUAL) {
        mpz_clear(number);
    }
}

// One step of the spigot at a time; numbers are made anew, as a program that
// treats them as values would.
static uint64_t gmp_pi(size_t digits) {
    mpz_t numerator, accumulator, denominator, product;
    mpz_inits(numerator, accumulator, denominator, product, NULL);
    mpz_set_ui(numerator, 1);
    mpz_set_ui(denominator, 1);
    uint64_t hash = 0;
    unsigned long k = 0;
    for (size_t found = 0; found < digits;) {
        unsigned long odd = ++k * 2 + 1;
        mpz_t doubled, guess, next;
        mpz_init(doubled);
        mpz_mul_2exp(doubled, numerator, 1);
        mpz_add(accumulator, accumulator, doubled);
        mpz_mul_ui(accumulator, accumulator, odd);
        mpz_mul_ui(numerator, numerator, k);
        mpz_mul_ui(denominator, denominator, odd);
        gmp_clear(doubled);
        if (mpz_cmp(numerator, accumulator) > 0) {
            continue;
        }
        mpz_inits(guess, next, NULL);
        mpz_mul_ui(product, numerator, 3);
        mpz_add(product, product, accumulator);
        mpz_tdiv_q(guess, product, denominator);
        mpz_mul_ui(product, numerator, 4);
        mpz_add(product, product, accumulator);
        mpz_tdiv_q(next, product, denominator);
        if (mpz_cmp(guess, next) == 0) {
            unsigned long digit = mpz_get_ui(guess);
            hash = hash * 31 + digit;
            mpz_submul_ui(accumulator, denominator, digit);
            mpz_mul_ui(accumulator, accumulator, 10);
            mpz_mul_ui(numerator, numerator, 10);
            found++;
        }
        gmp_clear(guess);
        gmp_clear(next);
    }
    gmp_clear(numerator);
    gmp_clear(accumulator);
    gmp_clear(denominator);
    gmp_clear(product);
    return hash;
}

// p/q = the sum of low!/i! for i in (low, high].
static void gmp_split(mpz_t p, mpz_t q, unsigned long low, unsigned long high) {
    if (high - low == 1) {
        mpz_set_ui(p, 1);
        mpz_set_ui(q, high);
        return;
    }
    unsigned long middle = low + (high - low) / 2;
    mpz_t right_p, right_q;
    mpz_inits(right_p, right_q, NULL);
    gmp_split(p, q, low, middle);
    gmp_split(right_p, right_q, middle, high);
    mpz_mul(p, p, right_q);
    mpz_add(p, p, right_p);
    mpz_mul(q, q, right_q);
    gmp_clear(right_p);
    gmp_clear(right_q);
}

static uint64_t gmp_hash(const mpz_t number) {
    return hook_hash((const char *)mpz_limbs_read(number),
                     mpz_size(number) * sizeof(mp_limb_t));
}

static uint64_t gmp_e(unsigned long terms) {
    mpz_t p, q;
    mpz_inits(p, q, NULL);
    gmp_split(p, q, 0, terms);
    mpz_mul_2exp(p, p, 64);
    mpz_tdiv_q(p, p, q);
    uint64_t hash = gmp_hash(p);
    gmp_clear(p);
    gmp_clear(q);
    return hash;
}

// A table of the first factorials, and every fiftieth as text.
static uint64_t gmp_factorials(unsigned long count) {
    mpz_t *table = mem_new(count * sizeof *table);
    uint64_t hash = 0;
    mpz_init_set_ui(table[0], 1);
    for (unsigned long at = 1; at < count; at++) {
        mpz_init(table[at]);
        mpz_mul_ui(table[at], table[at - 1], at);
        if (at % 50 == 0) {
            char *text = mpz_get_str(NULL, 10, table[at]);
            hash = hash * 31 + hook_hash(text, strlen(text));
            gmp_drop(text, 0);
        }
    }
    for (unsigned long at = 0; at < count; at++) {
        hash = hash * 31 + gmp_hash(table[at]);
        gmp_clear(table[at]);
    }
    if (SHIM_MANUAL) {
        shim_dead(table);
    }
    return hash;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t digits = (run->size != 0 ? run->size : 5) * 100;
    gmp_find_temporary();
    mp_set_memory_functions(gmp_alloc, gmp_resize, gmp_drop);
    measure_start(run);
    uint64_t sum = gmp_pi(digits);
    for (unsigned long turn = 0; turn < 5; turn++) {
        sum = sum * 31 + gmp_e(10 * digits + turn);
        sum = sum * 31 + gmp_factorials(8 * digits / 10);
    }
    measure_stop(run, sum);
    return 0;
}
