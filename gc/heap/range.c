#include "heap/range.h"

#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "os/memory.h"
#include "os/thread.h"

#define RANGE_BYTES_MAX ((size_t)1 << 44)
// Untouchable pages round every table; a table has a multiple of that.
#define RANGE_GUARD (64 * KiB)

struct range range;

enum {
    TABLE_ENTRIES,
    TABLE_BITS,
    TABLE_BLOCKS,
    TABLE_DISTANCES,
    TABLE_TAKEN,
    TABLE_DIRTY,
    TABLE_CHUNKS,
    TABLE_FREED,
    TABLE_AGE,
    TABLE_ASIDE,
    TABLE_COUNT
};

// Bytes that a chunk of 32 blocks needs in each table.
static const size_t range_table_share[TABLE_COUNT] = {
    [TABLE_ENTRIES] = CHUNK_BLOCKS * sizeof(uint16_t),
    [TABLE_BITS] = CHUNK_BLOCKS * BITS_WORDS_PER_BLOCK * 8,
    [TABLE_BLOCKS] = CHUNK_BLOCKS * sizeof(struct block),
    [TABLE_DISTANCES] = CHUNK_BLOCKS * sizeof(uint32_t),
    [TABLE_TAKEN] = CHUNK_BLOCKS / 8,
    [TABLE_DIRTY] = CHUNK_BLOCKS / 8,
    [TABLE_CHUNKS] = 1,
    [TABLE_FREED] = CHUNK_BLOCKS * FREED_WORDS_PER_BLOCK * 8,
    [TABLE_AGE] = CHUNK_BLOCKS * AGE_WORDS_PER_BLOCK * 8,
    [TABLE_ASIDE] = CHUNK_BLOCKS * ASIDE_WORDS_PER_BLOCK * 8,
};

// Where each table lies, and how much of it is committed.
static struct {
    char *at[TABLE_COUNT];
    size_t committed_bytes[TABLE_COUNT];
    bool huge;
} range_tables;

// Bytes reserved for table `t` when the range has `chunks` chunks.
static size_t range_table_bytes(int t, size_t chunks) {
    return bits_round_up(chunks * range_table_share[t], RANGE_GUARD);
}

static size_t range_tables_bytes(size_t chunks) {
    size_t sum = RANGE_GUARD;
    for (int t = 0; t < TABLE_COUNT; t++) {
        sum += range_table_bytes(t, chunks) + RANGE_GUARD;
    }
    return sum;
}

// An address whose words are unlikely to be data, another in each process:
// 0x11'0000'0000'00 and up to 4 TiB more.
static uintptr_t range_hint(void) {
    uintptr_t salt = (uintptr_t)&salt >> 12 ^ (uintptr_t)thread_process_id()
                                                  << 3;
    salt *= (uintptr_t)0x9E3779B97F4A7C15u;
    return ((uintptr_t)0x11 << 40) + (salt >> 54) * 4 * GiB;
}

// Reserves `bytes`, and tables for `most_bytes`.
static bool range_reserve(size_t bytes, size_t most_bytes) {
    size_t chunks = most_bytes / CHUNK_BYTES;
    char *tables = memory_reserve(range_tables_bytes(chunks), CHUNK_BYTES, 0);
    if (tables == NULL) {
        return false;
    }
    void *base = memory_reserve(bytes, CHUNK_BYTES, range_hint());
    if (base == NULL) {
        memory_release(tables, range_tables_bytes(chunks));
        return false;
    }
    memory_name(base, bytes, "loam heap");
    memory_name(tables, range_tables_bytes(chunks), "loam tables");
    for (int t = 0; t < TABLE_COUNT; t++) {
        tables += RANGE_GUARD;
        range_tables.at[t] = tables;
        tables += range_table_bytes(t, chunks);
    }
    range.base = (uintptr_t)base;
    range.bytes = bytes;
    range.most_bytes = most_bytes;
    range.entries = (uint16_t *)(void *)range_tables.at[TABLE_ENTRIES];
    range.bits = (uint64_t *)(void *)range_tables.at[TABLE_BITS];
    range.blocks = (struct block *)(void *)range_tables.at[TABLE_BLOCKS];
    range.distances = (uint32_t *)(void *)range_tables.at[TABLE_DISTANCES];
    range.taken = (uint64_t *)(void *)range_tables.at[TABLE_TAKEN];
    range.dirty = (uint64_t *)(void *)range_tables.at[TABLE_DIRTY];
    range.chunks = (uint8_t *)range_tables.at[TABLE_CHUNKS];
    range.freed = (uint64_t *)(void *)range_tables.at[TABLE_FREED];
    range.age = (uint64_t *)(void *)range_tables.at[TABLE_AGE];
    range.aside = (uint64_t *)(void *)range_tables.at[TABLE_ASIDE];
    return true;
}

