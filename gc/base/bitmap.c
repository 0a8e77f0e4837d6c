#include "base/bitmap.h"

#include "base/bits.h"

// The bits of a range in its first word, and in its last: the words between
// belong to it whole.
static uint64_t bitmap_head(size_t from) {
    return UINT64_MAX << (from % BITMAP_WORD_BITS);
}

static uint64_t bitmap_tail(size_t end) {
    return bits_mask_below((end - 1) % BITMAP_WORD_BITS + 1);
}

void bitmap_set_range(uint64_t *map, size_t from, size_t count) {
    if (count == 0) {
        return; // B3
    }
    size_t first = from / BITMAP_WORD_BITS;
    size_t last = (from + count - 1) / BITMAP_WORD_BITS;
    uint64_t head = bitmap_head(from), tail = bitmap_tail(from + count);
    if (first == last) {
        map[first] |= head & tail;
        return;
    }
    map[first] |= head;
    for (size_t index = first + 1; index < last; index++) {
        map[index] = UINT64_MAX;
    }
    map[last] |= tail;
}

void bitmap_clear_range(uint64_t *map, size_t from, size_t count) {
    if (count == 0) {
        return; // B3
    }
    size_t first = from / BITMAP_WORD_BITS;
    size_t last = (from + count - 1) / BITMAP_WORD_BITS;
    uint64_t head = bitmap_head(from), tail = bitmap_tail(from + count);
    if (first == last) {
        map[first] &= ~(head & tail);
        return;
    }
    map[first] &= ~head;
    for (size_t index = first + 1; index < last; index++) {
        map[index] = 0;
    }
    map[last] &= ~tail;
}

// The first bit of [from, end) that differs from the bits of `same`, which is
// all zeros or all ones.
static ALWAYS_INLINE size_t bitmap_find(const uint64_t *map, size_t from,
                                        size_t end, uint64_t same) {
    if (from >= end) {
        return end; // B3
    }
    size_t index = from / BITMAP_WORD_BITS;
    size_t last = (end - 1) / BITMAP_WORD_BITS;
    uint64_t word = (map[index] ^ same) & bitmap_head(from);
    while (word == 0) {
        if (index == last) {
            return end;
        }
        word = map[++index] ^ same;
    }
    size_t found = index * BITMAP_WORD_BITS + bits_lowest(word);
    return found < end ? found : end; // the last word holds bits beyond: B1
}

size_t bitmap_find_set(const uint64_t *map, size_t from, size_t end) {
    return bitmap_find(map, from, end, 0);
}

size_t bitmap_find_clear(const uint64_t *map, size_t from, size_t end) {
    return bitmap_find(map, from, end, UINT64_MAX);
}

// The bits at which `count` <= 64 set bits in a row begin: the length that is
// sure doubles with each step.
static uint64_t bitmap_starts(uint64_t word, size_t count) {
    size_t sure = 1;
    while (sure < count) {
        size_t step = sure < count - sure ? sure : count - sure;
        word &= word >> step;
        sure += step;
    }
    return word;
}

size_t bitmap_find_clear_run(const uint64_t *map, size_t from, size_t end,
                             size_t count) {
    ASSERT(count != 0);
    if (from >= end || end - from < count) {
        return end; // B3
    }
    size_t first = from / BITMAP_WORD_BITS;
    size_t last = (end - 1) / BITMAP_WORD_BITS;
    size_t run = 0; // clear bits right before this word
    for (size_t index = first; index <= last; index++) {
        uint64_t clear = ~map[index];
        clear &= index == first ? bitmap_head(from) : UINT64_MAX; // B1
        clear &= index == last ? bitmap_tail(end) : UINT64_MAX;   // B1
        size_t bit = index * BITMAP_WORD_BITS;
        size_t low =
            clear == UINT64_MAX ? BITMAP_WORD_BITS : bits_lowest(~clear);
        if (run + low >= count) {
            return bit - run; // B2: it begins before any other in this word
        }
        if (low == BITMAP_WORD_BITS) {
            run += low;
            continue;
        }
        uint64_t starts =
            count <= BITMAP_WORD_BITS ? bitmap_starts(clear, count) : 0;
        if (starts != 0) {
            return bit + bits_lowest(starts);
        }
        run = 63 - bits_log2_floor(~clear);
    }
    return end;
}

size_t bitmap_count(const uint64_t *map, size_t from, size_t count) {
    if (count == 0) {
        return 0; // B3
    }
    size_t first = from / BITMAP_WORD_BITS;
    size_t last = (from + count - 1) / BITMAP_WORD_BITS;
    uint64_t head = bitmap_head(from), tail = bitmap_tail(from + count);
    if (first == last) {
        return bits_count(map[first] & head & tail);
    }
    size_t sum = bits_count(map[first] & head) + bits_count(map[last] & tail);
    for (size_t index = first + 1; index < last; index++) {
        sum += bits_count(map[index]);
    }
    return sum;
}
