// How threads are told to stop, and tell that they did: every schedule of the
// words, and the words themselves.

#include "roots/halt.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/suspend.h"
#include "roots/mutator.h"
#include "roots/roll.h"
#include "support/explore.h"

#if defined(__x86_64__)
#define NATIVE 1
#else
#define NATIVE 0
#endif

// --- As a machine ----------------------------------------------------------
//
// Thread 0 is the conductor.  It makes two attempts; the first may be withdrawn
// at any time before it has succeeded.  Threads 1 and 2 are mutators.  They run
// program code, enter and leave a safe region, and are interrupted wherever the
// signal finds them.

#define MUTATORS 2u
#define ATTEMPTS 2u

enum conductor {
    C_BEGIN,   // stopping = epoch
    C_CALL,    // hold or signal mutator `at`
    C_ANSWERS, // read the answers
    C_LOOK,    // look at mutator `at`, who is missing
    C_WANT,    // wanted = answers + missing
    C_DOZE,    // read the answers again
    C_SLEEP,   // the futex looks and sleeps at once
    C_ASLEEP,
    C_STOPPED, // all stand
    C_END,     // stopping = 0, wake
    C_FREE,    // HELD -> SAFE of mutator `at`; WAITS -> RUNS, wake
    C_DONE,
};

enum program {
    P_RUN,   // program code
    P_ENTER, // state = SAFE
    P_CHECK, // look at stopping
    P_ADD,   // tell: answers + 1
    P_WAKE,  // tell: wake the conductor if it is time
    P_SAFE,  // in the region
    P_REST,  // in the region, for ever
    P_LEAVE, // SAFE -> RUNS
    P_WAIT,  // HELD -> WAITS
    P_SLEEP, // the futex looks and sleeps at once
    P_ASLEEP,
    P_LOOK, // look at stopping: the signal may have been spent in the region
    P_OVER, // it runs on, and answers signals
};

enum handler {
    H_NONE,
    H_LOOK,  // stopping, state, acknowledged
    H_STORE, // acknowledged = epoch
    H_ADD,
    H_WAKE,
    H_SLEEP,
    H_ASLEEP,
    H_AGAIN, // look at stopping again
};

enum { RUNS, SAFE, HELD, WAITS };

struct machine {
    uint8_t place, at, missing, epoch, attempt; // the conductor's
    uint8_t seen;                               // answers as it read them
    uint8_t stopping, answers, wanted;          // shared
    uint8_t stopped[MUTATORS];                  // how, as the conductor knows
    uint8_t state[MUTATORS], acknowledged[MUTATORS], pending[MUTATORS];
    uint8_t program[MUTATORS], handler[MUTATORS]; // where each is
    uint8_t known[MUTATORS];                      // epoch the handler knows
    uint8_t told[MUTATORS];                       // answers after its own
    uint8_t moved;                                // somebody ran in a stop
};

// Ways to be wrong that must be found.
static enum wrong {
    RIGHT,
    NO_TELL,   // who becomes SAFE tells nobody
    NO_NUMBER, // an answer does not bear a number
    NO_LOOK,   // who has left a region goes on without a look
    NO_WAITS,  // who waits to leave does not say that it sleeps
    EARLY_LOOK // the answers are read after the records
} wrong;

static bool has_stopped(struct machine *m, size_t i) {
    if (m->stopped[i] != RUNS) {
        return true;
    }
    if (m->acknowledged[i] == (wrong == NO_NUMBER ? 1 : m->epoch)) {
        m->stopped[i] = SAFE;
    } else if (m->state[i] == SAFE) {
        m->state[i] = HELD;
        m->stopped[i] = HELD;
    }
    return m->stopped[i] != RUNS;
}

static void go_to(struct machine *m, enum conductor place) {
    m->place = (uint8_t)place;
    m->at = 0;
}

static void conductor_end(struct machine *m) {
    m->stopping = 0;
    for (size_t i = 0; i < MUTATORS; i++) {
        if (m->handler[i] == H_ASLEEP) {
            m->handler[i] = H_AGAIN;
        }
    }
    go_to(m, C_FREE);
}

static void conductor_free(struct machine *m) {
    if (m->stopped[m->at] == HELD) {
        m->state[m->at] = m->state[m->at] == WAITS ? RUNS : SAFE;
        if (m->program[m->at] == P_ASLEEP) {
            m->program[m->at] = P_LEAVE;
        }
    }
    m->stopped[m->at] = RUNS;
    if (++m->at == MUTATORS) {
        go_to(m, m->attempt == ATTEMPTS ? C_DONE : C_BEGIN);
    }
}

