// data — sets, maps, vectors and interned texts: Loam's, GLib's and Python's.
//
// --size thousand elements, --rounds times.  --variant:
//
//   intset   random integers: add_ns, find_ns (all, in another order), miss_ns
//            (as many that are not there), walk_ns, remove_ns
//   intmap   the same, to pointers
//   strmap   the same, from texts of 10 to 30 bytes
//   vec      push_ns, read_ns, sort_ns, pop_ns
//   intern   new_ns: a text that was not there; again_ns: one that is
//
// op_ns is the mean of those but sort_ns and walk_ns; bytes_element is what the
// process holds more for each element when they are in, memory of tables that
// were outgrown and not yet collected included.  data.py does the same in
// Python, by loops of its own.

#include "measure.h"

#include DATA_SHIM

enum { DATA_TEXT_BYTES = 32, DATA_STEP = 7919 };

struct data {
    struct measure *run;
    size_t count;
    uint64_t *keys;                 // twice as many: the second half is missed
    char (*texts)[DATA_TEXT_BYTES]; // of each key
    unsigned char *lengths;
    uint64_t ns[5]; // spent in each phase
    double bytes;   // held, at most, over all rounds
};

static const char *const data_phases[3][5] = {
    {"add_ns", "find_ns", "miss_ns", "remove_ns", "walk_ns"},
    {"push_ns", "read_ns", "pop_ns", "sort_ns", NULL},
    {"new_ns", "again_ns", NULL, NULL, NULL}};
static const unsigned data_counted[3] = {4, 3, 2};

// The clock between phases.
static uint64_t data_begin_ns;

static void data_phase(struct data *data, unsigned phase) {
    uint64_t now_ns = measure_now_ns();
    data->ns[phase] += now_ns - data_begin_ns;
    data_begin_ns = measure_now_ns();
}

static void data_begin(void) {
    data_begin_ns = measure_now_ns();
}

static void data_held(struct data *data, uint64_t before_kb) {
    double kb = (double)measure_rss_kb() - (double)before_kb;
    data->bytes = kb * 1024 > data->bytes ? kb * 1024 : data->bytes;
    data_begin();
}

// Letters that follow from the key, 10 to 30 of them.
static void data_make_text(struct data *data, size_t at) {
    uint64_t word = data->keys[at];
    size_t length = 10 + (size_t)(word % 21);
    for (size_t i = 0; i < length; i++) {
        data->texts[at][i] = (char)('a' + (word >> (i * 5 % 60)) % 26);
    }
    data->texts[at][length] = '\0';
    data->lengths[at] = (unsigned char)length;
}

static void data_make(struct data *data, int with_texts) {
    size_t count = 2 * data->count;
    data->keys = mem_leaf(count * sizeof *data->keys);
    for (size_t at = 0; at < count; at++) {
        data->keys[at] = mix64((data->run->seed << 32) + at);
    }
    if (with_texts) {
        data->texts = mem_leaf(count * sizeof *data->texts);
        data->lengths = mem_leaf(count);
        for (size_t at = 0; at < count; at++) {
            data_make_text(data, at);
        }
    }
}

static uint64_t data_intset(struct data *data) {
    uint64_t before_kb = measure_rss_kb();
    uint64_t sum = 0, found = 0, missed = 0, removed = 0;
    data_begin();
    data_set *set = data_set_make();
    for (size_t at = 0; at < data->count; at++) {
        data_set_add(set, data->keys[at]);
    }
    data_phase(data, 0);
    data_held(data, before_kb);
    for (size_t at = 0; at < data->count; at++) {
        found += data_set_has(set, data->keys[at * DATA_STEP % data->count]);
    }
    data_phase(data, 1);
    for (size_t at = 0; at < data->count; at++) {
        missed += !data_set_has(set, data->keys[data->count + at]);
    }
    data_phase(data, 2);
    sum = data_set_walk(set);
    data_phase(data, 4);
    for (size_t at = 0; at < data->count; at++) {
        removed +=
            data_set_remove(set, data->keys[at * DATA_STEP % data->count]);
    }
    data_phase(data, 3);
    return sum + found * 3 + missed * 5 + removed * 7;
}

static uint64_t data_intmap(struct data *data) {
    uint64_t before_kb = measure_rss_kb();
    uint64_t sum = 0, found = 0, missed = 0, removed = 0;
    data_begin();
    data_map *map = data_map_make();
    for (size_t at = 0; at < data->count; at++) {
        data_map_add(map, data->keys[at], &data->keys[at]);
    }
    data_phase(data, 0);
    data_held(data, before_kb);
    for (size_t at = 0; at < data->count; at++) {
        uint64_t *one = &data->keys[at * DATA_STEP % data->count];
        found += data_map_get(map, *one) == one;
    }
    data_phase(data, 1);
    for (size_t at = 0; at < data->count; at++) {
        missed += data_map_get(map, data->keys[data->count + at]) == NULL;
    }
    data_phase(data, 2);
    sum = data_map_walk(map);
    data_phase(data, 4);
    for (size_t at = 0; at < data->count; at++) {
        removed +=
            data_map_remove(map, data->keys[at * DATA_STEP % data->count]);
    }
    data_phase(data, 3);
    return sum + found * 3 + missed * 5 + removed * 7;
}

