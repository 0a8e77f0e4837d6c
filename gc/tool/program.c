#include "tool/program.h"

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#if defined(__x86_64__)
#define PROGRAM_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define PROGRAM_MACHINE EM_AARCH64
#endif

#define PROGRAM_SCRIPTS 4 // interpreters of interpreters, as the kernel allows

// A file in memory.  Its parts are asked for by offset and size, since any
// number in it may be wrong.
struct program_file {
    const char *bytes;
    size_t size;
};

static const void *program_part(const struct program_file *file,
                                uint64_t offset, uint64_t size) {
    return offset <= file->size && size <= file->size - offset
               ? file->bytes + offset
               : NULL; // PG2
}

// A text that ends inside of the file, or "".
static const char *program_text(const struct program_file *file,
                                uint64_t offset) {
    const char *text = program_part(file, offset, 1);
    return text != NULL && memchr(text, 0, file->size - offset) != NULL ? text
                                                                        : "";
}

// --- Finding it --------------------------------------------------------

static bool program_is_file(const char *path) {
    struct stat stat_;
    return stat(path, &stat_) == 0 && S_ISREG(stat_.st_mode) &&
           access(path, X_OK) == 0;
}

static bool program_find(const char *name, char path[PROGRAM_PATH_BYTES]) {
    if (strchr(name, '/') != NULL) {
        (void)snprintf(path, PROGRAM_PATH_BYTES, "%s", name);
        return program_is_file(path);
    }
    const char *at = getenv("PATH");
    at = at != NULL ? at : "/bin:/usr/bin";
    for (const char *end = at; *name != '\0' && at != NULL;
         at = *end == ':' ? end + 1 : NULL) {
        end = strchrnul(at, ':');
        (void)snprintf(path, PROGRAM_PATH_BYTES, "%.*s%s%s", (int)(end - at),
                       at, end == at ? "" : "/", name);
        if (program_is_file(path)) {
            return true;
        }
    }
    return false;
}

// --- ELF ---------------------------------------------------------------

struct program_dynamic {
    const Elf64_Dyn *entries;
    size_t count;
    uint64_t texts;   // offset of the names
    uint64_t symbols; // offset of the symbols
    uint64_t symbol_count;
};

// Where an address of the program is in its file; UINT64_MAX: nowhere.
static uint64_t program_offset(const Elf64_Phdr *headers, size_t count,
                               uint64_t address) {
    for (size_t i = 0; i < count; i++) {
        if (headers[i].p_type == PT_LOAD && address >= headers[i].p_vaddr &&
            address - headers[i].p_vaddr < headers[i].p_filesz) {
            return headers[i].p_offset + (address - headers[i].p_vaddr);
        }
    }
    return UINT64_MAX;
}

// The number of symbols is told by the GNU hash table alone: past the last
// chain that begins.
static uint64_t program_count_symbols(const struct program_file *file,
                                      uint64_t offset) {
    const uint32_t *head = program_part(file, offset, 16);
    if (head == NULL) {
        return 0;
    }
    uint32_t buckets = head[0], first = head[1], bloom = head[2];
    uint64_t chains = offset + 16 + (uint64_t)bloom * 8 + (uint64_t)buckets * 4;
    const uint32_t *bucket =
        program_part(file, chains - (uint64_t)buckets * 4, buckets * 4ull);
    uint64_t last = 0;
    for (uint32_t i = 0; bucket != NULL && i < buckets; i++) {
        last = bucket[i] > last ? bucket[i] : last;
    }
    if (last < first) {
        return first; // only those that are not defined
    }
    const uint32_t *chain = NULL;
    do {
        chain = program_part(file, chains + (last - first) * 4, 4);
        last++;
    } while (chain != NULL && (*chain & 1) == 0);
    return last;
}

static void program_read_dynamic(const struct program_file *file,
                                 const Elf64_Phdr *headers, size_t count,
                                 struct program_dynamic *dynamic) {
    for (size_t i = 0; i < dynamic->count; i++) {
        const Elf64_Dyn *entry = &dynamic->entries[i];
        uint64_t at = program_offset(headers, count, entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRTAB) {
            dynamic->texts = at;
        } else if (entry->d_tag == DT_SYMTAB) {
            dynamic->symbols = at;
        } else if (entry->d_tag == DT_GNU_HASH) {
            dynamic->symbol_count = program_count_symbols(file, at);
        }
    }
}

static bool program_name_is(const char *name, const char *const *names) {
    for (; *names != NULL; names++) {
        if (strncmp(name, *names, strlen(*names)) == 0) {
            return true;
        }
    }
    return false;
}

static void program_judge(struct program *program, enum program_kind kind,
                          const char *detail) {
    program->kind = kind;
    (void)snprintf(program->detail, sizeof program->detail, "%s", detail);
}

