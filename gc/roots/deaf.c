#include "roots/deaf.h"

#include "heap/meta.h"
#include "os/suspend.h"
#include "os/tracer.h"
#include "roots/mutator.h"

enum deaf_answer deaf_ask(struct record *record, struct task_status *status) {
    if (!task_read(record->thread, status)) {
        // Either it is gone or the system does not tell.
        return suspend_is_thread(record->thread) ? DEAF_LOST : DEAF_GONE;
    }
    if (status->state == 'Z' || status->state == 'X') {
        return DEAF_GONE; // D1
    }
    record->apart = status->is_worker && record->mutator == NULL;
    record->deaf = suspend_is_in(status->blocked);
    record->slow = status->state == 'R';
    if (record->apart) {
        return DEAF_APART;
    }
    if (record->deaf || record->refused) {
        return DEAF_BLOCKS;
    }
    return suspend_is_in(status->pending) ? DEAF_PENDING : DEAF_LOST;
}

// Whether it may not be stopped where it is.
static bool deaf_is_inside(const struct mutator *mutator) {
    return mutator != NULL &&
           __atomic_load_n(&mutator->busy, __ATOMIC_RELAXED) ==
               MUTATOR_INSIDE &&
           __atomic_load_n(&mutator->state, __ATOMIC_SEQ_CST) == MUTATOR_RUNS;
}

bool deaf_trace(struct record *record) {
    if (deaf_is_inside(record->mutator)) {
        return false; // it stops by itself when it comes out
    }
    if (record->file == NULL) {
        record->file = meta_make(sizeof *record->file);
    }
    if (record->file == NULL) {
        return false;
    }
    if (!tracer_stop(record->thread, record->file)) {
        record->slow &= !tracer_was_refused();
        return false;
    }
    if (deaf_is_inside(record->mutator)) {
        tracer_free(record->thread); // D2
        return false;
    }
    record->hot_end =
        (const void *)(record->file->stack_pointer - SUSPEND_RED_ZONE_BYTES);
    record->thread_pointer = record->file->thread_pointer;
    record->alternate_lowest = record->alternate_end = NULL;
    record->stop = RECORD_TRACED;
    return true;
}

const char *deaf_reason(const struct record *record,
                        const struct task_status *status) {
    if (record->refused) { // D3
        return "the system lets nobody signal it, nor trace it";
    }
    if (suspend_is_in(status->blocked)) {
        return "it blocks the signal, and the system lets nobody trace it";
    }
    bool is_inside = deaf_is_inside(record->mutator);
    switch (status->state) { // D3
    case 'D':
        return "it waits in the system, where nothing interrupts it";
    case 't':
    case 'T':
        return "it is held by a debugger or by job control";
    case 'R':
        return is_inside ? "it gets no processor, in the middle of Loam's work"
                         : "it gets no processor";
    default:
        break;
    }
    if (is_inside) {
        return "it sleeps in the middle of Loam's work";
    }
    return suspend_is_in(status->pending)
               ? "it sleeps, and does not take the signal that waits for it"
               : "it took the signal, and did not stop";
}
