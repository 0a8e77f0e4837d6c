#include "heap/shelf.h"

#include "base/check.h"

void shelf_append(struct shelf_ends *ends, uint32_t block, unsigned list) {
    struct block *b = block_get(block);
    ASSERT(b->list == SHELF_NONE); // L1
    b->list = (uint8_t)list;
    b->next = BLOCK_NONE;
    b->prev = ends->tail;
    if (ends->tail == BLOCK_NONE) {
        ends->head = block;
    } else {
        block_get(ends->tail)->next = block;
    }
    ends->tail = block;
}

void shelf_remove(struct shelf_ends *ends, uint32_t block) {
    struct block *b = block_get(block);
    ASSERT(b->list != SHELF_NONE);
    if (b->prev == BLOCK_NONE) {
        ASSERT(ends->head == block); // L2
        ends->head = b->next;
    } else {
        block_get(b->prev)->next = b->next;
    }
    if (b->next == BLOCK_NONE) {
        ASSERT(ends->tail == block);
        ends->tail = b->prev;
    } else {
        block_get(b->next)->prev = b->prev;
    }
    b->next = b->prev = BLOCK_NONE;
    b->list = SHELF_NONE;
}

void shelf_put(struct shelf *shelf, uint32_t block) {
    size_t cells = block_cells(block);
    size_t live = block_get(block)->live;
    ASSERT(live < cells); // L3
    unsigned list = shelf_list_for(live, cells);
    shelf_append(&shelf->lists[list], block, list);
}

void shelf_withdraw(struct shelf *shelf, uint32_t block) {
    unsigned list = block_get(block)->list;
    if (list != SHELF_NONE) {
        ASSERT(list < SHELF_LISTS);
        shelf_remove(&shelf->lists[list], block);
    }
}

uint32_t shelf_take(struct shelf *shelf, unsigned first, unsigned last) {
    for (unsigned list = first; list <= last; list++) {
        uint32_t block = shelf->lists[list].head;
        if (block != BLOCK_NONE) {
            shelf_remove(&shelf->lists[list], block);
            return block;
        }
    }
    return BLOCK_NONE;
}

bool shelf_check(const struct shelf *shelf) {
    for (unsigned list = SHELF_EMPTIEST; list < SHELF_LISTS; list++) {
        uint32_t before = BLOCK_NONE;
        uint32_t at = shelf->lists[list].head;
        while (at != BLOCK_NONE) {
            const struct block *b = block_get(at);
            if (b->list != list || b->prev != before) {
                return false;
            }
            before = at;
            at = b->next;
        }
        if (shelf->lists[list].tail != before) {
            return false;
        }
    }
    return true;
}
