#include "support/explore.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST ((size_t)1 << 22) // states

struct search {
    const struct explore_model *model;
    char *states;     // in the order in which they were found
    uint32_t *parent; // the state that each was found from
    uint8_t *step;    // thread * choices + choice
    uint32_t *table;  // open addressing: index + 1
    size_t count;
};

static char *state_at(const struct search *search, size_t index) {
    return search->states + index * search->model->state_bytes;
}

static size_t hash(const char *bytes, size_t count) {
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < count; i++) {
        sum = (sum ^ (uint8_t)bytes[i]) * 1099511628211u;
    }
    return (size_t)(sum ^ sum >> 29);
}

// Enters a state that may be new.
static void enter(struct search *search, const char *state, size_t parent,
                  size_t step) {
    size_t bytes = search->model->state_bytes;
    size_t at = hash(state, bytes) % (2 * MOST);
    while (search->table[at] != 0) {
        if (memcmp(state_at(search, search->table[at] - 1), state, bytes) ==
            0) {
            return;
        }
        at = (at + 1) % (2 * MOST);
    }
    if (search->count == MOST) {
        (void)fprintf(stderr, "explore: too many states\n");
        abort();
    }
    memcpy(state_at(search, search->count), state, bytes);
    search->parent[search->count] = (uint32_t)parent;
    search->step[search->count] = (uint8_t)step;
    search->count++;
    search->table[at] = (uint32_t)search->count;
}

static void tell(const struct search *search, size_t index, const char *what) {
    (void)fprintf(stderr, "explore: %s, after (last first):", what);
    while (index != 0) {
        size_t step = search->step[index];
        (void)fprintf(stderr, " %zu", step / search->model->choices);
        if (step % search->model->choices != 0) {
            (void)fprintf(stderr, "/%zu", step % search->model->choices);
        }
        index = search->parent[index];
    }
    (void)fprintf(stderr, "\n");
}

// Takes every step that can be taken from a state; false: none can.
static bool expand(struct search *search, size_t index, char *scratch) {
    const struct explore_model *model = search->model;
    bool moved = false;
    for (size_t step = 0; step < model->threads * model->choices; step++) {
        memcpy(scratch, state_at(search, index), model->state_bytes);
        if (model->step(scratch, step / model->choices,
                        step % model->choices)) {
            moved = true;
            enter(search, scratch, index, step);
        }
    }
    return moved;
}

size_t explore(const struct explore_model *model, const void *first,
               bool aloud) {
    struct search search = {
        .model = model,
        .states = malloc(MOST * model->state_bytes),
        .parent = malloc(MOST * sizeof *search.parent),
        .step = malloc(MOST),
        .table = calloc(2 * MOST, sizeof *search.table),
    };
    char *scratch = malloc(model->state_bytes);
    const char *wrong = "no memory";
    size_t at = 0;
    if (search.states != NULL && search.parent != NULL && search.step != NULL &&
        search.table != NULL && scratch != NULL) {
        wrong = NULL;
        enter(&search, first, 0, 0);
    }
    while (wrong == NULL && at < search.count) {
        if (!model->is_right(state_at(&search, at))) {
            wrong = "an invariant is broken";
        } else if (!expand(&search, at, scratch) &&
                   !model->is_done(state_at(&search, at))) {
            wrong = "nobody can move";
        } else {
            at++;
        }
    }
    if (wrong != NULL && aloud) {
        tell(&search, at, wrong);
    }
    free(search.states);
    free(search.parent);
    free(search.step);
    free(search.table);
    free(scratch);
    return wrong == NULL ? search.count : 0;
}
