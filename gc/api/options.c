#include "api/options.h"

#include "base/text.h"
#include "os/environment.h"

// The kinds of values, and the type of the field that holds one.
enum options_type {
    OPTIONS_SIZE,
    OPTIONS_COUNT,
    OPTIONS_PERCENT,
    OPTIONS_BOOL,
    OPTIONS_CHOICE,
    OPTIONS_FLAGS,
    OPTIONS_NAMES,
    OPTIONS_PATH
};
typedef size_t options_field_SIZE;
typedef uint32_t options_field_COUNT;
typedef uint32_t options_field_PERCENT;
typedef bool options_field_BOOL;
typedef uint32_t options_field_CHOICE;
typedef uint32_t options_field_FLAGS;
typedef const char *options_field_NAMES; // of the environment
typedef const char *options_field_PATH;

#define OPTIONS_SENTENCE_BYTES 512
#define OPTIONS_FORM_BYTES     160
#define OPTIONS_NAME_BYTES_MAX 32 // longer names are compared by their start
#define OPTIONS_SHOWN_BYTES    48 // of a user's name or value, in a sentence

struct options_entry {
    const char *name;
    const char *meaning;
    enum options_type type;
    uint64_t initial; // unit of the field, as are least and most
    uint64_t least;
    uint64_t most;
};

struct options_word {
    const char *name; // of the option that accepts it
    const char *word;
    uint64_t value;
};

enum {
#define OPTION(field, name, type, initial, least, most, meaning)               \
    OPTIONS_INDEX_##field,
#include "api/options.def"
    OPTIONS_ENTRY_COUNT
};