static const char *const program_sanitizers[] = {
    "libasan.", "libtsan.", "liblsan.", "libhwasan.", "libclang_rt.", NULL};
static const char *const program_marks[] = {"__asan_init", "__tsan_init",
                                            "__lsan_",     "__hwasan_init",
                                            "__msan_init", NULL};

// What libloam.a leaves in whatever it is linked into, stripped or not
// (api/loam.c); in two pieces, so that this file does not have it.
static bool program_has_loam(const struct program_file *file) {
    char mark[32];
    int length = snprintf(mark, sizeof mark, "%s%s", "loam: a ", "collector ");
    return memmem(file->bytes, file->size, mark, (size_t)length) != NULL;
}

static void program_judge_needs(const struct program_file *file,
                                const struct program_dynamic *dynamic,
                                struct program *program) {
    for (size_t i = 0; i < dynamic->count; i++) {
        if (dynamic->entries[i].d_tag == DT_NEEDED) {
            const char *name = program_text(
                file, dynamic->texts + dynamic->entries[i].d_un.d_val);
            if (program_name_is(name, program_sanitizers)) {
                program_judge(program, PROGRAM_SANITIZED, name);
            }
        }
    }
}

static void program_judge_symbols(const struct program_file *file,
                                  const struct program_dynamic *dynamic,
                                  struct program *program) {
    for (uint64_t i = 0; i < dynamic->symbol_count; i++) {
        const Elf64_Sym *symbol = program_part(
            file, dynamic->symbols + i * sizeof *symbol, sizeof *symbol);
        if (symbol == NULL) {
            return;
        }
        const char *name = program_text(file, dynamic->texts + symbol->st_name);
        if (symbol->st_shndx != SHN_UNDEF &&
            program_name_is(name, program_marks)) {
            program_judge(program, PROGRAM_SANITIZED, name);
            return;
        }
        if (symbol->st_shndx != SHN_UNDEF && strcmp(name, "malloc") == 0) {
            program_judge(program, PROGRAM_OWN_MALLOC, name);
        }
    }
}

// glibc's loaders are all called so.
static bool program_is_glibc(const char *loader) {
    const char *slash = strrchr(loader, '/');
    const char *name = slash != NULL ? slash + 1 : loader;
    return strncmp(name, "ld-linux", 8) == 0 || strncmp(name, "ld-2.", 5) == 0;
}

static void program_judge_elf(const struct program_file *file,
                              struct program *program) {
    const Elf64_Ehdr *head = program_part(file, 0, sizeof *head);
    if (head == NULL || head->e_ident[EI_CLASS] != ELFCLASS64 ||
        head->e_machine != PROGRAM_MACHINE) {
        program_judge(program, PROGRAM_FOREIGN, "");
        return;
    }
    size_t count = head->e_phnum;
    const Elf64_Phdr *headers =
        program_part(file, head->e_phoff, count * sizeof *headers);
    struct program_dynamic dynamic = {NULL, 0, 0, 0, 0};
    const char *loader = NULL;
    for (size_t i = 0; headers != NULL && i < count; i++) {
        if (headers[i].p_type == PT_INTERP) {
            loader = program_text(file, headers[i].p_offset);
        } else if (headers[i].p_type == PT_DYNAMIC) {
            dynamic.entries =
                program_part(file, headers[i].p_offset, headers[i].p_filesz);
            dynamic.count = dynamic.entries == NULL
                                ? 0
                                : headers[i].p_filesz / sizeof(Elf64_Dyn);
        }
    }
    if (headers == NULL) {
        program_judge(program, PROGRAM_STRANGE, "");
    } else if (loader == NULL) {
        program_judge(program, PROGRAM_STATIC, "");
    } else if (!program_is_glibc(loader)) {
        program_judge(program, PROGRAM_LIBC, loader);
    } else {
        program_read_dynamic(file, headers, count, &dynamic);
        program_judge_symbols(file, &dynamic, program);
        program_judge_needs(file, &dynamic, program);
        if (program->kind == PROGRAM_FINE && program_has_loam(file)) {
            program_judge(program, PROGRAM_OWN_LOAM, "libloam.a");
        }
    }
}

// --- A file ------------------------------------------------------------

// The next word of env's that is no option, no value of one, and no setting.
static const char *program_env_command(char **rest) {
    const char *word = strtok_r(NULL, " \t\r", rest);
    while (word != NULL && (*word == '-' || strchr(word, '=') != NULL)) {
        if (strcmp(word, "-u") == 0 || strcmp(word, "-C") == 0) {
            (void)strtok_r(NULL, " \t\r", rest);
        }
        word = strtok_r(NULL, " \t\r", rest);
    }
    return word;
}

