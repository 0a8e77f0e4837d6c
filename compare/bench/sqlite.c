// sqlite — a database in memory: tables, an index, many statements.
//
// --size thousand rows are inserted, asked for, joined, sorted, grouped,
// changed and deleted, by prepared statements and by statements parsed anew
// each time,
// --rounds times.  SQLite gets all of its memory through its hooks.

#include "hooks.h"

#include <sqlite3.h>

static void *sqlite_malloc(int bytes) {
    return mem_raw((size_t)bytes);
}

static void *sqlite_realloc(void *p, int bytes) {
    return mem_resize(p, (size_t)bytes);
}

static int sqlite_size(void *p) {
    return p != NULL ? (int)shim_usable(p) : 0;
}

static int sqlite_round(int bytes) {
    return (bytes + 15) & ~15;
}

static int sqlite_init(void *data) {
    (void)data;
    return SQLITE_OK;
}

static void sqlite_shutdown(void *data) {
    (void)data;
}

static void sqlite_must(sqlite3 *base, int result) {
    if (result != SQLITE_OK && result != SQLITE_ROW && result != SQLITE_DONE) {
        fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(base));
        exit(1);
    }
}

static void sqlite_do(sqlite3 *base, const char *text) {
    sqlite_must(base, sqlite3_exec(base, text, NULL, NULL, NULL));
}

static uint64_t sqlite_ask(sqlite3 *base, const char *text) {
    sqlite3_stmt *statement;
    sqlite_must(base, sqlite3_prepare_v2(base, text, -1, &statement, NULL));
    uint64_t sum = 0;
    while (sqlite3_step(statement) == SQLITE_ROW) {
        for (int at = 0; at < sqlite3_column_count(statement); at++) {
            const char *value =
                (const char *)sqlite3_column_text(statement, at);
            sum = sum * 31 + (value ? hook_hash(value, strlen(value)) : 1);
        }
    }
    sqlite_must(base, sqlite3_finalize(statement));
    return sum;
}

static void sqlite_fill(sqlite3 *base, size_t rows, uint64_t *state) {
    sqlite3_stmt *statement;
    sqlite_must(base,
                sqlite3_prepare_v2(base,
                                   "INSERT INTO item(owner, name, price, note)"
                                   " VALUES(?1, ?2, ?3, ?4)",
                                   -1, &statement, NULL));
    sqlite_do(base, "BEGIN");
    for (size_t at = 0; at < rows; at++) {
        char name[48], note[96];
        uint64_t number = random_below(state, 1000000);
        snprintf(name, sizeof name, "item %06u", (unsigned)number);
        snprintf(note, sizeof note, "made in lot %u by hand, checked by %u",
                 (unsigned)number % 313, (unsigned)number % 11);
        sqlite3_bind_int(statement, 1, (int)(number % 100));
        sqlite3_bind_text(statement, 2, name, -1, SQLITE_TRANSIENT);
        sqlite3_bind_double(statement, 3, (double)(number % 5000) / 4);
        sqlite3_bind_text(statement, 4, note, -1, SQLITE_TRANSIENT);
        sqlite_must(base, sqlite3_step(statement));
        sqlite_must(base, sqlite3_reset(statement));
    }
    sqlite_do(base, "COMMIT");
    sqlite_must(base, sqlite3_finalize(statement));
}

static uint64_t sqlite_small(sqlite3 *base, size_t count, uint64_t *state) {
    uint64_t sum = 0;
    for (size_t at = 0; at < count; at++) {
        char text[160];
        unsigned number = (unsigned)random_below(state, 1000000);
        snprintf(text, sizeof text,
                 "SELECT name, upper(note) FROM item WHERE name >= 'item %06u'"
                 " ORDER BY name LIMIT 3",
                 number);
        sum = sum * 31 + sqlite_ask(base, text);
    }
    return sum;
}

static uint64_t sqlite_round_trip(sqlite3 *base, size_t rows, uint64_t *state) {
    sqlite_fill(base, rows, state);
    uint64_t sum = sqlite_small(base, rows / 10, state);
    sum = sum * 31 + sqlite_ask(base, "SELECT owner.name, count(*), sum(price)"
                                      " FROM item JOIN owner"
                                      " ON item.owner = owner.id"
                                      " GROUP BY owner.name");
    sum = sum * 31 + sqlite_ask(base, "SELECT name || ' ' || note FROM item"
                                      " ORDER BY price DESC, note LIMIT 50");
    sqlite_do(base, "UPDATE item SET note = note || ' (again)'"
                    " WHERE price > 900");
    sqlite_do(base, "DELETE FROM item WHERE owner % 2 = 0");
    return sum * 31 + sqlite_ask(base, "SELECT count(*), max(length(note))"
                                       " FROM item");
}

int main(int argc, char **argv) {
    static const sqlite3_mem_methods methods = {.xMalloc = sqlite_malloc,
                                                .xFree = hook_free,
                                                .xRealloc = sqlite_realloc,
                                                .xSize = sqlite_size,
                                                .xRoundup = sqlite_round,
                                                .xInit = sqlite_init,
                                                .xShutdown = sqlite_shutdown};
    struct measure *run = measure_open(argc, argv);
    size_t rows = (run->size != 0 ? run->size : 2) * 1000;
    size_t rounds = run->rounds != 0 ? run->rounds : 2;
    uint64_t state = run->seed, sum = 0;
    static sqlite3 *base;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK) {
        return 1;
    }
    measure_start(run);
    if (sqlite3_open(":memory:", &base) != SQLITE_OK) {
        return 1;
    }
    sqlite_do(base, "CREATE TABLE owner(id INTEGER PRIMARY KEY, name TEXT);"
                    "CREATE TABLE item(id INTEGER PRIMARY KEY, owner INTEGER,"
                    " name TEXT, price REAL, note TEXT);"
                    "CREATE INDEX item_name ON item(name);");
    for (int id = 0; id < 100; id++) {
        char text[96];
        snprintf(text, sizeof text, "INSERT INTO owner VALUES(%d, 'n%d')", id,
                 id * 7919 % 101);
        sqlite_do(base, text);
    }
    for (size_t round = 0; round < rounds; round++) {
        sum = sum * 31 + sqlite_round_trip(base, rows, &state);
    }
    sqlite_must(base, sqlite3_close(base));
    measure_stop(run, sum);
    return 0;
}
