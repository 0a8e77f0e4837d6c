// rc_again — functions of loam/rc.h by which an object is had again: through a
// weak reference, or its memory as another.
//
// Design, alternatives and measurements: docs/design/api/counting.md

#include "loam/rc.h"

#include <string.h>

#include "api/counting.h"
#include "api/object.h"
#include "heap/handle.h"
#include "rc/count.h"
#include "rc/kinds.h"

void *loam_weak_retain(const struct loam_weak *weak) {
    const struct handle *handle = (const struct handle *)weak;
    uintptr_t target = handle_get(handle);
    struct place place;
    if (target == 0 || !blockmap_find(target, &place)) {
        return NULL;
    }
    if (!block_kind_is_counted(place.kind)) {
        return (void *)target; // the tracer's: to hold it is enough
    }
    struct counting *counting = counting_here();
    void *object = (void *)blockmap_start(&place);
    return counting != NULL && count_retain_living(&counting->domain, object)
               ? (void *)target
               : NULL;
}

// Whether an object of `type` can be made of one of `old`, which nobody else
// knows of.
static bool rc_fits(const void *object, const struct kinds_type *old,
                    const struct kinds_type *type) {
    struct place place;
    const uint32_t others = KINDS_SHARED | KINDS_ATOMIC | KINDS_DEFERRED |
                            KINDS_TRACED | KINDS_QUARANTINE;
    return old != NULL && old->finalize == NULL &&
           !((old->flags | type->flags) & others) && old->kind == type->kind &&
           !(counted_flags(object) & (COUNTED_KEPT | COUNTED_DEAD)) &&
           object_is_start(object, &place) &&
           type->bytes <= place.bytes - type->front;
}

void *loam_reuse(void *object, struct loam_type *description) {
    const struct kinds_type *type = counting_type(description);
    struct counting *counting = counting_here();
    if (type == NULL || counting == NULL || !loam_unique(object) ||
        !rc_fits(object, kinds_get(counted_type(object)), type)) {
        return NULL;
    }
    const struct kinds_type *old = kinds_of(object);
    struct counted *head = counted_of(object);
    head->word |= COUNTED_DEAD | COUNTED_QUIET;
    if (old->destroy != NULL) {
        old->destroy(object);
    }
    count_release_slots(&counting->domain, object, old);
    memset(object, 0, old->bytes > type->bytes ? old->bytes : type->bytes);
    *head = (struct counted){type->word, type->id << COUNTED_TYPE_SHIFT};
    counting->domain.figures.destroyed++;
    counting->domain.figures.made++;
    counting_drain(counting, counting->domain.step);
    return object;
}
