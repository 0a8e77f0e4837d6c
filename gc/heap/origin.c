#include "heap/origin.h"

#include <string.h>

#include "base/check.h"
#include "heap/meta.h"

#define ORIGIN_PROBES ((size_t)(LOAM_TINY ? 8 : 64))
#define ORIGIN_HEADS  ((size_t)(LOAM_TINY ? 16 : 1 << 15))
#define ORIGIN_PAGE   ((size_t)1024)
#define ORIGIN_PAGES  ((size_t)(LOAM_TINY ? 1 : 1024))

struct origin_caller *origin_callers;

static struct {
    uint32_t *heads;                     // by hash: the newest; atomic
    struct origin **pages[ORIGIN_PAGES]; // by number
    uint32_t count;                      // numbers given; atomic
} origins;

bool origin_use(void) {
    if (origins.heads == NULL) {
        origins.heads = meta_make(ORIGIN_HEADS * sizeof *origins.heads);
    }
    if (origin_callers == NULL) {
        origin_callers = meta_make(ORIGIN_CALLERS * sizeof *origin_callers);
    }
    return origins.heads != NULL && origin_callers != NULL;
}

struct origin_caller *origin_find_slow(const void *code) {
    uintptr_t wanted = (uintptr_t)code;
    if (wanted == 0) {
        return NULL;
    }
    size_t at = origin_slot(wanted);
    for (size_t i = 0; i < ORIGIN_PROBES; i++) {
        struct origin_caller *caller = &origin_callers[at];
        uintptr_t found = __atomic_load_n(&caller->code, __ATOMIC_RELAXED);
        if (found == wanted ||
            (found == 0 &&
             (__atomic_compare_exchange_n(&caller->code, &found, wanted, false,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
              found == wanted))) {
            return caller;
        }
        at = (at + 1) % ORIGIN_CALLERS;
    }
    return NULL; // OR4
}

// The caller of that number, or NULL.
static struct origin_caller *origin_caller(uint32_t id) {
    return id >= ORIGIN_CALLER && id - ORIGIN_CALLER < ORIGIN_CALLERS
               ? &origin_callers[id - ORIGIN_CALLER]
               : NULL;
}

uint32_t origin_count(void) {
    return __atomic_load_n(&origins.count, __ATOMIC_ACQUIRE);
}

struct origin *origin_get(uint32_t id) {
    if (id == 0 || id > origin_count()) {
        return NULL;
    }
    return origins.pages[(id - 1) / ORIGIN_PAGE][(id - 1) % ORIGIN_PAGE];
}

static uint32_t *origin_head(const uintptr_t *frames, size_t count) {
    uint64_t hash = count;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ frames[i]) * ORIGIN_FACTOR;
        hash ^= hash >> 29;
    }
    return &origins.heads[hash % ORIGIN_HEADS];
}

static uint32_t origin_search(uint32_t id, const uintptr_t *frames,
                              size_t count) {
    while (id != 0) {
        const struct origin *origin = origin_get(id);
        if (origin->frame_count == count &&
            memcmp(origin->frames, frames, count * sizeof *frames) == 0) {
            return id; // OR1
        }
        id = origin->next;
    }
    return 0;
}

uint32_t origin_ask(const uintptr_t *frames, size_t count) {
    const uint32_t *head = origin_head(frames, count);
    return origin_search(__atomic_load_n(head, __ATOMIC_ACQUIRE), frames,
                         count);
}

// Where the stack of the next number is to stand; NULL: there is none left.
static struct origin **origin_place(void) {
    size_t page = origins.count / ORIGIN_PAGE;
    if (page >= ORIGIN_PAGES) {
        return NULL;
    }
    if (origins.pages[page] == NULL) {
        origins.pages[page] = meta_make(ORIGIN_PAGE * sizeof(struct origin *));
    }
    return origins.pages[page] == NULL
               ? NULL
               : &origins.pages[page][origins.count % ORIGIN_PAGE];
}

uint32_t origin_intern(const uintptr_t *frames, size_t count) {
    ASSERT(count <= ORIGIN_FRAMES);
    uint32_t known = origin_ask(frames, count);
    struct origin **place = known != 0 ? NULL : origin_place();
    if (place == NULL) {
        return known;
    }
    uint32_t *head = origin_head(frames, count);
    struct origin *origin = meta_make(sizeof *origin + count * sizeof *frames);
    if (origin == NULL) {
        return 0; // OR4
    }
    origin->id = origins.count + 1;
    origin->next = *head;
    origin->frame_count = (uint32_t)count;
    memcpy(origin->frames, frames, count * sizeof *frames);
    *place = origin;
    __atomic_store_n(&origins.count, origin->id, __ATOMIC_RELEASE);
    __atomic_store_n(head, origin->id, __ATOMIC_RELEASE); // OR2
    return origin->id;
}

uintptr_t origin_code(uint32_t id) {
    const struct origin_caller *caller = origin_caller(id);
    if (caller != NULL) {
        return __atomic_load_n(&caller->code, __ATOMIC_RELAXED);
    }
    const struct origin *origin = origin_get(id);
    return origin != NULL ? origin->frames[0] : 0;
}

struct origin *origin_settle(uint32_t id) {
    struct origin_caller *caller = origin_caller(id);
    if (caller == NULL) {
        return origin_get(id);
    }
    if (caller->origin == 0) {
        uintptr_t code = origin_code(id);
        caller->origin = code != 0 ? origin_intern(&code, 1) : 0;
    }
    return origin_get(caller->origin);
}

bool origin_read(const struct place *place, size_t *bytes, uint32_t *id) {
    uint64_t trail = *origin_trail(place);
    size_t rest = (size_t)(~trail >> 32);
    size_t room = origin_room(place);
    *id = (uint32_t)~trail;
    *bytes = rest <= room ? room - rest : room;
    if (rest > room || (*id > origin_count() && origin_code(*id) == 0)) {
        *id = 0;
        *bytes = room;
    }
    return trail != 0;
}
