// The list for debuggers against the loader's own answer: with libraries that
// are loaded, loaded again, unloaded, and loaded in other namespaces.

#include "os/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/defs.h"
#include "os/memory.h"

#define MOST 256u

typedef int each_visit(struct dl_phdr_info *info, size_t size, void *data);
typedef int each(each_visit *visit, void *data);

// --- Two lists of modules --------------------------------------------------

struct row {
    uintptr_t bias;
    size_t count;
    Elf64_Phdr parts[LOADER_PARTS];
};

struct list {
    size_t count;
    struct row rows[MOST];
};

static void add(struct list *list, uintptr_t bias, const Elf64_Phdr *parts,
                size_t count) {
    assert_true(list->count < MOST && count <= LOADER_PARTS);
    struct row *row = &list->rows[list->count++];
    memset(row, 0, sizeof *row);
    row->bias = bias;
    row->count = count;
    memcpy(row->parts, parts, count * sizeof *parts);
}

static int add_told(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    add(data, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    return 0;
}

static void add_found(const struct loader_module *module, void *data) {
    add(data, module->bias, module->parts, module->count);
}

static size_t count_row(const struct list *list, const struct row *row) {
    size_t found = 0;
    for (size_t index = 0; index < list->count; index++) {
        found += memcmp(&list->rows[index], row, sizeof *row) == 0;
    }
    return found;
}

static struct list told, found;

// LD1: what the loader says is found.  The loader is in several namespaces.
static void compare(each *other) {
    told.count = found.count = 0;
    (void)dl_iterate_phdr(add_told, &told);
    size_t base = told.count;
    if (other != NULL) {
        (void)other(add_told, &told);
    }
    assert_int_equal(loader_each(add_found, &found), LOADER_DONE);
    for (size_t index = 0; index < told.count; index++) {
        size_t times = count_row(&found, &told.rows[index]);
        assert_true(times >= 1);
        if (index < base) {
            assert_int_equal(times, 1);
        }
    }
    for (size_t index = 0; other == NULL && index < found.count; index++) {
        assert_int_equal(count_row(&told, &found.rows[index]), 1);
    }
}

static void *find_symbol(void *library, const char *name) {
    void *symbol = dlsym(library, name);
    assert_non_null(symbol);
    return symbol;
}

// LD1
static void test_loading(void **state) {
    (void)state;
    compare(NULL);
    size_t before = found.count;
    assert_true(before >= 2); // the program and the C library
    for (size_t turn = 0; turn < 3; turn++) {
        void *library = dlopen(LOADER_LOADED, RTLD_NOW);
        assert_non_null(library);
        compare(NULL);
        assert_int_equal(found.count, before + 1);
        assert_int_equal(dlclose(library), 0);
        compare(NULL);
    }
}

// LD1: nothing is learnt from the program alone that does not hold for others.
static void test_tables_in_place(void **state) {
    (void)state;
    struct loader_module program;
    loader_of_program(&program);
    assert_int_equal(program.parts_at, getauxval(AT_PHDR));
    told.count = found.count = 0;
    (void)dl_iterate_phdr(add_told, &told);
    assert_int_equal(program.bias, told.rows[0].bias);
    assert_int_equal(program.count, told.rows[0].count);
    assert_non_null(loader_find_part(&program, PT_LOAD));
    assert_null(loader_find_part(&program, 0x6fffffff));
}

// Some sanitizers will not be loaded twice, and end the program.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                    \
    !defined(__SANITIZE_THREAD__)
#define NAMESPACES 1
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef NAMESPACES
#endif
#endif
#endif

#if defined(NAMESPACES)
// LD1: other namespaces, which dl_iterate_phdr does not tell us of.
static void test_namespaces(void **state) {
    (void)state;
    void *libraries[3];
    for (size_t index = 0; index < 3; index++) {
        libraries[index] = dlmopen(LM_ID_NEWLM, LOADER_LOADED, RTLD_NOW);
        assert_non_null(libraries[index]);
        each *other;
        void *symbol = find_symbol(libraries[index], "loader_loaded_each");
        memcpy(&other, &symbol, sizeof other);
        compare(other);
    }
    for (size_t index = 0; index < 3; index++) {
        assert_int_equal(dlclose(libraries[index]), 0);
    }
    compare(NULL); // no more and no less
}
#endif

// --- Doubt -----------------------------------------------------------------

// LD2
static void test_changing(void **state) {
    (void)state;
    struct loader_module program;
    loader_of_program(&program);
    const Elf64_Phdr *dynamic = loader_find_part(&program, PT_DYNAMIC);
    assert_non_null(dynamic);
    struct r_debug *debug = NULL;
    Elf64_Dyn *entry = (Elf64_Dyn *)(program.bias + dynamic->p_vaddr);
    for (; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_DEBUG) {
            debug = (struct r_debug *)entry->d_un.d_ptr;
        }
    }
    assert_non_null(debug);
    assert_int_equal(debug->r_state, RT_CONSISTENT);
    found.count = told.count = 0;
    debug->r_state = RT_DELETE;
    enum loader_answer answer = loader_each(add_found, &found);
    size_t visited = found.count;
    loader_each_doubtful(add_found, &found);
    debug->r_state = RT_CONSISTENT;
    assert_int_equal(answer, LOADER_CHANGING);
    assert_int_equal(visited, 0);
    (void)dl_iterate_phdr(add_told, &told);
    for (size_t index = 0; index < told.count; index++) {
        assert_int_equal(count_row(&found, &told.rows[index]), 1); // as ever
    }
}

