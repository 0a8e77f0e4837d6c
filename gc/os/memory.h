// memory — address space and the pages in it.
//
// Address space and memory are two things.  Space is reserved: it has numbers
// but nothing behind them, costs no memory and cannot be touched.  Pages are
// committed into it, and given back:
//
//     reserve          commit              drop
//    ---------> none ----------> zero  <----------+
//                ^                | write         |
//                |                v               |
//                +------------- used -------------+
//                  uncommit
//
// Each transition is one system call and each may be refused; a refusal is an
// answer (NULL, false), and the caller decides what it means.
//
// Invariants, for page-aligned ranges:
//   M1  aligned   what memory_reserve returns is a multiple of its alignment,
//                 `bytes` long, inaccessible, and unknown to anybody else
//   M2  zero      a page is zero after commit and after drop, readable and
//                 writable
//   M3  whole     a refused call took nothing away: no page lost its access,
//                 and none its contents but by a drop
//   M4  returned  uncommitted pages count neither as resident memory nor
//                 against the system's promise of memory (overcommit)
//   M5  errno     errno is as the caller left it
//   M6  listed    a range is in the list of os/holding.h from when it is
//                 returned until it is released, as far as that has room
//
// Any thread; the range is its caller's.  No state but that list.  Under a
// sanitizer hints may be ignored.
// Design, alternatives and measurements: docs/design/os/memory.md

#ifndef OS_MEMORY_H
#define OS_MEMORY_H

#include "base/defs.h"

// The bytes of a page: a power of two.
size_t memory_page_bytes(void);

// Reserves `bytes` of address space at a multiple of `alignment` (a power of
// two, at least a page), at or near `hint` if that is free (0: anywhere).
// NULL when the system refuses.
MUST_USE void *memory_reserve(size_t bytes, size_t alignment, uintptr_t hint);

// Makes reserved pages usable and zero; false when refused.  On pages that are
// committed already it succeeds and keeps their contents.
MUST_USE bool memory_commit(void *at, size_t bytes);

// Takes pages back to reserved; contents, name and advice about huge pages are
// lost.  False when refused.
bool memory_uncommit(void *at, size_t bytes);

// Gives the pages back to the system; they stay usable and read zero.  False
// when refused.
bool memory_drop(void *at, size_t bytes);

// Ends a reservation, or a part of one, whatever its pages hold.  The system
// may refuse (when a hole would need one mapping too many): then the pages are
// dropped as far as it allows and the address space stays taken.
void memory_release(void *at, size_t bytes);

// Asks for (or against) huge pages; false when the system has none.
bool memory_huge(void *at, size_t bytes, bool on);

// The address space that this process may still take, if it gave `spare_bytes`
// back first (RLIMIT_AS less what it uses); SIZE_MAX if nothing limits it.
size_t memory_limit_bytes(size_t spare_bytes);

// The memory that this process may use: the machine's, or less if a control
// group says so.
size_t memory_physical_bytes(void);

// Whether the word at `word`, any aligned address, can be read now.  A system
// call; the answer holds for the rest of its page.
bool memory_is_readable(const void *word);

// Names the pages in /proc/self/maps ("[anon:name]"), where the kernel can.
void memory_name(void *at, size_t bytes, const char *name);

#endif
