#ifndef _GNU_SOURCE
#define _GNU_SOURCE // process_vm_readv's number
#endif

#include "os/mapping.h"

#include "base/bits.h"
#include "os/error.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/thread.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAPPING_FILE  "/proc/self/maps"
#define MAPPING_PAGES "/proc/self/smaps" // the same, with figures

// --- The list --------------------------------------------------------------

// A file read character by character.
struct mapping_reader {
    int file;
    char next; // '\0' at the end
    size_t at, count;
    char buffer[4096]; // the kernel gives no more at a time
};

static void mapping_step(struct mapping_reader *reader) {
    if (reader->at == reader->count) {
        reader->count =
            file_next(reader->file, reader->buffer, sizeof reader->buffer);
        reader->at = 0;
    }
    reader->next = reader->count == 0 ? '\0' : reader->buffer[reader->at++];
}

// The number in base 10 or 16 at the reader's place, and one character more.
static uint64_t mapping_number(struct mapping_reader *reader, unsigned base) {
    uint64_t number = 0;
    for (;;) {
        char digit = reader->next;
        mapping_step(reader);
        if (digit >= '0' && digit <= '9') {
            number = number * base + (uint64_t)(digit - '0');
        } else if (base == 16 && digit >= 'a' && digit <= 'f') {
            number = number * base + (uint64_t)(digit - 'a' + 10);
        } else {
            return number;
        }
    }
}

static void mapping_skip_line(struct mapping_reader *reader) {
    while (reader->next != '\n' && reader->next != '\0') {
        mapping_step(reader);
    }
    mapping_step(reader);
}

// "7f0123400000-7f0123428000 r--p 00000000 fe:01 1234   /lib/libz.so"
static void mapping_line(struct mapping_reader *reader,
                         struct mapping *mapping) {
    mapping->start = (uintptr_t)mapping_number(reader, 16);
    mapping->end = (uintptr_t)mapping_number(reader, 16);
    mapping->is_readable = reader->next == 'r';
    mapping_step(reader);
    mapping->is_writable = reader->next == 'w';
    mapping_step(reader);
    mapping_step(reader);
    mapping->is_shared = reader->next == 's';
    mapping_step(reader);
    mapping_step(reader);
    mapping->offset = mapping_number(reader, 16);
    mapping->device = mapping_number(reader, 16) << 32;
    mapping->device |= mapping_number(reader, 16);
    mapping->inode = mapping_number(reader, 10);
    mapping->resident_bytes = 0;
    mapping_skip_line(reader);
}

// Figures follow, a line each: "Rss:        1234 kB".
static void mapping_figures(struct mapping_reader *reader,
                            struct mapping *mapping) {
    while (reader->next >= 'A' && reader->next <= 'Z') {
        static const char wanted[] = "Rss:";
        size_t same = 0;
        while (same < sizeof wanted - 1 && reader->next == wanted[same]) {
            mapping_step(reader);
            same++;
        }
        while (same == sizeof wanted - 1 && reader->next == ' ') {
            mapping_step(reader);
        }
        if (same == sizeof wanted - 1) {
            mapping->resident_bytes = mapping_number(reader, 10) * KiB;
        }
        mapping_skip_line(reader);
    }
}

static bool mapping_list(const char *path, mapping_visit *visit, void *data) {
    struct mapping_reader reader;
    reader.at = reader.count = 0;
    reader.file = file_open(path);
    if (reader.file < 0) {
        return false;
    }
    mapping_step(&reader);
    bool more = reader.next != '\0';
    bool told = more;
    while (more && reader.next != '\0') {
        struct mapping mapping;
        mapping_line(&reader, &mapping);
        mapping_figures(&reader, &mapping);
        more = visit(&mapping, data);
    }
    file_close(reader.file);
    return told;
}

bool mapping_each(mapping_visit *visit, void *data) {
    return mapping_list(MAPPING_FILE, visit, data);
}

bool mapping_each_resident(mapping_visit *visit, void *data) {
    return mapping_list(MAPPING_PAGES, visit, data);
}

#define MAPPING_PART 256u // pages asked for by one call

size_t mapping_resident(uintptr_t start, size_t bytes) {
    size_t page_bytes = memory_page_bytes();
    size_t part_bytes = MAPPING_PART * page_bytes;
    size_t pages = 0;
    int saved = error_save();
    for (size_t done = 0; done < bytes; done += part_bytes) {
        unsigned char in[MAPPING_PART] = {0};
        size_t rest = bytes - done < part_bytes ? bytes - done : part_bytes;
        (void)syscall(SYS_mincore, start + done, rest, in);
        for (size_t i = 0; i < MAPPING_PART; i++) {
            pages += in[i] & 1u;
        }
    }
    error_restore(saved); // MP4
    return pages * page_bytes;
}

// --- One of them -----------------------------------------------------------

