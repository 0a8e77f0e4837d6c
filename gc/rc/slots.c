#include "rc/slots.h"

#include <string.h>

#include "heap/counted.h"
#include "rc/bias.h"

void slots_begin(struct slots_fault *fault, const void *object) {
    const struct kinds_type *type = kinds_of(object);
    *fault = (struct slots_fault){.object = object, .type = type};
    fault->owner_count =
        type->flags & KINDS_SHARED
            ? bias_count(object)
            : (counted_flags(object) & COUNTED_COUNT_MASK) / COUNTED_ONE;
}

static void slots_add_place(struct slots_fault *fault,
                            const struct kinds_type *type, size_t offset) {
    for (uint32_t i = 0; i < fault->place_count; i++) {
        if (fault->places[i].type == type &&
            fault->places[i].offset == offset) {
            return;
        }
    }
    if (fault->place_count < SLOTS_PLACES) {
        fault->places[fault->place_count++] =
            (struct slots_place){type, offset};
    }
}

// A look for the slots of one object that hold a pointer, or are at a place.
struct slots_look {
    const char *object;
    uintptr_t target;          // 0: any
    const void *at;            // the slot there alone, or NULL
    struct slots_fault *fault; // is told, or NULL
    size_t count, offset;      // how many; the last
};

static void slots_one(void *slot, void *data) {
    struct slots_look *look = data;
    uintptr_t word;
    memcpy(&word, slot, sizeof word);
    bool wanted = look->target == 0 || word == look->target;
    if (wanted && (look->at == NULL || slot == look->at)) {
        look->count++;
        look->offset = (size_t)((const char *)slot - look->object);
        if (look->fault != NULL) {
            slots_add_place(look->fault, kinds_of(look->object), look->offset);
        }
    }
}

static void slots_each(struct slots_look *look, void *object,
                       const struct kinds_type *type) {
    look->object = object;
    for (uint32_t i = 0; i < type->slot_count; i++) {
        slots_one((char *)object + type->slots[i], look);
    }
    if (type->visit != NULL) {
        type->visit(object, slots_one, look); // SL1
    }
}

void slots_blame(struct slots_fault *fault, void *owner) {
    struct slots_look look = {.target = (uintptr_t)fault->object,
                              .fault = fault};
    slots_each(&look, owner, kinds_of(owner));
    fault->slot_count += look.count;
}

size_t slots_to(void *object, const struct kinds_type *type, const void *target,
                size_t *offset) {
    struct slots_look look = {.target = (uintptr_t)target};
    slots_each(&look, object, type);
    *offset = look.offset;
    return look.count;
}

static bool slots_declares(void *object, const struct kinds_type *type,
                           const void *at) {
    struct slots_look look = {.at = at};
    slots_each(&look, object, type);
    return look.count != 0;
}

void slots_visit_others(void *object, const struct kinds_type *type,
                        size_t bytes, slots_visit *visit, void *data) {
    if (type->flags & KINDS_LEAF) {
        return;
    }
    for (size_t at = 0; at + WORD_BYTES <= bytes - type->trail_bytes;
         at += WORD_BYTES) {
        const char *place = (const char *)object + at;
        uintptr_t word;
        memcpy(&word, place, sizeof word);
        if (word != 0 && !slots_declares(object, type, place)) {
            visit(word, at, data); // SL2
        }
    }
}
