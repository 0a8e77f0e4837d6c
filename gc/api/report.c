#include "api/report.h"

#include <string.h>

#include "api/options.h"
#include "base/text.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/range.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/output.h"
#include "os/thread.h"
#include "os/unwind.h"
#include "rc/explain.h"
#include "rc/sites.h"
#include "rc/slots.h"

#define REPORT_LINE_BYTES 512

// To whom it speaks, and how often.
static struct {
    loam_warning_fn *hook;  // the program's, or NULL
    void *data;             // what it is given
    enum options_warn warn; // as the user set it
    uint32_t said;          // a bit for each kind that was printed
} report_state;

void report_set_hook(loam_warning_fn *hook, void *data) {
    report_state.hook = hook;
    report_state.data = data;
}

void report_set_warn(enum options_warn warn) {
    report_state.warn = warn;
}

static void report_print(const char *sentence) {
    char line[REPORT_LINE_BYTES + 16];
    struct text text;
    text_init(&text, line, sizeof line - 1);
    text_add(&text, "loam: ");
    text_add(&text, sentence);
    line[text.count] = '\n';
    output_write(line, text.count + 1);
}

void report_warning(enum report_kind kind, const char *sentence) {
    if (report_state.hook != NULL) { // R1
        report_state.hook(sentence, report_state.data);
        return;
    }
    uint32_t bit = (uint32_t)1 << kind;
    uint32_t before =
        __atomic_fetch_or(&report_state.said, bit, __ATOMIC_RELAXED);
    bool said = (before & bit) != 0;
    enum options_warn warn = report_state.warn;
    // Options are each told once by their reader.
    if (warn == OPTIONS_WARN_NONE ||
        (said && warn == OPTIONS_WARN_ONCE && kind != REPORT_OPTION)) {
        return; // R2
    }
    report_print(sentence);
}

// --- Notes -----------------------------------------------------------------

#define REPORT_NOTES 4

uint32_t report_noted;

// Written under the world's lock or in a stop, taken INSIDE: whoever holds this
// lock is not stopped meanwhile.
static struct {
    struct lock lock;
    struct {
        enum report_kind kind;
        char sentence[REPORT_NOTE_BYTES];
    } notes[REPORT_NOTES]; // a ring
    uint32_t first;        // the oldest
} report_book;

// A note too many is not taken: what it tells is told again when it matters.
static void report_note(enum report_kind kind, const char *sentence) {
    lock_acquire(&report_book.lock);
    if (report_noted < REPORT_NOTES) {
        uint32_t at = (report_book.first + report_noted) % REPORT_NOTES;
        struct text text;
        text_init(&text, report_book.notes[at].sentence, REPORT_NOTE_BYTES);
        text_add(&text, sentence);
        report_book.notes[at].kind = kind;
        __atomic_store_n(&report_noted, report_noted + 1, __ATOMIC_RELAXED);
    }
    lock_release(&report_book.lock);
}

bool report_take_note(enum report_kind *kind,
                      char sentence[REPORT_NOTE_BYTES]) {
    lock_acquire(&report_book.lock);
    bool taken = report_noted != 0;
    if (taken) {
        *kind = report_book.notes[report_book.first].kind;
        memcpy(sentence, report_book.notes[report_book.first].sentence,
               REPORT_NOTE_BYTES);
        report_book.first = (report_book.first + 1) % REPORT_NOTES;
        __atomic_store_n(&report_noted, report_noted - 1, __ATOMIC_RELAXED);
    }
    lock_release(&report_book.lock);
    return taken;
}

// --- Sentences -------------------------------------------------------------

static void report_what(struct text *text, const void *pointer) {
    struct place place;
    uintptr_t word = (uintptr_t)pointer;
    if (!blockmap_find(word, &place)) {
        text_add(text, range_has(word) ? "in no object (it was freed, or "
                                         "never allocated)"
                                       : "not in the collector's heap");
        return;
    }
    if (!block_is_allocated(place.block, place.cell)) {
        text_add(text, "not in use (freed before, or found dead)");
        return;
    }
    uintptr_t start = blockmap_start(&place);
    if (start != word) {
        text_add(text, "inside an object of ");
        text_add_size(text, place.bytes - (start - place.start));
        text_add(text, " that starts at ");
        text_add_hex(text, start);
        return;
    }
    if (block_is_freed(place.block, place.cell)) {
        text_add(text, "not in use (freed before)");
        return;
    }
    if (block_kind_is_counted(place.kind)) {
        text_add(text, "counted: release it");
        return;
    }
    text_add(text, "not in use (never handed out)");
}