// Linux 6.11 and later; older headers lack it.
struct mapping_query {
    uint64_t bytes;
    uint64_t flags;
    uint64_t address;
    uint64_t start, end;
    uint64_t permissions;
    uint64_t page_bytes;
    uint64_t offset;
    uint64_t inode;
    uint32_t device_major, device_minor;
    uint32_t name_bytes, build_bytes;
    uint64_t name, build;
};
#define MAPPING_QUERY    _IOWR('f', 17, struct mapping_query)
#define MAPPING_READABLE 1u
#define MAPPING_WRITABLE 2u
#define MAPPING_SHARED   8u

// Asks; true when the kernel understands the question, *mapping is empty when
// there is no mapping.
static bool mapping_ask(uintptr_t address, struct mapping *mapping) {
    int file = file_open(MAPPING_FILE);
    if (file < 0) {
        return false;
    }
    struct mapping_query query = {.bytes = sizeof query, .address = address};
    int saved = error_save();
    long failed = syscall(SYS_ioctl, file, MAPPING_QUERY, &query);
    bool nothing = failed != 0 && errno == ENOENT;
    error_restore(saved);
    file_close(file);
    if (failed != 0) {
        return nothing;
    }
    mapping->start = (uintptr_t)query.start;
    mapping->end = (uintptr_t)query.end;
    mapping->offset = query.offset;
    mapping->inode = query.inode;
    mapping->device = (uint64_t)query.device_major << 32 | query.device_minor;
    mapping->is_readable = (query.permissions & MAPPING_READABLE) != 0;
    mapping->is_writable = (query.permissions & MAPPING_WRITABLE) != 0;
    mapping->is_shared = (query.permissions & MAPPING_SHARED) != 0;
    return true;
}

struct mapping_search {
    uintptr_t address;
    struct mapping *found;
};

static bool mapping_compare(const struct mapping *mapping, void *data) {
    const struct mapping_search *search = data;
    if (search->address >= mapping->end) {
        return true;
    }
    if (search->address >= mapping->start) {
        *search->found = *mapping;
    }
    return false;
}

bool mapping_find(uintptr_t address, struct mapping *mapping) {
    memset(mapping, 0, sizeof *mapping);
    struct mapping_search search = {address, mapping};
    if (!mapping_ask(address, mapping)) {
        (void)mapping_each(mapping_compare, &search); // MP2
    }
    return mapping->end != 0;
}

// --- Reads that cannot crash -----------------------------------------------

#define MAPPING_BATCH 64u // pages asked for by one call

// Has the kernel copy from the places `from`, until one cannot be read; the
// bytes copied.  *able is false where it does not do that for us.
static size_t mapping_fetch(struct iovec to, const struct iovec *from,
                            size_t count, bool *able) {
    int saved = error_save();
    long got = syscall(SYS_process_vm_readv, thread_process_id(), &to, 1L, from,
                       count, 0L);
    // Refused for an address there is nothing; for any other reason (a filter
    // of system calls, an emulator) it is not able.
    *able = got >= 0 || errno == EFAULT;
    error_restore(saved); // MP4
    return got < 0 ? 0 : (size_t)got;
}

// The readable part, asked page by page.
static size_t mapping_readable_slowly(uintptr_t start, size_t bytes) {
    uintptr_t end = start + bytes;
    for (uintptr_t at = start; at < end;) {
        uintptr_t word = bits_round_down(at, WORD_BYTES);
        if (!memory_is_readable((const void *)word)) {
            return at - start;
        }
        at = bits_round_down(at, memory_page_bytes()) + memory_page_bytes();
    }
    return bytes;
}

NO_SANITIZE static void mapping_move(char *to, uintptr_t from, size_t bytes) {
    const volatile char *source = (const volatile char *)from;
    for (size_t index = 0; index < bytes; index++) {
        to[index] = source[index];
    }
}

size_t mapping_copy(void *to, uintptr_t from, size_t bytes) {
    struct iovec here = {to, bytes};
    struct iovec there = {(void *)from, bytes}; // NOLINT: read only
    bool able;
    size_t got = mapping_fetch(here, &there, 1, &able);
    if (!able) {
        got = mapping_readable_slowly(from, bytes); // MP3
        mapping_move(to, from, got);
    }
    return got;
}

size_t mapping_readable(uintptr_t start, size_t bytes) {
    size_t page_bytes = memory_page_bytes();
    uintptr_t end = start + bytes;
    uintptr_t at = start;
    while (at < end) { // one byte of each page, a batch of pages at a time
        char bin[MAPPING_BATCH];
        struct iovec pages[MAPPING_BATCH];
        uintptr_t last = at;
        size_t count = 0;
        while (count < MAPPING_BATCH && last < end) {
            pages[count++] = (struct iovec){(void *)last, 1}; // NOLINT
            last = bits_round_down(last, page_bytes) + page_bytes;
        }
        bool able;
        struct iovec here = {bin, count};
        size_t got = mapping_fetch(here, pages, count, &able);
        if (!able) {
            return at - start + mapping_readable_slowly(at, end - at);
        }
        if (got < count) {
            return (uintptr_t)pages[got].iov_base - start; // MP3
        }
        at = last;
    }
    return bytes;
}