bool range_init(size_t bytes) {
    ASSERT(range.base == 0);
    if (bytes == 0) {
        // Sixteen times what the machine has: room for holes, and cheap.
        bytes = memory_physical_bytes();
        bytes = bytes < GiB ? GiB : bytes;
        bytes = bytes > RANGE_BYTES_MAX / 16 ? RANGE_BYTES_MAX : bytes * 16;
    }
    if (bytes > RANGE_BYTES_MAX) {
        bytes = RANGE_BYTES_MAX;
    }
    size_t left = memory_limit_bytes(0);
    size_t most = bytes < left ? bytes : left;
    if (left != SIZE_MAX && bytes > left / 2) {
        bytes = left / 2;
    }
    bytes = bits_round_down(bytes, CHUNK_BYTES);
    most = bits_round_down(most, CHUNK_BYTES);
    while (bytes >= RANGE_BYTES_MIN) {
        if (range_reserve(bytes, most)) {
            return true;
        }
        bytes = bits_round_down(bytes / 2, CHUNK_BYTES);
        most = bits_round_down(most / 2, CHUNK_BYTES);
    }
    return false;
}

// The end of each table goes, and all stay where they are.
static void range_cut_tables(size_t most_bytes) {
    for (int t = 0; t < TABLE_COUNT; t++) {
        size_t kept = range_table_bytes(t, most_bytes / CHUNK_BYTES);
        size_t over =
            range_table_bytes(t, range.most_bytes / CHUNK_BYTES) - kept;
        if (over != 0) {
            memory_release(range_tables.at[t] + kept, over);
        }
    }
    __atomic_store_n(&range.most_bytes, most_bytes, __ATOMIC_RELAXED);
}

void range_fit(void) {
    size_t tables_bytes = range_tables_bytes(range.most_bytes / CHUNK_BYTES);
    size_t left = memory_limit_bytes(range.bytes + tables_bytes);
    size_t least = range.frontier_bytes > RANGE_BYTES_MIN ? range.frontier_bytes
                                                          : RANGE_BYTES_MIN;
    least = bits_round_up(least, CHUNK_BYTES); // R3
    size_t most = bits_round_down(left > least ? left : least, CHUNK_BYTES);
    if (most < range.most_bytes) {
        range_cut_tables(most);
    }
    size_t bytes = bits_round_down(left / 2, CHUNK_BYTES);
    bytes = bytes > least ? bytes : least;
    if (left != SIZE_MAX && bytes < range.bytes) {
        memory_release((char *)range.base + bytes, range.bytes - bytes);
        range.bytes = bytes;
    }
}

// Reserves what follows the range up to `wanted` bytes of it, and then half of
// what the limit leaves, so as not to come back at once.
static bool range_widen(size_t wanted) {
    size_t left = memory_limit_bytes(0);
    size_t spare = range.most_bytes / 16 + RANGE_SPARE_BYTES;
    size_t least = bits_round_up(wanted, CHUNK_BYTES) - range.bytes;
    if (wanted > range.most_bytes || left < spare || least > left - spare) {
        return false;
    }
    size_t more = bits_round_down((left - spare) / 2, CHUNK_BYTES);
    more = more > range.most_bytes - range.bytes
               ? range.most_bytes - range.bytes
               : more;
    more = more > least ? more : least;
    char *end = (char *)range.base + range.bytes;
    char *at = memory_reserve(more, CHUNK_BYTES, (uintptr_t)end);
    if (at != end) { // it belongs to somebody else
        if (at != NULL) {
            memory_release(at, more);
        }
        return false;
    }
    memory_name(end, more, "loam heap");
    if (range_tables.huge) {
        memory_huge(end, more, true);
    }
    range.bytes += more;
    return true;
}