// "function(pointer): what is wrong; ignored; called from caller".  What is
// wrong is asked of the heap if `what` is NULL.
static void report_pointer(const char *function, const void *pointer,
                           const char *what, const void *caller) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    text_add(&text, function);
    text_add(&text, "(");
    text_add_hex(&text, (uintptr_t)pointer);
    text_add(&text, "): ");
    if (what != NULL) {
        text_add(&text, what);
    } else {
        report_what(&text, pointer);
    }
    text_add(&text, "; ignored; called from ");
    unwind_describe(&text, caller);
    report_warning(REPORT_MISUSE, sentence);
}

void report_misuse(const char *function, const void *pointer,
                   const void *caller) {
    report_pointer(function, pointer, NULL, caller);
}

void report_count(const char *function, const void *object, const char *fault,
                  const void *caller) {
    report_pointer(function, object, fault, caller);
}

void report_miscount(const char *function, const void *object,
                     const struct report_fault *fault, const void *caller) {
    char what[REPORT_LINE_BYTES / 2];
    struct text text;
    text_init(&text, what, sizeof what);
    text_add(&text, fault->what);
    if (fault->type != NULL) {
        text_add(&text, "; its type is ");
        text_add(&text, fault->type);
    }
    if (fault->last != NULL) {
        text_add(&text, ", last released at ");
        unwind_describe(&text, fault->last);
    }
    report_pointer(function, object, what, caller);
}

void report_wrong_thread(const char *function, const void *object,
                         const char *type, const void *caller) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    text_add(&text, function);
    text_add(&text, "(");
    text_add_hex(&text, (uintptr_t)object);
    text_add(&text, "): of type ");
    text_add(&text, type == NULL ? "?" : type);
    text_add(&text, ", made by another thread, which lives and may be counting "
                    "it, too; called from ");
    unwind_describe(&text, caller);
    report_warning(REPORT_OWNER, sentence);
}

void report_heap(const char *function, const void *handle, const void *caller) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    text_add(&text, function);
    if (handle == NULL) {
        text_add(&text, ": the default heap stays until the process ends");
    } else {
        text_add(&text, "(");
        text_add_hex(&text, (uintptr_t)handle);
        text_add(&text, "): not a heap (it was destroyed)");
    }
    text_add(&text, "; ignored; called from ");
    unwind_describe(&text, caller);
    report_warning(REPORT_MISUSE, sentence);
}

void report_type(const char *name, const char *fault) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    text_add(&text, "the type ");
    text_add(&text, name == NULL ? "without a name" : name);
    text_add(&text, " of counted objects is refused: ");
    text_add(&text, fault);
    report_warning(REPORT_MISUSE, sentence);
}

// "thread 4711 (name)"
static void report_add_thread(struct text *text, uint32_t thread,
                              const char *name) {
    text_add(text, "thread ");
    text_add_number(text, thread);
    if (name != NULL && name[0] != '\0') {
        text_add(text, " (");
        text_add(text, name);
        text_add(text, ")");
    }
}

void report_stop(const struct world_stop_report *why) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    text_add(&text, "a collection was given up, nothing was reclaimed: ");
    if (why->thread != 0) {
        report_add_thread(&text, why->thread, why->name);
        text_add(&text, " did not stop: ");
    }
    text_add(&text, why->reason != NULL ? why->reason
                                        : "not all threads could be found");
    report_note(REPORT_STOP, sentence);
}

static void report_add_type(struct text *text, const struct kinds_type *type) {
    text_add(text, type->name == NULL ? "?" : type->name);
}

void report_unowned(const struct slots_fault *fault) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    report_add_type(&text, fault->type);
    text_add(&text, " at ");
    text_add_hex(&text, (uintptr_t)fault->object);
    text_add(&text, " has ");
    text_add_number(&text, fault->owner_count);
    text_add(&text, fault->owner_count == 1 ? " owner" : " owners");
    text_add(&text, ", but ");
    text_add_number(&text, fault->slot_count);
    text_add(&text, " declared slots lead to it: ");
    for (uint32_t i = 0; i < fault->place_count; i++) {
        text_add(&text, i == 0 ? "" : "; ");
        report_add_type(&text, fault->places[i].type);
        text_add(&text, ", offset ");
        text_add_number(&text, fault->places[i].offset);
    }
    text_add(&text, fault->place_count == 1
                        ? ": not all that was stored there was retained"
                        : ": what was stored in one of them was not retained");
    report_note(REPORT_SLOT, sentence);
}

void report_undeclared(const struct explain_others *others) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    report_add_type(&text, others->place.type);
    text_add(&text, ", offset ");
    text_add_number(&text, others->place.offset);
    text_add(&text, ", is no declared slot, and seems to own ");
    text_add_number(&text, others->exact_count);
    text_add(&text, others->exact_count == 1 ? " forgotten object of type "
                                             : " forgotten objects of type ");
    report_add_type(&text, others->target);
    text_add(&text,
             ": no other owner of theirs is known, and none of its other "
             "words speaks against it; declare it, or somebody else "
             "forgot them");
    report_warning(REPORT_OTHERS, sentence);
}