static void conductor_begin(struct machine *m) {
    m->attempt++;
    m->epoch++;
    m->stopping = m->epoch;
    go_to(m, C_CALL);
}

static void conductor_call(struct machine *m) {
    if (m->state[m->at] == SAFE) {
        m->state[m->at] = HELD;
        m->stopped[m->at] = HELD;
    } else {
        m->pending[m->at] = 1;
    }
    if (++m->at == MUTATORS) {
        go_to(m, C_ANSWERS);
    }
}

static void conductor_look(struct machine *m) {
    m->missing = (uint8_t)(m->missing + !has_stopped(m, m->at));
    if (++m->at == MUTATORS) {
        go_to(m, m->missing == 0 ? C_STOPPED : C_WANT);
    }
}

static bool conductor_step(struct machine *m, size_t choice) {
    if (choice == 2) {
        return false;
    }
    if (choice == 1) { // nobody answers: the first attempt is withdrawn
        bool may = m->attempt == 1 && m->place > C_CALL && m->place < C_STOPPED;
        go_to(m, may ? C_END : (enum conductor)m->place);
        return may;
    }
    switch ((enum conductor)m->place) {
    case C_BEGIN:
        conductor_begin(m);
        return true;
    case C_CALL:
        conductor_call(m);
        return true;
    case C_ANSWERS:
        m->seen = m->answers;
        m->missing = 0;
        go_to(m, C_LOOK);
        return true;
    case C_LOOK:
        conductor_look(m);
        return true;
    case C_WANT:
        m->seen = wrong == EARLY_LOOK ? m->answers : m->seen;
        m->wanted = (uint8_t)(m->seen + m->missing);
        go_to(m, C_DOZE);
        return true;
    case C_DOZE:
        m->seen = m->answers;
        go_to(m, m->answers >= m->wanted ? C_ANSWERS : C_SLEEP);
        return true;
    case C_SLEEP:
        go_to(m, m->answers == m->seen ? C_ASLEEP : C_ANSWERS);
        return true;
    case C_STOPPED:
        go_to(m, C_END);
        return true;
    case C_END:
        conductor_end(m);
        return true;
    case C_FREE:
        conductor_free(m);
        return true;
    case C_ASLEEP:
    case C_DONE:
    default:
        return false;
    }
}

static void wake_conductor(struct machine *m, size_t i) {
    if (m->told[i] >= m->wanted && m->place == C_ASLEEP) {
        go_to(m, C_ANSWERS);
    }
}

static void handler_look(struct machine *m, size_t i) {
    m->known[i] = m->stopping;
    bool must = m->stopping != 0 && m->acknowledged[i] != m->stopping &&
                m->state[i] == RUNS;
    m->handler[i] = must ? H_STORE : H_NONE;
}

static bool handler_step(struct machine *m, size_t i) {
    switch ((enum handler)m->handler[i]) {
    case H_LOOK:
        handler_look(m, i);
        return true;
    case H_STORE:
        m->acknowledged[i] = wrong == NO_NUMBER ? 1 : m->known[i];
        m->handler[i] = H_ADD;
        return true;
    case H_ADD:
        m->told[i] = ++m->answers;
        m->handler[i] = H_WAKE;
        return true;
    case H_WAKE:
        wake_conductor(m, i);
        m->handler[i] = H_SLEEP;
        return true;
    case H_SLEEP:
        m->handler[i] = m->stopping == m->known[i] ? H_ASLEEP : H_AGAIN;
        return true;
    case H_AGAIN:
        m->known[i] = m->stopping;
        m->handler[i] = m->stopping == 0 ? H_NONE : H_STORE;
        return true;
    case H_NONE:
    case H_ASLEEP:
    default:
        return false;
    }
}

// H1, H4: whoever gets here while all are said to stand is running.
static void runs(struct machine *m) {
    m->moved |= m->place == C_STOPPED;
}

static void program_leave(struct machine *m, size_t i) {
    bool leaves = m->state[i] == SAFE || m->state[i] == RUNS;
    m->program[i] = leaves ? P_LOOK : P_WAIT;
    m->state[i] = leaves ? RUNS : m->state[i];
}

