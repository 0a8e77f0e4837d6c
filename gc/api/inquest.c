#include "api/inquest.h"

#include <string.h>

#include "api/cycles.h"
#include "api/init.h"
#include "api/options.h"
#include "api/report.h"
#include "api/zeroes.h"
#include "collect/collect.h"
#include "heap/counted.h"
#include "heap/meta.h"
#include "loam/rc.h"
#include "os/error.h"
#include "rc/explain.h"
#include "rc/kinds.h"
#include "rc/others.h"
#include "roots/world.h"

#define INQUEST_ROOM ((size_t)(LOAM_TINY ? 4 : 256))

// --- Who is asked ------------------------------------------------------------

static bool inquest_has_name(const char *list, const char *name) {
    size_t length = strlen(name);
    for (;;) {
        size_t here = strcspn(list, ",");
        if (here == length && memcmp(list, name, length) == 0) {
            return true;
        }
        if (list[here] == '\0') {
            return false;
        }
        list += here + 1;
    }
}

static bool inquest_is_traced(const char *name) {
    const char *list = init_state.options.rc_trace;
    return list != NULL && (inquest_has_name(list, "all") ||
                            (name != NULL && inquest_has_name(list, name)));
}

static bool inquest_is_checked(void) {
    return (init_state.options.check_flags & OPTIONS_CHECK_RC) != 0;
}

void inquest_type(struct kinds_type *type) {
    bool traced = inquest_is_traced(type->name);
    // Of what is held without a count no count tells who forgot; and a head
    // that is OTHER and counts 0 may be released inline.
    if ((type->flags & (KINDS_DEFERRED | KINDS_TRACED)) ||
        !(traced || inquest_is_checked())) {
        return; // IQ1
    }
    type->flags |= KINDS_CHECKED;
    type->trail_bytes = sizeof(struct sites_trail);
    type->sites = traced ? sites_make() : NULL;
}

// --- Counts ------------------------------------------------------------------

void inquest_made(const struct counting *counting, void *object,
                  const struct kinds_type *type, const void *caller) {
    sites_begin(object, type, counting->domain.owner, caller);
}

// Whether another thread than the caller's, which made it, lives.
static bool inquest_is_foreign(const struct counting *counting,
                               const struct kinds_type *type,
                               const struct sites_trail *trail) {
    if (trail->owner == counting->domain.owner ||
        (type->flags & (KINDS_SHARED | KINDS_ATOMIC))) {
        return false;
    }
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    const struct mutator *owner = world_find(trail->owner & ~COUNTED_OWNER_BIT);
    bool is_foreign = owner != NULL && !owner->leaving;
    init_unlock(mutator);
    return is_foreign; // IQ3
}

void inquest_changed(const struct counting *counting, void *object,
                     enum sites_change change, const void *caller) {
    const struct kinds_type *type = kinds_get(counted_type(object));
    if (type == NULL || !(type->flags & KINDS_CHECKED) ||
        (counted_flags(object) & COUNTED_DEAD)) {
        return;
    }
    struct sites_trail *trail = sites_trail(object);
    if (trail == NULL) {
        return;
    }
    if (init_is_free(init_mutator) &&
        inquest_is_foreign(counting, type, trail)) {
        report_wrong_thread(change == SITES_RETAINED ? "loam_retain"
                                                     : "loam_release",
                            object, type->name, caller);
    }
    sites_note(type, trail, change, caller);
}

void inquest_refuse(const char *function, enum count_fault fault,
                    const void *object, const void *caller) {
    static const char *const faults[] = {
        [COUNT_FREED] = "not a counted object, or freed",
        [COUNT_GONE] = "destroyed already",
        [COUNT_TOO_OFTEN] = "released more often than retained"};
    const struct sites_trail *trail = sites_trail(object);
    const struct kinds_type *type =
        trail != NULL ? sites_type(trail) : kinds_get(counted_type(object));
    struct report_fault told = {
        .what = faults[fault],
        .type = type == NULL ? NULL : type->name,
        .last = trail == NULL ? NULL : (const void *)trail->last};
    report_miscount(function, object, &told, caller);
}

// --- Who counted -------------------------------------------------------------

static void inquest_visit(const struct kinds_type *type,
                          const struct site *site, loam_ledger_fn *visit,
                          void *data) {
    struct loam_ledger entry = {.type = type->origin,
                                .site = (const void *)site->code,
                                .made = site->made,
                                .retained = site->retained,
                                .released = site->released};
    if (visit != NULL) {
        visit(&entry, data);
    }
}

// Of a type, what all its sites tell, or what `sum` does of the same ones.
static size_t inquest_visit_all(const struct kinds_type *type,
                                const struct sites *sum, loam_ledger_fn *visit,
                                void *data) {
    size_t count = 0;
    for (uint32_t i = 0; i <= SITES_MAX; i++) {
        struct site site = sum->items[i];
        site.code = type->sites->items[i].code;
        if ((site.made | site.retained | site.released) != 0) {
            inquest_visit(type, &site, visit, data);
            count++;
        }
    }
    return count;
}

static size_t inquest_visit_object(const void *object, loam_ledger_fn *visit,
                                   void *data) {
    const struct sites_trail *trail = sites_trail(object);
    const struct kinds_type *type = trail == NULL ? NULL : sites_type(trail);
    if (type == NULL || type->sites == NULL) {
        return 0;
    }
    struct sites sum;
    memset(&sum, 0, sizeof sum);
    sites_add(&sum, trail);
    return inquest_visit_all(type, &sum, visit, data);
}

