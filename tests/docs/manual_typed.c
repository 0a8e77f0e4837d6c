// From docs/manual.md: a layout, for objects that are mostly numbers.

#include <stddef.h>
#include <stdio.h>

#include <loam.h>
#include <loam/typed.h>

// begin
struct body {
    double place[3], speed[3];
    struct body *next;
};

static const struct loam_layout *body_layout;

static bool body_init(void) {
    static const size_t offsets[] = {offsetof(struct body, next)};
    body_layout = loam_layout(sizeof(struct body), offsets, 1);
    return body_layout != NULL;
}

static struct body *body_make(struct body *next) {
    struct body *body = loam_alloc_typed(body_layout);
    if (body != NULL) {
        body->next = next;
    }
    return body;
}
// end

int main(void) {
    struct body *bodies = NULL;
    unsigned count = 0;
    if (!body_init()) {
        return 1;
    }
    for (int i = 0; i < 10000; i++) {
        bodies = body_make(bodies);
        if (bodies == NULL) {
            return 1;
        }
        bodies->place[0] = i;
    }
    if (!loam_collect()) {
        return 1;
    }
    for (struct body *body = bodies; body != NULL; body = body->next) {
        count++;
        if (body->place[0] != 10000 - (double)count) {
            return 1;
        }
    }
    printf("%u bodies\n", count);
    return count == 10000 ? 0 : 1;
}