void report_blind(void) {
    report_note(REPORT_BLIND,
                "the thread-local variables of this C library are not found "
                "by collections: keep what they refer to in another place");
}

void report_unseen(void) {
    report_note(REPORT_UNSEEN,
                "what the program has mapped is not told by the system (no "
                "/proc, or no descriptor is left): a pointer that stands in "
                "such memory alone no longer keeps what was freed from being "
                "used again");
}

void report_thread(uint32_t thread, const char *name, const char *reason) {
    char sentence[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    report_add_thread(&text, thread, name);
    text_add(&text, ": ");
    text_add(&text, reason);
    report_note(REPORT_THREAD, sentence);
}

static void report_option(const struct options_row *row, void *data) {
    char line[REPORT_LINE_BYTES];
    struct text text;
    (void)data;
    text_init(&text, line, sizeof line);
    text_add(&text, row->name);
    text_add(&text, "=");
    text_add(&text, row->initial);
    text_add(&text, "   (");
    text_add(&text, row->form);
    text_add(&text, ")");
    report_print(line);
    text_init(&text, line, sizeof line);
    text_add(&text, "    ");
    text_add(&text, row->meaning);
    report_print(line);
}

void report_options(void) {
    options_each(report_option, NULL);
}

static void report_add_size(struct text *text, const char *before,
                            size_t bytes) {
    text_add(text, before);
    text_add_size(text, bytes);
}

static void report_line(const char *name, uint64_t bytes) {
    char line[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, line, sizeof line);
    report_add_size(&text, name, bytes);
    report_print(line);
}

void report_forgotten(const char *type, size_t count, const void *example,
                      const void *made) {
    char line[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, line, sizeof line);
    text_add(&text, "at exit: forgotten, of type ");
    text_add(&text, type);
    text_add(&text, ": ");
    text_add_number(&text, count);
    text_add(&text, count == 1 ? " object, at " : " objects, one at ");
    text_add_hex(&text, (uintptr_t)example);
    if (made != NULL) {
        text_add(&text, ", made at ");
        unwind_describe(&text, made);
    }
    report_print(line);
}

static void report_add_share(struct text *text, const char *what,
                             uint64_t these, uint64_t all) {
    if (all != 0) {
        text_add(text, what);
        text_add_number(text, these);
        text_add(text, " of ");
        text_add_number(text, all);
    }
}

void report_site(const struct site *these, const struct site *all) {
    char line[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, line, sizeof line);
    text_add(&text, "    ");
    if (all->code == 0) {
        text_add(&text, "other places");
    } else {
        unwind_describe(&text, (const void *)all->code);
    }
    report_add_share(&text, ": made ", these->made, all->made);
    report_add_share(&text, ": retained ", these->retained, all->retained);
    report_add_share(&text, ": released ", these->released, all->released);
    report_print(line);
}

void report_exit(const struct loam_stats *stats, bool holds) {
    char line[REPORT_LINE_BYTES];
    struct text text;
    text_init(&text, line, sizeof line);
    char name[32];
    size_t length = file_read("/proc/self/comm", name, sizeof name);
    text_add(&text, "process ");
    text_add_number(&text, thread_process_id());
    if (length != 0) {
        name[length - 1] = '\0'; // a newline
        for (char *c = name; *c != '\0'; c++) {
            *c = *c < ' ' || *c > '~' ? '?' : *c;
        }
        text_add(&text, " (");
        text_add(&text, name);
        text_add(&text, ")");
    }
    text_add(&text, " at exit: ");
    text_add_number(&text, stats->collections);
    text_add(&text, " collections, pauses ");
    text_add_time(&text, stats->pause_ns_total);
    text_add(&text, " in all, longest ");
    text_add_time(&text, stats->pause_ns_max);
    text_add(&text, "; stopping threads ");
    text_add_time(&text, stats->stop_ns_total);
    text_add(&text, ", longest ");
    text_add_time(&text, stats->stop_ns_max);
    if (stats->collections_failed != 0) {
        text_add(&text, "; given up ");
        text_add_number(&text, stats->collections_failed);
    }
    report_print(line);
    report_line("allocated         ", stats->allocated_bytes);
    report_line(holds ? "  freed at once   " : "  freed by hand   ",
                stats->freed_bytes);
    report_line("  collected       ", stats->collected_bytes);
    report_line("  in objects now  ", stats->used_bytes);
    text_init(&text, line, sizeof line);
    report_add_size(&text, "heap committed    ", stats->heap_bytes);
    report_add_size(&text, ", at most ", stats->heap_bytes_max);
    report_add_size(&text, ", in blocks ", stats->block_bytes);
    report_add_size(&text, "; side tables ", stats->metadata_bytes);
    report_print(line);
}
