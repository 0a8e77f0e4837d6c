#include "rc/kinds.h"

#include "heap/block.h"
#include "heap/meta.h"

struct kinds_type *kinds_table[COUNTED_TYPE_MAX + 2];

static uint32_t kinds_count;
static bool kinds_any_deferred; // atomic
static bool kinds_any_checked;  // atomic

bool kinds_defers(void) {
    return __atomic_load_n(&kinds_any_deferred, __ATOMIC_RELAXED);
}

bool kinds_checks(void) {
    return __atomic_load_n(&kinds_any_checked, __ATOMIC_RELAXED);
}

const char *kinds_fault(const struct kinds_type *type) {
    if (type->flags & ~(uint32_t)KINDS_FLAGS) {
        return "unknown flags";
    }
    bool is_shared = type->flags & (KINDS_SHARED | KINDS_ATOMIC);
    if ((type->flags & KINDS_SHARED) && (type->flags & KINDS_ATOMIC)) {
        return "both shared and atomic";
    }
    if ((type->flags & KINDS_DEFERRED) && is_shared) {
        return "deferred, and shared by threads";
    }
    if ((type->flags & KINDS_LEAF) &&
        (type->slot_count != 0 || type->visit != NULL)) {
        return "a leaf with slots";
    }
    if (type->bytes == 0 || type->bytes > PTRDIFF_MAX / 2) {
        return "absurd size";
    }
    if (type->slot_count != 0 && type->slots == NULL) {
        return "no list of slots";
    }
    for (uint32_t i = 0; i < type->slot_count; i++) { // TY3
        uint32_t at = type->slots[i];
        if (at % WORD_BYTES != 0 || at > type->bytes ||
            type->bytes - at < WORD_BYTES) {
            return "a slot outside of the object, or not aligned";
        }
        for (uint32_t j = 0; j < i; j++) {
            if (type->slots[j] == at) {
                return "a slot twice";
            }
        }
    }
    return NULL;
}

static uint32_t kinds_kind(uint32_t flags) {
    if (flags & KINDS_SHARED) {
        return flags & KINDS_LEAF ? KIND_BIASED_LEAF : KIND_BIASED;
    }
    return flags & KINDS_LEAF ? KIND_COUNTED_LEAF : KIND_COUNTED;
}

const struct kinds_type *kinds_add(const struct kinds_type *type) {
    if (kinds_count == COUNTED_TYPE_MAX) {
        return NULL;
    }
    struct kinds_type *own = meta_make(sizeof *own);
    if (own == NULL) {
        return NULL;
    }
    *own = *type;
    if (own->slot_count == 0 && own->visit == NULL) {
        own->flags |= KINDS_ACYCLIC;
    }
    own->id = ++kinds_count; // TY2
    own->kind = kinds_kind(own->flags);
    own->front = (uint32_t)block_kind_front(own->kind);
    own->word = own->flags & KINDS_DEFERRED ? 0 : COUNTED_ONE;
    if (own->flags & (KINDS_SHARED | KINDS_ATOMIC)) {
        own->word |= COUNTED_OTHER;
    }
    if ((own->flags & KINDS_ACYCLIC) && !(own->word & COUNTED_OTHER)) {
        own->word |= COUNTED_QUIET;
    }
    if (own->flags & KINDS_CHECKED) {
        own->word |= COUNTED_OTHER;
        __atomic_store_n(&kinds_any_checked, true, __ATOMIC_RELAXED);
    }
    const uint32_t late =
        KINDS_DEFERRED | KINDS_TRACED | KINDS_SHARED | KINDS_QUARANTINE;
    own->is_simple = own->destroy == NULL && own->finalize == NULL &&
                     own->visit == NULL && (own->flags & late) == 0;
    if (own->flags & KINDS_DEFERRED) {
        __atomic_store_n(&kinds_any_deferred, true, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&kinds_table[own->id], own, __ATOMIC_RELEASE); // TY1
    return own;
}
