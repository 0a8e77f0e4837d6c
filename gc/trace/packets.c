#include "trace/packets.h"

#include <string.h>

#include "base/check.h"
#include "os/clock.h"
#include "os/lock.h"

#define PACKETS_LOOKS   64      // turns between looks at the clock
#define PACKETS_STAY_NS 100000  // a helper looks for work so long
#define PACKETS_SPIN_NS 20000   // and the conductor, before it sleeps
#define PACKETS_TICK_NS 1000000 // of its sleep

void packets_begin(struct packets *packets, size_t helpers) {
    for (size_t i = 0; i < PACKETS; i++) {
        packets->packets[i].state = PACKET_EMPTY; // a child's may not be
    }
    packets->hungry = packets->full = 0;
    packets->overflowed = packets->asleep = packets->closed = false;
    packets->away = packets->helpers = (uint32_t)helpers;
    packets->asked = 0;
    packets->work = 1;
}

void packets_end(struct packets *packets) {
    ASSERT(__atomic_load_n(&packets->work, __ATOMIC_SEQ_CST) == 1);
    __atomic_store_n(&packets->closed, true, __ATOMIC_SEQ_CST);
}

// There is something new to see (P3): whoever changed it has done so before.
static void packets_ring(struct packets *packets) {
    (void)__atomic_add_fetch(&packets->news, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&packets->asleep, __ATOMIC_SEQ_CST)) {
        (void)lock_wake(&packets->news, 1);
    }
}

static bool packets_turn(struct packet *packet, uint32_t from, uint32_t to) {
    return __atomic_load_n(&packet->state, __ATOMIC_RELAXED) == from &&
           __atomic_compare_exchange_n(&packet->state, &from, to, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

// --- Putting -----------------------------------------------------------------

static struct packet *packets_open(struct packets *packets) {
    for (size_t i = 0; i < PACKETS; i++) {
        if (packets_turn(&packets->packets[i], PACKET_EMPTY, PACKET_FILLING)) {
            return &packets->packets[i];
        }
    }
    return NULL;
}

static void packets_publish(struct packets *packets, struct packet *packet) {
    (void)__atomic_add_fetch(&packets->work, 1, __ATOMIC_SEQ_CST); // P2
    (void)__atomic_add_fetch(&packets->full, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&packet->state, PACKET_FULL, __ATOMIC_SEQ_CST);
    packets_ring(packets);
}

// Nobody here looks for work.  Those who are away are called the first, the
// second, the fourth time and so on that there is some: they may not come.
static bool packets_call(struct packets *packets) {
    uint32_t times = __atomic_add_fetch(&packets->asked, 1, __ATOMIC_RELAXED);
    if ((times & (times - 1)) == 0 && packets->call != NULL) {
        packets->call(__atomic_load_n(&packets->away, __ATOMIC_RELAXED));
        return true;
    }
    return false;
}

static struct packet *packets_find(struct packets *packets) {
    return __atomic_load_n(&packets->hungry, __ATOMIC_RELAXED) != 0 ||
                   packets_call(packets)
               ? packets_open(packets)
               : NULL;
}

bool packets_put(struct packets *packets, const uintptr_t *words,
                 size_t count) {
    ASSERT(count != 0 && count <= PACKET_WORDS);
    struct packet *packet = packets_find(packets);
    if (packet == NULL) {
        return false;
    }
    packet->count = (uint32_t)count;
    memcpy(packet->words, words, count * sizeof *words);
    packets_publish(packets, packet);
    return true;
}

bool packets_put_piece(struct packets *packets, struct piece piece) {
    struct packet *packet = packets_find(packets);
    if (packet == NULL) {
        return false;
    }
    packet->count = 0;
    packet->piece = piece;
    packets_publish(packets, packet);
    return true;
}

// --- Taking ------------------------------------------------------------------

static bool packets_take(struct packets *packets, struct worklist *list) {
    for (size_t i = 0; i < PACKETS; i++) {
        struct packet *packet = &packets->packets[i];
        if (packets_turn(packet, PACKET_FULL, PACKET_EMPTYING)) {
            // What it counted for in `work` is the taker's from here on (P4).
            (void)__atomic_sub_fetch(&packets->full, 1, __ATOMIC_RELAXED);
            (void)__atomic_sub_fetch(&packets->hungry, 1, __ATOMIC_RELAXED);
            if (packet->count != 0) {
                memcpy(list->words, packet->words,
                       packet->count * sizeof *list->words);
                list->word_count = packet->count;
            } else {
                bool pushed = worklist_push_piece(list, packet->piece);
                CHECK(pushed);
            }
            __atomic_store_n(&packet->state, PACKET_EMPTY, __ATOMIC_SEQ_CST);
            return true;
        }
    }
    return false;
}

// The calling marker has nothing any more.
static void packets_rest(struct packets *packets) {
    (void)__atomic_add_fetch(&packets->hungry, 1, __ATOMIC_RELAXED);
    if (__atomic_sub_fetch(&packets->work, 1, __ATOMIC_SEQ_CST) == 0) {
        packets_ring(packets);
    }
}

bool packets_await(struct packets *packets, struct worklist *list) {
    ASSERT(worklist_is_empty(list) && list->word_capacity >= PACKET_WORDS);
    packets_rest(packets);
    uint64_t began_ns = clock_now_ns();
    for (uint32_t turn = 1;; turn++) {
        uint32_t news = __atomic_load_n(&packets->news, __ATOMIC_SEQ_CST);
        if (packets_take(packets, list)) {
            return true;
        }
        if (__atomic_load_n(&packets->work, __ATOMIC_SEQ_CST) == 0) { // P2
            (void)__atomic_sub_fetch(&packets->hungry, 1, __ATOMIC_RELAXED);
            __atomic_store_n(&packets->work, 1, __ATOMIC_SEQ_CST);
            return false;
        }
        if (turn % PACKETS_LOOKS != 0 ||
            clock_now_ns() - began_ns < PACKETS_SPIN_NS) {
            lock_pause();
            continue;
        }
        __atomic_store_n(&packets->asleep, true, __ATOMIC_SEQ_CST);
        (void)lock_wait(&packets->news, news, PACKETS_TICK_NS);
        __atomic_store_n(&packets->asleep, false, __ATOMIC_SEQ_CST);
    }
}

bool packets_seek(struct packets *packets, struct worklist *list, bool first) {
    ASSERT(worklist_is_empty(list) && list->word_capacity >= PACKET_WORDS);
    if (first) {
        (void)__atomic_sub_fetch(&packets->away, 1, __ATOMIC_RELAXED);
        (void)__atomic_add_fetch(&packets->hungry, 1, __ATOMIC_RELAXED);
    } else {
        packets_rest(packets);
    }
    uint64_t began_ns = clock_now_ns();
    for (uint32_t turn = 1;; turn++) {
        if (packets_take(packets, list)) {
            return true;
        }
        if (__atomic_load_n(&packets->closed, __ATOMIC_SEQ_CST) ||
            (turn % PACKETS_LOOKS == 0 &&
             clock_now_ns() - began_ns > PACKETS_STAY_NS)) {
            (void)__atomic_sub_fetch(&packets->hungry, 1, __ATOMIC_RELAXED);
            (void)__atomic_add_fetch(&packets->away, 1, __ATOMIC_RELAXED);
            return false;
        }
        lock_pause();
    }
}
