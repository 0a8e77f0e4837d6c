#include "heap/blockmap.h"

bool blockmap_find_run(uintptr_t word, uint32_t block, struct place *place) {
    unsigned cls = ENTRY_CLASS(block_entry(block));
    if (cls == CLASS_RUN_TAIL) {
        block -= range.distances[block];
    } else if (cls != CLASS_RUN_HEAD) {
        return false;
    }
    place->block = block;
    place->cell = 0;
    place->start = block_first(block);
    place->bytes = block_cell_bytes(block);
    place->kind = ENTRY_KIND(block_entry(block));
    return word - place->start < place->bytes;
}
