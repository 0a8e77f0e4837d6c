// Markers of a tree that exists in numbers alone: what one has goes to others,
// nothing is lost or done twice, and the end is seen, and by all.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/lock.h"
#include "support/explore.h"
#include "support/gen.h"
#include "trace/packets.h"
#include "trace/worklist.h"

#define MARKERS 4
#define ROUNDS  (LOAM_TINY ? 200u : 60u)

// --- As a machine ----------------------------------------------------------
//
// Thread 0 is the conductor and has some words; 1 and 2 are helpers and have
// none.  Who has a word does it, or leaves it in one of two packets.

enum { SLOTS = 2, OTHERS = 2, ALL = OTHERS + 1, WORDS = 2, PUTS = 3 };

enum place {
    M_WORK,   // has words, or not any more
    M_COUNT,  // put: work + 1
    M_FULL,   // put: the packet is full
    M_RING,   // news + 1
    M_WAKE,   // wake the conductor if it is asleep
    M_REST,   // work - 1
    M_LOOK,   // read the news
    M_TAKE,   // look at packet `at`
    M_EMPTY,  // it was taken: empty it
    M_END,    // is work 0?
    M_ASLEEP, // asleep = true
    M_FUTEX,  // sleeps if there is no news
    M_SLEEPS, //
    M_AWAKE,  // asleep = false
    M_OVER,   // the conductor knows the end, a helper goes
};

struct machine {
    uint8_t slot[SLOTS], work, news, asleep, done, puts;
    struct {
        uint8_t place, words, at, seen, ended;
    } who[ALL];
};

static void settle_in(struct machine *m, size_t t, uint8_t words) {
    m->who[t].words = words;
    m->who[t].at = 0;
    m->who[t].place = words != 0 ? M_WORK : M_REST;
}

// Has words: does one, or puts one into an empty packet.
static bool step_work(struct machine *m, size_t t, size_t choice) {
    if (choice == 0) {
        m->done++;
        settle_in(m, t, m->who[t].words - 1);
        return true;
    }
    if (m->puts == PUTS || m->slot[choice - 1] != PACKET_EMPTY) {
        return false;
    }
    m->slot[choice - 1] = PACKET_FILLING;
    m->puts++;
    m->who[t].at = (uint8_t)(choice - 1);
    m->who[t].place = M_COUNT;
    return true;
}

static void step_take(struct machine *m, size_t t) {
    if (m->who[t].at == SLOTS) {
        m->who[t].at = 0;
        m->who[t].place = t == 0 ? M_END : M_LOOK;
    } else if (m->slot[m->who[t].at] == PACKET_FULL) {
        m->slot[m->who[t].at] = PACKET_EMPTYING;
        m->who[t].place = M_EMPTY;
    } else {
        m->who[t].at++;
    }
}

static bool step_other(struct machine *m, size_t t, size_t choice) {
    uint8_t *place = &m->who[t].place;
    switch ((enum place) * place) {
    case M_COUNT:
        m->work++;
        *place = M_FULL;
        break;
    case M_FULL:
        m->slot[m->who[t].at] = PACKET_FULL;
        m->who[t].words--;
        *place = M_RING;
        break;
    case M_RING:
        m->news++;
        *place = M_WAKE;
        break;
    case M_WAKE:
        if (m->asleep && m->who[0].place == M_SLEEPS) {
            m->who[0].place = M_AWAKE;
        }
        if (m->who[t].ended) {
            *place = M_LOOK;
        } else {
            settle_in(m, t, m->who[t].words);
        }
        break;
    case M_REST:
        m->who[t].ended = --m->work == 0;
        *place = m->who[t].ended ? M_RING : M_LOOK;
        break;
    case M_LOOK:
        if (choice == 1) { // a helper is tired, or told to go
            *place = M_OVER;
            return t != 0;
        }
        m->who[t].ended = 0;
        m->who[t].seen = t == 0 ? m->news : 0;
        m->who[t].at = 0;
        *place = M_TAKE;
        break;
    case M_TAKE:
        step_take(m, t);
        break;
    case M_EMPTY:
        m->slot[m->who[t].at] = PACKET_EMPTY;
        settle_in(m, t, 1);
        break;
    case M_END:
        *place = m->work == 0 ? M_OVER : M_ASLEEP;
        break;
    case M_ASLEEP:
        m->asleep = 1;
        *place = M_FUTEX;
        break;
    case M_FUTEX:
        *place = m->news == m->who[t].seen ? M_SLEEPS : M_AWAKE;
        break;
    case M_AWAKE:
        m->asleep = 0;
        *place = M_LOOK;
        break;
    case M_WORK:
    case M_SLEEPS:
    case M_OVER:
        return false;
    }
    return true;
}

