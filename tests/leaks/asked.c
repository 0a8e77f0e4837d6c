// The cases that ask LeakSanitizer by its own names.

#include "leaky.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

// A program that works without it, too.
#pragma weak __lsan_do_leak_check
#pragma weak __lsan_do_recoverable_leak_check
#pragma weak __lsan_disable
#pragma weak __lsan_enable
#pragma weak __lsan_ignore_object
#pragma weak __lsan_register_root_region
#pragma weak __lsan_unregister_root_region
void __lsan_do_leak_check(void);
int __lsan_do_recoverable_leak_check(void);
void __lsan_disable(void);
void __lsan_enable(void);
void __lsan_ignore_object(const void *p);
void __lsan_register_root_region(const void *start, size_t bytes);
void __lsan_unregister_root_region(const void *start, size_t bytes);

static LEAKY_ALONE void lose_some(size_t bytes) {
    leaky_held[0] = leaky_hide(malloc(bytes));
    leaky_held[0] = NULL;
}

static LEAKY_ALONE void asked_clean(void) {
    char over[16000];
    memset(over, 0, sizeof over);
    (void)leaky_hide(over);
}

// ask: 1111 in 1, 0 lose_some
static LEAKY_ALONE void lose_ask(void) {
    lose_some(1111);
    asked_clean();
    __lsan_do_leak_check();
    lose_some(2222); // is not looked for any more
    (void)puts("not reached");
}

// ask_early: 0 in 0, 0
static LEAKY_ALONE void lose_ask_early(void) {
    __lsan_do_leak_check();
    lose_some(2222);
}

// ask_often: 100 in 1, 0 lose_some
static LEAKY_ALONE void lose_ask_often(void) {
    if (__lsan_do_recoverable_leak_check() != 0) {
        _exit(98);
    }
    lose_some(100);
    asked_clean();
    if (__lsan_do_recoverable_leak_check() == 0) {
        _exit(97);
    }
    _exit(23);
}

// disabled: 10 in 1, 0 lose_some
static LEAKY_ALONE void lose_disabled(void) {
    __lsan_disable();
    __lsan_disable();
    lose_some(100);
    __lsan_enable();
    void **p = leaky_hide(malloc(100));
    __lsan_enable();
    lose_some(10);
    *p = leaky_hide(malloc(200)); // led to by what is ignored
    p = leaky_hide(NULL);
}

// ignored: 30 in 1, 0 lose_ignored
static LEAKY_ALONE void lose_ignored(void) {
    void **p = leaky_hide(malloc(100));
    __lsan_ignore_object(p);
    *p = leaky_hide(malloc(200));
    p = leaky_hide(malloc(100));
    __lsan_ignore_object((char *)p + 50);
    p = leaky_hide(malloc(30));
    int on_the_stack;
    __lsan_ignore_object(&on_the_stack);
    __lsan_ignore_object(NULL);
    p = leaky_hide(NULL);
}

// regions: 40 in 1, 0 lose_regions
static LEAKY_ALONE void lose_regions(void) {
    void **page = mmap(NULL, 16384, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    leaky_held[0] = page;
    page[7] = leaky_hide(malloc(80));
    page[1000] = leaky_hide(malloc(40));
    (void)mprotect((char *)page + 12288, 4096, PROT_NONE);
    __lsan_register_root_region(page, 4096);
    __lsan_register_root_region((char *)page + 12288, 4096);
    __lsan_register_root_region(page + 1000, 8);
    __lsan_unregister_root_region(page + 1000, 8);
}

const struct leaky_case asked_cases[] = {
    {"ask", lose_ask},
    {"ask_early", lose_ask_early},
    {"ask_often", lose_ask_often},
    {"disabled", lose_disabled},
    {"ignored", lose_ignored},
    {"regions", lose_regions},
    {NULL, NULL},
};
