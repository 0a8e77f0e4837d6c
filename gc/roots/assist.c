#include "roots/assist.h"

#include "base/bits.h"
#include "os/copy.h"
#include "os/lock.h"
#include "os/suspend.h"
#include "os/thread.h"

#define ASSIST_OPEN  ((uint32_t)1 << 31)
#define ASSIST_TAKEN (ASSIST_FREE << ASSIST_SEATS)

#define ASSIST_SPINS   1000    // looks before sleeping
#define ASSIST_TICK_NS 1000000 // of the sleep

void assist_offer(struct assist *assist, assist_work *work, void *data,
                  size_t count) {
    assist->work = work;
    assist->data = data;
    __atomic_store_n(&assist->cpu, thread_cpu(), __ATOMIC_RELAXED);
    uint32_t seats = ASSIST_OPEN | (((uint32_t)1 << count) - 1);
    __atomic_store_n(&assist->seats, seats, __ATOMIC_SEQ_CST);
}

void assist_recall(struct assist *assist) {
    (void)__atomic_fetch_and(&assist->seats, ASSIST_TAKEN, __ATOMIC_SEQ_CST);
    for (size_t turn = 0;; turn++) {
        uint32_t seats = __atomic_load_n(&assist->seats, __ATOMIC_SEQ_CST);
        if (seats == 0) { // A2
            return;
        }
        if (turn < ASSIST_SPINS) {
            lock_pause();
        } else {
            (void)lock_wait(&assist->seats, seats, ASSIST_TICK_NS);
        }
    }
}

// Takes the lowest free seat; false if there is none.
static bool assist_sit(struct assist *assist, size_t *seat) {
    uint32_t seats = __atomic_load_n(&assist->seats, __ATOMIC_SEQ_CST);
    for (;;) {
        uint32_t bits = seats & ASSIST_FREE;
        if (bits == 0) {
            return false;
        }
        *seat = bits_lowest(bits);
        uint32_t free_bit = (uint32_t)1 << *seat;
        uint32_t next = (seats & ~free_bit) | free_bit << ASSIST_SEATS; // A1
        if (__atomic_compare_exchange_n(&assist->seats, &seats, next, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            return true;
        }
    }
}

static void assist_rise(struct assist *assist, size_t seat) {
    uint32_t free_bit = (uint32_t)1 << seat;
    uint32_t seats = __atomic_load_n(&assist->seats, __ATOMIC_SEQ_CST);
    uint32_t next;
    do {
        next = seats & ~(free_bit << ASSIST_SEATS);
        next |= (seats & ASSIST_OPEN) != 0 ? free_bit : 0;
    } while (!__atomic_compare_exchange_n(&assist->seats, &seats, next, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if ((seats & ASSIST_OPEN) == 0) {
        (void)lock_wake(&assist->seats, 1);
    }
}

// Whether there is room below the caller's frame, as far as one can know.
static bool assist_has_room(void) {
    const void *lowest, *end;
    const char *here = __builtin_frame_address(0);
    return !suspend_find_alternate(&lowest, &end) ||
           (size_t)(here - (const char *)lowest) >= ASSIST_ROOM_BYTES;
}

bool assist_is_beside(const struct assist *assist) {
    return thread_cpu() == __atomic_load_n(&assist->cpu, __ATOMIC_RELAXED);
}

bool assist_take(struct assist *assist) {
    size_t seat;
    if (!assist_is_open(assist) || assist_is_beside(assist) ||
        !assist_has_room() || suspend_is_stepped()) { // A3, A4
        return false;
    }
    uint64_t mask = suspend_block_faults(); // A4
    bool sits = assist_sit(assist, &seat);
    if (sits) {
        assist->work(assist->data, seat);
        assist_rise(assist, seat);
    }
    suspend_unblock(mask);
    return sits;
}

// No handler of the program runs meanwhile: it would wait for the stop's end.
void assist_take_deaf(struct assist *assist) {
    if (assist_is_open(assist)) {
        uint64_t mask = suspend_block();
        if (!copy_is_new()) { // the parent's stop, in a child
            (void)assist_take(assist);
        }
        suspend_unblock(mask);
    }
}

void assist_wait(struct assist *assist, bool begins) {
    uint32_t was = __atomic_load_n(&assist->waiting, __ATOMIC_RELAXED);
    while ((begins || was != 0) &&
           !__atomic_compare_exchange_n(&assist->waiting, &was,
                                        begins ? was + 1 : was - 1, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

void assist_forked(struct assist *assist) {
    assist->seats = 0;
    assist->waiting = 0;
}
