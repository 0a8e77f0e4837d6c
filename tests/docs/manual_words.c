// From docs/manual.md: counts words, and frees nothing.

#include <stdio.h>
#include <string.h>

#include <loam.h>

static const char *const story =
    "the quick fox and the lazy dog and the moon over the fox";

// begin
struct word {
    struct word *left, *right;
    char *text; // a leaf of its own
    unsigned count;
};

static struct word *words; // a global variable: a root

static bool count(const char *text, size_t bytes) {
    struct word **at = &words;
    while (*at != NULL) {
        int order = strncmp(text, (*at)->text, bytes);
        if (order == 0 && (*at)->text[bytes] == '\0') {
            (*at)->count++;
            return true;
        }
        at = order < 0 ? &(*at)->left : &(*at)->right;
    }
    struct word *fresh = loam_alloc(sizeof *fresh); // all zero
    char *copy = loam_strndup(text, bytes);
    if (fresh == NULL || copy == NULL) {
        return false; // and nothing to undo
    }
    fresh->text = copy;
    fresh->count = 1;
    *at = fresh;
    return true;
}
// end

static unsigned count_of(const char *text) {
    struct word *at = words;
    while (at != NULL && strcmp(text, at->text) != 0) {
        at = strcmp(text, at->text) < 0 ? at->left : at->right;
    }
    return at == NULL ? 0 : at->count;
}

int main(void) {
    for (const char *at = story; *at != '\0';) {
        size_t bytes = strcspn(at, " ");
        if (!count(at, bytes)) {
            return 1;
        }
        at += bytes + (at[bytes] == ' ');
    }
    if (!loam_collect()) {
        return 1;
    }
    printf("the %u, fox %u, moon %u\n", count_of("the"), count_of("fox"),
           count_of("moon"));
    return count_of("the") == 4 && count_of("fox") == 2 ? 0 : 1;
}