size_t loam_rc_ledger(const void *object, loam_ledger_fn *visit, void *data) {
    if (object != NULL) {
        return inquest_visit_object(object, visit, data);
    }
    size_t count = 0;
    const struct kinds_type *type;
    for (unsigned id = 1; (type = kinds_get(id)) != NULL; id++) {
        if (type->sites != NULL) {
            count += inquest_visit_all(type, type->sites, visit, data);
        }
    }
    return count;
}

// --- Who forgot to release -------------------------------------------------

// A cycle that is asked for lists what it keeps only because some owner is not
// known.  The list is meta memory, which no cycle takes for a root, and as long
// as is needed: when it was too short, another cycle is run.

// One list is filled at a time.
static bool inquest_ask(struct explain_list *list) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool mine = init_state.conductor.list == NULL;
    if (mine) {
        init_state.conductor.list = list;
    }
    init_unlock(mutator);
    return mine;
}

static void inquest_give(struct explain_list *list) {
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        if (list->capacity != 0) {
            meta_free(list->items, list->capacity * sizeof *list->items);
        }
        init_unlock(mutator);
    }
    *list = (struct explain_list){.count = 0};
}

static bool inquest_make(struct explain_list *list, size_t capacity) {
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        list->items = meta_make(capacity * sizeof *list->items);
        list->capacity = list->items == NULL ? 0 : capacity;
        init_unlock(mutator);
    }
    return list->capacity != 0;
}

// One cycle; false when there was none.
static bool inquest_collect(struct explain_list *list) {
    if (!inquest_ask(list)) {
        error_set_invalid();
        return false;
    }
    bool done = init_collect(&init_state.home.collector);
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        init_state.conductor.list = NULL;
        init_unlock(mutator);
    }
    if (!done) {
        error_set_no_memory();
    }
    return done;
}

// Cycles until the list is long enough; the caller gives it back.
static bool inquest_find(struct explain_list *list) {
    size_t capacity = INQUEST_ROOM;
    do {
        inquest_give(list);
        if (!inquest_make(list, capacity)) {
            error_set_no_memory();
            return false;
        }
        if (!inquest_collect(list)) {
            return false;
        }
        capacity = list->count + list->count / 8;
    } while (list->count > list->capacity);
    return true;
}

static void inquest_tell_others(const struct explain_list *list) {
    for (uint32_t i = 0; i < EXPLAIN_PLACES; i++) {
        if (others_is_told(&list->others[i])) {
            report_undeclared(&list->others[i]);
        }
    }
}

// As loam_settle, which stands above.
static void inquest_settle(struct counting *counting) {
    (void)counting_drain(counting, 0);
    (void)zeroes_settle(counting);
    (void)cycles_settle(counting);
}

size_t loam_rc_forgotten(loam_forgotten_fn *visit, void *data) {
    struct counting *counting = counting_here();
    struct explain_list list = {.count = 0};
    if (counting == NULL) {
        error_set_no_memory();
        return SIZE_MAX;
    }
    inquest_settle(counting);
    bool found = inquest_find(&list);
    size_t count = list.count;
    inquest_tell_others(&list);
    for (size_t i = 0; found && visit != NULL && i < count; i++) {
        const struct explain_named *named = &list.items[i];
        struct loam_forgotten forgotten = {.object = named->object,
                                           .type = named->type->origin,
                                           .owners = named->owner_count};
        visit(&forgotten, data);
    }
    inquest_give(&list);
    inquest_settle(counting);
    return found ? count : SIZE_MAX;
}

// Who counted the objects of a type, and how often the forgotten of these: also
// a site that has nothing to do with them, for it may be the one that should.
static void inquest_tell_sites(const struct kinds_type *type,
                               const struct sites *sum) {
    for (uint32_t i = 0; i <= SITES_MAX; i++) {
        const struct site *all = &type->sites->items[i];
        if ((all->made | all->retained | all->released) != 0) {
            report_site(&sum->items[i], all);
        }
    }
}

// Says how many there are of the type of the object at `from`, which is the
// first of it, and takes these off the list.
static void inquest_tell(const struct explain_list *list, size_t from) {
    const struct kinds_type *type = list->items[from].type;
    const struct sites_trail *first = sites_trail(list->items[from].object);
    struct sites sum;
    memset(&sum, 0, sizeof sum);
    size_t count = 0;
    for (size_t i = from; i < list->count; i++) {
        if (list->items[i].type != type) {
            continue;
        }
        const struct sites_trail *trail = sites_trail(list->items[i].object);
        if (trail != NULL && type->sites != NULL) {
            sites_add(&sum, trail);
        }
        list->items[i].type = NULL;
        count++;
    }
    report_forgotten(type->name == NULL ? "?" : type->name, count,
                     list->items[from].object,
                     first == NULL ? NULL : (const void *)first->made);
    if (type->sites != NULL) {
        inquest_tell_sites(type, &sum);
    }
}

// Beside the summary of loam.c, after the program's own handlers.
__attribute__((destructor)) static void inquest_exit(void) {
    struct explain_list list = {.count = 0};
    if (!init_state.built || !explain_is_used() ||
        (!inquest_is_checked() && init_state.options.rc_trace == NULL)) {
        return;
    }
    if (inquest_find(&list)) {
        for (size_t i = 0; i < list.count; i++) {
            if (list.items[i].type != NULL) {
                inquest_tell(&list, i);
            }
        }
        inquest_tell_others(&list);
    }
    inquest_give(&list);
}
