#include "base/text.h"

#include "base/check.h"

void text_init(struct text *text, char *buffer, size_t capacity) {
    CHECK(capacity >= 1); // X1
    text->bytes = buffer;
    text->count = 0;
    text->capacity = capacity;
    buffer[0] = '\0';
}

// Marks a full text as cut.  A text that was cut stays full, so that every
// later addition ends here again and changes nothing: X3 needs no flag.
static void text_cut(struct text *text) {
    size_t dots = text->count < 3 ? text->count : 3;
    for (size_t back = 1; back <= dots; back++) {
        text->bytes[text->count - back] = '.';
    }
}

void text_add(struct text *text, const char *string) {
    size_t room = text->capacity - 1;
    while (*string != '\0') {
        if (text->count == room) {
            text_cut(text);
            return;
        }
        text->bytes[text->count++] = *string++;
        text->bytes[text->count] = '\0'; // X1
    }
}

// Appends `number` in `base`, with zeros in front up to `width` digits.
static void text_add_digits(struct text *text, uint64_t number, unsigned base,
                            size_t width) {
    char digits[24]; // 2^64 has twenty digits
    char *digit = &digits[sizeof digits - 1];
    *digit = '\0';
    size_t written = 0;
    do {
        *--digit = "0123456789abcdef"[number % base];
        number /= base;
        written++;
    } while (number != 0 || written < width);
    text_add(text, digit);
}

void text_add_number(struct text *text, uint64_t number) {
    text_add_digits(text, number, 10, 1);
}

void text_add_hex(struct text *text, uintptr_t number) {
    text_add(text, "0x");
    text_add_digits(text, number, 16, 1);
}

void text_add_size(struct text *text, size_t bytes) {
    static const char *const units[] = {" B",   " KiB", " MiB", " GiB",
                                        " TiB", " PiB", " EiB"};
    size_t unit = 0;
    while (unit < 6 && bytes >> (10 * (unit + 1)) != 0) {
        unit++;
    }
    text_add_digits(text, bytes >> (10 * unit), 10, 1);
    if (unit != 0) {
        size_t rest = bytes & (((size_t)1 << (10 * unit)) - 1);
        text_add(text, ".");
        text_add_digits(text, rest * 10 >> (10 * unit), 10, 1);
    }
    text_add(text, units[unit]);
}

void text_add_time(struct text *text, uint64_t ns) {
    static const char *const units[] = {" ns", " us", " ms", " s"};
    size_t unit = 0;
    uint64_t one = 1; // nanoseconds
    while (unit < 3 && ns / one >= 1000) {
        one *= 1000;
        unit++;
    }
    text_add_digits(text, ns / one, 10, 1);
    if (unit != 0) {
        text_add(text, ".");
        text_add_digits(text, ns % one * 100 / one, 10, 2);
    }
    text_add(text, units[unit]);
}
