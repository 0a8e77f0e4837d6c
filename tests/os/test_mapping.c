// Mappings that are made for the purpose, found, and read where there is none.

#include "os/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/defs.h"
#include "os/memory.h"

static size_t page;
static int file; // of four pages
static struct stat file_status;

static int make_file(void **state) {
    (void)state;
    page = memory_page_bytes();
    char path[] = "/tmp/test_mapping_XXXXXX";
    file = mkstemp(path);
    if (file < 0 || unlink(path) != 0) {
        return -1;
    }
    return ftruncate(file, (off_t)(4 * page)) == 0 ? fstat(file, &file_status)
                                                   : -1;
}

static uintptr_t map(size_t pages, int protection, int flags, size_t offset) {
    int backing = (flags & MAP_ANONYMOUS) != 0 ? -1 : file;
    void *at = mmap(NULL, pages * page, protection, flags, backing,
                    (off_t)(offset * page));
    assert_ptr_not_equal(at, MAP_FAILED);
    return (uintptr_t)at;
}

static void unmap(uintptr_t at, size_t pages) {
    assert_int_equal(munmap((void *)at, pages * page), 0); // NOLINT
}

// --- The list --------------------------------------------------------------

struct search {
    uintptr_t address;
    uintptr_t last; // end of the one before
    size_t found, visited, left;
    struct mapping mapping;
};

static bool look(const struct mapping *mapping, void *data) {
    struct search *search = data;
    assert_true(mapping->start < mapping->end);
    assert_true(mapping->start >= search->last); // MP1: ascending
    search->last = mapping->end;
    search->visited++;
    if (search->address >= mapping->start && search->address < mapping->end) {
        search->found++;
        search->mapping = *mapping;
    }
    return --search->left != 0;
}

// MP1, MP2: both ways give the same.
static struct mapping find_both(uintptr_t address) {
    struct search search = {.address = address, .left = SIZE_MAX};
    assert_true(mapping_each(look, &search));
    assert_int_equal(search.found, 1);
    struct mapping asked;
    assert_true(mapping_find(address, &asked));
    assert_int_equal(asked.start, search.mapping.start);
    assert_int_equal(asked.end, search.mapping.end);
    assert_int_equal(asked.offset, search.mapping.offset);
    assert_int_equal(asked.inode, search.mapping.inode);
    assert_int_equal(asked.device, search.mapping.device);
    assert_int_equal(asked.is_readable, search.mapping.is_readable);
    assert_int_equal(asked.is_writable, search.mapping.is_writable);
    assert_int_equal(asked.is_shared, search.mapping.is_shared);
    return asked;
}

static void test_files(void **state) {
    (void)state;
    uintptr_t at = map(2, PROT_READ | PROT_WRITE, MAP_SHARED, 1);
    struct mapping mapping = find_both(at + page);
    assert_int_equal(mapping.start, at);
    assert_int_equal(mapping.end, at + 2 * page);
    assert_int_equal(mapping.offset, page);
    assert_int_equal(mapping.inode, file_status.st_ino);
    assert_true(mapping.is_readable && mapping.is_writable);
    assert_true(mapping.is_shared);
    unmap(at, 2);
    at = map(1, PROT_READ, MAP_PRIVATE, 0);
    mapping = find_both(at + page - 1);
    assert_int_equal(mapping.offset, 0);
    assert_true(mapping.is_readable && !mapping.is_writable);
    assert_false(mapping.is_shared);
    unmap(at, 1);
    struct mapping none;
    assert_false(mapping_find(at, &none));
    assert_int_equal(none.end, 0);
}

static uintptr_t variable = 1;