// LD4
static void test_read(void **state) {
    (void)state;
    size_t page = memory_page_bytes();
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(munmap(memory + page, page), 0);
    Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64},
                         .e_phoff = sizeof header,
                         .e_phentsize = sizeof(Elf64_Phdr),
                         .e_phnum = 2};
    Elf64_Phdr parts[2] = {{.p_type = PT_NULL},
                           {.p_type = PT_LOAD, .p_vaddr = 3 * page + 8}};
    char *file = memory;
    struct loader_module module;
    memcpy(file, &header, sizeof header);
    memcpy(file + sizeof header, parts, sizeof parts);
    uintptr_t base = (uintptr_t)file;
    assert_true(loader_read(&module, base));
    assert_int_equal(module.bias, base - 3 * page);
    assert_int_equal(module.count, 2);
    assert_false(loader_read(&module, 0));
    assert_false(loader_read(&module, base + 8));
    assert_false(loader_read(&module, base + page)); // there is nothing
    assert_false(loader_read(&module, base + page - 16));
    header.e_phoff = page - sizeof parts + 8; // its end is not there
    memcpy(file, &header, sizeof header);
    assert_false(loader_read(&module, base));
    header.e_phoff = UINT64_MAX - 100;
    memcpy(file, &header, sizeof header);
    assert_false(loader_read(&module, base));
    header.e_phoff = sizeof header;
    header.e_phnum = UINT16_MAX;
    memcpy(file, &header, sizeof header);
    assert_false(loader_read(&module, base));
    header.e_phnum = 1; // nothing to load
    memcpy(file, &header, sizeof header);
    assert_false(loader_read(&module, base));
    assert_int_equal(munmap(memory, page), 0);
}

// --- The place of thread-local variables ------------------------------------

static _Thread_local uintptr_t own_variable = 1;

struct places {
    uintptr_t pointer;
    const void *variable;
    size_t held; // modules whose block holds it
    size_t told;
};

static void try_place(const struct loader_module *module, void *data) {
    struct places *places = data;
    const Elf64_Phdr *part = loader_find_part(module, PT_TLS);
    struct loader_place place;
    if (part == NULL || !loader_find_place(module, &place)) {
        return;
    }
    places->told++;
#if defined(__x86_64__)
    uintptr_t block = places->pointer - place.bytes;
#else
    uintptr_t block = places->pointer + place.bytes;
#endif
    uintptr_t at = (uintptr_t)places->variable;
    assert_true(place.number != 0);
    places->held +=
        place.bytes != 0 && at >= block && at < block + part->p_memsz;
}

static void test_place(void **state) {
    (void)state;
    struct places places = {0, &own_variable, 0, 0};
#if defined(__x86_64__)
    __asm__("movq %%fs:0, %0" : "=r"(places.pointer));
#else
    places.pointer = (uintptr_t)__builtin_thread_pointer();
#endif
    assert_int_equal(loader_each(try_place, &places), LOADER_DONE);
    if (places.told == 0) {
        skip(); // a loader that keeps it elsewhere
    }
    assert_int_equal(places.held, 1);
    void *library = dlopen(LOADER_LOADED, RTLD_NOW);
    assert_non_null(library);
    uintptr_t *(*variable)(void);
    void *symbol = find_symbol(library, "loader_loaded_tls");
    memcpy(&variable, &symbol, sizeof variable);
    places.variable = variable();
    places.held = 0;
    assert_int_equal(loader_each(try_place, &places), LOADER_DONE);
    assert_int_equal(places.held, 1); // though no table of the thread has it
    assert_int_equal(dlclose(library), 0);
}

// LD3: errno, as a sign that nothing else was touched; malloc is watched by the
// test of segments.
static void test_quiet(void **state) {
    (void)state;
    found.count = 0;
    errno = 91;
    (void)loader_each(add_found, &found);
    loader_each_doubtful(add_found, &found);
    assert_int_equal(errno, 91);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_tables_in_place),
#if defined(NAMESPACES)
        cmocka_unit_test(test_namespaces),
#endif
        cmocka_unit_test(test_changing),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
