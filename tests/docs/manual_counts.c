// From docs/manual.md: a type with a destructor, a ring, a scope.

#include <stdio.h>

#include <loam/rc.h>

// begin type
struct room {
    struct room *north, *south;
    FILE *log;
};

static size_t closed;

static void room_destroy(void *object) {
    struct room *room = object;
    if (room->log != NULL) {
        fclose(room->log);
    }
    closed++;
}

static LOAM_TYPE(room_type, struct room, LOAM_OWNS(struct room, north, south),
                 .destroy = room_destroy);
// end type

// begin ring
static struct room *make_house(void) {
    struct room *hall = loam_new(&room_type);
    hall->north = loam_new(&room_type);     // the slot owns it
    loam_assign(&hall->north->south, hall); // and it owns the hall
    return hall;                            // the caller owns it, too
}
// end ring

// begin scope
static size_t visit(void) {
    loam_auto(struct room) mine = loam_new(&room_type);
    mine->log = tmpfile();
    return mine->log == NULL ? 0 : loam_count(mine); // closed on every way out
}
// end scope

int main(void) {
    size_t count = visit();
    bool prompt = closed == 1;
    // begin use
    struct room *house = make_house();
    loam_release(house);                   // two rooms that own each other
    size_t found = loam_collect_cycles(0); // are found, at the latest here
    // end use
    printf("%zu rooms closed, %zu in rings\n", closed, found);
    return prompt && count <= 1 && closed == 3 && found == 2 ? 0 : 1;
}