static void test_memory(void **state) {
    (void)state;
    uintptr_t local = 0;
    struct mapping mapping = find_both((uintptr_t)&local);
    assert_true(mapping.is_readable && mapping.is_writable);
    assert_int_equal(mapping.inode, 0);
    mapping = find_both((uintptr_t)&variable);
    assert_true(mapping.is_readable && mapping.is_writable);
    assert_false(mapping.is_shared);
    uintptr_t at = map(3, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    mapping = find_both(at);
    assert_false(mapping.is_readable || mapping.is_writable);
    unmap(at, 3);
    assert_false(mapping_find(0, &mapping));
}

// MP1: many, so that the list comes in many pieces.
static void test_many(void **state) {
    (void)state;
    enum { COUNT = 600 };
    static uintptr_t at[COUNT];
    for (size_t index = 0; index < COUNT; index++) {
        int protection = index % 2 == 0 ? PROT_READ : PROT_NONE;
        at[index] = map(1, protection, MAP_PRIVATE, index % 4);
    }
    for (size_t index = 0; index < COUNT; index += 37) {
        struct mapping mapping = find_both(at[index]);
        assert_int_equal(mapping.inode, file_status.st_ino);
        assert_int_equal(mapping.is_readable, index % 2 == 0);
    }
    struct search search = {.left = 5};
    assert_true(mapping_each(look, &search));
    assert_int_equal(search.visited, 5); // the visit said: enough
    for (size_t index = 0; index < COUNT; index++) {
        unmap(at[index], 1);
    }
}

// --- Reads that cannot crash -----------------------------------------------

// MP3
static void test_copy(void **state) {
    (void)state;
    uintptr_t at =
        map(3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    memset((void *)at, 'x', 2 * page); // NOLINT
    unmap(at + 2 * page, 1);
    char text[64];
    memset(text, 0, sizeof text);
    assert_int_equal(mapping_copy(text, at + page - 8, 16), 16);
    assert_int_equal(text[15], 'x');
    assert_int_equal(text[16], 0);
    assert_int_equal(mapping_copy(text, at + 2 * page - 8, 8), 8);
    assert_int_equal(mapping_copy(text, at + 2 * page - 8, 16), 8);
    assert_int_equal(mapping_copy(text, at + 2 * page, 16), 0);
    assert_int_equal(mapping_copy(text, 0, 16), 0);
    assert_int_equal(mapping_copy(text, UINTPTR_MAX - 8, 4), 0);
    unmap(at, 2);
}

// MP3
static void test_readable(void **state) {
    (void)state;
    size_t pages = 200; // several batches
    uintptr_t at = map(pages, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    for (size_t hole = pages - 1; hole > 0; hole /= 2) {
        void *page_at = (void *)(at + hole * page); // NOLINT
        assert_int_equal(mprotect(page_at, page, PROT_NONE), 0);
        assert_int_equal(mapping_readable(at, pages * page), hole * page);
        assert_int_equal(mapping_readable(at + 8, pages * page - 8),
                         hole * page - 8);
        assert_int_equal(mapping_readable(at, hole * page), hole * page);
        assert_int_equal(mapping_readable(at + hole * page, 8), 0);
        assert_int_equal(mapping_readable(at + hole * page - 1, 1), 1);
        assert_int_equal(mapping_readable(at, 0), 0);
    }
    unmap(at, pages);
}

// MP3: a file that somebody cuts short while it is mapped.
static void test_cut(void **state) {
    (void)state;
#if defined(CROSS_CMOCKA_H)
    skip(); // the emulator reads for us, and dies of it
#endif
    uintptr_t at = map(4, PROT_READ, MAP_PRIVATE, 0);
    assert_int_equal(mapping_readable(at, 4 * page), 4 * page);
    assert_int_equal(ftruncate(file, (off_t)page), 0);
    char text[16];
    assert_int_equal(mapping_readable(at, 4 * page), page);
    assert_int_equal(mapping_copy(text, at + page, sizeof text), 0);
    assert_int_equal(mapping_copy(text, at, sizeof text), sizeof text);
    assert_int_equal(ftruncate(file, (off_t)(4 * page)), 0);
    unmap(at, 4);
}

// MP4
static void test_quiet(void **state) {
    (void)state;
    int before = open("/dev/null", O_RDONLY);
    struct search search = {.left = SIZE_MAX};
    struct mapping mapping;
    char text[16];
    errno = 92;
    (void)mapping_each(look, &search);
    (void)mapping_resident(page, page);
    (void)mapping_find(0, &mapping);
    (void)mapping_find((uintptr_t)&mapping, &mapping);
    (void)mapping_copy(text, 0, sizeof text);
    (void)mapping_readable(0, page);
    assert_int_equal(errno, 92);
    int after = open("/dev/null", O_RDONLY);
    assert_int_equal(after, before + 1); // nothing was left open
    (void)close(before);
    (void)close(after);
}

struct weight {
    uintptr_t address;
    size_t sum, here;
    bool found;
};

static bool weigh(const struct mapping *mapping, void *data) {
    struct weight *weight = data;
    weight->sum += mapping->resident_bytes;
    if (mapping->start <= weight->address && weight->address < mapping->end) {
        weight->here = mapping->resident_bytes;
        weight->found = true;
    }
    return true;
}

// What was written is in memory, and nothing else.
static void test_resident(void **state) {
    (void)state;
    uintptr_t at =
        map(300, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    (void)madvise((void *)at, 300 * page, MADV_NOHUGEPAGE); // NOLINT
    struct weight before = {.address = at};
    struct weight after = {.address = at};
    if (!mapping_each_resident(weigh, &before) || !before.found) {
        skip(); // the system does not tell, or an emulator's addresses
    }
    assert_int_equal(mapping_resident(at, 300 * page), 0);
    ((volatile char *)at)[0] = 1;          // NOLINT
    ((volatile char *)at)[299 * page] = 1; // NOLINT
    assert_int_equal(mapping_resident(at, 300 * page), 2 * page);
    assert_int_equal(mapping_resident(at + page, 298 * page), 0);
    assert_true(mapping_each_resident(weigh, &after));
    assert_int_equal(after.here, before.here + 2 * page);
    unmap(at, 300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),    cmocka_unit_test(test_memory),
        cmocka_unit_test(test_many),     cmocka_unit_test(test_copy),
        cmocka_unit_test(test_readable), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_quiet),    cmocka_unit_test(test_resident),
    };
    return cmocka_run_group_tests(tests, make_file, NULL);
}