static bool program_step(struct machine *m, size_t i) {
    switch ((enum program)m->program[i]) {
    case P_RUN:
        runs(m);
        m->program[i] = P_ENTER;
        return true;
    case P_ENTER:
        runs(m);
        m->state[i] = SAFE;
        m->program[i] = P_CHECK;
        return true;
    case P_CHECK:
        m->program[i] = m->stopping == 0 || wrong == NO_TELL ? P_SAFE : P_ADD;
        return true;
    case P_ADD:
        m->told[i] = ++m->answers;
        m->program[i] = P_WAKE;
        return true;
    case P_WAKE:
        wake_conductor(m, i);
        m->program[i] = P_SAFE;
        return true;
    case P_SAFE:
        m->program[i] = P_LEAVE;
        return true;
    case P_LEAVE:
        program_leave(m, i);
        return true;
    case P_WAIT:
        m->state[i] = m->state[i] == HELD ? WAITS : m->state[i];
        m->program[i] = P_SLEEP;
        return true;
    case P_SLEEP:
        m->program[i] =
            m->state[i] == WAITS || wrong == NO_WAITS ? P_ASLEEP : P_LEAVE;
        return true;
    case P_LOOK:
        m->handler[i] = m->stopping == 0 || wrong == NO_LOOK ? H_NONE : H_LOOK;
        m->program[i] = P_OVER;
        return true;
    case P_OVER:
        if (m->place != C_STOPPED) {
            return false; // nothing new
        }
        runs(m);
        return true;
    case P_REST:
    case P_ASLEEP:
    default:
        return false;
    }
}

// Forgets what nobody will look at again, so that states are found equal that
// are.
static void forget(struct machine *m) {
    bool looks = m->place == C_LOOK || m->place == C_WANT;
    m->missing = looks ? m->missing : 0;
    m->seen = looks || m->place == C_SLEEP ? m->seen : 0;
    bool waits = m->place > C_WANT && m->place < C_STOPPED;
    m->wanted = waits ? m->wanted : 99;
    for (size_t i = 0; i < MUTATORS; i++) {
        bool tells = m->handler[i] == H_WAKE || m->program[i] == P_WAKE;
        m->told[i] = tells ? m->told[i] : 0;
        m->known[i] = m->handler[i] == H_NONE ? 0 : m->known[i];
    }
}

static bool mutator_step(struct machine *m, size_t i, size_t choice) {
    if (choice == 2) { // nothing ends its wait
        bool may = m->handler[i] == H_NONE && m->program[i] == P_SAFE;
        m->program[i] = may ? P_REST : m->program[i];
        return may;
    }
    if (choice == 1) { // the signal arrives; a sleep ends, and begins again
        if (!m->pending[i] || m->handler[i] != H_NONE ||
            m->program[i] == P_WAIT || m->program[i] == P_SLEEP ||
            m->program[i] == P_ASLEEP) {
            return false;
        }
        m->pending[i] = 0;
        m->handler[i] = H_LOOK;
        return true;
    }
    if (m->handler[i] != H_NONE) {
        return handler_step(m, i);
    }
    return program_step(m, i);
}

static bool machine_step(void *state, size_t thread, size_t choice) {
    struct machine *m = state;
    bool moved = thread == 0 ? conductor_step(m, choice)
                             : mutator_step(m, thread - 1, choice);
    forget(m);
    return moved;
}

static bool machine_is_right(const void *state) {
    const struct machine *m = state;
    return !m->moved;
}

static bool machine_is_done(const void *state) {
    const struct machine *m = state;
    bool done = m->place == C_DONE;
    for (size_t i = 0; i < MUTATORS; i++) {
        done &= m->program[i] == P_OVER || m->program[i] == P_REST;
        done &= m->handler[i] == H_NONE;
    }
    return done; // H2, H4: else somebody sleeps for ever
}

static void test_schedules(void **state) {
    (void)state;
    const struct explore_model model = {
        sizeof(struct machine), 3, 3, machine_step, machine_is_right,
        machine_is_done};
    struct machine first;
    memset(&first, 0, sizeof first);
    wrong = RIGHT;
    size_t states = explore(&model, &first, true);
    print_message("%zu states of a conductor and two mutators\n", states);
    assert_true(states > 10000); // H1, H2, H3, H4
    // Under an emulator or instrumented the mistakes would take minutes.
    enum wrong last = SUSPEND_COOPERATIVE || !NATIVE ? RIGHT : EARLY_LOOK;
    for (wrong = NO_TELL; wrong <= last; wrong++) {
        print_message("wrong in way %d\n", (int)wrong);
        assert_int_equal(explore(&model, &first, false), 0);
    }
}

// --- As it is --------------------------------------------------------------

static struct halt halt;
static struct mutator mutator; // its state only
static struct record record = {.thread = 1, .mutator = &mutator};
static atomic_uint turns;
static atomic_bool over;

static void *run_and_rest(void *data) {
    (void)data;
    while (!atomic_load(&over)) {
        halt_make_safe(&halt, &mutator);
        halt_run(&mutator);
        atomic_fetch_add(&turns, 1); // H4: not while it is held
        if (halt_must_answer(&halt, &record)) {
            halt_answer(&halt, &record, &halt);
        }
    }
    return NULL;
}

