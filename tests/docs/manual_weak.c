// From docs/manual.md: pictures that are shared while they are used, notes on
// objects of others, and files that are closed behind them.

#include <stdio.h>
#include <string.h>

#include <loam.h>
#include <loam/weak.h>

// begin cache
struct picture {
    char name[32];
    unsigned char *pixels;
};

static struct loam_valuemap *pictures; // by name, as long as somebody uses it

static struct picture *picture_get(const char *name) {
    struct picture *picture = loam_valuemap_get(pictures, name);
    if (picture == NULL) {
        picture = loam_alloc(sizeof *picture);
        snprintf(picture->name, sizeof picture->name, "%s", name);
        picture->pixels = loam_alloc_leaf(100000);
        (void)loam_valuemap_put(pictures, name, picture);
    }
    return picture;
}
// end cache

// begin notes
static struct loam_weakmap *notes; // on objects that are not ours

static void note(const void *object, const char *text) {
    (void)loam_weakmap_put(notes, object, loam_strdup(text));
}
// end notes

static int closed;

// begin file
static void file_close(void *object, void *data) {
    FILE **file = object;
    (void)data;
    fclose(*file);
    closed++;
}

static FILE **file_open(const char *path) {
    FILE **file = loam_alloc(sizeof *file);
    *file = fopen(path, "r");
    if (*file != NULL) {
        struct loam_finalizer closing = {.function = file_close};
        (void)loam_finalizer_set(file, &closing, NULL);
    }
    return file;
}
// end file

static void use(size_t i) {
    char name[32];
    snprintf(name, sizeof name, "picture %zu", i % 7);
    struct picture *picture = picture_get(name);
    note(picture, "seen");
    (void)file_open("/dev/null");
}

int main(void) {
    pictures = loam_valuemap_make(LOAM_KEYS_TEXTS);
    notes = loam_weakmap_make();
    for (size_t i = 0; i < 500; i++) {
        use(i);
    }
    struct picture *kept = picture_get("picture 3");
    note(kept, "kept");
    loam_collect();
    printf("%zu pictures, %zu notes, %d files closed\n",
           loam_valuemap_count(pictures), loam_weakmap_count(notes), closed);
    bool good = picture_get("picture 3") == kept &&
                strcmp(loam_weakmap_get(notes, kept), "kept") == 0;
    return good && closed > 400 ? 0 : 1;
}
