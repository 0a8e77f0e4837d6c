// jsonrun — an ordinary C program: makes JSON text, parses it, copies, merges,
// sorts, indexes, prints, and frees everything.
//
// It knows nothing of Loam.  The test builds it three times, plainly and with
// `-include loam/replace.h` (with its frees, and with free turned into
// nothing), and the three must print the same.

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { TYPE_NULL, TYPE_BOOL, TYPE_NUMBER, TYPE_TEXT, TYPE_LIST, TYPE_MAP };

struct value {
    enum type type;
    bool truth;
    double number;
    char *text;
    struct member *members; // of a list or map
    size_t count, capacity;
};

struct member {
    char *name; // NULL in a list
    struct value *value;
    size_t place; // before it was sorted
};

struct buffer {
    char *bytes;
    size_t count, capacity;
};

static void *need(void *p) {
    if (!p) {
        fprintf(stderr, "jsonrun: out of memory\n");
        exit(1);
    }
    return p;
}

// --- Text that grows ---------------------------------------------------

static void buffer_add(struct buffer *b, const char *text, size_t count) {
    if (b->count + count + 1 > b->capacity) {
        b->capacity = 2 * (b->count + count) + 16;
        b->bytes = need(realloc(b->bytes, b->capacity));
    }
    memcpy(b->bytes + b->count, text, count);
    b->count += count;
    b->bytes[b->count] = '\0';
}

static void buffer_say(struct buffer *b, const char *text) {
    buffer_add(b, text, strlen(text));
}

// --- Values ------------------------------------------------------------

static struct value *value_make(enum type type) {
    struct value *v = need(calloc(1, sizeof *v));
    v->type = type;
    return v;
}

static void value_free(struct value *v) {
    for (size_t i = 0; i < v->count; i++) {
        free(v->members[i].name);
        value_free(v->members[i].value);
    }
    free(v->members);
    free(v->text);
    free(v);
}

static void value_add(struct value *v, char *name, struct value *child) {
    if (v->count == v->capacity) {
        v->capacity = v->capacity ? 2 * v->capacity : 4;
        v->members =
            need(reallocarray(v->members, v->capacity, sizeof *v->members));
    }
    v->members[v->count] = (struct member){name, child, v->count};
    v->count++;
}

static struct value *value_copy(const struct value *v) {
    struct value *copy = value_make(v->type);
    copy->truth = v->truth;
    copy->number = v->number;
    copy->text = v->text ? need(strdup(v->text)) : NULL;
    for (size_t i = 0; i < v->count; i++) {
        const struct member *m = &v->members[i];
        value_add(copy, m->name ? need(strdup(m->name)) : NULL,
                  value_copy(m->value));
    }
    return copy;
}

static int value_compare(const void *a, const void *b) {
    const struct member *left = a;
    const struct member *right = b;
    int order = strcmp(left->name, right->name);
    return order ? order : left->place < right->place ? -1 : 1;
}

// Maps by name; of members with one name the last stays.
static void value_sort(struct value *v) {
    for (size_t i = 0; i < v->count; i++) {
        value_sort(v->members[i].value);
    }
    if (v->type != TYPE_MAP || v->count < 2) {
        return;
    }
    qsort(v->members, v->count, sizeof *v->members, value_compare);
    size_t kept = 0;
    for (size_t i = 0; i < v->count; i++) {
        bool last = i + 1 == v->count ||
                    strcmp(v->members[i].name, v->members[i + 1].name) != 0;
        if (last) {
            v->members[kept++] = v->members[i];
        } else {
            free(v->members[i].name);
            value_free(v->members[i].value);
        }
    }
    v->count = kept;
    v->members = need(realloc(v->members, kept * sizeof *v->members));
    v->capacity = kept;
}

// --- Parser ------------------------------------------------------------

struct parser {
    const char *at;
};

static struct value *parse_value(struct parser *p);

static char *parse_text(struct parser *p) {
    struct buffer b = {0};
    buffer_say(&b, "");
    for (p->at++; *p->at != '"'; p->at++) {
        if (*p->at == '\\') {
            p->at++;
        }
        buffer_add(&b, p->at, 1);
    }
    p->at++;
    char *text = need(strndup(b.bytes, b.count));
    free(b.bytes);
    return text;
}

static struct value *parse_members(struct parser *p, enum type type, char end) {
    struct value *v = value_make(type);
    p->at++;
    while (*p->at != end) {
        char *name = NULL;
        if (type == TYPE_MAP) {
            name = parse_text(p);
            p->at++; // the colon
        }
        value_add(v, name, parse_value(p));
        p->at += *p->at == ',';
    }
    p->at++;
    return v;
}

static struct value *parse_value(struct parser *p) {
    struct value *v;
    switch (*p->at) {
    case '{':
        return parse_members(p, TYPE_MAP, '}');
    case '[':
        return parse_members(p, TYPE_LIST, ']');
    case '"':
        v = value_make(TYPE_TEXT);
        v->text = parse_text(p);
        return v;
    case 't':
    case 'f':
        v = value_make(TYPE_BOOL);
        v->truth = *p->at == 't';
        p->at += v->truth ? 4 : 5;
        return v;
    case 'n':
        p->at += 4;
        return value_make(TYPE_NULL);
    default: {
        char *end;
        v = value_make(TYPE_NUMBER);
        v->number = strtod(p->at, &end);
        p->at = end;
        return v;
    }
    }
}

// --- Printer -----------------------------------------------------------

static void print_text(struct buffer *b, const char *text) {
    buffer_say(b, "\"");
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            buffer_say(b, "\\");
        }
        buffer_add(b, text, 1);
    }
    buffer_say(b, "\"");
}

