#include "rc/sites.h"

#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/counted.h"
#include "heap/meta.h"

#define SITES_FACTOR UINT64_C(0x9E3779B97F4A7C15)

struct sites *sites_make(void) {
    return meta_make(sizeof(struct sites));
}

static uint64_t sites_magic(const void *object) {
    return ~((uint64_t)(uintptr_t)object * SITES_FACTOR);
}

static struct sites_trail *sites_behind(const struct place *place) {
    uintptr_t end = place->start + place->bytes;
    return (struct sites_trail *)(end - sizeof(struct sites_trail)); // SI2
}

struct sites_trail *sites_trail(const void *object) {
    struct place place;
    if (!blockmap_find((uintptr_t)object, &place) ||
        !block_kind_is_counted(place.kind) ||
        blockmap_start(&place) != (uintptr_t)object ||
        place.bytes <
            sizeof(struct sites_trail) + block_kind_front(place.kind)) {
        return NULL;
    }
    struct sites_trail *trail = sites_behind(&place);
    return trail->magic == sites_magic(object) ? trail : NULL; // SI3
}

const struct kinds_type *sites_type(const struct sites_trail *trail) {
    uint32_t id = ~trail->type;
    return id > COUNTED_TYPE_MAX ? NULL : kinds_get(id);
}

// The number of the site at `code`, which gets one if there is room.
static uint32_t sites_find(struct sites *sites, const void *code) {
    uintptr_t wanted = (uintptr_t)code;
    uint32_t at = (uint32_t)(wanted * SITES_FACTOR >> 32) % SITES_MAX;
    for (uint32_t i = 0; i < SITES_MAX; i++) {
        uintptr_t found = 0;
        uintptr_t *place = &sites->items[at].code;
        if (__atomic_compare_exchange_n(place, &found, wanted, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
            found == wanted) {
            return at;
        }
        at = at + 1 == SITES_MAX ? 0 : at + 1;
    }
    return SITES_MAX; // SI1
}

// The entry for a site, which gets one if there is room; else the last.
static struct sites_entry *sites_entry(struct sites_trail *trail,
                                       uint16_t index) {
    for (uint32_t i = 0; i < SITES_OF_TRAIL - 1; i++) {
        uint16_t found = SITES_NONE;
        uint16_t *place = &trail->entries[i].index;
        if (__atomic_compare_exchange_n(place, &found, index, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
            found == index) {
            return &trail->entries[i];
        }
    }
    struct sites_entry *last = &trail->entries[SITES_OF_TRAIL - 1];
    __atomic_store_n(&last->index, (uint16_t)SITES_MAX, __ATOMIC_RELAXED);
    return last;
}

static void sites_count(uint16_t *number) {
    if (__atomic_load_n(number, __ATOMIC_RELAXED) != UINT16_MAX) {
        __atomic_fetch_add(number, 1, __ATOMIC_RELAXED);
    }
}

void sites_begin(void *object, const struct kinds_type *type, uint32_t owner,
                 const void *code) {
    struct place place;
    if (!blockmap_find((uintptr_t)object, &place)) {
        return;
    }
    struct sites_trail *trail = sites_behind(&place);
    *trail = (struct sites_trail){.magic = sites_magic(object),
                                  .owner = owner,
                                  .type = ~type->id,
                                  .made = (uintptr_t)code};
    for (uint32_t i = 0; i < SITES_OF_TRAIL; i++) {
        trail->entries[i].index = SITES_NONE;
    }
    if (type->sites != NULL) {
        uint32_t at = sites_find(type->sites, code);
        __atomic_fetch_add(&type->sites->items[at].made, 1, __ATOMIC_RELAXED);
        trail->entries[0].index = (uint16_t)at;
    }
}

void sites_note(const struct kinds_type *type, struct sites_trail *trail,
                enum sites_change change, const void *code) {
    bool retained = change == SITES_RETAINED;
    if (!retained) {
        __atomic_store_n(&trail->last, (uintptr_t)code, __ATOMIC_RELAXED);
    }
    if (type->sites == NULL) {
        return;
    }
    uint32_t at = sites_find(type->sites, code);
    struct site *site = &type->sites->items[at];
    __atomic_fetch_add(retained ? &site->retained : &site->released, 1,
                       __ATOMIC_RELAXED);
    struct sites_entry *entry = sites_entry(trail, (uint16_t)at);
    sites_count(retained ? &entry->retained : &entry->released);
}

void sites_add(struct sites *sum, const struct sites_trail *trail) {
    for (uint32_t i = 0; i < SITES_OF_TRAIL; i++) {
        const struct sites_entry *entry = &trail->entries[i];
        if (entry->index <= SITES_MAX) {
            struct site *site = &sum->items[entry->index];
            site->made += i == 0;
            site->retained += entry->retained;
            site->released += entry->released;
        }
    }
}