static bool step(void *state, size_t t, size_t choice) {
    struct machine *m = state;
    if (m->who[t].place == M_WORK) {
        return step_work(m, t, choice);
    }
    return (choice == 0 || (choice == 1 && m->who[t].place == M_LOOK)) &&
           step_other(m, t, choice);
}

// P1, P2: what is done, held and in packets is always all there is; the
// conductor knows the end only when all is done.
static bool is_right(const void *state) {
    const struct machine *m = state;
    size_t words = m->done;
    for (size_t i = 0; i < SLOTS; i++) {
        words += m->slot[i] == PACKET_FULL || m->slot[i] == PACKET_EMPTYING;
    }
    for (size_t t = 0; t < ALL; t++) {
        words += m->who[t].words;
    }
    return words == WORDS && (m->who[0].place != M_OVER || m->done == WORDS);
}

static bool is_done(const void *state) {
    const struct machine *m = state;
    return m->who[0].place == M_OVER;
}

// P3: from each state in which the conductor sleeps somebody will wake it.
static void test_every_schedule(void **state) {
    (void)state;
    static const struct explore_model model = {
        sizeof(struct machine), ALL, 1 + SLOTS, step, is_right, is_done};
    struct machine first;
    memset(&first, 0, sizeof first);
    first.work = 1;
    settle_in(&first, 0, WORDS);
    for (size_t t = 1; t < ALL; t++) {
        first.who[t].place = M_LOOK;
    }
    assert_in_range(explore(&model, &first, true), 1000, SIZE_MAX);
}

// --- As it is --------------------------------------------------------------

static struct packets packets;

// One marker: a word n stands for a tree of n nodes.
struct one {
    struct worklist list;
    uint64_t nodes; // that it has seen
    atomic_uint taken;
};

static struct one ones[MARKERS];

static int make_ones(void **state) {
    (void)state;
    for (size_t i = 0; i < MARKERS; i++) {
        if (!worklist_init(&ones[i].list)) {
            return -1;
        }
    }
    return 0;
}

// A word's tree: the node itself, and two trees of what is left.
static void grow(struct one *one, uintptr_t word) {
    one->nodes++;
    uintptr_t left = (word - 1) / 2, right = word - 1 - left;
    struct worklist *list = &one->list;
    if (left != 0) {
        list->words[list->word_count++] = left;
    }
    if (right != 0) {
        list->words[list->word_count++] = right;
    }
}

static void share(struct one *one) {
    struct worklist *list = &one->list;
    size_t count = list->word_count;
    if (count < PACKET_WORDS_LEAST || !packets_are_wanted(&packets, count)) {
        return;
    }
    size_t half = count / 2 < PACKET_WORDS ? count / 2 : PACKET_WORDS;
    if (packets_put(&packets, list->words, half)) {
        list->word_count -= half;
        memmove(list->words, list->words + half,
                list->word_count * sizeof *list->words);
    }
}

// The tiny build has room for four words: what does not fit is done at once.
static void work(struct one *one) {
    struct worklist *list = &one->list;
    while (!worklist_is_empty(list)) {
        if (list->piece_count != 0) {
            struct piece piece = worklist_pop_piece(list);
            one->nodes += (uintptr_t)piece.from;
            continue;
        }
        share(one);
        uintptr_t word = list->words[--list->word_count];
        if (worklist_has_room(list, 2)) {
            grow(one, word);
        } else {
            one->nodes += word;
        }
    }
}

static atomic_uint round_number, finished, calls, too_many;

// None, where somebody has just come.
static void called(size_t count) {
    atomic_fetch_add(count < MARKERS ? &calls : &too_many, 1);
}

static void *help(void *data) {
    struct one *one = data;
    unsigned seen = 0;
    while (seen != ROUNDS) {
        unsigned now = atomic_load(&round_number);
        if (now == seen) {
            lock_pause();
            continue;
        }
        seen = now;
        bool first = true; // comes back, as one that was called would
        while (!__atomic_load_n(&packets.closed, __ATOMIC_SEQ_CST)) {
            first = true;
            while (packets_seek(&packets, &one->list, first)) {
                atomic_fetch_add(&one->taken, 1);
                work(one);
                first = false;
            }
        }
        atomic_fetch_add(&finished, 1);
    }
    return NULL;
}

static uint64_t all_nodes(void) {
    uint64_t sum = 0;
    for (size_t i = 0; i < MARKERS; i++) {
        sum += ones[i].nodes;
        ones[i].nodes = 0;
    }
    return sum;
}