static void rest(void) {
    struct timespec nap = {.tv_nsec = 20000};
    (void)nanosleep(&nap, NULL);
}

static void test_words(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_and_rest, NULL), 0);
    unsigned held = 0, answered = 0;
    for (size_t turn = 0; turn < 2000; turn++) {
        uint32_t epoch = halt_begin(&halt);
        assert_int_equal(epoch, turn + 1);
        bool holds = false, answers = false;
        while (!holds && !answers) { // H3
            uint32_t base = halt_answers(&halt);
            answers = halt_has_answered(&halt, &record); // H1
            holds = !answers && halt_hold(&mutator);
            if (!holds && !answers) {
                (void)halt_doze(&halt, base + 1); // H2
            }
        }
        unsigned before = atomic_load(&turns);
        if (turn % 8 == 0) {
            rest();
        }
        assert_int_equal(atomic_load(&turns), before);
        held += holds;
        answered += answers;
        halt_end(&halt);
        if (holds) {
            halt_free(&mutator);
        }
        if (turn % 4 == 0) {
            rest();
        }
    }
    atomic_store(&over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(held + answered, 2000);
    print_message("held %u times, answered %u\n", held, answered);
}

// The signal of a thread: as the system has it, at most one.
static atomic_bool pending;
static atomic_uint unclaimed;

static void *take_signals(void *data) {
    (void)data;
    while (!atomic_load(&over)) {
        if (atomic_exchange(&pending, false)) {
            bool claims = halt_hear(&halt, &record, &halt, true);
            atomic_fetch_add(&unclaimed, !claims);
        }
    }
    return NULL;
}

// H6: what is sent is claimed, and no stop waits for what was not sent.
static void test_once(void **state) {
    (void)state;
    pthread_t thread;
    atomic_store(&over, false);
    mutator.state = MUTATOR_RUNS;
    assert_int_equal(pthread_create(&thread, NULL, take_signals, NULL), 0);
    unsigned sent = 0, kept = 0;
    for (size_t turn = 0; turn < 4000; turn++) {
        (void)halt_begin(&halt);
        if (halt_may_send(&record)) {
            assert_false(atomic_exchange(&pending, true));
            sent++;
        } else {
            kept++;
        }
        size_t ticks = 0;
        uint32_t base = halt_answers(&halt);
        while (!halt_has_answered(&halt, &record) && ticks < 10000) {
            ticks += !halt_doze(&halt, base + 1);
            base = halt_answers(&halt);
        }
        assert_true(ticks < 10000);
        halt_end(&halt);
        if (turn % 4 != 0) {
            rest();
        }
    }
    atomic_store(&over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&unclaimed), 0);
    print_message("sent %u, kept %u\n", sent, kept);
    halt_not_sent(&record);
    assert_false(halt_hear(&halt, &record, &halt, true)); // the program's
    assert_true(halt_may_send(&record));
    assert_false(halt_hear(&halt, &record, &halt, false)); // from elsewhere
    assert_false(halt_may_send(&record));
    assert_true(halt_hear(&halt, &record, &halt, true));
}

static void test_inside(void **state) {
    (void)state;
    mutator.state = MUTATOR_RUNS;
    uint32_t epoch = halt_begin(&halt);
    assert_true(halt.wanted - halt_answers(&halt) > 1000000); // nobody is woken
    mutator.busy = MUTATOR_INSIDE;
    assert_false(halt_must_answer(&halt, &record)); // H5
    mutator.busy = MUTATOR_LENT;
    for (size_t naps = 0; !halt_must_answer(&halt, &record); naps++) {
        assert_in_range(naps, 0, 100); // it answers when nobody else does
        (void)halt_doze(&halt, halt_answers(&halt) + 1);
    }
    assert_true(halt.idle > 1);
    mutator.busy = MUTATOR_INSIDE;
    assert_false(halt_must_answer(&halt, &record));
    mutator.busy = MUTATOR_TAKING;
    assert_true(halt_must_answer(&halt, &record));
    mutator.busy = MUTATOR_OUT;
    assert_true(halt_must_answer(&halt, &record));
    record.acknowledged = epoch;
    assert_false(halt_must_answer(&halt, &record));
    halt_end(&halt);
    assert_false(halt_must_answer(&halt, &record));
    uint64_t begin = clock_now_ns();
    assert_false(halt_doze(&halt, halt_answers(&halt) + 1)); // a tick
    assert_true(clock_now_ns() - begin >= 1000000);
    halt.epoch = UINT32_MAX; // the next is not 0, which means none
    assert_int_equal(halt_begin(&halt), 1);
    halt_end(&halt);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