// The interpreter of a script: for `#!/usr/bin/env name` what env would run.
static bool program_follow(const struct program_file *file,
                           struct program *program) {
    char line[512];
    size_t size = file->size < sizeof line - 1 ? file->size : sizeof line - 1;
    memcpy(line, file->bytes, size);
    line[size] = '\0';
    line[strcspn(line, "\n")] = '\0';
    char *rest = NULL;
    const char *word = strtok_r(line + 2, " \t\r", &rest);
    if (word == NULL) {
        program_judge(program, PROGRAM_STRANGE, "");
        return false;
    }
    const char *base = strrchr(word, '/');
    if (strcmp(base != NULL ? base + 1 : word, "env") == 0) {
        const char *next = program_env_command(&rest);
        word = next != NULL ? next : word;
    }
    char found[PROGRAM_PATH_BYTES];
    if (!program_find(word, found)) {
        program_judge(program, PROGRAM_LOST, word);
        return false;
    }
    memcpy(program->path, found, sizeof found);
    program_judge(program, PROGRAM_FINE, "");
    return true;
}

// Whether a new program gets rights that its caller lacks: then the loader does
// not listen to the environment.
static bool program_is_privileged(const char *path, const struct stat *stat_) {
    bool gains_user = (stat_->st_mode & S_ISUID) && stat_->st_uid != geteuid();
    bool gains_group = (stat_->st_mode & S_ISGID) && stat_->st_gid != getegid();
    return gains_user || gains_group ||
           (geteuid() != 0 &&
            getxattr(path, "security.capability", NULL, 0) > 0);
}

// True if a script leads on to another file.
static bool program_look_at(struct program *program) {
    int file = open(program->path, O_RDONLY | O_CLOEXEC);
    struct stat stat_;
    if (file < 0 || fstat(file, &stat_) != 0) {
        program_judge(program, PROGRAM_UNREADABLE, "");
        if (file >= 0) {
            close(file);
        }
        return false;
    }
    struct program_file whole = {NULL, (size_t)stat_.st_size};
    void *bytes = whole.size == 0
                      ? MAP_FAILED
                      : mmap(NULL, whole.size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    bool leads_on = false;
    if (bytes == MAP_FAILED) {
        program_judge(program, PROGRAM_STRANGE, "");
        return false;
    }
    whole.bytes = bytes;
    if (whole.size > 4 && memcmp(bytes, ELFMAG, SELFMAG) == 0) {
        program_judge_elf(&whole, program);
    } else if (whole.size > 2 && memcmp(bytes, "#!", 2) == 0) {
        leads_on = program_follow(&whole, program);
    } else {
        program_judge(program, PROGRAM_STRANGE, "");
    }
    munmap(bytes, whole.size);
    if (program->kind == PROGRAM_FINE && !leads_on &&
        program_is_privileged(program->path, &stat_)) {
        program_judge(program, PROGRAM_PRIVILEGED, "");
    }
    return leads_on;
}

void program_look(struct program *program, const char *name) {
    program_judge(program, PROGRAM_FINE, "");
    if (!program_find(name, program->path)) {
        program_judge(program, PROGRAM_MISSING, "");
        return;
    }
    for (int i = 0; i < PROGRAM_SCRIPTS && program_look_at(program); i++) {
    }
}

const char *program_fault(enum program_kind kind) {
    static const char *const faults[] = {
        [PROGRAM_MISSING] = "there is no such program",
        [PROGRAM_LOST] = "it is a script whose interpreter is not there",
        [PROGRAM_STRANGE] =
            "it is neither an ELF program nor a script with an interpreter",
        [PROGRAM_FOREIGN] = "it is for another machine or word size than this "
                            "Loam; build Loam for that one",
        [PROGRAM_STATIC] = "it is linked statically, so that nothing can be "
                           "put in front of its malloc; link it with "
                           "loam_malloc_static.o instead",
        [PROGRAM_LIBC] = "its C library is not glibc; build Loam with that one",
        [PROGRAM_PRIVILEGED] =
            "it gains privileges when it starts, and the loader then ignores "
            "what is to be preloaded; link it with libloam_malloc instead",
        [PROGRAM_SANITIZED] = "it was built with a sanitizer, which has a "
                              "malloc of its own; build it without",
        [PROGRAM_OWN_LOAM] =
            "it has a collector of Loam's in it, and would have a second one "
            "with its malloc, of which each takes the other's signal for the "
            "program's; link it with libloam.so or libloam_malloc instead",
        [PROGRAM_OWN_MALLOC] = "it has a malloc of its own, which comes before "
                               "any other; build it without",
    };
    return faults[kind];
}