// P1, P2, P4: the sum of all is right at the end, each time.
static void test_all(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("packets"));
    pthread_t threads[MARKERS];
    for (size_t i = 1; i < MARKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, help, &ones[i]), 0);
    }
    for (unsigned round = 1; round <= ROUNDS; round++) {
        uintptr_t nodes = 1 + gen_below(&g, gen_chance(&g, 30) ? 20 : 300000);
        packets_begin(&packets, MARKERS - 1);
        packets.call = called;
        ones[0].list.words[0] = nodes;
        ones[0].list.word_count = 1;
        atomic_store(&round_number, round);
        uint64_t wanted = 0;
        for (int part = 0; part < 2; part++) { // work again after its end
            wanted += nodes;
            work(&ones[0]);
            while (packets_await(&packets, &ones[0].list)) { // P1
                work(&ones[0]);
            }
            uint64_t sum = 0;
            for (size_t i = 0; i < MARKERS; i++) {
                sum += __atomic_load_n(&ones[i].nodes, __ATOMIC_RELAXED);
            }
            assert_int_equal(sum, wanted); // P2
            struct piece piece = {(const uintptr_t *)nodes, NULL, 0, 0};
            assert_true(part == 1 || worklist_push_piece(&ones[0].list, piece));
        }
        packets_end(&packets);
        while (atomic_load(&finished) != round * (MARKERS - 1)) {
            lock_pause();
        }
        assert_int_equal(packets.hungry, 0); // P4
        assert_int_equal(packets.full, 0);
        assert_int_equal(packets.away, MARKERS - 1);
        assert_int_equal(all_nodes(), 2 * (uint64_t)nodes);
    }
    unsigned taken = 0;
    for (size_t i = 1; i < MARKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        taken += atomic_load(&ones[i].taken);
    }
    assert_true(taken > 0);
    assert_int_equal(atomic_load(&too_many), 0);
}

// --- The conductor that waits ----------------------------------------------

static atomic_bool holds, go;

static void rest_ms(long ms) {
    struct timespec rest = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&rest, NULL);
}

// Takes a packet, keeps it for a while, flags a block, and leaves another.
static void *hold(void *data) {
    struct one *one = data;
    while (!packets_seek(&packets, &one->list, true)) {
    }
    atomic_store(&holds, true);
    while (!atomic_load(&go)) {
        rest_ms(1);
    }
    rest_ms(5);
    size_t count = one->list.word_count;
    one->list.word_count = 0;
    while (!packets_put(&packets, one->list.words, count)) {
        rest_ms(1); // the conductor is not hungry yet
    }
    __atomic_store_n(&packets.overflowed, true, __ATOMIC_RELEASE);
    rest_ms(5);
    assert_false(packets_seek(&packets, &one->list, false));
    return NULL;
}

// P3, P5: it sleeps while others have the work, and is woken for what they
// leave, and for the end; then it knows that one overflowed.
static void test_woken(void **state) {
    (void)state;
    packets_begin(&packets, 1);
    packets.call = NULL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, hold, &ones[1]), 0);
    uintptr_t words[PACKET_WORDS] = {1, 1};
    while (!packets_are_wanted(&packets, 2)) {
        rest_ms(1);
    }
    assert_true(packets_put(&packets, words, 2));
    while (!atomic_load(&holds)) {
        rest_ms(1);
    }
    atomic_store(&go, true);
    assert_true(packets_await(&packets, &ones[0].list)); // P3
    assert_int_equal(ones[0].list.word_count, 2);
    ones[0].list.word_count = 0;
    assert_false(packets_await(&packets, &ones[0].list));
    assert_true(packets.overflowed); // P5
    packets_end(&packets);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

// Those who are away are called now and then, and without a bell by nobody;
// full packets are too many.
static void test_calls(void **state) {
    (void)state;
    uintptr_t words[PACKET_WORDS] = {1};
    packets_begin(&packets, MARKERS - 1);
    packets.call = called;
    atomic_store(&calls, 0);
    assert_false(packets_are_wanted(&packets, PACKETS_CALL_WORDS - 1));
    size_t put = 0;
    for (size_t i = 0; i < 1000; i++) {
        assert_true(packets_are_wanted(&packets, PACKETS_CALL_WORDS));
        put += packets_put(&packets, words, 1);
    }
    assert_int_equal(atomic_load(&calls), 10); // 1, 2, 4 ... 512
    assert_int_equal(put, PACKETS < 10 ? PACKETS : 10);
    size_t taken = 0;
    while (packets_await(&packets, &ones[0].list)) {
        assert_int_equal(ones[0].list.word_count, 1);
        ones[0].list.word_count = 0;
        taken++;
    }
    assert_int_equal(taken, put);
    packets.call = NULL;
    assert_false(packets_put(&packets, words, 1));
    packets_end(&packets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_schedule),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_woken),
        cmocka_unit_test(test_calls),
    };
    return cmocka_run_group_tests(tests, make_ones, NULL);
}