// How far table `t` must be committed for `blocks` blocks.
static size_t range_table_target(int t, size_t blocks) {
    return bits_round_up(
        bits_div_ceil(blocks * range_table_share[t], CHUNK_BLOCKS),
        memory_page_bytes());
}

static bool range_table_commit(int t, size_t blocks) {
    size_t done = range_tables.committed_bytes[t];
    size_t target = range_table_target(t, blocks);
    if (target <= done) {
        return true;
    }
    if (!memory_commit(range_tables.at[t] + done, target - done)) {
        return false;
    }
    range_tables.committed_bytes[t] = target;
    range.table_bytes += target - done;
    return true;
}

// Some tables are committed by those who need them.
static bool range_table_in_use(int t) {
    return (t != TABLE_FREED || range.freed_in_use) &&
           (t != TABLE_AGE || range.age_in_use) &&
           (t != TABLE_ASIDE || range.aside_in_use);
}

size_t range_extend_bytes(size_t blocks) {
    size_t sum = blocks * BLOCK_BYTES;
    for (int t = 0; t < TABLE_COUNT; t++) {
        if (range_table_in_use(t)) {
            size_t target = range_table_target(t, range_block_count() + blocks);
            size_t done = range_tables.committed_bytes[t];
            sum += target > done ? target - done : 0;
        }
    }
    return sum;
}

// A table that was committed before a later step was refused stays so: it is
// zero, and used when the frontier does move.
bool range_extend(size_t blocks) {
    size_t now = range_block_count();
    if (blocks > range.most_bytes / BLOCK_BYTES - now ||
        (blocks > range.bytes / BLOCK_BYTES - now &&
         !range_widen((now + blocks) * BLOCK_BYTES))) {
        return false;
    }
    for (int t = 0; t < TABLE_COUNT; t++) {
        if (range_table_in_use(t) && !range_table_commit(t, now + blocks)) {
            return false;
        }
    }
    char *frontier = (char *)range.base + range.frontier_bytes;
    if (!memory_commit(frontier, blocks * BLOCK_BYTES)) {
        return false;
    }
    __atomic_store_n(&range.frontier_bytes,
                     range.frontier_bytes + blocks * BLOCK_BYTES,
                     __ATOMIC_RELEASE);
    return true;
}

bool range_use_freed(void) {
    if (range.freed_in_use) {
        return true;
    }
    if (!range_table_commit(TABLE_FREED, range_block_count())) {
        return false;
    }
    __atomic_store_n(&range.freed_in_use, true, __ATOMIC_RELEASE);
    return true;
}

bool range_use_age(void) {
    if (!range.age_in_use &&
        range_table_commit(TABLE_AGE, range_block_count())) {
        range.age_in_use = true;
    }
    return range.age_in_use;
}

bool range_use_aside(void) {
    if (!range.aside_in_use &&
        range_table_commit(TABLE_ASIDE, range_block_count())) {
        range.aside_in_use = true;
    }
    return range.aside_in_use;
}

void range_use_huge(void) {
    if (range_tables.huge) {
        return;
    }
    range_tables.huge = true;
    // On all that is reserved: later commits split no mapping this way, and
    // pages that are not committed cannot be touched anyhow.
    memory_huge((void *)range.base, range.bytes, true);
    memory_huge(range_tables.at[TABLE_BITS],
                range_table_bytes(TABLE_BITS, range.most_bytes / CHUNK_BYTES),
                true);
}
