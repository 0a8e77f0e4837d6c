#include "api/caches_wheel.h"

#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "base/bits.h"
#include "base/check.h"

#define CACHES_WHEEL_BITS 6

struct caches_wheel *caches_wheel_make(uint64_t now) {
    struct caches_wheel *wheel =
        object_make_in(&init_state.home.collector, sizeof *wheel,
                       (struct order){.kind = KIND_LEAF});
    if (wheel != NULL) {
        memset(wheel, 0, sizeof *wheel);
        wheel->now = now;
        wheel->next = UINT64_MAX;
    }
    return wheel;
}

// The ring of a time, and its place there.
static unsigned caches_wheel_ring(const struct caches_wheel *wheel,
                                  uint64_t time, unsigned *place) {
    uint64_t apart = time ^ wheel->now;
    unsigned ring =
        apart == 0 ? 0 : (unsigned)bits_log2_floor(apart) / CACHES_WHEEL_BITS;
    *place = time >> ring * CACHES_WHEEL_BITS & (CACHES_WHEEL_PLACES - 1);
    return ring;
}

// When the wheel's time comes to a place of a ring.
static uint64_t caches_wheel_time(const struct caches_wheel *wheel,
                                  unsigned ring, unsigned place) {
    unsigned shift = ring * CACHES_WHEEL_BITS;
    uint64_t above = ring + 1 < CACHES_WHEEL_RINGS
                         ? UINT64_MAX << (shift + CACHES_WHEEL_BITS)
                         : 0;
    return (wheel->now & above) | (uint64_t)place << shift;
}

void caches_wheel_add(struct caches_wheel *wheel, struct caches_alarm *alarm) {
    ASSERT(alarm->expires >= wheel->now);
    unsigned place;
    unsigned ring = caches_wheel_ring(wheel, alarm->expires, &place); // CW1
    struct caches_alarm **head = &wheel->places[ring][place];
    bool is_first = (wheel->used[ring] >> place & 1) == 0;
    alarm->sooner = NULL;
    alarm->later = is_first ? NULL : *head;
    if (!is_first) {
        (*head)->sooner = alarm;
    }
    *head = alarm;
    wheel->used[ring] |= (uint64_t)1 << place;
    wheel->count++;
    uint64_t time = caches_wheel_time(wheel, ring, place);
    wheel->next = time < wheel->next ? time : wheel->next; // CW4
}

void caches_wheel_remove(struct caches_wheel *wheel,
                         struct caches_alarm *alarm) {
    unsigned place;
    unsigned ring = caches_wheel_ring(wheel, alarm->expires, &place);
    if (alarm->later != NULL) {
        alarm->later->sooner = alarm->sooner;
    }
    if (alarm->sooner != NULL) {
        alarm->sooner->later = alarm->later;
    } else {
        wheel->places[ring][place] = alarm->later;
        if (alarm->later == NULL) {
            wheel->used[ring] &= ~((uint64_t)1 << place);
        }
    }
    alarm->later = alarm->sooner = NULL;
    wheel->count--;
}

// The first place in use: in the lowest ring that has one, for the wheel's time
// comes to all of a ring before it comes to the next place of the ring above.
static bool caches_wheel_first(const struct caches_wheel *wheel, unsigned *ring,
                               unsigned *place) {
    for (*ring = 0; *ring < CACHES_WHEEL_RINGS; ++*ring) {
        if (wheel->used[*ring] != 0) {
            *place = (unsigned)bits_lowest(wheel->used[*ring]);
            return true;
        }
    }
    return false;
}

// The entries of a place to which the time has come, to rings below.
static void caches_wheel_lower(struct caches_wheel *wheel, unsigned ring,
                               unsigned place) {
    struct caches_alarm *alarm = wheel->places[ring][place];
    wheel->used[ring] &= ~((uint64_t)1 << place);
    while (alarm != NULL) {
        struct caches_alarm *later = alarm->later;
        wheel->count--;
        caches_wheel_add(wheel, alarm); // CW3
        alarm = later;
    }
}

struct caches_alarm *caches_wheel_due(struct caches_wheel *wheel,
                                      uint64_t now) {
    unsigned ring, place;
    if (now < wheel->next) {
        wheel->now = now > wheel->now ? now : wheel->now;
        return NULL;
    }
    while (caches_wheel_first(wheel, &ring, &place)) {
        uint64_t time = caches_wheel_time(wheel, ring, place);
        wheel->next = time;
        if (time > now) {
            wheel->now = now > wheel->now ? now : wheel->now;
            return NULL;
        }
        wheel->now = time;
        if (ring == 0) {
            struct caches_alarm *alarm = wheel->places[0][place];
            caches_wheel_remove(wheel, alarm);
            return alarm; // CW2
        }
        caches_wheel_lower(wheel, ring, place);
    }
    wheel->next = UINT64_MAX;
    wheel->now = now > wheel->now ? now : wheel->now;
    return NULL;
}