static uint64_t data_strmap(struct data *data) {
    uint64_t before_kb = measure_rss_kb();
    uint64_t sum = 0, found = 0, missed = 0, removed = 0;
    data_begin();
    data_texts *map = data_texts_make();
    for (size_t at = 0; at < data->count; at++) {
        data_texts_add(map, data->texts[at], data->lengths[at],
                       &data->keys[at]);
    }
    data_phase(data, 0);
    data_held(data, before_kb);
    for (size_t at = 0; at < data->count; at++) {
        size_t one = at * DATA_STEP % data->count;
        found +=
            data_texts_get(map, data->texts[one], data->lengths[one]) != NULL;
    }
    data_phase(data, 1);
    for (size_t at = data->count; at < 2 * data->count; at++) {
        missed +=
            data_texts_get(map, data->texts[at], data->lengths[at]) == NULL;
    }
    data_phase(data, 2);
    sum = data_texts_walk(map);
    data_phase(data, 4);
    for (size_t at = 0; at < data->count; at++) {
        size_t one = at * DATA_STEP % data->count;
        removed += data_texts_remove(map, data->texts[one], data->lengths[one]);
    }
    data_phase(data, 3);
    return sum + found * 3 + missed * 5 + removed * 7;
}

static uint64_t data_vec_all(struct data *data) {
    uint64_t before_kb = measure_rss_kb();
    uint64_t sum = 0;
    data_begin();
    data_vec *vec = data_vec_make();
    for (size_t at = 0; at < data->count; at++) {
        data_vec_push(vec, data->keys[at]);
    }
    data_phase(data, 0);
    data_held(data, before_kb);
    for (size_t at = 0; at < data->count; at++) {
        sum += data_vec_at(vec, at);
    }
    data_phase(data, 1);
    data_vec_sort(vec);
    data_phase(data, 3);
    for (size_t at = 0; at < data->count; at++) {
        sum = sum * 31 + data_vec_pop(vec);
    }
    data_phase(data, 2);
    return sum;
}

// New ones once; what was interned is held until the end.
static uint64_t data_intern_all(struct data *data) {
    static const char **held;
    uint64_t sum = 0;
    if (held == NULL) {
        held = mem_new(data->count * sizeof *held);
        uint64_t before_kb = measure_rss_kb();
        data_begin();
        for (size_t at = 0; at < data->count; at++) {
            held[at] = data_intern(data->texts[at]);
        }
        data_phase(data, 0);
        data->ns[0] *= data->run->rounds; // as if each round had done it
        data_held(data, before_kb);
    }
    data_begin();
    for (size_t at = 0; at < data->count; at++) {
        size_t one = at * DATA_STEP % data->count;
        sum += data_intern(data->texts[one]) == held[one];
    }
    data_phase(data, 1);
    return sum;
}

static void data_note(struct data *data, unsigned kind) {
    double times = (double)data->count * (double)data->run->rounds;
    double op_ns = 0;
    for (unsigned at = 0; at < 5 && data_phases[kind][at] != NULL; at++) {
        double ns = (double)data->ns[at] / times;
        measure_note(data->run, data_phases[kind][at], ns);
        op_ns += at < data_counted[kind] ? ns / data_counted[kind] : 0;
    }
    measure_note(data->run, "op_ns", op_ns);
    measure_note(data->run, "bytes_element", data->bytes / (double)data->count);
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    struct data data = {.run = run};
    int is_strmap = measure_is(run, "strmap");
    int is_intern = measure_is(run, "intern");
    unsigned kind = is_intern ? 2 : measure_is(run, "vec") ? 1 : 0;
    uint64_t sum = 0;
    run->rounds = run->rounds != 0 ? run->rounds : 3;
    data.count = (run->size != 0 ? run->size : 100) * 1000;
    data_make(&data, is_strmap || is_intern);
    measure_start(run);
    for (size_t round = 0; round < run->rounds; round++) {
        uint64_t one = is_intern                   ? data_intern_all(&data)
                       : is_strmap                 ? data_strmap(&data)
                       : measure_is(run, "vec")    ? data_vec_all(&data)
                       : measure_is(run, "intmap") ? data_intmap(&data)
                                                   : data_intset(&data);
        sum = sum * 31 + one;
    }
    data_note(&data, kind);
    measure_stop(run, sum);
    keep_object(data.keys);
    return 0;
}
