// From docs/manual.md: a heap for a document, dropped with it.

#include <stdio.h>

#include <loam/heaps.h>

// begin
struct line {
    struct line *next;
    char *text;
};

static struct line *read_lines(struct loam_heap *document, size_t count) {
    struct line *lines = NULL;
    for (size_t i = 0; i < count; i++) {
        struct line *line = loam_heap_alloc(document, sizeof *line);
        if (line != NULL) {
            line->text = loam_heap_alloc_leaf(document, 80);
            line->next = lines;
            lines = line;
        }
    }
    return lines;
}
// end

int main(void) {
    // begin use
    struct loam_heap *document = loam_heap_create();
    struct line *lines = read_lines(document, 10000);
    bool ran = loam_heap_collect(document); // of this heap alone
    // end use
    size_t count = 0;
    for (const struct line *line = lines; line != NULL; line = line->next) {
        count += loam_is_heap(line->text);
    }
    // begin drop
    bool gone = loam_heap_destroy(document); // with all that is in it
    // end drop
    printf("%zu lines, %s\n", count, gone ? "gone" : "still there");
    return ran && count == 10000 && gone && !loam_is_heap(lines) ? 0 : 1;
}