static void print_value(struct buffer *b, const struct value *v) {
    char number[40];
    switch (v->type) {
    case TYPE_NULL:
        buffer_say(b, "null");
        break;
    case TYPE_BOOL:
        buffer_say(b, v->truth ? "true" : "false");
        break;
    case TYPE_NUMBER:
        snprintf(number, sizeof number, "%.9g", v->number);
        buffer_say(b, number);
        break;
    case TYPE_TEXT:
        print_text(b, v->text);
        break;
    case TYPE_LIST:
    case TYPE_MAP:
        buffer_say(b, v->type == TYPE_MAP ? "{" : "[");
        for (size_t i = 0; i < v->count; i++) {
            buffer_say(b, i ? "," : "");
            if (v->type == TYPE_MAP) {
                print_text(b, v->members[i].name);
                buffer_say(b, ":");
            }
            print_value(b, v->members[i].value);
        }
        buffer_say(b, v->type == TYPE_MAP ? "}" : "]");
        break;
    }
}

// --- An index of names: a hash table that grows ------------------------

struct entry {
    struct entry *next;
    char *name;
    size_t uses;
};

struct names {
    struct entry **slots;
    size_t slot_count, count;
};

static size_t names_hash(const char *name) {
    size_t hash = 5381;
    while (*name) {
        hash = hash * 33 + (unsigned char)*name++;
    }
    return hash;
}

static void names_grow(struct names *names) {
    size_t slot_count = names->slot_count ? 2 * names->slot_count : 8;
    struct entry **slots = need(calloc(slot_count, sizeof *slots));
    for (size_t i = 0; i < names->slot_count; i++) {
        for (struct entry *e = names->slots[i]; e;) {
            struct entry *next = e->next;
            size_t at = names_hash(e->name) % slot_count;
            e->next = slots[at];
            slots[at] = e;
            e = next;
        }
    }
    free(names->slots);
    names->slots = slots;
    names->slot_count = slot_count;
}

static void names_use(struct names *names, const char *name) {
    if (names->count >= names->slot_count) {
        names_grow(names);
    }
    size_t at = names_hash(name) % names->slot_count;
    struct entry *e = names->slots[at];
    while (e && strcmp(e->name, name) != 0) {
        e = e->next;
    }
    if (!e) {
        e = need(malloc(sizeof *e));
        *e = (struct entry){names->slots[at], need(strdup(name)), 0};
        names->slots[at] = e;
        names->count++;
    }
    e->uses++;
}

static void names_each(struct names *names, const struct value *v) {
    for (size_t i = 0; i < v->count; i++) {
        if (v->members[i].name) {
            names_use(names, v->members[i].name);
        }
        names_each(names, v->members[i].value);
    }
}

static size_t names_free(struct names *names) {
    size_t sum = names->count;
    for (size_t i = 0; i < names->slot_count; i++) {
        for (struct entry *e = names->slots[i]; e;) {
            struct entry *next = e->next;
            sum += e->uses * names_hash(e->name) % 1009;
            free(e->name);
            free(e);
            e = next;
        }
    }
    free(names->slots);
    return sum;
}

// --- The run -----------------------------------------------------------

static uint64_t chance_state = 42;

static unsigned chance(unsigned n) {
    chance_state = chance_state * UINT64_C(6364136223846793005) + 1;
    return (unsigned)(chance_state >> 33) % n;
}

static void make_text(struct buffer *b, unsigned depth) {
    char piece[64];
    unsigned sort = depth ? chance(8) : chance(4);
    if (sort < 2) {
        unsigned whole = chance(100000);
        snprintf(piece, sizeof piece, "%u.%u", whole, chance(100));
        buffer_say(b, piece);
    } else if (sort == 2) {
        buffer_say(b, chance(2) ? "true" : "null");
    } else if (sort == 3) {
        snprintf(piece, sizeof piece, "\"word %u \\\"quoted\\\"\"",
                 chance(999));
        buffer_say(b, piece);
    } else {
        bool map = sort > 5;
        buffer_say(b, map ? "{" : "[");
        for (unsigned i = 0, n = 1 + chance(9); i < n; i++) {
            snprintf(piece, sizeof piece, "%s\"key%u\":", i ? "," : "",
                     chance(40));
            buffer_say(b, map ? piece : i ? "," : "");
            make_text(b, depth - 1);
        }
        buffer_say(b, map ? "}" : "]");
    }
}

static uint64_t digest(const struct buffer *b) {
    uint64_t sum = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < b->count; i++) {
        sum = (sum ^ (unsigned char)b->bytes[i]) * UINT64_C(1099511628211);
    }
    return sum;
}

static void round_trip(unsigned number) {
    struct buffer text = {0};
    struct buffer printed = {0};
    struct names names = {0};
    buffer_say(&text, "[");
    for (unsigned i = 0; i < 10; i++) {
        buffer_say(&text, i ? "," : "");
        make_text(&text, 6);
    }
    buffer_say(&text, "]");
    struct parser p = {text.bytes};
    struct value *v = parse_value(&p);
    struct value *copy = value_copy(v);
    value_sort(copy);
    value_add(copy, NULL, v); // the one within the other
    print_value(&printed, copy);
    names_each(&names, copy);
    size_t count = names.count;
    size_t sum = names_free(&names);
    printf("%u: %zu bytes, %016llx, %zu names, %zu\n", number, printed.count,
           (unsigned long long)digest(&printed), count, sum);
    value_free(copy);
    free(text.bytes);
    free(printed.bytes);
}

int main(int argc, char **argv) {
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 200;
    for (unsigned i = 0; i < rounds; i++) {
        round_trip(i);
    }
    return 0;
}
