// From docs/manual.md: pages, some of which are never released.

#include <stdio.h>

#include <loam/rc.h>

// begin pages
struct page {
    struct page *next;
    int width, number;
};

static LOAM_TYPE(page_type, struct page, LOAM_OWNS(struct page, next));

static struct page *page_make(int width) {
    struct page *page = loam_new(&page_type);
    page->width = width;
    return page;
}

static bool page_show(struct page *page) {
    loam_retain(page); // while it is shown
    if (page->width == 0) {
        return false;
    }
    printf("page %d\n", page->number);
    loam_release(page);
    return true;
}

static int show_all(void) {
    int shown = 0;
    for (int i = 0; i < 10; i++) {
        struct page *page = page_make(i % 3);
        page->number = i;
        shown += page_show(page);
        loam_release(page);
    }
    return shown;
}
// end pages

int main(void) {
    return show_all() == 6 ? 0 : 1;
}
