// jansson — a JSON library at work: parse, look up, change, build, print.
//
// A document of --size hundred records is parsed --rounds times; each time some
// records are changed and replaced, a summary is built from all of them, and
// both are printed as text.  The last three documents stay.

#include "hooks.h"

#include <jansson.h>

enum { JANSSON_KEPT = 3 };

static struct hook_text jansson_document(size_t records, uint64_t seed) {
    struct hook_text text = {0};
    uint64_t state = seed;
    hook_print(&text, "{\"title\":\"records\",\"list\":[");
    for (size_t at = 0; at < records; at++) {
        unsigned number = (unsigned)random_below(&state, 1000000);
        hook_print(&text, "%s{\"id\":%zu,\"name\":\"name-%u\",", at ? "," : "",
                   at, number);
        hook_print(&text, "\"mail\":\"user%u@example.org\",\"score\":%u.5,",
                   number, number % 1000);
        hook_print(&text, "\"active\":%s,\"tags\":[\"t%u\",\"t%u\",\"group\"],",
                   number & 1 ? "true" : "false", number % 17, number % 5);
        hook_print(&text,
                   "\"place\":{\"x\":%u,\"y\":%u,\"note\":\"Caf\\u00e9 "
                   "%u\",\"none\":null}}",
                   number % 360, number % 180, number % 99);
    }
    hook_print(&text, "]}");
    return text;
}

static void jansson_change(json_t *list, uint64_t *state) {
    size_t count = json_array_size(list);
    for (size_t turn = 0; turn < count / 4; turn++) {
        size_t at = (size_t)random_below(state, count);
        json_t *record = json_array_get(list, at);
        json_int_t id = json_integer_value(json_object_get(record, "id"));
        json_t *made =
            json_pack("{s:I, s:s, s:[i,i,i], s:{s:b}}", "id", id + 1, "name",
                      "replaced", "values", 1, 2, 3, "flags", "new", 1);
        if (turn % 2 == 0) {
            json_array_set_new(list, at, made);
        } else {
            json_object_set_new(record, "history", made);
        }
    }
}

static json_t *jansson_summary(json_t *list) {
    json_t *summary = json_object();
    size_t at;
    json_t *record;
    json_array_foreach(list, at, record) {
        const char *name = json_string_value(json_object_get(record, "name"));
        json_t *seen = json_object_get(summary, name);
        json_int_t times = seen != NULL ? json_integer_value(seen) : 0;
        json_object_set_new(summary, name, json_integer(times + 1));
    }
    return summary;
}

static uint64_t jansson_print(const json_t *value) {
    char *text = json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT);
    uint64_t hash = hook_hash(text, strlen(text));
    hook_free(text);
    return hash;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t records = (run->size != 0 ? run->size : 10) * 100;
    size_t rounds = run->rounds != 0 ? run->rounds : 3;
    static json_t *kept[JANSSON_KEPT];
    json_set_alloc_funcs(hook_malloc, hook_free);
    json_object_seed(1);
    struct hook_text text = jansson_document(records, run->seed);
    uint64_t state = run->seed, sum = 0;
    measure_start(run);
    for (size_t round = 0; round < rounds; round++) {
        json_error_t error;
        json_t *root = json_loadb(text.start, text.bytes, 0, &error);
        json_t *list = json_object_get(root, "list");
        jansson_change(list, &state);
        json_t *summary = jansson_summary(list);
        sum = sum * 31 + jansson_print(root);
        sum = sum * 31 + jansson_print(summary);
        json_t **place = &kept[round % JANSSON_KEPT];
        if (SHIM_MANUAL) {
            json_decref(summary);
            json_decref(*place);
        }
        *place = root;
    }
    measure_stop(run, sum);
    return 0;
}