static const struct options_entry options_entries[] = {
#define OPTION(field, name, type, initial, least, most, meaning)               \
    {name, meaning, OPTIONS_##type, initial, least, most},
#include "api/options.def"
};

static const struct options_word options_words[] = {
#define WORD(name, word, value) {name, word, value},
#include "api/options.def"
};
#define OPTIONS_WORD_COUNT (sizeof options_words / sizeof options_words[0])

static const char *const options_ignored[] = {
#define IGNORED(name, meaning) name,
#include "api/options.def"
};
#define OPTIONS_IGNORED_COUNT                                                  \
    (sizeof options_ignored / sizeof options_ignored[0])

static const struct {
    const char *word;
    uint64_t value;
} options_bools[] = {{"1", 1}, {"on", 1},  {"yes", 1}, {"true", 1},
                     {"0", 0}, {"off", 0}, {"no", 0},  {"false", 0}};
#define OPTIONS_BOOL_COUNT (sizeof options_bools / sizeof options_bools[0])

// The one place that turns a row number into a field.
static void options_store(struct options *options, size_t index,
                          uint64_t value) {
    switch (index) {
#define OPTION(field, name, type, initial, least, most, meaning)               \
    case OPTIONS_INDEX_##field:                                                \
        options->field = (options_field_##type)value;                          \
        break;
#include "api/options.def"
    default:
        break;
    }
}

void options_init(struct options *options) {
    for (size_t i = 0; i < OPTIONS_ENTRY_COUNT; i++) {
        options_store(options, i, options_entries[i].initial);
    }
}

// --- Words ---------------------------------------------------------------

static size_t options_length(const char *text) {
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

static char options_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

// Whether the `length` bytes at `text` are `word`, in letters of any case.
static bool options_is_word(const char *text, size_t length, const char *word) {
    for (size_t i = 0; i < length; i++) {
        if (word[i] == '\0' ||
            options_lower(text[i]) != options_lower(word[i])) {
            return false;
        }
    }
    return word[length] == '\0';
}

static bool options_is_same(const char *a, const char *b) {
    size_t i = 0;
    while (a[i] != '\0' && a[i] == b[i]) {
        i++;
    }
    return a[i] == b[i];
}

// Whether `name` is `start`, or `start` and an underscore and more.
static bool options_has_start(const char *name, const char *start) {
    size_t i = 0;
    while (start[i] != '\0' && name[i] == start[i]) {
        i++;
    }
    return start[i] == '\0' && (name[i] == '\0' || name[i] == '_');
}

// --- Values --------------------------------------------------------------

// The digits at the start of `text` as a number; *after is what follows them.
// False when there is none, or it does not fit.
static bool options_parse_digits(const char *text, uint64_t *value,
                                 const char **after) {
    uint64_t sum = 0;
    size_t i = 0;
    for (; text[i] >= '0' && text[i] <= '9'; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (sum > (UINT64_MAX - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *value = sum;
    *after = text + i;
    return i > 0;
}

static bool options_parse_size(const char *text, uint64_t *value) {
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = {{"", 0},     {"k", 10}, {"kib", 10}, {"m", 20},
                 {"mib", 20}, {"g", 30}, {"gib", 30}};
    const char *unit;
    if (!options_parse_digits(text, value, &unit)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (options_is_word(unit, options_length(unit), units[i].unit)) {
            bool fits = *value <= UINT64_MAX >> units[i].shift;
            *value <<= units[i].shift;
            return fits;
        }
    }
    return false;
}

static bool options_parse_number(const char *text, char unit, uint64_t *value) {
    const char *after;
    if (!options_parse_digits(text, value, &after)) {
        return false;
    }
    if (unit != '\0' && *after == unit) {
        after++;
    }
    return *after == '\0';
}

static bool options_parse_bool(const char *text, uint64_t *value) {
    for (size_t i = 0; i < OPTIONS_BOOL_COUNT; i++) {
        if (options_is_word(text, options_length(text),
                            options_bools[i].word)) {
            *value = options_bools[i].value;
            return true;
        }
    }
    return false;
}

// The value of the `length` bytes at `text` among the words of option `name`.
static bool options_find_word(const char *name, const char *text, size_t length,
                              uint64_t *value) {
    for (size_t i = 0; i < OPTIONS_WORD_COUNT; i++) {
        if (options_is_same(options_words[i].name, name) &&
            options_is_word(text, length, options_words[i].word)) {
            *value = options_words[i].value;
            return true;
        }
    }
    return false;
}

// A word of option `name`; for its "on" and "off" whatever says so.
static bool options_parse_choice(const char *name, const char *text,
                                 uint64_t *value) {
    if (options_find_word(name, text, options_length(text), value)) {
        return true;
    }
    uint64_t on;
    if (!options_parse_bool(text, &on)) {
        return false;
    }
    const char *word = on != 0 ? "on" : "off";
    return options_find_word(name, word, options_length(word), value);
}

static bool options_parse_flags(const char *name, const char *text,
                                uint64_t *value) {
    *value = 0;
    for (;;) {
        size_t length = 0;
        while (text[length] != '\0' && text[length] != ',') {
            length++;
        }
        uint64_t flag;
        if (!options_find_word(name, text, length, &flag)) {
            return false;
        }
        *value |= flag;
        if (text[length] == '\0') {
            return true;
        }
        text += length + 1;
    }
}

// One file, not a pattern of names.
static bool options_parse_path(const char *text, uint64_t *value) {
    *value = (uintptr_t)text;
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (text[i] == '?' || text[i] == '*') {
            return false;
        }
    }
    return true;
}

// Names of types, in C and in C++.
static bool options_parse_names(const char *text, uint64_t *value) {
    static const char others[] = "_,: <>*";
    *value = (uintptr_t)text;
    for (size_t i = 0; text[i] != '\0'; i++) {
        char c = options_lower(text[i]);
        size_t j = 0;
        while (others[j] != '\0' && others[j] != c) {
            j++;
        }
        if (others[j] == '\0' && (c < 'a' || c > 'z') && (c < '0' || c > '9')) {
            return false;
        }
    }
    return true;
}

static bool options_parse(const struct options_entry *entry, const char *text,
                          uint64_t *value) {
    switch (entry->type) {
    case OPTIONS_SIZE:
        return options_parse_size(text, value);
    case OPTIONS_COUNT:
        return options_parse_number(text, '\0', value);
    case OPTIONS_PERCENT:
        return options_parse_number(text, '%', value);
    case OPTIONS_BOOL:
        return options_parse_bool(text, value);
    case OPTIONS_CHOICE:
        return options_parse_choice(entry->name, text, value);
    case OPTIONS_FLAGS:
        return options_parse_flags(entry->name, text, value);
    case OPTIONS_NAMES:
        return options_parse_names(text, value);
    case OPTIONS_PATH:
        return options_parse_path(text, value);
    }
    return false;
}

// --- The nearest name ----------------------------------------------------

// How many letters must be put in, left out or exchanged to make `b` of `a`:
// the row-by-row table of Wagner and Fischer (1974), one row kept.
static size_t options_distance(const char *a, const char *b) {
    size_t row[OPTIONS_NAME_BYTES_MAX + 1];
    size_t width = options_length(b);
    if (width > OPTIONS_NAME_BYTES_MAX) {
        width = OPTIONS_NAME_BYTES_MAX;
    }
    for (size_t j = 0; j <= width; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0' && i < OPTIONS_NAME_BYTES_MAX; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            bool same = options_lower(a[i]) == options_lower(b[j]);
            size_t best = corner + (same ? 0 : 1);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j + 1] + 1 < best ? row[j + 1] + 1 : best;
            corner = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[width];
}

static const char *options_find_nearest(const char *name) {
    const char *nearest = options_entries[0].name;
    size_t least = options_distance(name, nearest);
    for (size_t i = 1; i < OPTIONS_ENTRY_COUNT; i++) {
        size_t distance = options_distance(name, options_entries[i].name);
        if (distance < least) {
            least = distance;
            nearest = options_entries[i].name;
        }
    }
    return nearest;
}

// --- Sentences -----------------------------------------------------------

// What a user wrote, shortened, and without what a terminal would obey.
static void options_text_shown(struct text *text, const char *shown) {
    for (size_t i = 0; shown[i] != '\0'; i++) {
        if (i == OPTIONS_SHOWN_BYTES) {
            text_add(text, "...");
            return;
        }
        char c[2] = {shown[i] < ' ' || shown[i] > '~' ? '?' : shown[i], '\0'};
        text_add(text, c);
    }
}

// A size in the largest unit that leaves no rest, as options_parse_size reads.
static void options_text_size(struct text *text, uint64_t bytes) {
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    while (unit < 3 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    text_add_number(text, bytes);
    text_add(text, units[unit]);
}

// The words of option `name`: "auto, on or off".
static void options_text_words(struct text *text, const char *name) {
    const char *last = NULL;
    size_t count = 0;
    for (size_t i = 0; i < OPTIONS_WORD_COUNT; i++) {
        if (!options_is_same(options_words[i].name, name)) {
            continue;
        }
        if (last != NULL) {
            text_add(text, count > 1 ? ", " : "");
            text_add(text, last);
        }
        last = options_words[i].word;
        count++;
    }
    text_add(text, count > 1 ? " or " : "");
    text_add(text, last);
}

// "from 10 to 1000", or less where a bound says nothing.
static void options_text_range(struct text *text,
                               const struct options_entry *entry) {
    if (entry->type == OPTIONS_SIZE) {
        if (entry->least > 0) {
            text_add(text, ", at least ");
            options_text_size(text, entry->least);
        }
        return;
    }
    text_add(text, " from ");
    text_add_number(text, entry->least);
    text_add(text, " to ");
    text_add_number(text, entry->most);
}

static void options_text_form(struct text *text,
                              const struct options_entry *entry) {
    switch (entry->type) {
    case OPTIONS_SIZE:
        text_add(text, "bytes, as 512M or 2GiB");
        options_text_range(text, entry);
        break;
    case OPTIONS_COUNT:
        text_add(text, "a number");
        options_text_range(text, entry);
        break;
    case OPTIONS_PERCENT:
        text_add(text, "a percentage");
        options_text_range(text, entry);
        break;
    case OPTIONS_BOOL:
        text_add(text, "on or off");
        break;
    case OPTIONS_CHOICE:
        options_text_words(text, entry->name);
        break;
    case OPTIONS_FLAGS:
        options_text_words(text, entry->name);
        text_add(text, ", several with commas between");
        break;
    case OPTIONS_NAMES:
        text_add(text, "names with commas between, or all");
        break;
    case OPTIONS_PATH:
        text_add(text, "the name of a file");
        break;
    }
}

static void options_text_initial(struct text *text,
                                 const struct options_entry *entry) {
    switch (entry->type) {
    case OPTIONS_SIZE:
        options_text_size(text, entry->initial);
        break;
    case OPTIONS_COUNT:
        text_add_number(text, entry->initial);
        break;
    case OPTIONS_PERCENT:
        text_add_number(text, entry->initial);
        text_add(text, "%");
        break;
    case OPTIONS_BOOL:
        text_add(text, entry->initial != 0 ? "on" : "off");
        break;
    case OPTIONS_CHOICE:
    case OPTIONS_FLAGS:
        for (size_t i = 0; i < OPTIONS_WORD_COUNT; i++) {
            if (options_is_same(options_words[i].name, entry->name) &&
                options_words[i].value == entry->initial) {
                text_add(text, options_words[i].word);
            }
        }
        break;
    case OPTIONS_NAMES:
    case OPTIONS_PATH:
        break; // none
    }
}

// --- The door ------------------------------------------------------------

static bool options_refuse(const struct options_entry *entry, const char *value,
                           options_tell *tell, void *data) {
    char bytes[OPTIONS_SENTENCE_BYTES];
    struct text text;
    text_init(&text, bytes, sizeof bytes);
    text_add(&text, entry->name);
    text_add(&text, "=");
    options_text_shown(&text, value);
    text_add(&text, " is ignored: expected ");
    options_text_form(&text, entry);
    tell(bytes, data);
    return false;
}

static bool options_unknown(const char *name, options_tell *tell, void *data) {
    char bytes[OPTIONS_SENTENCE_BYTES];
    struct text text;
    text_init(&text, bytes, sizeof bytes);
    options_text_shown(&text, name);
    text_add(&text, " is ignored: there is no such option; the nearest is ");
    text_add(&text, options_find_nearest(name));
    tell(bytes, data);
    return false;
}

bool options_set(struct options *options, const char *name, const char *value,
                 options_tell *tell, void *data) {
    for (size_t i = 0; i < OPTIONS_ENTRY_COUNT; i++) {
        const struct options_entry *entry = &options_entries[i];
        uint64_t parsed;
        if (!options_is_same(entry->name, name)) {
            continue;
        }
        if (value[0] == '\0') {
            return true;
        }
        if (!options_parse(entry, value, &parsed) || parsed > entry->most ||
            (parsed < entry->least && parsed != entry->initial)) {
            return options_refuse(entry, value, tell, data);
        }
        options_store(options, i, parsed);
        return true;
    }
    for (size_t i = 0; i < OPTIONS_IGNORED_COUNT; i++) {
        if (options_has_start(name, options_ignored[i])) {
            return true;
        }
    }
    return options_unknown(name, tell, data);
}

void options_each(options_visit *visit, void *data) {
    for (size_t i = 0; i < OPTIONS_ENTRY_COUNT; i++) {
        const struct options_entry *entry = &options_entries[i];
        char form_bytes[OPTIONS_FORM_BYTES];
        char initial_bytes[OPTIONS_FORM_BYTES];
        struct text form;
        struct text initial;
        text_init(&form, form_bytes, sizeof form_bytes);
        text_init(&initial, initial_bytes, sizeof initial_bytes);
        options_text_form(&form, entry);
        options_text_initial(&initial, entry);
        struct options_row row = {entry->name, form_bytes, initial_bytes,
                                  entry->meaning};
        visit(&row, data);
    }
}

// --- The environment -----------------------------------------------------

struct options_reading {
    struct options *options;
    options_tell *tell;
    void *data;
};

static void options_read_one(const char *name, size_t name_length,
                             const char *value, void *data) {
    static const char start[] = "LOAM_";
    struct options_reading *reading = data;
    char shown[OPTIONS_SHOWN_BYTES + 2];
    for (size_t i = 0; i < sizeof start - 1; i++) {
        if (i >= name_length || name[i] != start[i]) {
            return;
        }
    }
    // A name too long to be known keeps one byte more than is shown, so that
    // it is seen to be cut.
    size_t length = name_length < sizeof shown ? name_length : sizeof shown - 1;
    for (size_t i = 0; i < length; i++) {
        shown[i] = name[i];
    }
    shown[length] = '\0';
    // Of two variables of one name the first counts, as it does for getenv.
    if (length < sizeof shown - 1 && environment_find(shown) != value) {
        return;
    }
    options_set(reading->options, shown, value, reading->tell, reading->data);
}

void options_read(struct options *options, options_tell *tell, void *data) {
    struct options_reading reading = {options, tell, data};
    environment_each(options_read_one, &reading);
}
