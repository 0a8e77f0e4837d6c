// file — small files of the system, read without the C library.
//
// The system tells much about a process in files: its mappings, its threads,
// its limits.  They are read where the C library must not be entered: in a
// stop, when another thread may hold any of its locks, and in a signal handler.
// So the system is called directly, and what is read goes where the caller
// says.
//
// Invariants:
//   FL1  whole    file_read reads to the end of the file or of the buffer, in
//                 as many calls as it takes, and ends the string with a zero
//   FL2  closed   no descriptor stays open but the one file_open returned, and
//                 that one is not passed on by exec
//   FL3  passive  no call is a point of cancellation, enters the C library's
//                 buffers or allocates
//   FL4  errno    errno is as the caller left it
//   FL5  spare    where the program has used up its descriptors, one above its
//                 limit is had if the system lets a process raise it; the limit
//                 is as it was when file_open returns
//
// Any thread; async-signal-safe.
// Design, alternatives and measurements: docs/design/os/file.md

#ifndef OS_FILE_H
#define OS_FILE_H

#include "base/defs.h"

// Opens a file or a folder for reading; -1 when the system refuses.
MUST_USE int file_open(const char *path);

// Reads what comes next, at most `capacity` bytes; how many there were, 0 at
// the end and when it cannot be read.
size_t file_next(int file, void *buffer, size_t capacity);

// The same of a folder: records of struct file_entry.
size_t file_next_entries(int folder, void *buffer, size_t capacity);

void file_close(int file);

// Reads the file at `path` into a buffer, as a string; its length, at most
// capacity - 1; 0 when it is empty or cannot be read (FL1).
size_t file_read(const char *path, char *buffer, size_t capacity);

// One entry of a folder, as the kernel writes it.
struct file_entry {
    uint64_t inode;
    uint64_t next;  // an opaque position
    uint16_t bytes; // of this record
    uint8_t type;
    char name[5]; // and on, zero-terminated
};

#endif
